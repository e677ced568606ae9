"""The OpenAPI page: FastAPI's, with the bodies that routes read themselves, answers other than
JSON, and the shapes of errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .schemas import Fields

_TEXT = {"type": "string"}
_STREAMED = (
    "/v1/chat/completions", "/chat/completions", "/v1/completions", "/completions",
    "/v1/responses", "/responses", "/v1/messages",
)  # fmt: skip
_EVENT = {"type": "object", "required": ["data"], "properties": {"data": _TEXT, "event": _TEXT}}
_OTHER = {"/": "text/html", "/metrics": "text/plain"}
"""Paths that do not answer with JSON."""


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _part(*kinds: str) -> dict[str, Any]:
    return _object({"type": {"enum": list(kinds)}, "text": _TEXT}, "type", "text")


def _message(roles: dict[str, Any], part: dict[str, Any], *required: str) -> dict[str, Any]:
    content = {"anyOf": [_TEXT, {"type": "array", "items": part}]}
    return _object({"role": roles, "content": content}, *required)


_ROLES = {"enum": ["system", "developer", "user", "assistant"]}
_SCHEMA = {"type": "object"}
_FUNCTION = _object({"name": _TEXT, "description": _TEXT, "parameters": _SCHEMA}, "name")
_CHAT_ITEMS = {
    "messages": _message(_TEXT, _part("text"), "role"),
    "tools": _object({"type": {"const": "function"}, "function": _FUNCTION}, "type", "function"),
}
_MESSAGES_ITEMS = {
    "messages": _message({"enum": ["user", "assistant"]}, _part("text"), "role", "content"),
    "tools": _object({"name": _TEXT, "input_schema": _SCHEMA}, "name", "input_schema"),
}
_RESPONSES_ITEMS = {
    "input": _message(_ROLES, _part("input_text", "output_text"), "role", "content"),
    "tools": _object({"type": {"const": "function"}, "name": _TEXT}, "type", "name"),
}
_ITEMS = {
    "ChatRequest": _CHAT_ITEMS,
    "TemplateRequest": _CHAT_ITEMS,
    "MessagesRequest": _MESSAGES_ITEMS,
    "CountRequest": _MESSAGES_ITEMS,
    "ResponsesRequest": _RESPONSES_ITEMS,
}
"""What stands in lists of objects, mostly: the routes read more than that."""

_INNER = {
    "message": _TEXT,
    "type": _TEXT,
    "param": {"type": ["string", "null"]},
    "code": {"type": ["string", "null"]},
}
_ERRORS = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {"type": "object", "required": list(_INNER), "properties": _INNER},
        },
    },
    "MessagesError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "request_id": {"type": ["string", "null"]},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": _TEXT, "message": _TEXT},
            },
        },
    },
}


def describe(app: FastAPI, schemas: Sequence[type[Fields]]) -> None:
    """Gives the application its page. schemas: models that routes name in `openapi_extra`."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _page(app, schemas)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _page(app: FastAPI, schemas: Sequence[type[Fields]]) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    parts = found.setdefault("components", {}).setdefault("schemas", {})
    for model in schemas:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        parts.update(schema.pop("$defs", {}))
        parts[model.__name__] = schema
        for field, item in _ITEMS.get(model.__name__, {}).items():
            _say_items(schema["properties"][field], item)
    parts.update(_ERRORS)
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which nobody gets
        parts.pop(name, None)
    for path, operations in found["paths"].items():
        for operation in operations.values():
            operation["responses"] = _responses(path, operation["responses"])
    return found


def _responses(path: str, given: dict[str, Any]) -> dict[str, Any]:
    name = "MessagesError" if path.startswith("/v1/messages") else "Error"
    error = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    ok = dict(given["200"])
    if path in _OTHER:
        ok["content"] = {_OTHER[path]: {"schema": _TEXT}}
    elif path in _STREAMED:
        ok["content"] = {**ok.get("content", {}), "text/event-stream": {"schema": _EVENT}}
    refused = {"description": "Refused: one sentence that says why", "content": error}
    unable = {"description": "Not now, or a fault of the server", "content": error}
    if path.endswith("/health"):
        unable = {"description": "Not ready", "content": {"application/json": {"schema": {}}}}
    return {"200": ok, "4XX": refused, "5XX": unable}


def _say_items(schema: dict[str, Any], item: dict[str, Any]) -> None:
    """Puts the schema of the items where the field is a list."""
    for one in (schema, *schema.get("anyOf", ())):
        if one.get("type") == "array":
            one["items"] = item
