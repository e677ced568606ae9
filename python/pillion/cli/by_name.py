"""`-hf`: a model of the hub in place of a file, in all commands that take one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ..hub import Pulled, pull
from ..hub.names import looks_like_name
from ..pair import LOOKUP
from ..sizes import size_of
from .console import downloads, fail

WRONG_USE = 2

HfOption = typer.Option(
    None,
    "-hf",
    "--hf",
    "--hf-repo",
    metavar="OWNER/NAME[:QUANT]",
    help="A model of huggingface.co in place of a file; it is downloaded once.",
    show_default=False,
)


def pull_with_bars(repo: str, **options: Any) -> Pulled:
    """`pull` behind progress bars."""
    try:
        with downloads() as report:
            return pull(repo, progress=report, **options)
    except KeyboardInterrupt:
        typer.echo("stopped; what came is kept, and the same command goes on from there", err=True)
        raise


def one_model(model: Path | None, option: Path | None) -> Path | None:
    """The file of MODEL or of -m."""
    if model is not None and option is not None:
        raise fail("give the model as MODEL or with -m, not both")
    return model or option


def model_file(model: Path | None, hf: str | None) -> Path:
    """The model of -m or -hf, for commands without a drafter."""
    return model_and_drafter(model, hf, "none")[0]


def model_and_drafter(
    model: Path | None, hf: str | None, drafter: str | None
) -> tuple[Path, str | None]:
    """The model's file of -m or -hf, and what -md is for it: the drafter of the hub is a path
    then."""
    return model_and_more(model, hf, drafter, "none")[:2]


def model_and_more(
    model: Path | None, hf: str | None, drafter: str | None, mmproj: str | None
) -> tuple[Path, str | None, str | None]:
    """The model's file of -m or -hf, and what -md and --mmproj are for it: files of the hub are
    paths then. mmproj: None is auto."""
    if hf is None:
        if model is None:
            typer.echo(
                "error: no model: name a GGUF file, or a repository of huggingface.co with "
                "-hf OWNER/NAME[:QUANT]",
                err=True,
            )
            raise typer.Exit(WRONG_USE)
        if not model.exists() and looks_like_name(str(model)):
            raise fail(
                f"there is no file {model}; a repository of huggingface.co goes behind -hf: "
                f"-hf {model}"
            )
        return model, drafter, mmproj
    if model is not None:
        raise fail("give the model as a file or with -hf, not both")
    plain = drafter in ("none", LOOKUP)
    towers = None if mmproj == "none" else mmproj or "auto"
    pulled = pull_with_bars(hf, drafter=None if plain else drafter or "auto", mmproj=towers)
    if pulled.kind == "mmproj":
        raise fail(f"{pulled.file} of {pulled.repo} is a projector (mmproj), no model")
    if pulled.reason and not pulled.was_cached:
        typer.echo(f"{pulled.repo}: {pulled.file} ({pulled.reason})", err=True)
    towers = "none" if pulled.mmproj is None else str(pulled.mmproj)
    if plain or pulled.drafter is None:
        return pulled.path, drafter, towers
    return pulled.path, str(pulled.drafter), towers


def summary(pulled: Pulled) -> list[str]:
    """What was pulled, for people."""
    facts = [size_of(pulled.size), pulled.quantization or "", pulled.reason]
    lines = [f"{_shown(pulled.kind)}: {pulled.path} ({', '.join(filter(None, facts))})"]
    if len(pulled.files) > 1:
        lines[0] = f"{lines[0][:-1]}, {len(pulled.files)} files)"
    if pulled.drafter is not None:
        lines.append(f"drafter: {pulled.drafter}")
    elif pulled.kind == "target":
        lines.append(f"no drafter: {pulled.no_drafter}")
    if pulled.mmproj is not None:
        lines.append(f"mmproj: {pulled.mmproj}")
    return lines


def _shown(kind: str) -> str:
    return "model" if kind == "target" else kind
