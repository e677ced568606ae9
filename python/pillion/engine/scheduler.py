"""Decides which request gets a slot, and whose turn it is: the engine's policy.

It has no thread, no clock and no model. Times come in as numbers, so that the same calls give the
same answers. The engine acts on what it returns.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
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
        "key", "last", "low", "order", "owner", "parked", "queue_until", "rows_left", "slot",
        "state", "stuck", "until", "width",
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
        self.parked = False
        """It has had a slot, and waits for another one."""
        self.stuck = False
        """Its prompt has an image that is read in one run, which had no room for it."""
        self.width = 1
        """Rows of its round that can't be cut: its token and the drafts of a fixed length."""


class Turn(NamedTuple):
    """What runs next, all of it together."""

    rounds: list[Entry]
    """Entries that write."""
    reads: list[tuple[Entry, int]]
    """Entries with the most prompt tokens of each to read."""


class RowCost:
    """Estimates how much longer a turn takes for a number of prompt rows, from measurements."""

    def __init__(self, n_batch: int) -> None:
        self.sizes = [ROWS_MIN]
        while self.sizes[-1] * 2 <= n_batch:
            self.sizes.append(self.sizes[-1] * 2)
        if self.sizes[-1] < n_batch:
            self.sizes.append(n_batch)
        self._seconds: dict[int, float] = {}

    def measured(self, rows: int, seconds: float) -> None:
        """Notes that so many rows took so many seconds."""
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
        """The most rows, in sixteens, that take at most so many seconds; 16 if none do. Never more
        than twice what was tried: one measurement may be wrong."""
        if not self._seconds:
            return min(self.sizes[-1], 2 * ROWS_MIN)  # the first run tells
        tried = 2 * max(self._seconds)
        costs = [(size, self.of(size) or 0.0) for size in self.sizes if size <= tried]
        fitting = [at for at, (_, cost) in enumerate(costs) if cost <= seconds]
        if not fitting:
            return self.sizes[0]
        size, cost = costs[fitting[-1]]
        if fitting[-1] + 1 == len(costs):
            return size
        larger, more = costs[fitting[-1] + 1]
        part = (seconds - cost) / max(more - cost, 1e-9)
        return size + int(part * (larger - size)) // ROWS_MIN * ROWS_MIN


class RoundCost:
    """The time of a turn without prompts, by its number of rounds."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def measured(self, n: int, seconds: float) -> None:
        """Notes that n rounds took so many seconds."""
        before = self._seconds.get(n)
        self._seconds[n] = seconds if before is None else before + _WEIGHT * (seconds - before)

    def of(self, n: int) -> float | None:
        """Seconds of n rounds; for a number that was not tried those of the nearest one."""
        if not self._seconds:
            return None
        return self._seconds[min(self._seconds, key=lambda one: (abs(one - n), one))]


class Scheduler:
    """A queue, slots, and turns.

    A slot serves one entry from its admission to its end. A turn has a round of all entries that
    write; if they have more rows than outputs_most, of those that waited longest. Beside them it
    has rows of prompts, as many as the latency target allows: half for the oldest prompt, half for
    the shortest. So a short question passes a document, and the document never stops. If nobody
    writes, a turn reads n_batch rows.

    reads_apart: a turn has rounds or prompts, never both; they take turns.
    """

    def __init__(
        self, n_slots: int, n_batch: int, outputs_most: int = 128, *, reads_apart: bool = False
    ) -> None:
        self.is_timed = False
        """True if `expired` may ever return something."""
        self._free = set(range(n_slots))
        self._used_at = [0] * n_slots
        self._waiting: list[Entry] = []  # in order of arrival
        self._active: list[Entry] = []
        self._served: dict[str, int] = {}  # when an owner last got a slot
        self._orders = itertools.count(1)
        self._turns = itertools.count(1)
        self._shortest_next = False
        self._reads_apart, self._reads_next = reads_apart, False
        self._n_batch = n_batch
        self._outputs_most = outputs_most
        self.rows_cost = RowCost(n_batch)
        self.rounds_cost = RoundCost()

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

    def park(self, entry: Entry) -> None:
        """Takes an entry's slot away. It comes first when there is room again."""
        assert entry.slot is not None
        self._active.remove(entry)
        self._free.add(entry.slot)
        self._used_at[entry.slot] = next(self._orders)
        entry.slot, entry.state, entry.parked = None, QUEUED, True
        self._waiting.append(entry)

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
        parked = sorted((one for one in self._waiting if one.parked), key=lambda one: one.order)
        for entry in self._waiting:
            if entry.parked:
                continue
            by_owner.setdefault((entry.low, entry.owner), deque()).append(entry)
        served = dict(self._served)
        clock = max(served.values(), default=0)
        ordered: list[Entry] = parked
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

    def admit(
        self,
        choose: Callable[[Entry, Sequence[int]], int],
        fits: Callable[[Entry], bool] = lambda entry: True,
        waits: Callable[[Entry], bool] = lambda entry: False,
    ) -> list[Entry]:
        """Gives the free slots away and returns the entries that got one, with `slot` set. choose:
        picks one of the free slots (longest unused first) for an entry. fits: whether there is
        memory for it now; if not, it and those behind it wait. waits: whether it is better off
        later; those behind it go first."""
        if not self._waiting or not self._free:
            return []
        admitted = []
        for entry in self.queue():
            if not self._free or not fits(entry):
                break
            if waits(entry):
                continue
            free = sorted(self._free, key=lambda slot: (self._used_at[slot], slot))
            entry.slot = choose(entry, free) if len(free) > 1 else free[0]
            entry.state, entry.last = READING, next(self._turns)
            self._free.remove(entry.slot)
            self._waiting.remove(entry)
            self._active.append(entry)
            self._served[entry.owner] = next(self._orders)
            entry.parked = False
            admitted.append(entry)
        return admitted

    def expired(self, now: float) -> list[tuple[Entry, str]]:
        """Entries whose time is over, each with "queue" or "total"."""
        waiting = (one for one in self._waiting if not one.parked)
        over = [(one, "queue") for one in waiting if _past(one.queue_until, now)]
        late = (one for one in (*self._waiting, *self._active) if _past(one.until, now))
        known = {one for one, _ in over}
        return over + [(one, "total") for one in late if one not in known]

    # ---- turns ----

    def next(self, without: Collection[Entry] = ()) -> Turn | None:
        """What runs next. without: entries that can't run now."""
        active = [one for one in self._active if one not in without] if without else self._active
        reading = [one for one in active if one.state == READING]
        writing = [one for one in active if one.state == WRITING]
        for entry in reading:
            if entry.stuck and writing:
                entry.stuck = False
                return Turn([], [(entry, self._n_batch)])
        if self._reads_apart and reading and writing:
            self._reads_next = not self._reads_next
            if self._reads_next:
                rows = self._rows(len(writing)) or ROWS_MIN
                return Turn([], self._shares(reading, rows)[: self._outputs_most])
            reading = []
        if len(writing) > 1:
            writing.sort(key=lambda one: (one.last, one.order))
        room = self._outputs_most - (1 if reading else 0)
        rounds: list[Entry] = []
        for entry in writing:
            if rounds and entry.width > room:
                break
            rounds.append(entry)
            room -= entry.width
        for entry in rounds:
            entry.last = next(self._turns)
        reads: list[tuple[Entry, int]] = []
        if reading:
            rows = self._rows(len(rounds))
            reads = self._shares(reading, rows)[: max(room + 1, 1)] if rows else []
        return Turn(rounds, reads) if rounds or reads else None

    def _rows(self, n_rounds: int) -> int:
        """Prompt rows of a turn with so many rounds."""
        if n_rounds == 0:
            return self._n_batch
        seconds = self.rounds_cost.of(n_rounds)
        if seconds is None:
            return 0  # this turn tells what rounds take
        return self.rows_cost.most(max(TARGET, ROUNDS * seconds) - seconds)

    def _shares(self, reading: Sequence[Entry], rows: int) -> list[tuple[Entry, int]]:
        """Who reads how many of these rows."""
        oldest = min(reading, key=lambda one: one.order)
        if len(reading) == 1:
            return [(oldest, rows)]
        shortest = min(reading, key=lambda one: (one.rows_left, one.order))
        if shortest is not oldest and rows < 2 * ROWS_MIN:
            self._shortest_next, is_shortest = not self._shortest_next, self._shortest_next
            return [(shortest if is_shortest else oldest, rows)]
        given: dict[Entry, int] = {}
        others = sorted(
            (one for one in reading if one not in (oldest, shortest)), key=lambda one: one.order
        )
        half = rows if shortest is oldest else rows // 2
        halves = [(shortest, half), (oldest, rows), *((one, rows) for one in others)]
        for entry, most in halves:
            n = min(most, max(entry.rows_left, 1), rows - sum(given.values()))
            if n > 0 and entry not in given:
                given[entry] = n
        left = rows - sum(given.values())
        given[shortest] += left  # what is left of a prompt is only known when it is read
        return list(given.items())

    def measured(self, n_rounds: int, rows: int, seconds: float) -> None:
        """Notes what a turn took."""
        if rows == 0:
            self.rounds_cost.measured(n_rounds, seconds)
        elif n_rounds:
            alone = self.rounds_cost.of(n_rounds) or 0.0
            self.rows_cost.measured(rows, max(seconds - alone, 1e-6))

    def has_read(self, entry: Entry, rows_left: int, stuck: bool = False) -> None:
        """Notes that a part of the entry's prompt ran. With nothing left the entry writes from now
        on. stuck: none of it fitted beside the others; it has its next turn alone."""
        entry.rows_left, entry.stuck = rows_left, stuck
        if rows_left <= 0:
            entry.state, entry.last = WRITING, next(self._turns)


def best_slot(found: Sequence[tuple[int, int, int]]) -> int:
    """The best of (slot, tokens that it saves the prompt, other tokens that it would lose), longest
    unused first: the slot that saves most. Lost tokens may have been of use, so they count half."""
    return max(found, key=lambda one: one[1] - one[2] / 2)[0]


def _past(time: float | None, now: float) -> bool:
    return time is not None and now >= time and not math.isinf(time)
