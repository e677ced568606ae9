"""`pillion rm`: throws a model of the cache away."""

from __future__ import annotations

import typer

from .. import hub
from ..sizes import size_of
from .console import command


@command
def rm(
    name: str = typer.Argument(
        ...,
        metavar="OWNER/NAME[:FILE|QUANT]",
        help="A repository, or a file, pattern or quantization of it.",
        show_default=False,
    ),
) -> None:
    """Delete a model from the cache; what other programs hold of it goes too."""
    typer.echo(f"{size_of(hub.remove_cached(name))} freed")
