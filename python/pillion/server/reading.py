"""Reads a request's body: bytes to JSON to checked fields. Each fault is an ApiError with one
sentence."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from fastapi import Request as HttpRequest
from pydantic import BaseModel, ValidationError

from ..arguments import shown
from .api_errors import ApiError, ClientGone

M = TypeVar("M", bound=BaseModel)
_LARGE = 1 << 20


async def json_body(http: HttpRequest) -> dict[str, Any]:
    """Returns the body's JSON object."""
    kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        said = f"is {kind!r}" if kind else "is missing"
        raise ApiError(
            415,
            f"the Content-Type {said}; it must be application/json",
            code="unsupported_media_type",
        )
    parts = []
    while True:
        message = await http.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    body = b"".join(parts)
    if len(body) > _LARGE:  # pictures: other requests go on meanwhile
        return await asyncio.to_thread(parsed, body)
    return parsed(body)


def parsed(body: bytes) -> dict[str, Any]:
    """Parses JSON by its own rules: no NaN, valid UTF-8, no deeper than Python goes."""
    try:
        with _no_collector():
            found = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise _invalid(
            f"the body is not UTF-8: byte {error.start} is 0x{body[error.start]:02X}"
        ) from None
    except RecursionError:
        raise _invalid("the body has too many objects and lists inside one another") from None
    except ValueError as error:
        raise _invalid(f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise _invalid(f"the body is {shown(found)}; it must be a JSON object")
    return found


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """What is parsed has no cycles, and the collector would look at it again and again: with
    millions of lists it takes ten times as long as the parser, on the event loop."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name}, which is no JSON number")


def _invalid(sentence: str) -> ApiError:
    return ApiError(400, sentence, code="invalid_json")


def checked(schema: type[M], body: dict[str, Any]) -> M:
    """Returns the body as its schema has it. Raises an ApiError that names the field and its
    value."""
    try:
        with _no_collector():
            return schema.model_validate(body)
    except ValidationError as error:
        raise field_error(error) from None
    except RecursionError:
        raise _invalid("the body has too many objects and lists inside one another") from None


def field_error(error: ValidationError) -> ApiError:
    """The first fault as one sentence."""
    faults = error.errors(include_url=False, include_context=False)
    first = faults[0]
    name = _name(first["loc"])
    if first["type"] == "missing":
        return ApiError(400, f"{name} is missing", code="missing_required_parameter", param=name)
    said = [_words(one["msg"]) for one in faults if _name(one["loc"]) == name]  # of a union's kinds
    wanted = " or ".join(dict.fromkeys(said))
    sentence = f"{name} is {shown(first['input'])}; it must {wanted}"
    return ApiError(400, sentence, code="invalid_type", param=name)


def _words(message: str) -> str:
    """Pydantic's "Input should be a valid list", or "List should have at least 1 item…"."""
    return message.partition(" should ")[2] or message


_KINDS = ("str", "int", "float", "bool", "dict", "list", "literal", "constrained-str")


def _name(place: Sequence[Any]) -> str:
    """The field's name, without the kinds of a union that pydantic puts behind it."""
    text = ""
    for one in place:
        if isinstance(one, str) and (one in _KINDS or "[" in one):
            continue
        text += f"[{one}]" if isinstance(one, int) else f".{one}" if text else str(one)
    return text or "the body"
