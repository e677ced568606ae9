"""`pillion demo`: the tiny model that comes with the package writes a few lines."""

from __future__ import annotations

import typer

from ..models import TINY_TARGET
from .console import command, fail, open_llm
from .run import show

PROMPT = "Genesis 1\n\nIn the beginning"


@command
def demo(n_predict: int = typer.Option(96, "-n", "--n-predict", help="Most tokens to write.")) -> None:
    """Let the tiny model that comes with the package write, and show its speed."""
    if not TINY_TARGET.exists():
        raise fail(f"{TINY_TARGET} is missing: this build came without its model")
    with open_llm(TINY_TARGET) as llm:
        typer.echo(f"{llm.model.n_params / 1e6:.1f} million parameters, greedy", err=True)
        typer.echo(PROMPT, nl=False)
        show(llm.generate(PROMPT, max_tokens=n_predict, temperature=0))
