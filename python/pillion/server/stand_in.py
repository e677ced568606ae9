"""Until the Engine is there: the same face over today's one-at-a-time LLM."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ..errors import Busy, Cancelled, PillionError, UsageError
from ..generation import Generation, Piece
from ..llm import LLM
from ..sampling import Sampler, SamplingParams


class QueueFull(PillionError):
    code = 40
    retry_after = 5.0


@dataclass
class Request:
    prompt: list[int]
    sampling: SamplingParams
    max_tokens: Optional[int] = None
    stop: Sequence[str] = ()
    logprobs: Optional[int] = None
    draft: Any = None
    shown: Collection[int] = ()
    constraint: Any = None
    owner: str = ""
    low_priority: bool = False
    queue_timeout: Optional[float] = None
    total_timeout: Optional[float] = None
    stable: int = 0


class StandInGeneration:
    def __init__(self, inner: Generation) -> None:
        self._inner = inner
        self._pieces: queue.Queue[Any] = queue.Queue()
        self._wake: Optional[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = None
        self.state = "queued"
        self.place = 0
        self.why = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put(self, item: Any) -> None:
        self._pieces.put(item)
        wake = self._wake
        if wake is not None:
            wake[0].call_soon_threadsafe(wake[1].set)

    def cancel(self, why: str = "") -> None:
        self.why = self.why or why or "it was cancelled"
        self._inner._ended_by = self._inner._ended_by or self.why

    def close(self) -> None:
        self.cancel("it was closed")

    async def __aiter__(self) -> AsyncIterator[Piece]:
        event = asyncio.Event()
        self._wake = (asyncio.get_running_loop(), event)
        while True:
            event.clear()
            try:
                item = self._pieces.get_nowait()
            except queue.Empty:
                await event.wait()
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item


class StandInEngine:
    def __init__(self, llm: LLM, queue_limit: int = 64) -> None:
        self._llm = llm
        self._limit = queue_limit
        self._queue: queue.Queue[Optional[StandInGeneration]] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> StandInGeneration:
        if self._queue.qsize() >= self._limit:
            raise QueueFull(f"{self._limit} requests wait already")
        llm = self._llm
        if llm.pair is None and request.draft not in (None, 0, "auto"):
            raise UsageError(f"draft is {request.draft}, but there is no drafter: {llm._no_pair}")
        inner = self._patiently(lambda: Generation(
            llm.context,
            llm.tokenizer,
            Sampler(request.sampling),
            request.prompt,
            max_tokens=request.max_tokens,
            stop=request.stop,
            logprobs=request.logprobs,
            pair=llm.pair,
            n_draft=llm.draft if request.draft is None else request.draft,
            shown=request.shown,
        ))
        one = StandInGeneration(inner)
        self._queue.put(one)
        return one

    def _patiently(self, make: Any) -> Any:
        while True:
            try:
                return make()
            except Busy:
                time.sleep(0.001)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (one := self._queue.get()) is not None:
            one.state = "reading"
            try:
                if one.why:
                    raise Cancelled(one.why)
                for piece in one._inner:
                    one.state = "writing"
                    one.put(piece)
                one.put(None)
            except BaseException as error:
                one.put(error)
            one.state = "done"
