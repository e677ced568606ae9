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
    pages: int = 0
    """Pages of the cache that the slots share; 0: each has its own."""
    free_pages: int = 0
    """Those that no text holds, as of the last turn."""
    page_size: int = 0
    """Positions of a page."""
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
    """Rounds of requests, with and without drafts. A run may have those of several."""
    reads: int = 0
    """Runs that read a part of a prompt."""
    runs: int = 0
    """Runs of any kind."""
    parked: int = 0
    """Requests that made room for others and read their text again."""
    shared: int = 0
    """Requests that began with pages of another slot."""
    rows_written: int = 0
    """Rows of all rounds: each one's token and its drafts."""
    rows_read: int = 0
    """Rows of prompts."""
    read_seconds: float = 0.0
    """Of runs that read; of those that wrote too, by its part of the rows."""
    write_seconds: float = 0.0
    """Of rounds, likewise."""
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
    """Of runs that only read."""
    write: Spread = field(default_factory=Spread)
    """Of runs that only wrote."""
    mixed: Spread = field(default_factory=Spread)
    """Of runs that did both."""

    def add_run(self, n_rounds: int, written: int, read: int, seconds: float) -> None:
        """Adds a run of so many seconds. n_rounds, written: its rounds and their rows. read: its
        prompt rows."""
        self.runs += 1
        self.rounds += n_rounds
        self.rows_written += written
        self.rows_read += read
        self.reads += read > 0
        spread = self.mixed if read and n_rounds else self.read if read else self.write
        spread.add(seconds)
        share = read / (read + written) if read else 0.0
        self.read_seconds += share * seconds
        self.write_seconds += (1 - share) * seconds

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
