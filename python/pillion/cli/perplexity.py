"""`pillion perplexity`: measures how well a model foresees a text."""

from __future__ import annotations

from pathlib import Path

import typer

from ..perplexity import measure_perplexity
from .by_name import HfOption, model_file
from .console import command, open_model, progress, read_text
from .options import DeviceOption, KvTypeOption, ModelOption, ThreadsOption


@command
def perplexity(
    model: Path | None = ModelOption,
    hf: str | None = HfOption,
    file: Path = typer.Option(..., "-f", "--file", help="The text.", show_default=False),
    ctx: int = typer.Option(512, "-c", "--ctx-size", help="Length of a window."),
    threads: int = ThreadsOption,
    kv_type: str = KvTypeOption,
    device: str = DeviceOption,
) -> None:
    """Measure how well a model foresees a text; lower is better."""
    path, text = model_file(model, hf), read_text(file)
    with open_model(path, n_threads=threads, device=device) as opened:
        tokenizer = opened.tokenizer
        tokens = tokenizer.encode(text)
        first = tokenizer.bos if tokenizer.adds_bos else None
        with (
            opened.context(ctx, n_threads=threads, kv_type=kv_type) as context,
            progress("Scoring") as report,
        ):
            found = measure_perplexity(context, tokens, ctx, first, report)
    typer.echo(
        f"PPL = {found.value:.4f} +/- {found.error:.5f} "
        f"({found.n_tokens} tokens judged, windows of {ctx})"
    )
