"""The drafter that `-md` names, opened for a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import Model, find_drafter
from ..drafter_file import drafter_beside
from ..pair import LOOKUP
from .console import open_model


def open_drafter(target: Model, name: str | None, threads: int, device: str) -> Any | None:
    """A Model, "lookup", or None. name: of `-md`; None: the drafter beside the model, if there is
    one alone."""
    if name == "none":
        return None
    if name == LOOKUP:
        return LOOKUP
    if name is None:
        path, _ = drafter_beside(target)
    else:
        path = find_drafter(target) if name == "auto" else Path(name)
    if path is None:
        return None
    return open_model(path, n_threads=threads, device=device)
