"""The engine's thread: takes requests in, runs slots, and delivers the results.

Only this thread touches slots and scheduler.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .._locks import forks
from ..errors import Busy, Cancelled, Closed, TimedOut
from .pages import Pages
from .scheduler import READING, ROWS_MIN, Entry, Scheduler, Turn, best_slot
from .slot import Moved, Slot, SlotGroup
from .stats import EngineStats
from .turn import TurnRunner, forget_aims
from .waiting import wake_all
from .work import Work

BUSY_WAIT = 0.002  # seconds, when somebody else is inside all contexts that could run


class Job:
    """Other work for the engine's thread, done between two turns."""

    def __init__(self, body: Callable[[], None]) -> None:
        self.body = body
        self.over = False
        self.error: BaseException | None = None
        self.waiters: deque[Any] = deque()


class Aim:
    """A cancel of a slot's context that is meant for one request, as long as it is repeated.

    The library cancels a run, whoever is in it. A request whose run was broken off looks here
    whether the cancel was meant for another one.
    """

    def __init__(self, life: Life, slot: Slot) -> None:
        self.slot = slot
        self.over = False
        life.aims[self] = True

    def cancel(self) -> None:
        """Stops what runs on the slot, if anything does."""
        with contextlib.suppress(Closed, Busy):
            self.slot.context.cancel()


class Life:
    """An engine in one process. A fork() gives the child a life of its own."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.forks = forks()
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.scheduler = scheduler
        self.works: dict[Work, Entry] = {}
        """All submitted requests that are not over."""
        self.running: dict[str, threading.Thread] = {}  # "by": the engine's thread, once it runs
        self.arrived = False
        self.blocked: dict[Entry, float] = {}  # until when: somebody else is inside their contexts
        self.left: deque[Work] = deque()  # called off since the engine looked last
        self.inside: list[Work] = []
        """Requests of the run that is under way."""
        self.aims: dict[Aim, bool] = {}  # in place of a set, whose copy is not one step


class Loop(TurnRunner):
    """The work of the engine's thread, from the first request until nothing is left."""

    def __init__(
        self,
        life: Life,
        group: SlotGroup,
        stats: EngineStats,
        pages: Pages,
    ) -> None:
        super().__init__(life, group.machine, group.slots, stats)
        self._pages, self._prefixes = pages, group.prefixes
        self._queue_moved = False

    def work(self, first: Any) -> None:
        """Works until nothing is left. first: what came in, if anything."""
        if not self._life.arrived:
            self._life.arrived = True
            for slot in self._slots:
                slot.leave()  # what the parent of this process does
        if first is not None:
            self._take_in(first)
        scheduler = self._life.scheduler
        while True:
            while not self._life.inbox.empty():
                one = self._life.inbox.get()
                if one is None:
                    self._life.inbox.put(None)  # for the loop around this
                    break
                self._take_in(one)
            while self._life.left:
                self._over(self._life.left.popleft())
            if scheduler.is_timed:
                self._end_late_ones()
            if scheduler.waiting:
                self._admit()
                self._tell_places()
            elif not scheduler.busy:
                return
            turn = scheduler.next(self._life.blocked)
            while turn is not None and not self._has_room(turn):
                turn = scheduler.next(self._life.blocked)  # of those who are left
            if turn is not None:
                self._run(turn)
            elif self._life.blocked:
                time.sleep(BUSY_WAIT)
            if self._life.blocked:
                now = time.monotonic()
                blocked = self._life.blocked.items()
                self._life.blocked = {one: end for one, end in blocked if end > now}

    def _take_in(self, one: Any) -> None:
        if isinstance(one, Job):
            try:
                one.body()
            except BaseException as error:  # sys.exit() among them: who waits raises it
                one.error = error
            one.over = True
            wake_all(one.waiters)
            return
        self._stats.requests += 1
        if one.key.ended:  # on its way here
            return
        self._life.scheduler.add(one)
        self._queue_moved = True

    def _end_late_ones(self) -> None:
        for entry, which in self._life.scheduler.expired(time.monotonic()):
            self._end_early(entry.key, TimedOut(_too_late(entry.key, which)), "timeout")
            self._over(entry.key)

    def _end_early(self, work: Work, error: BaseException, cause: str) -> None:
        """Ends a request. Counts it before anybody can see it."""
        self._count(cause, 1)
        work.counted = True
        if not work.end(error, cause):
            work.counted = False
            self._count(cause, -1)

    def _count(self, cause: str, n: int) -> None:
        early = self._stats.ended_early
        early[cause] = early.get(cause, 0) + n
        if early[cause] == 0:
            del early[cause]

    def _over(self, work: Work) -> None:
        """Forgets a request that has ended."""
        entry = self._life.works.get(work)
        if entry is None:
            return
        was_waiting = entry.slot is None
        if work.cause and not work.counted:  # before anybody finds the slot idle
            self._count(work.cause, 1)
        self._life.scheduler.remove(entry)
        self._life.works.pop(work, None)
        self._life.blocked.pop(entry, None)
        if entry.slot is not None:
            slot = self._slots[entry.slot]
            with contextlib.suppress(Exception):
                slot.end()
        work.sampler = None
        if work.request.media is not None:
            work.request.media.release()
        self._queue_moved = self._queue_moved or was_waiting

    def _admit(self) -> None:
        scheduler = self._life.scheduler
        pages = self._pages
        admitted = scheduler.admit(
            self._choose,
            lambda one: pages.fits(one, scheduler.active),
            lambda one: pages.limited and self._is_read(one),
        )
        for entry in admitted:
            work: Work = entry.key
            assert entry.slot is not None
            slot = self._slots[entry.slot]
            if work.admitted is None:
                work.admitted = time.monotonic()
                self._stats.queue.add(work.admitted - work.submitted)
            work.state, work.place = "reading", 0
            try:
                self._begin(entry, slot, work)
            except BaseException as error:
                self._failed(entry, slot, error)
                if work.ended:
                    self._over(work)
        self._queue_moved = self._queue_moved or bool(admitted)

    def _begin(self, entry: Entry, slot: Slot, work: Work) -> None:
        slot.mend()
        if len(self._slots) > 1:
            self._share(slot, work)
        entry.rows_left = slot.begin(work)
        entry.width = slot.width

    def _is_read(self, entry: Entry) -> bool:
        """Whether the same prompt of the same owner is being read: it can be shared then."""
        prompt = entry.key.prompt
        return len(prompt) > ROWS_MIN and any(
            one.state == READING
            and one.owner == entry.owner
            and len(one.key.prompt) == len(prompt)
            and bool((one.key.prompt == prompt).all())
            for one in self._life.scheduler.active
        )

    def _share(self, slot: Slot, work: Work) -> None:
        """Adopts the beginning of another slot's text, or one that was kept, where that saves more
        than the slot's own. Those of other owners are not looked at."""
        owner = work.request.owner
        best, source = slot.match(work.prompt, owner)[0], None
        for other in self._slots:
            if other is slot or other.forget or not other.shared(owner):
                continue
            try:
                usable = other.match(work.prompt, owner)[0]
            except Exception:  # it needs mending
                continue
            if usable >= best + ROWS_MIN:
                best, source = usable, other
        self._prefixes.learn(source or slot, work.prompt, owner)
        usable, prefix = self._prefixes.best(work.prompt, owner)
        if prefix is not None and usable >= best + ROWS_MIN:
            self._prefixes.used(prefix)
            slot.share(prefix, usable, owner)
            self._stats.shared += 1
        elif source is not None:
            slot.share(source, best, owner)
            self._stats.shared += 1

    def _has_room(self, turn: Turn) -> bool:
        """False: somebody was parked, so the next turn is another one."""
        try:
            return self._park(turn)
        except Busy:  # again when he has left
            time.sleep(BUSY_WAIT)
            return False

    def _park(self, turn: Turn) -> bool:
        """Makes room for a turn. Returns False if its requests are others now."""
        if not self._pages.limited:
            return True
        while self._pages.missing(turn) > 0:
            if self._pages.forget_idle():
                continue
            active = self._life.scheduler.active
            if len(active) < 2:
                return True  # the cache holds a whole context
            youngest = max(active, key=lambda one: one.order)
            slot, work = self._slots[youngest.slot or 0], youngest.key
            slot.park()
            work.state = "queued"
            self._life.scheduler.park(youngest)
            self._stats.parked += 1
            self._queue_moved = True
            return False
        return True

    def _choose(self, entry: Entry, free: Sequence[int]) -> int:
        """The free slot that holds most of the prompt."""
        work: Work = entry.key
        found = []
        for index in free:
            try:
                saved, lost = self._slots[index].match(work.prompt, work.request.owner)
            except Exception:  # somebody is inside it, or it needs mending
                saved, lost = 0, 0
            found.append((index, saved, lost))
        return best_slot(found)

    def _tell_places(self) -> None:
        if self._queue_moved:
            self._queue_moved = False
            for place, entry in enumerate(self._life.scheduler.queue(), 1):
                entry.key.place = place

    def _run(self, turn: Turn) -> None:
        forget_aims(self._life)
        self.run_turn(turn)
        with contextlib.suppress(Busy, Closed):
            self._pages.note(self._stats)
        for entry in (*turn.rounds, *(one for one, _ in turn.reads)):
            if entry.key.ended:
                self._over(entry.key)

    def _failed(self, entry: Entry, slot: Slot, error: BaseException) -> None:
        """Ends the request that failed, and nothing else."""
        work: Work = entry.key
        if isinstance(error, Busy):  # somebody is inside the context: again when he has left
            self._life.blocked[entry] = time.monotonic() + BUSY_WAIT
        elif not self._missed(work, error):
            self._end_early(work, error, "cancelled" if isinstance(error, Cancelled) else "error")

    def _missed(self, work: Work, error: BaseException) -> bool:
        """True if its run was broken off by a cancel that was meant for a request that had just
        left. A request that is cancelled itself has ended before its cancel comes."""
        if work.ended or not isinstance(error, Cancelled) or isinstance(error, Moved):
            return False
        return bool(self._life.aims)


def _too_late(work: Work, which: str) -> str:
    request = work.request
    if which == "queue":
        said = f"the request waited {request.queue_timeout} s for its turn"
        return f"{said}, which is its limit (queue_timeout)"
    return f"the request took {request.total_timeout} s, which is its limit (total_timeout)"
