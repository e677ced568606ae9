"""`LLM.from_pretrained`: a model of the hub, opened."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import PairingError, UsageError
from ..hub import pull
from ..media.media_towers import Given as GivenMmproj
from ..model import Model
from ..pair import LOOKUP, Drafter

T = TypeVar("T")

_log = logging.getLogger("pillion")

_OF_PULL = {
    "additional_files": "additional_files",
    "revision": "revision",
    "token": "token",
    "cache_dir": "cache_dir",
    "endpoint": "endpoint",
    "local_files_only": "local_files_only",
    "download_progress": "progress",
}
_ELSEWHERE = ("local_dir", "local_dir_use_symlinks")
"""Of llama-cpp-python: where else the file would go."""


def open_pretrained(
    cls: Callable[..., T],
    repo_id: str,
    filename: str | None,
    drafter: Drafter | None,
    mmproj: GivenMmproj,
    options: dict[str, Any],
) -> T:
    """Pulls the model and calls `cls` with its path, its drafter, its mmproj file and the other
    options."""
    for name in _ELSEWHERE:
        if name in options:
            raise UsageError(
                f"from_pretrained() has no argument {name!r}: files stay in the cache of "
                "huggingface_hub, which cache_dir or HF_HOME moves"
            )
    of_pull = {theirs: options.pop(ours) for ours, theirs in _OF_PULL.items() if ours in options}
    lookup = isinstance(drafter, str) and drafter == LOOKUP
    given = drafter is None or lookup or isinstance(drafter, Model)
    of_pull["drafter"] = None if given else drafter
    is_name = isinstance(mmproj, (str, os.PathLike))
    of_pull["mmproj"] = mmproj if is_name else None
    pulled = pull(repo_id, filename, **of_pull)
    options["mmproj"] = pulled.mmproj if is_name else mmproj
    if given or pulled.drafter is None:
        if not given:
            _log.info("%s: no drafter: %s", pulled.repo, pulled.no_drafter)
        return cls(pulled.path, drafter=drafter, **options)
    try:
        return cls(pulled.path, drafter=pulled.drafter, **options)
    except PairingError as error:
        if drafter != "auto":
            raise
        _log.warning("the drafter that was found does not fit: %s", error.sentence)
        return cls(pulled.path, drafter=None, **options)
