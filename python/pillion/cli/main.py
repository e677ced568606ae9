"""Joins the subcommands."""

from __future__ import annotations

import logging
import os
import sys

import typer

from .. import version
from .bench import bench
from .console import INTERRUPTED
from .convert import convert
from .demo import demo
from .doctor import doctor
from .imatrix import imatrix
from .inspect import inspect
from .list import list_models
from .perplexity import perplexity
from .pull import pull
from .quantize import quantize
from .rm import rm
from .run import run
from .serve import serve
from .split import join, split
from .tokenize import tokenize
from .tune import tune

app = typer.Typer(
    name="pillion",
    help="Gemma 4 from a GGUF file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    run,
    serve,
    pull,
    list_models,
    rm,
    demo,
    doctor,
    bench,
    tune,
    inspect,
    tokenize,
    perplexity,
    convert,
    quantize,
    imatrix,
    split,
    join,
):
    app.command("list" if command is list_models else None)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version())
        raise typer.Exit


@app.callback()
def _options(
    verbose: bool = typer.Option(
        False, "--verbose", "-v", help="Show the library's log on stderr."
    ),
    _version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and leave.",
        callback=_print_version,
        is_eager=True,
    ),
) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        format="%(levelname)s: %(message)s",
        level=logging.DEBUG if verbose else logging.WARNING,
    )


def _open_closed_streams() -> None:
    """Python has None for a stream that was closed before it began (`pillion … >&-`)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It stays open to the end.
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)


def main() -> None:
    """The entry point."""
    _open_closed_streams()
    try:
        app()
    except KeyboardInterrupt:  # outside any command's own work
        sys.exit(INTERRUPTED)
