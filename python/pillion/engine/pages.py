"""The cache that the slots share: who gets in, and who makes room.

The full layers' pages are counted by the library. A request is admitted when its prompt and 1024
tokens of its text have room beside all others. Later texts may grow beyond that: then beginnings
that were kept are dropped, idle slots forget their texts, and the youngest request is parked. It
lets go of its pages and reads its text again later, so that no request fails for memory, and none
changes. On a device where reading again has other bits, it keeps a copy of its cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..pair import DRAFT_MAX
from .machine import Parts
from .prefixes import Prefixes
from .scheduler import READING, Entry, Turn
from .slot import Slot
from .stats import EngineStats
from .work import Work

RESERVE = 1024
"""Tokens of a text that must have room when its request is admitted."""


class Pages:
    """The pages of a group of slots. Only the engine's thread uses it."""

    def __init__(self, parts: Parts, slots: Sequence[Slot], prefixes: Prefixes) -> None:
        self._parts, self._slots, self._prefixes = parts, slots, prefixes

    @property
    def limited(self) -> bool:
        """Whether the slots share pages that may run out."""
        return self._parts.n_pages > 0

    def note(self, stats: EngineStats) -> None:
        """Writes into the counts what is used and free."""
        batch = self._parts.batch
        if self.limited and batch is not None:
            stats.pages, stats.page_size = self._parts.n_pages, self._parts.page_size
            stats.free_pages = batch.stats.free_pages

    def _of(self, n_tokens: int) -> int:
        return -(-n_tokens // self._parts.page_size)

    def needed(self, entry: Entry) -> int:
        """Pages of a request, as far as they must be there when it begins."""
        work: Work = entry.key
        n = len(work.prompt)
        to_come = min(len(work.assembler.tokens) + work.assembler.room, RESERVE)
        return self._of(max(n + to_come, n + len(work.assembler.tokens) + 1))

    def fits(self, entry: Entry, active: Iterable[Entry]) -> bool:
        """Whether a request may begin beside those that have slots."""
        others = list(active)
        if not self.limited or not others:
            return True
        taken = sum(self.needed(one) for one in others)
        return taken + self.needed(entry) <= self._parts.n_pages

    def missing(self, turn: Turn) -> int:
        """Pages that a turn needs and that are not free."""
        batch = self._parts.batch
        assert batch is not None
        needed = sum(self._grows(one, 1 + DRAFT_MAX) for one in turn.rounds)
        needed += sum(self._grows(one, rows) for one, rows in turn.reads)
        return needed - batch.stats.free_pages

    def _grows(self, entry: Entry, rows: int) -> int:
        work: Work = entry.key
        slot = self._slots[entry.slot or 0]
        if entry.state == READING:
            held = max(0, slot.text_length - entry.rows_left)
            rows = min(rows, entry.rows_left)
        else:
            held = len(work.prompt) + len(work.assembler.tokens) - 1
        # the page in which they begin may be shared: then it is copied
        return self._of(held + rows) - self._of(held) + slot.shares

    def forget_idle(self) -> bool:
        """Drops a beginning that was kept, or else empties the slot that nobody uses; the longest.
        Returns False if there is none."""
        if self._prefixes.forget_oldest():
            return True
        idle = [slot for slot in self._slots if slot.work is None and slot.length > 0]
        if not idle:
            return False
        longest = max(idle, key=lambda slot: slot.length)
        longest.context.clear()
        longest.shares = longest.has_shared = False
        return longest.length == 0
