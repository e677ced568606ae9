"""Gemma 4's tool calls: their syntax read into OpenAI's fields.

As Google's function-calling guide and the models' own chat templates have it, a call is
<|tool_call>BODY<tool_call|>, and

    BODY    call:NAME{key:value,key:value}
    value   <|"|>text<|"|> | number | true | false | null | {key:value,…} | [value,…]
    key     bare up to the colon ("a.b", "@type", "max-age"), or quoted like a text

Between the quote marks nothing is escaped: braces, commas, newlines and plain quotes are text.

Assumed beyond that, because models do it or because their own templates show it to them: blanks
between the parts, texts and keys in JSON's quotes, and Python's True, False and None (the first
templates printed a null of the history as "None").

How calls stand in a reply, and what becomes of those that are none: replies.py.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

_DEPTH = 64  # objects and arrays inside one another; what is deeper is no call


@dataclass(frozen=True)
class ToolCall:
    """A complete call."""

    name: str
    arguments: str
    """The arguments: a JSON object as text, as in OpenAI's API."""
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")

    def as_dict(self) -> dict[str, Any]:
        """The call in the shape of a message's "tool_calls"."""
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }


def parse_call(body: str, *, quote: str = '<|"|>') -> ToolCall | None:
    """Reads the text between <|tool_call> and <tool_call|>. Returns None if it is no call. quote:
    the spelling of its quote mark."""
    try:
        return _CallReader(body, quote).call()
    except ValueError:
        return None


_BLANK = re.compile(r"[ \t\r\n]*")
# Half a surrogate pair is a marker (replies.py).
_NAME = re.compile("call:[ \\t\\r\\n]*([^\\s{}()\\[\\],<>\"'\ud800-\udfff]+)")
_BARE_KEY = re.compile('[^:{}\\[\\],"\\n\ud800-\udfff]+')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z]+")
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_JSON = json.JSONDecoder(strict=False)  # not strict: a line break inside the quotes is fine


class _CallReader:
    """Reads the syntax from left to right. Raises ValueError where the text leaves it."""

    def __init__(self, text: str, quote: str) -> None:
        self._text = text
        self._quote = quote
        self._at = 0

    def call(self) -> ToolCall:
        self._skip(_BLANK)
        name = self._take(_NAME)[1]
        self._skip(_BLANK)
        arguments = self._object(0)
        if self._at != len(self._text):
            raise ValueError("something follows the call")
        return ToolCall(name, json.dumps(arguments, ensure_ascii=False))

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def member() -> None:
            key = self._key()
            self._expect(":")
            found[key] = self._value(depth + 1)

        self._list("{", "}", member)
        return found

    def _array(self, depth: int) -> list[Any]:
        found: list[Any] = []
        self._list("[", "]", lambda: found.append(self._value(depth + 1)))
        return found

    def _list(self, begin: str, end: str, item: Any) -> None:
        self._expect(begin)
        if self._next(end):
            return
        item()
        while self._next(","):
            item()
        self._expect(end)

    def _key(self) -> str:
        if self._text.startswith((self._quote, '"'), self._at):
            return self._string()
        key = self._take(_BARE_KEY)[0].strip()
        if not key:
            raise ValueError("an empty key")
        return key

    def _value(self, depth: int) -> Any:
        if depth > _DEPTH:
            raise ValueError("too deep")
        first = self._text[self._at : self._at + 1]
        if first == "{":
            return self._object(depth)
        if first == "[":
            return self._array(depth)
        if first in (self._quote[0], '"'):
            return self._string()
        if first.isalpha():
            word = self._take(_WORD)[0]
            self._skip(_BLANK)
            if word not in _WORDS:
                raise ValueError("an unknown word")
            return _WORDS[word]
        return self._number()

    def _number(self) -> float:
        found = self._take(_NUMBER)
        self._skip(_BLANK)
        if found[1] is None and found[2] is None:
            return int(found[0])  # ValueError beyond Python's limit of digits
        value = float(found[0])
        if not math.isfinite(value):
            raise ValueError("a number beyond what JSON can say")
        return value

    def _string(self) -> str:
        if self._text.startswith(self._quote, self._at):
            begin = self._at + len(self._quote)
            end = self._text.index(self._quote, begin)
            text, self._at = self._text[begin:end], end + len(self._quote)
        elif self._text.startswith('"', self._at):
            text, self._at = _JSON.raw_decode(self._text, self._at)
            # "\\ud800" alone is no text.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        else:
            raise ValueError("no text")
        self._skip(_BLANK)
        return text

    # ---- steps; each leaves the reader at the next thing that is no blank ----

    def _expect(self, character: str) -> None:
        if not self._next(character):
            raise ValueError(f"no {character}")

    def _next(self, character: str) -> bool:
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        self._skip(_BLANK)
        return True

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError("something else")
        self._at = found.end()
        return found

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)
