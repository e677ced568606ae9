"""OpenAI's Responses API, without anything stored: /v1/responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Optional, Union

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

    model: Optional[str] = None
    input: Union[str, Several[dict[str, Any]]]
    instructions: Optional[str] = None
    max_output_tokens: Optional[int] = Field(None, ge=1)
    stream: Optional[bool] = None
    stream_options: Optional[StreamOptions] = None
    temperature: Optional[float] = None
    top_p: Optional[float] = None
    tools: Optional[Several[dict[str, Any]]] = None
    tool_choice: Union[str, dict[str, Any], None] = None
    parallel_tool_calls: Optional[bool] = None
    text: Optional[dict[str, Any]] = None
    reasoning: Optional[dict[str, Any]] = None
    include: Optional[Several[str]] = None
    store: Optional[bool] = None
    background: Optional[bool] = None
    metadata: Optional[dict[str, Any]] = None
    user: Optional[str] = None
    prompt_cache_key: Optional[str] = None
    safety_identifier: Optional[str] = None
    previous_response_id: Optional[str] = None
    conversation: Union[str, dict[str, Any], None] = None
    prompt: Optional[dict[str, Any]] = None
    draft: Draft = None
    top_k: Optional[int] = None
    min_p: Optional[float] = None
    seed: Optional[int] = Field(None, ge=0)
    stop: Stop = None
    chat_template_kwargs: Optional[dict[str, Any]] = None
    cache_salt: Optional[str] = Field(None, max_length=256)


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
