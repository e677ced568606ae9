"""The GGUF files beside a model, where its drafter and its mmproj lie."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MAX_LINKS = 40
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def files_beside(target: Path) -> list[Path]:
    """Other GGUF files in the target's folder, each once. If the target is a link, also those in
    the folders of the links behind it. A file in parts counts as its first part."""
    found: list[Path] = []
    for path in _files_beside(target):
        if _is_file(path, target) and path.resolve() not in [one.resolve() for one in found]:
            found.append(path)
    return found


def _files_beside(target: Path) -> list[Path]:
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
