"""Chat formats: what turns messages into a prompt, and what answers in the place of pillion.

`Llama` uses the template of its file, as pillion renders it. `chat_format` names another one: those
of `formats.FORMATS`, and what is registered here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ..arguments import check_text, wrong
from ..chat.template import ChatTemplate
from ..errors import MediaError, NoSuchName, UsageError
from ..media.media_parts import has_media
from .formats import FORMATS, Format
from .llama_grammar import LlamaGrammar
from .media_handlers import Gemma4ChatHandler, Llava15ChatHandler, MTMDChatHandler
from .processors import StoppingCriteriaList

if TYPE_CHECKING:
    from .llama import Llama

Result = dict[str, Any]
LlamaChatCompletionHandler = Callable[..., Any]
"""(llama=…, messages=…, and all arguments of create_chat_completion) -> what it returns."""

_OF_FILE = "chat_template."


class LlamaChatCompletionHandlerNotFoundException(UsageError):
    """There is no such chat format."""


@dataclasses.dataclass
class ChatFormatterResponse:
    """A prompt, and what ends its answer. added_special: the prompt has its first token."""

    prompt: str
    stop: str | list[str] | None = None
    stopping_criteria: StoppingCriteriaList | None = None
    added_special: bool = False


class ChatFormatter(Protocol):
    """Turns messages into a prompt."""

    def __call__(
        self, *, messages: Sequence[Mapping[str, Any]], **kwargs: Any
    ) -> ChatFormatterResponse: ...


class LlamaChatCompletionHandlerRegistry:
    """The chat formats by name; there is one registry."""

    _only: LlamaChatCompletionHandlerRegistry | None = None
    _chat_handlers: dict[str, LlamaChatCompletionHandler]

    def __new__(cls) -> LlamaChatCompletionHandlerRegistry:
        if cls._only is None:
            cls._only = super().__new__(cls)
            cls._only._chat_handlers = {}
        return cls._only

    def register_chat_completion_handler(
        self, name: str, chat_handler: LlamaChatCompletionHandler, overwrite: bool = False
    ) -> None:
        """Adds a handler. Raises `UsageError` for a name that is taken."""
        if name in self._chat_handlers and not overwrite:
            raise UsageError(f"chat format {name!r} is registered already")
        self._chat_handlers[name] = chat_handler

    def unregister_chat_handler(self, name: str) -> None:
        """Removes a handler. Raises `UsageError` for a name that is not there."""
        if self._chat_handlers.pop(name, None) is None:
            raise UsageError(f"chat format {name!r} is not registered")

    def get_chat_completion_handler_by_name(self, name: str) -> LlamaChatCompletionHandler:
        """The handler of a name."""
        try:
            return self._chat_handlers[name]
        except KeyError:
            known = ", ".join(sorted(self._chat_handlers))
            raise LlamaChatCompletionHandlerNotFoundException(
                f"chat_format is {name!r}; it must be one of {known}, or left out: the file's own "
                "template is used then"
            ) from None


def get_chat_completion_handler(name: str) -> LlamaChatCompletionHandler:
    """The handler of a chat format."""
    return LlamaChatCompletionHandlerRegistry().get_chat_completion_handler_by_name(name)


def register_chat_completion_handler(
    name: str,
) -> Callable[[LlamaChatCompletionHandler], LlamaChatCompletionHandler]:
    """Decorates a handler: `Llama(chat_format=name)` then calls it."""

    def decorate(handler: LlamaChatCompletionHandler) -> LlamaChatCompletionHandler:
        LlamaChatCompletionHandlerRegistry().register_chat_completion_handler(name, handler)
        return handler

    return decorate


def register_chat_format(name: str) -> Callable[[ChatFormatter], ChatFormatter]:
    """Decorates a formatter: `Llama(chat_format=name)` then completes its prompts."""

    def decorate(formatter: ChatFormatter) -> ChatFormatter:
        handler = chat_formatter_to_chat_completion_handler(formatter)
        LlamaChatCompletionHandlerRegistry().register_chat_completion_handler(name, handler)
        return formatter

    return decorate


class Jinja2ChatFormatter:
    """A formatter made of a Jinja template, which runs in a sandbox."""

    def __init__(
        self,
        template: str,
        eos_token: str,
        bos_token: str,
        add_generation_prompt: bool = True,
        stop_token_ids: list[int] | None = None,
    ) -> None:
        self.template = template
        self.eos_token = eos_token
        self.bos_token = bos_token
        self.add_generation_prompt = add_generation_prompt
        self.stop_token_ids = None if stop_token_ids is None else set(stop_token_ids)
        self._compiled = ChatTemplate(template, bos_token=bos_token, eos_token=eos_token)

    def __call__(
        self,
        *,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> ChatFormatterResponse:
        prompt = self._compiled.render(
            messages, tools=tools, add_generation_prompt=self.add_generation_prompt, **kwargs
        )
        ends = self.stop_token_ids
        criteria = None
        if ends is not None:
            criteria = StoppingCriteriaList([lambda ids, _: int(ids[-1]) in ends])
        stop = [self.eos_token] if self.eos_token else None
        return ChatFormatterResponse(prompt, stop, criteria, added_special=True)

    def to_chat_handler(self) -> LlamaChatCompletionHandler:
        """A handler that completes its prompts."""
        return chat_formatter_to_chat_completion_handler(self)


def chat_formatter_to_chat_completion_handler(
    chat_formatter: ChatFormatter,
) -> LlamaChatCompletionHandler:
    """A handler that completes a formatter's prompts. A tool that tool_choice names is called by a
    text that follows its parameters; other tools only reach the formatter."""

    def handler(
        *,
        llama: Llama,
        messages: Sequence[Mapping[str, Any]],
        functions: Any = None,
        function_call: Any = None,
        tools: Any = None,
        tool_choice: Any = None,
        response_format: Any = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        stop: Any = None,
        stream: bool = False,
        grammar: Any = None,
        **options: Any,
    ) -> Any:
        from .llama_calls import _tools

        if has_media(messages):  # its prompt is a text, which would lose them
            raise MediaError(
                "the messages have images or sounds, which only the file's own template shows: "
                "leave chat_format out, or use MTMDChatHandler"
            )
        found = chat_formatter(
            messages=messages,
            functions=functions,
            function_call=function_call,
            tools=tools,
            tool_choice=tool_choice,
        )
        tools, tool_choice = _tools(functions, function_call, tools, tool_choice)
        named = _named(tools, tool_choice)
        if named is not None:
            schema = named["function"].get("parameters") or {"type": "object"}
            grammar, response_format = LlamaGrammar.from_json_schema(json.dumps(schema)), None
        if response_format is not None:
            options["response_format"] = response_format
        ids = llama.tokenize(
            found.prompt.encode("utf-8"), add_bos=not found.added_special, special=True
        )
        completion = llama.create_completion(
            prompt=ids,
            stop=[*_listed(stop), *_listed(found.stop)],
            stopping_criteria=found.stopping_criteria,
            logprobs=(top_logprobs or 0) if logprobs else None,
            stream=stream,
            grammar=grammar,
            **options,
        )
        name = None if named is None else named["function"]["name"]
        if stream:
            return _chat_chunks(completion, name)  # type: ignore[arg-type]
        return _chat(completion, name)  # type: ignore[arg-type]

    return handler


def _listed(stop: Any) -> list[str]:
    return [stop] if isinstance(stop, str) else list(stop or ())


def _named(tools: Any, choice: Any) -> Any:
    """The tool that tool_choice names; None: it names none."""
    if not isinstance(choice, Mapping):
        return None
    name = (choice.get("function") or {}).get("name")
    found = next((one for one in tools or () if one["function"]["name"] == name), None)
    if found is None:
        raise UsageError(f"tool_choice names {name!r}, which is not among the tools")
    return found


def _head(completion: Result, kind: str) -> Result:
    names = {"id": "chat" + completion["id"], "object": kind}
    return {**names, "created": completion["created"], "model": completion["model"]}


def _chat(completion: Result, tool: str | None) -> Result:
    """A text completion as a chat completion."""
    choice = completion["choices"][0]
    message: Result = {"role": "assistant", "content": choice["text"]}
    reason = choice["finish_reason"]
    if tool is not None:
        message = {"role": "assistant", "content": None, **_call(completion, choice["text"], tool)}
        reason = "tool_calls"
    logprobs = _chat_logprobs(choice["logprobs"])
    shaped = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": reason}
    return {
        **_head(completion, "chat.completion"),
        "choices": [shaped],
        "usage": completion["usage"],
    }


def _call(completion: Result, text: str, tool: str) -> Result:
    function = {"name": tool, "arguments": text}
    call = {"id": f"call__0_{tool}_{completion['id']}", "type": "function", "function": function}
    return {"function_call": function, "tool_calls": [call]}


def _chat_chunks(chunks: Iterator[Result], tool: str | None) -> Iterator[Result]:
    """Chunks of a text completion as those of a chat."""
    is_first = True
    for chunk in chunks:
        choice = chunk["choices"][0]
        deltas: list[Result] = [{"role": "assistant"}] if is_first else []
        is_first = False
        reason = choice["finish_reason"]
        if reason is not None:
            deltas.append({})
        elif tool is None:
            deltas.append({"content": choice["text"]})
        else:
            called = _call(chunk, choice["text"], tool)
            called["tool_calls"][0]["index"] = 0
            deltas.append(called)
        for at, delta in enumerate(deltas):
            is_last = at + 1 == len(deltas)
            shaped = {
                "index": 0,
                "delta": delta,
                "logprobs": _chat_logprobs(choice["logprobs"]) if is_last else None,
                "finish_reason": _reason(reason, tool) if is_last else None,
            }
            yield {**_head(chunk, "chat.completion.chunk"), "choices": [shaped]}


def _reason(reason: str | None, tool: str | None) -> str | None:
    return reason if reason is None or tool is None else "tool_calls"


def _chat_logprobs(found: Result | None) -> Result | None:
    """A completion's log-probabilities as a chat's."""
    if found is None:
        return None
    content = []
    for token, value, top in zip(
        found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
    ):
        tops = [{"token": one, "logprob": it, "bytes": None} for one, it in (top or {}).items()]
        content.append({"token": token, "logprob": value, "bytes": None, "top_logprobs": tops})
    return {"content": content, "refusal": None}


def handler_of(chat_format: Any, chat_handler: Any) -> tuple[Any, str | None]:
    """Who answers chats in pillion's place (None: pillion), and the name of the file's template
    that is used in place of its default (None: the default)."""
    if isinstance(chat_handler, MTMDChatHandler):
        return None, None  # it names a file for pillion
    if chat_handler is not None:
        if not callable(chat_handler):
            wrong("chat_handler", chat_handler, "something that can be called, or None")
        return chat_handler, None
    if chat_format is None:
        return None, None
    if check_text("chat_format", chat_format).startswith(_OF_FILE):
        name = chat_format[len(_OF_FILE) :]
        return None, None if name == "default" else name
    return get_chat_completion_handler(chat_format), None


def guess_chat_format_from_gguf_metadata(metadata: Mapping[str, str]) -> str | None:
    """None: pillion renders the file's template itself."""
    return None


def _register(name: str, written: Format) -> None:
    def formatter(*, messages: Sequence[Mapping[str, Any]], **kwargs: Any) -> ChatFormatterResponse:
        return ChatFormatterResponse(written.written(messages), written.stop)

    register_chat_format(name)(formatter)


for _name, _format in FORMATS.items():
    _register(_name, _format)


# ---- what is not here ----


def _no(name: str) -> NoReturn:
    if name.startswith("hf_"):
        why = "chat_template=… takes the template of a tokenizer_config.json"
    else:
        why = "images and sounds are read for Gemma 4, with MTMDChatHandler or Llama(mmproj=…)"
    raise NoSuchName(f"pillion.llama_cpp has no {name}: {why}")


def _absent(name: str) -> type:
    """A class that can be imported, and not made."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        _no(name)

    members = {"__init__": refuse, "from_pretrained": classmethod(refuse), "__doc__": "Not here."}
    return type(name, (), members)


VISION = (
    "Llama3VisionAlphaChatHandler",
    "Llava16ChatHandler",
    "MiniCPMv26ChatHandler",
    "MoondreamChatHandler",
    "NanoLlavaChatHandler",
    "ObsidianChatHandler",
    "Qwen25VLChatHandler",
)
_HF = (
    "hf_autotokenizer_to_chat_completion_handler",
    "hf_autotokenizer_to_chat_formatter",
    "hf_tokenizer_config_to_chat_completion_handler",
    "hf_tokenizer_config_to_chat_formatter",
)


def __getattr__(name: str) -> Any:
    if name in VISION or name in _HF:
        return _absent(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ChatFormatter",
    "ChatFormatterResponse",
    "Gemma4ChatHandler",
    "Jinja2ChatFormatter",
    "LlamaChatCompletionHandler",
    "LlamaChatCompletionHandlerNotFoundException",
    "LlamaChatCompletionHandlerRegistry",
    "Llava15ChatHandler",
    "MTMDChatHandler",
    "chat_formatter_to_chat_completion_handler",
    "get_chat_completion_handler",
    "guess_chat_format_from_gguf_metadata",
    "register_chat_completion_handler",
    "register_chat_format",
]
