"""`pillion serve` as a process: its first line, its end in each state, ports, sockets, keys."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

fastapi = pytest.importorskip("fastapi", reason="the extra `server` is not installed")

import httpx  # noqa: E402
from build import REPOSITORY  # noqa: E402

from patience import PATIENCE, in_thread, until  # noqa: E402

FAKE = [sys.executable, str(REPOSITORY / "tests" / "fake" / "cli.py"), "serve"]
REAL = [sys.executable, "-m", "pillion", "serve"]


class Process:
    def __init__(self, command, *arguments, **environment):
        environment = {
            key: value for key, value in {**os.environ, **environment}.items() if value is not None
        }
        self.popen = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def line(self):
        """The line that says that it answers."""
        line = self.popen.stdout.readline()
        assert line, self.popen.communicate()[1]
        return line

    def url(self):
        return re.search(r"http://\S+", self.line())[0]

    def tell(self, which=signal.SIGTERM):
        self.popen.send_signal(which)

    def end(self):
        """(status, the rest of stdout, stderr)"""
        out, errors = self.popen.communicate(timeout=2 * PATIENCE)
        return self.popen.returncode, out, errors


@pytest.fixture
def start():
    with contextlib.ExitStack() as stack:

        def started(*arguments, **environment):
            process = Process(*arguments, **{"PILLION_API_KEY": None, **environment})
            stack.callback(process.popen.wait)
            stack.callback(process.popen.kill)
            return process

        yield started


@pytest.fixture
def toy(fake, toy_file):
    return toy_file({"general.name": '"Toy"'})


def is_busy(url):
    return any(one["is_processing"] for one in httpx.get(f"{url}/slots").json())


def test_without_a_model_the_embedded_pair_is_served(pillion, tiny_target, start):
    process = start(REAL, "--port", 0)
    line = process.line()
    found = re.fullmatch(
        r"(http://127\.0\.0\.1:\d+) answers: tiny-target, drafter: mtp, "
        r"takes images and audio; .*\n",
        line,
    )
    url = found[1]
    body = {"messages": [{"role": "user", "content": "Read Genesis 1."}], "temperature": 0}
    answer = httpx.post(
        f"{url}/v1/chat/completions", json={**body, "max_tokens": 16}, timeout=PATIENCE
    )
    with pillion.LLM(tiny_target) as llm:
        expected = llm.chat(body["messages"], temperature=0, max_tokens=16)
    assert answer.json()["choices"] == expected["choices"]
    assert answer.json()["speculation"]["accepted"] > 0
    assert "server" not in answer.headers
    process.tell()
    assert process.end() == (0, "", "")


def test_options_reach_the_model_and_the_api(pillion, tiny_target, start):
    process = start(
        REAL, "-m", tiny_target, "-md", "none", "-c", 128, "-t", 1, "-a", "mine", "--port", 0,
        "--api-key", "one,two", "--chat-template", "{{ messages[0].content }}",
    )  # fmt: skip
    line = process.line()
    assert "answers: mine, takes images and audio;" in line
    url = re.search(r"http://\S+", line)[0]
    assert httpx.get(f"{url}/v1/models").status_code == 401
    with httpx.Client(base_url=url, headers={"X-Api-Key": "two"}, timeout=PATIENCE) as client:
        (card,) = client.get("/v1/models").json()["data"]
        assert (card["id"], card["meta"]["n_ctx"]) == ("mine", 128)
        rendered = client.post(
            "/apply-template", json={"messages": [{"role": "user", "content": "a"}]}
        )
        assert rendered.json() == {"prompt": "a"}
        assert client.get("/props").json()["drafter"]["state"] == "off"
    process.tell(signal.SIGINT)
    assert process.end()[0] == 0


def test_keys_of_the_environment_and_of_a_file(toy, tmp_path, start):
    keys = tmp_path / "keys"
    keys.write_text("# ours\nfrom-file\n\n")
    process = start(
        FAKE, toy, "--port", 0, "--api-key-file", keys, PILLION_API_KEY="from-environment"
    )
    url = process.url()
    for key, status in (("from-file", 200), ("from-environment", 200), ("# ours", 401), ("", 401)):
        headers = {"X-Api-Key": key}
        assert httpx.get(f"{url}/v1/models", headers=headers).status_code == status
    process.tell()
    assert process.end() == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--host", "0.0.0.0"],
            "--host is 0.0.0.0, which other machines can reach, and there is no API key",
        ),
        (["--api-key", ""], "an API key is empty"),
        (["--chat-template-kwargs", "[]"], "must be a JSON object"),
        (["--host", "256.1.1.1.1", "--no-key"], "--host is 256.1.1.1.1, which is no address"),
        (["--host", "/nowhere/at/all.sock"], "cannot be a socket"),
        (["-m", "other.gguf"], "not both"),
    ],
)
def test_wrong_options_are_one_sentence(toy, start, arguments, said):
    process = start(FAKE, toy, "--port", 0, *arguments)
    status, out, errors = process.end()
    assert (status, out) == (1, "") and errors.startswith("error: ") and errors.count("\n") == 1
    assert said in errors


def test_a_model_that_is_none_and_one_that_is_broken(toy, tmp_path, start):
    status, _, errors = start(FAKE, tmp_path / "none.gguf", "--port", 0).end()
    assert status == 1 and errors == f"error: {tmp_path}/none.gguf: No such file or directory\n"
    broken = tmp_path / "broken.gguf"
    broken.write_text("not a model")
    status, out, errors = start(FAKE, broken, "--port", 0).end()
    assert (status, out) == (1, "") and errors.startswith("error: ") and errors.count("\n") == 1


def test_a_port_that_is_busy(toy, start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        status, out, errors = start(FAKE, toy, "--port", port).end()
        assert (status, out) == (1, "")
        assert errors == (
            f"error: port {port} of 127.0.0.1 is in use; "
            "name another one, or 0 for any that is free\n"
        )


def test_a_unix_socket(toy, tmp_path, start):
    path = tmp_path / "pillion.sock"
    process = start(FAKE, toy, "--host", path)
    assert f"unix:{path} answers" in process.line()
    assert path.stat().st_mode & 0o777 == 0o600
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://any.host") as client:
        assert client.get("/health").json() == {"status": "ok"}
    other = start(FAKE, toy, "--host", path)
    assert "in use" in other.end()[2]
    process.popen.kill()
    process.popen.wait()
    again = start(FAKE, toy, "--host", path)  # what the dead one left is no obstacle
    assert "answers" in again.line()


# ---- the end, in each state ----


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize(("which", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_model_loads(toy, tmp_path, start, which, status):
    """The load takes ten times two seconds; its clients get 503 meanwhile."""
    port = free_port()
    process = start(FAKE, toy, "--port", port, FAKE_SLOW="2000000", FAKE_MARKS=str(tmp_path))
    until((tmp_path / "load").exists)
    url = f"http://127.0.0.1:{port}"
    health = httpx.get(f"{url}/health", timeout=PATIENCE)
    assert (health.status_code, health.json()) == (503, {"status": "loading"})
    for response in (
        httpx.post(f"{url}/v1/completions", json={"prompt": "a"}, timeout=PATIENCE),
        httpx.get(f"{url}/v1/models", timeout=PATIENCE),
        httpx.get(f"{url}/props", timeout=PATIENCE),
    ):
        assert response.status_code == 503 and int(response.headers["retry-after"]) > 0
        assert response.json()["error"]["code"] == "loading"
    assert httpx.get(f"{url}/metrics", timeout=PATIENCE).status_code == 200
    process.tell(which)
    code, out, errors = process.end()
    assert (code, out, errors.strip()) == (status, "", "")


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_when_nothing_is_under_way(toy, start, which):
    process = start(FAKE, toy, "--port", 0)
    with httpx.Client(base_url=process.url()) as client:  # an idle connection is no obstacle
        assert client.get("/health").status_code == 200
        process.tell(which)
        assert process.end() == (0, "", "")


def test_answers_end_before_the_server_does(toy, start):
    process = start(FAKE, toy, "--port", 0, FAKE_SLOW="20000")
    url = process.url()
    body = {"prompt": "abc", "max_tokens": 100, "temperature": 0}
    thread, outcome = in_thread(
        lambda: httpx.post(f"{url}/v1/completions", json=body, timeout=PATIENCE)
    )
    until(lambda: is_busy(url))
    process.tell()

    def draining():
        return httpx.get(f"{url}/health").json() == {"status": "draining"}

    until(draining)
    refused = httpx.post(f"{url}/v1/completions", json=body)
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "shutting_down"
    assert int(refused.headers["retry-after"]) > 0
    thread.join(PATIENCE)
    assert outcome[0].json()["usage"]["completion_tokens"] == 100
    assert process.end() == (0, "", "")


@pytest.mark.parametrize("stream", [False, True])
def test_answers_that_need_too_long_get_an_error(toy, start, stream):
    process = start(FAKE, toy, "--port", 0, "--drain-timeout", 0.2, FAKE_SLOW="200000")
    url = process.url()
    body = {"prompt": "abc", "max_tokens": 1000, "temperature": 0, "stream": stream}
    thread, outcome = in_thread(
        lambda: httpx.post(f"{url}/v1/completions", json=body, timeout=PATIENCE)
    )
    until(lambda: is_busy(url))
    process.tell()
    assert process.end() == (0, "", "")
    thread.join(PATIENCE)
    (response,) = outcome
    assert response.status_code == (200 if stream else 503)
    assert "the server is shutting down" in response.text
    if stream:
        assert response.text.rpartition("data: ")[2].startswith('{"error":')
        assert "[DONE]" not in response.text
    else:
        assert response.json()["error"]["code"] == "shutting_down"


def test_a_second_signal_ends_it_at_once(toy, start):
    process = start(FAKE, toy, "--port", 0, "--drain-timeout", 1000, FAKE_SLOW="200000")
    url = process.url()
    body = {"prompt": "abc", "max_tokens": 1000, "temperature": 0, "stream": True}
    thread, outcome = in_thread(
        lambda: httpx.post(f"{url}/v1/completions", json=body, timeout=PATIENCE)
    )
    until(lambda: is_busy(url))
    process.tell(signal.SIGINT)
    until(lambda: httpx.get(f"{url}/health").status_code == 503)
    process.tell(signal.SIGINT)
    status, out, errors = process.end()
    assert (status, out, errors) == (130, "", "")
    thread.join(PATIENCE)
    assert outcome


def test_without_the_extra_the_sentence_says_what_to_install(pillion, tmp_path):
    """Importing pillion and its command needs none of the server's packages."""
    program = """
import sys
for name in ("fastapi", "uvicorn", "prometheus_client", "starlette"):
    sys.modules[name] = None
sys.argv = ["pillion", "serve", "--port", "0"]
from pillion.cli.main import main
main()
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 1 and found.stdout == ""
    assert found.stderr.startswith("error: ") and "pip install 'pillion[server]'" in found.stderr
    assert found.stderr.count("\n") == 1
