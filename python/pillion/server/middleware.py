"""Runs before the routes: request ids, the Host check, keys, limits of the body, counting.

It is pure ASGI, so that a route itself sees when the client leaves.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import uuid
from collections.abc import Mapping
from typing import Any

from . import sse
from .api_errors import ApiError
from .serving import Serving
from .settings import LOOPBACK_NAMES

_log = logging.getLogger("pillion.server")
_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

OPEN = ("/", "/health", "/v1/health")
"""Paths that need no key: the page asks for one itself."""


class Guard:
    """The outermost part of the application."""

    def __init__(self, app: Any, serving: Serving) -> None:
        self._app = app
        self._serving = serving
        self._settings = serving.settings
        self._keys = [_digest(key.encode()) for key in serving.settings.keys]
        self._names = {*LOOPBACK_NAMES, *(one.lower() for one in self._settings.allowed_hosts)}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        status: list[int] = []
        scope["pillion.request"] = request_id = _request_id(headers)

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
                names = (b"x-request-id", b"request-id")  # OpenAI's and Anthropic's
                own = [(name, request_id.encode()) for name in names]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        try:
            self._check(scope, headers)
            limited = Limited(receive, self._serving.max_body, self._settings.body_timeout)
            await self._app(scope, limited, sending)
        except ApiError as error:
            await self._refuse(scope, error, sending)
        except Exception:
            _log.exception("a request failed")
            if status:
                raise  # the server cuts the connection
            sentence = "a fault inside the server; its log has the reason"
            await self._refuse(scope, ApiError(500, sentence, code="internal_error"), sending)
        finally:
            self._serving.metrics.answered(_route(scope), status[0] if status else 499)

    def _check(self, scope: Any, headers: Mapping[bytes, bytes]) -> None:
        if self._settings.checks_host and not self._host_is_ours(headers):
            raise ApiError(
                403,
                f"the Host header is {headers[b'host'].decode('latin-1')[:80]!r}, which is no name "
                "of this machine's loopback; allow it with --allowed-host",
                code="host_not_allowed",
            )
        if self._keys and scope["path"] not in OPEN:
            scope["pillion.owner"] = self._owner(headers)
        length = headers.get(b"content-length", b"")
        if length and b"transfer-encoding" in headers:
            raise ApiError(  # a proxy may have believed the other one
                400,
                "the request has both Content-Length and Transfer-Encoding",
                code="invalid_request",
                headers={"Connection": "close"},
            )
        if length.isdigit() and int(length) > self._serving.max_body:
            raise too_large(self._serving.max_body, int(length))

    def _host_is_ours(self, headers: Mapping[bytes, bytes]) -> bool:
        """A page on the internet can name its own host and let that name lead here."""
        if b"host" not in headers:
            return True  # no browser leaves it out
        host = headers[b"host"].decode("latin-1").strip().lower()
        name = re.sub(r":\d*\Z", "", host) if not host.endswith("]") else host
        return name.strip("[]") in self._names

    def _owner(self, headers: Mapping[bytes, bytes]) -> str:
        """The owner of a key, as a short digest. All wrong keys take the same time."""
        given = headers.get(b"x-api-key", b"").strip()
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            given = bearer.strip()
        digest = _digest(given)
        matches = [hmac.compare_digest(digest, key) for key in self._keys]
        if not any(matches):
            raise ApiError(
                401,
                "the API key is wrong"
                if given
                else "an API key is needed: Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return digest.hex()[:16]

    async def _refuse(self, scope: Any, error: ApiError, send: Any) -> None:
        body = sse.json_bytes(self._serving.shapes.body(scope["path"], error))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        headers += [(key.lower().encode(), value.encode()) for key, value in error.headers.items()]
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Limited:
    """`receive` with limits on the body's bytes and time."""

    def __init__(self, receive: Any, limit: int, timeout: float) -> None:
        self._receive = receive
        self._limit, self._timeout = limit, timeout
        self._n = 0
        self._whole = False
        self._end = asyncio.get_running_loop().time() + timeout

    async def __call__(self) -> Any:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._end):  # type: ignore[attr-defined]
                message = await self._receive()
        except TimeoutError:
            sentence = f"the request's body did not come within {self._timeout:g} s"
            raise ApiError(
                408, sentence, code="request_timeout", headers={"Connection": "close"}
            ) from None
        self._whole = not message.get("more_body", False)
        self._n += len(message.get("body", b""))
        if self._n > self._limit:
            raise too_large(self._limit)
        return message


def too_large(limit: int, length: int | None = None) -> ApiError:
    """A 413 with the limit."""
    said = "more" if length is None else f"{length} bytes"
    return ApiError(
        413,
        f"the request's body has {said}; at most {limit} bytes are read",
        code="body_too_large",
        headers={"Connection": "close"},  # the rest of the body is not read
    )


def _route(scope: Any) -> str:
    """The path as a label: one of the few that there are."""
    if "route" not in scope:
        return "other"
    return str(scope["route"].path if scope.get("path_params") else scope["path"])


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id", b"")
    return given.decode() if _ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
