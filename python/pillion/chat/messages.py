"""Checks the messages of a chat and puts them into the form that templates are written for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import check_bool, shown
from ..errors import UsageError
from .media_marks import MediaMarks

Message = Mapping[str, Any]

_DEPTH = 64  # objects and arrays inside one another, as in the calls of a reply (tool_calls.py)


def plain_messages(messages: Any, marks: MediaMarks | None = None) -> list[dict[str, Any]]:
    """Returns checked copies: content as one string, calls with their arguments as dicts, results
    with the name of their tool. Raises `UsageError` for a wrong shape.

    marks: takes the images and sounds, which are words in the strings then; None: they are
    refused."""
    if (
        isinstance(messages, (str, bytes, Mapping))
        or not isinstance(messages, Sequence)
        or not len(messages)
    ):
        what = "empty" if isinstance(messages, Sequence) and not len(messages) else shown(messages)
        raise UsageError(
            f"messages is {what}; it must be a list with at least one {{'role': …, 'content': …}}"
        )
    plain = [_plain(index, message, marks) for index, message in enumerate(messages)]
    names: dict[str | int | None, str] = {}
    for message in plain:
        for call in message.get("tool_calls") or ():
            names[call.get("id")] = call["function"]["name"]
        if message["role"] == "tool" and "name" not in message:
            name = names.get(message.get("tool_call_id"))
            if name is not None:
                message["name"] = name
    return plain


def _plain(index: int, message: Any, marks: MediaMarks | None) -> dict[str, Any]:
    """Leaves out fields that are None: templates would print "None"."""
    if (
        not isinstance(message, Mapping)
        or not isinstance(message.get("role"), str)
        or not message["role"]
    ):
        raise UsageError(
            f"message {index} is {shown(message)}; it must be a mapping with a 'role', a string"
        )
    result = {str(key): value for key, value in message.items() if value is not None}
    content = result.get("content", "")
    result["content"] = _text(f"message {index}", message["role"], content, marks)
    _check_id(f"message {index}", "tool_call_id", result)
    for key in ("reasoning_content", "reasoning"):
        if key in result and not isinstance(result[key], str):
            raise UsageError(
                f"message {index} has {key} of type "
                f"{type(result[key]).__name__}; it must be a string"
            )
    if "tool_calls" in result:
        calls = result["tool_calls"]
        if not isinstance(calls, (list, tuple)):
            raise UsageError(
                f"message {index} has tool_calls of type "
                f"{type(calls).__name__}; they must be a list"
            )
        result["tool_calls"] = [
            _plain_call(f"call {n} of message {index}", call) for n, call in enumerate(calls)
        ]
    return result


def _text(where: str, role: str, content: Any, marks: MediaMarks | None) -> str:
    """Content as one string. Joins OpenAI's list of parts: texts that follow one another by a line
    break. Refuses what is neither text nor a medium."""
    if isinstance(content, str):
        return content
    if (
        isinstance(content, Mapping) and role == "tool"
    ):  # an answer that was not written as JSON yet
        return json.dumps(_jsonable(f"{where} has content", content), ensure_ascii=False)
    if not isinstance(content, (list, tuple)):
        raise UsageError(
            f"{where} has content of type {type(content).__name__}; "
            "it must be a string or a list of parts"
        )
    text, follows_text = "", False
    for part in content:
        mark = marks.mark(where, part) if marks and isinstance(part, Mapping) else None
        if mark is not None:
            text, follows_text = text + mark, False
        else:
            text += ("\n" if follows_text else "") + _text_of(where, part)
            follows_text = True
    return text


def prompt_text(parts: Sequence[Any], marks: MediaMarks) -> str:
    """A prompt of strings and parts as one text, in which media are words of `marks`."""
    listed = [{"type": "text", "text": one} if isinstance(one, str) else one for one in parts]
    return _text("the prompt", "user", listed, marks)


def _text_of(where: str, part: Any) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if not isinstance(part, Mapping) or kind not in ("text", "input_text", "output_text"):
        raise UsageError(
            f"{where} has a part of type {kind!r}; texts, images and sounds are supported"
        )
    text = part.get("text", "")
    if not isinstance(text, str):
        raise UsageError(f"{where} has a text of type {type(text).__name__}; it must be a string")
    return text


def _plain_call(where: str, call: Any) -> dict[str, Any]:
    """A tool call with its arguments as a dict, as templates expect it. OpenAI's API has them as
    JSON."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UsageError(
            f"{where} must be {{'type': 'function', 'function': {{'name': …, 'arguments': …}}}}"
        )
    _check_id(where, "id", call)
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{where} ({function['name']}) has arguments that are not valid JSON: {error}"
            ) from error
    if not isinstance(arguments, Mapping):
        raise UsageError(
            f"{where} ({function['name']}) has arguments of type {type(arguments).__name__}; "
            "they must be an object"
        )
    arguments = _jsonable(f"{where} ({function['name']}) has arguments", arguments)
    return {**call, "function": {**function, "arguments": arguments}}


def _check_id(where: str, key: str, of: Mapping[str, Any]) -> None:
    if not isinstance(of.get(key, ""), (str, int, type(None))):
        raise UsageError(f"{where} has {key} {shown(of[key])}; it must be a string")


def _jsonable(what: str, value: Any, depth: int = 0) -> Any:
    """A copy of what JSON can express; any other value becomes its text. A value that holds itself
    counts as too deep."""
    if depth > _DEPTH:
        raise UsageError(f"{what} of more than {_DEPTH} objects and lists inside one another")
    if isinstance(value, Mapping):
        return {str(key): _jsonable(what, one, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(what, one, depth + 1) for one in value]
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


def without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For templates without a system role: the system's text goes before the next user's, as in
    Gemma 3's own template."""
    out: list[dict[str, Any]] = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(message["content"])
        elif message["role"] == "user" and waiting:
            out.append({**message, "content": "\n\n".join([*waiting, message["content"]])})
            waiting = []
        else:
            out.append(message)
    return [*out, {"role": "user", "content": "\n\n".join(waiting)}] if waiting else out


def continues_message(messages: Any, wanted: bool | None, variables: Mapping[str, Any]) -> bool:
    """True if a reply continues the last message: an assistant's with a text and without calls.

    wanted: what the caller said; None: nothing, and then add_generation_prompt among the template's
    variables says that it does not. Raises `UsageError` for True with another message.
    """
    if wanted is not None:
        check_bool("continue_final_message", wanted)
    elif "add_generation_prompt" in variables:
        return False
    last = messages[-1] if isinstance(messages, Sequence) and len(messages) else None
    is_begun = (
        isinstance(last, Mapping)
        and last.get("role") == "assistant"
        and not last.get("tool_calls")
        and bool(last.get("content"))
    )
    if wanted and not is_begun:
        raise UsageError(
            "continue_final_message is True, but the last message is no assistant's with a text"
        )
    return is_begun if wanted is None else bool(wanted)
