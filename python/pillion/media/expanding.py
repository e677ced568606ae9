"""Puts media into a prompt: where a marker stands, the medium's begin mark, the ids of its rows and
its end mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import MediaError
from .markers import MarkerTokens


@dataclass(frozen=True)
class Medium:
    """A medium whose rows the model has."""

    kind: str
    """ "image" or "audio"."""
    ids: Sequence[int]
    """Token ids of its rows, all below 0."""
    n_pieces: int = 1
    """Pieces in which a sound was encoded."""


def expanded(
    tokens: Sequence[int], markers: Mapping[str, MarkerTokens], media: Sequence[Medium]
) -> list[int]:
    """The tokens with each medium in place of its marker, in order. markers: of each kind.

    Raises `MediaError` if the markers are not as many as the media, or in another order: a template
    that drops a picture would answer without it.
    """
    kinds = {one.marker: kind for kind, one in markers.items()}
    found = [kinds[token] for token in tokens if token in kinds]
    wanted = [one.kind for one in media]
    if found != wanted:
        raise MediaError(
            f"the messages have {_listed(wanted)}, but the chat template wrote markers of "
            f"{_listed(found)}: it does not show all of them, or not in order"
        )
    out: list[int] = []
    coming = iter(media)
    for token in tokens:
        if token in kinds:
            around = markers[kinds[token]]
            out += [around.begin, *next(coming).ids, around.end]
        else:
            out.append(token)
    return out


def _listed(kinds: Sequence[str]) -> str:
    if not kinds:
        return "nothing"
    return ", ".join(f"1 {kind}" for kind in kinds) if len(kinds) <= 4 else f"{len(kinds)} media"
