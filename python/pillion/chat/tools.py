"""Checks the tools of a chat and puts their schemas into the words of Gemma 4's templates.

Those templates print `type | upper` of each parameter. They know one type, `nullable`, `enum` of
texts, `properties`, `required` and `items`. What JSON Schema expresses in other ways (lists of
types, anyOf, $ref, const) is translated to these. What they cannot express (a union, an enum of
numbers) goes into the description.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import shown
from ..errors import UsageError

Tool = dict[str, Any]

_SHAPE = "{'type': 'function', 'function': {'name': …, 'description': …, 'parameters': {…}}}"
_DEPTH = 16  # schemas inside one another; templates read them by macros that call themselves
_MOST = 10_000  # schemas of one tool, each as often as a $ref leads to it


def checked_tools(tools: Any) -> list[Tool]:
    """Returns the tools in OpenAI's shape. A tool without the wrapper (as in the Responses API,
    Anthropic's API and MCP) gets it. Raises `UsageError` for a wrong shape."""
    if tools is None:
        return []
    if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Sequence):
        raise UsageError(f"tools is {shown(tools)}; it must be a list of {_SHAPE}")
    return [_checked(f"tools[{number}]", tool) for number, tool in enumerate(tools)]


def tool_names(tools: Sequence[Tool]) -> list[str]:
    """Names of the functions."""
    return [tool["function"]["name"] for tool in tools]


def _checked(where: str, tool: Any) -> Tool:
    if not isinstance(tool, Mapping):
        raise UsageError(f"{where} is {shown(tool)}; it must be {_SHAPE}")
    kind = tool.get("type", "function")
    if kind not in ("function", "custom", None) or (
        kind == "custom" and "input_schema" not in tool
    ):
        raise UsageError(
            f"{where} has type {shown(kind)}; only tools of type 'function' are supported"
        )
    function = tool.get("function")
    if function is None and isinstance(tool.get("name"), str):
        function = {
            key: value
            for key, value in tool.items()
            if key not in ("type", "input_schema", "inputSchema")
        }
        function.setdefault("parameters", tool.get("input_schema", tool.get("inputSchema")))
        tool = {}
    if not isinstance(function, Mapping):
        raise UsageError(f"{where} is {shown(tool)}, without a 'function'; it must be {_SHAPE}")
    if not isinstance(function.get("name"), str) or not function["name"].strip():
        raise UsageError(
            f"{where}['function']['name'] is {shown(function.get('name'))}; it must be a name"
        )
    for key, type_, needed in (
        ("description", str, "a string"),
        ("parameters", Mapping, "a JSON Schema, a mapping"),
    ):
        if function.get(key) is not None and not isinstance(function[key], type_):
            raise UsageError(
                f"{where}['function'][{key!r}] is {shown(function[key])}; it must be {needed}"
            )
    # Templates would print "None".
    said = {key: value for key, value in function.items() if value is not None}
    return {**tool, "type": "function", "function": said}


def for_gemma4(tools: Sequence[Tool]) -> list[Tool]:
    """Returns the tools in the words of Gemma 4's templates."""
    return [{**tool, "function": _function(tool["function"])} for tool in tools]


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    result = {"description": "", **function}
    root = function.get("parameters")
    if root:
        schema = _Schemas(root, function["name"]).read(root)
        result["parameters"] = {**schema, "type": "object"}
    response = function.get("response")
    if isinstance(response, Mapping):
        result["response"] = _Schemas(response, function["name"]).read(response)
    elif "response" in result:
        del result["response"]
    return result


class _Schemas:
    """Reads the schemas of one tool. `root`: where a $ref begins."""

    def __init__(self, root: Mapping[str, Any], tool: str) -> None:
        self._root = root
        self._tool = tool
        self._n_read = 0

    def read(
        self, schema: Any, depth: int = 0, inside: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """Returns a schema with one type and, optionally, nullable, description, enum, properties,
        required and items.

        inside: the references that led here. A reference to itself ends there, as an object without
        properties.
        """
        self._n_read += 1
        if self._n_read > _MOST:
            raise UsageError(
                f"the parameters of tool {self._tool!r} spell out to more than {_MOST} schemas"
            )
        schema, inside = self._flat(schema, depth, inside)
        notes: list[str] = []
        kinds, nullable = _kinds(schema)
        branches = (
            [self.read(one, depth + 1, inside) for one in _choices(schema)]
            if depth < _DEPTH
            else []
        )
        some = [one for one in branches if one["type"] != "null"]
        nullable = nullable or len(some) < len(branches) or any(one.get("nullable") for one in some)
        if some:
            schema = _joined(schema, some)
            kinds = kinds or list(dict.fromkeys(one["type"] for one in some))
        kinds = kinds or (["null"] if nullable and not _says_more(schema) else [_guess(schema)])
        if len(kinds) > 1:
            notes.append(" or ".join(kinds))
        result: dict[str, Any] = {"type": kinds[0]}
        if nullable and kinds != ["null"]:
            result["nullable"] = True
        enum = [value for value in _enum(schema) if value is not None]
        if enum and all(isinstance(value, str) for value in enum) and kinds[0] == "string":
            result["enum"] = enum
        elif enum:
            notes.append(
                "one of "
                + ", ".join(json.dumps(value, ensure_ascii=False, default=str) for value in enum)
            )
        description = schema.get("description")
        words = [description] if isinstance(description, str) and description else []
        if notes:
            words.append(f"({'; '.join(notes)})")
        if words:
            result["description"] = " ".join(words)
        if kinds[0] == "object":
            result.update(self._object(schema, depth, inside))
        items = schema.get("items", schema.get("prefixItems")) if depth < _DEPTH else None
        if kinds[0] == "array" and isinstance(items, (list, tuple)):
            result["items"] = self.read({"anyOf": list(items)}, depth + 1, inside)
        elif kinds[0] == "array" and isinstance(items, Mapping) and items:
            result["items"] = self.read(items, depth + 1, inside)
        return result

    def _object(
        self, schema: Mapping[str, Any], depth: int, inside: frozenset[str]
    ) -> dict[str, Any]:
        """Templates read an object without properties as its own list of properties, so there is
        always one."""
        properties = schema.get("properties")
        named = properties if isinstance(properties, Mapping) and depth < _DEPTH else {}
        read = {str(name): self.read(one, depth + 1, inside) for name, one in named.items()}
        found: dict[str, Any] = {"properties": read}
        required = schema.get("required")
        names = (
            [name for name in required if isinstance(name, str)]
            if isinstance(required, (list, tuple))
            else []
        )
        if names:
            found["required"] = names
        return found

    def _flat(
        self, schema: Any, depth: int, inside: frozenset[str]
    ) -> tuple[dict[str, Any], frozenset[str]]:
        """The schema with its $ref followed and its allOf joined. True and other oddities allow
        anything."""
        if not isinstance(schema, Mapping):
            return {}, inside
        result = dict(schema)
        while "$ref" in result:
            reference = str(result.pop("$ref"))
            if reference in inside:
                return {
                    "type": "object",
                    **{key: result[key] for key in ("description",) if key in result},
                }, inside
            inside |= {reference}
            result = {**self._target(reference), **result}
        parts = result.pop("allOf", None)
        for one in parts if isinstance(parts, (list, tuple)) and depth < _DEPTH else ():
            part, inside = self._flat(one, depth + 1, inside)
            result = _merged(result, part)
        return result, inside

    def _target(self, reference: str) -> Mapping[str, Any]:
        found: Any = self._root
        if not reference.startswith("#"):
            return {}
        for part in reference[1:].split("/")[1:]:
            found = (
                found.get(part.replace("~1", "/").replace("~0", "~"))
                if isinstance(found, Mapping)
                else None
            )
        return found if isinstance(found, Mapping) else {}


def _choices(schema: Mapping[str, Any]) -> list[Any]:
    """Branches of a union."""
    found = [schema.get(key) for key in ("anyOf", "oneOf")]
    return [
        one
        for some in found
        if isinstance(some, (list, tuple))
        for one in some
        if isinstance(one, Mapping)
    ]


def _kinds(schema: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The types that the schema names, without "null", and True if null is among them."""
    said = schema.get("type")
    said = said if isinstance(said, (list, tuple)) else [said]
    kinds = [kind.lower() for kind in said if isinstance(kind, str)]
    null = "null" in kinds or schema.get("nullable") is True or None in _enum(schema)
    return [kind for kind in dict.fromkeys(kinds) if kind != "null"], null


def _says_more(schema: Mapping[str, Any]) -> bool:
    """True if a schema that names no type allows anything but null."""
    more = any(key in schema for key in ("properties", "items", "nullable"))
    return more or any(value is not None for value in _enum(schema))


def _enum(schema: Mapping[str, Any]) -> list[Any]:
    if "const" in schema:
        return [schema["const"]]
    found = schema.get("enum")
    return list(found) if isinstance(found, (list, tuple)) else []


def _guess(schema: Mapping[str, Any]) -> str:
    """The likely type of a schema that names none."""
    if isinstance(schema.get("properties"), Mapping) or "additionalProperties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    values = [value for value in _enum(schema) if value is not None]
    for type_, kind in ((bool, "boolean"), (int, "integer"), ((int, float), "number")):
        if values and all(isinstance(value, type_) for value in values):
            return kind
    return "string"


def _joined(schema: dict[str, Any], branches: list[dict[str, Any]]) -> dict[str, Any]:
    """The schema joined with its union's branches: with all of a single branch, else with the
    values and properties of all."""
    result = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
    enums = [one.get("enum") for one in branches]
    for one in branches:
        result = _merged(
            result,
            {key: value for key, value in one.items() if key not in ("type", "enum", "nullable")},
        )
    if len(branches) > 1:
        result.pop("required", None)  # each branch has its own
    if all(enums):
        result["enum"] = list(dict.fromkeys(value for enum in enums for value in enum or ()))
    return result


def _merged(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Joins two schemas that both hold. Where they contradict each other the first wins."""
    result = {**other, **one}
    for key in ("properties", "required"):
        first, second = one.get(key), other.get(key)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            result[key] = {**second, **first}
        elif isinstance(first, list) and isinstance(second, list):
            result[key] = list(dict.fromkeys(first + second))
    return result


def named_tool(choice: Any) -> str | None:
    """The function that a tool_choice names, wrapped, or flat as in the Responses API; None: it
    names none."""
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = (
        function.get("name")
        if isinstance(function, Mapping)
        else choice.get("name")
        if isinstance(choice, Mapping)
        else None
    )
    return name if isinstance(name, str) else None
