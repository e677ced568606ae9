"""Shared by the routes of other APIs: prepares a request as a chat and reads its chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import Request as HttpRequest

from ..llm.openai_format import Result
from .openai_routes import checked_stops, template_variables, within
from .parts import ChatCall
from .preparing import Prepared, prepared_chat
from .serving import Answers, Serving


async def prepared_call(serving: Serving, http: HttpRequest, call: ChatCall) -> list[Prepared]:
    """Prepares a request of another API as a chat. Raises what `prepared_chat` raises."""
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


async def chunks_of(answers: Answers) -> AsyncIterator[Result]:
    """Chunks of the one answer, in OpenAI's shape. The last one has the usage."""
    completion = answers.completions[0]
    for chunk in completion.opening_chunks():
        yield chunk
    async for _, piece in answers.each():
        grown = completion.closing_chunks() if piece is None else completion.piece_chunks(piece)
        for chunk in grown:
            yield chunk
