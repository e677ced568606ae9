"""Checks what a caller wants a reply to look like: `response_format`, `regex`, `grammar` and
`choice` become one `Body`. Nothing here needs llguidance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..arguments import shown, wrong
from ..errors import UsageError

JSON, REGEX, GRAMMAR, CHOICE = "json", "regex", "grammar", "choice"

_DEPTH = 64  # schemas inside one another
_MOST_VALUES = 50_000  # objects, lists and values of one schema
_MOST_CHARACTERS = 1_000_000  # of a schema; of a regex or a grammar a tenth
_LONGEST = 100_000  # one text
_MOST_CHOICES = 10_000
_BLANKS = r"[ \t\n]{1,8}"

_SHAPES = (
    "{'type': 'text'}, {'type': 'json_object'} or "
    "{'type': 'json_schema', 'json_schema': {'name': …, 'schema': {…}}}"
)


@dataclass(frozen=True)
class Body:
    """What the reply must be after its thinking."""

    kind: str
    """JSON, REGEX, GRAMMAR or CHOICE."""
    source: str
    """A JSON schema, a regular expression, a grammar, or a JSON list of strings."""

    @property
    def argument(self) -> str:
        """Name of the argument it came from, for sentences."""
        return "response_format" if self.kind == JSON else self.kind


def wanted_body(
    response_format: Any = None, regex: Any = None, grammar: Any = None, choice: Any = None
) -> Body | None:
    """The form that is given; None: free text. Raises UsageError for more than one, and for a wrong
    shape."""
    given = {"response_format": response_format, "regex": regex, "grammar": grammar}
    given["choice"] = choice
    names = [name for name, value in given.items() if value is not None]
    if response_format is not None and _kind(response_format) == "text":
        names.remove("response_format")
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} were given; a reply can have one of them")
    if not names:
        return None
    if names == ["regex"]:
        return Body(REGEX, _source("regex", regex))
    if names == ["grammar"]:
        return Body(GRAMMAR, _source("grammar", grammar))
    if names == ["choice"]:
        return Body(CHOICE, json.dumps(_choices(choice), ensure_ascii=False))
    return Body(JSON, schema_text(_schema_of(response_format)))


def _kind(response_format: Any) -> str:
    if isinstance(response_format, Mapping):
        return str(response_format.get("type"))
    return "json_schema" if hasattr(response_format, "model_json_schema") else ""


def _schema_of(response_format: Any) -> Any:
    kind = _kind(response_format)
    if not isinstance(response_format, Mapping):  # a model of pydantic
        if kind:
            return _closed(response_format.model_json_schema())
        wrong("response_format", response_format, _SHAPES)
    if kind == "json_object":  # llama-cpp-python puts a schema here
        schema = response_format.get("schema")
        return {"type": "object"} if schema is None else schema
    if kind != "json_schema":
        wrong("response_format", response_format, _SHAPES)
    named = response_format.get("json_schema")
    # the Responses API has name and schema beside the type
    holder = named if isinstance(named, Mapping) else response_format
    if "schema" not in holder:
        raise UsageError(
            f"response_format is {shown(response_format)}, without a schema; it must be {_SHAPES}"
        )
    return holder["schema"]


_OF_NAMES = ("$defs", "properties")
_OF_LISTS = ("anyOf", "oneOf", "prefixItems")
_OF_ONE = ("items", "additionalProperties")


def _closed(schema: Any) -> Any:
    """The schema of a class. Its objects have the fields of their class and no others, unless the
    class takes them: a model would go on with fields that nobody reads."""
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for key, value in schema.items():
        if key in _OF_NAMES and isinstance(value, Mapping):
            found[key] = {name: _closed(one) for name, one in value.items()}
        elif key in _OF_LISTS and isinstance(value, list):
            found[key] = [_closed(one) for one in value]
        elif key in _OF_ONE:
            found[key] = _closed(value)
    if schema.get("type") == "object" and "properties" in schema:
        found.setdefault("additionalProperties", False)
    return found


def schema_text(schema: Any) -> str:
    """A JSON schema as text, with bounded blanks in the answer: a model in doubt could write blanks
    for ever."""
    if schema is True:
        schema = {}
    if not isinstance(schema, Mapping):
        wrong("the schema of response_format", schema, "a JSON schema, a mapping")
    check_size("the schema of response_format", schema, _check_least_properties)
    bounded = {**schema, "x-guidance": {"whitespace_pattern": _BLANKS}}
    try:
        return json.dumps(bounded, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the schema of response_format is not JSON: {error}") from None


def check_size(
    what: str, schema: Any, check: Callable[[str, Mapping[Any, Any]], None] | None = None
) -> None:
    """Raises UsageError, in bounded time, for a schema that is too deep or too large, and for keys
    that are not strings. check: called with each object."""
    n_values = n_characters = 0
    waiting = [(schema, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEPTH:
            raise UsageError(f"{what} has more than {_DEPTH} objects and lists in one another")
        n_values += 1
        if isinstance(value, Mapping):
            if check is not None:
                check(what, value)
            for key in value:
                if not isinstance(key, str):
                    raise UsageError(f"{what} has the key {shown(key)}; keys must be strings")
                n_characters += len(key)
            inside: Any = value.values()
        elif isinstance(value, (list, tuple)):
            inside = value
        else:
            n_characters += len(value) if isinstance(value, str) else 0
            if isinstance(value, str) and len(value) > _LONGEST:
                raise UsageError(f"{what} has a text of more than {_LONGEST} characters")
            inside = ()
        if n_values + len(waiting) + len(inside) > _MOST_VALUES:
            raise UsageError(f"{what} has more than {_MOST_VALUES} values")
        if n_characters > _MOST_CHARACTERS:
            raise UsageError(f"{what} has more than {_MOST_CHARACTERS} characters")
        waiting += [(one, depth + 1) for one in inside]


def _check_least_properties(what: str, schema: Mapping[Any, Any]) -> None:
    """A name may come twice in a map, which is one property: a lower bound would not hold."""
    least, required = schema.get("minProperties"), schema.get("required")
    known = len(required) if isinstance(required, (list, tuple)) else 0
    if isinstance(least, int) and least > max(known, 1):
        raise UsageError(
            f"{what} uses 'minProperties' {least}, which cannot be enforced; use 'required'"
        )


def _source(name: str, text: Any) -> str:
    if not isinstance(text, str) or not text:
        wrong(name, text, "a string that is not empty")
    if len(text) > _MOST_CHARACTERS // 10:
        raise UsageError(
            f"{name} has {len(text)} characters; at most {_MOST_CHARACTERS // 10} are taken"
        )
    check_text_is_utf8(name, text)
    return text


def check_text_is_utf8(name: str, text: str) -> None:
    """Raises UsageError for half of a surrogate pair, which no grammar can spell."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{name} is {shown(text)}, which is no valid Unicode") from None


def _choices(choice: Any) -> list[str]:
    allowed = "a list of different strings, none of them empty"
    listable = isinstance(choice, (Sequence, set, frozenset))
    if isinstance(choice, (str, bytes)) or not listable:
        wrong("choice", choice, allowed)
    listed = list(choice)
    if not listed or len(listed) > _MOST_CHOICES:
        raise UsageError(f"choice has {len(listed)} strings; it must have 1 to {_MOST_CHOICES}")
    for one in listed:
        if not isinstance(one, str) or not one:
            wrong("choice", choice, allowed)
        check_text_is_utf8("choice", one)
    if sum(map(len, listed)) > _MOST_CHARACTERS // 10:
        raise UsageError(f"choice has more than {_MOST_CHARACTERS // 10} characters")
    return list(dict.fromkeys(listed))
