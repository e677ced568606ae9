"""Writes answers in the shape of OpenAI's Responses API: as a response object, and as its
events."""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from .parts import ChunkReader, End, Part
from .responses_request import ResponsesCall

Event = dict[str, Any]
"""The data of a server-sent event; its "type" is also the event's name."""

_ITEMS = {"thinking": "reasoning", "text": "message", "call": "function_call"}
_PREFIXES = {"reasoning": "rs", "message": "msg", "function_call": "fc"}


def response_of(result: Mapping[str, Any], call: ResponsesCall) -> dict[str, Any]:
    """A whole chat completion as a response."""
    events = ResponseEvents(call)
    events.start()
    events.feed(result)
    response: dict[str, Any] = events.finish()[-1]["response"]
    return response


class ResponseEvents:
    """Makes the events of one streamed answer: `start`, then `feed` for each chunk, then `finish`,
    or `fail` at any time after `start`. Each event has the next sequence number."""

    def __init__(self, call: ResponsesCall) -> None:
        self._reader = ChunkReader()
        self._number = 0
        self._output: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None  # the item that is being written
        self._head = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "background": False,
            "error": None,
            "incomplete_details": None,
            **call.echoed,
        }

    def start(self) -> list[Event]:
        """Events before the first chunk."""
        kinds = ("response.created", "response.in_progress")
        return [self._event(kind, response=self._response("in_progress")) for kind in kinds]

    def feed(self, chunk: Mapping[str, Any]) -> list[Event]:
        """Events of one chunk."""
        return [event for part in self._reader.feed(chunk) for event in self._grow(part)]

    def finish(self) -> list[Event]:
        """Events after the last chunk."""
        end = self._reader.end
        status = "incomplete" if end.reason == "length" else "completed"
        closing = list(self._close(status))
        more: dict[str, Any] = {"usage": _usage(end)}
        if status == "incomplete":
            more["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            more["completed_at"] = int(time.time())
        response = self._response(status) | more
        return [*closing, self._event(f"response.{status}", response=response)]

    def fail(self, code: str, sentence: str) -> list[Event]:
        """Events of an answer that broke off."""
        error = {"code": code, "message": sentence}
        response = self._response("failed") | {"error": error}
        return [
            self._event("response.failed", response=response),
            self._event("error", code=code, message=sentence, param=None),
        ]

    # ---- items ----

    def _grow(self, part: Part) -> Iterator[Event]:
        if part.kind != "arguments":
            kind = _ITEMS[part.kind]
            if self._open is None or self._open["type"] != kind or part.kind == "call":
                yield from self._close("completed")
                yield from self._begin(kind, part)
        assert self._open is not None
        if part.kind == "arguments":
            self._open["arguments"] += part.text
            yield self._of_item("response.function_call_arguments.delta", delta=part.text)
        elif part.kind != "call":
            yield self._more_text(self._open, part.text)

    def _begin(self, kind: str, part: Part) -> Iterator[Event]:
        item: dict[str, Any] = {"id": f"{_PREFIXES[kind]}_{uuid.uuid4().hex}", "type": kind}
        item["status"] = "in_progress"
        if kind == "function_call":
            item |= {"call_id": part.id, "name": part.name, "arguments": ""}
        elif kind == "message":
            item |= {"role": "assistant", "content": []}
        else:
            item |= {"summary": [], "content": []}
        self._open = item
        self._output.append(item)
        added = copy.deepcopy(item)
        yield self._event("response.output_item.added", output_index=self._at, item=added)
        if kind != "function_call":
            yield from self._begin_content(item)

    def _begin_content(self, item: dict[str, Any]) -> Iterator[Event]:
        if item["type"] == "message":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        else:
            part = {"type": "reasoning_text", "text": ""}
        item["content"].append(part)
        yield self._of_item("response.content_part.added", content_index=0, part=dict(part))

    def _more_text(self, item: dict[str, Any], text: str) -> Event:
        item["content"][0]["text"] += text
        if item["type"] == "reasoning":
            return self._of_item("response.reasoning_text.delta", content_index=0, delta=text)
        kind = "response.output_text.delta"
        return self._of_item(kind, content_index=0, delta=text, logprobs=[])

    def _close(self, status: str) -> Iterator[Event]:
        item = self._open
        if item is None:
            return
        if item["type"] == "function_call":
            arguments = item["arguments"] = item["arguments"] or "{}"
            kind = "response.function_call_arguments.done"
            yield self._of_item(kind, name=item["name"], arguments=arguments)
        else:
            part = item["content"][0]
            thinks = item["type"] == "reasoning"
            kind = "response.reasoning_text.done" if thinks else "response.output_text.done"
            more: dict[str, Any] = {} if thinks else {"logprobs": []}
            yield self._of_item(kind, content_index=0, text=part["text"], **more)
            yield self._of_item("response.content_part.done", content_index=0, part=dict(part))
        item["status"] = status
        done = copy.deepcopy(item)
        yield self._event("response.output_item.done", output_index=self._at, item=done)
        self._open = None

    @property
    def _at(self) -> int:
        return len(self._output) - 1

    # ---- events ----

    def _of_item(self, kind: str, **more: Any) -> Event:
        assert self._open is not None
        return self._event(kind, item_id=self._open["id"], output_index=self._at, **more)

    def _event(self, kind: str, **more: Any) -> Event:
        event = {"type": kind, "sequence_number": self._number, **more}
        self._number += 1
        return event

    def _response(self, status: str) -> dict[str, Any]:
        output = copy.deepcopy(self._output)
        return {**self._head, "status": status, "output": output, "usage": None}


def _usage(end: End) -> dict[str, Any]:
    return {
        "input_tokens": end.prompt,
        "input_tokens_details": {"cached_tokens": end.cached, "cache_write_tokens": 0},
        "output_tokens": end.written,
        "output_tokens_details": {"reasoning_tokens": end.thought},
        "total_tokens": end.prompt + end.written,
    }
