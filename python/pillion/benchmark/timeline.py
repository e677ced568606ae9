"""Arithmetic on the times at which texts arrived: no model, no engine, no clock. Times are seconds
of one clock, results have their unit in the name."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from .. import Piece, UsageError

Spread = dict[str, float]
"""{"median", "min", "max"}."""


class Arrival(NamedTuple):
    """What one round of one user brought."""

    time: float
    tokens: int


Interval = tuple[float, float]
"""(begin, end)."""


def arrivals_of(stamped: Iterable[tuple[float, Piece]]) -> list[Arrival]:
    """The rounds of a text, from its pieces and the times at which they were taken.

    A round ends with a token that no drafter guessed. So pieces up to such a token came together. A
    piece with text that was held back may end several rounds; it counts as one.
    """
    found: list[Arrival] = []
    goes_on = False
    for time, piece in stamped:
        drafted = [token.drafted for token in piece.tokens]
        if not drafted:
            continue
        if goes_on and all(drafted[:-1]):
            found[-1] = Arrival(found[-1].time, found[-1].tokens + len(drafted))
        else:
            found.append(Arrival(time, len(drafted)))
        goes_on = drafted[-1]
    return found


def common_window(users: Sequence[Sequence[Arrival]]) -> Interval:
    """From the first token of the last user that began to the last token of the first that
    ended. Raises `UsageError` if no moment had all of them."""
    if not all(users):
        raise UsageError("a user's text has no tokens: nothing can be measured")
    begin = max(arrivals[0].time for arrivals in users)
    end = min(arrivals[-1].time for arrivals in users)
    if end <= begin:
        n = min(sum(one.tokens for one in arrivals) for arrivals in users)
        raise UsageError(
            f"a text of {n} tokens was over before all users wrote: ask for more tokens (-n)"
        )
    return begin, end


def rates(users: Sequence[Sequence[Arrival]], window: Interval) -> list[float]:
    """Tokens per second of each user in the window. What came at its begin is not counted: it was
    made before."""
    begin, end = window
    return [
        sum(one.tokens for one in arrivals if begin < one.time <= end) / (end - begin)
        for arrivals in users
    ]


def gaps_ms(arrivals: Sequence[Arrival], window: Interval) -> list[float]:
    """Milliseconds between two arrivals of one user, of those that end in the window."""
    begin, end = window
    return [1e3 * (b.time - a.time) for a, b in pairwise(arrivals) if begin < b.time <= end]


def gaps_across_ms(arrivals: Sequence[Arrival], window: Interval) -> list[float]:
    """As `gaps_ms`, of those that the window touches: also the one that goes on behind its end."""
    begin, end = window
    return [
        1e3 * (b.time - a.time) for a, b in pairwise(arrivals) if begin < b.time and a.time < end
    ]


class Call(NamedTuple):
    """When a thread was inside the library."""

    begin: float
    end: float
    used_before: float
    """Seconds of processor time that the thread had used when the call began."""
    used_behind: float
    """The same when it was over."""


class Outside(NamedTuple):
    """What a thread did outside the library."""

    seconds: float
    used: float
    """Seconds of processor time: without waits, also for a processor."""


def outside_library(calls: Sequence[Call], window: Interval) -> Outside:
    """The part of the window outside the calls of one thread, and the processor time between those
    calls that lie in it."""
    begin, end = window
    inside = sum(max(0.0, min(one.end, end) - max(one.begin, begin)) for one in calls)
    used = sum(
        b.used_before - a.used_behind
        for a, b in pairwise(calls)
        if begin <= a.end and b.begin <= end
    )
    return Outside(end - begin - inside, used)


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that is not exceeded by `share` (0 to 1) of the values."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def spread(values: Sequence[float]) -> Spread:
    """Median, least and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def gap_summary(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and largest."""
    return {
        "median": statistics.median(values),
        "p95": percentile(values, 0.95),
        "max": max(values),
    }
