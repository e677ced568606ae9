"""Ctrl-C during long calls: KeyboardInterrupt at once, and everything usable afterwards."""

import _thread
import contextlib
import signal
import threading
import time

import pytest

from patience import until

# A press may hit a weakref callback of Python's own, where it is reported and lost; the test with
# three presses shows it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@contextlib.contextmanager
def ctrl_c(strings, after, times=1):
    """Presses Ctrl-C when so many tokens (tenths of a load) have begun; KeyboardInterrupt comes
    within the next few."""
    main = threading.main_thread().ident
    strings.slow(50_000)
    begun = strings.begun + after

    def press():
        until(lambda: strings.begun >= begun)
        strings.slow(1_000_000)
        for _ in range(times):
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.005)
        pressed.append(True)

    # In place of join(): when a press ends that one early, Python 3.11 takes the thread for ended.
    pressed = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    presser = threading.Thread(target=press, daemon=True)
    presser.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
        assert strings.begun <= begun + 5
        until(lambda: pressed)
    except KeyboardInterrupt:
        pass  # a second press that arrived after the first was handled
    finally:
        while not pressed:
            with contextlib.suppress(KeyboardInterrupt):
                until(lambda: pressed)
        strings.slow(0)
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("times", [1, 3])
def test_prefill(fake, strings, toy_file, times):
    with fake.Model.open(toy_file()) as model, model.context(4096) as context:
        context.prefill([97, 98])
        with ctrl_c(strings, after=5, times=times):
            context.prefill([97] * 1000)
        assert context.tokens == [97, 98]
        context.decode(99)
        assert context.logits().argmax() == 100


def test_another_thread_takes_the_signal(fake, strings, toy_file, monkeypatch):
    """A process's signal goes to any of its threads; Python's handlers run in the main one, whose
    wait it does not end."""
    start, workers = _thread.start_new_thread, []

    def press():
        until(lambda: strings.begun > begun and workers)
        signal.pthread_kill(workers[0], signal.SIGINT)

    with fake.Model.open(toy_file()) as model, model.context(64) as context:
        strings.slow(1_000_000)
        begun = strings.begun
        presser = threading.Thread(target=press, daemon=True)
        presser.start()
        monkeypatch.setattr(_thread, "start_new_thread", lambda *call: workers.append(start(*call)))
        with pytest.raises(KeyboardInterrupt):
            context.prefill([97] * 60)
        presser.join()
        assert len(context) == 0 and strings.begun <= begun + 5


@pytest.mark.parametrize("is_late", [False, True])
def test_while_the_worker_starts(fake, strings, toy_file, monkeypatch, is_late):
    """A press comes before the thread is there, or when it is at work."""
    start = _thread.start_new_thread

    def pressed(*call):
        if is_late:
            start(*call)
            until(lambda: strings.begun > begun)
        raise KeyboardInterrupt

    with fake.Model.open(toy_file()) as model, model.context(64) as context:
        context.prefill([97, 98])
        begun = strings.begun
        strings.slow(1_000_000)
        monkeypatch.setattr(_thread, "start_new_thread", pressed)
        with pytest.raises(KeyboardInterrupt):
            context.prefill([97] * 60)
        monkeypatch.undo()
        assert context.tokens == [97, 98] and strings.begun <= begun + 3
        strings.slow(0)
        context.decode(99)
        assert context.logits().argmax() == 100


def test_loading(fake, strings, toy_file):
    with ctrl_c(strings, after=2):
        fake.Model.open(toy_file())
    assert strings.live == 0


def test_complete(fake, strings, toy_file):
    with fake.LLM(toy_file(), n_ctx=4096) as llm:
        with ctrl_c(strings, after=5):
            llm.complete("x" * 2000)
        assert llm.complete("abc", max_tokens=2, temperature=0)["choices"][0]["text"] == "de"


def test_between_tokens(fake, strings, toy_file):
    with fake.LLM(toy_file(), n_ctx=4096) as llm:
        with ctrl_c(strings, after=20):
            llm.complete("abc", max_tokens=1000)
        assert llm.complete("abc", max_tokens=2, temperature=0)["choices"][0]["text"] == "de"


def test_an_error_inside_the_worker_comes_out(fake, strings, toy_file):
    with fake.Model.open(toy_file()) as model, model.context(64) as context:
        with pytest.raises(fake.ContextFullError):
            context.prefill([97] * 65)
        strings.fail("pillion_context_eval", 23, "the device is gone")
        with pytest.raises(fake.DeviceLostError, match="gone"):
            context.prefill([97] * 64)
