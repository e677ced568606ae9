"""`Generation`: the handle of one answer in the making.

The engine's thread writes the answer, whether or not anybody asks for its pieces.

What is not here: how prompts are made (llm.py, chat.py), how tokens become text (assembler.py), who
does the work (engine.py), and how results look (openai_format.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Optional

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
    """Iterate for pieces of text (`for` or `async for`), wait for the end (`result()` or `await`),
    or look at `text`, `tokens`, `state` and `timings`, which tell how far it is at any moment.

    Any thread may use it; each piece goes to one taker. Leaving it early (break, close(), dropping
    the object) ends the work, and so does Ctrl-C or asyncio's cancel in whoever waits for it.
    """

    def __init__(self, engine: Engine, work: Work) -> None:
        self._engine = engine
        self._work = work

    # ---- how it stands ----

    @property
    def prompt(self) -> list[int]:
        """Its token ids."""
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
    def finish_reason(self) -> Optional[str]:
        """None until the end, then "stop" (the model, a stop string or the demanded form ended it)
        or "length" (max_tokens or the context)."""
        return self._work.assembler.finish_reason

    @property
    def stop(self) -> Optional[str]:
        """The stop string that ended it; None when something else did."""
        return self._work.assembler.stop

    @property
    def timings(self) -> Timings:
        return self._work.timings

    @property
    def speculation(self) -> PairStats:
        """What the drafter did for this answer; without one, the state is "off" and `reason` says
        why."""
        return self._work.speculation

    @property
    def paired(self) -> bool:
        """Whether a drafter is there."""
        return self._engine.paired

    @property
    def state(self) -> str:
        """ "queued", "reading" (its prompt), "writing", or "done"."""
        return self._work.state

    @property
    def place(self) -> int:
        """Its place in the queue, from 1 on; 0 when it waits no more."""
        return self._work.place

    @property
    def prompt_scores(self) -> Optional[list[float]]:
        """log p of each prompt token but the first, where the request asked for them; there with
        the first piece."""
        return self._work.prompt_scores

    # ---- threads ----

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        """The next piece that has text. The last one may have none: it brings the tokens that are
        left."""
        while True:
            piece = self._taken()
            if piece is not None:
                return piece
            if self._is_over():
                raise StopIteration
            self._wait(lambda: self._work.pieces or self._work.over, self._work.readers)

    def result(self, timeout: Optional[float] = None) -> Generation:
        """Waits for the end, and raises what went wrong.

        timeout: `TimedOut` after so many seconds; the work goes on.
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

    def infos(self) -> list[TokenInfo]:
        """Waits for the end; all tokens of the pieces that nobody took."""
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
        """As __next__. A cancel of the task that waits here ends the work."""
        while True:
            piece = self._taken()
            if piece is not None:
                return piece
            if self._is_over():
                raise StopAsyncIteration
            await self._await(lambda: self._work.pieces or self._work.over, self._work.readers)

    def __await__(self) -> Generator[Any, None, Generation]:
        """As result()."""
        return self._ended().__await__()

    async def _ended(self) -> Generation:
        await self._await(lambda: self._work.over, self._work.enders)
        return self._checked()

    # ---- ends ----

    def cancel(self, why: str = "") -> None:
        """Stops it, from any thread, in the queue, in the prompt or in a round; whoever waits for
        it gets `Cancelled`. Returns when its slot has left the library."""
        self._engine.stop(self._work, check_text("why", why) or "it was cancelled")

    def close(self) -> None:
        """Ends it here, and the work with it."""
        self._engine.stop(self._work, "it was closed")

    def stop_soon(self, why: str) -> None:
        """As cancel(), without waiting for the slot."""
        self._engine.stop(self._work, check_text("why", why), wait=False)

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
                self._engine.stop(work, "nobody has it any more", "dropped", wait=False)

    def __repr__(self) -> str:
        return f"<pillion.Generation {self.state}, {len(self.tokens)} tokens>"

    # ---- waiting ----

    def _taken(self) -> Optional[Piece]:
        """A piece that is there."""
        work = self._work
        if work.cut and work.over:
            work.pieces.clear()
            return None
        try:
            return work.pieces.popleft()
        except IndexError:
            return None

    def _is_over(self) -> bool:
        """Nothing more will come; raises what ended it, unless that was its own end."""
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
        self, ready: Callable[[], object], waiters: deque[Any], timeout: Optional[float] = None
    ) -> None:
        try:
            self._engine.help(self._work)
            until = None if timeout is None else time.monotonic() + timeout
            is_ready = sleep_until(ready, waiters, until)
        except BaseException:  # Ctrl-C: what nobody waits for need not be written
            self._engine.stop(self._work, "the wait for it was interrupted")
            raise
        if not is_ready and self._work.forks == forks():
            raise TimedOut(f"the answer is not complete after {timeout} s; it goes on")

    async def _await(self, ready: Callable[[], object], waiters: deque[Any]) -> None:
        try:
            self._engine.help(self._work)
            await wait_until(ready, waiters)
        except asyncio.CancelledError:
            self._engine.stop(self._work, "its task was cancelled", wait=False)
            raise
