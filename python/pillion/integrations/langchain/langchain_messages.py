"""LangChain's messages as pillion's, and pillion's answers as LangChain's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call_chunk

from ...errors import UsageError
from ...llm.openai_format import Result

_CALLS = ("tool_call", "tool_use", "tool_call_chunk", "function_call")
"""Blocks of calls, which `AIMessage.tool_calls` has as well."""


def plain_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """The messages as `LLM.chat` takes them. Raises `UsageError` for a class that it has no role
    for; parts that are no text are left to `LLM.chat`."""
    return [_plain(message) for message in messages]


def _plain(message: BaseMessage) -> dict[str, Any]:
    if isinstance(message, AIMessage):
        return _plain_answer(message)
    found: dict[str, Any] = {"role": _role(message), "content": _parts(message.content)}
    if isinstance(message, ToolMessage):
        found["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        found["name"] = message.name
    return found


def _role(message: BaseMessage) -> str:
    if isinstance(message, ChatMessage):
        return message.role
    roles = ((HumanMessage, "user"), (SystemMessage, "system"), (ToolMessage, "tool"))
    for kind, role in roles:
        if isinstance(message, kind):
            return role
    raise UsageError(f"a {type(message).__name__} has no role in a chat of pillion")


def _plain_answer(message: AIMessage) -> dict[str, Any]:
    blocks = message.content if isinstance(message.content, list) else []
    kinds = [block.get("type") if isinstance(block, dict) else "text" for block in blocks]
    thoughts = [
        str(block.get("reasoning", ""))
        for block, kind in zip(blocks, kinds, strict=True)
        if kind == "reasoning" and isinstance(block, dict)
    ]
    said = [
        block
        for block, kind in zip(blocks, kinds, strict=True)
        if kind != "reasoning" and kind not in _CALLS
    ]
    content = _parts(said) if isinstance(message.content, list) else message.content
    found: dict[str, Any] = {"role": "assistant", "content": content}
    reasoning = message.additional_kwargs.get("reasoning_content") or "".join(thoughts)
    if reasoning:
        found["reasoning_content"] = reasoning
    if message.tool_calls:
        found["tool_calls"] = [_plain_call(call) for call in message.tool_calls]
    return found


def _parts(content: str | list[Any]) -> str | list[Any]:
    if isinstance(content, str):
        return content
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]


def _plain_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": call["args"]}
    return {"id": call["id"], "type": "function", "function": function}


# ---- answers ----


def answer_of(result: Result) -> AIMessage:
    """The message of a whole result of `LLM.chat`."""
    (choice,) = result["choices"]
    message = choice["message"]
    broken = message.get("malformed_tool_calls", [])
    return AIMessage(
        content=message.get("content") or "",
        additional_kwargs=_more(message),
        tool_calls=[_call(one) for one in message.get("tool_calls", [])],
        invalid_tool_calls=[
            invalid_tool_call(args=one["text"], error=one["reason"]) for one in broken
        ],
        usage_metadata=_usage(result["usage"]),
        response_metadata=_metadata(result, choice),
    )


def chunk_of(result: Result) -> AIMessageChunk:
    """The chunk of a chunk of `LLM.chat`. The last one has usage and metadata."""
    (choice,) = result["choices"]
    delta = choice["delta"]
    is_last = choice["finish_reason"] is not None
    metadata = _metadata(result, choice) if is_last else {}
    if choice.get("logprobs"):
        metadata["logprobs"] = choice["logprobs"]
    return AIMessageChunk(
        content=delta.get("content") or "",
        additional_kwargs=_more(delta),
        tool_call_chunks=[
            tool_call_chunk(
                name=one["function"]["name"],
                args=one["function"]["arguments"],
                id=one["id"],
                index=one["index"],
            )
            for one in delta.get("tool_calls", [])
        ],
        usage_metadata=_usage(result["usage"]) if is_last else None,
        response_metadata=metadata,
        chunk_position="last" if is_last else None,
    )


def _more(message: Result) -> dict[str, Any]:
    """What LangChain's messages have no field of their own for. It makes a reasoning block of
    reasoning_content."""
    names = ("reasoning_content", "malformed_tool_calls")
    return {name: message[name] for name in names if message.get(name)}


def _call(call: Result) -> ToolCall:
    function = call["function"]
    arguments = json.loads(function["arguments"])
    return ToolCall(name=function["name"], args=arguments, id=call["id"], type="tool_call")


def _metadata(result: Result, choice: Result) -> dict[str, Any]:
    found = {"finish_reason": choice["finish_reason"], "model_name": result["model"]}
    found["model_provider"] = "pillion"
    found |= {name: result[name] for name in ("timings", "speculation") if name in result}
    found |= {name: choice[name] for name in ("stop_reason", "logprobs") if choice.get(name)}
    return found


def _usage(usage: Result) -> UsageMetadata:
    details = usage.get("completion_tokens_details", {})
    return UsageMetadata(
        input_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        total_tokens=usage["total_tokens"],
        input_token_details=InputTokenDetails(
            cache_read=usage["prompt_tokens_details"]["cached_tokens"]
        ),
        output_token_details=OutputTokenDetails(reasoning=details.get("reasoning_tokens", 0)),
    )
