"""Generations that somebody left: whoever calls next takes over, as long as nobody is inside."""

import asyncio
import gc
import signal
import threading

import pytest

import programs
from patience import in_thread, over_and_over


def text_of(result):
    return result["choices"][0]["text"]


def begun(llm, prompt="abc", n=8):
    stream = llm.complete(prompt, temperature=0, max_tokens=n, stream=True)
    next(stream)
    return stream


def asked(llm, n=2):
    return text_of(llm.complete("abc", temperature=0, max_tokens=n))


def in_new_thread(work):
    thread, outcome = in_thread(work)
    thread.join()
    return outcome[0]


def raised(work, kind):
    with pytest.raises(kind) as caught:
        work()
    return str(caught.value)


@pytest.fixture(autouse=True)
def without_the_collector():
    """What only the collector of cycles would free is not free."""
    gc.disable()
    yield
    gc.enable()


# ---- nobody is inside ----


def test_a_thread_that_ended_with_a_stream_half_read(toy_llm):
    kept = [in_new_thread(lambda: begun(toy_llm)) for _ in range(3)]
    assert asked(toy_llm) == "de"
    assert in_new_thread(lambda: asked(toy_llm)) == "de"
    assert kept


def test_a_stream_kept_by_a_traceback(toy_llm):
    def breaks():
        for _ in begun(toy_llm):
            raise KeyError

    try:
        in_new_thread(breaks).__traceback__  # noqa: B018
        breaks()
    except KeyError as error:
        kept = error
        assert in_new_thread(lambda: asked(toy_llm)) == "de"
        assert kept.__traceback__ is not None


def test_the_next_step_of_what_gave_way_says_so(toy_llm, fake):
    stream = begun(toy_llm)
    generation = toy_llm.generate("xyz")  # nothing of it ran yet
    for old in (stream, toy_llm.generate("abc"), generation):
        asked(toy_llm)
        assert "a newer call took over its context" in raised(lambda: next(old), fake.Cancelled)


def test_one_that_ended_does_not_stand_in_the_way(toy_llm, strings, fake):
    done = toy_llm.complete("abc", temperature=0, max_tokens=2, stream=True)
    list(done)
    strings.fail("pillion_context_eval", 22, "no memory")
    raised(lambda: list(begun(toy_llm)), fake.OutOfMemoryError)
    begun(toy_llm).close()
    assert in_new_thread(lambda: asked(toy_llm)) == "de"


def test_a_cancelled_asyncio_task(toy_llm):
    """The task is gone half-way, its stream is kept by the loop's frames."""

    async def read(stream):
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(None, next, stream)
            await asyncio.sleep(3600)

    async def main():
        task = asyncio.ensure_future(read(begun(toy_llm)))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await asyncio.get_running_loop().run_in_executor(None, asked, toy_llm)

    assert asyncio.run(main()) == "de"


# ---- somebody is inside ----


def test_a_step_that_runs_is_busy_and_goes_on(toy_llm, strings, fake, under_way):
    stream = begun(toy_llm, n=4)
    thread, outcome = under_way(lambda: "".join(map(text_of, stream)))
    for use in (lambda: asked(toy_llm), lambda: toy_llm.generate("a"), lambda: next(stream)):
        assert "another thread" in raised(use, fake.Busy)
    for use in (
        lambda: toy_llm.context.decode(97),
        lambda: toy_llm.context.prefill([97, 98]),
        toy_llm.reset,
    ):
        raised(use, fake.Busy)  # the context's own, and the generation is none the worse
    strings.slow(0)
    thread.join()
    assert outcome == ["efg"]


def test_a_whole_answer_is_inside_all_the_time(toy_llm, strings, fake):
    """Also between its steps, where a stream would give way."""
    strings.slow(200)
    wanted = asked(toy_llm, 150)
    for _ in range(3):
        thread, outcome = in_thread(lambda: asked(toy_llm, 150))
        n_busy = 0
        while thread.is_alive():
            try:
                next(toy_llm.complete("xyz", max_tokens=1, temperature=0, stream=True))
            except fake.Busy:
                n_busy += 1
            except fake.Cancelled:
                pass  # our own stream gave way to its call
        assert outcome == [wanted] or isinstance(outcome[0], fake.Busy)
        assert n_busy or isinstance(outcome[0], fake.Busy)


FOLLOWING = {"a": "bcd", "e": "fgh", "i": "jkl", "m": "nop", "q": "rst"}


def at_once(call):
    """call(letter) ten times to its end for each letter, in a thread each; it may raise what it
    likes in between."""
    problems = []

    def body(letter):
        n_done = 0
        while n_done < 10:
            try:
                n_done += call(letter)
            except Exception as error:
                problems.append(error)
                return

    threads = [threading.Thread(target=body, args=(letter,)) for letter in FOLLOWING]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_many_threads_at_once(toy_llm, fake):
    """Each call gets the whole of its answer or `Busy`, and somebody always gets in."""

    def call(letter):
        try:
            answer = text_of(toy_llm.complete(letter, temperature=0, max_tokens=3))
        except fake.Busy:
            return False
        assert answer == FOLLOWING[letter]
        return True

    at_once(call)


def test_many_streams_at_once(toy_llm, fake):
    """A piece is never made from what another call left in the context."""

    def call(letter):
        got = ""
        try:
            for chunk in toy_llm.complete(letter, temperature=0, max_tokens=3, stream=True):
                got += text_of(chunk)
                assert FOLLOWING[letter].startswith(got)
        except (fake.Busy, fake.Cancelled):
            return False
        assert got == FOLLOWING[letter]
        return True

    at_once(call)
    assert asked(toy_llm) == "de"


# ---- ends from outside ----


def test_close_from_another_thread(toy_llm, strings, fake, under_way):
    stream = begun(toy_llm)
    thread, outcome = under_way(lambda: list(stream))
    stream.close()
    strings.slow(0)
    thread.join()
    assert isinstance(outcome[0], fake.Cancelled)
    assert asked(toy_llm) == "de"
    stream.close()
    assert list(stream) == []


def test_with_closes_a_stream(toy_llm):
    with begun(toy_llm) as stream:
        pass
    assert list(stream) == [] and in_new_thread(lambda: asked(toy_llm)) == "de"


@pytest.mark.parametrize(
    "use",
    [
        lambda llm: llm.context.decode(120),
        lambda llm: llm.context.prefill([120, 121]),
        lambda llm: llm.context.set_tokens([120]),
        lambda llm: llm.context.score([120, 121]),
        lambda llm: llm.reset(),
    ],
)
def test_the_context_used_directly_between_two_steps(toy_llm, fake, use):
    stream = begun(toy_llm)
    use(toy_llm)
    assert "its context was used for something else" in raised(lambda: next(stream), fake.Cancelled)
    assert asked(toy_llm) == "de"


def test_reading_the_context_changes_nothing(toy_llm):
    stream = begun(toy_llm, n=4)
    assert toy_llm.context.logits().size and toy_llm.context.tokens and toy_llm.context.n_past
    assert "".join(map(text_of, stream)) == "efg"


def test_a_pair_used_directly_between_two_steps(fake, strings, toy_file, toy_drafter):
    with fake.LLM(toy_file(), n_ctx=256, drafter=toy_drafter) as llm:
        stream = llm.complete("abc", temperature=0, max_tokens=20, stream=True, draft=1)
        next(stream)
        llm.pair.set_tokens([120, 121])
        raised(lambda: list(stream), fake.Cancelled)
        assert asked(llm) == "de"


def test_a_signal_handler_that_calls(toy_llm, strings, fake):
    """It comes between two instructions of the main thread, also in the middle of a step."""
    answers = []
    before = signal.signal(signal.SIGUSR1, lambda *_: answers.append(asked(toy_llm)))
    try:
        for _ in range(20):
            stream = begun(toy_llm)
            signal.raise_signal(signal.SIGUSR1)
            assert "took over" in raised(lambda: next(stream), fake.Cancelled)
        main = threading.main_thread().ident
        strings.slow(300)
        with over_and_over(lambda: signal.pthread_kill(main, signal.SIGUSR1), 0.02):
            with pytest.raises(fake.PillionError):
                while True:
                    list(begun(toy_llm, n=200))
    finally:
        strings.slow(0)
        signal.signal(signal.SIGUSR1, before)
    assert set(answers) <= {"de"} and asked(toy_llm) == "de"


def test_cancel_in_a_signal_handler(toy_llm, fake):
    """Even while the main thread holds the LLM's lock."""
    before = signal.signal(signal.SIGUSR1, lambda *_: toy_llm.cancel())
    try:
        with toy_llm._gate.here():
            signal.raise_signal(signal.SIGUSR1)
        stream = begun(toy_llm)
        signal.raise_signal(signal.SIGUSR1)
        raised(lambda: next(stream), fake.Cancelled)
    finally:
        signal.signal(signal.SIGUSR1, before)


# ---- over HTTP ----


def test_a_client_that_leaves_a_thread_per_connection(pillion, tiny_target):
    """http.server's: an error keeps the frames of the thread, which is not at it any more."""
    programs.run(
        """
        import gc, http.server, json, socket, urllib.request

        gc.disable()
        llm = opened(n_ctx=2048)
        wanted, kept, over = text(llm, 12), [], threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                if self.path == "/whole":
                    self.wfile.write(text(llm, 12).encode())
                    return
                chunks = stream(llm, 2000)
                try:
                    for chunk in chunks:
                        self.wfile.write(json.dumps(chunk).encode() + b"\\n")
                except OSError as error:
                    kept.append(error)
                    over.wait()  # the thread is still there, with something else to do

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for n in range(1, 4):
            with socket.create_connection(server.server_address) as client:
                client.sendall(b"GET /stream HTTP/1.0\\r\\n\\r\\n")
                with client.makefile("rb") as answer:
                    while not answer.readline().startswith(b"{"):
                        pass
            while len(kept) < n:
                time.sleep(0.001)
            url = "http://127.0.0.1:%d/whole" % server.server_address[1]
            with urllib.request.urlopen(url) as answer:
                assert answer.read().decode() == wanted
        over.set()
        server.shutdown()
        """
    )


def test_a_client_that_leaves(pillion, tiny_target):
    """Starlette's StreamingResponse on uvicorn; the stream is dropped by a thread of its pool,
    the next request comes in another."""
    out = programs.run(
        """
        import asyncio, gc, json, socket, urllib.request
        import uvicorn
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse, StreamingResponse
        from starlette.routing import Route

        gc.disable()
        llm = opened(n_ctx=2048, drafter=TINY_ASSISTANT)
        wanted = text(llm, 12)
        kept = []

        def streamed(request):
            chunks = stream(llm, 2000)
            kept.append(chunks)  # as a frame of a framework may
            return StreamingResponse(json.dumps(chunk) + "\\n" for chunk in chunks)

        async def whole(request):
            try:  # in a thread of the loop's own pool; streamed ones have Starlette's
                loop = asyncio.get_running_loop()
                return PlainTextResponse(await loop.run_in_executor(None, text, llm, 12))
            except pillion.Busy:
                return PlainTextResponse("busy", status_code=503)

        app = Starlette(routes=[Route("/stream", streamed), Route("/whole", whole)])
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]

        def leave_after(lines):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /stream HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                with client.makefile("rb") as answer:
                    seen = 0
                    while seen < lines:
                        seen += answer.readline().startswith(b"{")

        def ask():
            while True:  # a step that is under way may end first
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/whole") as answer:
                        return answer.read().decode()
                except urllib.error.HTTPError as error:
                    assert error.code == 503

        for lines in (3, 1, 7, 3):
            leave_after(lines)
            assert ask() == wanted
        assert len(kept) == 4
        for chunks in kept:
            try:
                next(chunks)
            except (pillion.Cancelled, StopIteration):
                print("gave way")
        server.should_exit = True
        thread.join()
        """
    )
    assert out.count("gave way") == 4
