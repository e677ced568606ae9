"""`pillion list`: the models in the cache."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from .. import hub
from ..hub import CachedModel
from .console import command, size

_PIPE_WIDTH = 250


@command
def list_models(
    as_json: bool = typer.Option(False, "--json", help="Print a list of objects."),
) -> None:
    """Show the models in the cache: where from, how large, what kind, and which drafter fits
    which."""
    rows = hub.list_cached()
    if as_json:
        typer.echo(json.dumps([row.as_dict() for row in rows], indent=2))
        return
    if rows:
        _show(rows)
    else:
        typer.echo("no model yet: pillion pull OWNER/NAME[:QUANT]")
    rest = hub.unfinished()
    if rest:
        here = size(sum(map(_bytes, rest)))
        typer.echo(f"{len(rest)} unfinished ({here}): pulling the same again goes on with it")


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # its download ended meanwhile
        return 0


def _show(rows: list[CachedModel]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("repository", "file", "size", "kind", "type", "pairs with"):
        table.add_column(title, justify="right" if title == "size" else "left", overflow="fold")
    for row in rows:
        partners = (one.removeprefix(f"{row.repo}:") for one in row.pairs_with)
        table.add_row(
            row.repo,
            row.file if row.n_parts == 1 else f"{row.file}, {_parts(row)}",
            size(row.size),
            row.kind,
            row.quantization or "",
            ", ".join(partners),
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    console.print(table)


def _parts(row: CachedModel) -> str:
    if row.n_parts_here == row.n_parts:
        return f"{row.n_parts} parts"
    return f"{row.n_parts_here} of {row.n_parts} parts"
