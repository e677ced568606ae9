"""Anthropic's Messages API: /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from pydantic import Field

from ..llm.openai_format import Result
from . import sse
from .adapting import chunks_of, prepared_call
from .api_errors import ApiError
from .messages_events import MessageEvents, error_body, message_of
from .messages_request import read_request
from .openai_routes import body_of, ignored_header, json_response
from .parts import ChatCall
from .reading import checked, json_body
from .schemas import Draft, Fields, Formed, Several
from .serving import Answers, Serving

_PING = sse.event("ping", {"type": "ping"})

Blocks = str | Several[dict[str, Any]]


class CountRequest(Fields):
    """POST /v1/messages/count_tokens."""

    model: str
    messages: Several[dict[str, Any]] = Field(min_length=1)
    system: Blocks | None = None
    tools: Several[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None


class MessagesRequest(CountRequest, Formed):
    """POST /v1/messages."""

    max_tokens: int = Field(ge=0)
    stream: bool | None = None
    stop_sequences: Several[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: dict[str, Any] | None = None
    draft: Draft = None
    min_p: float | None = None
    seed: int | None = Field(None, ge=0)
    cache_salt: str | None = Field(None, max_length=256)


def messages_router(serving: Serving) -> APIRouter:
    """The routes with their whole paths, and the shape of their errors."""
    router = APIRouter()
    serving.shapes.add("/v1/messages", _shape)

    @router.post("/v1/messages", openapi_extra=body_of(MessagesRequest), response_model=None)
    async def messages(http: HttpRequest) -> Response:
        """Answers a conversation."""
        body = await json_body(http)
        checked(MessagesRequest, body)
        call = read_request(body)
        answers = serving.begin(await prepared_call(serving, http, call))
        call.model = serving.model_name
        headers = ignored_header(call.ignored)
        if not call.stream:
            (result,) = await answers.run(http)
            return json_response(message_of(result, call), headers)
        return serving.stream(
            http,
            answers,
            _events(answers, call),
            on_error=_broke_off,
            ping_event=_PING,
            headers=headers,
        )

    @router.post("/v1/messages/count_tokens", openapi_extra=body_of(CountRequest))
    async def count_tokens(http: HttpRequest) -> Result:
        """Counts the tokens of a conversation's prompt."""
        body = await json_body(http)
        checked(CountRequest, body)
        (one,) = await prepared_call(serving, http, read_request(body, counting=True))
        return {"input_tokens": len(one.request.prompt)}

    return router


async def _events(answers: Answers, call: ChatCall) -> AsyncIterator[bytes]:
    events = MessageEvents(call, len(answers.generations[0].prompt))
    for event in events.start():
        yield sse.event(event["type"], event)
    async for chunk in chunks_of(answers):
        for event in events.feed(chunk):
            yield sse.event(event["type"], event)
    for event in events.finish():
        yield sse.event(event["type"], event)


def _shape(error: ApiError) -> dict[str, Any]:
    """Clients look for these words to learn that a conversation must become shorter."""
    full = error.code == "context_length_exceeded"
    sentence = f"prompt is too long: {error.sentence}" if full else error.sentence
    return error_body(error.status, sentence)


def _broke_off(error: ApiError) -> bytes:
    return sse.event("error", _shape(error))
