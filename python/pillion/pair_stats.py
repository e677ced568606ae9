"""`Round` and `PairStats`: what came of a pair's rounds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ._native import as_str, ffi, lib

DRAFT_MAX: int = lib.PILLION_DRAFT_MAX
"""Most drafts of one round."""

_COUNTS = (
    "rounds", "tokens", "drafted", "accepted", "forced", "draft_ms", "verify_ms", "accept_ms"
)  # fmt: skip


_STATES = {
    lib.PILLION_SPECULATION_ON: "on",
    lib.PILLION_SPECULATION_PAUSED: "paused",
    lib.PILLION_SPECULATION_OFF: "off",
}


class Round(NamedTuple):
    """What one round brought: `accepted` tokens of the drafter, `forced` others, and one chosen
    behind them (not where the last of them ended the round)."""

    tokens: list[int]
    """The new tokens of the text. Output row i of the context is the one that token i was chosen
    from, until the next step."""
    drafted: int
    """Tokens that the drafter proposed."""
    accepted: int
    """Those of them that stand."""
    ended: bool
    """The last token is one of `end_tokens`."""
    draft_ms: float
    """Milliseconds of drafting."""
    verify_ms: float
    """Milliseconds of the target's run."""
    accept_ms: float
    """Milliseconds of choosing tokens."""
    forced: int = 0
    """Tokens that were run as drafts, are not the drafter's, and stand."""


@dataclass
class PairStats:
    """The library's counts over rounds, and how things stand."""

    rounds: int = 0
    """Rounds with at least one draft."""
    tokens: int = 0
    """Tokens that all rounds brought, those without drafts too."""
    drafted: int = 0
    """By the drafter; those that were not run count too, as refused."""
    accepted: int = 0
    """Those of them that stand."""
    forced: int = 0
    """Tokens that were run as drafts without being the drafter's, and stand."""
    drafted_at: list[int] = field(default_factory=lambda: [0] * DRAFT_MAX)
    """Drafts by their position in the round."""
    accepted_at: list[int] = field(default_factory=lambda: [0] * DRAFT_MAX)
    """Accepted drafts by their position in the round."""
    draft_ms: float = 0.0
    """Milliseconds of drafting."""
    verify_ms: float = 0.0
    """Milliseconds of all runs of the target, also those without a draft."""
    accept_ms: float = 0.0
    """Milliseconds of choosing tokens."""
    state: str = "off"
    """ "on", "paused" ("auto" found that drafts do not pay off; it tries again now and then) or
    "off"."""
    reason: str = ""
    """Why it is paused or off, or why the head is dense."""
    kind: str = ""
    """ "mtp", "model", "lookup" or "lookup+mtp"; "" without a drafter."""
    head: str = ""
    """ "centroid" or "dense"; "" for drafters without a head of their own."""
    n_draft: int = 0
    """What "auto" would draft now."""

    @property
    def acceptance(self) -> float:
        """Accepted drafts of all drafts; 0 when there were none."""
        return _share(self.accepted, self.drafted)

    @property
    def acceptance_by_position(self) -> list[float]:
        """The same for each position, as far as drafts went."""
        return [
            _share(accepted, drafted)
            for accepted, drafted in zip(self.accepted_at, self.drafted_at, strict=False)
            if drafted
        ]

    @property
    def mean_tokens_per_round(self) -> float:
        """Of rounds with drafts: 1 + accepted / rounds."""
        return 1 + self.accepted / self.rounds if self.rounds else 1.0

    def __add__(self, other: PairStats) -> PairStats:
        """The counts of both; how things stand is said by the first."""
        return self._with(other, 1)

    def __sub__(self, earlier: PairStats) -> PairStats:
        """What was counted since an earlier reading of the same pair; how things stand now."""
        return self._with(earlier, -1)

    def _with(self, other: PairStats, sign: int) -> PairStats:
        total = dataclasses.replace(self)
        for name in _COUNTS:
            setattr(total, name, getattr(self, name) + sign * getattr(other, name))
        for name in ("drafted_at", "accepted_at"):
            both = zip(getattr(self, name), getattr(other, name), strict=False)
            setattr(total, name, [one + sign * more for one, more in both])
        return total

    def as_dict(self) -> dict[str, Any]:
        """For results and JSON."""
        return {
            "state": self.state,
            "reason": self.reason,
            "kind": self.kind,
            "head": self.head,
            "rounds": self.rounds,
            "tokens": self.tokens,
            "drafted": self.drafted,
            "accepted": self.accepted,
            "forced": self.forced,
            "acceptance": self.acceptance,
            "acceptance_by_position": self.acceptance_by_position,
            "mean_tokens_per_round": self.mean_tokens_per_round,
            "draft_ms": self.draft_ms,
            "verify_ms": self.verify_ms,
            "accept_ms": self.accept_ms,
            "n_draft": self.n_draft,
        }


class Reading:
    """A pair's counts as the library wrote them. They become `PairStats` when somebody asks, since
    that takes longer than all else that Python does in a round."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        """`pillion_pair_stats`, written once."""
        self._stats: PairStats | None = None

    @property
    def stats(self) -> PairStats:
        """The counts."""
        if self._stats is None:
            raw = self.raw
            self._stats = PairStats(
                rounds=int(raw.rounds),
                tokens=int(raw.tokens),
                drafted=int(raw.drafted),
                accepted=int(raw.accepted),
                forced=int(raw.forced),
                drafted_at=[int(n) for n in raw.drafted_at],
                accepted_at=[int(n) for n in raw.accepted_at],
                draft_ms=float(raw.draft_ms),
                verify_ms=float(raw.verify_ms),
                accept_ms=float(raw.accept_ms),
                state=_STATES.get(raw.state, "off"),
                reason=as_str(ffi.string(raw.reason)),
                kind=as_str(ffi.string(raw.kind)),
                head=as_str(ffi.string(raw.head)),
                n_draft=int(raw.n_draft),
            )
        return self._stats


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
