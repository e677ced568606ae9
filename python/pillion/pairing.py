"""Finds the drafter that belongs to a target, among the files beside it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Optional, Union

from .arguments import check_path
from .calling import checked
from .errors import PairingError, PillionError
from .model import Model

ARCHITECTURES = ("gemma4-assistant", "gemma4_assistant")

_HEAD_BYTES = 1 << 16
_NAMES = re.compile(r"^mtp-|assistant|-mtp\b", re.IGNORECASE)


@checked
def find_drafter(target: Union[Model, str, os.PathLike[str]]) -> Optional[Path]:
    """The one assistant beside the target whose width fits it; None when there is none.

    Metadata decides: the architecture, and `embedding_length_out`, which is the target's width. Where a file does not say the
    width, its name has to call it a drafter (mtp-…, …-assistant…, …-MTP…). Two that fit are an error that lists both.
    """
    if isinstance(target, Model):
        return _beside(Path(target.path), target.n_embd)
    with Model.open(check_path("target", target), metadata_only=True) as model:
        return _beside(Path(model.path), model.n_embd)


def _beside(target: Path, width: int) -> Optional[Path]:
    found: list[Path] = []
    try:
        files = sorted(target.resolve().parent.glob("*.gguf"))
        if target.parent.resolve() != target.resolve().parent:  # a link: also where it stands
            files += sorted(target.parent.glob("*.gguf"))
    except OSError:
        return None
    for path in files:
        if not _is_file(path, target) or path.resolve() in [other.resolve() for other in found]:
            continue
        if _may_be_assistant(path) and _fits(path, width):
            found.append(path)
    if len(found) > 1:
        raise PairingError(
            f"{target.name} has more than one drafter beside it: {', '.join(str(path) for path in found)}; "
            "name the one to use, or None for no drafter"
        )
    return found[0] if found else None


def _is_file(path: Path, target: Path) -> bool:
    try:
        return path.is_file() and not path.samefile(target)
    except OSError:
        return False


def _may_be_assistant(path: Path) -> bool:
    """A look at the first bytes, where GGUF files have their architecture, so that large files are not opened for nothing."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    key = b"general.architecture"
    at = head.find(key)
    return at < 0 or any(name.encode() in head[at + len(key) : at + len(key) + 64] for name in ARCHITECTURES)


def _fits(path: Path, width: int) -> bool:
    """Whether this is an assistant for targets of that width; False for all other files, also for those that cannot be read."""
    try:
        with Model.open(path, metadata_only=True) as model:
            if not model.is_drafter:
                return False
            metadata = model.metadata
            for arch in ARCHITECTURES:
                value: Any = metadata.get(f"{arch}.embedding_length_out")
                if value is not None:
                    return int(value) == width
            return _NAMES.search(path.name) is not None
    except (PillionError, OSError, TypeError, ValueError):
        return False
