"""`StopFilter`: passes text up to the first stop string, and never any part of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import wrong


class StopFilter:
    """Feed it text as it comes. It returns the text that certainly stands before any stop string.

    It holds back a suffix that could begin a stop string until the next text decides.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False
        """True once a stop string was seen; everything after it is dropped."""
        self.stop: str | None = None
        """That stop string; of several at the same place the first in the list."""

    def feed(self, text: str) -> str:
        """Returns the text that is certain now."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [(text.find(stop), stop) for stop in self._stops]
        found = [one for one in found if one[0] >= 0]
        if found:
            position, self.stop = min(found, key=lambda one: one[0])
            self.stopped = True
            self._held = ""
            return text[:position]
        keep = self._undecided(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Ends the text: what was held back was no stop string."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Length of the longest suffix that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0


def stop_strings(stop: Any) -> list[str]:
    """The strings of a `stop` argument as a list. Raises `UsageError` for an empty string and for
    other types."""
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if isinstance(stops, (bytes, Mapping)) or not isinstance(stops, (Sequence, set, frozenset)):
        wrong("stop", stop, "a string or a list of strings, none of them empty")
    if any(not isinstance(one, str) or not one for one in stops):
        wrong("stop", stop, "a string or a list of strings, none of them empty")
    return list(stops)
