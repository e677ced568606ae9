"""`pillion list`: the models in the cache."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from .. import hub
from ..hub import CachedModel
from ..sizes import size_of
from .console import command

_MEASURED = 10_000  # columns, more than any table needs


@command
def list_models(
    as_json: bool = typer.Option(False, "--json", help="Print a list of objects."),
) -> None:
    """Show the models in the cache: where from, how large, what kind, and which drafter and
    mmproj file fit which."""
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
        here = size_of(sum(map(_bytes, rest)))
        typer.echo(f"{len(rest)} unfinished ({here}): pulling the same again goes on with it")


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # its download ended meanwhile
        return 0


def _show(rows: list[CachedModel]) -> None:
    """A table where it has the room of a line, else some lines for each model."""
    table = Table(box=None, pad_edge=False)
    for title in ("repository", "file", "size", "kind", "type", "pairs with"):
        table.add_column(title, justify="right" if title == "size" else "left")
    for row in rows:
        table.add_row(row.repo, *_facts(row), ", ".join(_partners(row)))
    console = Console(highlight=False)
    width = console.measure(table, options=console.options.update(max_width=_MEASURED)).maximum
    if console.is_terminal and width > console.width:
        _show_narrow(rows)
        return
    Console(highlight=False, width=width).print(table)


def _show_narrow(rows: list[CachedModel]) -> None:
    last = ""
    for row in rows:
        if row.repo != last:
            typer.echo(row.repo)
        last = row.repo
        typer.echo("  " + "  ".join(filter(None, _facts(row))))
        for partner in _partners(row):
            typer.echo(f"    pairs with {partner}")


def _facts(row: CachedModel) -> tuple[str, str, str, str]:
    file = row.file if row.n_parts == 1 else f"{row.file}, {_parts(row)}"
    return file, size_of(row.size), row.kind, row.quantization or ""


def _partners(row: CachedModel) -> list[str]:
    return [one.removeprefix(f"{row.repo}:") for one in row.pairs_with]


def _parts(row: CachedModel) -> str:
    if row.n_parts_here == row.n_parts:
        return f"{row.n_parts} parts"
    return f"{row.n_parts_here} of {row.n_parts} parts"
