"""`Serving`: the model behind the routes, and the life of a request.

A route reads the body (`fields`), prepares it in a thread (`prepare`), begins it (`begin`) and
sends the answers whole (`Answers.run`) or as a stream (`stream`). A client that leaves is noticed
at once, and its sequences are free before the next run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request as HttpRequest

from ..arguments import shown
from ..engine.engine import Engine
from ..engine.generation import Generation, Piece, TokenInfo
from ..errors import Cancelled, DeviceLostError, PillionError
from ..llm.llm import LLM
from ..llm.openai_format import Completion, Result
from . import sse
from .api_errors import ApiError, ClientGone, ErrorShapes, api_error, unavailable
from .metrics import ServerMetrics
from .preparing import Prepared, Terms, n_answers, takes_long
from .settings import ServerSettings

T = TypeVar("T")
_log = logging.getLogger("pillion.server")
_LOOK = 0.1  # seconds between two looks at a place in the queue


class Answers:
    """The answers to one request, under way. `completions` are in the order of their index."""

    def __init__(self, serving: Serving, prepared: Sequence[Prepared]) -> None:
        self._serving = serving
        self.why = ""
        """Why they were cancelled; "": they were not."""
        self.completions: list[Completion] = []
        self.generations: list[Generation] = []
        self._prompts = [one.prompt for one in prepared]
        try:
            for one in prepared:
                generation = serving.engine.submit(one.request)
                self.generations.append(generation)
                completion = one.make(generation)
                completion.index = one.index
                completion.head["model"] = serving.model_name
                if self.completions:
                    completion.head = self.completions[0].head
                self.completions.append(completion)
        except BaseException:
            self.close()
            raise

    @property
    def head(self) -> Result:
        """id, created and model of the answers."""
        return self.completions[0].head

    def cancel(self, why: str) -> None:
        """Stops them. Callers who wait get ClientGone or an ApiError."""
        unsent = why != "disconnect"  # who leaves just behind the last byte has all of it
        if not self.why and (unsent or any(one.state != "done" for one in self.generations)):
            self.why = why
            self._serving.metrics.cancelled(why)
        for one in self.generations:
            one.stop_soon(why)

    def close(self) -> None:
        """Notes that they are over, or that nobody wants them any more."""
        for one in self.generations:
            one.stop_soon("nobody waits for it")
        self._serving.running.discard(self)

    async def pieces(self, at: int) -> AsyncIterator[Piece]:
        """Pieces of one answer. Raises ClientGone, ApiError or what the engine raises."""
        try:
            async for piece in self.generations[at]:
                yield piece
            if self._serving.state == "failed":
                self._serving.state = "ready"
        except Cancelled as error:
            raise self._ended_by(error) from error

    def _ended_by(self, error: Cancelled) -> BaseException:
        if self.why in ("disconnect", "slow reader"):
            return ClientGone()
        if self.why == "shutdown":
            return self._serving.refusal("the server is shutting down", "shutting_down")
        return error

    async def run(self, http: HttpRequest) -> list[Result]:
        """Runs them to the end and returns the whole results. Raises ClientGone when the client
        leaves."""
        try:
            async with sse.watching(http.receive, lambda: self.cancel("disconnect")):
                together = [self._whole(at) for at in range(len(self.completions))]
                return await _all_of(together)
        finally:
            self.close()

    async def _whole(self, at: int) -> Result:
        tokens: list[TokenInfo] = []
        async for piece in self.pieces(at):
            tokens += piece.tokens
        return self.completions[at].whole_of(tokens)

    async def each(self, tells_place: bool = False) -> AsyncIterator[tuple[int, Any]]:
        """Pieces of all answers as they come, each with its answer; None: that answer has ended.
        tells_place: yields an int whenever the place in the queue has changed."""
        if len(self.completions) == 1 and not tells_place:
            async for piece in self.pieces(0):
                yield 0, piece
            yield 0, None
            return
        coming: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        tasks = [asyncio.create_task(self._pump(at, coming)) for at in range(len(self.completions))]
        if tells_place:
            tasks += [
                asyncio.create_task(self._places(at, coming)) for at in range(len(self.completions))
            ]
        try:
            left = len(self.completions)
            while left:
                at, found = await coming.get()
                if isinstance(found, Exception):
                    raise found
                left -= found is None
                yield at, found
        finally:
            await _end(tasks)

    async def _pump(self, at: int, coming: asyncio.Queue[tuple[int, Any]]) -> None:
        try:
            async for piece in self.pieces(at):
                coming.put_nowait((at, piece))
            coming.put_nowait((at, None))
        except Exception as error:
            coming.put_nowait((at, error))

    async def _places(self, at: int, coming: asyncio.Queue[tuple[int, Any]]) -> None:
        last = 0
        while (generation := self.generations[at]).state == "queued":
            if generation.place not in (0, last):
                last = generation.place
                coming.put_nowait((at, last))
            await asyncio.sleep(_LOOK)

    def usage(self) -> Result:
        """Usage of all answers together. A prompt counts once for all its answers."""
        counted: set[int] = set()
        total: Result = {}
        for one, prompt in zip(self.completions, self._prompts, strict=False):
            usage = one.usage()
            if prompt in counted:
                usage["prompt_tokens"] = 0
                usage["prompt_tokens_details"] = {"cached_tokens": 0}
            counted.add(prompt)
            total = _sum(total, usage)
        total["total_tokens"] = total["prompt_tokens"] + total["completion_tokens"]
        return total


class Serving:
    """One model, its engine, and the server's state: "loading", "ready", "draining", or "failed" if
    the load or the device failed."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.state = "loading"
        self.shapes = ErrorShapes()
        self.metrics = ServerMetrics()
        self.running: set[Answers] = set()
        self.started = int(time.time())
        self.drop: Callable[[Any], object] = lambda scope: None
        """Cuts a request's connection. The running server sets it."""
        self._llm: LLM | None = None
        self._preparing = 0  # requests whose prompts are made
        # Short chats have threads that nothing long can take.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="pillion-prepare")
        self._long = ThreadPoolExecutor(2, thread_name_prefix="pillion-long")

    # ---- life ----

    def take(self, llm: LLM) -> None:
        """Takes the loaded model."""
        self._llm = llm
        llm.engine.queue_limit = self.settings.queue_limit
        self.metrics.follow(llm.engine)
        self.state = "ready"

    def close(self) -> None:
        """Stops what still runs. The LLM stays open."""
        self.cancel_all("shutdown")
        for threads in (self._threads, self._long):
            threads.shutdown(wait=False, cancel_futures=True)

    def cancel_all(self, why: str) -> None:
        """Stops all answers."""
        for one in list(self.running):
            one.cancel(why)

    @property
    def llm(self) -> LLM:
        """The model. Raises a 503 if the server is not ready."""
        if self.state == "draining":
            raise self.refusal("the server is shutting down", "shutting_down")
        if self._llm is None:
            raise self.refusal("the model is still loading", "loading")
        return self._llm

    @property
    def max_body(self) -> int:
        """The most bytes of a request's body."""
        sees = self._llm is not None and bool(self._llm.media.towers.kinds)
        limits = self.settings
        return max(limits.max_body, limits.max_media_body) if sees else limits.max_body

    @property
    def engine(self) -> Engine:
        """The model's engine. Raises as `llm` does."""
        return self.llm.engine

    @property
    def model_name(self) -> str:
        """The model's id in the API."""
        if self.settings.alias:
            return self.settings.alias
        if self._llm is None:
            return ""
        name = os.path.basename(self._llm.model.path)
        return name[: -len(".gguf")] if name.endswith(".gguf") else name

    @property
    def slots(self) -> int:
        """Number of sequences that are written at a time."""
        return self.engine.parallel

    def slot_list(self) -> list[Result]:
        """What each slot is doing, in llama-server's words."""
        return [
            {
                "id": one.index,
                "n_ctx": one.n_ctx,
                "is_processing": one.state != "idle",
                "state": one.state,
                "n_prompt_tokens": one.prompt_tokens,
                "n_prompt_tokens_cache": one.cached_tokens,
                "n_decoded": one.tokens,
                "seconds": round(one.seconds, 3),
            }
            for one in self.engine.slots()
        ]

    def template_source(self) -> str:
        """Source of the chat template; "": there is none."""
        try:
            return self.llm._chat.template().source
        except PillionError:
            return ""

    def refusal(self, sentence: str, code: str) -> ApiError:
        """The 503 of a server that takes no requests now."""
        return unavailable(sentence, self.settings.retry_after, code)

    # ---- one request ----

    def terms(self, http: HttpRequest, salt: str = "") -> Terms:
        """Owner of the request, and its time limits."""
        owner = http.scope.get("pillion.owner", "")
        return Terms(
            owner=f"{owner}/{salt}" if salt else owner,
            low_priority=http.headers.get("x-pillion-priority", "").strip().lower() == "low",
            queue_timeout=self.settings.queue_timeout,
            total_timeout=self.settings.total_timeout,
        )

    async def in_thread(self, work: Callable[..., T], *arguments: Any, long: bool = True) -> T:
        """Runs slow work beside the event loop. long: it may take seconds."""
        threads = self._long if long else self._threads
        return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)

    async def prepare(
        self, work: Callable[..., list[Prepared]], fields: Mapping[str, Any], terms: Terms
    ) -> list[Prepared]:
        """Runs `prepared_chat`, `prepared_text` or the like in a thread."""
        n, limit = n_answers(fields), self.settings.max_choices
        if n > limit:
            raise ApiError(400, f"n and the prompts ask for {shown(n)} answers; at most {limit}")
        if self._preparing >= self.settings.queue_limit + self.slots + 1:
            raise self.refusal(f"{self._preparing} requests wait already", "queue_full")
        self._preparing += 1
        try:
            return await self.in_thread(work, self.llm, fields, terms, long=takes_long(fields))
        finally:
            self._preparing -= 1

    def begin(self, prepared: Sequence[Prepared]) -> Answers:
        """Submits the requests. Raises what `Engine.submit` raises."""
        _ = self.llm
        answers = Answers(self, prepared)
        self.running.add(answers)
        return answers

    def stream(
        self,
        http: HttpRequest,
        answers: Answers,
        events: AsyncIterator[bytes],
        on_error: Callable[[ApiError], bytes] | None = None,
        ping_event: bytes = sse.PING,
        headers: Mapping[str, str] | None = None,
    ) -> sse.EventStream:
        """A response that sends `events`, which read `answers`. on_error: makes the event of an
        error; None: its JSON as data."""
        path = http.url.path

        def told(error: BaseException) -> bytes:
            found = self.explained(error)
            return on_error(found) if on_error else sse.data(self.shapes.body(path, found))

        return sse.EventStream(
            events,
            leave=answers.cancel,
            done=answers.close,
            on_error=told,
            drop=lambda: self.drop(http.scope),
            ping=self.settings.ping,
            stuck=self.settings.writer_timeout,
            ping_event=ping_event,
            headers=headers,
        )

    def explained(self, error: BaseException) -> ApiError:
        """The error that a client gets for an exception. Logs faults of the server."""
        found = api_error(error, self.settings.retry_after)
        if isinstance(error, DeviceLostError) and self.state == "ready":
            self.state = "failed"  # until an answer comes to its end
        if found.status == 500:
            _log.error("a request failed", exc_info=error)
        return found


async def _all_of(coroutines: Sequence[Any]) -> list[Any]:
    """Their results; when one fails, the others end first."""
    tasks = [asyncio.create_task(one) for one in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await _end(tasks)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _sum(one: Result, other: Result) -> Result:
    """Numbers added, objects by key."""
    result = dict(one)
    for key, value in other.items():
        if isinstance(value, dict):
            result[key] = _sum(result.get(key, {}), value)
        else:
            result[key] = result.get(key, 0) + value
    return result
