"""Clients of `pillion serve` that leave, wait too long or read nothing: over the fake library,
whose steps take as long as a test needs."""

import json
import socket
import sys
import threading

import pytest

fastapi = pytest.importorskip("fastapi", reason="the extra `server` is not installed")

from server_support import error_of, events, read_until, served  # noqa: E402

from patience import PATIENCE, until  # noqa: E402

SLOW = 100_000  # microseconds a token
PATH = "/v1/completions"


@pytest.fixture
def serve(fake, strings, toy_file):
    """A server over the fake; its steps take no time before `strings.slow`."""

    def start(**settings):
        llm = settings.pop("llm", {})
        options = {"n_ctx": 256, "n_batch": 16, **llm}
        return served(
            fake, lambda check: fake.LLM(toy_file({"general.name": '"Toy"'}), **options), **settings
        )

    yield start


def body(n_prompt=3, **more):
    return {
        "prompt": "abcdefgh"[:n_prompt] * (1 + n_prompt // 8),
        "temperature": 0,
        "max_tokens": 40,
        **more,
    }


def text_of(server, **more):
    return server.post(PATH, body(**more)).json()["choices"][0]["text"]


def written(server):
    return sum(one.tokens for one in server.serving.engine.slots())


def is_idle(server):
    stats = server.serving.engine.stats()
    return not server.serving.running and stats.queued + stats.reading + stats.writing == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["queued", "reading", "writing"])
def test_who_leaves_frees_the_sequence(serve, strings, where, stream):
    with serve() as server:
        expected = text_of(server, max_tokens=4)
        server.serving.llm.reset()
        strings.slow(SLOW)
        stayed = server.send(PATH, body(max_tokens=200, stream=True)) if where == "queued" else None
        if stayed is not None:
            until(lambda: "writing" in server.states())
        # both last many seconds, so that what is seen is the leaving and no end
        data = body(n_prompt=8, max_tokens=200, stream=stream)
        if where == "reading":
            data["prompt"] = "x" * 200
        leaver = server.send(PATH, data)
        until(lambda: where in server.states())
        leaver.close()
        others = [] if stayed is None else ["writing"]
        until(lambda: server.states() == others)
        if stayed is None:
            until(lambda: is_idle(server))
            until(lambda: not server.serving.engine._here().inside)  # the row under way is over
            before = strings.evaluated
            assert not threading.Event().wait(3 * SLOW / 1e6)
            assert strings.evaluated == before  # nothing goes on for nobody
        strings.slow(0)
        if stayed is not None:
            assert read_until(stayed, b"[DONE]").count(b"data: ") > 200
            stayed.close()
        assert text_of(server, max_tokens=4) == expected
        until(lambda: is_idle(server))
        page = server.get("/metrics").text
        assert 'pillion_cancelled_total{cause="disconnect"} 1.0' in page


def test_who_leaves_several_answers_leaves_all(serve, strings, monkeypatch):
    # the fake's device has no memory to count
    monkeypatch.setattr(sys.modules["pillion_fake.llm.opening"], "check_memory", lambda *_: None)
    with serve(llm={"parallel": 2}) as server:
        strings.slow(SLOW)
        leaver = server.send(PATH, body(n=3, seed=1, temperature=1, max_tokens=200, stream=True))
        until(lambda: sorted(server.states()) == ["queued", "writing", "writing"])
        leaver.close()
        until(lambda: is_idle(server))
        strings.slow(0)
        assert server.post(PATH, body()).status_code == 200


def test_the_body_of_one_who_left_is_dropped(serve):
    with serve() as server:
        for sent in (b"", b"POST /v1/", b"POST /v1/completions HTTP/1.1\r\nHost: a", None):
            connection = server.raw()
            if sent is None:
                head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
                sent = head.encode()
            connection.sendall(sent)
            connection.close()
        until(lambda: not server.running.server_state.connections or is_idle(server))
        assert server.get("/health").status_code == 200


def test_a_full_queue(serve, strings):
    with serve(queue_limit=2) as server:
        strings.slow(SLOW)
        first = server.send(PATH, body(max_tokens=200, stream=True))
        until(lambda: server.states() == ["writing"])
        waiting = [server.send(PATH, body(max_tokens=2)) for _ in range(2)]
        until(lambda: server.states().count("queued") == 2)
        for stream in (False, True):
            refused = server.post(PATH, body(stream=stream))
            error_of(refused, 503, "queue_full")
            assert int(refused.headers["retry-after"]) >= 1
        several = server.post(PATH, body(n=2))
        error_of(several, 503, "queue_full")
        assert server.states().count("queued") == 2  # nothing of it is left
        strings.slow(0)
        first.close()
        for one in waiting:
            assert b"200 OK" in read_until(one, b"}]")
            one.close()
        until(lambda: is_idle(server))
        assert "pillion_requests_refused_total 3.0" in server.get("/metrics").text


@pytest.mark.parametrize("stream", [False, True])
def test_who_waits_too_long(serve, strings, stream):
    with serve(queue_timeout=0.2) as server:
        strings.slow(SLOW)
        first = server.send(PATH, body(max_tokens=200, stream=True))
        until(lambda: server.states() == ["writing"])
        response = server.post(PATH, body(stream=stream))
        said = response.text
        if stream:
            error = events(response)[-1]["error"]
            assert error["code"] == "timeout"
        else:
            error_of(response, 503, "timeout")
            assert "retry-after" in response.headers
        assert "waited" in said and "0.2" in said
        until(lambda: server.states() == ["writing"])
        first.close()


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_takes_too_long(serve, strings, stream):
    with serve(total_timeout=0.5) as server:
        strings.slow(SLOW)
        response = server.post(PATH, body(max_tokens=200, stream=stream))
        if stream:
            assert events(response)[-1]["error"]["code"] == "timeout"
            assert "[DONE]" not in response.text
        else:
            error_of(response, 503, "timeout")
        until(lambda: is_idle(server))
        assert 'pillion_cancelled_total{cause="timeout"} 1.0' in server.get("/metrics").text


def test_who_reads_nothing_is_left(serve, strings):
    """The connection is cut too: what was not sent is dropped."""
    with serve(writer_timeout=0.3) as server:
        # accepted ones inherit it
        server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        host, port = server.listener.getsockname()
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((host, port))
            data = json.dumps(body(max_tokens=240, stream=True, logprobs=50)).encode()
            head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
            slow.sendall(head.encode() + data)
            until(lambda: 'cause="slow_reader"} 1.0' in server.get("/metrics").text)
            until(lambda: is_idle(server))
            until(lambda: len(server.running.server_state.connections) == 1)  # the client of get()
        assert text_of(server, max_tokens=4)


@pytest.mark.parametrize("stream", [False, True])
def test_a_lost_device_shows_in_the_health(serve, strings, stream):
    with serve() as server:
        strings.fail("pillion_pair_step", 23, "the device is gone", after=1)
        response = server.post(PATH, body(stream=stream))
        error = events(response)[-1]["error"] if stream else error_of(response, 503, "unavailable")
        assert "the device is gone" in error["message"]
        assert server.get("/health").json() == {"status": "failed"}
        strings.reset()
        assert text_of(server, max_tokens=4)
        assert server.get("/health").json() == {"status": "ok"}


def test_a_silent_stream_says_a_comment(serve, strings):
    with serve(ping=0.05) as server:
        strings.slow(SLOW)
        connection = server.send(PATH, body(max_tokens=5, stream=True))
        found = read_until(connection, b"[DONE]")
        assert found.count(b": ping\n\n") >= 3
        connection.close()
        strings.slow(0)
        response = server.post(PATH, body(max_tokens=5, stream=True))
        assert ": ping" not in response.text


def test_the_place_in_the_queue(serve, strings):
    with serve() as server:
        strings.slow(SLOW)
        first = server.send(PATH, body(max_tokens=200, stream=True))
        until(lambda: server.states() == ["writing"])
        second = server.send(PATH, body(max_tokens=200, stream=True))
        until(lambda: server.states().count("queued") == 1)
        asked = {"stream": True, "pillion": {"place": True}}
        third = server.send(PATH, body(max_tokens=3, **asked))
        assert b'"pillion":{"place":2}' in read_until(third, b'"place":2')
        second.close()
        read_until(third, b'"place":1')
        strings.slow(0)
        first.close()
        assert b"[DONE]" in read_until(third, b"[DONE]")
        third.close()


def test_owners_take_turns_and_low_priority_waits(serve, strings, monkeypatch):
    from pillion_fake.server.serving import Answers

    ended, close = [], Answers.close

    def noting(answers):
        ended.append(len(answers.generations[0].tokens))
        close(answers)

    with serve(keys=["a", "b"]) as server:
        strings.slow(SLOW)
        server.client.headers["X-Api-Key"] = "a"
        first = server.send(PATH, body(max_tokens=200, stream=True), "X-Api-Key: a\r\n")
        until(lambda: server.states() == ["writing"])
        monkeypatch.setattr(Answers, "close", noting)
        others = []
        # told apart by their lengths, in the order of their coming
        for n, head in (
            (1, "X-Api-Key: a\r\nX-Pillion-Priority: low\r\n"),
            (2, "X-Api-Key: a\r\n"),
            (3, "X-Api-Key: b\r\n"),
        ):
            others.append(server.send(PATH, body(max_tokens=n), head))
            until(lambda n=n: server.serving.engine.stats().queued == n)
        tokens = written(server)
        until(lambda: written(server) > tokens + 1)  # the engine has seen them all
        strings.slow(1000)
        first.close()
        for one in others:
            read_until(one, b"}]")
            one.close()
        assert ended[-3:] == [3, 2, 1]


def test_a_response_whose_client_is_gone_already(fake):
    """It ends, and says so to who waits for that, without having sent anything."""
    import asyncio

    from pillion_fake.server.sse import EventStream

    told = []

    async def events():
        told.append("began")
        yield b"data: x\n\n"
        await asyncio.Event().wait()

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        await asyncio.sleep(0)

    async def run():
        response = EventStream(
            events(),
            leave=told.append,
            on_error=lambda error: b"",
            done=lambda: told.append("done"),
        )
        await asyncio.wait_for(response({}, receive, send), PATIENCE)

    asyncio.run(run())
    assert "disconnect" in told and told.count("done") == 1


def test_a_stream_that_is_left_before_it_begins(serve, strings, monkeypatch):
    """The client goes between the request's entry and the response's first byte."""
    with serve() as server:
        strings.slow(SLOW)
        begin, let_go = server.serving.begin, threading.Event()

        async def hold(work, fields, terms):
            found = await prepare(work, fields, terms)
            import asyncio

            while not let_go.is_set():
                await asyncio.sleep(0.005)
            return found

        prepare = server.serving.prepare
        monkeypatch.setattr(server.serving, "prepare", hold)
        begun = []
        monkeypatch.setattr(server.serving, "begin", lambda found: begun.append(1) or begin(found))
        for stream in (False, True):
            let_go.clear()
            connection = server.send(PATH, body(max_tokens=200, stream=stream))
            until(lambda: server.running.server_state.tasks)
            connection.close()
            until(lambda: len(server.running.server_state.connections) <= 1)
            let_go.set()
            until(lambda: begun and is_idle(server))
            begun.clear()


def test_every_request_taken_in_has_an_end_in_the_metrics(serve, strings):
    """Also where one client asks for several answers, and where the queue is full."""
    with serve(queue_limit=6) as server:
        strings.slow(20_000)
        leavers = [server.send(PATH, body(max_tokens=200, n=3, stream=True)) for _ in range(2)]
        until(lambda: len(server.states()) == 6)
        assert error_of(server.post(PATH, body(n=8)), 503, "queue_full")
        for one in leavers:
            one.close()
        until(lambda: is_idle(server) and not server.serving.engine._here().works)
        strings.slow(0)
        text_of(server)
        text = server.get("/metrics").text
        numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        total = float(numbers["pillion_requests_total"])
        early = [
            float(n)
            for name, n in numbers.items()
            if name.startswith("pillion_requests_ended_early_total")
        ]
        assert total == float(numbers["pillion_requests_completed_total"]) + sum(early) > 6


def test_the_size_of_the_context_is_told_while_it_is_at_work(serve, strings):
    with serve() as server:
        strings.slow(SLOW)
        stayed = server.send(PATH, body(max_tokens=200, stream=True))
        until(lambda: server.states() == ["writing"])
        for _ in range(20):
            assert server.get("/props").status_code == server.get("/v1/models").status_code == 200
            assert server.serving.llm.n_ctx() == 256
        stayed.close()
