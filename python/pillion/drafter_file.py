"""Finds the drafter of a target among the files beside it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TypeAlias

from .arguments import check_path
from .calling import checked
from .errors import PairingError, PillionError
from .files_beside import files_beside
from .gguf_head import ASSISTANTS, head_of
from .model import Model

Target: TypeAlias = Model | str | os.PathLike[str]

_log = logging.getLogger("pillion")


@checked
def find_drafter(target: Target) -> Path | None:
    """Returns the path of the one assistant beside the target whose width fits it; None: there is
    none.

    Metadata decides: the architecture, and `embedding_length_out`, which is the target's width.
    An assistant in parts counts once, as its first part. Raises PairingError, which lists them, if
    several fit.
    """
    found, sentence = _search(target)
    if len(found) > 1:
        raise PairingError(sentence)
    return found[0] if found else None


def drafter_beside(target: Target, warn: bool = True) -> tuple[Path | None, str]:
    """`find_drafter` for callers who can do without: if several fit it logs a warning and returns
    none.

    Returns the assistant's path and "", or None and the reason.
    """
    found, sentence = _search(target)
    if len(found) > 1 and warn:
        _log.warning("%s", sentence)
    return (found[0], "") if len(found) == 1 else (None, sentence)


def _search(target: Target) -> tuple[list[Path], str]:
    """All assistants that fit, and a sentence unless there is exactly one."""
    if isinstance(target, Model):
        path = Path(target.path)
        found = _beside(path, target.n_embd)
    else:
        with Model.open(check_path("target", target), metadata_only=True) as model:
            path = Path(model.path)
            found = _beside(path, model.n_embd)
    if len(found) > 1:
        names = ", ".join(map(str, found))
        advice = "name the one to use, or None for no drafter"
        return found, f"{path.name} has more than one drafter beside it: {names}; {advice}"
    return found, "" if found else f"there is no drafter beside {path.name}"


def _beside(target: Path, width: int) -> list[Path]:
    return [path for path in files_beside(target) if _may_be_assistant(path) and fits(path, width)]


def _may_be_assistant(path: Path) -> bool:
    """A look at the first bytes, where GGUF files have their architecture, so that large files are
    not opened for nothing."""
    head = head_of(path)
    return head is not None and head.architecture in (None, *ASSISTANTS)


def fits(path: Path, width: int) -> bool:
    """True for an assistant for targets of that width; False for all other files, also for those
    that cannot be read."""
    try:
        with Model.open(path, metadata_only=True) as model:
            if not model.is_drafter:
                return False
            metadata = model.metadata
            arch = metadata.get("general.architecture", ASSISTANTS[0])
            return int(metadata[f"{arch}.embedding_length_out"]) == width
    except (PillionError, OSError, KeyError, TypeError, ValueError):
        return False
