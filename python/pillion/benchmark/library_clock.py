"""Times the calls of the C library, to tell Python's share of a round."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from types import BuiltinFunctionType, ModuleType
from typing import Any

from .. import _native
from .timeline import Call, Interval, Outside, outside_library


class LibraryClock:
    """Between `with` and its end, notes when each thread is inside the library. A call costs one
    or two microseconds more. One clock at a time.

    A call ends when its thread is back in Python, so a wait for the interpreter's lock counts as
    the library's.

    apart: a class whose public methods count as the library too, such as a simulation that no real
    text has.
    """

    _lib = _native.lib

    def __init__(self, apart: type | None = None) -> None:
        self._apart = apart
        self._own: dict[str, Any] = {}  # its methods
        # By thread; the fields of `Call` as plain tuples, which are quicker.
        self._calls: dict[int, list[tuple[float, float, float, float]]] = defaultdict(list)

    def __enter__(self) -> LibraryClock:
        for module in _modules_with(self._lib):
            vars(module)["lib"] = self
        for name, method in vars(self._apart).items() if self._apart else ():
            if callable(method) and not name.startswith("_"):
                self._own[name] = method
        for name, method in self._own.items():
            setattr(self._apart, name, self._timed(method))
        return self

    def __exit__(self, *_: object) -> None:
        for module in _modules_with(self):
            vars(module)["lib"] = self._lib
        for name, method in self._own.items():
            setattr(self._apart, name, method)
        self._own.clear()

    def __getattr__(self, name: str) -> Any:
        """In place of the library's function or constant."""
        found = getattr(self._lib, name)
        if isinstance(found, BuiltinFunctionType):
            found = self._timed(found)
        setattr(self, name, found)  # the next time it is there
        return found

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        now, used, me, calls = time.perf_counter, time.thread_time, threading.get_ident, self._calls

        def call(*arguments: Any) -> Any:
            begin, used_before = now(), used()
            try:
                return function(*arguments)
            finally:
                mine = calls[me()]
                while mine and mine[-1][0] >= begin:
                    mine.pop()  # a call inside this one
                mine.append((begin, now(), used_before, used()))

        return call

    def outside(self, window: Interval) -> Outside:
        """The part of the window (of time.perf_counter()) that the engine's thread, which is the
        one that was inside most, spent outside the library."""
        found = [
            outside_library([Call(*one) for one in calls], window)
            for calls in list(self._calls.values())
        ]
        return min(found, default=Outside(window[1] - window[0], 0.0))

    def forget(self) -> None:
        """Drops what was noted so far."""
        self._calls.clear()


def _modules_with(library: Any) -> list[ModuleType]:
    """The package's modules whose `lib` it is."""
    package = __name__.partition(".")[0]
    return [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == package and vars(module).get("lib") is library
    ]
