"""Keeps what users and tools write as text, also if it is spelled like a control token.

A rendered conversation is one string in which control tokens are spelled out. A message that holds
"<turn|>" would end its turn there, and could begin one of another role. So each such spelling is
cut after its first character before a template sees it. The prompt knows its cuts, and what lies
between them becomes tokens piece by piece.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ..tokenizer import Tokenizer

CUT = "\udfff"
"""Marks a cut in a text: half of a surrogate pair, which no text has."""

# Templates may write JSON in ASCII. Only inside a spelling is that a cut.
_ESCAPED = r"\\udfff"


class Prompt(str):
    """A rendered conversation: a plain string. No token spans its `cuts`."""

    cuts: tuple[int, ...]

    def __new__(cls, text: str, cuts: Collection[int] = ()) -> Prompt:
        self = super().__new__(cls, text)
        self.cuts = tuple(cuts)
        return self

    def before(self, tail: str) -> Prompt:
        """Returns the prompt followed by `tail`."""
        return Prompt(self + tail, self.cuts)

    def really_starts_with(self, words: str) -> bool:
        """True if the prompt starts with this text and no cut lies in it."""
        return self.startswith(words) and not any(cut < len(words) for cut in self.cuts)

    def really_ends_with(self, words: str) -> bool:
        """True if the prompt ends with this text and no cut lies in it."""
        return self.endswith(words) and not any(cut > len(self) - len(words) for cut in self.cuts)

    def pieces(self) -> Iterator[str]:
        """The texts between the cuts."""
        for begin, end in zip((0, *self.cuts), (*self.cuts, len(self)), strict=False):
            yield self[begin:end]


class Quoter:
    """Cuts the texts of one conversation.

    markers: tokens that are never text, whatever their type. spelled: markers that are not tokens
    and count wherever they are spelled.
    """

    def __init__(
        self, tokenizer: Tokenizer, markers: Collection[int], spelled: Collection[str] = ()
    ) -> None:
        self._spelled = spelled
        self._tokenizer = tokenizer
        self._markers = markers
        self._kinds: dict[int, str] = {}  # of the tokens seen; "" for text
        self._found: set[str] = set()

    def cut(
        self, text: str, kept: Collection[str] = (), only: Collection[str] | None = None
    ) -> str:
        """Returns the text with its cuts. kept: spellings that are meant as tokens. only: the
        spellings that are not; None: all others."""
        text = text.replace(CUT, "\ufffd")
        if only is not None and not any(one in text for one in only):
            return text
        while True:
            found = self._spellings(text) - set(kept)
            if only is not None:
                found &= set(only)
            if not found:
                return text
            self._found |= found
            text = _either(found).sub(lambda one: f"{one[0][0]}{CUT}{one[0][1:]}", text)

    def cut_all(self, value: Any) -> Any:
        """`cut` for all texts in lists and objects. Keys are left alone."""
        if isinstance(value, str):
            return self.cut(value)
        if isinstance(value, Mapping):
            return {key: self.cut_all(one) for key, one in value.items()}
        return [self.cut_all(one) for one in value] if isinstance(value, (list, tuple)) else value

    def prompt(self, rendered: str) -> Prompt:
        """Makes a `Prompt` of what a template rendered from such texts."""
        if self._found:
            halves = [(re.escape(one[0]), re.escape(one[1:])) for one in self._found]
            escaped = "|".join(f"(?<={first}){_ESCAPED}(?={rest})" for first, rest in halves)
            rendered = re.sub(escaped, lambda _: CUT, rendered)
        parts = rendered.split(CUT)
        cuts, at = [], 0
        for part in parts[:-1]:
            at += len(part)
            cuts.append(at)
        return Prompt("".join(parts), cuts)

    def _spellings(self, text: str) -> set[str]:
        """Spellings of control tokens in a text."""
        found = set()
        for piece in text.split(CUT):
            found |= {one for one in self._spelled if one in piece}
            for token in set(self._tokenizer.encode(piece, add_special=False, parse_special=True)):
                if token not in self._kinds:
                    self._kinds[token] = self._spelling(token)
                spelled = self._kinds[token]
                if spelled and spelled in piece:
                    found.add(spelled)
        return found

    def _spelling(self, token: int) -> str:
        control = token in self._markers or self._tokenizer.token_type(token) == "control"
        spelled = self._tokenizer.token_text(token) if control else ""
        return spelled if len(spelled) > 1 else ""


def _either(spellings: Collection[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(spellings, key=len, reverse=True))))
