"""The mmproj file of a target, in its repository: the towers for images and sounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelFileError, NotOnHubError
from ..gguf_head import head_of
from ..mmproj_file import fits
from .choosing import Choice, choices, choose, matches
from .client import Hub
from .drafters import TARGETS
from .fetching import Progress, fetch, head
from .listing import Listing
from .names import Name

_ORDER = ("BF16", "F16", "Q8_0", "F32")
"""Which type is taken where there are several: what is exact and small first."""


@dataclass(frozen=True)
class FoundMmproj:
    """An mmproj file, or why there is none."""

    path: Path | None = None
    reason: str = ""


def find(hub: Hub, listing: Listing, target: Path, progress: Progress | None) -> FoundMmproj:
    """Brings the mmproj file of a target that is in the cache, if its repository has one."""
    facts = head_of(target)
    if facts is None or facts.architecture not in TARGETS or facts.width is None:
        what = facts.architecture if facts is not None else None
        return FoundMmproj(reason=f"there are towers for Gemma 4, and this is {what or 'unknown'}")
    for one in sorted(_projectors(listing), key=_rank):
        if len(one.files) != one.n_parts:
            continue
        about = head(hub, listing, one.files[0])
        if about is None or about.kind != "mmproj":
            continue
        if about.width != facts.width:
            continue
        try:
            paths = fetch(hub, listing, one, progress)
        except ModelFileError:
            continue
        if fits(paths[0], facts.width):
            return FoundMmproj(paths[0])
    return FoundMmproj(reason=f"{listing.repo} has no mmproj file that fits")


def named(hub: Hub, listing: Listing, wanted: str, progress: Progress | None) -> Path:
    """Brings the mmproj file of that name or pattern. Raises `NotOnHubError` and
    `SeveralMatchesError`, which list what there is."""
    fitting = [one for one in _projectors(listing) if matches(one.name, wanted)]
    if len(fitting) == 1:
        return fetch(hub, listing, fitting[0], progress)[0]
    chosen = choose(listing, Name(listing.repo, file=wanted)).choice
    if chosen.kind != "mmproj":
        raise NotOnHubError(f"{chosen.name} of {listing.repo} is no mmproj file")
    return fetch(hub, listing, chosen, progress)[0]


def _projectors(listing: Listing) -> list[Choice]:
    return [one for one in choices(listing) if one.kind == "mmproj"]


def _rank(choice: Choice) -> tuple[int, int, str]:
    """Lower is better: near the root, then by `_ORDER`."""
    quantization = choice.quantization or ""
    place = _ORDER.index(quantization) if quantization in _ORDER else len(_ORDER)
    return choice.name.count("/"), place, choice.name
