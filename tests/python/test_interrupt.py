"""Ctrl-C during long calls: KeyboardInterrupt at once, and everything usable afterwards."""

import contextlib
import signal
import threading
import time

import pytest


# A press may hit a weakref callback of Python's own, where it is reported and lost; the test with three presses shows it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@contextlib.contextmanager
def ctrl_c(after, times=1):
    """Presses Ctrl-C after so many seconds; checks that KeyboardInterrupt comes soon."""
    main = threading.main_thread().ident

    def press():
        for _ in range(times):
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.005)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(after, press)
    timer.start()
    begin = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
        assert time.monotonic() - begin < after + 0.5
        timer.join()
    except KeyboardInterrupt:
        pass  # a second press that arrived after the first was handled
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("times", [1, 3])
def test_prefill(fake, strings, toy_file, times):
    with fake.Model.open(toy_file()) as model, model.context(4096) as context:
        context.prefill([97, 98])
        strings.slow(10_000)
        with ctrl_c(after=0.1, times=times):
            context.prefill([97] * 1000)
        strings.slow(0)
        assert context.tokens == [97, 98]
        context.decode(99)
        assert context.logits().argmax() == 100


def test_loading(fake, strings, toy_file):
    strings.slow(100_000)
    with ctrl_c(after=0.15):
        fake.Model.open(toy_file())
    assert strings.live == 0


def test_complete(fake, strings, toy_file):
    with fake.LLM(toy_file(), n_ctx=4096) as llm:
        strings.slow(10_000)
        with ctrl_c(after=0.1):
            llm.complete("x" * 2000)
        strings.slow(0)
        assert llm.complete("abc", max_tokens=2, temperature=0)["choices"][0]["text"] == "de"


def test_between_tokens(fake, strings, toy_file):
    with fake.LLM(toy_file(), n_ctx=4096) as llm:
        strings.slow(5_000)
        with ctrl_c(after=0.2):
            llm.complete("abc", max_tokens=1000)
        strings.slow(0)
        assert llm.complete("abc", max_tokens=2, temperature=0)["choices"][0]["text"] == "de"


def test_an_error_inside_the_worker_comes_out(fake, strings, toy_file):
    with fake.Model.open(toy_file()) as model, model.context(64) as context:
        with pytest.raises(fake.ContextFullError):
            context.prefill([97] * 65)
        strings.fail("pillion_context_eval", 23, "the device is gone")
        with pytest.raises(fake.DeviceLostError, match="gone"):
            context.prefill([97] * 64)
