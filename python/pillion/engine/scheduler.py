"""Decides which request gets a slot, and whose turn it is: the engine's policy.

It has no thread, no clock and no model. Times come in as numbers, so that the same calls give the
same answers. The engine acts on what it returns.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

QUEUED, READING, WRITING = "queued", "reading", "writing"

TARGET = 0.150
"""The most seconds between two rounds of a text beside which a prompt is read, unless rounds take
longer."""
ROUNDS = 2.5
"""The same in rounds of all that write."""
ROWS_MIN = 16
_WEIGHT = 0.3  # of a new measurement


class Entry:
    """One request.

    key: whatever the caller knows it by. owner: see `Request`. queue_until, until: when its wait,
    and all of it, must be over; None: never.
    """

    __slots__ = (
        "key", "last", "low", "order", "owner", "queue_until", "rows_left", "seconds", "slot",
        "state", "until",
    )  # fmt: skip

    def __init__(
        self,
        key: Any,
        rows: int,
        *,
        owner: str = "",
        low: bool = False,
        queue_until: float | None = None,
        until: float | None = None,
    ) -> None:
        self.key = key
        self.rows_left = rows
        """Prompt tokens to read, as far as is known."""
        self.owner = owner
        self.low = low
        self.queue_until = queue_until
        self.until = until
        self.state = QUEUED
        self.slot: int | None = None
        self.order = 0
        self.last = 0  # number of its last turn
        self.seconds: float | None = None  # of a round


class Turn(NamedTuple):
    """What to do next."""

    entry: Entry
    rows: int
    """The most prompt tokens to read; 0: run a round."""


class ReadingCost:
    """Estimates the time to read a number of rows, from measurements."""

    def __init__(self, n_batch: int) -> None:
        self.sizes = [ROWS_MIN]
        while self.sizes[-1] * 2 <= n_batch:
            self.sizes.append(self.sizes[-1] * 2)
        if self.sizes[-1] < n_batch:
            self.sizes.append(n_batch)
        self._seconds: dict[int, float] = {}

    def measured(self, rows: int, seconds: float) -> None:
        """Notes that a run of so many rows took so many seconds."""
        size = next((one for one in self.sizes if rows <= one), self.sizes[-1])
        if 2 * rows < size:
            return  # the rest of a prompt: it says little about a full run
        scaled = seconds * max(1.0, size / rows)
        before = self._seconds.get(size)
        self._seconds[size] = scaled if before is None else before + _WEIGHT * (scaled - before)

    def of(self, size: int) -> float | None:
        """Seconds for that many rows. A size without a measurement costs as much per row as the
        next smaller measured size, or else as the next larger one."""
        if size in self._seconds:
            return self._seconds[size]
        known = [one for one in self.sizes if one in self._seconds]
        if not known:
            return None
        near = max((one for one in known if one < size), default=known[0])
        return self._seconds[near] * size / near

    def most(self, seconds: float) -> int:
        """Rows of the largest run that takes at most so many seconds; the smallest run if none
        does."""
        best = self.sizes[0]
        for size in self.sizes:
            cost = self.of(size)
            if cost is None:
                return min(self.sizes[-1], 2 * ROWS_MIN)  # the first run tells
            if cost <= seconds:
                best = size
        return best


class Scheduler:
    """A queue, slots, and turns.

    A slot serves one entry from its admission to its end. All entries that write take turns of one
    round. Beside them prompts are read in parts, one part a turn, as long as the latency target
    allows. The parts go to the oldest and to the shortest prompt in turn: a short question passes a
    document, and the document never stops. If nobody writes, parts have n_batch rows.
    """

    def __init__(self, n_slots: int, n_batch: int) -> None:
        self.is_timed = False
        """True if `expired` may ever return something."""
        self._free = set(range(n_slots))
        self._used_at = [0] * n_slots
        self._waiting: list[Entry] = []  # in order of arrival
        self._active: list[Entry] = []
        self._served: dict[str, int] = {}  # when an owner last got a slot
        self._orders = itertools.count(1)
        self._turns = itertools.count(1)
        self._read_last = 0
        self._shortest_next = False
        self._n_batch = n_batch
        self.cost = ReadingCost(n_batch)

    # ---- the queue ----

    @property
    def busy(self) -> bool:
        """True if there is anything to do or to wait for."""
        return bool(self._waiting or self._active)

    @property
    def waiting(self) -> Sequence[Entry]:
        """Entries that wait for a slot."""
        return self._waiting

    @property
    def active(self) -> Sequence[Entry]:
        """Entries that have a slot."""
        return self._active

    def add(self, entry: Entry) -> None:
        """Adds an entry to the queue."""
        entry.order = next(self._orders)
        self._waiting.append(entry)
        self.is_timed = self.is_timed or not (entry.until is entry.queue_until is None)

    def remove(self, entry: Entry) -> None:
        """Removes an entry that is over and frees its slot."""
        if entry in self._waiting:
            self._waiting.remove(entry)
        elif entry in self._active:
            self._active.remove(entry)
            assert entry.slot is not None
            self._free.add(entry.slot)
            self._used_at[entry.slot] = next(self._orders)
        if not self.busy:
            self.is_timed = False
            self._served.clear()
        elif not any(entry.owner == one.owner for one in (*self._waiting, *self._active)):
            self._served.pop(entry.owner, None)  # owners may be many

    def queue(self) -> list[Entry]:
        """Waiting entries, in the order in which they get slots if no other entry comes."""
        by_owner: dict[tuple[bool, str], deque[Entry]] = {}
        for entry in self._waiting:
            by_owner.setdefault((entry.low, entry.owner), deque()).append(entry)
        served = dict(self._served)
        clock = max(served.values(), default=0)
        ordered: list[Entry] = []
        for low in (False, True):
            lines = {owner: line for (is_low, owner), line in by_owner.items() if is_low == low}
            turns = [(served.get(one, 0), line[0].order, one) for one, line in lines.items()]
            heapq.heapify(turns)
            while turns:
                _, _, owner = heapq.heappop(turns)
                line = lines[owner]
                ordered.append(line.popleft())
                clock += 1
                served[owner] = clock
                if line:
                    heapq.heappush(turns, (clock, line[0].order, owner))
        return ordered

    def admit(self, choose: Callable[[Entry, Sequence[int]], int]) -> list[Entry]:
        """Gives the free slots away and returns the entries that got one, with `slot` set. choose:
        picks one of the free slots (longest unused first) for an entry."""
        if not self._waiting or not self._free:
            return []
        admitted = []
        for entry in self.queue()[: len(self._free)]:
            free = sorted(self._free, key=lambda slot: (self._used_at[slot], slot))
            entry.slot = choose(entry, free) if len(free) > 1 else free[0]
            entry.state, entry.last = READING, next(self._turns)
            self._free.remove(entry.slot)
            self._waiting.remove(entry)
            self._active.append(entry)
            self._served[entry.owner] = next(self._orders)
            admitted.append(entry)
        return admitted

    def expired(self, now: float) -> list[tuple[Entry, str]]:
        """Entries whose time is over, each with "queue" or "total"."""
        over = [(one, "queue") for one in self._waiting if _past(one.queue_until, now)]
        late = (one for one in (*self._waiting, *self._active) if _past(one.until, now))
        known = {one for one, _ in over}
        return over + [(one, "total") for one in late if one not in known]

    # ---- turns ----

    def next(self, without: Collection[Entry] = ()) -> Turn | None:
        """Whose turn it is. without: entries that can't run now."""
        if len(self._active) == 1 and not without and self._active[0].state == WRITING:
            return Turn(self._active[0], 0)
        writing = [one for one in self._active if one.state == WRITING and one not in without]
        reading = [one for one in self._active if one.state == READING and one not in without]
        writer = min(writing, key=lambda one: (one.last, one.order), default=None)
        if reading and (writer is None or self._read_last < writer.last):
            self._read_last = next(self._turns)
            rows = self._rows(writing) if writing else self._n_batch
            return Turn(self._reader(reading), rows)
        if writer is None:
            return None
        writer.last = next(self._turns)
        return Turn(writer, 0)

    def _reader(self, reading: Sequence[Entry]) -> Entry:
        self._shortest_next, shortest = not self._shortest_next, self._shortest_next
        if shortest:
            return min(reading, key=lambda one: (one.rows_left, one.order))
        return min(reading, key=lambda one: one.order)

    def _rows(self, writing: Iterable[Entry]) -> int:
        """Rows of a part that is read beside entries that write."""
        rounds = sum(one.seconds or 0.0 for one in writing)
        return self.cost.most(max(TARGET, ROUNDS * rounds) - rounds)

    def has_read(self, entry: Entry, rows: int, rows_left: int, seconds: float) -> None:
        """Notes that a part of the entry's prompt ran. With nothing left the entry writes from now
        on."""
        entry.rows_left = rows_left
        self.cost.measured(max(rows, 1), seconds)
        if rows_left <= 0:
            entry.state, entry.last = WRITING, next(self._turns)

    def has_written(self, entry: Entry, seconds: float) -> None:
        """Notes that the entry's round ran."""
        before = entry.seconds
        entry.seconds = seconds if before is None else before + _WEIGHT * (seconds - before)


def best_slot(found: Sequence[tuple[int, int, int]]) -> int:
    """The best of (slot, tokens that it saves the prompt, other tokens that it would lose), longest
    unused first: the slot that saves most. Lost tokens may have been of use, so they count half."""
    return max(found, key=lambda one: one[1] - one[2] / 2)[0]


def _past(time: float | None, now: float) -> bool:
    return time is not None and now >= time and not math.isinf(time)
