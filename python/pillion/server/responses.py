"""OpenAI's Responses API, without anything stored: /v1/responses."""

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
from .openai_routes import body_of, ignored_header, json_response
from .reading import checked, json_body
from .responses_events import Event, ResponseEvents, response_of
from .responses_request import read_request
from .schemas import Draft, Formed, Several, Stop, StreamOptions
from .serving import Answers, Serving


class ResponsesRequest(Formed):
    """POST /v1/responses."""

    model: str | None = None
    input: str | Several[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: Several[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    include: Several[str] | None = None
    store: bool | None = None
    background: bool | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    draft: Draft = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = Field(None, ge=0)
    stop: Stop = None
    chat_template_kwargs: dict[str, Any] | None = None
    cache_salt: str | None = Field(None, max_length=256)


def responses_router(serving: Serving) -> APIRouter:
    """The route without its /v1."""
    router = APIRouter()

    @router.post("/responses", openapi_extra=body_of(ResponsesRequest), response_model=None)
    async def responses(http: HttpRequest) -> Response:
        """Answers a conversation."""
        body = await json_body(http)
        checked(ResponsesRequest, body)
        call = read_request(body)
        answers = serving.begin(await prepared_call(serving, http, call))
        call.echoed["model"] = serving.model_name
        headers = ignored_header(call.ignored)
        if not call.stream:
            (result,) = await answers.run(http)
            return json_response(response_of(result, call), headers)
        events = ResponseEvents(call)

        def broke_off(error: ApiError) -> bytes:
            return b"".join(_sent(events.fail(error.code or "server_error", error.sentence)))

        streamed = _events(answers, events)
        return serving.stream(http, answers, streamed, on_error=broke_off, headers=headers)

    @router.post("/responses/input_tokens", openapi_extra=body_of(ResponsesRequest))
    async def input_tokens(http: HttpRequest) -> Result:
        """Counts the tokens of a conversation's prompt."""
        body = await json_body(http)
        checked(ResponsesRequest, body)
        (one,) = await prepared_call(serving, http, read_request(body))
        return {"object": "response.input_tokens", "input_tokens": len(one.request.prompt)}

    return router


async def _events(answers: Answers, events: ResponseEvents) -> AsyncIterator[bytes]:
    for one in _sent(events.start()):
        yield one
    async for chunk in chunks_of(answers):
        for one in _sent(events.feed(chunk)):
            yield one
    for one in _sent(events.finish()):
        yield one


def _sent(events: list[Event]) -> list[bytes]:
    return [sse.event(event["type"], event) for event in events]
