"""Finds the drafter of a target among the files beside it."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TypeAlias

from .arguments import check_path
from .calling import checked
from .errors import PairingError, PillionError
from .gguf_head import ASSISTANTS, head_of
from .model import Model

Target: TypeAlias = Model | str | os.PathLike[str]

_log = logging.getLogger("pillion")

_MAX_LINKS = 40
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


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
    found: list[Path] = []
    for path in _files_beside(target):
        if not _is_file(path, target) or path.resolve() in [other.resolve() for other in found]:
            continue
        if _may_be_assistant(path) and fits(path, width):
            found.append(path)
    return found


def _files_beside(target: Path) -> list[Path]:
    """GGUF files in the target's folder. If the target is a link, also in the folders of the links
    behind it."""
    files: list[Path] = []
    folders: list[Path] = []
    try:
        for path in _links(target):
            folder = path.parent.resolve()
            if folder not in folders:
                folders.append(folder)
                here = sorted(path.parent.glob("*.gguf"))
                files = here + files  # where the last link ends counts first
    except OSError:
        return []
    return [path for path in files if _stands_for_itself(path)]


def _links(path: Path) -> list[Path]:
    chain = [path]
    while chain[-1].is_symlink() and len(chain) < _MAX_LINKS:
        chain.append(chain[-1].parent / os.readlink(chain[-1]))
    return chain


def _stands_for_itself(path: Path) -> bool:
    """False for a part whose first part lies beside it: the first part stands for all."""
    part = _PART.search(path.name)
    if part is None or int(part[1]) == 1:
        return True
    return not path.with_name(f"{path.name[: part.start()]}-00001-of-{part[2]}.gguf").exists()


def _is_file(path: Path, target: Path) -> bool:
    try:
        return path.is_file() and not path.samefile(target)
    except OSError:
        return False


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
