"""Generations that somebody left, and calls of several threads at once: whoever asks gets his whole
answer in his turn."""

import asyncio
import gc
import signal
import threading

import pytest

import programs
from patience import in_thread, until


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


# ---- left ----


def test_a_thread_that_ended_with_a_stream_half_read(toy_llm):
    kept = [in_new_thread(lambda: begun(toy_llm)) for _ in range(3)]
    assert asked(toy_llm) == "de"
    assert in_new_thread(lambda: asked(toy_llm)) == "de"
    assert ["".join(map(text_of, stream)) for stream in kept] == ["efghijk"] * 3


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


def test_one_that_ended_does_not_stand_in_the_way(toy_llm, strings, fake):
    done = toy_llm.complete("abc", temperature=0, max_tokens=2, stream=True)
    list(done)
    strings.fail("pillion_pair_step", 22, "no memory", after=1)
    raised(lambda: list(begun(toy_llm)), fake.OutOfMemoryError)
    begun(toy_llm).close()
    assert in_new_thread(lambda: asked(toy_llm)) == "de"


def test_one_that_is_dropped_frees_its_slot(toy_llm, strings):
    """The one dropped last is at its prompt."""
    strings.slow(100_000)
    kept = [toy_llm.complete("x" * 200, max_tokens=None, stream=True) for _ in range(20)]
    del kept
    strings.slow(0)
    assert asked(toy_llm) == "de"
    assert toy_llm.engine.stats().ended_early == {"dropped": 20}


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


# ---- at once ----


FOLLOWING = {"a": "bcd", "e": "fgh", "i": "jkl", "m": "nop", "q": "rst"}


def at_once(call):
    """call(letter) ten times for each letter, in a thread each; what went wrong."""
    problems = []

    def body(letter):
        try:
            for _ in range(10):
                assert call(letter) == FOLLOWING[letter]
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=body, args=(letter,)) for letter in FOLLOWING]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


@pytest.mark.parametrize("parallel", [1, 3])
def test_many_threads_at_once(fake, strings, toy_file, parallel):
    with fake.LLM(toy_file(), n_ctx=64, parallel=parallel) as llm:
        at_once(lambda letter: text_of(llm.complete(letter, temperature=0, max_tokens=3)))
        assert llm.engine.stats().completed == 50


@pytest.mark.parametrize("parallel", [1, 3])
def test_many_streams_at_once(fake, strings, toy_file, parallel):
    """A piece is never made from what another call left in the context."""

    def call(letter):
        chunks = llm.complete(letter, temperature=0, max_tokens=3, stream=True)
        return "".join(map(text_of, chunks))

    with fake.LLM(toy_file(), n_ctx=64, parallel=parallel) as llm:
        at_once(call)
        assert asked(llm) == "de"


def test_several_takers_of_one_answer(toy_llm):
    """Each piece goes to one of them."""
    generation = toy_llm.generate("abc", temperature=0, max_tokens=200)
    started = [in_thread(lambda: list(generation)) for _ in range(4)]
    for thread, _ in started:
        thread.join()
    pieces = [piece for _, outcome in started for piece in outcome[0]]
    tokens = sorted((one.offset, one.id) for piece in pieces for one in piece.tokens)
    assert [token for _, token in tokens] == generation.tokens and len(tokens) == 200


def test_two_threads_at_one_stream(toy_llm, strings, fake):
    strings.slow(1_000_000)
    stream = toy_llm.complete("x" * 50, temperature=0, max_tokens=4, stream=True)
    thread, outcome = in_thread(lambda: list(stream))
    until(lambda: stream._inside.holder is not None)
    assert "another thread" in raised(lambda: next(stream), fake.Busy)
    stream.close()
    thread.join()
    assert isinstance(outcome[0], fake.Cancelled)


# ---- ends from outside ----


def test_close_from_another_thread(toy_llm, strings, fake):
    strings.slow(20_000)
    stream = begun(toy_llm, n=200)
    thread, outcome = in_thread(lambda: list(stream))
    until(lambda: stream._inside.holder is not None)
    stream.close()
    thread.join()
    assert isinstance(outcome[0], fake.Cancelled)
    strings.slow(0)
    assert asked(toy_llm) == "de"
    stream.close()
    assert list(stream) == []


def test_with_closes_a_stream(toy_llm):
    with begun(toy_llm) as stream:
        pass
    assert list(stream) == [] and in_new_thread(lambda: asked(toy_llm)) == "de"


USES = {
    "decode": lambda llm: llm.context.decode(120),
    "prefill": lambda llm: llm.context.prefill([120, 121]),
    "sync": lambda llm: llm.context.sync([120]),
    "score": lambda llm: llm.context.score([120, 121]),
    "clear": lambda llm: llm.context.clear(),
}


def cancelled(fake, begin, use):
    """What a stream says after somebody came between two of its rounds. On a busy machine it may be
    over before; then another one is begun."""
    for _ in range(50):
        stream = begin()
        use()
        try:
            list(stream)
        except fake.Cancelled as error:
            return str(error)
    raise AssertionError("nobody came between two rounds of 50 streams")


def again_and_again(fake, use, llm):
    """Until it came between two runs."""
    while True:
        try:
            return use(llm)
        except fake.Busy:
            pass


@pytest.mark.parametrize("use", USES)
def test_the_context_used_directly_between_two_rounds(toy_llm, strings, fake, use):
    strings.slow(5_000)
    said = cancelled(
        fake,
        lambda: begun(toy_llm, n=200),
        lambda: again_and_again(fake, USES[use], toy_llm),
    )
    strings.slow(0)
    assert "its context was used for something else" in said
    assert asked(toy_llm) == "de"


@pytest.mark.parametrize("after", ["a part in the middle", "the last part", "the last run"])
@pytest.mark.parametrize("use", USES)
def test_the_context_used_directly_while_a_prompt_is_read(fake, toy_file, monkeypatch, use, after):
    """Its parts find their way until the first token is written."""
    uses = []
    is_now = {
        "a part in the middle": lambda parts: 0 < parts[0].left < 200,
        "the last part": lambda parts: parts[0].left == 0,
        "the last run": lambda prompt: True,
    }[after]

    def then_used(call):
        def called(given):
            result = call(given)
            if not uses and is_now(given):
                uses.append(use)
                USES[use](llm)
            return result

        return called

    with fake.LLM(toy_file(), n_ctx=256, n_batch=8) as llm:
        (slot,) = llm.engine._slots
        if after == "the last run":
            monkeypatch.setattr(slot.pair, "sync", then_used(slot.pair.sync))
        else:
            machine = llm.engine._group.machine
            monkeypatch.setattr(machine, "run", then_used(machine.run))
        assert text_of(llm.complete("b" * 240 + "abc", temperature=0, max_tokens=2)) == "de"
        assert uses


@pytest.mark.parametrize("use", USES)
def test_the_context_used_directly_between_two_calls(toy_llm, use):
    assert asked(toy_llm) == "de"
    USES[use](toy_llm)
    assert asked(toy_llm) == "de"


def test_somebody_is_inside_the_context_when_a_call_comes(toy_llm, strings, under_way):
    thread, _ = under_way(lambda: toy_llm.context.prefill([120] * 30))
    other, outcome = in_thread(lambda: asked(toy_llm))
    until(lambda: toy_llm.engine.slots()[0].state == "reading")
    strings.slow(0)
    thread.join(), other.join()
    assert outcome == ["de"]


def test_reset_waits_for_what_is_under_way(toy_llm, strings):
    strings.slow(2_000)
    stream = begun(toy_llm, n=20)
    toy_llm.reset()
    assert "".join(map(text_of, stream)) == "efghijklmnopqrstuvw"
    assert toy_llm.complete("abcdef", max_tokens=1)["timings"]["cache_n"] == 0
    assert toy_llm.complete("abcdef", max_tokens=1)["timings"]["cache_n"] == 6
    toy_llm.reset()
    assert len(toy_llm.context) == 0


def test_a_pair_used_directly_between_two_rounds(fake, strings, toy_file, toy_drafter):
    with fake.LLM(toy_file(), n_ctx=256, drafter=toy_drafter) as llm:
        strings.slow(2_000)

        def begin():
            stream = llm.complete("abc", temperature=0, max_tokens=200, stream=True, draft=1)
            next(stream)
            return stream

        def use():
            again_and_again(fake, lambda llm: llm.pair.sync([120, 121]), llm)

        cancelled(fake, begin, use)
        assert asked(llm) == "de"


def test_a_signal_handler_that_calls(toy_llm, strings):
    """It comes between two instructions of the main thread, also in the middle of a submit, and
    waits like everybody else."""
    answers = []
    before = signal.signal(signal.SIGUSR1, lambda *_: answers.append(asked(toy_llm)))
    main, over = threading.main_thread().ident, threading.Event()

    def press():
        while not over.is_set():
            n = len(answers)
            signal.pthread_kill(main, signal.SIGUSR1)
            until(lambda: len(answers) > n or over.is_set())

    presser = threading.Thread(target=press)
    try:
        presser.start()
        texts = ["".join(map(text_of, begun(toy_llm, n=30))) for _ in range(200)]
    finally:
        over.set()
        presser.join()
        signal.signal(signal.SIGUSR1, before)
    assert set(texts) == {"efghijklmnopqrstuvwxyz{|}~\x7f"[:29]} or len(set(texts)) == 1
    assert set(answers) == {"de"}


def test_cancel_in_a_signal_handler(toy_llm, strings, fake):
    before = signal.signal(signal.SIGUSR1, lambda *_: toy_llm.cancel())
    try:
        strings.slow(20_000)
        stream = begun(toy_llm, n=200)
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
    programs.run(
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
            # in a thread of the loop's own pool; streamed ones have Starlette's
            loop = asyncio.get_running_loop()
            return PlainTextResponse(await loop.run_in_executor(None, text, llm, 12))

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
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/whole") as answer:
                return answer.read().decode()

        for lines in (3, 1, 7, 3):
            leave_after(lines)
            assert ask() == wanted
        assert len(kept) == 4
        for chunks in kept:  # nobody took the rest, which is there all the same
            assert chunks.generation.result().finish_reason == "length"
        server.should_exit = True
        thread.join()
        """
    )
