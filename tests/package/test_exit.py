"""The end of the interpreter, in any order: status 0 and not a word on stderr."""

import sys

import pytest

import programs


@pytest.fixture(autouse=True)
def built(tiny_target):
    """All of these run the built package."""


ENDS = {
    "globals": "pass",
    "in a cycle": "llm.me = llm; threading.current_thread().kept = llm, half",
    "in a module that goes last": """
            sys.kept = llm, half
            sys.modules['zzz'] = type(sys)('zzz')
            sys.modules['zzz'].kept = half""",
    "model first": "del llm.model; llm.context.close()",
    "closed model": "llm.model.close(); next(half)",
    "context last": "context = llm.context; half.close(); del llm, half; context.decode(3)",
    "a view": """
            half.close(), text(llm)
            view = llm.context.logits(copy=False)
            llm.close()
            del llm
            assert view.sum() == view.sum()""",
    "sys.exit": "sys.exit(0)",
    "sys.exit in a thread": """
            threading.Thread(target=lambda: (next(half), sys.exit(3))).start()""",
    "os._exit": "os._exit(0)",
    "atexit uses it": "atexit.register(lambda: print(len(list(half)), len(text(llm))))",
    "atexit opens one": "atexit.register(lambda: print(len(text(opened()))))",
    "atexit closes it": "atexit.register(llm.close)",
    "del uses it": "Late.llm = llm; late = Late()",
    "a thread that goes on": "threading.Thread(target=lambda: [None for _ in half]).start()",
    "a thread that begins": """
            late = lambda: (time.sleep(0.05), text(llm), text(opened()))
            threading.Thread(target=late).start()""",
    "a pool of threads": """
            pool = concurrent.futures.ThreadPoolExecutor(2)
            pool.submit(lambda: [None for _ in half])""",
}


@pytest.mark.parametrize(
    "drafter", [pytest.param("None", marks=pytest.mark.slow), "TINY_ASSISTANT"]
)
def test_ends(drafter):
    """All of them, each in a fresh interpreter; several at a time, since most of it is the start
    of Python."""
    from concurrent.futures import ThreadPoolExecutor

    def end(name):
        programs.run(
            f"""
            import atexit, concurrent.futures

            class Late:
                def __del__(self):
                    try:
                        self.llm.complete("a", max_tokens=2)
                    except pillion.PillionError:
                        pass

            llm = opened(drafter={drafter}, n_ctx=1024, n_threads=3)
            half = stream(llm, 200)
            next(half)
            {ENDS[name]}
            """
        )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(end, ENDS))


@pytest.mark.parametrize(
    "during", ["a whole answer", "a stream", "a long prompt", "a drafted answer"]
)
def test_daemon_threads_inside_a_generation(during):
    works = {
        "a whole answer": "text(llm, 1500)",
        "a stream": "[None for _ in stream(llm, 1500)]",
        "a long prompt": "llm.context.sync(list(range(5, 200)) * 20), llm.reset()",
        "a drafted answer": "text(llm, 1500)",
    }
    drafter = "TINY_ASSISTANT" if during == "a drafted answer" else "None"
    programs.run(
        f"""
        llm = opened(n_ctx=4096, drafter={drafter}, n_threads=3)
        inside = threading.Event()

        def work():
            while True:
                inside.set()
                {works[during]}

        threading.Thread(target=work, daemon=True).start()
        inside.wait()
        while llm.context._n_rows == 0:
            time.sleep(0.001)
        """
    )


def test_daemon_threads_that_load():
    """Their progress is a call back into Python, which would find no interpreter."""
    programs.run(
        """
        begun = threading.Event()

        def report(done, total):
            begun.set()
            time.sleep(0.05)

        def work():
            while True:
                pillion.Model.open(TINY_TARGET, device="cpu", progress=report).close()

        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        begun.wait()
        """
    )


def test_daemon_threads_that_quantize(tmp_path):
    """And nothing is left of the file that was being written."""
    programs.run(
        """
        begun = threading.Event()

        def report(done, total):
            begun.set()
            time.sleep(0.05)

        out = sys.argv[1] + "/out.gguf"
        options = {"progress": report, "allow_requantize": True}
        quantize = lambda: pillion.quantize(TINY_TARGET, out, "Q4_0", **options)
        threading.Thread(target=quantize, daemon=True).start()
        begun.wait()
        """,
        tmp_path,
    )
    assert list(tmp_path.iterdir()) == []


def test_daemon_threads_that_log(tiny_target, tmp_path):
    import numpy as np

    from made_files import remade

    noisy = remade(
        tiny_target, tmp_path / "noisy.gguf", raw=[("nobody.knows.me", np.zeros(32, np.float32))]
    )
    programs.run(
        """
        import logging

        begun = threading.Event()

        class Slow(logging.Handler):
            def emit(self, record):
                begun.set()
                time.sleep(0.05)

        logging.getLogger("pillion").addHandler(Slow())

        def work():
            while True:
                pillion.Model.open(sys.argv[1], device="cpu").close()

        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        begun.wait()
        """,
        noisy,
    )


@pytest.mark.parametrize("times", [1, 5])
def test_ctrl_c_in_atexit(times):
    """It ends the handler that it comes in, as Python has it, and none of ours."""
    programs.run(
        """
        import atexit

        llm = opened(n_ctx=4096)
        prompt = list(range(5, 200)) * 20

        def work():
            try:
                while True:
                    llm.context.sync(prompt)
                    llm.reset()
            except KeyboardInterrupt:
                over.set()
            assert text(llm)

        def press():
            for _ in range(int(sys.argv[1])):
                while not over.is_set() and llm.context._n_rows == 0:
                    time.sleep(0.001)
                os.kill(os.getpid(), signal.SIGINT)
                over.wait()

        stop = signal.default_int_handler
        signal.signal(signal.SIGINT, lambda *_: over.is_set() or stop(2, None))
        over = threading.Event()
        threading.Thread(target=press, daemon=True).start()
        atexit.register(work)
        """,
        times,
    )


def test_no_thread_can_be_had(monkeypatch):
    """A call of the main thread runs without a worker then: Ctrl-C waits for its end."""
    programs.run(
        """
        llm = opened()
        wanted = text(llm)

        def refuses(*call):
            raise RuntimeError("can't start new thread")

        import _thread

        _thread.start_new_thread = refuses
        llm.reset()
        assert text(llm) == wanted
        with opened() as other:
            assert text(other) == wanted
        """
    )


SUBINTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

one = interpreters.create()
code = '''
try:
    import pillion
    from pillion.models import TINY_TARGET
    with pillion.LLM(TINY_TARGET, device="cpu", n_ctx=64, drafter=None) as llm:
        assert llm.complete("a", max_tokens=3)["usage"]["completion_tokens"] > 0
except ImportError as error:
    assert str(error)
'''
try:
    interpreters.run_string(one, code)
finally:
    interpreters.destroy(one)
llm = opened()
assert text(llm)
"""


def test_a_second_interpreter_in_the_process():
    """NumPy warns or refuses to be there; whatever it does, nothing of ours ends the process."""
    words = [sys.executable, "-W", "ignore", "-c", programs.program(SUBINTERPRETERS)]
    import subprocess

    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
