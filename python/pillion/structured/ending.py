"""Keeps the interpreter from ending while a thread is inside llguidance: Python ends its daemon
threads where they want the interpreter back, and tearing down Rust's frames there crashes."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Iterator

from .._locks import forks
from ..errors import Cancelled

_PATIENCE = 30.0  # seconds; the longest call takes a few
_LATE = 3.0  # seconds that a daemon thread waits for its end
_inside: dict[object, int] = {}  # calls under way, with the process they are of
_ended: dict[str, bool] = {}


@contextlib.contextmanager
def inside() -> Iterator[None]:
    """The body may call llguidance. Raises Cancelled once the interpreter ends."""
    call = object()
    _inside[call] = forks()
    try:
        if _ended:
            _inside.pop(call, None)
            _stop_here()
        yield
    finally:
        _inside.pop(call, None)


def _stop_here() -> None:
    """Ends a daemon thread silently with the interpreter, unless another exit handler waits for
    it."""
    until = time.monotonic() + _LATE
    while threading.current_thread().daemon and time.monotonic() < until:
        time.sleep(0.01)
    raise Cancelled("the interpreter is ending, so no grammar can be followed any more")


def _at_exit() -> None:
    """Lets no further call begin and waits for those under way."""
    _ended["now"] = True
    until = time.monotonic() + _PATIENCE
    while forks() in list(_inside.values()) and time.monotonic() < until:
        time.sleep(0.001)


atexit.register(_at_exit)
