"""Locks for one caller, and locks that a fork() doesn't leave locked.

A fork() copies one thread. A lock that another thread held stays locked in the child, and nobody is
there to unlock it. So everything here counts forks, and a child sees which callers were left
behind.
"""

from __future__ import annotations

import os
import threading

_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def forks() -> int:
    """Number of forks between the process that imported this module and the current one."""
    return _forks


class Caller:
    """One call of one thread. Make it before the `try` in whose `finally` it releases its lock."""

    __slots__ = ("forks", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.forks = _forks

    @property
    def is_here(self) -> bool:
        """False in a child, for a caller who was inside in its parent."""
        return self.forks == _forks


class TryLock:
    """A lock for one caller. Nobody waits for it.

    Acquiring it is one operation of a dict, so two threads can't both have it, and Ctrl-C comes
    before it or after it.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[str, Caller] = {}

    def acquire(self, caller: Caller) -> Caller:
        """Returns the caller who has it now: `caller`, or an earlier one."""
        return self._held.setdefault("by", caller)

    def release(self, caller: Caller) -> None:
        """Does nothing if another caller has it."""
        if "by" in self._held and self._held["by"] is caller:
            del self._held["by"]

    @property
    def holder(self) -> Caller | None:
        """The caller who has it; None: nobody."""
        return self._held.get("by")


class ForkLock:
    """A lock that is new in each process. The thread that has it may take it again: a signal
    handler may call in between."""

    __slots__ = ("_of_process",)

    def __init__(self) -> None:
        self._of_process = {_forks: threading.RLock()}

    def here(self) -> threading.RLock:
        """This process's lock, for `with`."""
        locks = self._of_process
        return locks.get(_forks) or locks.setdefault(_forks, threading.RLock())
