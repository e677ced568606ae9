"""Finds the mmproj file of a model, its towers for images and sounds, among the files beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from .arguments import check_path
from .calling import checked
from .errors import PairingError, PillionError
from .files_beside import files_beside
from .gguf_head import Value, facts_of, head_of
from .mmproj import Mmproj
from .model import Model

Target: TypeAlias = Model | str | os.PathLike[str]

PROJECTORS = ("gemma4v", "gemma4uv", "gemma4a", "gemma4ua")
"""Kinds of towers that run here."""

_WIDTHS = ("clip.vision.projection_dim", "clip.audio.projection_dim")
_KINDS = ("clip.vision.projector_type", "clip.audio.projector_type", "clip.projector_type")


@checked
def find_mmproj(model: Target) -> Path | None:
    """Returns the path of the one mmproj file beside the model that fits it; None: there is none.

    Metadata decides: the architecture is clip, the projectors are known, and their projection_dim
    is the model's width. Only the first bytes of files are read. Raises PairingError, which names
    the files, if several fit, or if there are some and none fits.
    """
    path, width = _path_and_width(model)
    there = [other for other in files_beside(path) if _is_mmproj(other)]
    found = [other for other in there if fits(other, width)]
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise PairingError(
            f"{path.name} has more than one mmproj file beside it: {names}; name the one to use, "
            f"or None for none"
        )
    if there and not found:
        reasons = "; ".join(why_not(other, width) for other in there)
        raise PairingError(f"{path.name} has no mmproj file beside it that fits: {reasons}")
    return found[0] if found else None


def _path_and_width(model: Target) -> tuple[Path, int]:
    if isinstance(model, Model):
        return Path(model.path), model.n_embd
    with Model.open(check_path("model", model), metadata_only=True) as opened:
        return Path(opened.path), opened.n_embd


def _is_mmproj(path: Path) -> bool:
    head = head_of(path)
    return head is not None and head.kind == "mmproj"


def fits(path: Path, width: int) -> bool:
    """True for an mmproj file of known projectors for models of that width, by its first bytes;
    False for all other files."""
    facts = facts_of(path)
    if not _is_mmproj(path):
        return False
    kinds, widths = _given(facts, _KINDS), _given(facts, _WIDTHS)
    return bool(kinds) and kinds <= {*PROJECTORS} and widths == {width}


def _given(facts: dict[str, Value], keys: tuple[str, ...]) -> set[Value]:
    return {facts[key] for key in keys if key in facts}


def why_not(path: Path, width: int) -> str:
    """Why an mmproj file does not fit a model of that width, for a person."""
    try:
        with Mmproj(path, n_threads=1) as towers:
            return f"{path.name} is for models of width {towers.n_embd}, this one has width {width}"
    except (PillionError, OSError) as error:
        return str(getattr(error, "sentence", error))
