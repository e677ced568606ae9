"""What a Gemma 4 reply is made of: thinking, text and tool calls, taken apart into OpenAI's fields.

The syntax, as Google's function-calling guide and the models' own chat templates have it:

    <|channel>thought\\n … \\n<channel|>                       thinking; the newline before the end belongs to the marker
    <|tool_call>call:NAME{key:value,key:value}<tool_call|>   a call; several may follow one another
    value   <|"|>text<|"|> | number | true | false | null | {key:value,…} | [value,…]
    key     bare up to the colon ("a.b", "@type", "max-age"), or quoted like a text

Between the quote marks nothing is escaped: braces, commas, newlines and plain quotes are text.

Assumed beyond that, because models do it or because their own templates show it to them: blanks between the parts, texts and keys
in JSON's quotes, and Python's True, False and None (the first templates printed a null of the history as "None"). A call inside
thinking counts as a call, and the thinking goes on after it. A second <|tool_call> outside a text means that the call before it
broke off.

A call that is broken off or does not keep to the syntax stays what it was, text, to the last character. It is not searched for
other calls: a quoted text may hold one, and that one was never meant to run.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

CHANNEL = "<|channel>"
THINKING = f"{CHANNEL}thought\n"
THINKING_END = "<channel|>"
CALL = "<|tool_call>"
CALL_END = "<tool_call|>"
QUOTE = '<|"|>'

_DEPTH = 64  # objects and arrays inside one another; what is deeper is no call


@dataclass(frozen=True)
class ToolCall:
    """A finished call."""

    name: str
    arguments: str
    """A JSON object, as OpenAI has it."""
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")

    def as_dict(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True)
class Delta:
    """What a reply grew by: one of the three."""

    content: str = ""
    reasoning: str = ""
    call: Optional[ToolCall] = None


@dataclass
class Reply:
    """A reply taken apart."""

    content: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)

    def add(self, deltas: Sequence[Delta]) -> Reply:
        for delta in deltas:
            self.content += delta.content
            self.reasoning += delta.reasoning
            if delta.call is not None:
                self.calls.append(delta.call)
        return self


def parse_reply(text: str, *, thinking: bool = True, calls: bool = True) -> Reply:
    """Takes a whole reply apart."""
    parser = ReplyParser(thinking=thinking, calls=calls)
    return Reply().add(parser.feed(text)).add(parser.finish())


class ReplyParser:
    """Feed it text as it comes; it returns what is certain, and the parts together do not depend on how the text was cut.

    A suffix that could begin a marker is held back, and a call until its end. With thinking or calls off, their markers are text.
    """

    def __init__(self, *, thinking: bool = True, calls: bool = True) -> None:
        self._calls = calls
        self._outside = _marks(*[THINKING] * thinking, *[CALL] * calls)
        self._inside = _marks("\n" + THINKING_END, THINKING_END, *[CALL] * calls)
        self._thinking = False
        self._held = ""
        self._in_call = False  # then `_held` begins with CALL
        self._scanned = 0  # how far into it; everything before is known to hold no end
        self._quoted = False  # inside a text at that place

    def feed(self, text: str) -> list[Delta]:
        self._held += text
        out: list[Delta] = []
        while self._take_call(out) if self._in_call else self._take_text(out):
            pass
        return out

    def finish(self) -> list[Delta]:
        """The end of the reply: what is held back was no marker, and an open call was broken off."""
        held, self._held, self._in_call = self._held, "", False
        return self._text(held)

    def _text(self, text: str) -> list[Delta]:
        if not text:
            return []
        return [Delta(reasoning=text) if self._thinking else Delta(content=text)]

    def _take_text(self, out: list[Delta]) -> bool:
        """Text up to the next marker; False when there is none yet."""
        marks = self._inside if self._thinking else self._outside
        found = marks.search(self._held)
        if found is None or found[0] == "":  # the pattern's last choice: the beginning of a marker at the end of the text
            end = len(self._held) if found is None else found.start()
            out += self._text(self._held[:end])
            self._held = self._held[end:]
            return False
        out += self._text(self._held[: found.start()])
        if found[0] == CALL:
            self._held = self._held[found.start() :]
            self._in_call, self._scanned, self._quoted = True, len(CALL), False
        else:
            self._held = self._held[found.end() :]
            self._thinking = found[0] == THINKING
        return True

    def _take_call(self, out: list[Delta]) -> bool:
        """The call at the beginning of `_held`; False when it has not ended yet."""
        head = self._held[len(CALL) : len(CALL) + 64].lstrip(_BLANKS)
        if not head.startswith("call:") and not ("call:".startswith(head) and len(self._held) < len(CALL) + 64):
            return self._leave_call(out, len(CALL))
        while True:
            found = (_QUOTES if self._quoted else _IN_CALL).search(self._held, self._scanned)
            if found is None:
                self._scanned = max(self._scanned, len(self._held) - len(CALL_END) + 1)  # a marker may have begun there
                return False
            self._scanned = found.end()
            if found[0] == QUOTE:
                self._quoted = not self._quoted
            elif found[0] == CALL:
                return self._leave_call(out, found.start())
            else:
                call = parse_call(self._held[len(CALL) : found.start()])
                if call is None:
                    return self._leave_call(out, found.end())
                out.append(Delta(call=call))
                return self._leave_call(out, found.end(), keep=False)

    def _leave_call(self, out: list[Delta], end: int, keep: bool = True) -> bool:
        """Goes on after it; `keep`: it was none and stays text."""
        if keep:
            out += self._text(self._held[:end])
        self._held = self._held[end:]
        self._in_call = False
        return True


def parse_call(body: str) -> Optional[ToolCall]:
    """The call between <|tool_call> and <tool_call|>; None when the text is not one."""
    try:
        return _CallReader(body).call()
    except ValueError:
        return None


_BLANKS = " \t\r\n"
_BLANK = re.compile(r"[ \t\r\n]*")
_NAME = re.compile(r"call:[ \t\r\n]*([^\s{}()\[\],<>\"']+)")
_BARE_KEY = re.compile(r'[^:{}\[\],"\n]+')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z]+")
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_JSON = json.JSONDecoder(strict=False)  # not strict: a line break inside the quotes is fine
_QUOTES = re.compile(re.escape(QUOTE))
_IN_CALL = re.compile("|".join(map(re.escape, (QUOTE, CALL, CALL_END))))


class _CallReader:
    """Reads the syntax from left to right; raises ValueError where the text leaves it."""

    def __init__(self, text: str) -> None:
        self._text = text
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
        if self._text.startswith((QUOTE, '"'), self._at):
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
        if first in ("<", '"'):
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
        if self._text.startswith(QUOTE, self._at):
            begin = self._at + len(QUOTE)
            end = self._text.index(QUOTE, begin)
            text, self._at = self._text[begin:end], end + len(QUOTE)
        elif self._text.startswith('"', self._at):
            text, self._at = _JSON.raw_decode(self._text, self._at)
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # "\\ud800" alone is no text
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


def _marks(*marks: str) -> re.Pattern[str]:
    """Finds the first marker, or else, with an empty match, where the text's end could be the beginning of one."""
    beginnings = {mark[:n] for mark in marks for n in range(1, len(mark))}
    longest_first = sorted(beginnings, key=len, reverse=True)
    choices = [re.escape(mark) for mark in marks]
    if longest_first:
        choices.append(rf"(?=(?:{'|'.join(map(re.escape, longest_first))})\Z)")
    return re.compile("|".join(choices) or r"(?!)")
