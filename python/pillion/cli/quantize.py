"""`pillion quantize`: a GGUF file with other tensor types."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from ..quantization import QUANTIZE_TYPES, QuantizeReport
from ..quantization import quantize as run
from .console import command, fail, progress, size
from .options import ThreadsOption


@command
def quantize(
    source: Path = typer.Argument(
        ..., metavar="IN.gguf", help="The file to read.", show_default=False
    ),
    out: Path = typer.Argument(
        ..., metavar="OUT.gguf", help="The file to write.", show_default=False
    ),
    type: str = typer.Argument(
        ..., metavar="TYPE", help=", ".join(QUANTIZE_TYPES), show_default=False
    ),
    tensor_type: list[str] | None = typer.Option(
        None,
        "--tensor-type",
        help="NAME=TYPE: a tensor's name, or a regular expression, and the type; the last that "
        "fits wins.",
    ),
    imatrix: Path | None = typer.Option(
        None, "--imatrix", help="Importance matrix (llama.cpp's GGUF form)."
    ),
    pure: bool = typer.Option(False, "--pure", help="Every matrix in the type itself, no mix."),
    allow_requantize: bool = typer.Option(
        False, "--allow-requantize", help="The source may be quantized already."
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Show what each tensor would become, and write nothing."
    ),
    threads: int = ThreadsOption,
) -> None:
    """Quantize a model. Norms and other small tensors stay exact; the result is read back before it
    gets its name."""
    pairs = []
    for pair in tensor_type or []:
        name, equals, kind = pair.rpartition("=")
        if not equals or not name:
            raise fail(f"--tensor-type is {pair!r}; it must be NAME=TYPE")
        pairs.append((name, kind))
    with progress(f"Quantizing {source.name}") as report:
        done = run(
            source,
            None if dry_run else out,
            type,
            tensor_types=pairs,
            imatrix=imatrix,
            pure=pure,
            allow_requantize=allow_requantize,
            n_threads=threads or None,
            progress=report,
        )
    if dry_run:
        _show(done)
    for (kind, reason), count in _fallbacks(done).items():
        what = "1 tensor is" if count == 1 else f"{count} tensors are"
        typer.echo(f"{what} {kind}: {reason}")
    typer.echo(
        f"{'would be ' if dry_run else ''}{out}: {done.type}, {size(done.source_bytes)} to "
        f"{size(done.target_bytes)}, {done.bits_per_weight:.2f} bits a weight"
        + (
            f", {done.seconds:.1f} s "
            f"({done.source_bytes / 2**20 / max(done.seconds, 1e-9):.0f} MiB/s read)"
            if done.seconds
            else ""
        )
    )


def _fallbacks(report: QuantizeReport) -> Counter[tuple[str, str]]:
    """(type, reason) of matrices whose rows do not fit the type asked for."""
    return Counter(
        (one.target_type, one.reason) for one in report.tensors if one.reason.startswith("rows of ")
    )


def _show(report: QuantizeReport) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("tensor", "from", "to", "size", ""):
        table.add_column(title, justify="right" if title == "size" else "left", no_wrap=True)
    for one in report.tensors:
        table.add_row(
            one.name, one.source_type, one.target_type, size(one.target_bytes), one.reason
        )
    Console(highlight=False, width=160).print(table)
