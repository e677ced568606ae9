"""What the routes of other APIs share: a request prepared as a chat, its chunks, its headers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol

from fastapi import Request as HttpRequest

from ..openai_format import Result
from .api_errors import ApiError
from .openai_routes import checked_stops, template_variables
from .preparing import Prepared, prepared_chat
from .serving import Answers, Serving


class ChatCall(Protocol):
    """What an API's request asks for, in the library's words."""

    messages: list[dict[str, Any]]
    options: dict[str, Any]
    max_tokens: Any
    ignored: list[str]


async def prepared_call(serving: Serving, http: HttpRequest, call: ChatCall) -> list[Prepared]:
    """The chat that a request of another API comes to. Raises what `prepared_chat` does."""
    options = dict(call.options)
    limits = serving.settings
    within("messages", call.messages, limits.max_messages)
    within("tools", options.get("tools") or (), limits.max_tools)
    checked_stops(options.get("stop"))
    variables = template_variables(serving, None, options.pop("chat_template_kwargs", None))
    if variables:
        options["chat_template_kwargs"] = variables
    if options.get("parallel_tool_calls") is False and serving.llm.structured.calls_are_free:
        del options["parallel_tool_calls"]  # agents say it with every request
        call.ignored.append("parallel_tool_calls")
    terms = serving.terms(http, options.pop("cache_salt", ""))
    fields = {"messages": call.messages, "max_tokens": call.max_tokens, **options}
    return await serving.prepare(prepared_chat, fields, terms)


def within(name: str, listed: Any, most: int) -> None:
    """Raises the 400 of a list that is too long."""
    if len(listed) > most:
        sentence = f"{name} has {len(listed)} entries; at most {most} are read"
        raise ApiError(400, sentence, code="array_above_max_length", param=name)


async def chunks_of(answers: Answers) -> AsyncIterator[Result]:
    """The chunks of the one answer, in OpenAI's shape. The last one has the usage."""
    completion = answers.completions[0]
    for chunk in completion.opening_chunks():
        yield chunk
    async for _, piece in answers.each():
        grown = completion.closing_chunks() if piece is None else completion.piece_chunks(piece)
        for chunk in grown:
            yield chunk


def ignored_header(names: Iterable[str]) -> Mapping[str, str]:
    """The header that names what had no effect."""
    shown = [one for one in names if one.isascii() and one.isprintable()]
    return {"X-Pillion-Ignored": ", ".join(shown)[:1024]} if shown else {}
