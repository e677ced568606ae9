"""`Engine`: one thread writes the requests of any number of threads and tasks, on a few slots.

The scheduler (scheduler.py) decides whose turn it is, a slot (slot.py) does the work, and a work
(work.py) delivers the text. Only the engine's thread touches slots and scheduler. Other threads put
requests into an inbox and set flags. So nobody holds a lock during a run, and a signal handler, a
finalizer or a fork() may come at any moment.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._locks import forks
from ..arguments import check_int, check_mapping, check_number, check_text
from ..calling import checked_class
from ..errors import (
    Cancelled,
    Closed,
    ContextFullError,
    InternalError,
    QueueFull,
    UsageError,
)
from ..held import Held
from ..model import opened
from ..pair_stats import PairStats
from ..sampling import Sampler
from .assembler import TextAssembler
from .generation import Generation
from .loop import BUSY_WAIT, Aim, Job, Life, Loop
from .machine import PARALLEL_MAX, Parts
from .pages import Pages
from .scheduler import Entry, Scheduler
from .slot import SlotGroup
from .stats import EngineStats
from .waiting import sleep_until
from .work import Request, Work, check_request

_CANCEL_WAIT = 2.0
_IDLE = 0.1
"""Seconds that the thread of a fork's child waits for more work. A child that was forked in a
thread lives as long as its threads."""
_CLOSE_WAIT = 10.0
_LOOK = 0.5  # seconds between two looks whether it was closed
_FIRST_GUESS = 5.0  # seconds that a request takes, before any did
_FROM_INSIDE = (
    "a callback of an answer waits for another answer of the same engine, whose only thread runs "
    "the callback: ask another LLM, or ask before or behind the answer"
)


@dataclass(frozen=True)
class SlotState:
    """What a slot is doing."""

    index: int
    """Number of the slot, from 0."""
    state: str
    """ "idle", "reading" or "writing"."""
    n_ctx: int
    """Positions of its context."""
    prompt_tokens: int = 0
    """Tokens of the prompt."""
    cached_tokens: int = 0
    """Those of them that its context held already."""
    tokens: int = 0
    """Tokens written so far."""
    seconds: float = 0.0
    """Seconds since the request was submitted."""


@checked_class
class Engine(Held):
    """Writes what is submitted, on `parallel` slots that run together.

    model: a `Model`. sizes: arguments of each slot's `Context`. drafter, options: of its `Pair`.
    parallel: number of slots, 1 to 64. Several are the sequences of one `Batch`: a run reads the
    weights once for all of them.
    n_positions: positions of the cache that the slots share; see `Batch`.
    queue_limit: the most requests that may wait for a slot; None: any number.

    Its thread starts with the first request and ends with close() or with the engine.
    """

    def __init__(
        self,
        model: Any,
        *,
        sizes: dict[str, Any] | None = None,
        drafter: Any = None,
        options: dict[str, Any] | None = None,
        parallel: int = 1,
        n_positions: int | None = None,
        queue_limit: int | None = 64,
    ) -> None:
        if queue_limit is not None:
            queue_limit = check_int("queue_limit", queue_limit, 0)
        parallel = check_int("parallel", parallel, 1, PARALLEL_MAX)
        if n_positions is not None:
            n_positions = check_int("n_positions", n_positions, 1)
        of_contexts, of_pairs = _given("sizes", sizes), _given("options", options)
        parts = Parts(
            opened("model", model),
            of_contexts,
            drafter,
            of_pairs,
            parallel=parallel,
            n_positions=n_positions,
        )
        self._set_up(SlotGroup(parts), queue_limit)

    @classmethod
    def _on(cls, group: SlotGroup, queue_limit: int | None = None) -> Engine:
        """Makes an engine on existing slots, which it owns from now on."""
        engine = cls.__new__(cls)
        engine._set_up(group, queue_limit)
        return engine

    def _set_up(self, group: SlotGroup, queue_limit: int | None) -> None:
        self._group = group
        slots = self._slots = group.slots
        self._pages = Pages(group.parts, slots, group.prefixes)
        self.tokenizer = slots[0].context.model.tokenizer
        self.queue_limit = queue_limit
        """The most requests that may wait for a slot; None: any number. May be set at any time."""
        self.n_ctx = slots[0].context.n_ctx
        self._n_batch = slots[0].n_batch
        self._stats = EngineStats(slots=len(slots))
        self._pages.note(self._stats)
        self._lives = {forks(): self._new_life()}
        self._closed = False
        self._draining = False

    # ---- from any thread ----

    def submit(self, request: Request) -> Generation:
        """Takes a request. Its work begins as soon as a slot is free.

        Raises `UsageError` and `ContextFullError` for a request that can't be written, `QueueFull`
        if too many wait, `Closed` after close() and drain().
        """
        self._refuse_if_closed()
        work = self._work_of(request)
        life = self._here()
        entry = Entry(
            work,
            len(work.prompt),
            owner=request.owner,
            low=request.low_priority,
            queue_until=_later(work.submitted, request.queue_timeout),
            until=_later(work.submitted, request.total_timeout),
        )
        life.works[work] = entry
        taken = False
        try:
            self._refuse_if_full(life)
            work.place = max(0, len(life.works) - len(self._slots))
            generation = Generation(self, work)
            life.inbox.put(entry)
            taken = True
            self._start(life)
            self._refuse_if_closed()  # close() may not have seen it
        except BaseException:  # Ctrl-C among them
            why = "this generation cannot go on: its call was broken off"
            work.end(Cancelled(why), "cancelled", True)
            life.left.append(work) if taken else life.works.pop(work, None)
            raise
        return generation

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise Closed("this engine is closed")
        if self._draining:
            raise Closed("this engine takes no more requests: it finishes what it has")

    def _work_of(self, request: Request) -> Work:
        prompt = check_request(request, len(self.tokenizer))
        n, n_ctx = len(prompt), self.n_ctx
        if n == 0:
            raise UsageError("the prompt is empty and the model has no token to begin a text with")
        if n > n_ctx:
            said = f"the prompt has {n} tokens, but the context holds {n_ctx} (n_ctx)"
            raise ContextFullError(said)
        room = n_ctx - n
        limit = room if request.max_tokens is None else min(request.max_tokens, room)
        text = TextAssembler(self.tokenizer.stream(), request.stop, limit, request.shown)
        return Work(request, prompt, Sampler(request.sampling), text)

    def _refuse_if_full(self, life: Life) -> None:
        if self.queue_limit is None:
            return
        most = len(self._slots) + self.queue_limit
        if len(life.works) <= most or sum(not one.ended for one in list(life.works)) <= most:
            return  # those that were called off in the turn that is under way take no place
        self._stats.refused += 1
        mean = self._stats.total.mean or _FIRST_GUESS
        wait = mean * (self.queue_limit + 1) / len(self._slots)
        raise QueueFull(
            f"{self.queue_limit} requests wait already, which is the limit (queue_limit)",
            retry_after=min(max(wait, 1.0), 60.0),
        )

    def cancel(self, why: str = "it was cancelled") -> None:
        """Stops all requests that run or wait; they raise `Cancelled`. why: the reason in its
        sentence."""
        check_text("why", why)
        error = f"this generation cannot go on: {why}"
        self._stop_all(lambda: Cancelled(error), "cancelled")

    def _stop_all(self, error: Callable[[], BaseException], cause: str) -> None:
        works = list(self._here().works)
        for work in works:  # all, before the first one's run is waited for
            self._stop(work, error(), cause, wait=False, cancels=False)
        for work in works:
            self._stop(work, error(), cause, wait=True)

    def _stop_one(self, work: Work, why: str, cause: str = "cancelled", wait: bool = True) -> None:
        """Stops one request. wait: returns when its slot has left the library."""
        self._stop(work, Cancelled(f"this generation cannot go on: {why}"), cause, wait)

    def _stop(
        self, work: Work, error: BaseException, cause: str, wait: bool, cancels: bool = True
    ) -> None:
        if work.end(error, cause, cut=True):
            self._here().left.append(work)
        if not cancels:
            return
        # The library forgets a cancel that comes just before its call begins, so repeat it until
        # the run is over, unless others are in it, who go on. The engine's own thread has nothing
        # to wait for.
        until = time.monotonic() + (_CANCEL_WAIT if wait and not self._is_me() else 0)
        slot = work.inside
        if slot is None or work.forks != forks():
            return
        life = self._here()
        aim = Aim(life, slot)
        try:
            while work.inside is slot:
                if all(one.ended for one in life.inside):
                    aim.cancel()
                if time.monotonic() >= until:
                    return
                time.sleep(0.001)
        finally:
            aim.over = True

    def forget(self) -> None:
        """Empties all contexts. The contexts of requests under way are emptied when these are
        over."""

        def body() -> None:
            for slot in self._slots:
                if slot.work is not None:
                    slot.forget = True
                else:
                    slot.context.clear()
                    slot.owner = ""
            self._group.prefixes.forget()

        self._do(body)

    def _do(self, body: Callable[[], None]) -> None:
        """Runs `body` in the engine's thread, if there is one, else here."""
        life = self._here()
        if "by" not in life.running or self._is_me():
            return body()
        job = Job(body)
        life.inbox.put(job)
        self._start(life)  # it may have gone meanwhile
        while not sleep_until(lambda: job.over, job.waiters, time.monotonic() + _LOOK):
            if self._closed or life is not self._here():
                raise Closed("this engine is closed")
        if job.error is not None:
            raise job.error

    def between_turns(self, body: Callable[[], None]) -> None:
        """Runs `body` between two turns of requests, so that nothing else runs beside it.
        Without an engine's thread it runs here and now. Raises what the work raises, and
        `Closed`."""
        self._refuse_if_closed()
        self._do(body)

    def drain(self, timeout: float | None = None) -> bool:
        """Takes no more requests and waits for those it has. Returns False if some are left after
        `timeout` seconds."""
        if timeout is not None:
            timeout = check_number("timeout", timeout, 0, None, "seconds, 0 or more, or None")
        if self._is_me():
            raise UsageError(_FROM_INSIDE)
        self._draining = True
        until = None if timeout is None else time.monotonic() + timeout
        return all(
            sleep_until(lambda work=work: work.over, work.enders, until)  # type: ignore[misc]
            for work in list(self._here().works)
        )

    def stats(self) -> EngineStats:
        """Returns a copy of the engine's counts."""
        found = self._stats.copy()
        states = [work.state for work in list(self._here().works)]
        found.queued, found.reading, found.writing = (
            states.count(state) for state in ("queued", "reading", "writing")
        )
        return found

    def speculation(self) -> PairStats:
        """What the drafters of all slots did so far. Without a drafter the state is "off", and
        `reason` tells why. Any thread may ask."""
        first, *others = (slot.speculation() for slot in self._slots)
        return sum(others, first)

    def slots(self) -> list[SlotState]:
        """What each slot is doing."""
        works = {entry.slot: work for work, entry in list(self._here().works.items())}
        return [self._state_of(slot.index, works.get(slot.index)) for slot in self._slots]

    def _state_of(self, index: int, work: Work | None) -> SlotState:
        if work is None:
            return SlotState(index, "idle", self.n_ctx)
        since = time.monotonic() - work.submitted
        n, tokens = len(work.request.prompt), len(work.assembler.tokens)
        return SlotState(index, work.state, self.n_ctx, n, work.timings.cache_n, tokens, since)

    # ---- life ----

    def close(self) -> None:
        """Stops all requests, which raise `Closed`, and frees the contexts. Closing twice is
        fine."""
        if self._closed:
            return
        self._closed = True
        life = self._here()
        self._stop_all(lambda: Closed("this engine was closed"), "closed")
        life.inbox.put(None)
        thread = life.running.get("by")
        if thread is not None and not self._is_me():
            thread.join(_CLOSE_WAIT)
        self._group.close()

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self._closed

    @property
    def parallel(self) -> int:
        """Number of requests that it writes at the same time."""
        return len(self._slots)

    @property
    def why_in_turn(self) -> str:
        """Why slots run one after another, not in one run; "": they don't, or there is one."""
        return self._group.parts.why_in_turn

    @property
    def paired(self) -> bool:
        """True if the slots have a drafter."""
        return self._slots[0].drafts

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        n = len(self._slots)
        slots = f"{n} slot" if n == 1 else f"{n} slots"
        return f"<pillion.Engine {slots}{' (closed)' if self.closed else ''}>"

    def __del__(self) -> None:
        life = getattr(self, "_lives", {}).get(forks())
        if life is not None:
            life.inbox.put(None)

    def _new_life(self) -> Life:
        return Life(self._new_scheduler())

    def _new_scheduler(self) -> Scheduler:
        first = self._slots[0]
        return Scheduler(
            len(self._slots), self._n_batch, first.outputs_most, reads_apart=first.reads_apart
        )

    def _here(self) -> Life:
        """The engine's life in this process. What was under way before a fork() stays with the
        parent."""
        lives = self._lives
        return lives.get(forks()) or lives.setdefault(forks(), self._new_life())

    def _is_me(self) -> bool:
        thread = self._here().running.get("by")
        return thread is not None and thread.ident == threading.get_ident()

    def _start(self, life: Life) -> bool:
        """Starts the thread. Of several that are started at once, all but one leave again."""
        if sys.is_finalizing():
            return False
        if "by" in life.running:
            return True
        arguments = (weakref.ref(self), life)
        name = "pillion-engine"
        try:
            threading.Thread(target=_main, args=arguments, name=name, daemon=True).start()
        except RuntimeError:  # the interpreter is about to end, or the system's limit
            return False
        return True

    def _help(self, work: Work) -> None:
        """Works in the thread of a caller who waits, if the engine can't have a thread. Raises
        `UsageError` if the engine's own thread would wait for itself."""
        if not work.over and self._is_me():
            raise UsageError(_FROM_INSIDE)
        life = self._here()
        me = threading.current_thread()
        while not (work.over or self._start(life)):
            if sys.is_finalizing():
                life.running["by"] = me  # its thread will not come back from where it is
            elif life.running.setdefault("by", me) is not me:
                time.sleep(BUSY_WAIT)  # another one who waits does it
                continue
            try:
                while not work.over:
                    self._serve(life, None if life.inbox.empty() else life.inbox.get())
            finally:
                del life.running["by"]

    # ---- the engine's own thread ----

    def _serve(self, life: Life, first: Any) -> None:
        """Works until nothing is left."""
        try:
            group = self._group
            Loop(life, group, self._stats, self._pages).work(first)
        except BaseException as error:  # a fault here must not leave anybody waiting
            for work in list(life.works):
                if work.end(InternalError(f"the engine failed: {error}")):
                    early = self._stats.ended_early
                    early["error"] = early.get("error", 0) + 1
                life.works.pop(work, None)
            life.scheduler = self._new_scheduler()
            raise


def _main(reference: weakref.ref[Engine], life: Life) -> None:
    """The engine's thread. It holds no engine while it waits, so that an unused engine can go."""
    me = threading.current_thread()
    while life.running.setdefault("by", me) is me:
        try:
            first = life.inbox.get(timeout=_IDLE if life.forks else None)
        except queue.Empty:
            del life.running["by"]
            if life.inbox.empty():
                return  # the next request starts another one
            continue
        engine = reference()
        if first is None or engine is None:
            return
        with contextlib.suppress(Exception):  # its requests have it
            engine._serve(life, first)
        del first, engine


def _given(name: str, arguments: Any) -> dict[str, Any]:
    return dict(check_mapping(name, {} if arguments is None else arguments))


def _later(now: float, seconds: float | None) -> float | None:
    return None if seconds is None else now + seconds
