"""`Generation`: the caller's handle of one answer.

The engine's thread writes the answer, whether or not anybody asks for its pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from .._locks import forks
from ..arguments import check_number, check_text
from ..calling import checked_class
from ..errors import Cancelled, TimedOut
from ..held import Held
from ..pair import PairStats
from ..sampling import SamplingParams
from .assembler import Piece, TokenInfo
from .waiting import sleep_until, wait_until
from .work import Timings, Work

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Generation", "Piece", "Timings", "TokenInfo"]

_LEFT_BEHIND = "its work went on in the parent of this process, not here"


@checked_class
class Generation(Held):
    """One answer. Iterate for pieces of text (`for` or `async for`), wait for the end (`result()`
    or `await`), or read `text`, `tokens`, `state` and `timings`, which are current at any moment.

    Any thread may use it; each piece goes to one taker. Leaving it early (break, close(), dropping
    the object) ends the work. So does Ctrl-C, or asyncio's cancel, in the caller who waits.
    """

    def __init__(self, engine: Engine, work: Work) -> None:
        self._engine = engine
        self._work = work

    # ---- how it stands ----

    @property
    def prompt(self) -> list[int]:
        """Token ids of the prompt."""
        return self._work.request.prompt

    @property
    def sampling(self) -> SamplingParams:
        """How its tokens are chosen."""
        return self._work.request.sampling

    @property
    def text(self) -> str:
        """The text so far."""
        return self._work.assembler.text

    @property
    def tokens(self) -> list[int]:
        """Ids of the generated tokens so far, without the one that ends the text."""
        return self._work.assembler.tokens

    @property
    def finish_reason(self) -> str | None:
        """None until the end. Then "stop" (the model, a stop string or the demanded form ended the
        text) or "length" (max_tokens or the context did)."""
        return self._work.assembler.finish_reason

    @property
    def stop(self) -> str | None:
        """The stop string that ended the text; None: something else did."""
        return self._work.assembler.stop

    @property
    def timings(self) -> Timings:
        """Counts and times so far."""
        return self._work.timings

    @property
    def speculation(self) -> PairStats:
        """What the drafter did for this answer. Without a drafter the state is "off", and `reason`
        tells why."""
        return self._work.speculation

    @property
    def paired(self) -> bool:
        """True if there is a drafter."""
        return self._engine.paired

    @property
    def state(self) -> str:
        """ "queued", "reading" (its prompt), "writing", or "done"."""
        return self._work.state

    @property
    def place(self) -> int:
        """Its place in the queue, from 1; 0: it no longer waits."""
        return self._work.place

    @property
    def prompt_scores(self) -> list[float] | None:
        """log p of each prompt token but the first, float [n - 1], if the request asked for them.
        Available with the first piece."""
        return self._work.prompt_scores

    # ---- threads ----

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        """Returns the next piece that has text. The last piece may have none: it carries the tokens
        that are left."""
        while True:
            piece = self._taken()
            if piece is not None:
                return piece
            if self._is_over():
                raise StopIteration
            self._wait(lambda: self._work.pieces or self._work.over, self._work.readers)

    def result(self, timeout: float | None = None) -> Generation:
        """Waits for the end. Raises what ended the work.

        timeout: seconds after which it raises `TimedOut`; the work goes on.
        """
        if timeout is not None:
            timeout = check_number("timeout", timeout, 0, None, "seconds, 0 or more, or None")
        self._wait(lambda: self._work.over, self._work.enders, timeout)
        return self._checked()

    def _checked(self) -> Generation:
        if self._work.over:
            self._work.raise_error()
        else:
            self._is_over()
        return self

    run = result
    """`result`."""

    def infos(self) -> list[TokenInfo]:
        """Waits for the end. Returns all tokens of the pieces that nobody took."""
        self.result()
        return self._rest()

    def _rest(self) -> list[TokenInfo]:
        found: list[TokenInfo] = []
        while True:
            piece = self._taken()
            if piece is None:
                return found
            found += piece.tokens

    # ---- asyncio ----

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        """As `__next__`. Cancelling the task that waits here ends the work."""
        while True:
            piece = self._taken()
            if piece is not None:
                return piece
            if self._is_over():
                raise StopAsyncIteration
            await self._await(lambda: self._work.pieces or self._work.over, self._work.readers)

    def __await__(self) -> Generator[Any, None, Generation]:
        """As `result`."""
        return self._ended().__await__()

    async def _ended(self) -> Generation:
        await self._await(lambda: self._work.over, self._work.enders)
        return self._checked()

    # ---- ends ----

    def cancel(self, why: str = "") -> None:
        """Stops the answer, from any thread: in the queue, in the prompt or in a round. Callers who
        wait get `Cancelled`. Returns when its slot has left the library. why: the reason in their
        sentence."""
        self._engine._stop_one(self._work, check_text("why", why) or "it was cancelled")

    def close(self) -> None:
        """Stops the answer and its work."""
        self._engine._stop_one(self._work, "it was closed")

    def stop_soon(self, why: str) -> None:
        """As `cancel`, without waiting for the slot. why: the reason in the callers' sentence."""
        self._engine._stop_one(self._work, check_text("why", why), wait=False)

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        work = getattr(self, "_work", None)
        if work is None:
            return
        work.drop()
        if not work.ended:
            with contextlib.suppress(Exception):  # the interpreter may be about to end
                self._engine._stop_one(work, "nobody has it any more", "dropped", wait=False)

    def __repr__(self) -> str:
        return f"<pillion.Generation {self.state}, {len(self.tokens)} tokens>"

    # ---- waiting ----

    def _taken(self) -> Piece | None:
        """Takes a piece that is ready."""
        work = self._work
        if work.cut and work.over:
            work.pieces.clear()
            return None
        try:
            return work.pieces.popleft()
        except IndexError:
            return None

    def _is_over(self) -> bool:
        """True if nothing more will come. Raises what ended the work, unless that was the text's
        own end."""
        work = self._work
        if work.over:
            if work.pieces and not work.cut:
                return False  # it came between two looks
            work.raise_error()
            return True
        if work.forks != forks():
            raise Cancelled(f"this generation cannot go on: {_LEFT_BEHIND}")
        return False

    def _wait(
        self, ready: Callable[[], object], waiters: deque[Any], timeout: float | None = None
    ) -> None:
        try:
            self._engine._help(self._work)
            until = None if timeout is None else time.monotonic() + timeout
            is_ready = sleep_until(ready, waiters, until)
        except BaseException:  # Ctrl-C: what nobody waits for need not be written
            self._engine._stop_one(self._work, "the wait for it was interrupted")
            raise
        if not is_ready and self._work.forks == forks():
            raise TimedOut(f"the answer is not complete after {timeout} s; it goes on")

    async def _await(self, ready: Callable[[], object], waiters: deque[Any]) -> None:
        try:
            self._engine._help(self._work)
            await wait_until(ready, waiters)
        except asyncio.CancelledError:
            self._engine._stop_one(self._work, "its task was cancelled", wait=False)
            raise
