"""Drafts that are accepted at random, for models whose weights or drafters are made up."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any

from .. import Context, Sampler

SIMULATED = "simulated"


class SimulatedAcceptance:
    """A constraint (see `Constraint`) that accepts each draft with one probability, up to the first
    that it refuses. The drafts are the drafter's and the run is real; the text is nonsense.

    chance: of a draft, 0 to 1. seed: of its random numbers. n_vocab: size of the vocabulary. ends:
    tokens that the text must not have; a draft of one is refused.
    """

    stopped = False

    def __init__(self, chance: float, seed: int, n_vocab: int, ends: Collection[int] = ()) -> None:
        self._chance = chance
        self._random = random.Random(seed)
        self._n_vocab = n_vocab
        self._ends = frozenset(ends)

    def plan(self, drafts: Sequence[int], n_max: int) -> tuple[list[int], None]:
        """As `Constraint.plan`: all of the drafter's tokens."""
        return list(drafts[:n_max]), None

    def forced(self, n_max: int) -> list[int]:
        """As `Constraint.forced`: nothing."""
        return []

    def accept(self, tokens: Sequence[int]) -> None:
        """As `Constraint.accept`."""

    def choose(
        self,
        context: Context,
        first_row: int,
        sampler: Sampler,
        drafts: Sequence[int],
        masks: Any,
        n_max: int,
        end_tokens: Collection[int],
    ) -> list[int]:
        """As `LogitsProcessors.choose`: the accepted drafts and one token behind them. The sampler
        chooses for each row, so that a round costs what it costs."""
        chosen: list[int] = []
        while True:
            token = sampler.sample(context, first_row + len(chosen))
            if len(chosen) < len(drafts):
                token = self._verdict(drafts[len(chosen)], token)
            sampler.accept(token)
            chosen.append(token)
            at = len(chosen) - 1
            if at == len(drafts) or token != drafts[at] or len(chosen) == n_max:
                return chosen

    def _verdict(self, draft: int, token: int) -> int:
        """The draft, or another token: the sampler's, unless that is the draft."""
        if draft not in self._ends and self._random.random() < self._chance:
            return draft
        while token == draft or token in self._ends:
            token = (token + 1) % self._n_vocab
        return token
