"""Requests of several users at once to an engine, through its public face, and the times at which
their pieces came."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from .. import Cancelled, Engine, EngineStats, Generation, Model, Piece, Request, SamplingParams
from ..pair import Draft
from .simulated_acceptance import SimulatedAcceptance
from .timeline import Arrival, Interval, arrivals_of

now = time.perf_counter


@dataclass
class Maker:
    """Makes requests: greedy, of a given length, whatever token would end the text."""

    model: Model
    chance: float | None = None
    """Acceptance of each draft, simulated; None: as it comes."""

    def __post_init__(self) -> None:
        ends = self.model.tokenizer.end_tokens
        self._ends = ends
        self._sampling = SamplingParams(temperature=0, logit_bias=dict.fromkeys(ends, -math.inf))
        self._seed = 0

    def request(self, prompt: Sequence[int], n: int, draft: Draft) -> Request:
        """n: tokens to write."""
        self._seed += 1
        constraint: Callable[[], Any] | None = None
        if self.chance is not None and draft != 0:
            chance, seed, n_vocab = self.chance, self._seed, self.model.n_vocab

            def constraint() -> SimulatedAcceptance:
                return SimulatedAcceptance(chance, seed, n_vocab, self._ends)

        return Request(
            list(prompt),
            sampling=self._sampling,
            max_tokens=n,
            draft=draft,
            constraint=constraint,
        )


@dataclass
class Text:
    """What one user saw."""

    generation: Generation
    submitted: float
    stamped: list[tuple[float, Piece]] = field(default_factory=list)
    ended: bool = False

    @property
    def begun(self) -> bool:
        """True once a piece came."""
        return bool(self.stamped)

    @property
    def first_ms(self) -> float:
        """Milliseconds from the submission to the first piece."""
        return 1e3 * (self.stamped[0][0] - self.submitted)

    @property
    def arrivals(self) -> list[Arrival]:
        """Its rounds."""
        return arrivals_of(self.stamped)

    async def read(self, look: Callable[[], None] | None = None) -> None:
        """Takes pieces until the end. look: called behind each piece and at the end. Raises what
        ended the text, unless somebody stopped it."""
        look = look or (lambda: None)
        try:
            async for piece in self.generation:
                self.stamped.append((now(), piece))
                look()
                await asyncio.sleep(0)  # a late reader does not let one user pass the others
        except Cancelled:
            pass
        finally:
            self.ended = True
            look()


def submit(engine: Engine, requests: Sequence[Request]) -> list[Text]:
    """All at once."""
    texts = []
    for request in requests:
        begin = now()
        texts.append(Text(engine.submit(request), begin))
    return texts


def finish(engine: Engine, requests: Sequence[Request]) -> None:
    """Waits for the texts of the requests, which nobody reads."""
    for text in submit(engine, requests):
        text.generation.result()


async def until_all_begin(engine: Engine, requests: Sequence[Request]) -> list[Text]:
    """Reads the texts of the requests until each has begun, then stops them."""
    all_begun = asyncio.Event()
    texts = submit(engine, requests)

    def look() -> None:
        if all(text.begun or text.ended for text in texts):
            all_begun.set()

    tasks = [asyncio.create_task(text.read(look)) for text in texts]
    await all_begun.wait()
    for text in texts:
        text.generation.close()
    await asyncio.gather(*tasks)
    return texts


@dataclass
class Counts:
    """What an engine counted between two readings."""

    rounds: int
    """Runs that wrote."""
    user_rounds: int
    """Rounds of users; several may be in one run."""
    tokens: int
    drafted: int
    accepted: int

    @classmethod
    def between(cls, before: EngineStats, after: EngineStats) -> Counts:
        """The differences."""
        tokens = after.tokens - before.tokens
        rounds_of_pairs = sum(after.draft_lengths) - sum(before.draft_lengths)
        return cls(
            after.rounds - before.rounds,
            rounds_of_pairs or tokens,  # without a drafter a round is a token
            tokens,
            after.drafted - before.drafted,
            after.accepted - before.accepted,
        )

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class Together:
    """Reads texts to their ends, and the engine's counts: of all, and of the part in which all are
    written, as far as a reader sees that.

    `late` is the share of the tokens that were written and not read when the last user was seen to
    begin. On a busy machine the reader may get no processor, and what it sees is then no speed.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._first: tuple[float, EngineStats] | None = None
        self._last: tuple[float, EngineStats] | None = None
        self.texts: list[Text] = []

    async def read(self, requests: Sequence[Request]) -> None:
        """Submits all at once. Raises what ended a text early."""
        before = self._before = self._engine.stats()
        self.texts = submit(self._engine, requests)
        await asyncio.gather(*(text.read(self._look) for text in self.texts))
        for text in self.texts:
            text.generation.result()
        self.all = Counts.between(before, self._engine.stats())
        assert self._first is not None and self._last is not None
        self.together = Counts.between(self._first[1], self._last[1])
        self.window: Interval = self._first[0], self._last[0]
        self.late = self._unread / max(self.all.tokens, 1)

    def _look(self) -> None:
        if self._first is None and all(text.begun for text in self.texts):
            self._first = now(), self._engine.stats()
            read = sum(len(piece.tokens) for text in self.texts for _, piece in text.stamped)
            self._unread = self._first[1].tokens - self._before.tokens - read
        if self._last is None and any(text.ended for text in self.texts):
            self._last = now(), self._engine.stats()
