"""The measurements of `pillion tune`: which options are the fastest on this machine, and why."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from .. import Context, Model, Pair
from ..pair import DRAFT_MAX
from .measure import timed

Result = dict[str, Any]

CHANCES = (0.3, 0.5, 0.7, 0.9)
"""Shares of accepted drafts for which a length is given."""
CACHE_TYPES = ("f16", "q8_0")
_GAIN = 1.02
"""More threads must be faster by this factor."""
_CACHE_GAIN = 1.05
"""Fewer bits must be faster by this factor: a few percent may be the noise of the machine."""
_TOKENS = 6


def thread_counts(most: int | None = None) -> list[int]:
    """1, 2, 4, … and the processors that this process may use."""
    if most is None:
        has_set = hasattr(os, "sched_getaffinity")
        most = len(os.sched_getaffinity(0)) if has_set else os.cpu_count() or 1
    counts, n = [], 1
    while n < most:
        counts.append(n)
        n *= 2
    return [*counts, most]


def tune_threads(model: Model, tokens: Sequence[int], repeats: int) -> Result:
    """Time of a token by number of threads, and the least number that is about as fast as any."""
    sizes = {n: {"n_threads": n} for n in thread_counts()}
    ms = _in_turns(model, tokens, sizes, repeats)
    best = min(ms.values())
    choice = next(n for n in sorted(ms) if ms[n] <= _GAIN * best)
    return {"test": "threads", "choice": choice, "ms_per_token": ms}


def tune_cache(model: Model, tokens: Sequence[int], threads: int, repeats: int) -> Result:
    """Time of a token behind these by type of the cache. f16 holds keys and values more exactly:
    another type is chosen only where it is clearly faster."""
    sizes = {kind: {"n_threads": threads, "kv_type": kind} for kind in CACHE_TYPES}
    ms = _in_turns(model, tokens, sizes, repeats)
    fastest = min(ms, key=lambda kind: ms[kind])
    choice = fastest if ms["f16"] > _CACHE_GAIN * ms[fastest] else "f16"
    return {"test": "kv_type", "choice": choice, "depth": len(tokens), "ms_per_token": ms}


def tune_drafts(
    model: Model, drafter: Any, tokens: Sequence[int], threads: int, repeats: int
) -> Result:
    """Times of runs of 1 to 9 rows and of a draft step, and the best length for each of CHANCES."""
    n_ctx = len(tokens) + DRAFT_MAX + 2
    with (
        model.context(n_ctx, n_threads=threads, n_outputs=DRAFT_MAX + 1) as context,
        Pair(context, drafter) as pair,
    ):
        context.sync(tokens)
        runs: list[list[float]] = [[] for _ in range(DRAFT_MAX + 2)]
        steps = []
        for _ in range(repeats + 1):
            for rows in range(1, DRAFT_MAX + 2):
                runs[rows].append(timed(context.decode, (list(tokens) * 2)[:rows]))
                context.rewind(len(tokens))
            pair.sync(tokens)
            steps.append(timed(pair.draft, tokens[-1], DRAFT_MAX) / DRAFT_MAX)
    run_ms = [statistics.median(times[1:]) for times in runs[1:]]
    step_ms = statistics.median(steps[1:])
    lengths = {chance: best_length(chance, run_ms, step_ms) for chance in CHANCES}
    return {
        "test": "draft",
        "choice": "auto" if any(k for k, _ in lengths.values()) else 0,
        "run_ms": run_ms,
        "step_ms": step_ms,
        "lengths": {
            str(chance): {"n_draft": k, "speedup": speedup}
            for chance, (k, speedup) in lengths.items()
        },
    }


def best_length(chance: float, run_ms: Sequence[float], step_ms: float) -> tuple[int, float]:
    """The length with the most tokens per time, and how many times as fast as none it is. chance:
    of each draft behind accepted ones. run_ms: of 1, 2, … rows."""
    best = (0, 1.0)
    for k in range(1, len(run_ms)):
        tokens = sum(chance**i for i in range(k + 1))
        speedup = tokens * run_ms[0] / (run_ms[k] + k * step_ms)
        if speedup > best[1]:
            best = (k, speedup)
    return best


def _in_turns(
    model: Model, tokens: Sequence[int], sizes: dict[Any, dict[str, Any]], repeats: int
) -> dict[Any, float]:
    """Milliseconds of a token behind these, by name of the context's options: measured in turns,
    for machines drift."""
    times: dict[Any, list[float]] = {name: [] for name in sizes}
    with ExitStack() as stack:
        contexts = {
            name: stack.enter_context(model.context(len(tokens) + _TOKENS + 2, **options))
            for name, options in sizes.items()
        }
        for context in contexts.values():
            context.sync(tokens)
        for number in range(repeats + 1):
            for name, context in contexts.items():
                passed = timed(_write, context, tokens[0]) / _TOKENS
                context.rewind(len(tokens))
                times[name] += [passed] if number else []
    return {name: statistics.median(found) for name, found in times.items()}


def _write(context: Context, token: int) -> None:
    for _ in range(_TOKENS):
        context.decode([token])
