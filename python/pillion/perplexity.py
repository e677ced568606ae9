"""Perplexity: how well a model foresees a text. Lower is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .context import Context
from .errors import UsageError

WINDOW_LEAST = 4
"""Tokens of the shortest window: its second half has two."""

Report = Callable[[int, int], object]


class Perplexity(NamedTuple):
    """A measurement."""

    value: float
    """exp of the mean negative log-likelihood (natural log) of the judged tokens."""
    error: float
    """One standard error of `value`; nan for a single token."""
    n_tokens: int
    """Tokens that were judged."""


def cut_windows(tokens: Sequence[int], length: int, first: int | None) -> npt.NDArray[np.int32]:
    """Windows that follow each other, int32 [n, length]; a shorter rest is left out.

    first: the token that replaces the first one of each window (BOS); None: none does.
    """
    ids = np.asarray(tokens, dtype=np.int32)
    n = len(ids) // length
    windows: npt.NDArray[np.int32] = ids[: n * length].reshape(n, length).copy()
    if first is not None:
        windows[:, 0] = first
    return windows


def window_losses(context: Context, windows: Any, report: Report) -> npt.NDArray[np.float64]:
    """Negative log-likelihoods of the second half of each window, float64 [n * length / 2].

    Each window starts with an empty context. The second half alone is judged, so that every judged
    token has seen at least half a window. Calls report(done_windows, windows) after each window.
    """
    losses = []
    for number, window in enumerate(windows):
        scores = context.score(window)
        losses.append(-scores[len(window) // 2 :].astype(np.float64))
        report(number + 1, len(windows))
    return np.concatenate(losses)


def measure_perplexity(
    context: Context,
    tokens: Sequence[int],
    window: int,
    first: int | None = None,
    report: Report = lambda done, total: None,
) -> Perplexity:
    """Measures perplexity as llama.cpp does, so that numbers can be compared.

    window: tokens of a window; a shorter text is one window. first: see `cut_windows`. report: see
    `window_losses`. Raises `UsageError` for a window or a text of fewer than 4 tokens.
    """
    if window < WINDOW_LEAST:
        raise UsageError(
            f"n_ctx is {window}; a window of perplexity has at least {WINDOW_LEAST} tokens"
        )
    if len(tokens) < WINDOW_LEAST:
        raise UsageError(
            f"the text has {len(tokens)} tokens; perplexity needs at least {WINDOW_LEAST}"
        )
    windows = cut_windows(tokens, min(window, len(tokens)), first)
    loss = window_losses(context, windows, report)
    value = math.exp(loss.mean())
    spread = float(loss.std(ddof=1)) / math.sqrt(loss.size) if loss.size > 1 else math.nan
    return Perplexity(value, value * spread, int(loss.size))
