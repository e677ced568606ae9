"""The chunks of an answer as they are made, for `for` and for `async for`."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from .._locks import Caller, TryLock
from ..engine.generation import Generation, Piece
from ..errors import Busy, Cancelled
from ..held import Held

if TYPE_CHECKING:
    from .openai_format import Completion

Result = dict[str, Any]


class _Chunks:
    """Makes chunks of pieces, whoever waits for the pieces."""

    def __init__(self, completion: Completion) -> None:
        self._completion = completion
        self.ready: deque[Result] = deque()
        self.is_complete = False
        self._is_open = False
        if completion.scored is None:
            self._open()

    def take(self, piece: Piece | None) -> None:
        """Takes the next piece; None: the end."""
        self._open()
        if piece is not None:
            self.ready.extend(self._completion.piece_chunks(piece))
        else:
            self.ready.extend(self._completion.closing_chunks())
            self.is_complete = True

    def leave(self) -> None:
        """Notes that nobody wants more."""
        self.is_complete = True
        self.ready.clear()

    def _open(self) -> None:
        if not self._is_open:
            self._is_open = True
            self.ready.extend(self._completion.opening_chunks())


class Stream(Held, Iterator[Result]):
    """An iterator of chunks for one thread at a time: a second thread gets `Busy`. Dropping it ends
    the answer."""

    def __init__(self, completion: Completion) -> None:
        self.generation: Generation = completion.generation
        """What it is made of."""
        self._chunks = _Chunks(completion)
        self._inside = TryLock()

    def __next__(self) -> Result:
        caller = Caller()
        try:
            holder = self._inside.acquire(caller)
            if holder is not caller:
                if holder.is_here:
                    raise Busy("another thread waits for the next chunk of this stream")
                why = "another thread was inside it when fork() copied the process"
                raise Cancelled(f"this stream cannot go on: {why}")
            return self._next()
        finally:
            self._inside.release(caller)

    def _next(self) -> Result:
        chunks = self._chunks
        while not chunks.ready:
            if chunks.is_complete:
                raise StopIteration
            try:
                piece = next(self.generation, None)
            except BaseException:
                chunks.is_complete = True
                raise
            chunks.take(piece)
        return chunks.ready.popleft()

    def close(self) -> None:
        """Ends the answer, from any thread. A caller who waits for a chunk gets `Cancelled`."""
        self._chunks.leave()
        self.generation.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncStream(Held, AsyncIterator[Result]):
    """An iterator of chunks for one task at a time. Cancelling the task that waits ends the
    answer."""

    def __init__(self, completion: Completion) -> None:
        self.generation: Generation = completion.generation
        """What it is made of."""
        self._chunks = _Chunks(completion)

    async def __anext__(self) -> Result:
        chunks = self._chunks
        while not chunks.ready:
            if chunks.is_complete:
                raise StopAsyncIteration
            try:
                piece: Piece | None = await self.generation.__anext__()
            except StopAsyncIteration:
                piece = None
            except BaseException:
                chunks.is_complete = True
                raise
            chunks.take(piece)
        return chunks.ready.popleft()

    async def aclose(self) -> None:
        """Ends the answer."""
        self._chunks.leave()
        self.generation.stop_soon("it was closed")

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
