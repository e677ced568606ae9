"""Reads requests of Anthropic's Messages API into the arguments of `LLM.chat`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import check_bool, check_int, check_text, shown, wrong
from ..errors import UsageError
from .parts import ChatCall, data_url

Body = Mapping[str, Any]

_READ = (
    "model", "messages", "system", "max_tokens", "stream", "temperature", "top_p", "top_k",
    "stop_sequences", "tools", "tool_choice", "thinking", "output_config", "output_format",
)  # fmt: skip
_SAMPLING = ("temperature", "top_p", "top_k")
_VENDOR = ("draft", "min_p", "seed", "regex", "grammar", "choice", "cache_salt")
_BILLING = "x-anthropic-billing-header:"  # changes with every request, and means nothing to a model
_SERVED_ELSEWHERE = ("server_tool_use", "redacted_thinking", "container_upload", "compaction")


def read_request(body: Body, *, counting: bool = False) -> ChatCall:
    """Reads a request of /v1/messages, or of its count_tokens (counting), which has no max_tokens.

    Raises `UsageError` for what cannot be done. Fields without effect are listed in `ignored`.
    """
    call = ChatCall(check_text("model", body.get("model")), [])
    known = {*_READ, *_VENDOR}
    call.ignored = [name for name in body if name not in known and body[name] is not None]
    if not counting or body.get("max_tokens") is not None:
        call.max_tokens = check_int("max_tokens", body.get("max_tokens"), 0)
    call.stream = bool(body.get("stream")) and check_bool("stream", body["stream"])
    call.messages = [*_system(body.get("system")), *read_messages(body.get("messages"))]
    for name in (*_SAMPLING, *_VENDOR):
        if body.get(name) is not None:
            call.options[name] = body[name]
    if body.get("stop_sequences"):
        call.options["stop"] = body["stop_sequences"]
    _read_tools(body, call)
    _read_thinking(body.get("thinking"), call)
    _read_format(body, call)
    return call


# ---- messages ----


def _system(system: Any) -> list[dict[str, Any]]:
    if system is None or system == "":
        return []
    blocks = _blocks("system", system)
    texts = [_text(f"system[{at}]", block) for at, block in enumerate(blocks)]
    text = "\n".join(one for one in texts if not one.startswith(_BILLING))
    return [{"role": "system", "content": text}] if text else []


def read_messages(messages: Any) -> list[dict[str, Any]]:
    """The conversation in OpenAI's shape: results of tools are messages of their own."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        wrong("messages", messages, "a list of {'role': …, 'content': …}")
    if not messages:
        raise UsageError("messages is empty; at least one message is required")
    out: list[dict[str, Any]] = []
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        if not isinstance(message, Mapping):
            wrong(where, message, "{'role': …, 'content': …}")
        role = message.get("role")
        blocks = _blocks(f"{where}.content", message.get("content"))
        if role == "user":
            out += _user(f"{where}.content", blocks)
        elif role == "assistant":
            out.append(_assistant(f"{where}.content", blocks))
        elif role == "system":
            out += _system(message["content"])
        else:
            wrong(f"{where}.role", role, "'user', 'assistant' or 'system'")
    if messages[-1]["role"] == "assistant":
        sentence = "the last message is the assistant's; this server does not continue it"
        raise UsageError(f"{sentence}: the conversation must end with a user message")
    return out


def _blocks(where: str, content: Any) -> Sequence[Body]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, (bytes, Mapping)) or not isinstance(content, Sequence):
        wrong(where, content, "a string or a list of content blocks")
    for at, block in enumerate(content):
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            wrong(f"{where}[{at}]", block, "a content block, {'type': …}")
    return content


def _user(where: str, blocks: Sequence[Body]) -> list[dict[str, Any]]:
    """Texts and images that follow one another are one message; results keep their places."""
    out: list[dict[str, Any]] = []
    for at, block in enumerate(blocks):
        if block["type"] == "tool_result":
            out.append(_result(f"{where}[{at}]", block))
        else:
            part = _part(f"{where}[{at}]", block)
            if out and out[-1]["role"] == "user":
                out[-1]["content"].append(part)
            else:
                out.append({"role": "user", "content": [part]})
    return out or [{"role": "user", "content": ""}]


def _assistant(where: str, blocks: Sequence[Body]) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for at, block in enumerate(blocks):
        here, kind = f"{where}[{at}]", block["type"]
        if kind == "thinking":
            thoughts.append(check_text(f"{here}.thinking", block.get("thinking")))
        elif kind == "tool_use":
            calls.append(_use(here, block))
        elif kind not in _SERVED_ELSEWHERE and not kind.endswith("_tool_result"):
            texts.append(_text(here, block))
    message: dict[str, Any] = {"role": "assistant", "content": "\n".join(texts)}
    if any(thoughts):
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _use(where: str, block: Body) -> dict[str, Any]:
    name = check_text(f"{where}.name", block.get("name"))
    given = block.get("input", {})
    if not isinstance(given, Mapping):
        wrong(f"{where}.input", given, "an object")
    function = {"name": name, "arguments": dict(given)}
    identity = check_text(f"{where}.id", block.get("id"))
    return {"id": identity, "type": "function", "function": function}


def _result(where: str, block: Body) -> dict[str, Any]:
    identity = check_text(f"{where}.tool_use_id", block.get("tool_use_id"))
    given = block.get("content")
    blocks = [] if given is None else _blocks(f"{where}.content", given)
    parts = [_part(f"{where}.content[{at}]", one) for at, one in enumerate(blocks)]
    text = "\n".join(one["text"] for one in parts if one["type"] == "text")
    if block.get("is_error") and not text.lower().startswith("error"):
        text = f"Error: {text}" if text else "Error"
    images = [one for one in parts if one["type"] != "text"]
    content: Any = [{"type": "text", "text": text}, *images] if images else text
    return {"role": "tool", "tool_call_id": identity, "content": content}


def _part(where: str, block: Body) -> dict[str, Any]:
    """A block as a part of OpenAI's content: a text or an image."""
    if block["type"] != "image":
        return {"type": "text", "text": _text(where, block)}
    source = block.get("source")
    kind = source.get("type") if isinstance(source, Mapping) else None
    if not isinstance(source, Mapping) or kind not in ("base64", "url"):
        wrong(f"{where}.source", source, "{'type': 'base64', 'media_type': …, 'data': …}")
    if kind == "url":
        url = data_url(f"{where}.source.url", source.get("url"))
    else:
        media_type = check_text(f"{where}.source.media_type", source.get("media_type", "image/*"))
        data = check_text(f"{where}.source.data", source.get("data"))
        url = f"data:{media_type};base64,{data}"
    return {"type": "image_url", "image_url": {"url": url}}


def _text(where: str, block: Body) -> str:
    """The text of a block; what has none is refused."""
    kind = block["type"]
    if kind == "text":
        return check_text(f"{where}.text", block.get("text"))
    source = block.get("source")
    if kind == "document" and isinstance(source, Mapping) and source.get("type") == "text":
        return _titled(block, check_text(f"{where}.source.data", source.get("data")))
    if kind == "search_result":
        parts = _blocks(f"{where}.content", block.get("content"))
        texts = [_text(f"{where}.content[{at}]", one) for at, one in enumerate(parts)]
        return _titled(block, "\n".join(texts))
    if kind == "tool_reference":
        return check_text(f"{where}.tool_name", block.get("tool_name"))
    raise UsageError(
        f"{where} is a block of type {shown(kind)}, which this server cannot read here"
    )


def _titled(block: Body, text: str) -> str:
    title = block.get("title")
    return f"{title}\n{text}" if isinstance(title, str) and title else text


# ---- tools, thinking, format ----


def _read_tools(body: Body, call: ChatCall) -> None:
    tools = body.get("tools")
    if tools is not None and (isinstance(tools, (str, Mapping)) or not isinstance(tools, Sequence)):
        wrong("tools", tools, "a list of {'name': …, 'input_schema': {…}}")
    listed = [one for at, tool in enumerate(tools or ()) for one in _tool(at, tool, call)]
    if not listed:
        if isinstance(body.get("tool_choice"), Mapping) and not tools:
            _check_choice(body["tool_choice"])
        return
    call.options["tools"] = listed
    choice = body.get("tool_choice")
    if choice is None:
        return
    call.options["tool_choice"] = _check_choice(choice)
    if choice.get("disable_parallel_tool_use"):
        call.options["parallel_tool_calls"] = False


def _tool(at: int, tool: Any, call: ChatCall) -> list[dict[str, Any]]:
    """A tool in OpenAI's shape; those that Anthropic's servers would run are left out."""
    where = f"tools[{at}]"
    if not isinstance(tool, Mapping):
        wrong(where, tool, "{'name': …, 'input_schema': {…}}")
    if tool.get("type", "custom") not in ("custom", None):
        call.ignored.append(f"{where} ({tool['type']})")
        return []
    schema = tool.get("input_schema")
    if not isinstance(schema, Mapping):
        wrong(f"{where}.input_schema", schema, "a JSON Schema, an object")
    name = check_text(f"{where}.name", tool.get("name"))
    function: dict[str, Any] = {"name": name, "parameters": dict(schema)}
    if tool.get("description") is not None:
        function["description"] = check_text(f"{where}.description", tool["description"])
    if tool.get("strict") is not None:
        function["strict"] = check_bool(f"{where}.strict", tool["strict"])
    return [{"type": "function", "function": function}]


def _check_choice(choice: Any) -> Any:
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    plain = {"auto": "auto", "any": "required", "none": "none"}
    if isinstance(choice, Mapping) and isinstance(kind, str) and kind in plain:
        return plain[kind]
    if isinstance(choice, Mapping) and kind == "tool":
        name = check_text("tool_choice.name", choice.get("name"))
        return {"type": "function", "function": {"name": name}}
    wrong("tool_choice", choice, "{'type': 'auto', 'any', 'none' or 'tool' with a 'name'}")


def _read_thinking(thinking: Any, call: ChatCall) -> None:
    """Whether the model thinks. How long it does is its own affair: a budget has no effect."""
    if thinking is None:
        return
    kind = thinking.get("type") if isinstance(thinking, Mapping) else None
    if kind not in ("enabled", "adaptive", "between_tools", "disabled"):
        wrong("thinking", thinking, "{'type': 'enabled', 'adaptive' or 'disabled'}")
    call.options["chat_template_kwargs"] = {"enable_thinking": kind != "disabled"}
    if kind == "enabled" and thinking.get("budget_tokens") is not None:
        check_int("thinking.budget_tokens", thinking["budget_tokens"], 1)
        call.ignored.append("thinking.budget_tokens")


def _read_format(body: Body, call: ChatCall) -> None:
    config = body.get("output_config") or {}
    if not isinstance(config, Mapping):
        wrong("output_config", config, "an object")
    if config.get("effort") is not None:
        call.ignored.append("output_config.effort")
    wanted = config.get("format") or body.get("output_format")
    if wanted is None:
        return
    if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema":
        wrong("output_config.format", wanted, "{'type': 'json_schema', 'schema': {…}}")
    schema = {"name": "output", "strict": True, "schema": wanted.get("schema")}
    call.options["response_format"] = {"type": "json_schema", "json_schema": schema}
