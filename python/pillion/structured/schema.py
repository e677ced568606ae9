"""What JSON Schema says: references followed, types named, patterns made whole.

Nothing here knows a grammar.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UsageError

BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_KINDS = ("object", "array", "string", "integer", "number", "boolean", "null")


class ToolSchema:
    """The parameters of one tool, with their $refs.

    tool: its name, for sentences. root: the whole schema, which a $ref points into.
    """

    def __init__(self, tool: str, root: Any) -> None:
        self.tool = tool
        self._root = root
        self._flat: dict[str, dict[str, Any] | None] = {}  # None: it is being read

    def flat(self, schema: Any) -> dict[str, Any]:
        """The schema with its $ref followed and its allOf joined. True and oddities: anything."""
        if not isinstance(schema, Mapping):
            return {}
        result = dict(schema)
        while "$ref" in result:
            result = merged(result, self._followed(str(result.pop("$ref"))))
        parts = result.pop("allOf", None)
        for one in parts if isinstance(parts, (list, tuple)) else ():
            result = merged(result, self.flat(one))
        return result

    def _followed(self, reference: str) -> dict[str, Any]:
        """The schema behind a $ref, flat. Each is read once, however many refer to it."""
        if reference not in self._flat:
            self._flat[reference] = None
            self._flat[reference] = self.flat(self._target(reference))
        found = self._flat[reference]
        if found is None:
            raise UsageError(
                f"the parameters of tool {self.tool!r} have the $ref {reference!r}, "
                "which leads to itself"
            )
        return found

    def _target(self, reference: str) -> Mapping[str, Any]:
        found: Any = self._root
        parts = reference[1:].split("/")[1:] if reference.startswith("#") else [reference]
        for part in parts:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, (list, tuple)) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            else:
                found = found.get(part) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise UsageError(
                f"the parameters of tool {self.tool!r} have the $ref {reference!r}, "
                "which names nothing in them"
            )
        return found


def merged(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Joins two schemas that both hold. Where they contradict each other the first wins."""
    result = {**other, **one}
    first, second = one.get("properties"), other.get("properties")
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        result["properties"] = {**second, **first}
    first, second = one.get("required"), other.get("required")
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        result["required"] = [*first, *(name for name in second if name not in first)]
    return result


def kinds_of(schema: Mapping[str, Any]) -> list[str]:
    """Types that a schema allows; none: any."""
    said = schema.get("type")
    listed = said if isinstance(said, (list, tuple)) else [said]
    kinds = [one.lower() for one in listed if isinstance(one, str)]
    kinds = [one for one in dict.fromkeys(kinds) if one in _KINDS]
    if not kinds:
        kinds = _implied(schema)
    if kinds and schema.get("nullable") is True and "null" not in kinds:
        kinds.append("null")
    if "number" in kinds and "integer" in kinds:
        kinds.remove("integer")
    return kinds


def _implied(schema: Mapping[str, Any]) -> list[str]:
    for kind, keywords in (
        ("object", ("properties", "required", "additionalProperties")),
        ("array", ("items", "prefixItems", "minItems", "maxItems")),
        ("string", ("pattern", "minLength", "maxLength", "format")),
        ("number", BOUNDS),
    ):
        if any(keyword in schema for keyword in keywords):
            return [kind]
    return []


def is_of_type(value: Any, kind: str) -> bool:
    """True if a value has a type of JSON Schema."""
    if kind == "null":
        return value is None
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    types: dict[str, Any] = {
        "number": (int, float),
        "string": str,
        "array": (list, tuple),
        "object": Mapping,
    }
    return isinstance(value, types[kind])


def length(schema: Mapping[str, Any], keyword: str) -> int | None:
    found: Any = schema.get(keyword)
    return min(int(found), 10**6) if is_of_type(found, "integer") and found >= 0 else None


def are_apart(branches: Sequence[Mapping[str, Any]]) -> bool:
    """True if no value fits two of them: by their types, or by the value of one property."""
    kinds = [set(kinds_of(one)) for one in branches]
    if all(kinds) and sum(map(len, kinds)) == len(set().union(*kinds)):
        return not {"integer", "number"} <= set().union(*kinds)
    return any(_tells(branches, name) for name in branches[0].get("properties") or {})


def _tells(branches: Sequence[Mapping[str, Any]], name: str) -> bool:
    values: list[str] = []
    for one in branches:
        tag = (one.get("properties") or {}).get(name)
        if not isinstance(tag, Mapping) or name not in (one.get("required") or ()):
            return False
        found = [tag["const"]] if "const" in tag else tag.get("enum")
        if not isinstance(found, (list, tuple)):
            return False
        values += {json.dumps(value, default=str) for value in found}
    return len(values) == len(set(values))


def whole_pattern(pattern: str) -> str:
    """The pattern of JSON Schema, which may stand anywhere in the text, as one for all of it."""
    begin = "" if pattern.startswith("^") else "(?s:.*)"
    closed = pattern.endswith("$") and not re.search(r"(?<!\\)(?:\\\\)*\\\$\Z", pattern)
    inner = pattern[1:] if not begin else pattern
    inner = inner[:-1] if closed else inner
    return f"{begin}(?:{inner}){'' if closed else '(?s:.*)'}"


def is_ambiguous(pattern: str) -> bool:
    """True if an anchor belongs to one of several branches ("^a|b")."""
    depth, at = 0, 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "[":
            at = max(pattern.find("]", at + 2), at)
        elif pattern[at] == "|" and not depth:
            return pattern.startswith("^") or pattern.endswith("$")
        else:
            depth += {"(": 1, ")": -1}.get(pattern[at], 0)
        at += 1
    return False
