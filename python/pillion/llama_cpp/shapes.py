"""Results with the keys of llama-cpp-python, from those of `pillion.LLM`.

Beside them a chat's message may have `reasoning_content` and `malformed_tool_calls`, which
llama-cpp-python would leave as text in the content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..held import Held
from ..llm.streams import Stream

Result = dict[str, Any]
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


def _head(result: Result) -> Result:
    return {name: result[name] for name in ("id", "object", "created", "model")}


def text_result(
    result: Result, begin: int, is_chunk: bool = False, bos: str | None = None
) -> Result:
    """A completion, or a chunk of one. begin: characters before the text, for text_offset. bos: the
    token before an echoed prompt, which is not listed."""
    shaped = _head(result)
    shaped["choices"] = [
        {
            "text": one["text"],
            "index": one["index"],
            "logprobs": _text_logprobs(one["logprobs"], begin, bos),
            "finish_reason": one["finish_reason"],
        }
        for one in result["choices"]
    ]
    if not is_chunk:
        shaped["usage"] = _usage(result)
    return shaped


def _usage(result: Result) -> Result:
    return {name: result["usage"][name] for name in _USAGE}


def _text_logprobs(found: Result | None, begin: int, bos: str | None) -> Result | None:
    if found is None:
        return None
    if bos is not None and found["tokens"][:1] == [bos]:
        found = {name: values[1:] for name, values in found.items()}
        if found["tokens"]:  # the first token listed has none, as in OpenAI's API
            found["token_logprobs"][0] = found["top_logprobs"][0] = None
    tops = [
        None if value is None else {**(top or {}), token: value}  # the chosen one is always there
        for token, value, top in zip(
            found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
        )
    ]
    offsets = [at + begin for at in found["text_offset"]]
    return {
        "tokens": found["tokens"],
        "text_offset": offsets,
        "token_logprobs": found["token_logprobs"],
        "top_logprobs": tops,
    }


def chat_result(result: Result, calls_function: bool) -> Result:
    """A chat completion. calls_function: a function was named or given in the old way, whose call
    is in `function_call` too."""
    choice = result["choices"][0]
    message = dict(choice["message"])
    if calls_function and message.get("tool_calls"):
        message["function_call"] = dict(message["tool_calls"][0]["function"])
    shaped = {
        "index": choice["index"],
        "message": message,
        "logprobs": _chat_logprobs(choice["logprobs"]),
        "finish_reason": choice["finish_reason"],
    }
    return {**_head(result), "choices": [shaped], "usage": _usage(result)}


def chat_chunk(result: Result, calls_function: bool) -> Result:
    """A chunk of a chat completion."""
    choice = result["choices"][0]
    delta = dict(choice["delta"])
    if "role" in delta:
        delta.pop("content", None)
    if calls_function and delta.get("tool_calls"):
        delta["function_call"] = dict(delta["tool_calls"][0]["function"])
    shaped = {
        "index": choice["index"],
        "delta": delta,
        "logprobs": _chat_logprobs(choice["logprobs"]),
        "finish_reason": choice["finish_reason"],
    }
    return {**_head(result), "choices": [shaped]}


def _chat_logprobs(found: Result | None) -> Result | None:
    return None if found is None else {**found, "refusal": None}


class Shaped(Held, Iterator[Result]):
    """A stream of chunks, each in another shape. Dropping it ends the answer."""

    def __init__(self, stream: Stream, shape: Callable[[Result], Result]) -> None:
        self._stream = stream
        self._shape = shape

    def __next__(self) -> Result:
        return self._shape(next(self._stream))

    def close(self) -> None:
        """Ends the answer."""
        self._stream.close()
