"""Several answers to one prompt, `n` of a call: choices of one result."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from ..arguments import check_int
from ..held import Held
from ..sampling import SEED_MAX
from .openai_format import Completion
from .streams import AsyncStream, Result, Stream

N_MAX = 64


def options_of_each(options: dict[str, Any], seed: int | None) -> list[dict[str, Any]]:
    """The options of each of `n` answers, whose seeds follow one another. seed: where the call has
    none; None: random ones."""
    n = check_int("n", options.pop("n", 1), 1, N_MAX)
    if n == 1:
        return [options]
    given = options.get("seed")
    first = seed if given is None else given
    if not isinstance(first, int) or first < 0:  # random ones, or a wrong one
        return [dict(options) for _ in range(n)]
    return [{**options, "seed": (first + at) & SEED_MAX} for at in range(n)]


class SeveralAnswers:
    """Results of several generations with the same prompt, as one."""

    def __init__(self, answers: Sequence[Completion]) -> None:
        self._answers = answers
        for at, one in enumerate(answers):
            one.index, one.head = at, answers[0].head

    def whole(self) -> Result:
        """Waits for all. An error of one ends the others."""
        try:
            return self._merged([one.whole() for one in self._answers])
        except BaseException:
            self._close()
            raise

    async def awhole(self) -> Result:
        """`whole` for a task."""
        try:
            return self._merged([await one.awhole() for one in self._answers])
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        for one in self._answers:
            one.generation.stop_soon("another answer of its call failed")

    def chunks(self) -> SeveralStreams:
        """An iterator of the chunks of all; `index` of the choice says whose."""
        return SeveralStreams([one.chunks() for one in self._answers])

    def achunks(self) -> SeveralAsyncStreams:
        """`chunks` for a task."""
        return SeveralAsyncStreams([one.achunks() for one in self._answers])

    @staticmethod
    def _merged(results: Sequence[Result]) -> Result:
        """The first result with the choices of all. The prompt counts once."""
        merged = {**results[0], "choices": [one for each in results for one in each["choices"]]}
        usage = dict(merged["usage"])
        for each in results[1:]:
            theirs = each["usage"]
            usage["completion_tokens"] += theirs["completion_tokens"]
            name = "completion_tokens_details"
            if name in usage:
                usage[name] = _sums(usage[name], theirs[name])
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        merged["usage"] = usage
        return merged


class SeveralStreams(Held, Iterator[Result]):
    """Chunks of several streams, one of each in turn. Dropping it ends all answers."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = list(streams)
        self._next = 0

    def __next__(self) -> Result:
        while self._streams:
            at = self._next % len(self._streams)
            try:
                chunk = next(self._streams[at])
            except StopIteration:
                self._streams.pop(at)
                continue
            except BaseException:
                self.close()
                raise
            self._next = at + 1
            return chunk
        raise StopIteration

    def close(self) -> None:
        """Ends all answers."""
        for one in self._streams:
            with contextlib.suppress(Exception):
                one.close()

    def __enter__(self) -> SeveralStreams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SeveralAsyncStreams(Held, AsyncIterator[Result]):
    """`SeveralStreams` for one task at a time."""

    def __init__(self, streams: Sequence[AsyncStream]) -> None:
        self._streams = list(streams)
        self._next = 0

    async def __anext__(self) -> Result:
        while self._streams:
            at = self._next % len(self._streams)
            try:
                chunk = await self._streams[at].__anext__()
            except StopAsyncIteration:
                self._streams.pop(at)
                continue
            except BaseException:
                await self.aclose()
                raise
            self._next = at + 1
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends all answers."""
        for one in self._streams:
            with contextlib.suppress(Exception):
                one.generation.stop_soon("its stream was closed")

    async def __aenter__(self) -> SeveralAsyncStreams:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _sums(mine: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, int]:
    return {name: mine[name] + theirs.get(name, 0) for name in mine}
