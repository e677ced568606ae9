"""`TurnRunner`: runs the rounds and the prompt rows of a turn together, and delivers the texts.

An error, an end or a callback of one request concerns that request. What breaks the run off leaves
all others as before it, and they come again in the next turn.
"""

from __future__ import annotations

import abc
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import Busy
from .machine import Machine, Part, Solo
from .scheduler import Entry, Turn
from .slot import Slot
from .stats import EngineStats
from .work import Work

if TYPE_CHECKING:
    from .loop import Life


class Seat(NamedTuple):
    """One request in a turn."""

    entry: Entry
    slot: Slot
    work: Work
    part: Part


class TurnRunner(abc.ABC):
    """Runs turns. Who decides about requests that begin and fail is a subclass."""

    def __init__(
        self, life: Life, machine: Machine, slots: Sequence[Slot], stats: EngineStats
    ) -> None:
        self._life = life
        self._machine = machine
        self._slots = slots
        self._stats = stats
        self._outputs_most = slots[0].outputs_most
        self._abandoned = 0  # parts that were given up: each changed its context

    @abc.abstractmethod
    def _failed(self, entry: Entry, slot: Slot, error: BaseException) -> None:
        """Ends a request, or lets it come again."""

    @abc.abstractmethod
    def _begin(self, entry: Entry, slot: Slot, work: Work) -> None:
        """Lets a slot take a request in."""

    def run_turn(self, turn: Turn) -> None:
        """Runs a turn."""
        works = []
        try:
            for entry in (*turn.rounds, *(one for one, _ in turn.reads)):
                assert entry.slot is not None
                entry.key.inside = self._slots[entry.slot]
                works.append(entry.key)
            self._life.inside = works
            seats = self._seats(turn)
            if seats:
                self._run_seats(seats)
        finally:
            for work in works:
                work.inside = None
            self._life.inside = []

    def _seats(self, turn: Turn) -> list[Seat]:
        seats = []
        for entry, rows in (*((one, 0) for one in turn.rounds), *turn.reads):
            work: Work = entry.key
            slot = self._slots[entry.slot or 0]
            if work.ended:
                continue
            try:
                if rows and slot.work is not work:
                    self._begin(entry, slot, work)
                self._clean(slot)
                seats.append(Seat(entry, slot, work, slot.read(rows) if rows else slot.write()))
            except BaseException as error:
                self._failed(entry, slot, error)
        return seats

    def _clean(self, slot: Slot) -> None:
        """Gives up what could not be given up when somebody was inside."""
        if slot.unclean is not None:
            self._machine.abandon([slot.unclean])
            slot.unclean = None
            slot.again()

    def _run_seats(self, seats: list[Seat]) -> None:
        begin = time.perf_counter()
        left = seats
        try:
            self._machine.draft([one.part for one in left])
            left = self._going_on(left, lambda one: one.slot.plan(one.part))
            self._fit(left)
            if not left:
                return
            self._machine.run([one.part for one in left])
            stamp = self._stamp()
            left = self._going_on(left, lambda one: one.slot.choose(one.part))
            taking = [one.part for one in left if one.part.has_run]
            if taking and self._stamp() != stamp:
                raise Busy("another thread used a context of this engine in the middle of a round")
            if taking:
                self._machine.take(taking)
        except BaseException as error:
            self._broken(left, error)
            return
        seconds = time.perf_counter() - begin
        self._measured(left, seconds)
        self._going_on(left, lambda one: self._finish(one, seconds))

    def _stamp(self) -> int:
        """Changes when a context is used whose run would end the outputs of another one."""
        if isinstance(self._machine, Solo):
            return 0
        return sum(slot.context.changes for slot in self._slots) - self._abandoned

    def _going_on(self, seats: list[Seat], step: Callable[[Seat], None]) -> list[Seat]:
        """Those that go on after this step of each."""
        left = []
        for seat in seats:
            if seat.work.ended:
                self._drop(seat)
                continue
            try:
                if seat.part.error is not None:
                    raise seat.slot.explained(seat.part.error)
                step(seat)
                left.append(seat)
            except BaseException as error:
                self._drop(seat)
                self._failed(seat.entry, seat.slot, error)
        # a callback of one may have ended another
        ended = [seat for seat in left if seat.work.ended]
        for seat in ended:
            self._drop(seat)
        return [seat for seat in left if seat not in ended] if ended else left

    def _drop(self, seat: Seat) -> None:
        """Gives up a seat's part of the turn."""
        if seat.part.round is None or seat.part.has_run:
            self._abandon([seat])
        seat.part.error = None  # whose traceback has the seat
        seat.slot.give_up()

    def _abandon(self, seats: Sequence[Seat]) -> None:
        seats = [one for one in seats if not one.slot.context.closed]
        try:
            self._machine.abandon([one.part for one in seats])
            self._abandoned += len(seats)
        except Busy:
            for one in seats:
                one.slot.unclean = one.part
        except Exception:  # what is wrong with it, the next call says
            pass

    def _broken(self, seats: Sequence[Seat], error: BaseException) -> None:
        """The turn was broken off, and nothing of it happened."""
        found = [seat.slot.explained(error) for seat in seats]
        is_ours = [seat.slot.context.changes <= seat.part.changes for seat in seats]
        self._abandon(seats)
        for seat, why, ours in zip(seats, found, is_ours, strict=True):
            seat.slot.give_up()
            if ours:
                seat.slot.again()
            if not seat.work.ended:
                self._failed(seat.entry, seat.slot, why)

    def _fit(self, seats: Sequence[Seat]) -> None:
        """Shortens drafts that may be cut until the rows with outputs fit the run."""
        rows = sum(1 + (len(one.part.drafts) if one.part.prompt is None else 0) for one in seats)
        while rows > self._outputs_most:
            longest = max(seats, key=lambda one: len(one.part.drafts) - one.entry.width)
            part = longest.part
            if len(part.drafts) < longest.entry.width:
                return
            part.drafts.pop()
            if part.masks is not None:
                part.masks = part.masks[: len(part.drafts) + 1]
            rows -= 1

    def _measured(self, seats: Sequence[Seat], seconds: float) -> None:
        """Counts a run."""
        stats, parts = self._stats, [one.part for one in seats]
        n_rounds = sum(one.prompt is None for one in parts)
        rows = sum(one.ran for one in parts if one.prompt is not None)
        rows_written = sum(1 + len(one.drafts) for one in parts if one.prompt is None)
        stats.add_run(n_rounds, rows_written, rows, seconds)
        self._life.scheduler.measured(n_rounds, rows, seconds)

    def _finish(self, seat: Seat, seconds: float) -> None:
        """Tells everybody what came of a seat's part."""
        entry, slot, work, part = seat
        stats = self._stats
        if part.prompt is not None:
            slot.has_read(part, seconds)
            self._life.scheduler.has_read(entry, part.left, stuck=part.ran == 0)
            if part.left:
                return
            if work.first is None:
                stats.prompt_tokens_run += work.timings.prompt_n
                stats.prompt_tokens_cached += work.timings.cache_n
            work.state = "writing"
        before = len(work.assembler.tokens)
        pieces = slot.take(part, seconds if part.prompt is None else 0.0)
        now = time.monotonic()
        self._note(seat, len(work.assembler.tokens) - before, now)
        if pieces:
            work.deliver(pieces)
        if work.assembler.finish_reason is not None:
            work.inside = None
            stats.completed += 1  # before anybody hears of it
            stats.total.add(now - work.submitted)
            if not work.end():  # called off in its last turn
                stats.completed -= 1
                stats.total.add(now - work.submitted, -1)

    def _note(self, seat: Seat, n_new: int, now: float) -> None:
        work, stats = seat.work, self._stats
        stats.tokens += n_new
        if work.first is None:
            work.first = now
            stats.first_token.add(now - work.submitted)
        elif work.told is not None and n_new:
            stats.between_tokens.add((now - work.told) / n_new, n_new)
        if seat.slot.last_round is not None:
            stats.add_round(seat.slot.last_round)
        work.told = now


def forget_aims(life: Life) -> None:
    """Forgets cancels that are over: they can't hit the turn that begins now."""
    for aim in list(life.aims):
        if aim.over:
            with contextlib.suppress(KeyError):
                del life.aims[aim]
