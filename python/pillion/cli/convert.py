"""`pillion convert`: a Hugging Face checkpoint becomes a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from .console import command, fail, progress, size
from .options import ThreadsOption


@command
def convert(
    checkpoint: Path = typer.Argument(
        ..., help="A folder with config.json, *.safetensors and tokenizer.json.", show_default=False
    ),
    out: Path = typer.Option(
        ..., "-o", "--out", help="The GGUF file to write.", show_default=False
    ),
    outtype: str = typer.Option(
        "auto",
        "--outtype",
        help="Type of the matrices: f32, f16, bf16, q8_0, or auto: the checkpoint's.",
    ),
    no_masked_embedding: bool = typer.Option(
        False,
        "--no-masked-embedding",
        help="Leave out an assistant's centroids: its head is dense then.",
    ),
    mmproj: bool = typer.Option(
        False,
        "--mmproj",
        help="Write the vision and audio towers of the checkpoint (an mmproj file), not its text "
        "model.",
    ),
    name: str | None = typer.Option(
        None, "--name", help="general.name of the file; else the folder's."
    ),
    threads: int = ThreadsOption,
) -> None:
    """Convert a checkpoint of Gemma 4, a Gemma 4 assistant, Gemma 3 or Llama."""
    from ..convert import convert as run
    from ..convert import convert_mmproj

    if mmproj and no_masked_embedding:
        raise fail("--no-masked-embedding is about an assistant, --mmproj about towers")
    with progress(f"Converting {checkpoint.name}") as report:
        common: dict[str, Any] = {
            "outtype": outtype,
            "name": name,
            "n_threads": threads or None,
            "progress": report,
        }
        if mmproj:
            done = convert_mmproj(checkpoint, out, **common)
        else:
            done = run(checkpoint, out, masked_embedding=not no_masked_embedding, **common)
    typer.echo(
        f"{done.out}: {done.architecture}, {done.tensors} tensors, {done.outtype}, "
        f"{size(done.bytes)} in {done.seconds:.1f} s "
        f"({done.bytes / 2**20 / max(done.seconds, 1e-9):.0f} MiB/s)"
    )
    for reason, count in done.skipped.items():
        typer.echo(f"  left out: {count} tensors ({reason})")
