"""`pillion perplexity`: how well a model foresees a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import numpy as np
import typer

from .. import Context, UsageError
from .console import command, open_model, progress, read_text
from .options import DeviceOption, KvTypeOption, ModelOption, ThreadsOption


class Perplexity(NamedTuple):
    value: float
    error: float
    """One standard error."""
    n_tokens: int
    """Tokens that were judged."""


def measure(
    context: Context,
    tokens: Sequence[int],
    window: int,
    first: Optional[int] = None,
    report: Callable[[int, int], object] = lambda done, total: None,
) -> Perplexity:
    """Perplexity in windows that follow each other, the way llama.cpp measures it, so that numbers
    can be compared.

    Each window starts anew with `first` (BOS) in place of its first token; only its second half is
    judged, so that every judged token has seen at least half a window.
    """
    if window < 4:
        raise UsageError(f"n_ctx is {window}; a window of perplexity has at least 4 tokens")
    if len(tokens) < 4:
        raise UsageError(f"the text has {len(tokens)} tokens; perplexity needs at least 4")
    window = min(window, len(tokens))
    losses = []
    starts = range(0, len(tokens) - window + 1, window)
    for number, start in enumerate(starts):
        part = list(tokens[start : start + window])
        if first is not None:
            part[0] = first
        losses.append(-context.score(part)[window // 2 :].astype(np.float64))
        report(number + 1, len(starts))
    loss = np.concatenate(losses)
    value = math.exp(loss.mean())
    spread = float(loss.std(ddof=1)) / math.sqrt(loss.size) if loss.size > 1 else math.nan
    return Perplexity(value, value * spread, int(loss.size))


@command
def perplexity(
    model: Path = ModelOption,
    file: Path = typer.Option(..., "-f", "--file", help="The text.", show_default=False),
    ctx: int = typer.Option(512, "-c", "--ctx-size", help="Length of a window."),
    threads: int = ThreadsOption,
    kv_type: str = KvTypeOption,
    device: str = DeviceOption,
) -> None:
    """Measure how well a model foresees a text; lower is better."""
    text = read_text(file)
    with open_model(model, n_threads=threads, device=device) as opened:
        tokenizer = opened.tokenizer
        tokens = tokenizer.encode(text)
        first = tokenizer.bos if tokenizer.adds_bos else None
        with (
            opened.context(ctx, n_threads=threads, kv_type=kv_type) as context,
            progress("Scoring") as report,
        ):
            found = measure(context, tokens, ctx, first, report)
    typer.echo(
        f"PPL = {found.value:.4f} +/- {found.error:.5f} "
        f"({found.n_tokens} tokens judged, windows of {ctx})"
    )
