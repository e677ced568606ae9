"""Messages, responses and embeddings of a running server where something goes wrong: silence,
errors in the middle, clients that leave."""

import json
import socket

import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra `server` is not installed")

from patience import PATIENCE, until  # noqa: E402
from served import served  # noqa: E402

TEMPLATE = "{{ messages[0].content }}"
MESSAGES = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
RESPONSES = {"input": "hi", "max_output_tokens": 50}


@pytest.fixture
def toy(fake, strings, toy_file):
    """Makes a server with those settings."""
    with fake.LLM(toy_file(), chat_template=TEMPLATE, n_ctx=256) as llm:
        yield lambda **settings: served(fake, llm, **settings)
        strings.slow(0)


def post(url, path, body, **options):
    return httpx.post(url + path, json=body, timeout=PATIENCE, **options)


def events(response):
    found = []
    for part in response.text.strip().split("\n\n"):
        name, data = part.split("\n", 1)
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_silence_is_broken_by_a_ping(toy, strings):
    strings.slow(100_000)
    with toy(ping=0.05) as (url, _):
        response = post(url, "/v1/messages", {**MESSAGES, "max_tokens": 2, "stream": True})
    found = events(response)
    assert [name for name, _ in found].count("ping") > 1
    assert all(name == data["type"] for name, data in found) and found[-1][0] == "message_stop"


def test_a_message_that_takes_too_long(toy, strings):
    strings.slow(50_000)
    with toy(total_timeout=0.5) as (url, _):
        found = events(post(url, "/v1/messages", {**MESSAGES, "stream": True}))
        name, data = found[-1]
        assert name == "error" and data["type"] == "error"
        assert data["error"]["type"] == "overloaded_error" and "0.5 s" in data["error"]["message"]
        assert found[0][0] == "message_start" and "message_stop" not in dict(found)
        whole = post(url, "/v1/messages", MESSAGES)
        assert whole.status_code == 503 and whole.json()["error"]["type"] == "overloaded_error"


def test_a_response_that_takes_too_long(toy, strings):
    strings.slow(50_000)
    with toy(total_timeout=0.5) as (url, _):
        found = events(post(url, "/v1/responses", {**RESPONSES, "stream": True}))
        (failed, data), (error, last) = found[-2:]
        assert (failed, error) == ("response.failed", "error")
        assert (
            data["response"]["status"] == "failed"
            and "0.5 s" in data["response"]["error"]["message"]
        )
        assert [event["sequence_number"] for _, event in found] == list(range(len(found)))
        assert last["message"] == data["response"]["error"]["message"]


def leave(url, path, body):
    """Sends a request and closes the connection."""
    host, port = url.removeprefix("http://").split(":")
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection((host, int(port)), PATIENCE)
    connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path, body", [("/v1/messages", MESSAGES), ("/v1/responses", RESPONSES)])
def test_who_leaves_is_not_written_for(toy, strings, path, body, streamed):
    strings.slow(20_000)
    with toy() as (url, app):
        serving = app.state.serving
        before = strings.begun
        connection = leave(url, path, {**body, "stream": streamed})
        until(lambda: strings.begun > before + 3)
        assert len(serving.running) == 1
        connection.close()
        until(lambda: not serving.running)
        strings.slow(0)
        until(lambda: sum(serving.engine.stats().ended_early.values()) == 1)
        assert post(url, path, body).status_code == 200


def test_who_leaves_gets_no_more_vectors(toy, strings):
    strings.slow(20_000)
    with toy() as (url, app):
        before = strings.evaluated
        connection = leave(url, "/v1/embeddings", {"input": ["x" * 100] * 50})
        until(lambda: strings.evaluated > before + 3)
        connection.close()
        embedder = app.state.serving.llm.embedder
        until(lambda: embedder._caller is None)
        strings.slow(0)
        assert strings.evaluated < before + 500
        found = post(url, "/v1/embeddings", {"input": "ab"})
        assert found.status_code == 200 and found.json()["usage"]["total_tokens"] == 3


def test_errors_have_the_shape_of_their_path(toy):
    with toy(max_body=1000) as (url, _):
        for path, message in [("/v1/messages", "anthropic"), ("/v1/responses", "openai")]:
            for body, status in [
                ({"x": "y" * 2000}, 413),
                ({}, 400),
                ({**MESSAGES, **RESPONSES, "stream": 3}, 400),
            ]:
                response = post(url, path, body)
                assert response.status_code == status
                shown = response.json()
                if message == "anthropic":
                    assert shown["type"] == "error" and set(shown["error"]) == {"type", "message"}
                else:
                    assert set(shown["error"]) == {"message", "type", "param", "code"}
        for path in (
            "/v1/messages",
            "/v1/messages/count_tokens",
            "/v1/responses",
            "/v1/embeddings",
        ):
            assert httpx.get(url + path).status_code == 405
        assert httpx.post(url + "/v1/messages/x").json()["type"] == "error"
