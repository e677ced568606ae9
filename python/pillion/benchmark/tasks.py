"""The measurements of `pillion bench --tasks`: five tasks that people give to models, whose answers
repeat more or less of their prompts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from .. import Context, Model, Pair, Sampler, SamplingParams, UsageError
from ..pair import DRAFT_MAX, Draft

Result = dict[str, Any]

TASKS = ("code", "prose", "json", "copy_edit", "summary")
PLAIN = "plain"

_WARM_TOKENS = 16


def task_text(name: str) -> str:
    """What is asked. name: one of TASKS."""
    return (files(__package__) / "texts" / f"{name}.txt").read_text(encoding="utf-8")


def measure_tasks(
    model: Model,
    prompts: dict[str, list[int]],
    drafter: Any | None,
    draft: Draft,
    n_gen: int,
    repeats: int,
    sizes: dict[str, Any],
    options: dict[str, Any],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Result]:
    """Writes n_gen tokens of each task without drafts, with the drafter, and with an assistant also
    with lookup beside it: in turns, so that all meet the same machine.

    prompts: tokens by task. sizes: of the contexts. options: of the pairs. report: called with
    (tasks done, all of them). Raises `UsageError` if a prompt and its text don't fit the model.
    """
    n_ctx = max(map(len, prompts.values())) + n_gen + DRAFT_MAX + 2
    if n_ctx > model.n_ctx_train:
        raise UsageError(
            f"the longest task and -n {n_gen} need {n_ctx} positions, "
            f"the model has {model.n_ctx_train}"
        )
    results: list[Result] = []
    with model.context(n_ctx, n_outputs=DRAFT_MAX + 1, **sizes) as context:
        for done, (name, tokens) in enumerate(prompts.items()):
            report(done, len(prompts))
            pairs = _pairs(context, drafter, options)
            try:
                results += _measure(name, tokens, pairs, draft, n_gen, repeats)
            finally:
                for pair in pairs:
                    pair.close()
    return results


def _pairs(context: Context, drafter: Any | None, options: dict[str, Any]) -> list[Pair]:
    """Each task has new ones, which have learnt nothing."""
    pairs = [Pair(context, None)]
    if drafter is None:
        return pairs
    options = {name: value for name, value in options.items() if name != "lookup"}
    pairs.append(Pair(context, drafter, **options))
    if pairs[-1].stats.kind == "mtp":
        pairs.append(Pair(context, drafter, lookup=True, **options))
    return pairs


def _measure(
    name: str, tokens: Sequence[int], pairs: Sequence[Pair], draft: Draft, n_gen: int, repeats: int
) -> list[Result]:
    times: list[list[float]] = [[] for _ in pairs]
    texts: list[list[int]] = [[] for _ in pairs]
    for pair in pairs:
        _write(pair, tokens, draft, min(n_gen, _WARM_TOKENS))
        pair.reset_stats()
    for number in range(repeats):
        for i in range(len(pairs)):
            at = (i + number) % len(pairs)
            passed, texts[at] = _write(pairs[at], tokens, draft, n_gen)
            times[at].append(passed)
    return [
        _result(name, pair, times[0], times[at], texts[at], texts[at] == texts[0])
        for at, pair in enumerate(pairs)
    ]


def _write(pair: Pair, tokens: Sequence[int], draft: Draft, n: int) -> tuple[float, list[int]]:
    """Milliseconds behind the prompt, and the text; it ends by its length only."""
    sampler = Sampler(SamplingParams(temperature=0))
    pair.sync(tokens)
    begin = time.perf_counter()
    text = [token for one in pair.rounds(sampler, n, draft) for token in one.tokens]
    return 1e3 * (time.perf_counter() - begin), text


def _result(
    name: str, pair: Pair, plain: list[float], times: list[float], text: list[int], equal: bool
) -> Result:
    stats = pair.stats
    speedups = [off / on for off, on in zip(plain, times, strict=True)]
    return {
        "test": "task",
        "task": name,
        "mode": stats.kind or PLAIN,
        "n": len(text),
        "median_ms": statistics.median(times),
        "tokens_per_second": 1e3 * len(text) / statistics.median(times),
        "speedup": statistics.median(speedups),
        "speedups": speedups,
        "acceptance": stats.acceptance,
        "acceptance_by_position": stats.acceptance_by_position,
        "mean_tokens_per_round": stats.mean_tokens_per_round,
        "texts_equal": equal,
    }
