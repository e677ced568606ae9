"""Reads requests of OpenAI's Responses API into the arguments of `LLM.chat`.

Nothing is stored, so a request holds the whole conversation, and a request that names an earlier
one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..arguments import check_bool, check_int, check_text, shown, wrong
from ..errors import UsageError
from ..media.media_parts import has_media
from .parts import ChatCall, data_url

Body = Mapping[str, Any]

_READ = (
    "model", "input", "instructions", "max_output_tokens", "stream", "temperature", "top_p",
    "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning",
)  # fmt: skip
_SAMPLING = ("temperature", "top_p")
_VENDOR = (
    "draft", "top_k", "min_p", "seed", "stop", "regex", "grammar", "choice",
    "chat_template_kwargs", "cache_salt",
)  # fmt: skip
_WITHOUT_WORDS = ("include", "store", "metadata", "user", "prompt_cache_key", "safety_identifier")
_STATEFUL = ("previous_response_id", "conversation", "prompt")
_TEXTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text")
_MEDIA = ("input_image", "input_audio")
_HOSTED = (
    "web_search_call", "file_search_call", "computer_call", "computer_call_output",
    "image_generation_call", "code_interpreter_call", "mcp_list_tools", "mcp_approval_request",
    "mcp_approval_response", "mcp_call", "tool_search_call", "tool_search_output",
)  # fmt: skip


@dataclass
class ResponsesCall(ChatCall):
    """A `ChatCall` with the fields that a response repeats of its request."""

    echoed: dict[str, Any] = field(default_factory=dict)


def read_request(body: Body) -> ResponsesCall:
    """Reads a request of /v1/responses. Raises `UsageError` for what cannot be done."""
    for name in _STATEFUL:
        if body.get(name) is not None:
            sentence = f"{name} is {shown(body[name])}; this server stores nothing"
            raise UsageError(f"{sentence}: send the whole conversation as input")
    if body.get("background"):
        raise UsageError("background is True; this server answers while the request waits")
    call = ResponsesCall(check_text("model", body.get("model", "")), [])
    known = {*_READ, *_VENDOR, *_WITHOUT_WORDS, *_STATEFUL, "background"}
    call.ignored = [name for name in body if name not in known and body[name] is not None]
    call.stream = bool(body.get("stream")) and check_bool("stream", body["stream"])
    if body.get("max_output_tokens") is not None:
        call.max_tokens = check_int("max_output_tokens", body["max_output_tokens"], 1)
    call.messages = _conversation(body, call)
    for name in (*_SAMPLING, *_VENDOR):
        if body.get(name) is not None:
            call.options[name] = body[name]
    _read_tools(body, call)
    _read_reasoning(body.get("reasoning"), call)
    _read_text(body.get("text"), call)
    call.echoed = _echo(body, call)
    return call


# ---- the conversation ----


def _conversation(body: Body, call: ResponsesCall) -> list[dict[str, Any]]:
    given = body.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if isinstance(given, (bytes, Mapping)) or not isinstance(given, Sequence):
        wrong("input", given, "a string or a list of items")
    items = _Items(call)
    instructions = body.get("instructions")
    if instructions:
        items.system(check_text("instructions", instructions))
    for at, item in enumerate(given):
        items.add(f"input[{at}]", item)
    if not any(one["role"] != "system" for one in items.messages):
        raise UsageError("input is empty; it must have at least one message")
    return items.messages


class _Items:
    """Collects items into messages. Thinking, text and calls that follow one another are one
    message of the assistant; what the system says first is one message."""

    def __init__(self, call: ResponsesCall) -> None:
        self.messages: list[dict[str, Any]] = []
        self._call = call

    def system(self, text: str) -> None:
        if self.messages and self.messages[-1]["role"] == "system":
            self.messages[-1]["content"] += "\n\n" + text
        else:
            self.messages.append({"role": "system", "content": text})

    def add(self, where: str, item: Any) -> None:
        if not isinstance(item, Mapping):
            wrong(where, item, "an item, {'type': …}")
        kind = item.get("type", "message")
        if kind == "message":
            self._message(where, item)
        elif kind == "reasoning":
            self._reasoning(where, item)
        elif kind in ("function_call", "custom_tool_call"):
            self._function_call(where, item)
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self._output(where, item)
        elif kind in _HOSTED:
            self._call.ignored.append(f"{where} ({kind})")
        else:
            what = f"an item of type {shown(kind)}"
            raise UsageError(f"{where} is {what}, which this server cannot read")

    def _message(self, where: str, item: Body) -> None:
        role, content = item.get("role"), item.get("content")
        if role == "user":
            content = _content(f"{where}.content", content)
            self.messages.append({"role": "user", "content": content})
            return
        text = _text(f"{where}.content", content)
        if role in ("system", "developer"):
            self.system(text)
        elif role == "assistant":
            message = self._turn("tool_calls")
            before = message["content"]
            message["content"] = f"{before}\n{text}" if before else text
        else:
            wrong(f"{where}.role", role, "'user', 'assistant', 'system' or 'developer'")

    def _reasoning(self, where: str, item: Body) -> None:
        """Its content, or else the summary of it. What is encrypted was never ours."""
        texts = _text(f"{where}.content", item.get("content") or [])
        texts = texts or _text(f"{where}.summary", item.get("summary") or [])
        if texts:
            self._turn("tool_calls", "content")["reasoning_content"] = texts

    def _function_call(self, where: str, item: Body) -> None:
        key = "input" if item["type"] == "custom_tool_call" else "arguments"
        given = check_text(f"{where}.{key}", item.get(key))
        function: dict[str, Any] = {"name": check_text(f"{where}.name", item.get("name"))}
        function["arguments"] = given if key == "arguments" else {"input": given}
        identity = check_text(f"{where}.call_id", item.get("call_id"))
        call = {"id": identity, "type": "function", "function": function}
        self._turn().setdefault("tool_calls", []).append(call)

    def _output(self, where: str, item: Body) -> None:
        identity = check_text(f"{where}.call_id", item.get("call_id"))
        content = _content(f"{where}.output", item.get("output"))
        self.messages.append({"role": "tool", "tool_call_id": identity, "content": content})

    def _turn(self, *without: str) -> dict[str, Any]:
        """The assistant's message that goes on; a new one where that has any of those already."""
        last = self.messages[-1] if self.messages else {"role": ""}
        if last["role"] != "assistant" or any(last.get(key) for key in without):
            self.messages.append({"role": "assistant", "content": ""})
        return self.messages[-1]


def _content(where: str, content: Any) -> Any:
    """Texts as one string; with images or sounds among them the list of parts."""
    if not has_media(content):
        return _text(where, content)
    parts = []
    for at, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "input_image":
            data_url(f"{where}[{at}].image_url", part.get("image_url"))
        if kind in _MEDIA:
            parts.append(dict(part))
        else:
            parts.append({"type": "text", "text": _text(f"{where}[{at}]", [part])})
    return parts


def _text(where: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, (bytes, Mapping)) or not isinstance(content, Sequence):
        wrong(where, content, "a string or a list of parts")
    texts = []
    for at, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "refusal":
            texts.append(check_text(f"{where}[{at}].refusal", part.get("refusal")))
        elif kind in _TEXTS:
            texts.append(check_text(f"{where}[{at}].text", part.get("text")))
        else:
            what = f"a part of type {shown(kind)}" if kind else shown(part)
            raise UsageError(f"{where}[{at}] is {what}, which this server cannot read here")
    return "\n".join(texts)


# ---- tools, thinking, format ----


def _read_tools(body: Body, call: ResponsesCall) -> None:
    tools = body.get("tools")
    if tools is not None and (isinstance(tools, (str, Mapping)) or not isinstance(tools, Sequence)):
        wrong("tools", tools, "a list of {'type': 'function', 'name': …, 'parameters': {…}}")
    listed = _tools("tools", tools or (), call)
    choice = body.get("tool_choice")
    wanted = None if choice is None else _choice(choice, listed)
    if not listed:
        return
    call.options["tools"] = listed
    if wanted is not None:
        call.options["tool_choice"] = wanted
    if body.get("parallel_tool_calls") is False:
        call.options["parallel_tool_calls"] = False


def _tools(where: str, tools: Sequence[Any], call: ResponsesCall) -> list[dict[str, Any]]:
    return [one for at, tool in enumerate(tools) for one in _tool(f"{where}[{at}]", tool, call)]


def _tool(where: str, tool: Any, call: ResponsesCall) -> list[dict[str, Any]]:
    """A function in the chat's shape; tools that OpenAI's servers would run are left out."""
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if not isinstance(kind, str):
        wrong(where, tool, "{'type': 'function', 'name': …}")
    if kind == "namespace":
        inside = tool.get("tools")
        if not isinstance(inside, Sequence) or isinstance(inside, str):
            wrong(f"{where}.tools", inside, "a list of tools")
        return _tools(f"{where}.tools", inside, call)
    if kind != "function":
        call.ignored.append(f"{where} ({kind})")
        return []
    function: dict[str, Any] = {"name": check_text(f"{where}.name", tool.get("name"))}
    if tool.get("description") is not None:
        function["description"] = check_text(f"{where}.description", tool["description"])
    if tool.get("parameters") is not None:
        if not isinstance(tool["parameters"], Mapping):
            wrong(f"{where}.parameters", tool["parameters"], "a JSON Schema, an object")
        function["parameters"] = dict(tool["parameters"])
    if tool.get("strict") is not None:
        function["strict"] = check_bool(f"{where}.strict", tool["strict"])
    return [{"type": "function", "function": function}]


def _choice(choice: Any, listed: list[dict[str, Any]]) -> Any:
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return choice
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind == "function":
        name = check_text("tool_choice.name", choice.get("name"))
        return {"type": "function", "function": {"name": name}}
    if kind == "allowed_tools" and isinstance(choice.get("tools"), Sequence):
        names = [one.get("name") for one in choice["tools"] if isinstance(one, Mapping)]
        listed[:] = [one for one in listed if one["function"]["name"] in names]
        return "required" if choice.get("mode") == "required" else "auto"
    wrong("tool_choice", choice, "'auto', 'none', 'required' or {'type': 'function', 'name': …}")


def _read_reasoning(reasoning: Any, call: ResponsesCall) -> None:
    """An effort above "none" lets the model think; how long is its own affair."""
    if reasoning is None:
        return
    if not isinstance(reasoning, Mapping):
        wrong("reasoning", reasoning, "an object")
    effort = reasoning.get("effort")
    if effort is None:
        return
    check_text("reasoning.effort", effort)
    given = call.options.get("chat_template_kwargs") or {}
    if isinstance(given, Mapping):  # else whoever renders refuses it
        call.options["chat_template_kwargs"] = {"enable_thinking": effort != "none", **given}


def _read_text(text: Any, call: ResponsesCall) -> None:
    if text is None:
        return
    if not isinstance(text, Mapping):
        wrong("text", text, "an object")
    if text.get("verbosity") not in (None, "medium"):
        call.ignored.append("text.verbosity")
    form = text.get("format")
    if form is None or (isinstance(form, Mapping) and form.get("type") == "text"):
        return
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "json_object":
        call.options["response_format"] = {"type": "json_object"}
    elif kind == "json_schema":
        keys = ("name", "description", "strict", "schema")
        schema = {key: form[key] for key in keys if key in form}
        call.options["response_format"] = {"type": "json_schema", "json_schema": schema}
    else:
        wrong("text.format", form, "{'type': 'text', 'json_object' or 'json_schema'}")


def _echo(body: Body, call: ResponsesCall) -> dict[str, Any]:
    """Fields that every response has, with the request's values."""
    reasoning, text = body.get("reasoning") or {}, body.get("text") or {}
    listed = body.get("parallel_tool_calls")
    return {
        "model": call.model,
        "instructions": body.get("instructions"),
        "max_output_tokens": call.max_tokens,
        "metadata": body.get("metadata") or {},
        "parallel_tool_calls": True if listed is None else listed,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "store": False,
        "temperature": body.get("temperature"),
        "text": {"format": text.get("format") or {"type": "text"}},
        "tool_choice": "auto" if body.get("tool_choice") is None else body["tool_choice"],
        "tools": list(body.get("tools") or ()),
        "top_p": body.get("top_p"),
        "truncation": "disabled",
        "user": body.get("user"),
    }
