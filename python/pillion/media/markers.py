"""The tokens around media: by their names in the vocabulary, since their numbers differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import MediaError
from ..tokenizer import Tokenizer
from .media_parts import AUDIO, IMAGE

MARKER: Final = {IMAGE: "<|image|>", AUDIO: "<|audio|>"}
"""What templates write where an image or a sound stands."""
BEGIN: Final = {IMAGE: "<|image>", AUDIO: "<|audio>"}
END: Final = {IMAGE: "<image|>", AUDIO: "<audio|>"}
SPELLED: Final = frozenset([*MARKER.values(), *BEGIN.values(), *END.values(), "<|video|>"])
"""Spellings that only the template may mean as tokens, whoever wrote the text."""


@dataclass(frozen=True)
class MarkerTokens:
    """Token ids of one kind of media."""

    marker: int
    """Stands for a medium in a rendered prompt."""
    begin: int
    """Comes before the medium's rows."""
    end: int
    """Comes behind them."""


def marker_tokens(tokenizer: Tokenizer, kind: str) -> MarkerTokens:
    """The tokens of a kind of media. Raises `MediaError` for a vocabulary without them."""
    found = []
    for spelled in (MARKER[kind], BEGIN[kind], END[kind]):
        token = token_of(tokenizer, spelled)
        if token is None:
            raise MediaError(
                f"the vocabulary of the model has no token {spelled!r}: it was not made for "
                f"{'images' if kind == IMAGE else 'sounds'}"
            )
        found.append(token)
    return MarkerTokens(*found)


def token_of(tokenizer: Tokenizer, spelled: str) -> int | None:
    """The token of that spelling; None: there is none."""
    ids = tokenizer.encode(spelled, add_special=False, parse_special=True)
    return ids[-1] if ids and tokenizer.token_text(ids[-1]) == spelled else None


def never_sampled(tokenizer: Tokenizer) -> list[int]:
    """The tokens that stand around media and for them. No model is to write them."""
    found = (token_of(tokenizer, one) for one in sorted(SPELLED))
    return [one for one in found if one is not None]
