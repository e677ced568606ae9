"""A deep stack for llguidance. Its compiler recurses for each rule that a rule leads to, and a
stack overflow there ends the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from .._locks import ForkLock
from ..errors import OutOfMemoryError

T = TypeVar("T")

_STACK = 512 << 20
"""Bytes: inputs.py lets 50,000 values or 100,000 characters in, which is at most 17,000 levels of
8 KB. Memory is used only as far as the calls go."""
_gate = ForkLock()  # threading.stack_size is the process's


def with_deep_stack(work: Callable[[], T]) -> T:
    """Runs `work` in a thread of its own; returns or raises what it does. Raises OutOfMemoryError
    if there is no such thread."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # llguidance's panics among them
            errors.append(error)

    thread = threading.Thread(target=body, name="pillion-grammar", daemon=True)
    with _gate.here():
        before = threading.stack_size(_STACK)
        try:
            thread.start()
        except RuntimeError as error:
            said = f"a thread with a stack of {_STACK >> 20} MB, which compiles grammars"
            raise OutOfMemoryError(f"{said}, cannot be had: {error}") from None
        finally:
            threading.stack_size(before)
    thread.join()
    if errors:
        raise errors.pop()
    return results.pop()
