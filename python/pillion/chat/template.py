"""`ChatTemplate`: a chat template, rendered in a sandbox as Hugging Face's libraries render it.

`abilities` renders small conversations to find what a template can do with roles, calls and tools.
Messages that it would put into a wrong form are adapted first (format.py).
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser

from ..arguments import check_bool, wrong
from ..calling import checked_class
from ..errors import UsageError
from ..media.markers import MARKER
from . import sandbox
from .media_marks import MediaMarks
from .messages import Message, plain_messages
from .sandbox import Sandbox

BOM = "\ufeff"


@dataclass(frozen=True)
class Abilities:
    """What a template can do with a conversation."""

    system: bool
    """The prompt has the text of a system message."""
    developer: bool
    """The template knows the role "developer"."""
    tools: bool
    """The prompt has the names of tools."""
    calls: bool
    """The prompt has the calls of an assistant message."""
    results: bool
    """The prompt has the texts of messages with the role "tool", and the template knows that
    role."""
    typed: bool
    """Content must be a list of parts."""
    json_arguments: bool
    """The arguments of calls must be JSON, not an object."""


@checked_class
class ChatTemplate:
    """A chat template, compiled once.

    The text comes from a file that a stranger may have made. So it runs in Jinja's immutable
    sandbox: it can build a string and nothing else. A byte order mark at its beginning is dropped.

    source: the template in Jinja.
    bos_token, eos_token: spelling of the tokens that texts begin and end with.
    special: more of the tokens that templates name ("unk_token"). Raises `UsageError` for source
    that is not valid Jinja.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str = "",
        eos_token: str = "",
        special: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(source, str):
            raise UsageError(
                f"the chat template is of type {type(source).__name__}; "
                "it must be a string of Jinja"
            )
        self.source = source[len(BOM) :] if source.startswith(BOM) else source
        """The template in Jinja."""
        self.bos_token = bos_token
        """Spelling of the token that texts begin with."""
        self.eos_token = eos_token
        """Spelling of the token that texts end with."""
        self._special = dict(special or {})
        try:
            self._template = _environment().compiled(self.source)
        except Exception as error:  # Jinja's compiler hands on what Python's says of its code
            raise UsageError(f"the chat template is not valid Jinja: {error}") from error

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """Returns the prompt of a conversation.

        messages: a list of {"role": …, "content": …}. An image or a sound becomes its marker.
        tools: OpenAI's list of functions.
        add_generation_prompt: ends with the beginning of the model's turn.
        variables: reach the template by name (`enable_thinking=True`).

        Raises `UsageError` with what the template says of messages that it refuses."""
        marks = MediaMarks()
        plain = plain_messages(messages, marks)
        return self._rendered(
            plain, marks, tools, {**variables, "add_generation_prompt": add_generation_prompt}
        )

    def _rendered(
        self,
        plain: list[dict[str, Any]],
        marks: MediaMarks,
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
    ) -> str:
        """`render` for messages of `plain_messages`, which put the media into `marks`."""
        if marks.parts:
            plain = [marks.with_parts(one, self.media) for one in plain]
        if self.abilities.typed:
            plain = _typed(plain)
        if self.abilities.json_arguments:
            plain = _with_json_arguments(plain)
        check_bool("add_generation_prompt", variables["add_generation_prompt"])
        if tools is not None and (
            isinstance(tools, (str, bytes)) or not isinstance(tools, Sequence)
        ):
            wrong("tools", tools, "a list of tools")
        return marks.written(self._render(plain, tools, variables))

    def _render(
        self, messages: list[dict[str, Any]], tools: Any, variables: Mapping[str, Any]
    ) -> str:
        given: dict[str, Any] = {
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
            "documents": None,
        }
        given |= {
            **self._special,
            **variables,
            "messages": messages,
            "tools": list(tools) if tools else None,
        }
        sandbox.begin(messages, tools, dict(variables))
        try:
            return self._template.render(given)
        except UsageError:
            raise  # from raise_exception()
        except Exception as error:  # whatever the template's own expressions run into
            raise UsageError(f"the chat template failed on these messages: {error}") from error

    @functools.cached_property
    def abilities(self) -> Abilities:
        """Found by trying. A conversation that the template refuses counts as one that it does not
        know."""
        ask: list[dict[str, Any]] = [{"role": "user", "content": "probeask"}]
        typed = False
        if "probeask" not in self._try(ask) and "probeask" in self._try(_typed(ask)):
            typed = True

        def tried(messages: list[dict[str, Any]], **options: Any) -> str:
            return self._try(_typed(messages) if typed else messages, **options)

        function = {"name": "probename", "arguments": {"probekey": "probevalue"}}
        call = {"id": "probe1234", "type": "function", "function": function}
        called = [*ask, {"role": "assistant", "content": "", "tool_calls": [call]}]
        result = {"content": "proberesult", "tool_call_id": "probe1234", "name": "probename"}
        json_arguments = False
        if "probevalue" not in tried(called) and "probevalue" in tried(
            _with_json_arguments(called)
        ):
            called, json_arguments = _with_json_arguments(called), True
        answered = tried([*called, {"role": "tool", **result}])
        blind = tried([*called, {"role": "proberole", **result}]).replace("proberole", "tool")
        parameters = {"type": "object", "properties": {}}
        tool = {"name": "probetool", "description": "probe", "parameters": parameters}
        return Abilities(
            system="probesystem" in tried([{"role": "system", "content": "probesystem"}, *ask]),
            developer="developer" in self.source,
            tools="probetool" in tried(ask, tools=[{"type": "function", "function": tool}]),
            calls="probename" in tried(called) and "probevalue" in tried(called),
            results="proberesult" in answered and blind != answered,
            typed=typed,
            json_arguments=json_arguments,
        )

    @functools.cached_property
    def media(self) -> frozenset[str]:
        """The kinds of media that it takes as parts of a content: "image", "audio"."""

        def shows(kind: str) -> bool:
            parts = [{"type": kind}, {"type": "text", "text": "probeask"}]
            found = self._try([{"role": "user", "content": parts}])
            return found.count(MARKER[kind]) == 1 and "probeask" in found

        return frozenset(filter(shows, MARKER))

    def _try(self, messages: list[dict[str, Any]], tools: Any = None) -> str:
        try:
            return self._render(messages, tools, {"add_generation_prompt": True})
        except sandbox.TooMuch:
            raise
        except UsageError:
            return ""


def _typed(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message["content"], str)
        else message
        for message in messages
    ]


def _with_json_arguments(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def call(one: dict[str, Any]) -> dict[str, Any]:
        arguments = json.dumps(one["function"]["arguments"], ensure_ascii=False)
        return {**one, "function": {**one["function"], "arguments": arguments}}

    return [
        {**message, "tool_calls": [call(one) for one in message["tool_calls"]]}
        if "tool_calls" in message
        else message
        for message in messages
    ]


def _environment() -> Sandbox:
    environment = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.filters["from_json"] = json.loads
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's words for training. Here it is
    replaced by its content."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as templates expect it. Jinja's own filter would escape <, > and & for HTML."""
    sandbox.check_width(indent)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(sentence: str) -> str:
    raise UsageError(f"the chat template refuses these messages: {sentence}")
