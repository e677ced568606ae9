"""The grammar of Gemma 4's tool calls, from the JSON schemas of the tools.

    <|tool_call>call:NAME{key:value,key:value}<tool_call|>

The markers and the quote marks of texts are single tokens, so nothing else can begin a call or end
a text (tool_calls.py has the whole notation and reads what is written here). There are no blanks
between the parts: that is how the models' templates write calls, and each blank would be a choice.

Objects take their properties in any order, each at most once, the required ones at least once.
What a schema says beyond types, values, lengths, bounds and patterns is not enforced; `unsaid`
lists it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..arguments import shown
from ..errors import UsageError
from . import lark
from .inputs import check_size, check_text_is_utf8
from .schema import (
    BOUNDS,
    ToolSchema,
    are_apart,
    is_ambiguous,
    is_of_type,
    kinds_of,
    length,
    merged,
    whole_pattern,
)

_MOST_PARTS = 5_000  # rules of one set of tools
_LEAST = 20_000  # characters of the shortest call
_LEVELS = 4  # objects and arrays inside one another, in a value without a schema
_SPELLED = 100  # texts of an enum that are rules each
_ANY_ORDER = 40  # properties; objects with more keep the order of their schema
_MOST_PROPERTIES = 600  # each may come next, which is a few items of llguidance's 2,000
_DIGITS = 15  # of whole numbers without bounds, as JSON's readers agree on them

_CALL_NAME = re.compile(r"[^\s{}()\[\],<>\"':]+")
_BARE = re.compile(r'[^\s:{}\[\],"<>](?:[^:{}\[\],"<>\n\r\t]*[^\s:{}\[\],"<>])?')
_UNSAID = {
    "array": ("uniqueItems", "contains", "unevaluatedItems"),
    "object": (
        "patternProperties", "propertyNames", "minProperties", "maxProperties",
        "dependentRequired", "dependentSchemas", "unevaluatedProperties",
    ),
    "string": ("format", "contentEncoding", "contentMediaType"),
}  # fmt: skip
_DATE = r"[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"  # days that every month has
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
_HEX = "[0-9a-fA-F]"
_WORD = "[a-zA-Z0-9_+-]{1,30}"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "uuid": f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}",
    "email": rf"{_WORD}(\.{_WORD}){{0,3}}@[a-zA-Z0-9]{{1,30}}(\.[a-zA-Z]{{2,12}}){{1,3}}",
    "ipv4": rf"{_BYTE}(\.{_BYTE}){{3}}",
}
_ALWAYS_UNSAID = ("not", "if", "then", "else")


@dataclass(frozen=True)
class Marks:
    """Tokens of the notation."""

    call: int
    call_end: int
    quote: int


@dataclass(frozen=True)
class _Part:
    """The grammar of a value."""

    text: str
    """Lark: one name or a group."""
    least: int
    """Characters of its shortest text; 0: not known yet."""


class Calls:
    """The rules for calls of some tools.

    marks: the model's tokens. tools: in OpenAI's shape, as `checked_tools` returns them.
    """

    def __init__(self, marks: Marks, tools: Sequence[Mapping[str, Any]]) -> None:
        self._marks = marks
        self._quote = lark.token(marks.quote)
        self.rules: list[str] = []
        self.unsaid: dict[str, list[str]] = {}
        """What is not enforced, by tool."""
        self._shared: dict[str, _Part] = {}
        self._schema = ToolSchema("", {})
        self._refs: dict[str, _Part] = {}
        self._named = {}
        for tool in tools:
            function = tool["function"]
            self._named[function["name"]] = self._function(function)

    def one(self, names: Sequence[str] | None = None) -> str:
        """A call of one of the tools; None: of any tool."""
        listed = list(self._named) if names is None else list(names)
        return self._rule([self._named[name] for name in listed], "call").text

    def _function(self, function: Mapping[str, Any]) -> str:
        name = function["name"]
        if not _CALL_NAME.fullmatch(name):
            raise UsageError(
                f"the tool name {shown(name)} cannot be written in a call of Gemma 4; "
                "use letters, digits, '_', '-' and '.'"
            )
        check_text_is_utf8("the name of a tool", name)
        root = function.get("parameters") or {"type": "object", "properties": {}}
        check_size(f"the parameters of tool {name!r}", root)
        self._schema, self._refs = ToolSchema(name, root), {}
        self.unsaid.setdefault(name, [])
        value = self._object(self._schema.flat(root))
        if value.least > _LEAST:
            raise UsageError(
                f"the shortest call of tool {name!r} has more than {_LEAST} characters"
            )
        call, end = lark.token(self._marks.call), lark.token(self._marks.call_end)
        return f"{call} {lark.literal(f'call:{name}')} {value.text} {end}"

    # ---- rules ----

    def _rule(self, choices: Sequence[str], kind: str = "v", least: int = 0) -> _Part:
        """A rule with these choices."""
        name = f"{kind}_{len(self.rules)}"
        self._add(f"{name}: {' | '.join(choices)}")
        return _Part(name, least)

    def _add(self, rule: str) -> None:
        if len(self.rules) >= _MOST_PARTS:
            raise UsageError(f"the tools' parameters spell out to more than {_MOST_PARTS} rules")
        self.rules.append(rule)

    def _once(self, name: str, rule: str, least: int) -> _Part:
        """A rule that all tools share."""
        if name not in self._shared:
            self._shared[name] = _Part(name, least)
            self._add(f"{name}: {rule}")
        return self._shared[name]

    def _say(self, keyword: str) -> None:
        found = self.unsaid[self._schema.tool]
        if keyword not in found:
            found.append(keyword)

    # ---- schemas ----

    def _value(self, schema: Any) -> _Part:
        """The values that a schema allows."""
        if isinstance(schema, Mapping) and set(schema) - {"description", "title", "default"} == {
            "$ref"
        }:
            return self._reference(str(schema["$ref"]))
        if schema is False:
            raise self._nothing_fits()
        return self._spelled_out(self._schema.flat(schema))

    def _nothing_fits(self) -> UsageError:
        return UsageError(
            f"the parameters of tool {self._schema.tool!r} have the schema False, "
            "which nothing fits"
        )

    def _reference(self, reference: str) -> _Part:
        """One rule for all uses of a $ref, so that a schema may hold itself."""
        if reference not in self._refs:
            name = f"ref_{len(self.rules)}"
            self._refs[reference] = _Part(name, 0)
            self._add(f"{name}: ")
            at = len(self.rules) - 1
            part = self._spelled_out(self._schema.flat({"$ref": reference}))
            self.rules[at] += part.text
            self._refs[reference] = _Part(name, part.least)
        return self._refs[reference]

    def _spelled_out(self, schema: dict[str, Any]) -> _Part:
        for keyword in _ALWAYS_UNSAID:
            if keyword in schema:
                self._say(keyword)
        if "const" in schema:
            return self._choice([schema["const"]], schema)
        if isinstance(schema.get("enum"), (list, tuple)):
            return self._choice(schema["enum"], schema)
        for keyword in ("anyOf", "oneOf"):
            branches = schema.get(keyword)
            if isinstance(branches, (list, tuple)) and branches:
                return self._union(keyword, branches, schema)
        kinds = kinds_of(schema)
        if not kinds:
            return self._anything()
        return self._either([getattr(self, f"_{kind}")(schema) for kind in kinds])

    def _union(self, keyword: str, branches: Sequence[Any], schema: dict[str, Any]) -> _Part:
        rest = {key: value for key, value in schema.items() if key != keyword}
        branches = [one for one in branches if one is not False]
        if not branches:
            raise self._nothing_fits()
        flat = [self._schema.flat(one) for one in branches]
        if keyword == "oneOf" and not are_apart(flat):
            self._say("oneOf")
        if not set(rest) - {"description", "title", "default", "discriminator", "nullable"}:
            parts = [self._value(one) for one in branches]
        else:
            parts = [self._spelled_out(merged(one, rest)) for one in flat]
        if schema.get("nullable") is True:
            parts.append(self._null({}))
        return self._either(parts)

    def _either(self, parts: Sequence[_Part]) -> _Part:
        if len(parts) == 1:
            return parts[0]
        texts = list(dict.fromkeys(part.text for part in parts))
        return self._rule(texts, least=min(part.least for part in parts))

    def _choice(self, values: Sequence[Any], schema: Mapping[str, Any]) -> _Part:
        kinds = kinds_of({key: schema[key] for key in ("type", "nullable") if key in schema})
        fitting = [
            one for one in values if not kinds or any(is_of_type(one, kind) for kind in kinds)
        ]
        if not fitting:
            raise UsageError(
                f"the parameters of tool {self._schema.tool!r} have the enum "
                f"{shown(list(values))}, of which no value has its type"
            )
        many = [one for one in fitting if isinstance(one, str) and one]
        if len(many) <= _SPELLED:
            many = []
        texts = [
            self._literal(one) for one in fitting if not (many and isinstance(one, str) and one)
        ]
        if len(texts) > _MOST_PARTS:
            raise UsageError(
                f"the parameters of tool {self._schema.tool!r} have an enum of {len(texts)} values"
            )
        least = min((len(str(one)) for one in fitting), default=0)
        if many:
            texts.append(self._one_of(many))
        return self._rule(texts, least=least)

    def _one_of(self, values: Sequence[str]) -> str:
        """One of many texts: a terminal, which costs less than as many rules."""
        for one in values:
            check_text_is_utf8(f"an enum of tool {self._schema.tool!r}", one)
        name = f"WORD_{len(self.rules)}"
        self._add(f"{name}: {' | '.join(map(lark.literal, values))}")
        return f"{self._quote} {name} {self._quote}"

    def _literal(self, value: Any) -> str:
        if isinstance(value, str):
            check_text_is_utf8(f"an enum of tool {self._schema.tool!r}", value)
            said = f"{lark.literal(value)} " if value else ""
            return f"{self._quote} {said}{self._quote}"
        if isinstance(value, Mapping):
            members = [f"{self._key(str(key))} {self._literal(one)}" for key, one in value.items()]
            return f'"{{" {_listed(members)} "}}"'
        if isinstance(value, (list, tuple)):
            return f'"[" {_listed([self._literal(one) for one in value])} "]"'
        try:
            return lark.literal(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            raise UsageError(
                f"the parameters of tool {self._schema.tool!r} have the value {shown(value)}, "
                "which JSON has no word for"
            ) from None

    # ---- single values ----

    def _null(self, schema: Mapping[str, Any]) -> _Part:
        return _Part('"null"', 4)

    def _boolean(self, schema: Mapping[str, Any]) -> _Part:
        return self._once("flag", '"true" | "false"', 4)

    def _integer(self, schema: Mapping[str, Any]) -> _Part:
        if any(bound in schema for bound in BOUNDS):
            return self._bounded("integer", schema)
        return self._once("WHOLE", f"/-?(0|[1-9][0-9]{{0,{_DIGITS - 1}}})/", 1)

    def _number(self, schema: Mapping[str, Any]) -> _Part:
        if any(bound in schema for bound in BOUNDS):
            return self._bounded("number", schema)
        whole = f"-?(0|[1-9][0-9]{{0,{_DIGITS - 1}}})"
        return self._once("NUMBER", f"/{whole}(\\.[0-9]{{1,17}})?([eE][+-]?[0-9]{{1,2}})?/", 1)

    def _bounded(self, kind: str, schema: Mapping[str, Any]) -> _Part:
        """Whole numbers within bounds. JSON writes them in the same way. With both bounds digits
        have an end."""
        said = {key: schema[key] for key in BOUNDS if is_of_type(schema.get(key), "number")}
        far = 10**_DIGITS
        if "minimum" not in said and "exclusiveMinimum" not in said:
            said["minimum"] = -far
        if "maximum" not in said and "exclusiveMaximum" not in said:
            said["maximum"] = far
        said = {"type": kind, **said, "x-guidance": {"whitespace_flexible": False}}
        return self._rule([f"%json {json.dumps(said)}"], least=1)

    def _string(self, schema: Mapping[str, Any]) -> _Part:
        low, high = length(schema, "minLength"), length(schema, "maxLength")
        conditions = []
        if low or high is not None:
            most = "" if high is None else max(high, low or 0)
            conditions.append(f"/(?s:.{{{low or 0},{most}}})/")
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and is_ambiguous(pattern):
            self._say("pattern")
        elif isinstance(pattern, str):
            conditions.append(lark.regex(whole_pattern(pattern)))
        known = _FORMATS.get(str(schema.get("format")))
        if known:
            conditions.append(lark.regex(known))
        for keyword in _UNSAID["string"]:
            if keyword in schema and not (known and keyword == "format"):
                self._say(keyword)
        quote = self._quote
        if not conditions:
            self._once("ANY_TEXT", lark.TEXT, 1)
            return self._once("text", f"{quote} ANY_TEXT? {quote}", 2)
        name = f"TEXT_{len(self.rules)}"
        self._add(f"{name}: {' & '.join(conditions)}")
        least = lark.shortest(pattern) if isinstance(pattern, str) else low or 0
        return self._rule([f"{quote} {name} {quote}"], least=2 + least)

    # ---- objects and arrays ----

    def _array(self, schema: Mapping[str, Any]) -> _Part:
        for keyword in _UNSAID["array"]:
            if schema.get(keyword):
                self._say(keyword)
        first = schema.get("prefixItems")
        items = schema.get("items")
        if isinstance(items, (list, tuple)):  # as drafts before 2020-12 have it
            first, items = items, schema.get("additionalItems")
        heads = [self._value(one) for one in first] if isinstance(first, (list, tuple)) else []
        low = length(schema, "minItems") or 0
        high = length(schema, "maxItems")
        if items is False:
            high = len(heads) if high is None else min(high, len(heads))
        if high is not None and high < low:
            raise UsageError(
                f"the parameters of tool {self._schema.tool!r} have an array "
                f"of at least {low} and at most {high} items"
            )
        rest = None if items is False else self._value(items)
        return self._array_of(heads, rest, low, high)

    def _array_of(
        self, heads: Sequence[_Part], rest: _Part | None, low: int, high: int | None
    ) -> _Part:
        """`heads`, then any number of `rest`; together low to high."""
        used = list(heads if high is None else heads[:high])
        least = sum(part.least + 1 for part in used[:low])
        tail = ""
        if rest is not None and (high is None or high > len(used)):
            low_rest = max(low - len(used), 0)
            most = None if high is None else high - len(used)
            least += low_rest * (rest.least + 1)
            if not used:
                again = None if high is None else high - 1
                tail = f"{rest.text} {_times(rest.text, max(low - 1, 0), again)}"
                tail = tail if low else f"({tail})?"
                return self._rule([f'"[" {tail} "]"'], least=2 + least)
            tail = _times(rest.text, low_rest, most)
        for number in range(len(used) - 1, -1, -1):  # each head may be the last, from `low` on
            comma = '"," ' if number else ""
            inner = f"{comma}{used[number].text} {tail}".strip()
            tail = inner if number < low else f"({inner})?"
        return self._rule([f'"[" {tail} "]"'], least=2 + least)

    def _object(self, schema: Mapping[str, Any]) -> _Part:
        for keyword in _UNSAID["object"]:
            if keyword in schema:
                self._say(keyword)
        properties = schema.get("properties")
        required = schema.get("required")
        listed = required if isinstance(required, (list, tuple)) else ()
        needed = [one for one in listed if isinstance(one, str)]
        others = schema.get("additionalProperties", True)
        if not isinstance(properties, Mapping) and not needed:
            return self._map(others)
        known = {str(key): one for key, one in (properties or {}).items() if one is not False}
        members = {name: known.get(name, others) for name in [*needed, *known]}
        if not members:
            return _Part('"{" "}"', 2)
        rules = {name: self._member(name, one) for name, one in members.items()}
        n_needed = len(set(needed))
        least = 2 + sum(part.least + 1 for part in list(rules.values())[:n_needed])
        in_order = len(rules) > _ANY_ORDER
        build = self._in_schema_order if in_order else self._in_any_order
        return build([part.text for part in rules.values()], n_needed, least)

    def _member(self, name: str, schema: Any) -> _Part:
        value = self._value(schema)
        return _Part(f"{self._key(name)} {value.text}", value.least + len(name) + 1)

    def _in_any_order(self, members: Sequence[str], n_needed: int, least: int) -> _Part:
        """A parameter has a bit for each member that was written; required ones come first."""
        name = f"o_{len(self.rules)}"
        done = f"%if is_ones([0:{n_needed}])" if n_needed else ""
        first = [] if n_needed else ['"}"']
        after = [f'"}}" {done}'.strip()]
        for bit, member in enumerate(members):
            first.append(f"{member} {name}_n::{1 << bit}")
            after.append(f'"," {member} {name}_n::set_bit({bit}) %if bit_clear({bit})')
        self._add(f'{name}: "{{" {name}_f')
        self._add(f"{name}_f: {_PARAMETER.join(first)}")
        self._add(f"{name}_n::_: {_PARAMETER.join(after)}")
        return _Part(name, least)

    def _in_schema_order(self, members: Sequence[str], n_needed: int, least: int) -> _Part:
        n_free = len(members) - n_needed
        if n_free > _MOST_PROPERTIES:
            raise UsageError(
                f"the parameters of tool {self._schema.tool!r} have an object of {n_free} "
                f"optional properties; at most {_MOST_PROPERTIES} can be enforced"
            )
        tail = " ".join(f'("," {member})?' for member in members[n_needed:])
        if n_needed:
            head = ' "," '.join(members[:n_needed])
            return self._rule([f'"{{" {head} {tail} "}}"'], least=least)
        # What may follow a member is one rule each, so that the whole grows with the members only.
        starts, after = [], ""
        for member in reversed(members):
            starts.append(f"{member} {after}".strip())
            after = self._rule([f'("," {member})? {after}'.strip()], "rest").text
        return self._rule([f'"{{" ({" | ".join(reversed(starts))})? "}}"'], "o", least)

    def _map(self, others: Any) -> _Part:
        """An object with any names."""
        if others is False:
            return _Part('"{" "}"', 2)
        value = self._anything(_LEVELS - 1) if others is True else self._value(others)
        return self._rule([self._map_of(value.text)], least=2)

    def _map_of(self, value: str) -> str:
        self._once("KEY", "/[A-Za-z_][A-Za-z0-9_.-]{0,40}/", 1)
        return f'"{{" (KEY ":" {value} ("," KEY ":" {value})*)? "}}"'

    def _anything(self, levels: int = _LEVELS) -> _Part:
        """A value without a schema. Its depth is bounded: calls are read up to one."""
        scalars = [self._string({}), self._number({}), self._boolean({}), self._null({})]
        texts = [part.text for part in scalars]
        if levels:
            inner = self._anything(levels - 1).text
            texts.append(f'"[" ({inner} ("," {inner})*)? "]"')
            texts.append(self._map_of(inner))
        return self._once(f"any_{levels}", " | ".join(texts), 1)

    def _key(self, name: str) -> str:
        check_text_is_utf8(f"a property of tool {self._schema.tool!r}", name)
        if _BARE.fullmatch(name):
            return lark.literal(f"{name}:")
        return f'{self._literal(name)} ":"'


_PARAMETER = "\n  | "


def _times(text: str, low: int, high: int | None) -> str:
    """That many more items of a list."""
    if high == 0:
        return ""
    return f'("," {text}){{{low},{"" if high is None else high}}}'


def _listed(texts: Sequence[str]) -> str:
    return ' "," '.join(texts)
