"""The assistant of a target: in its repository, or in a sister repository of the same owner or of
the owner of the model it was made from.

Names only say where to look. The header of a file decides: an assistant for targets of this width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..drafter_file import fits
from ..errors import HubError, ModelFileError
from ..gguf_head import head_of
from .choosing import Choice, choices
from .client import Hub
from .fetching import Progress, fetch, head
from .listing import Listing
from .names import kind_by_name, stem_of

TARGETS = ("gemma4",)
"""Architectures that have assistants."""

_ORDER = ("Q8_0", "Q4_0", "Q4_K_M", "BF16", "F16", "F32")
_WORDS = re.compile(r"[-._](?:mtp|assistant|assist|draft|drafter|unquantized)(?=$|[-._])")
_SISTERS_MAX = 4
_SEARCHES_MAX = 4


@dataclass(frozen=True)
class Found:
    """A drafter, or why there is none."""

    path: Path | None = None
    repo: str = ""
    files: tuple[Path, ...] = ()
    reason: str = ""


def find(
    hub: Hub, listing: Listing, target: Choice, path: Path, progress: Progress | None
) -> Found:
    """Looks for the drafter of a target that is in the cache, and brings it there."""
    facts = head_of(path)
    if facts is None or facts.architecture not in TARGETS or facts.width is None:
        what = facts.architecture if facts is not None else None
        return Found(reason=f"there are assistants for Gemma 4, and this is {what or 'unknown'}")
    here = _in(hub, listing, target, facts.width, progress)
    if here is not None:
        return here
    troubles: list[str] = []
    for name in _sisters(hub, listing, troubles):
        try:
            found = _in(hub, hub.listing(name), target, facts.width, progress)
        except HubError as error:
            troubles.append(error.sentence)
            continue
        if found is not None:
            return found
    reason = f"neither {listing.repo} nor a sister repository has an assistant that fits"
    return Found(reason="; ".join([reason, *troubles]))


def _in(
    hub: Hub, listing: Listing, target: Choice, width: int, progress: Progress | None
) -> Found | None:
    """The best assistant for this width in a repository."""
    candidates = [one for one in choices(listing) if one.kind == "drafter"]
    for one in sorted(candidates, key=lambda one: _rank(one, target)):
        if len(one.files) != one.n_parts:
            continue
        facts = head(hub, listing, one.files[0])
        if facts is None or facts.kind != "drafter" or facts.width not in (None, width):
            continue
        try:
            paths = fetch(hub, listing, one, progress)
        except ModelFileError:
            continue
        if fits(paths[0], width):
            return Found(paths[0], listing.repo, tuple(paths))
    return None


def _rank(choice: Choice, target: Choice) -> tuple[int, int, str]:
    """Lower is better: near the root, of the target's quantization, then by `_ORDER`."""
    quantization = choice.quantization or ""
    if quantization == target.quantization:
        place = -1
    else:
        place = _ORDER.index(quantization) if quantization in _ORDER else len(_ORDER)
    return choice.name.count("/"), place, choice.name


def _sisters(hub: Hub, listing: Listing, troubles: list[str]) -> Iterator[str]:
    """Repositories whose names say that they hold the assistant of this model, the closest name
    first."""
    stems = list(dict.fromkeys(map(stem_of, (listing.repo, *listing.base_models))))
    owners = dict.fromkeys(one.partition("/")[0] for one in (listing.repo, *listing.base_models))
    given, searches = {listing.repo}, 0
    for owner in owners:
        for stem in stems:
            searches += 1
            if searches > _SEARCHES_MAX:
                return
            try:
                found = [one for one in hub.search(owner, stem) if _is_sister(one, stem)]
            except HubError as error:
                troubles.append(error.sentence)
                return
            for name in sorted(found, key=len)[:_SISTERS_MAX]:
                if name not in given:
                    given.add(name)
                    yield name


def _is_sister(repo: str, stem: str) -> bool:
    """True for STEM-assistant-GGUF and the like."""
    return kind_by_name(repo) == "drafter" and _WORDS.sub("", stem_of(repo)).startswith(stem)
