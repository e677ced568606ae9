"""`pillion pull`: a model, its drafter and its mmproj file from the hub into the cache."""

from __future__ import annotations

import json

import typer

from .by_name import pull_with_bars, summary
from .console import command


@command
def pull(
    repo: str = typer.Argument(
        ...,
        metavar="OWNER/NAME[:FILE|QUANT]",
        help="A repository of huggingface.co; behind the colon a file, a pattern such as "
        "'*Q4_0.gguf', or a quantization.",
        show_default=False,
    ),
    drafter: str = typer.Option(
        "auto",
        "-md",
        "--model-draft",
        help="auto: the assistant in the repository or its sister; OWNER/NAME[:FILE|QUANT]; none.",
    ),
    mmproj: str = typer.Option(
        "auto",
        "--mmproj",
        help="Towers for images and sounds. auto: the mmproj file of the repository; a file's name "
        "or pattern; none.",
    ),
    revision: str | None = typer.Option(
        None, "--revision", help="Branch, tag or commit; without it the main branch."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one object: paths and facts."),
) -> None:
    """Download a model, its drafter and its mmproj file into the cache, or find them there.

    What is there already is not fetched again; an interrupted download goes on where it stopped."""
    pulled = pull_with_bars(
        repo,
        drafter=None if drafter == "none" else drafter,
        mmproj=None if mmproj == "none" else mmproj,
        revision=revision,
    )
    if as_json:
        typer.echo(json.dumps(pulled.as_dict(), indent=2))
        return
    for line in summary(pulled):
        typer.echo(line)
