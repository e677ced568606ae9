"""Server-sent events: the form of an event, and the response that sends a stream of them.

The response notices that the client leaves, sends a comment in long silences, and gives up on a
client that reads nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from fastapi.responses import Response

from .api_errors import ClientGone

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"

timeout: Any = asyncio.timeout  # type: ignore[attr-defined]  # the server has Python 3.11

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def json_bytes(value: Any) -> bytes:
    """JSON that every reader accepts: a log-probability of minus infinity becomes OpenAI's
    -9999."""
    try:
        text = _json(value)
    except ValueError:
        text = _json(_finite(value))
    return text.encode("utf-8", "replace")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return -9999.0 if isinstance(value, float) and not math.isfinite(value) else value


def data(value: Any) -> bytes:
    """An event without a name."""
    return b"data: " + json_bytes(value) + b"\n\n"


def event(name: str, value: Any) -> bytes:
    """An event with a name, as in Anthropic's and the Responses API."""
    return f"event: {name}\n".encode() + data(value)


def comment(text: str) -> bytes:
    """A comment, which clients skip."""
    return b": " + " ".join(text.split()).encode("utf-8", "replace") + b"\n\n"


@contextlib.asynccontextmanager
async def watching(receive: Receive, gone: Callable[[], object]) -> AsyncIterator[None]:
    """Calls `gone` when the client leaves while the body runs. The request's body must have been
    read."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone()

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class EventStream(Response):
    """Sends what `events` yields. It sends an exception of `events` as `on_error` says, which ends
    the stream. No stream begins with one, because the caller has begun the work before.

    leave: called with the reason ("disconnect", "slow reader") when nobody reads any more; it must
    make `events` end or raise. done: always called at the end. drop: cuts the connection; called
    when somebody left it in the middle.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        *,
        leave: Callable[[str], object],
        on_error: Callable[[BaseException], bytes],
        done: Callable[[], object] = lambda: None,
        drop: Callable[[], object] = lambda: None,
        ping: float = 15.0,
        stuck: float = 60.0,
        ping_event: bytes = PING,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(None, 200)
        del self.headers["content-length"]
        self.headers["content-type"] = "text/event-stream; charset=utf-8"
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"
        for name, value in (headers or {}).items():
            self.headers[name] = value
        self._events = events
        self._leave = leave
        self._on_error = on_error
        self._done, self._drop = done, drop
        self._ping, self._stuck, self._ping_event = ping, stuck, ping_event
        self._gone = False
        self._ready: list[bytes] = []
        self._more = asyncio.Event()
        self._ended = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        def gone() -> None:
            self._gone = True
            self._leave("disconnect")
            self._more.set()

        async with watching(receive, gone):
            producing = asyncio.create_task(self._produce())
            try:
                start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                await self._write(send, start)
                await self._flush(send)
            except ClientGone:
                self._drop()
            finally:
                self._done()
                producing.cancel()
                await asyncio.gather(producing, return_exceptions=True)

    async def _produce(self) -> None:
        """Takes events as they come. It does not wait while there are any, so that the events of a
        round go out in one write."""
        try:
            async for one in self._events:
                self._ready.append(one)
                self._more.set()
        except ClientGone:
            self._gone = True
        except Exception as error:
            self._ready.append(self._on_error(error))
        finally:
            self._ended = True
            self._more.set()
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()

    async def _flush(self, send: Send) -> None:
        while not self._gone:
            try:
                async with timeout(self._ping):
                    await self._more.wait()
            except TimeoutError:
                await self._write(send, _body(self._ping_event))
                continue
            self._more.clear()
            ended, part = self._ended, b"".join(self._ready)
            self._ready.clear()
            if part:
                await self._write(send, _body(part))
            if ended and not self._ready:
                await self._write(send, _body(b"", more=False))
                return
        raise ClientGone

    async def _write(self, send: Send, message: MutableMapping[str, Any]) -> None:
        """Sends data. It leaves a client that takes nothing for too long."""
        if self._gone:
            raise ClientGone
        try:
            async with timeout(self._stuck):
                await send(message)
        except TimeoutError:
            self._gone = True
            self._leave("slow reader")
            raise ClientGone from None
        except OSError:
            self._gone = True
            self._leave("disconnect")
            raise ClientGone from None


def _body(part: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": part, "more_body": more}
