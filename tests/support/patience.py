"""Waiting for what a test needs, not for a time: a machine that is busy with something else makes a
test slower, never red.

Bounds on time are written in PATIENCE, and what they tell from (a hang, a call that was not cut
short) takes longer than that."""

import contextlib
import threading
import time

PATIENCE = 60  # seconds for which a machine may be busy with something else


def until(condition, patience=PATIENCE):
    """Returns when `condition()` is true; fails after `patience` seconds."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"not within {patience} s"
        time.sleep(0.001)


def in_thread(work):
    """Runs it in a thread; returns the thread and a list that gets the result or the exception."""
    outcome = []

    def body():
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread, outcome


def signals(pid, which):
    """A mask of /proc/PID/status: SigBlk, ShdPnd, ..."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith(which + ":"))


@contextlib.contextmanager
def over_and_over(action, pause=0.002):
    """Does it in a thread while the body runs: a cancel that comes before its call has begun is not
    the last one."""
    over = threading.Event()

    def body():
        while not over.wait(pause):
            action()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def within(seconds=PATIENCE):
    """The body takes less than so many seconds."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds
