"""`EngineStats`: plain numbers of what an engine did."""

from __future__ import annotations

import bisect
import copy
from dataclasses import dataclass, field

from ..pair_stats import DRAFT_MAX, Round

SECONDS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the classes of a `Spread`; one more class has no bound."""


@dataclass
class Spread:
    """Many durations in seconds."""

    count: int = 0
    sum: float = 0.0
    classes: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    """How many were at most SECONDS[i], and more than SECONDS[i - 1]."""

    def add(self, seconds: float, n: int = 1) -> None:
        """n durations of so many seconds."""
        self.count += n
        self.sum += n * seconds
        self.classes[bisect.bisect_left(SECONDS, seconds)] += n

    @property
    def mean(self) -> float:
        """0 without any."""
        return self.sum / self.count if self.count else 0.0


@dataclass
class EngineStats:
    """Counts since the engine was made, and durations in seconds; `queued`, `reading` and `writing`
    are of now."""

    slots: int = 0
    """Requests that can be written at the same time."""
    queued: int = 0
    """Requests that wait for a slot."""
    reading: int = 0
    """Slots that read a prompt."""
    writing: int = 0
    """Slots that write."""
    requests: int = 0
    """All that were taken in."""
    completed: int = 0
    """Those that came to their own end."""
    ended_early: dict[str, int] = field(default_factory=dict)
    """Requests by cause: "cancelled", "dropped", "timeout", "closed", "error"."""
    refused: int = 0
    """For a full queue."""
    prompt_tokens_run: int = 0
    """Prompt tokens that were run."""
    prompt_tokens_cached: int = 0
    """Those that a slot held already."""
    tokens: int = 0
    """Generated."""
    rounds: int = 0
    """Runs that wrote, with and without drafts."""
    reads: int = 0
    """Runs that read a part of a prompt."""
    drafted: int = 0
    """Tokens that drafters proposed."""
    accepted: int = 0
    """Those of them that stand."""
    drafted_at: list[int] = field(default_factory=lambda: [0] * DRAFT_MAX)
    """Drafts by their position in the round."""
    accepted_at: list[int] = field(default_factory=lambda: [0] * DRAFT_MAX)
    """Accepted drafts by their position in the round."""
    draft_lengths: list[int] = field(default_factory=lambda: [0] * (DRAFT_MAX + 1))
    """Rounds by the number of drafts in them."""
    queue: Spread = field(default_factory=Spread)
    """From the submission to a slot."""
    first_token: Spread = field(default_factory=Spread)
    """From the submission to the first token."""
    between_tokens: Spread = field(default_factory=Spread)
    """Between two rounds of a request, for each token of the later one its part of that."""
    total: Spread = field(default_factory=Spread)
    """From the submission to the end, of requests that came to their own end."""
    read: Spread = field(default_factory=Spread)
    """Of runs that read."""
    write: Spread = field(default_factory=Spread)
    """Of rounds."""

    def add_round(self, one: Round) -> None:
        """Adds the drafts of a round. one: what the round brought."""
        self.drafted += one.drafted
        self.accepted += one.accepted
        self.draft_lengths[one.drafted] += 1
        for position in range(one.drafted):
            self.drafted_at[position] += 1
            self.accepted_at[position] += position < one.accepted

    def copy(self) -> EngineStats:
        """Returns counts that no longer change."""
        return copy.deepcopy(self)
