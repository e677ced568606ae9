"""What `pillion serve` refuses: wrong bodies, wrong keys, foreign hosts; each in OpenAI's shape."""

import json
import threading
import time

import pytest

fastapi = pytest.importorskip("fastapi", reason="the extra `server` is not installed")

from patience import PATIENCE, in_thread, until  # noqa: E402
from server_support import CHAT, TEXT, error_of, events, read_all, read_until, served  # noqa: E402


@pytest.fixture(scope="module")
def llm(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=256, mmproj=None) as llm:  # texts alone
        yield llm


@pytest.fixture(scope="module")
def load(pillion, tiny_target):
    return lambda check: pillion.LLM(tiny_target, n_ctx=256, mmproj=None)


@pytest.fixture(scope="module")
def server(pillion, load):
    with served(pillion, load, max_messages=64, max_tools=4) as server:
        yield server


def post(server, body, path="/v1/chat/completions", **headers):
    return server.post(path, body, headers=headers)


# ---- bodies ----


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "a JSON object"),
        (b'"text"', "a JSON object"),
        (b'{"messages": NaN}', "NaN"),
        (b'{"messages": [{"role": "user", "content": "a"}], "temperature": Infinity}', "Infinity"),
        (b'{"messages": "\xff\xfe"}', "not UTF-8: byte 14 is 0xFF"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "inside one another"),
        (b'{"messages": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}", "inside one another"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_body_that_is_no_json(server, body, said):
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/apply-template"):
        error = error_of(post(server, body, path), 400, "invalid_json")
        assert said in error["message"]


def test_deep_json_inside_known_fields(server):
    """Deep enough for the parser, too deep for what looks at schemas and templates."""
    deep = []
    for _ in range(500):
        deep = [deep]
    for field in ("tools", "response_format", "chat_template_kwargs", "metadata", "tool_choice"):
        value = [{"type": "function", "function": {"name": "f", "parameters": {"a": deep}}}]
        body = {
            **CHAT,
            "max_tokens": 1,
            field: value if field == "tools" else {"type": "text", "a": deep},
        }
        assert post(server, body).status_code in (200, 400), field
    body = {"messages": [{"role": "user", "content": {"a": deep}}], "max_tokens": 1}
    assert post(server, body).status_code in (200, 400)


def test_a_body_that_is_too_large(server):
    limit = server.serving.settings.max_body
    whole = post(server, b" " * (limit + 1))
    assert error_of(whole, 413, "body_too_large")["message"].count(str(limit)) == 1
    assert whole.headers["connection"] == "close"
    said = b'{"prompt": "a", "max_tokens": 1, "user": "' + b"x" * 1000 + b'"}'
    most = said + b" " * (limit - len(said))
    assert post(server, most, "/v1/completions").status_code == 200
    with server.raw() as connection:  # without a length
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        )
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        part = b" " * (1 << 20)
        try:
            for _ in range(limit // len(part) + 1):
                connection.sendall(b"%x\r\n" % len(part) + part + b"\r\n")
        except OSError:
            pass  # it may close before all is sent
        assert b"413" in read_until(connection, b"\r\n")


def test_a_body_that_never_comes(pillion, load):
    with served(pillion, load, body_timeout=0.2) as server, server.raw() as connection:
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        )
        connection.sendall(f"{head}Content-Length: 10\r\n\r\n{{".encode())
        assert b"408" in read_all(connection).split(b"\r\n")[0]


def test_a_request_that_never_begins(pillion, load):
    with served(pillion, load, body_timeout=0.2) as server:
        with server.raw() as silent, server.raw() as slow:
            slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: local")
            assert read_all(silent) == b"" == read_all(slow)
        assert server.get("/health").status_code == 200


UNIQUE = {
    "type": "json_schema",
    "json_schema": {"name": "s", "schema": {"type": "array", "uniqueItems": True}},
}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "json"])
def test_other_content_types_are_415(server, kind):
    """A page of another origin may send those without asking first."""
    response = server.client.post(
        "/v1/completions", content=json.dumps(TEXT).encode(), headers={"Content-Type": kind}
    )
    assert "application/json" in error_of(response, 415)["message"]
    fine = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert post(server, {**TEXT, "max_tokens": 1}, "/v1/completions", **fine).status_code == 200


@pytest.mark.parametrize(
    ("more", "param", "said"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": None}, "messages", "list"),
        ({"messages": "hi"}, "messages", "it must be a valid list"),
        ({"messages": [5]}, "messages[0]", "5"),
        ({"messages": [{"content": "a"}]}, None, "role"),
        ({"messages": CHAT["messages"] * 65}, "messages", "65 entries; at most 64"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 5}, "tools", "at most 4"),
        ({"tools": {}}, "tools", "list"),
        ({"tool_choice": "sometimes"}, "tool_choice", "required"),
        ({"temperature": "hot"}, "temperature", "'hot'"),
        ({"temperature": -1}, "temperature", "0 or more"),
        ({"temperature": True}, "temperature", "number"),
        ({"top_p": 0}, "top_p", "above 0"),
        ({"top_k": 1.5}, "top_k", "integer"),
        ({"max_tokens": "5"}, "max_tokens", "integer"),
        ({"max_tokens": -5}, "max_tokens", "0 or more"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 33}, None, "33 answers; at most 32"),
        ({"seed": 2**64}, "seed", "2**64 - 1"),
        ({"stop": ["a"] * 65}, "stop", "65 strings"),
        ({"stop": "a" * 5000}, "stop", "4096 characters"),
        ({"stop": [""]}, "stop", "none of them empty"),
        ({"stop": 5}, "stop", "5"),
        ({"logit_bias": {"word": 1}}, None, "logit_bias"),
        ({"logit_bias": {"99999999": 1}}, None, "99999999"),
        ({"draft": 9}, "draft", "0 (off) to 8"),
        ({"draft": "many"}, "draft", "auto"),
        ({"logprobs": 3}, "logprobs", "boolean"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", "-1"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs", "messages"),
        ({"stream_options": "x"}, "stream_options", "'x'"),
        ({"response_format": {"type": "yaml"}}, "response_format", "yaml"),
        ({"response_format": UNIQUE}, "response_format", "'uniqueItems'"),
        ({"regex": "(a"}, "regex", "unclosed group"),
        ({"grammar": "start: nothing"}, "grammar", "nothing"),
        ({"regex": "a", "choice": ["a"]}, "regex", "one of them"),
        ({"choice": []}, "choice", "1 to 10000"),
    ],
)
def test_a_wrong_field_is_named(server, more, param, said):
    error = error_of(post(server, {**CHAT, "max_tokens": 2, **more}), 400)
    assert said in error["message"] and error["type"] == "invalid_request_error"
    assert error["message"].count("\n") == 0
    assert param is None or error["param"] == param
    streamed = post(server, {**CHAT, "max_tokens": 2, "stream": True, **more})
    assert error_of(streamed, 400)["message"] == error["message"]


def test_a_million_stops(server):
    begin = time.monotonic()
    error = error_of(post(server, {**CHAT, "stop": ["a"] * 1_000_000}), 400)
    assert "1000000 strings" in error["message"]
    assert time.monotonic() - begin < 60


def test_wrong_completions(server):
    for body, said in (
        ({}, "prompt is missing"),
        ({"prompt": 5}, "prompt is 5"),
        ({"prompt": [1.5]}, "prompt"),
        ({"prompt": [10**9]}, "1000000000"),
        ({"prompt": ["a"] * 33}, "33 answers"),
        ({"prompt": "a", "suffix": "b"}, "suffix is not supported"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
        ({"prompt": "a", "response_format": {"type": "poem"}}, "poem"),
    ):
        assert said in error_of(post(server, body, "/v1/completions"), 400)["message"]
    fine = {"prompt": "a", "suffix": "", "max_tokens": 1}
    assert post(server, fine, "/v1/completions").status_code == 200


def test_a_prompt_that_does_not_fit_has_both_numbers(server, llm):
    body = {"messages": [{"role": "user", "content": "In the beginning " * 200}]}
    n = len(llm.chat_tokens(llm.render_chat(body["messages"])))
    for stream in (False, True):
        error = error_of(post(server, {**body, "stream": stream}), 400, "context_length_exceeded")
        assert str(n) in error["message"] and "256" in error["message"]
    until(lambda: not server.serving.running)


def test_unknown_paths_and_methods(server):
    error_of(server.get("/v1/nothing"), 404)
    error_of(post(server, CHAT, "/v1/chat/completions/"), 404)  # no redirect to another host
    response = server.get("/v1/chat/completions")
    error_of(response, 405)
    assert response.headers["allow"] == "POST"
    error_of(server.client.delete("/health"), 405)
    websocket = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    assert (
        server.get("/", headers={**websocket, "Sec-WebSocket-Key": "a" * 22 + "=="}).status_code
        < 500
    )


def test_a_fault_of_ours_is_500_without_its_details(server, monkeypatch, caplog):
    def broken(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(server.serving, "begin", broken)
    for stream in (False, True):
        error = error_of(post(server, {**CHAT, "stream": stream}), 500, "internal_error")
        assert "secret" not in error["message"]
    assert "secret" in caplog.text
    assert CHAT["messages"][0]["content"] not in caplog.text


def test_an_error_in_a_stream_is_an_event(server, monkeypatch):
    answers = type(server.serving.begin.__self__).begin.__globals__["Answers"]

    async def broken(self, at):
        raise MemoryError
        yield

    monkeypatch.setattr(answers, "pieces", broken)
    response = post(server, {**CHAT, "stream": True})
    assert response.status_code == 200
    role, error = events(response)
    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert "[DONE]" not in response.text
    monkeypatch.undo()
    after = post(server, {**CHAT, "max_tokens": 1})
    assert after.status_code == 200, after.text
    until(lambda: not server.serving.running)


def test_request_ids(server):
    given = server.get("/health", headers={"X-Request-Id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    for bad in ("a b", "x" * 200, 'a"b'):
        assert (
            server.get("/health", headers={"X-Request-Id": bad}).headers["x-request-id"][:4]
            == "req_"
        )
    assert server.get("/nowhere").headers["x-request-id"].startswith("req_")


# ---- keys, hosts, origins ----


def test_keys(pillion, load):
    with served(pillion, load, keys=["one", "two"]) as server:
        for headers in (
            {},
            {"Authorization": "Bearer three"},
            {"Authorization": "Bearer"},
            {"Authorization": "one"},
            {"Authorization": "Basic one"},
            {"X-Api-Key": "on"},
            {"X-Api-Key": "one "[:-1] + "é"},
        ):
            encoded = {key: value.encode() for key, value in headers.items()}
            for path in ("/v1/models", "/metrics", "/slots", "/props", "/openapi.json", "/nothing"):
                response = server.client.get(path, headers=encoded)
                error = error_of(response, 401, "invalid_api_key")
                assert response.headers["www-authenticate"] == "Bearer"
                assert error["type"] == "authentication_error"
            assert error_of(post(server, CHAT, **headers), 401) if not headers else True
        for headers in (
            {"Authorization": "Bearer one"},
            {"authorization": "bearer  two"},
            {"X-Api-Key": "two"},
        ):
            assert server.get("/v1/models", headers=headers).status_code == 200
        for path in ("/health", "/v1/health", "/"):
            assert server.get(path).status_code == 200
        owners = []
        begin = server.serving.terms
        server.serving.terms = lambda http, salt="": (
            owners.append(begin(http, salt).owner) or begin(http, salt)
        )
        body = {**CHAT, "max_tokens": 1}
        for key, salt in (("one", None), ("two", None), ("one", "a"), ("one", "b"), ("one", None)):
            post(server, {**body, "cache_salt": salt}, **{"X-Api-Key": key})
        assert len(set(owners)) == 4 and owners[0] == owners[4]
        assert not any("one" in owner for owner in owners)


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("localhost:{}", True),
        ("127.0.0.1:{}", True),
        ("[::1]:{}", True),
        ("LOCALHOST", True),
        ("chat.example:{}", True),  # allowed below
        ("evil.example", False),
        ("evil.example:{}", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_the_host_header_on_loopback(pillion, load, host, fine, shared={}):
    if "server" not in shared:
        shared["served"] = served(pillion, load, allowed_hosts=["Chat.Example"])
        shared["server"] = shared["served"].__enter__()
    server = shared["server"]
    port = server.url.rpartition(":")[2]
    response = server.get("/health", headers={"Host": host.format(port)})
    if fine:
        assert response.status_code == 200
    else:
        assert "--allowed-host" in error_of(response, 403, "host_not_allowed")["message"]
    if host == "":
        shared["served"].__exit__(None, None, None)


def test_cors_is_off_unless_asked_for(pillion, load, server):
    origin = {"Origin": "https://app.example"}
    assert "access-control-allow-origin" not in server.get("/health", headers=origin).headers
    ask = {**origin, "Access-Control-Request-Method": "POST"}
    assert server.client.options("/v1/models", headers=ask).status_code == 405
    with served(pillion, load, cors_origins=["https://app.example"], keys=["k"]) as open_:
        found = open_.get("/v1/models", headers=origin)  # an error too must be readable
        assert found.status_code == 401
        assert found.headers["access-control-allow-origin"] == "https://app.example"
        asked = open_.client.options("/v1/chat/completions", headers=ask)
        assert asked.status_code == 200  # a browser asks without the key
        other = {"Origin": "https://evil.example"}
        assert "access-control-allow-origin" not in open_.get("/health", headers=other).headers


def test_settings_that_are_refused(pillion):
    from pillion.server import ServerSettings

    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        with pytest.raises(pillion.UsageError, match="--no-key"):
            ServerSettings(host=host)
        assert ServerSettings(host=host, no_key=True).local is False
        assert ServerSettings(host=host, keys=["k"]).local is False
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost", "/tmp/socket"):
        assert ServerSettings(host=host).local
    for key in ("", " a", "é", "a\nb"):
        with pytest.raises(pillion.UsageError, match="API key"):
            ServerSettings(keys=[key])


# ---- bodies that cost much ----

MANY = 500_000


@pytest.mark.parametrize(
    ("path", "begin", "one"),
    [
        ("/v1/chat/completions", '{"messages":[', "1"),
        ("/v1/chat/completions", '{"messages":[{"role":"user","content":"a"}],"tools":[', "1"),
        ("/v1/completions", '{"prompt":[', "1.5"),
        ("/v1/completions", '{"prompt":[[', "1.5"),
        ("/v1/embeddings", '{"input":[', "1.5"),
        ("/detokenize", '{"tokens":[', '"x"'),
        ("/v1/messages", '{"model":"m","max_tokens":1,"messages":[', "1"),
        ("/v1/responses", '{"input":[', "1"),
    ],
)
def test_half_a_million_faults_are_one(server, path, begin, one):
    """Each fault that is kept takes a kilobyte, and the event loop's time."""
    import psutil

    body = begin + ",".join([one] * MANY) + "]" * begin.count("[") + "}"
    if '"tools"' in begin or begin.count("[") == 2:
        body = begin + ",".join([one] * MANY) + ("]}" if '"tools"' in begin else "]]}")
    before = psutil.Process().memory_info().rss
    answer = post(server, body.encode(), path)
    assert answer.status_code == 400, answer.text
    assert psutil.Process().memory_info().rss - before < 200 << 20


def test_logit_bias_with_many_faults(server):
    bias = dict.fromkeys(map(str, range(100_000)), "x")
    error = error_of(post(server, {**CHAT, "logit_bias": bias}), 400)
    assert error["param"].startswith("logit_bias") and "'x'" in error["message"]


def test_a_prompt_that_does_not_fit_is_prepared_once(server, monkeypatch):
    llm, seen = server.serving.llm, []
    tokens = llm.requests.chat_tokens
    monkeypatch.setattr(
        llm.requests, "chat_tokens", lambda prompt: seen.append(1) or tokens(prompt)
    )
    body = {"messages": [{"role": "user", "content": "a b " * 1000}], "n": 32}
    error_of(post(server, body), 400, "context_length_exceeded")
    assert len(seen) == 1


def test_tools_that_lead_too_deep(server):
    tools: list = []
    for _ in range(400):
        tools = [{"type": "namespace", "tools": tools}]
    error = error_of(post(server, {"input": "a", "tools": tools}, "/v1/responses"), 400)
    assert "inside one another" in error["message"]


def test_a_body_that_drips(pillion, load):
    """The limit is on the whole body: a byte now and then does not renew it."""
    with served(pillion, load, body_timeout=0.5) as server, server.raw() as connection:
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        )
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        connection.settimeout(0.1)
        answer = b""
        for _ in range(900):
            try:
                connection.sendall(b" ")
                answer += connection.recv(1 << 16)
                break
            except TimeoutError:
                continue
            except OSError:
                break
        assert b"408" in answer


def test_the_vocabulary_is_built_before_the_first_request(pillion, load):
    pytest.importorskip("llguidance")
    with served(pillion, load) as server:
        assert server.serving.llm.structured.grammars.vocabulary._built is not None


def test_a_body_of_two_lengths(server):
    """Of two that a proxy and a server believe differently, one hides a request in a body."""
    body = b'{"prompt": "a", "max_tokens": 1}'
    with server.raw() as connection:
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        )
        lengths = f"Content-Length: {len(body)}\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall((head + lengths).encode() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        assert read_all(connection).startswith(b"HTTP/1.1 400")


def test_headers_without_end(server):
    """Whatever parsers uvicorn finds, a head is bounded."""
    with server.raw() as connection:
        answer = b""
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")
            for _ in range(64):
                connection.sendall(b"a" * 65536)
        except OSError:
            pass
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 400") or answer == b""
    assert server.get("/health").status_code == 200


def test_short_chats_pass_what_takes_long(pillion, load, monkeypatch):
    """Many long texts, grammars and embeddings at once keep nobody's short question waiting."""
    with served(pillion, load) as server:
        llm, hold = server.serving.llm, threading.Event()
        tokens = llm.requests.chat_tokens

        def slow(prompt):
            if len(prompt) > 60_000:
                hold.wait(PATIENCE)
            return tokens(prompt)

        monkeypatch.setattr(llm.requests, "chat_tokens", slow)
        body = {"messages": [{"role": "user", "content": "a b " * 20_000}]}
        calls = [in_thread(lambda: post(server, body)) for _ in range(6)]
        until(lambda: server.serving._preparing == 6)
        assert post(server, {**CHAT, "max_tokens": 1}).status_code == 200
        hold.set()
        for _, outcome in calls:
            until(lambda outcome=outcome: outcome)
            error_of(outcome[0], 400, "context_length_exceeded")


def test_what_takes_long(pillion):
    from pillion.server.preparing import takes_long

    short = {"messages": [{"role": "user", "content": "a" * 1_000}]}
    assert not takes_long(short) and not takes_long({"prompt": [1] * 1_000})
    for more in (
        {"n": 100},
        {"regex": "a"},
        {"tools": [1]},
        {"logit_bias": dict.fromkeys(range(70_000), 1)},
    ):
        assert takes_long({**short, **more}), more
    assert takes_long({"prompt": ["a" * 40_000] * 2}) and takes_long({"prompt": [1] * 70_000})


def test_the_pieces_of_many_tokens(server):
    content = "In the beginning " * 10_000
    answer = post(server, {"content": content, "with_pieces": True}, "/tokenize").json()
    assert "".join(one["piece"] for one in answer["tokens"]) == content
    assert answer["count"] == len(answer["tokens"]) > 30_000
    assert post(server, {"content": ""}, "/tokenize").json() == {"tokens": [], "count": 0}


def test_the_collector_rests_while_a_body_is_read(pillion, monkeypatch):
    import gc

    from pillion.server import reading

    seen = []
    gc.callbacks.append(lambda *_: seen.append(1))
    try:
        n_before = len(seen)
        found = reading.parsed(b'{"a":[' + b",".join([b"[]"] * 300_000) + b"]}")
        assert len(seen) - n_before < 20 and len(found["a"]) == 300_000  # some come behind it
    finally:
        gc.callbacks.pop()
    assert gc.isenabled()
    with pytest.raises(reading.ApiError):
        reading.parsed(b"{")
    assert gc.isenabled()
