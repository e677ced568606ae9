"""How a thread or an asyncio task waits for another thread's results.

Waiters stand in a deque. Its operations are atomic, so nobody holds a lock: a signal handler, a
finalizer or a child of fork() may come between any two of them.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .._locks import forks

_LOOK = 0.05  # seconds; a signal may end the wait of another thread, and Python's handlers run here


class Sleeper:
    """A thread that waits."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Wakes it once."""
        self._lock.release()

    def sleep(self, until: float | None) -> bool:
        """Returns True when it was woken, False at time.monotonic() `until` (None: no limit) and in
        a child of a fork() that a signal handler made."""
        begun_after = forks()
        is_main = threading.get_ident() == threading.main_thread().ident
        while True:
            left = -1.0 if until is None else until - time.monotonic()
            if until is not None and left <= 0:
                return False
            part = left if not is_main else _LOOK if left < 0 else min(left, _LOOK)
            if self._lock.acquire(True, min(part, threading.TIMEOUT_MAX)):
                return True
            if forks() != begun_after:
                return False


class Task:
    """An asyncio task that waits."""

    __slots__ = ("future", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()


def wake_all(waiters: deque[Any]) -> None:
    """Wakes all waiters; the tasks of one loop in one call."""
    loops: dict[Any, list[Any]] = {}
    while waiters:
        try:
            one = waiters.popleft()
        except IndexError:  # another thread wakes them too
            break
        if isinstance(one, Sleeper):
            one.wake()
        else:
            loops.setdefault(one.loop, []).append(one.future)
    for loop, futures in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_resolve, futures)


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def sleep_until(
    ready: Callable[[], object], waiters: deque[Any], until: float | None = None
) -> bool:
    """Waits until `ready()`. Sleeps in a deque for which `wake_all` is called when `ready` may have
    become true.

    Returns False when the time is over, and in a child of a fork() that came meanwhile.
    """
    begun_after = forks()
    while not ready():
        sleeper = Sleeper()
        waiters.append(sleeper)
        if ready():
            return True  # it is woken for nothing, later
        if not sleeper.sleep(until):
            with contextlib.suppress(ValueError, IndexError, RuntimeError):
                waiters.remove(sleeper)
            return bool(ready())
        if forks() != begun_after:
            return False
    return True


async def wait_until(ready: Callable[[], object], waiters: deque[Any]) -> None:
    """`sleep_until` for a task."""
    while not ready():
        task = Task()
        waiters.append(task)
        if ready():
            return
        await task.future
