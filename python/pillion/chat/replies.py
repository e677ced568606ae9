"""What a Gemma 4 reply is made of: thinking, text and tool calls, taken apart into OpenAI's fields.

    <|channel>thought\\n … \\n<channel|>    thinking; the newline before the end goes with the
    marker
    <|tool_call>call:NAME{…}<tool_call|>  a call (tool_calls.py); several may follow one another

A marker is one token of the vocabulary. The same characters spelled by ordinary tokens are text: a
model that quotes a marker means its name. Only where the vocabulary has no such token, but the chat
template uses the marker, its spelling counts.

Markers never reach the content or the thinking, whatever stands around them:

* Other channels: "final", "answer" and the like hold the answer; all other names, and none, hold
  thinking. The name may lack its line feed. A channel that is opened again goes on; one that stays
  open lasts to the end.
* A stray <channel|> is dropped. What came before it is thinking if the reply began with a bare
  "thought" on its own line.
* <|turn> goes with the role after it, the other markers alone; <|"|> outside a call becomes a plain
  quote.
* A call inside thinking counts as a call, and the thinking goes on after it.
* A call that is broken off, does not keep to the syntax or names no tool is a `BrokenCall`: neither
  text nor call. It is not searched for other calls: a quoted text may hold one, and that one was
  never meant to run. A marker outside a text means that the call before it broke off, unless all of
  it was there.
* Without tools there are no calls: their markers go, the words between them stay text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from .tool_calls import ToolCall, parse_call

CHANNEL = "<|channel>"
THINKING = f"{CHANNEL}thought\n"
THINKING_END = "<channel|>"
CALL = "<|tool_call>"
CALL_END = "<tool_call|>"
QUOTE = '<|"|>'
TURN = "<|turn>"
RESPONSE = "<|tool_response>"
TURNS = (TURN, "<turn|>")
MARKERS = (
    CHANNEL, THINKING_END, CALL, CALL_END, QUOTE, *TURNS,
    RESPONSE, "<tool_response|>", "<|tool>", "<tool|>", "<|think|>",
)  # fmt: skip
"""All of Gemma 4's markers for text."""

At = tuple[int, str]
"""Where a marker that is one token begins in a text, and which marker it is."""

# Inside this module a marker is one character that no text has: half of a surrogate pair.
_SIGN = {marker: chr(0xD800 + number) for number, marker in enumerate(MARKERS)}
_SPELLING = {sign: marker for marker, sign in _SIGN.items()}
_SIGNS = re.compile(f"[{''.join(_SPELLING)}]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_OPEN, _CLOSE, _CALL, _CALL_END, _QUOTE, _TURN = (
    _SIGN[marker] for marker in (CHANNEL, THINKING_END, CALL, CALL_END, QUOTE, TURN)
)

_ANSWERS = ("final", "answer", "response", "message", "output")
_NAMED = re.compile(r"[ \t]*(final|thought|analysis|commentary)(?![A-Za-z_-])[ \t]*(?:\r?\n)?")
_NAME_LINE = re.compile(r"[ \t]*([a-z_-]{0,24})[ \t]*\r?\n|[ \t]+\Z")
_MAYBE_NAME = re.compile(r"[ \t]*[a-z_-]{0,24}[ \t]*\r?")
_ROLE_LINE = re.compile(r"[ \t]*(?:user|model|assistant|system|developer|tool)[ \t]*\r?\n")
_BARE = re.compile(r"[ \t\r\n]*thought[ \t]*(?:\r?\n|\Z)")
_MAYBE_BARE = re.compile(r"[ \t\r\n]*(?:t(?:h(?:o(?:u(?:g(?:h(?:t[ \t]*\r?)?)?)?)?)?)?)?")


@dataclass(frozen=True)
class BrokenCall:
    """Text that began as a call and is none."""

    text: str
    """All of it, with its markers."""
    reason: str

    def as_dict(self) -> dict[str, str]:
        """The call in the shape of a message's "malformed_tool_calls"."""
        return {"text": self.text, "reason": self.reason}


@dataclass(frozen=True)
class Delta:
    """What a reply grew by: one of the four fields."""

    content: str = ""
    reasoning: str = ""
    call: ToolCall | None = None
    broken: BrokenCall | None = None


@dataclass
class Reply:
    """A reply, split into its fields."""

    content: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    broken: list[BrokenCall] = field(default_factory=list)

    def add(self, deltas: Sequence[Delta]) -> Reply:
        """Appends what the reply grew by."""
        for delta in deltas:
            self.content += delta.content
            self.reasoning += delta.reasoning
            if delta.call is not None:
                self.calls.append(delta.call)
            if delta.broken is not None:
                self.broken.append(delta.broken)
        return self


def parse_reply(text: str, **options: Any) -> Reply:
    """Splits a whole reply. options: see `ReplyParser`."""
    parser = ReplyParser(**options)
    return Reply().add(parser.feed(text)).add(parser.finish())


class MarkReader:
    """Replaces each marker by one sign. It holds back a suffix that could begin a spelled
    marker."""

    def __init__(self, spelled: Collection[str]) -> None:
        self._pattern = _marks(*spelled)
        self._held = ""
        self._rest = 0  # characters of a token's marker that are still to come

    def feed(self, text: str, at: Sequence[At] = ()) -> str:
        """Returns the text that is certain. `at`: the markers in this text that are tokens; their
        spelling may end beyond it."""
        out, begin = [], min(self._rest, len(text))
        self._rest -= begin
        for position, marker in at:
            out += [self._spelled(text[begin:position]), self.flush(), _SIGN[marker]]
            begin = min(position + len(marker), len(text))
            self._rest = position + len(marker) - begin
        out.append(self._spelled(text[begin:]))
        return "".join(out)

    def flush(self) -> str:
        """Ends the text: what was held back was no marker."""
        held, self._held = self._held, ""
        return held

    def _spelled(self, text: str) -> str:
        text = self._held + _SURROGATES.sub("\ufffd", text)
        out, begin = [], 0
        for found in self._pattern.finditer(text):
            out.append(text[begin : found.start()])
            if not found[
                0
            ]:  # the pattern's last choice: the beginning of a marker at the end of the text
                self._held = text[found.start() :]
                return "".join(out)
            out.append(_SIGN[found[0]])
            begin = found.end()
        self._held = ""
        return "".join(out) + text[begin:]


class ReplyParser:
    """Feed it text as it comes. It returns what is certain. The parts together do not depend on how
    the text was cut.

    known: markers that mean something to the model. tokens: those of them that are tokens: they
    count where `feed` is told of them, the others wherever they are spelled. calls: True if it
    looks for calls. names: of the tools; None: any.
    """

    def __init__(
        self,
        known: Collection[str] = MARKERS,
        *,
        tokens: Collection[str] = (),
        calls: bool = True,
        names: Collection[str] | None = None,
    ) -> None:
        self._reader = MarkReader(
            [marker for marker in MARKERS if marker in known and marker not in tokens]
        )
        self._calls = calls
        self._names = names
        self._held = ""
        self._step: Callable[[list[Delta]], bool] = (
            self._start if THINKING_END in known else self._text
        )
        self._thinking = False
        self._prefilled = False  # the prompt named the channel
        self._ended = False  # nothing follows
        self._scanned = 0  # how far into a call; everything before is known to hold no end
        self._quoted = False  # inside a text at that place

    def begin_thinking(self) -> None:
        """Notes that the prompt ended with the beginning of the thinking."""
        self._step, self._thinking, self._prefilled = self._channel, True, True

    def begin_call(self, head: str) -> None:
        """Notes that the prompt ended with the beginning of a call. `head`: what followed the
        marker."""
        self._held, self._step = head, self._call
        self._scanned, self._quoted = 0, False

    @property
    def thinking(self) -> bool:
        """True if what comes next is thinking, as far as is known. A channel without its name yet
        counts as thinking."""
        return self._thinking or self._step == self._channel

    def feed(self, text: str, at: Sequence[At] = ()) -> list[Delta]:
        """Returns what the reply grew by. `at`: see `MarkReader.feed`."""
        return self._go_on(self._reader.feed(text, at))

    def finish(self, complete: bool = False) -> list[Delta]:
        """Ends the reply. complete: the model ended it, so a call may lack its end marker."""
        out = self._go_on(self._reader.flush())
        self._ended = True
        out += self._go_on("")
        if self._step == self._call:
            self._end_call(out, len(self._held), 0, complete, "the reply ended inside it")
            out += self._go_on("")
        return out

    # ---- states: each takes what it can from `_held`, and returns False when it needs more ----

    def _go_on(self, text: str) -> list[Delta]:
        self._held += text
        out: list[Delta] = []
        while self._step(out):
            pass
        return out

    def _say(self, out: list[Delta], text: str) -> None:
        text = text.replace(_QUOTE, '"')
        if text:
            out.append(Delta(reasoning=text) if self._thinking else Delta(content=text))

    def _start(self, out: list[Delta]) -> bool:
        """The beginning of the reply: a bare "thought" may be the name of a channel whose marker
        the model left out."""
        text, sign = self._next()
        if sign is None and not self._ended and (_MAYBE_BARE.fullmatch(text) or _BARE.match(text)):
            return False
        name = _BARE.match(text)
        if sign == _CLOSE and name:
            self._held = self._held[name.end() :]
            self._thinking = True
        self._step = self._text
        return True

    def _text(self, out: list[Delta]) -> bool:
        """Text or thinking up to the next marker."""
        text, sign = self._next()
        if sign is None:
            # the newline before <channel|> goes with it
            keep = 1 if self._thinking and text.endswith("\n") and not self._ended else 0
            self._say(out, text[: len(text) - keep])
            self._held = text[len(text) - keep :]
            return False
        self._held = self._held[len(text) + 1 :]
        if sign == _CLOSE and self._thinking and text.endswith("\n"):
            text = text[:-1]
        self._say(out, text)
        if sign == _QUOTE:
            self._say(out, '"')
        elif sign == _OPEN:
            self._step = self._channel
        elif sign == _CLOSE:
            self._thinking = False
        elif sign == _TURN:
            self._thinking, self._step = False, self._role
        elif sign == _CALL and self._calls:
            self._step, self._scanned, self._quoted = self._call, 0, False
        return True

    def _channel(self, out: list[Delta]) -> bool:
        """The name of a channel, up to the end of its line."""
        text, sign = self._next()
        maybe = _MAYBE_BARE if self._prefilled else _MAYBE_NAME
        if sign is None and not self._ended and maybe.fullmatch(text):
            return False
        name = (
            _BARE.match(text) if self._prefilled else _NAMED.match(text) or _NAME_LINE.match(text)
        )
        if name:
            self._held = self._held[name.end() :]
        self._thinking = self._prefilled or not name or name[1] not in _ANSWERS
        self._prefilled = False
        self._step = self._text
        return True

    def _role(self, out: list[Delta]) -> bool:
        """The role of a turn that the model begins. It is dropped."""
        text, sign = self._next()
        if sign is None and not self._ended and _MAYBE_NAME.fullmatch(text):
            return False
        role = _ROLE_LINE.match(text)
        if role:
            self._held = self._held[role.end() :]
        self._step = self._text
        return True

    def _call(self, out: list[Delta]) -> bool:
        """A call, up to its end."""
        for found in _SIGNS.finditer(self._held, self._scanned):
            self._scanned = found.end()
            if found[0] == _QUOTE:
                self._quoted = not self._quoted
            elif not self._quoted:
                end = found[0] == _CALL_END
                self._end_call(
                    out, found.start(), int(end), True, f"{_SPELLING[found[0]]} stands inside it"
                )
                return True
        self._scanned = len(self._held)
        return False

    def _end_call(self, out: list[Delta], end: int, sign: int, complete: bool, why: str) -> None:
        """Ends a call: the held text up to `end`, and `sign` characters of an end marker. why: what
        ended it instead of a marker."""
        body = self._held[:end]
        spelled = CALL + _spelled(self._held[: end + sign])
        self._held = self._held[end + sign :]
        self._step = self._text
        call = parse_call(_syntax(body), quote=_QUOTE) if complete else None
        if call is None:
            out.append(
                Delta(
                    broken=BrokenCall(
                        spelled, "it does not keep to the syntax of calls" if sign else why
                    )
                )
            )
        elif self._names is not None and call.name not in self._names:
            known = ", ".join(map(repr, self._names))
            out.append(
                Delta(
                    broken=BrokenCall(
                        spelled, f"there is no tool {call.name!r}; the tools are {known}"
                    )
                )
            )
        else:
            out.append(Delta(call=call))

    def _next(self) -> tuple[str, str | None]:
        """The held text up to the next marker, and that marker's sign."""
        found = _SIGNS.search(self._held)
        return (self._held, None) if found is None else (self._held[: found.start()], found[0])


def _spelled(text: str) -> str:
    """The text with its markers spelled out."""
    return _SIGNS.sub(lambda found: _SPELLING[found[0]], text)


def _syntax(body: str) -> str:
    """A call's body as `parse_call` reads it: quote marks as their one character, other markers
    spelled out."""
    return _SIGNS.sub(lambda found: found[0] if found[0] == _QUOTE else _SPELLING[found[0]], body)


def _marks(*marks: str) -> re.Pattern[str]:
    """Finds the next marker, or else, as an empty match, the place where the text's end could begin
    one."""
    beginnings = {mark[:n] for mark in marks for n in range(1, len(mark))}
    longest_first = sorted(beginnings, key=len, reverse=True)
    choices = [re.escape(mark) for mark in marks]
    if longest_first:
        choices.append(rf"(?=(?:{'|'.join(map(re.escape, longest_first))})\Z)")
    return re.compile("|".join(choices) or r"(?!)")
