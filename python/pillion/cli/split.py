"""`pillion split` and `pillion join`: a model in parts, and in one file again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from ..splitting import join as run_join
from ..splitting import split as run_split
from .console import command, fail, progress, size


@command
def split(
    source: Path = typer.Argument(
        ...,
        metavar="IN.gguf",
        help="The file to divide.",
        show_default=False,
    ),
    prefix: str = typer.Argument(
        ...,
        metavar="OUT_PREFIX",
        help="Parts are called OUT_PREFIX-00001-of-00003.gguf and so on.",
        show_default=False,
    ),
    max_size: str | None = typer.Option(
        None,
        "--max-size",
        help="Most bytes of a part: 500M, 2G (powers of 1000).",
    ),
    max_tensors: int | None = typer.Option(
        None,
        "--max-tensors",
        min=1,
        help="Most tensors of a part.",
    ),
) -> None:
    """Divide a model into parts. All commands take any part for the whole model."""
    if max_size is None and max_tensors is None:
        raise fail("give the size of a part with --max-size 2G, or --max-tensors N")
    with progress(f"Splitting {source.name}") as report:
        limits: dict[str, Any] = {"max_size": max_size, "max_tensors": max_tensors}
        parts = run_split(source, prefix, progress=report, **limits)
    for part in parts:
        typer.echo(f"{part}: {size(os.path.getsize(part))}")


@command
def join(
    part: Path = typer.Argument(
        ...,
        metavar="PART.gguf",
        help="Any part, the others beside it; or parts that were joined by cat.",
        show_default=False,
    ),
    out: Path = typer.Argument(
        ...,
        metavar="OUT.gguf",
        help="The file to write.",
        show_default=False,
    ),
) -> None:
    """Make one file of a model in parts. To run or quantize it, that is not needed."""
    with progress(f"Joining {part.name}") as report:
        run_join(part, out, progress=report)
    typer.echo(f"{out}: {size(os.path.getsize(out))}")
