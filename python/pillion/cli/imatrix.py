"""`pillion imatrix`: which input channels of a model's weights matter, for quantizers."""

from __future__ import annotations

from pathlib import Path

import typer

from ..importance_matrix import DEFAULT_CHUNK
from ..importance_matrix import imatrix as measure
from .by_name import HfOption, model_file
from .console import command, open_model, progress, read_text
from .options import ModelOption, ThreadsOption


@command
def imatrix(
    model: Path | None = ModelOption,
    hf: str | None = HfOption,
    file: Path = typer.Option(..., "-f", "--file", help="The text.", show_default=False),
    out: Path = typer.Option(
        ..., "-o", "--output", help="The file to write, a GGUF file.", show_default=False
    ),
    chunk: int = typer.Option(
        DEFAULT_CHUNK, "-c", "--chunk", "--ctx-size", help="Tokens of a chunk; each starts anew."
    ),
    chunks: int = typer.Option(0, "--chunks", help="Most chunks; 0: the whole text."),
    threads: int = ThreadsOption,
) -> None:
    """Measure over a text which inputs of the weights matter; `pillion quantize` and llama.cpp read
    the file."""
    path, text = model_file(model, hf), read_text(file)
    with (
        open_model(path, n_threads=threads, device="cpu") as opened,
        progress("Measuring") as report,
    ):
        found = measure(
            opened,
            text,
            out,
            chunk=chunk,
            chunks=chunks or None,
            n_threads=threads,
            dataset=str(file),
            progress=report,
        )
    typer.echo(
        f"{out}: {found.n_weights} weights over {found.n_tokens} "
        f"tokens ({found.n_chunks} chunks of {chunk})"
    )
    typer.echo(f"PPL = {found.perplexity:.4f} (second half of each chunk)")
    if found.unused_experts:
        n = sum(found.unused_experts.values())
        typer.echo(
            f"{n} experts of {len(found.unused_experts)} weights "
            "were never chosen and have a count of 0: use more text"
        )
