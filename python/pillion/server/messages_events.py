"""Writes answers in the shape of Anthropic's Messages API: as a message, and as named events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from .parts import ChatCall, ChunkReader, End, Part

Event = dict[str, Any]
"""The data of a server-sent event; its "type" is also the event's name."""

UNSIGNED = "unsigned"
"""The signature of thinking. Anthropic's API checks signatures; this server signs nothing, but some
clients drop thinking with an empty signature."""

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(status: int, sentence: str, request_id: str | None = None) -> Event:
    """An error in Anthropic's shape; it is also the data of an error event."""
    fallback = "api_error" if status >= 500 else "invalid_request_error"
    error = {"type": _ERRORS.get(status, fallback), "message": sentence}
    return {"type": "error", "error": error, "request_id": request_id}


def message_of(result: Mapping[str, Any], call: ChatCall) -> dict[str, Any]:
    """A whole chat completion as a message."""
    reader = ChunkReader()
    content: list[dict[str, Any]] = []
    for part in reader.feed(result):
        if part.kind == "arguments":
            content[-1]["input"] = json.loads(part.text)
        elif part.kind == "text" and content and content[-1]["type"] == "text":
            content[-1]["text"] += part.text
        else:
            content.append(_block(part, whole=True))
    return _message(call, content) | {**_ended(reader.end, call), "usage": _usage(reader.end)}


class MessageEvents:
    """Makes the events of one streamed answer: `start`, then `feed` for each chunk, then `finish`.

    n_prompt: tokens of the prompt, for the first event. The number of cached ones is known at the
    end.
    """

    def __init__(self, call: ChatCall, n_prompt: int) -> None:
        self._call = call
        self._n_prompt = n_prompt
        self._reader = ChunkReader()
        self._index = -1
        self._open = ""  # kind of the block that is being written

    def start(self) -> list[Event]:
        """Events before the first chunk."""
        first = End("", None, self._n_prompt, 0, 0, 0)
        message = _message(self._call, []) | {"usage": _usage(first)}
        return [{"type": "message_start", "message": message}, {"type": "ping"}]

    def feed(self, chunk: Mapping[str, Any]) -> list[Event]:
        """Events of one chunk."""
        return [event for part in self._reader.feed(chunk) for event in self._grow(part)]

    def finish(self) -> list[Event]:
        """Events after the last chunk."""
        end = self._reader.end
        last = {"type": "message_delta", "delta": _ended(end, self._call), "usage": _usage(end)}
        return [*self._close(), last, {"type": "message_stop"}]

    def _grow(self, part: Part) -> Iterator[Event]:
        kind, text = part.kind, part.text
        if kind == "arguments":
            yield self._delta({"type": "input_json_delta", "partial_json": text})
            return
        if kind != self._open or kind == "call":
            yield from self._close()
            self._index, self._open = self._index + 1, kind
            block = _block(part, whole=False)
            yield {"type": "content_block_start", "index": self._index, "content_block": block}
        if kind != "call":
            yield self._delta({"type": f"{kind}_delta", kind: text})

    def _close(self) -> Iterator[Event]:
        if not self._open:
            return
        if self._open == "thinking":
            yield self._delta({"type": "signature_delta", "signature": UNSIGNED})
        self._open = ""
        yield {"type": "content_block_stop", "index": self._index}

    def _delta(self, delta: Event) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


def _message(call: ChatCall, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _block(part: Part, whole: bool) -> dict[str, Any]:
    """A content block: with all that it holds, or as it begins."""
    if part.kind == "call":
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
    if part.kind == "thinking":
        text, signature = (part.text, UNSIGNED) if whole else ("", "")
        return {"type": "thinking", "thinking": text, "signature": signature}
    return {"type": "text", "text": part.text if whole else ""}


def _ended(end: End, call: ChatCall) -> dict[str, Any]:
    if end.reason == "length":
        full = call.max_tokens is not None and end.written < call.max_tokens
        reason = "model_context_window_exceeded" if full else "max_tokens"
    elif end.stop is not None:
        reason = "stop_sequence"
    else:
        reason = "tool_use" if end.reason == "tool_calls" else "end_turn"
    return {"stop_reason": reason, "stop_sequence": end.stop if reason == "stop_sequence" else None}


def _usage(end: End) -> dict[str, Any]:
    """Anthropic counts cached tokens apart from the others."""
    usage: dict[str, Any] = {
        "input_tokens": max(end.prompt - end.cached, 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": end.cached,
        "output_tokens": end.written,
    }
    if end.thought:
        usage["output_tokens_details"] = {"thinking_tokens": end.thought}
    return usage
