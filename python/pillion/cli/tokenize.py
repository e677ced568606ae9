"""`pillion tokenize`: the tokens of a text."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from .by_name import HfOption, model_file
from .console import command, open_model
from .options import ModelOption


@command
def tokenize(
    text: str = typer.Argument(..., help="The text.", show_default=False),
    model: Path | None = ModelOption,
    hf: str | None = HfOption,
    no_special: bool = typer.Option(False, "--no-special", help="Do not add BOS or EOS."),
    parse_special: bool = typer.Option(
        False, "--parse-special", help="Read control tokens spelled out in the text."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the ids as a JSON list."),
) -> None:
    """Show the tokens of a text."""
    path = model_file(model, hf)
    with open_model(path, metadata_only=True) as opened:
        tokenizer = opened.tokenizer
        ids = tokenizer.encode(text, add_special=not no_special, parse_special=parse_special)
        if as_json:
            typer.echo(json.dumps(ids))
            return
        for token in ids:
            typer.echo(f"{token:>8}  {tokenizer.token_text(token)!r}")
