"""`TextAssembler`: chosen tokens go in, pieces of text come out.

It decodes UTF-8 as it comes, holds back what could become a stop string, and tells when the text
ends. It has no model, no context and no thread, and does not choose tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple

from ..context import Logprobs
from ..tokenizer import TokenStream
from .stops import StopFilter


class TokenInfo(NamedTuple):
    """A generated token. It has log-probabilities if the request asked for them."""

    id: int
    """The token's id."""
    text: str
    """The text this token completed; "" inside a character."""
    offset: int
    """Offset of that text in the answer, in characters."""
    logprob: float | None = None
    """Its log-probability (natural log); None: none was asked for."""
    top: tuple[tuple[int, float], ...] = ()
    """The most likely tokens in its place with theirs, best first."""
    drafted: bool = False
    """True if a drafter guessed it."""


class Piece(NamedTuple):
    """Text that is ready, and the tokens that belong to it."""

    text: str
    """Whole characters; joined, the pieces are the answer's text."""
    tokens: tuple[TokenInfo, ...] = ()
    """The tokens that it came from."""


class TextAssembler:
    """The text of one answer.

    decoder: a fresh `TokenStream`. limit: tokens after which the text ends with "length". shown:
    control tokens whose spelling belongs to the text.
    """

    def __init__(
        self, decoder: TokenStream, stop: Sequence[str], limit: int, shown: Collection[int] = ()
    ) -> None:
        self._decoder = decoder
        self._stops = StopFilter(stop)
        self._limit = limit
        self._shown = shown
        self._unsent: deque[TokenInfo] = deque()  # tokens whose text is still held back
        self._raw_length = 0  # characters decoded, before the stop filter
        self._sent_length = 0  # characters after it
        self._texts: list[str] = []
        self.tokens: list[int] = []
        """Token ids so far, without the one that ends the text."""
        self.finish_reason: str | None = None
        """None until the end. Then "stop" (the model, a stop string or a constraint ended the text)
        or "length" (the limit did)."""

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    @property
    def stop(self) -> str | None:
        """The stop string that ended the text; None: something else did."""
        return self._stops.stop

    @property
    def room(self) -> int:
        """Number of tokens that may still come."""
        return self._limit - len(self.tokens)

    def add(self, token: int, drafted: bool = False, found: Logprobs | None = None) -> Piece | None:
        """Adds the next token. Returns the text that is ready, None if there is none."""
        text = self._decoder.feed(token, token in self._shown)
        offset = self._raw_length
        self._raw_length += len(text)
        if found is None:
            info = TokenInfo(token, text, offset, drafted=drafted)
        else:
            info = TokenInfo(token, text, offset, found.token, tuple(found.top), drafted)
        self.tokens.append(token)
        self._unsent.append(info)
        text = self._stops.feed(text)
        if self._stops.stopped:
            return self.finish("stop", text)
        if len(self.tokens) >= self._limit:
            return self.finish("length", text)
        return self._send(text) if text else None

    def finish(self, reason: str, text: str = "") -> Piece:
        """Ends the text. Returns the last piece, perhaps without text: what stop filter and decoder
        still hold, unless a stop string cut it off."""
        if not self._stops.stopped:
            text += self._stops.feed(self._decoder.flush())
        if self._stops.stopped:
            reason = "stop"
        else:
            text += self._stops.flush()
        self.finish_reason = reason
        piece = self._send(text) if text else Piece("")
        if self._stops.stopped:
            self._unsent.clear()
        rest = tuple(self._unsent)
        self._unsent.clear()
        return Piece(piece.text, piece.tokens + rest)

    def _send(self, text: str) -> Piece:
        """Text that passed the stop filter, with the tokens that begin before its end."""
        self._texts.append(text)
        self._sent_length += len(text)
        ready = []
        while self._unsent and self._unsent[0].offset < self._sent_length:
            ready.append(self._unsent.popleft())
        return Piece(text, tuple(ready))
