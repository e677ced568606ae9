"""docs/serving.md: its options, paths, numbers and its program are the server's."""

import re
import subprocess
import sys
import textwrap

import pytest

fastapi = pytest.importorskip("fastapi", reason="the extra `server` is not installed")

from build import REPOSITORY  # noqa: E402
from server_support import CHAT, served  # noqa: E402

PAGE = (REPOSITORY / "docs" / "serving.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(pillion, tiny_target):
    with served(pillion, lambda check: pillion.LLM(tiny_target, n_ctx=256)) as server:
        yield server


def test_its_options_exist(pillion):
    from pillion.cli.serve import serve
    from pillion.cli.words import options_of

    known = options_of(serve)
    named = set(re.findall(r"`(--?[a-z][a-z-]*)", PAGE)) - {"--help"}
    assert len(named) > 20
    assert named <= known, named - known


def test_its_paths_exist_and_none_is_missing(server):
    listed = set(re.findall(r"`(?:GET|POST) (/[^`]*)`", PAGE)) - {"/", "/openapi.json"}
    known = set(server.get("/openapi.json").json()["paths"])
    assert listed <= known, listed - known
    missing = {path for path in known - listed if "{" not in path and path != "/v1/health"}
    assert all(one.startswith(("/v1/messages/", "/v1/responses/")) for one in missing), missing


def test_its_numbers_exist(server):
    server.post("/v1/chat/completions", {**CHAT, "max_tokens": 8})
    found = server.get("/metrics").text
    named = re.findall(r"`(pillion_[a-z_]+)(?:\{[^`]*)?`", PAGE)
    assert len(named) > 10
    for name in named:
        assert name == "pillion_cancelled_total" or name in found, name


def test_its_limits_are_the_settings():
    from pillion.server import ServerSettings
    from pillion.server.schemas import MOST_STOPS, STOP_LENGTH

    s = ServerSettings()
    said = (
        f"{s.max_body >> 20} MB, {s.max_messages} messages, {s.max_tools} tools, "
        f"{MOST_STOPS} stop strings of {STOP_LENGTH} characters"
    )
    flat = " ".join(PAGE.split())
    assert said in flat
    assert f"at most {s.max_choices} answers" in flat and f"within {s.body_timeout:g} s" in flat
    assert f"{s.queue_limit} may wait, each for {s.queue_timeout:g} s" in flat
    assert f"at most {s.total_timeout:g} s" in flat and f"`: ping` every {s.ping:g} s" in flat


def test_its_program_runs(pillion, tiny_target):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    program = program.replace('"gemma-4-E2B-it-Q4_0.gguf"', repr(str(tiny_target)))
    program += textwrap.dedent(
        """
        import asyncio, json

        async def ask(key):
            sent, body = [], json.dumps({"prompt": "a", "max_tokens": 3}).encode()
            came = [{"type": "http.request", "body": body, "more_body": False}]

            async def receive():
                return came.pop() if came else await asyncio.Event().wait()

            async def send(message):
                sent.append(message)

            headers = [(b"content-type", b"application/json"), (b"x-api-key", key)]
            headers += [(b"host", b"localhost")]
            scope = {"type": "http", "method": "POST", "path": "/v1/completions"}
            scope |= {"headers": headers, "query_string": b"", "scheme": "http"}
            scope |= {"server": ("localhost", 80), "root_path": ""}
            await app(scope, receive, send)
            return sent[0]["status"]

        print(asyncio.run(ask(b"secret")), asyncio.run(ask(b"other")))
        llm.close()
        """
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "200 401\n", "")
