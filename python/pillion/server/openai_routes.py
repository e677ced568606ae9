"""/v1/chat/completions and /v1/completions, whole and streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest

from ..llm.openai_format import Result
from ..sampling import SEED_MAX
from . import sse
from .api_errors import ApiError
from .preparing import Prepared, prepared_chat, prepared_text
from .reading import checked, json_body
from .schemas import MOST_STOPS, STOP_LENGTH, ChatRequest, CompletionRequest, Fields, Sampled
from .serving import Answers, Serving

_SAMPLING = (
    "max_tokens", "n", "stop", "seed", "temperature", "top_p", "top_k", "min_p", "repeat_penalty",
    "frequency_penalty", "presence_penalty", "penalty_last_n", "logit_bias", "draft",
    "response_format", "regex", "grammar", "choice",
)  # fmt: skip
_CHAT = (
    "messages", "logprobs", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls",
    "continue_final_message",
)  # fmt: skip
_TEXT = ("prompt", "logprobs", "echo", "suffix")


def openai_router(serving: Serving) -> APIRouter:
    """The routes without their /v1."""
    router = APIRouter()

    @router.post("/chat/completions", openapi_extra=body_of(ChatRequest), response_model=None)
    async def chat(http: HttpRequest) -> Response:
        """Answers a conversation."""
        given = checked(ChatRequest, await json_body(http))
        fields = chat_fields(serving, given)
        return await _answered(serving, http, given, prepared_chat, fields)

    @router.post("/completions", openapi_extra=body_of(CompletionRequest), response_model=None)
    async def completions(http: HttpRequest) -> Response:
        """Continues one text or several."""
        given = checked(CompletionRequest, await json_body(http))
        fields = {"max_tokens": 16, **sampling_fields(given), **given.said(*_TEXT)}
        return await _answered(serving, http, given, prepared_text, fields)

    @router.post("/chat/completions/input_tokens", openapi_extra=body_of(ChatRequest))
    async def input_tokens(http: HttpRequest) -> Result:
        """Counts the tokens of a conversation's prompt."""
        given = checked(ChatRequest, await json_body(http))
        fields = chat_fields(serving, given)
        (one, *_) = await serving.prepare(prepared_chat, fields, serving.terms(http))
        n = len(one.request.prompt)
        return {"object": "chat.completion.input_tokens", "input_tokens": n}

    return router


def body_of(schema: type[Fields]) -> dict[str, Any]:
    """The body's schema for OpenAPI. The routes read bodies themselves."""
    reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
    content = {"application/json": {"schema": reference}}
    return {"requestBody": {"required": True, "content": content}}


# ---- fields ----


def sampling_fields(given: Sampled) -> dict[str, Any]:
    """Fields of both kinds of completion, as arguments of the library."""
    checked_stops(given.stop)
    fields = given.said(*_SAMPLING)
    if given.seed is not None and given.seed < 0:
        if given.seed == -1:
            del fields["seed"]  # llama-server's word for a random one
        else:
            fields["seed"] = given.seed & SEED_MAX
    return fields


def checked_stops(stop: str | Sequence[str] | None) -> None:
    """Raises a 400 for too many stop strings, or too long ones."""
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > MOST_STOPS or any(len(one) > STOP_LENGTH for one in stops):
        raise ApiError(
            400,
            f"stop has {len(stops)} strings; it can have {MOST_STOPS} of {STOP_LENGTH} characters",
            code="invalid_value",
            param="stop",
        )


def chat_fields(serving: Serving, given: ChatRequest) -> dict[str, Any]:
    """Fields of a conversation, as arguments of `prepared_chat`."""
    limits = serving.settings
    within("messages", given.messages, limits.max_messages)
    within("tools", given.tools or (), limits.max_tools)
    fields = {**sampling_fields(given), **given.said(*_CHAT)}
    if given.max_completion_tokens is not None:
        fields["max_tokens"] = given.max_completion_tokens
    variables = template_variables(serving, given.reasoning_effort, given.chat_template_kwargs)
    if variables:
        fields["chat_template_kwargs"] = variables
    return fields


def template_variables(
    serving: Serving, effort: str | None, given: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Variables of the chat template. Gemma 4's knows thinking on and off: efforts above "minimal"
    turn it on."""
    variables = dict(serving.settings.default_variables or {})
    if effort is not None:
        variables["enable_thinking"] = effort not in ("none", "minimal")
    return {**variables, **(given or {})}


def within(name: str, listed: Collection[Any], most: int) -> None:
    """Raises a 400 for a list that is too long."""
    if len(listed) > most:
        sentence = f"{name} has {len(listed)} entries; at most {most} are read"
        raise ApiError(400, sentence, code="array_above_max_length", param=name)


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """The header that names fields without effect."""
    shown = [one for one in names if one.isascii() and one.isprintable()]
    return {"X-Pillion-Ignored": ", ".join(shown)[:1024]} if shown else {}


# ---- answers ----


async def _answered(
    serving: Serving,
    http: HttpRequest,
    given: Sampled,
    work: Callable[..., list[Prepared]],
    fields: Mapping[str, Any],
) -> Response:
    terms = serving.terms(http, given.cache_salt or "")
    answers = serving.begin(await serving.prepare(work, fields, terms))
    headers = ignored_header(given.ignored)
    if not given.stream:
        return json_response(whole(answers, await answers.run(http)), headers)
    wishes = given.pillion
    include = bool(given.stream_options and given.stream_options.include_usage)
    for one in answers.completions:
        one.include_usage = include
        one.shows_pieces = bool(wishes and wishes.pieces)
    events = stream_events(answers, include, bool(wishes and wishes.place))
    return serving.stream(http, answers, events, headers=headers)


def json_response(value: Any, headers: Mapping[str, str]) -> Response:
    """A JSON response. value: an object, or JSON's bytes."""
    return Response(
        value if isinstance(value, bytes) else sse.json_bytes(value),
        media_type="application/json",
        headers={**headers, "cache-control": "no-store"},
    )


def whole(answers: Answers, results: list[Result]) -> Result:
    """One result of all choices."""
    first = results[0]
    if len(results) > 1:
        first["choices"] = [choice for one in results for choice in one["choices"]]
        first["usage"] = answers.usage()
    return first


async def stream_events(
    answers: Answers, include_usage: bool, tells_place: bool = False
) -> AsyncIterator[bytes]:
    """OpenAI's stream: roles, deltas, ends, the usage if it was asked for, [DONE]."""
    waiting = set()  # for the scores of their prompts, which stand before all text
    for one in answers.completions:
        if one.scored is not None:
            waiting.add(one)
            continue
        for chunk in one.opening_chunks():
            yield sse.data(chunk)
    async for at, piece in answers.each(tells_place):
        completion = answers.completions[at]
        if isinstance(piece, int):
            frame = {**completion.head, "object": completion.chunk_kind, "choices": []}
            yield sse.data({**frame, "pillion": {"place": piece}})
            continue
        if completion in waiting:
            waiting.remove(completion)
            for chunk in completion.opening_chunks():
                yield sse.data(chunk)
        chunks = completion.closing_chunks() if piece is None else completion.piece_chunks(piece)
        for chunk in chunks:
            yield sse.data(chunk)
    if include_usage:
        yield sse.data(answers.completions[0].usage_chunk(answers.usage()))
    yield sse.DONE
