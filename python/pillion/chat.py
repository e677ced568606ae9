"""`ChatTemplate`: the Jinja template a model file carries, rendered as Hugging Face's libraries render it, in a sandbox."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from .errors import UsageError

Message = Mapping[str, Any]


class ChatTemplate:
    """A chat template, compiled once.

    The text comes out of a file that a stranger may have made, so it runs in Jinja's immutable sandbox: it can build a string
    and nothing else.
    """

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "") -> None:
        self.source = source
        self.bos_token = bos_token
        self.eos_token = eos_token
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise UsageError(f"the chat template is not valid Jinja: {error}") from error

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Optional[Sequence[Mapping[str, Any]]] = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt for a conversation. `variables` reach the template by name (`enable_thinking=True`)."""
        if isinstance(messages, (str, bytes)) or not messages:
            raise UsageError("messages must be a list with at least one {'role': …, 'content': …}")
        plain = [_plain(index, message) for index, message in enumerate(messages)]
        try:
            return self._template.render(
                messages=plain,
                tools=list(tools) if tools else None,
                add_generation_prompt=add_generation_prompt,
                bos_token=self.bos_token,
                eos_token=self.eos_token,
                **variables,
            )
        except UsageError:
            raise  # from raise_exception()
        except Exception as error:  # whatever the template's own expressions run into
            raise UsageError(f"the chat template failed on these messages: {error}") from error


def _plain(index: int, message: Message) -> dict[str, Any]:
    """A message with content as one string: OpenAI's list of text parts is joined, anything but text is refused.

    What is None is left out, as if it had not been said: templates would print "None".
    """
    if not isinstance(message, Mapping) or "role" not in message:
        raise UsageError(f"message {index} must be a mapping with a 'role'")
    result = {key: value for key, value in message.items() if value is not None}
    content = result.setdefault("content", "")
    if isinstance(content, (list, tuple)):
        texts = []
        for part in content:
            if not isinstance(part, Mapping) or part.get("type") != "text":
                kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
                raise UsageError(f"message {index} has a part of type {kind!r}; only text is supported")
            texts.append(str(part.get("text", "")))
        result["content"] = "\n".join(texts)
    if "tool_calls" in result:
        calls = result["tool_calls"]
        if not isinstance(calls, (list, tuple)):
            raise UsageError(f"message {index} has tool_calls of type {type(calls).__name__}; they must be a list")
        result["tool_calls"] = [_plain_call(f"call {n} of message {index}", call) for n, call in enumerate(calls)]
    return result


def _plain_call(where: str, call: Any) -> dict[str, Any]:
    """A tool call with its arguments as a dict, which is what templates are written for; OpenAI's API has them as JSON."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UsageError(f"{where} must be {{'type': 'function', 'function': {{'name': …, 'arguments': …}}}}")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where} ({function['name']}) has arguments that are not valid JSON: {error}") from error
    if not isinstance(arguments, Mapping):
        raise UsageError(f"{where} ({function['name']}) has arguments of type {type(arguments).__name__}; they must be an object")
    return {**call, "function": {**function, "arguments": dict(arguments)}}


def _environment() -> jinja2.Environment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's words for training; here it is just its content."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: Optional[int] = None,
    separators: Optional[tuple[str, str]] = None,
    sort_keys: bool = False,
) -> str:
    """JSON as templates expect it: Jinja's own filter would escape <, > and & for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(sentence: str) -> str:
    raise UsageError(f"the chat template refuses these messages: {sentence}")
