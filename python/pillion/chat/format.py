"""`ChatFormat`: how a model's conversations are written: its templates, their limits, its markers.

A template that does not know a role would print it in a form that the model never saw. Instead:

* "developer" becomes "system" if the template does not name it.
* A system message goes to the next user's if the template refuses or forgets it.
* If the model has Gemma 4's markers, calls and tool results that the template does not know (the
  first templates did not know the role "tool") are written as the model was trained: the whole
  exchange in one turn of the model,
  <|tool_call>call:NAME{…}<tool_call|><|tool_response>response:NAME{value:…}<tool_response|>.
* Anything else that the template drops or does not know is logged once.

What users and tools write stays text, whatever it spells (quoting.py).
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import check_text
from ..errors import UsageError
from ..file_settings import metadata_text
from ..media.markers import SPELLED
from ..model import Metadata
from ..tokenizer import Tokenizer
from .media_marks import MediaMarks
from .messages import plain_messages, without_system
from .quoting import Prompt, Quoter
from .replies import (
    CALL,
    CALL_END,
    CHANNEL,
    MARKERS,
    QUOTE,
    RESPONSE,
    THINKING,
    THINKING_END,
    TURNS,
    ReplyParser,
)
from .template import ChatTemplate
from .tools import Tool, checked_tools, for_gemma4

_log = logging.getLogger("pillion")

TEMPLATE = "tokenizer.chat_template"
_TOOL_USE = "tool_use"


def named_templates(metadata: Metadata) -> dict[str, str]:
    """The templates of a file: "default" and those with a name of their own.

    Raises ModelFileError for a template that is not a string.
    """
    found = {}
    for key in metadata:
        if key == TEMPLATE or key.startswith(f"{TEMPLATE}."):
            source = metadata_text(metadata, key)
            if source:
                found[key[len(TEMPLATE) + 1 :] or "default"] = source
    return found


class ChatFormat:
    """Writes conversations for one model.

    model: its name, for sentences. source: Jinja source in place of the file's templates, or the
    name of one of them.
    """

    def __init__(
        self, tokenizer: Tokenizer, metadata: Metadata, model: str, source: str | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._metadata = metadata
        self._model = model
        self._source = (
            None
            if source is None
            else check_text("chat_template", source, "a string of Jinja, or a template's name")
        )
        self._named: dict[str, str] | None = None
        self._compiled: dict[str, ChatTemplate] = {}
        self._tokens: dict[int, str] | None = None
        self._told: set[str] = set()

    # ---- templates ----

    def template(self, tools: bool = False) -> ChatTemplate:
        """The template for a conversation with or without tools."""
        source = self._text(tools)
        if source not in self._compiled:
            names = ("bos", "eos", "unk", "pad")
            special = {
                f"{name}_token": spelling(self._tokenizer, getattr(self._tokenizer, name))
                for name in names
            }
            bos, eos = special.pop("bos_token"), special.pop("eos_token")
            self._compiled[source] = ChatTemplate(
                source, bos_token=bos, eos_token=eos, special=special
            )
        return self._compiled[source]

    def _text(self, tools: bool) -> str:
        if self._source is not None and not re.fullmatch(r"[\w.-]+", self._source):
            return self._source
        if self._named is None:
            self._named = named_templates(self._metadata)
        found = self._named
        if self._source is not None:
            if self._source in found:
                return found[self._source]
            if found:
                raise UsageError(
                    f"chat_template is {self._source!r}; the file's templates are "
                    f"{', '.join(map(repr, found))}"
                )
            return self._source  # Jinja may be a single word
        if not found:
            raise UsageError(
                f"{self._model} has no chat template: use complete(), "
                "or give LLM(…, chat_template=…) the template of its makers"
            )
        order = (_TOOL_USE, "default") if tools else ("default",)
        return next((found[name] for name in order if name in found), next(iter(found.values())))

    # ---- prompts ----

    def render(
        self,
        messages: Any,
        tools: Any = None,
        continues: bool = False,
        marks: MediaMarks | None = None,
        /,
        **variables: Any,
    ) -> Prompt:
        """Returns the prompt of a conversation, its messages adapted to what the template can do.

        continues: the prompt ends with the text of the last message, for the reply to go on there.
        marks: takes the conversation's images and sounds, each of which is a marker in the prompt.
        """
        marks = MediaMarks() if marks is None else marks
        listed = checked_tools(tools)
        template = self.template(bool(listed))
        tokens = self.marker_tokens
        spelled = [one for one in MARKERS if one not in tokens.values() and self.knows(one)]
        quoter = Quoter(self._tokenizer, tokens, spelled)
        plain = plain_messages(messages, marks)
        plain = self._adapted([_quoted(one, quoter) for one in plain], template)
        if listed and not template.abilities.tools:
            self._tell("the chat template does not show tools: the model is not told about them")
        for name, value in variables.items():
            if value and name not in template.source and name != "add_generation_prompt":
                self._tell(f"the chat template does not use {name}")
        given: Sequence[Tool] = for_gemma4(listed) if self.knows(CALL) else listed
        given = quoter.cut_all(given)
        begun = _Placeholder(plain[-1]["content"]) if continues else None
        if begun is not None:
            plain[-1] = {**plain[-1], "content": begun.mark}
            variables["add_generation_prompt"] = False
        variables = {"add_generation_prompt": True, **variables}
        if not self._needs_native(plain, template):
            rendered = template._rendered(plain, marks, given, variables)
        else:
            exchange = _Exchanges(plain)
            rendered = template._rendered(exchange.messages, marks, given, variables)
            rendered = exchange.written(rendered)
        if begun is not None:
            rendered = begun.around(rendered, _DROPS_THE_LAST)[0] + begun.text
        return quoter.prompt(marks.written(rendered))

    def _adapted(
        self, messages: list[dict[str, Any]], template: ChatTemplate
    ) -> list[dict[str, Any]]:
        can = template.abilities
        messages = [  # templates that know the role look for it at the beginning
            {**one, "role": "system"}
            if one["role"] == "developer" and (at or not can.developer)
            else one
            for at, one in enumerate(messages)
        ]
        if not can.system and any(one["role"] == "system" for one in messages):
            messages = without_system(messages)
        return messages

    def _needs_native(self, messages: list[dict[str, Any]], template: ChatTemplate) -> bool:
        """True if calls and results have to be written here. Logs what is lost where that is not
        possible."""
        lost = []
        if not template.abilities.results and any(one["role"] == "tool" for one in messages):
            lost.append("the role 'tool'")
        if not template.abilities.calls and any(one.get("tool_calls") for one in messages):
            lost.append("tool calls")
        if lost and self.knows(RESPONSE) and self.knows(CALL):
            return True
        if lost:
            self._tell(
                f"the chat template does not know {' or '.join(lost)}: "
                "the model may not understand this conversation"
            )
        return False

    def problems(self) -> list[str]:
        """Faults of a template for tools, for `inspect`. A template without a word about tools has
        none."""
        can = self.template(tools=True).abilities
        lost = ["the role 'tool'"] * (not can.results) + ["tool calls"] * (not can.calls)
        if not lost or not (can.tools or can.calls):
            return []
        sentence = f"the chat template does not know {' and '.join(lost)}"
        if self.knows(RESPONSE) and self.knows(CALL):
            sentence += ": pillion writes them as Gemma 4 was trained, other programs may not"
        return [sentence]

    def _tell(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            _log.warning("%s: %s", self._model, sentence)

    def tokens(self, rendered: str) -> list[int]:
        """Token ids of a rendered conversation. A template that writes BOS gets no second one."""
        prompt = rendered if isinstance(rendered, Prompt) else Prompt(rendered)
        bos = spelling(self._tokenizer, self._tokenizer.bos)
        has_bos = bool(bos) and prompt.really_starts_with(bos)
        first, *others = prompt.pieces()
        tokens = self._tokenizer.encode(first, add_special=not has_bos, parse_special=True)
        for piece in others:
            tokens += self._continued(piece)
        return tokens

    def _continued(self, piece: str) -> list[int]:
        """Token ids of a text that continues another one. Some vocabularies put a space before a
        text that begins."""

        def encode(text: str) -> list[int]:
            return self._tokenizer.encode(text, add_special=False, parse_special=True)

        line, found = encode("\n"), encode("\n" + piece)
        return found[len(line) :] if found[: len(line)] == line else encode(piece)

    # ---- markers ----

    @property
    def marker_tokens(self) -> dict[int, str]:
        """The markers that are a single token each."""
        if self._tokens is None:
            found = {}
            for marker in MARKERS:
                ids = self._tokenizer.encode(marker, add_special=False, parse_special=True)
                if len(ids) == 1:
                    found[ids[0]] = marker
            self._tokens = found
        return self._tokens

    def knows(self, marker: str) -> bool:
        """True if the marker means something to this model: to its vocabulary or to its chat
        template."""
        return marker in self.marker_tokens.values() or any(
            marker in self.template(tools).source for tools in (False, True)
        )

    def parser(self, names: Sequence[str] | None) -> ReplyParser:
        """Returns the parser of a reply. names: of the tools; None: without tools."""
        known = [marker for marker in MARKERS if self.knows(marker)]
        calls = names is not None and self.knows(CALL)
        return ReplyParser(known, tokens=set(self.marker_tokens.values()), calls=calls, names=names)

    def opening(self, prompt: Prompt, parser: ReplyParser, forced: str | None) -> Prompt:
        """Adds a demanded call to the prompt and tells the parser how far the reply has begun.

        forced: name of the function; "": any; None: no call is demanded.
        """
        thinks = prompt.really_ends_with(THINKING)
        if forced is None:
            if thinks and self.knows(CHANNEL):
                parser.begin_thinking()
            return prompt
        head = f"call:{forced}{{" if forced else "call:"
        parser.begin_call(head)
        return prompt.before((THINKING_END if thinks else "") + CALL + head)


def _quoted(message: dict[str, Any], quoter: Quoter) -> dict[str, Any]:
    """Turns what a message's author wrote into text. The system's message is the program's own and
    may hold markers, but none of media, which only parts bring. An assistant's content may have
    markers that its template removes."""
    result = dict(message)
    if message["role"] == "assistant":
        result["content"] = quoter.cut(message["content"], kept=set(MARKERS) - set(TURNS))
        for key in ("reasoning_content", "reasoning"):
            if key in message:
                result[key] = quoter.cut(message[key])
        if "tool_calls" in message:
            result["tool_calls"] = [
                {
                    **call,
                    "function": {
                        **call["function"],
                        "arguments": quoter.cut_all(call["function"]["arguments"]),
                    },
                }
                for call in message["tool_calls"]
            ]
    else:
        own = message["role"] in ("system", "developer")
        result["content"] = quoter.cut(message["content"], only=SPELLED if own else None)
    return result


_DROPS_THE_LAST = (
    "the chat template drops the last message, so that no reply can continue it; "
    "continue_final_message=False begins a new one"
)
_DROPS_RESULTS = "the chat template drops messages of the assistant, and with them tool results"


class _Placeholder:
    """Stands in a message for a text that the template could trim, escape or rewrite."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.mark = f"pillion-{uuid.uuid4().hex}"

    def around(self, prompt: str, otherwise: str) -> tuple[str, str]:
        """The prompt before it and behind it. Raises UsageError(otherwise) if the template dropped
        it."""
        before, found, after = prompt.rpartition(self.mark)
        if not found:
            raise UsageError(otherwise)
        return before, after


class _Exchanges:
    """Messages in which each exchange of calls and results is one message of the assistant.

    Its content is a placeholder, which `written` replaces, because the template could trim or
    escape the text itself.
    """

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self._exchanges: list[_Placeholder] = []
        self._open: _Placeholder | None = None
        """The exchange that the model continues."""
        self.messages: list[dict[str, Any]] = []
        last_user = max(
            (at for at, one in enumerate(messages) if one["role"] == "user"), default=-1
        )
        for at, message in enumerate(messages):
            if message["role"] == "tool":
                self._add(_response(message))
            elif message["role"] == "assistant" and (self._open or message.get("tool_calls")):
                thought = message.get("reasoning_content") or message.get("reasoning")
                calls = message.get("tool_calls") or ()
                if thought and calls and at > last_user:
                    self._add(f"{THINKING}{thought}\n{THINKING_END}")
                self._add(message["content"].strip())
                self._add("".join(map(_call, calls)))
                if not calls:
                    self._open = None
            else:
                self._open = None
                self.messages.append(message)

    def _add(self, text: str) -> None:
        if self._open is None:
            self._open = _Placeholder()
            self._exchanges.append(self._open)
            self.messages.append({"role": "assistant", "content": self._open.mark})
        self._open.text += text

    def written(self, prompt: str) -> str:
        """The prompt with the texts in their places. The model's turn stays open after a result."""
        for exchange in self._exchanges:
            before, after = exchange.around(prompt, _DROPS_RESULTS)
            # What the template adds to begin a turn of the model is kept from there on.
            if exchange is self._open:
                after = re.sub(r"\A\s*<turn\|>\s*(?:<\|turn>model\n)?", "", after)
            prompt = before + exchange.text + after
        return prompt


def _call(call: Mapping[str, Any]) -> str:
    return f"{CALL}call:{call['function']['name']}{_value(call['function']['arguments'])}{CALL_END}"


def _response(message: Mapping[str, Any]) -> str:
    name = message.get("name") or "unknown"
    return f"{RESPONSE}response:{name}{{value:{_value(message['content'])}}}<tool_response|>"


def _value(value: Any) -> str:
    """A value as the models' templates write it: keys bare and in order."""
    if isinstance(value, str):
        return f"{QUOTE}{value}{QUOTE}"
    if isinstance(value, Mapping):
        keys = sorted(value, key=lambda key: str(key).lower())
        return "{" + ",".join(f"{key}:{_value(value[key])}" for key in keys) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def spelling(tokenizer: Tokenizer, token: int | None) -> str:
    """Text of a special token; "" for none."""
    return "" if token is None else tokenizer.token_text(token)
