"""fork() with a model open: the child makes threads of its own, writes the same, and leaves
quietly; the parent goes on unharmed."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import programs
from made_files import remade
from patience import until

DRAFTERS = {"alone": "None", "assistant": "TINY_ASSISTANT", "lookup": "'lookup'"}


@pytest.fixture(autouse=True)
def built(tiny_target):
    """All of these run the built package."""


@pytest.mark.parametrize("threads", [1, 2, 4, 8])
def test_a_child_writes_the_same_with_all_its_threads(threads):
    programs.run(
        """
        threads = int(sys.argv[1])
        llm = opened(n_threads=threads)
        before, logits = text(llm), llm.context.logits()

        def use():
            assert n_threads() == 1
            assert llm.context.logits().tobytes() == logits.tobytes()  # of the parent
            assert text(llm) == before and llm.context.logits().tobytes() == logits.tobytes()
            settle(threads)
            context = llm.model.context(64)
            context.prefill(llm.tokenize(PROMPT))
            context.close()

        assert child(use) == 0
        assert child(lambda: (use(), child(lambda: (text(llm), llm.close())) and os._exit(7))) == 0
        assert text(llm) == before
        settle(threads + 1)  # NumPy ends its own before a fork
        """,
        threads,
    )


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_any_order_of_frees_and_any_end(drafter):
    programs.run(
        f"""
        import itertools

        llm = opened(drafter={DRAFTERS[drafter]}, n_threads=4)
        first = text(llm)

        def free(names):
            for name in names:
                thing = getattr(llm, name)
                if thing is not None:
                    thing.close()

        def fails():
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            raise KeyError

        names = ["model", "context", "tokenizer", "pair", "_drafter", "engine"]
        for order in itertools.islice(itertools.permutations(names), 0, None, 67):
            assert child(lambda: free(order)) == 0, order
        for use in (lambda: None, lambda: text(llm)):
            assert child(lambda: use()) == 0
            assert child(lambda: (use(), llm.close())) == 0
            assert child(lambda: (use(), os._exit(5))) == 5 << 8
            assert child(lambda: (use(), sys.exit(6))) == 6 << 8
            assert child(lambda: (use(), fails())) == 1 << 8
            assert child(lambda: (use(), globals().pop("llm"))) == 0
        assert text(llm) == first
        """
    )


def test_a_forked_thread_that_only_returns():
    """Its process ends with its last thread: those that wait for work do not keep it, whether they
    belong to an inherited model or to a new one. A thread that goes on may go on writing."""
    programs.run(
        """
        llm = opened(n_threads=4)
        first, codes = text(llm), []

        def go_on(begun):
            begun.set()
            while os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
                if open(f"/proc/self/task/{os.getpid()}/stat").read().split()[2] == "Z":
                    break  # the thread that forked has ended
                time.sleep(0.001)
            assert text(llm) == first
            with opened(n_threads=4) as other:
                assert text(other) == first
            assert child(lambda: text(llm)) == 0
            os._exit(5)

        def forks(how):
            pid = os.fork()
            if pid:
                codes.append(os.waitpid(pid, 0)[1])
                return
            if how != "none":
                assert text(llm) == first
            if how == "new":
                text(opened(n_threads=4))
            if how == "sys.exit":
                sys.exit()
            if how == "thread":
                begun = threading.Event()
                threading.Thread(target=go_on, args=(begun,)).start()
                begun.wait()

        for how in ("none", "inherited", "new", "sys.exit", "thread"):
            thread = threading.Thread(target=forks, args=(how,))
            thread.start()
            thread.join()
        assert codes == [0, 0, 0, 0, 5 << 8], codes
        assert text(llm) == first
        settle(5)  # with the engine's
        """
    )


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_in_the_middle_of_a_stream(drafter):
    """The parent goes on. A child has the pieces that were made, then hears where the others are;
    its own calls are whole, and so are those of its child."""
    programs.run(
        f"""
        llm = opened(drafter={DRAFTERS[drafter]}, n_threads=4)
        whole, long = text(llm), text(llm, 200)
        for _ in range(5):
            mine = stream(llm, 200)
            said = next(mine)["choices"][0]["text"]

            def go_on():
                said_here = said
                try:
                    for one in mine:
                        said_here += one["choices"][0]["text"]
                    assert said_here == long  # all of it was there
                except pillion.Cancelled as error:
                    assert "in the parent" in str(error), error
                    assert long.startswith(said_here)
                assert text(llm) == whole

            assert child(lambda: (child(go_on) and os._exit(7), go_on())) == 0
            assert child(lambda: None) == 0  # leaves it half read
            assert said + "".join(one["choices"][0]["text"] for one in mine) == long
        """
    )


def test_while_another_thread_generates():
    """The engine is inside a run then. The child makes what it was inside anew, and the parent's
    thread goes on."""
    programs.run(
        """
        llm = opened(n_threads=4, parallel=2, drafter=TINY_ASSISTANT)
        first, over, texts = text(llm), threading.Event(), []

        def write():
            while not over.is_set():
                llm.reset()
                texts.append(text(llm))

        def look():
            assert text(llm) == first
            assert [text(llm, 8), text(llm, 24)] == [first_8, first]
            context = llm.model.context(256, n_threads=4)
            context.prefill(llm.tokenize(PROMPT))
            context.close()
            with opened(n_threads=2) as other:
                assert text(other) == first
            llm.close()

        first_8 = text(llm, 8)
        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        for _ in range(12):
            assert child(look) == 0
        over.set()
        for writer in writers:
            writer.join()
        assert set(texts) == {first}
        """
    )


def test_a_half_read_stream_of_another_thread():
    """Its thread waited for the next chunk when the fork came: what is left of it says so, and new
    calls work."""
    programs.run(
        """
        llm = opened(n_threads=2)
        first = text(llm)
        mine = stream(llm, 200)
        holder = threading.Thread(target=lambda: [None for _ in mine])
        holder.start()
        for _ in range(40):
            pid = os.fork()
            if pid == 0:
                try:
                    for one in mine:
                        pass
                except pillion.Cancelled as error:
                    assert "parent" in str(error) or "fork()" in str(error), error
                assert text(llm) == first
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            if not holder.is_alive():
                break
        holder.join()
        assert text(llm) == first
        """
    )


def test_while_others_open_and_close_models():
    """Locks of the registry, of tokenizers and of the log that other threads hold are no locks
    of the child."""
    programs.run(
        """
        over = threading.Event()

        def open_and_close():
            while not over.is_set():
                with pillion.Model.open(TINY_TARGET, device="cpu", n_threads=2) as model:
                    model.tokenizer.encode("a")
                    model.context(16, n_threads=2).close()

        def look():
            with opened(n_threads=2) as llm:
                assert text(llm) == first
            pillion.system()

        with opened() as llm:
            first = text(llm)
        threads = [threading.Thread(target=open_and_close) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            assert child(look) == 0
        over.set()
        for thread in threads:
            thread.join()
        """
    )


def test_in_a_log_handler(tiny_target, tmp_path):
    """The library holds its log's lock there. In the child the lock is free."""
    noisy = remade(
        tiny_target, tmp_path / "noisy.gguf", raw=[("nobody.knows.me", np.zeros(32, np.float32))]
    )
    out = programs.run(
        """
        import logging

        class Forks(logging.Handler):
            pid = None

            def emit(self, record):
                if self.pid is None:
                    self.pid = os.fork()
                    if self.pid == 0:
                        pillion.Model.open(sys.argv[1], device="cpu").close()
                        print("child", flush=True)
                        os._exit(0)
                    assert os.waitpid(self.pid, 0)[1] == 0

        logging.getLogger("pillion").addHandler(Forks())
        pillion.Model.open(sys.argv[1], device="cpu").close()
        print("parent")
        """,
        noisy,
    )
    assert out.split() == ["child", "parent"]


def test_in_a_signal_handler_during_a_call():
    """The main thread waits for a worker then, which the child does not have."""
    out = programs.run(
        """
        llm = opened(n_ctx=4096, n_threads=2)
        prompt = llm.tokenize(PROMPT) * 150
        context = llm.context

        def fork(*_):
            global pid
            pid = os.fork()

        def press():
            while len(sys._current_frames()) <= 2:  # until the call's thread is beside this one
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGUSR1)

        signal.signal(signal.SIGUSR1, fork)
        code = 3 << 8
        while code == 3 << 8:
            pid, presser = None, threading.Thread(target=press)
            presser.start()
            try:
                context.sync(prompt)
            except pillion.Cancelled as error:
                assert pid == 0 and "parent" in str(error)
                try:
                    context.sync(prompt)
                except pillion.Closed:
                    pass
                print("child", flush=True)
                os._exit(0)
            while pid is None:
                time.sleep(0.001)
            if pid == 0:
                os._exit(3)  # the call was over when the signal came: once more
            presser.join()
            code = os.waitpid(pid, 0)[1]
            context.clear()
        assert code == 0
        context.sync(prompt)
        print("parent")
        """
    )
    assert out.split() == ["child", "parent"]


def test_in_a_signal_handler_while_a_calls_thread_begins():
    """The thread of the call is made, and has done nothing yet."""
    out = programs.run(
        """
        import _thread

        llm = opened(n_threads=2)
        first, start, gate = text(llm), _thread.start_new_thread, threading.Lock()
        pid = None

        def forking(function, arguments):
            global pid
            with gate:  # held in the child for ever
                start(lambda: (gate.acquire(), gate.release(), function(*arguments)), ())
                pid = os.fork()

        _thread.start_new_thread = forking
        try:
            llm.context.clear()
            llm.context.prefill(llm.tokenize(PROMPT))
        except pillion.Cancelled as error:
            assert pid == 0 and "parent" in str(error)
            _thread.start_new_thread = start
            assert text(llm) == first
            print("child", flush=True)
            os._exit(0)
        _thread.start_new_thread = start
        assert pid != 0 and os.waitpid(pid, 0)[1] == 0
        assert text(llm) == first
        print("parent")
        """
    )
    assert out.split() == ["child", "parent"]


@pytest.mark.parametrize("device", ["cuda:sim", "htp:sim"])
def test_a_device_stays_with_the_process_that_opened_it(device):
    out = programs.run(
        """
        device = sys.argv[1]
        try:
            llm = opened(device=device, drafter=TINY_ASSISTANT, n_ctx=64)
        except pillion.NoBackendError as error:
            print("absent", error)
            sys.exit(0)
        first = text(llm, 3)

        def look():
            uses = [
                lambda: text(llm, 3),
                lambda: llm.context.logits(),
                lambda: llm.model.context(),
                lambda: opened(device=device),
                lambda: pillion.Pair(llm.context, "lookup"),
                lambda: llm.pair.stats,
            ]
            for use in uses:
                try:
                    use()
                    raise AssertionError("it ran")
                except pillion.BackendError as error:
                    for word in (str(os.getppid()), "forked", "spawn"):
                        assert word in str(error), error
            assert llm.tokenize("a") and llm.model.describe()["metadata"]
            with opened(n_ctx=64) as other:
                print(text(other, 3))

        assert child(look) == 0
        assert child(lambda: (llm.close(), globals().pop("llm"))) == 0
        assert child(lambda: os._exit(0)) == 0
        assert text(llm, 3) == first
        print(first)
        """,
        device,
    )
    if out.startswith("absent"):
        pytest.skip(out)
    child, parent = out.strip().split("\n")
    assert child and parent


# ---- what is built on fork() ----


POOLS = """
import concurrent.futures
import multiprocessing

llm = None


def work(n):
    return text(llm, n)


def begin():
    global llm
    llm = opened(n_threads=4)


def main(method):
    global llm
    with opened() as first:
        wanted = [text(first, n) for n in range(1, 9)]
    context = multiprocessing.get_context(method)
    if method == "fork":
        begin()  # children inherit it
    start = None if method == "fork" else begin
    with context.Pool(2, start) as pool:
        assert pool.map(work, range(1, 9)) == wanted
        pool.close()
        pool.join()
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context, initializer=start) as pool:
        assert list(pool.map(work, range(1, 9))) == wanted
    process = context.Process(target=alone, args=(wanted[3],))
    process.start()
    process.join()
    assert process.exitcode == 0
    if llm is not None:
        assert [work(n) for n in range(1, 9)] == wanted


def alone(wanted):
    if llm is None:
        begin()
    assert work(4) == wanted


if __name__ == "__main__":
    main(sys.argv[1])
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method, tmp_path):
    programs.run(POOLS, method, file=tmp_path / "pools.py")


def test_a_program_started_from_a_thread():
    """vfork or fork with exec: nothing of ours runs there."""
    programs.run(
        """
        import subprocess

        llm = opened(n_threads=4)
        first, found = text(llm), []
        words = [sys.executable, "-c", "print(1)"]
        start = lambda: found.append(subprocess.run(words, capture_output=True).stdout)
        before = lambda: subprocess.run(["true"], preexec_fn=lambda: None, check=True)
        threads = [threading.Thread(target=work) for work in (start, before, start)]
        for thread in threads:
            thread.start()
        assert text(llm) == first
        for thread in threads:
            thread.join()
        assert found == [b"1\\n"] * 2
        """
    )


GUNICORN_APP = """
import os
import pillion
from pillion.models import TINY_ASSISTANT, TINY_TARGET

llm = pillion.LLM(TINY_TARGET, device="cpu", n_ctx=256, n_threads=4, drafter=TINY_ASSISTANT)
MASTER = os.getpid()
FIRST = llm.complete("In the beginning", temperature=0, max_tokens=20)["choices"][0]["text"]


def app(environ, start_response):
    text = llm.complete("In the beginning", temperature=0, max_tokens=20)["choices"][0]["text"]
    threads = len(os.listdir("/proc/self/task"))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {MASTER} {text == FIRST} {threads}".encode()]
"""


def test_gunicorn_with_preload(tmp_path):
    """Workers inherit the model, answer on all their threads, and SIGTERM ends master and
    workers with 0."""
    import re
    import urllib.request

    (tmp_path / "preloaded.py").write_text(GUNICORN_APP, encoding="utf-8")
    words = [
        sys.executable,
        "-m",
        "gunicorn",
        "--preload",
        "-w",
        "2",
        "-b",
        "127.0.0.1:0",
        "preloaded:app",
    ]
    log = tmp_path / "log"
    with open(log, "w") as out:
        server = subprocess.Popen(words, cwd=tmp_path, stdout=out, stderr=out)
    try:
        until(lambda: server.poll() is not None or log.read_text().count("Booting worker") == 2)
        assert server.poll() is None, log.read_text()
        url = re.search(r"http://127\.0\.0\.1:\d+", log.read_text()).group(0)
        workers = set()

        def both_answered():
            with urllib.request.urlopen(url, timeout=60) as answer:
                pid, master, same, threads = answer.read().decode().split()
            assert (same, pid != master) == ("True", True) and int(threads) >= 4
            workers.add(pid)
            return len(workers) == 2

        until(both_answered)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, log.read_text()
        assert "SIGSEGV" not in log.read_text() and "Traceback" not in log.read_text(), (
            log.read_text()
        )
    finally:
        if server.poll() is None:
            os.kill(server.pid, signal.SIGKILL)
            server.wait()


def test_while_another_thread_embeds():
    """The child has a context of its own for it."""
    programs.run(
        """
        llm = opened(n_ctx=2048)
        wanted = llm.embed(PROMPT).tolist()
        ids = [5] * 2000
        statuses = []
        for _ in range(3):
            thread = threading.Thread(target=llm.embed, args=(ids,))
            thread.start()
            while llm.embedder._caller is None:
                time.sleep(0.0005)
            statuses.append(child(lambda: sys.exit(llm.embed(PROMPT).tolist() != wanted)))
            thread.join()
        assert statuses == [0] * 3, statuses
        """
    )
