"""Errors as clients get them: a status, OpenAI's JSON shape, and headers.

Routers of other APIs have shapes of their own: `ErrorShapes`, by the beginning of the path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .. import errors
from ..errors import PillionError

Body = dict[str, Any]

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    499: "cancelled",
    500: "server_error",
    503: "unavailable_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """An answer that is an error. code: OpenAI's short name. param: the field at fault."""

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.type = _TYPES.get(status, "invalid_request_error")
        self.code = code
        self.param = param
        self.headers = dict(headers or {})


def openai_shape(error: ApiError) -> Body:
    """OpenAI's error object."""
    inner = {
        "message": error.sentence,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    return {"error": inner}


Shape = Callable[[ApiError], Body]


class ErrorShapes:
    """Maps paths to shapes of errors."""

    def __init__(self) -> None:
        self._by_path: dict[str, Shape] = {}

    def add(self, beginning: str, shape: Shape) -> None:
        """Gives paths with this beginning a shape."""
        self._by_path[beginning] = shape

    def body(self, path: str, error: ApiError) -> Body:
        """JSON of an error on a path."""
        found = [one for one in self._by_path if path.startswith(one)]
        shape = self._by_path[max(found, key=len)] if found else openai_shape
        return shape(error)


def unavailable(sentence: str, retry_after: float, code: str) -> ApiError:
    """A 503 that tells when to try again."""
    headers = {"Retry-After": str(max(1, round(retry_after)))}
    return ApiError(503, sentence, code=code, headers=headers)


class ClientGone(Exception):
    """The client left; nobody reads an answer."""


def api_error(error: BaseException, retry_after: float = 5) -> ApiError:
    """The error that a client gets for an exception."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ClientGone):
        return ApiError(499, "the client closed the connection", code="client_closed_request")
    if isinstance(error, errors.QueueFull):
        return unavailable(error.sentence, error.retry_after, "queue_full")
    if isinstance(error, errors.TimedOut):
        return unavailable(error.sentence, retry_after, "timeout")
    if isinstance(error, errors.ContextFullError):
        return ApiError(400, error.sentence, code="context_length_exceeded")
    if isinstance(error, (errors.Busy, errors.Closed)):
        return unavailable(error.sentence, retry_after, "busy")
    if isinstance(error, errors.UsageError):
        return ApiError(400, error.sentence, code="invalid_value", param=_param(error.sentence))
    if isinstance(error, errors.Cancelled):
        return unavailable(error.sentence, retry_after, "cancelled")
    if isinstance(error, (errors.OutOfMemoryError, errors.DeviceLostError)):
        return unavailable(error.sentence, retry_after, "unavailable")
    if isinstance(error, RecursionError):  # parsers bound what they know; this is the rest
        sentence = "the request has too many objects and lists inside one another"
        return ApiError(400, sentence, code="invalid_value")
    if isinstance(error, PillionError):
        return ApiError(500, error.sentence, code="internal_error")
    return ApiError(500, "a fault inside the server; its log has the reason", code="internal_error")


_NAMED = re.compile(
    r"(?:a key of )?([a-z_]{2,40}(?:\[\d+\])*(?:\.[a-z_]+)*)"
    r"(?: is | has | names | and | together |=|\[)"
)
_DESCRIBED = {
    "the draft length ": "draft",
    "the schema of response_format ": "response_format",
    "the regex ": "regex",
    "the grammar ": "grammar",
    "the choice ": "choice",
    "the parameters of ": "tools",
}


def _param(sentence: str) -> str | None:
    """The field that a sentence begins with."""
    for words, field in _DESCRIBED.items():
        if sentence.startswith(words):
            return field
    found = _NAMED.match(sentence)
    return found[1] if found and found[1] not in ("the", "there") else None
