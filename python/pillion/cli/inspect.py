"""`pillion inspect`: what is in a model file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from .console import command, open_model, size


@command
def inspect(
    file: Path = typer.Argument(..., help="A GGUF file.", show_default=False),
    as_json: bool = typer.Option(False, "--json", help="Print everything as one JSON object."),
) -> None:
    """Show what is in a model file: sizes, layers, tensor types, metadata."""
    with open_model(file, metadata_only=True) as model:
        description = model.describe()
        if as_json:
            typer.echo(json.dumps(description, ensure_ascii=False, indent=2))
            return
        typer.echo(f"{file}: {model.arch}{', a drafter' if model.is_drafter else ''}")
        facts = {
            "parameters": f"{model.n_params / 1e6:.1f} million",
            "file": size(model.file_bytes),
            "layers": model.n_layers,
            "width": model.n_embd,
            "vocabulary": model.n_vocab,
            "trained context": model.n_ctx_train,
        }
        if model.window:
            facts["sliding window"] = model.window
        _section("model", facts)
    for title, content in description.items():
        if isinstance(content, dict) and content:
            _section(title, content)
        elif isinstance(content, list) and content:
            typer.echo(f"\n{title}")
            for item in content:
                typer.echo(f"  {_short(item)}")


def _section(title: str, content: dict[str, Any]) -> None:
    width = max(map(len, content))
    typer.echo(f"\n{title}")
    for key, value in content.items():
        typer.echo(f"  {key:<{width}}  {_short(value)}")


def _short(value: Any, limit: int = 96) -> str:
    """A value on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.replace("\n", "\\n")
    return text if len(text) <= limit else text[: limit - 1] + "…"
