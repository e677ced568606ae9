"""The grammar of a whole reply: thinking, then a body, tool calls or text.

It is one grammar from the first token on, so that no one has to notice, in the middle of a round of
drafts, that the thinking is over. Markers are tokens; the same characters spelled by other tokens
are text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import lark
from .gbnf import lark_source
from .gemma_calls import Calls
from .inputs import CHOICE, GRAMMAR, JSON, REGEX, Body

OPEN, MAYBE, NEVER = "open", "maybe", "never"
"""Whether the prompt has begun the thinking; whether the model may begin it."""

_MOST_FORCED = 20_000  # characters that a regex may force


@dataclass(frozen=True)
class Thinking:
    """How thinking is written. begin, end: tokens of its markers."""

    state: str = NEVER
    begin: int = -1
    end: int = -1


NO_THINKING = Thinking()


@dataclass(frozen=True)
class CallRules:
    """calls: the rules. names: tools that may be called; None: all. demanded: the reply must be
    calls only. several: more than one call may be made."""

    calls: Calls
    names: Sequence[str] | None = None
    demanded: bool = False
    several: bool = True


@dataclass
class _Grammar:
    rules: list[str] = field(default_factory=list)
    others: list[dict[str, object]] = field(default_factory=list)
    options: dict[str, object] = field(default_factory=dict)


def reply_grammar(
    body: Body | None, thinking: Thinking = NO_THINKING, tools: CallRules | None = None
) -> str:
    """The grammar in llguidance's form."""
    made = _Grammar()
    start = _thinking(thinking, made)
    said = [_calls(tools, made)] if tools is not None else []
    if body is not None and not (tools is not None and tools.demanded):
        said.append(_body(body, made))
    elif tools is not None and not tools.demanded:
        said = [_free_calls(said[0], tools, made)]
    made.rules.insert(0, f"start: {start} ({' | '.join(said)})")
    options = [f"%llguidance {json.dumps(made.options)}"] if made.options else []
    text = "\n".join([*options, *made.rules]) + "\n"
    return json.dumps({"grammars": [{"lark_grammar": text}, *made.others]}, ensure_ascii=False)


def _thinking(thinking: Thinking, made: _Grammar) -> str:
    if thinking.state == NEVER:
        return ""
    end = lark.token(thinking.end)
    if thinking.state == OPEN:
        made.rules.append(f"think: {lark.TEXT}? {end}")
        return "think"
    # A channel begins with its name on a line of its own.
    made.rules.append(f"think: {lark.token(thinking.begin)} /thought\\n(.|\\n)*/ {end}")
    return "think?"


def _calls(tools: CallRules, made: _Grammar) -> str:
    one = tools.calls.one(tools.names)
    made.rules += tools.calls.rules
    return f"{one}+" if tools.several else one


def _free_calls(calls: str, tools: CallRules, made: _Grammar) -> str:
    """Text, with or without calls."""
    made.rules.append(f"SAID: {lark.TEXT}")
    return f"SAID? ({calls} SAID?)*" if tools.several else f"SAID? {calls}?"


def _body(body: Body, made: _Grammar) -> str:
    if body.kind in (JSON, REGEX) and _forces_much(body):
        made.options["no_forcing"] = True
    if body.kind == JSON:
        made.others.append({"name": "body", "json_schema": json.loads(body.source)})
        return "@body"
    if body.kind == CHOICE:
        listed = " | ".join(lark.literal(one) for one in json.loads(body.source))
        made.rules.append(f"BODY: {listed}")
        return "BODY"
    if body.kind == REGEX:
        made.rules.append(f"BODY: {lark.regex(body.source)}")
        return "BODY"
    assert body.kind == GRAMMAR
    # What rules force may double with each rule, and would be spelled out before the first token.
    made.options["no_forcing"] = True
    made.others.append({"name": "body", "lark_grammar": lark_source(body.source)})
    return "@body"


def _forces_much(body: Body) -> bool:
    """Whether a pattern may force so long a text that spelling it out before each token takes
    seconds."""
    if body.kind == REGEX:
        return lark.shortest(body.source) > _MOST_FORCED
    waiting = [json.loads(body.source)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and lark.shortest(value) > _MOST_FORCED:
            return True
    return False
