"""Structured output: replies that follow a JSON schema, a regular expression, a grammar, a list of
choices or the parameters of tools.

inputs.py checks what a caller asks for. reply.py and gemma_calls.py write it as one grammar.
llguidance compiles it (compiling.py), and matching.py follows a reply. The core knows masks only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..chat.format import ChatFormat
from ..chat.quoting import Prompt
from ..chat.replies import CALL, CALL_END, CHANNEL, QUOTE, THINKING, THINKING_END, ReplyParser
from ..errors import UsageError
from ..tokenizer import Tokenizer
from .bridge import Vocabulary, is_installed, llguidance
from .compiling import Compiled, Grammars
from .gemma_calls import Calls, Marks
from .inputs import JSON, Body, wanted_body
from .matching import GrammarConstraint
from .reply import MAYBE, NEVER, NO_THINKING, OPEN, CallRules, Thinking, reply_grammar

__all__ = ["Compiled", "GrammarConstraint", "Grammars", "Structured", "Vocabulary", "wanted_body"]

_log = logging.getLogger("pillion")


class Structured:
    """The grammars of one model and its chat format. model: its name, for sentences.

    Nothing is built before the first reply that needs a grammar. Threads may share it.
    """

    def __init__(self, chat: ChatFormat, tokenizer: Tokenizer, n_vocab: int, model: str) -> None:
        self._chat = chat
        self._tokenizer = tokenizer
        self._n_vocab = n_vocab
        self._model = model
        self._found: Grammars | None = None
        self._told: set[str] = set()

    @property
    def grammars(self) -> Grammars:
        """The compiled grammars. Raises UsageError without llguidance."""
        if self._found is None:
            markers = self._chat.marker_tokens
            self._found = Grammars(Vocabulary(self._tokenizer, self._n_vocab, markers))
        return self._found

    def prepare(self) -> None:
        """Builds now what the first grammar needs, which takes seconds for a large vocabulary. For
        servers, before they take requests. Raises UsageError without llguidance."""
        self.grammars.vocabulary.llg()

    def of_text(self, forms: Mapping[str, Any]) -> Compiled | None:
        """The grammar of a text without thinking and calls; None: the text is free. forms: see
        `wanted_body`.

        Raises UsageError for a wrong form, and without llguidance.
        """
        body = wanted_body(**forms)
        return None if body is None else self._compiled(body)

    def of_reply(
        self,
        prompt: Prompt,
        parser: ReplyParser,
        tools: Sequence[Mapping[str, Any]],
        forms: Mapping[str, Any],
        forced: str | None = None,
        several: bool | None = None,
        thinks: bool = False,
    ) -> tuple[Prompt, Compiled | None]:
        """Returns the prompt with the beginning of the reply, and the reply's grammar (None: it is
        free). Tells `parser` how far the reply has begun.

        tools: checked; those that the reply may call. forced: as in `ChatFormat.opening`.
        several: True if one reply may make several calls; None: it may.
        thinks: thinking was asked for. Otherwise a reply with a grammar thinks only if the template
        begins it: a model for which the grammar is odd would rather think to its limit.
        """
        body = wanted_body(**forms)
        if several is not None and not isinstance(several, bool):
            raise UsageError(f"parallel_tool_calls is {several!r}; it must be True or False")
        rules = self._call_rules(tools, forced, several, body)
        if rules is None and (body is None or forced is not None):
            return self._chat.opening(prompt, parser, forced), None
        thinking = self._thinking(prompt, thinks)
        prompt = self._chat.opening(prompt, parser, None)
        return prompt, self._compiled(body, thinking, rules)

    @property
    def calls_are_free(self) -> str:
        """Why calls of tools cannot follow a grammar; "": they can."""
        return self._what_is_missing()

    # ---- parts ----

    def _compiled(
        self,
        body: Body | None,
        thinking: Thinking = NO_THINKING,
        rules: CallRules | None = None,
    ) -> Compiled:
        llguidance()
        grammar = reply_grammar(body, thinking, rules)
        return self.grammars.compile(grammar, _called(body, rules))

    def _thinking(self, prompt: Prompt, asked: bool) -> Thinking:
        begin, end = self._token(CHANNEL), self._token(THINKING_END)
        opened = prompt.really_ends_with(THINKING) and self._chat.knows(CHANNEL)
        if begin is None or end is None:
            if opened:
                raise UsageError(
                    f"the template of {self._model} begins the thinking, which no token of the "
                    "model ends; a grammar needs chat_template_kwargs={'enable_thinking': False}"
                )
            return NO_THINKING
        may = asked and not prompt.really_ends_with(THINKING_END)
        return Thinking(OPEN if opened else MAYBE if may else NEVER, begin, end)

    def _token(self, marker: str) -> int | None:
        tokens = self._chat.marker_tokens
        return next((token for token, one in tokens.items() if one == marker), None)

    def _call_rules(
        self,
        tools: Sequence[Mapping[str, Any]],
        forced: str | None,
        several: bool | None,
        body: Body | None,
    ) -> CallRules | None:
        """The rules of calls; None: calls are free, or there are no tools."""
        strict = [one["function"]["name"] for one in tools if one["function"].get("strict") is True]
        needs = body is not None and forced is None
        if not tools or not (needs or strict or several is False or forced is not None):
            return None
        missing = self._what_is_missing()
        if missing:
            if needs:
                raise UsageError(f"response_format together with tools is not possible: {missing}")
            if several is False:
                raise UsageError(f"parallel_tool_calls=False is not possible: {missing}")
            if strict:
                self._tell(f"'strict' of the tools is not kept: {missing}")
            return None
        calls = Calls(self._marks(), tools)
        self._report(calls, strict)
        names = [forced] if forced else None
        return CallRules(calls, names, forced is not None, several is not False and not forced)

    def _what_is_missing(self) -> str:
        if any(self._token(marker) is None for marker in (CALL, CALL_END, QUOTE)):
            return f"{self._model} has no known syntax for tool calls"
        return "" if is_installed() else "it needs llguidance, pip install 'pillion[structured]'"

    def _marks(self) -> Marks:
        found = [self._token(marker) for marker in (CALL, CALL_END, QUOTE)]
        return Marks(*(-1 if token is None else token for token in found))

    def _report(self, calls: Calls, strict: Sequence[str]) -> None:
        """Logs what of the tools' schemas is not enforced. Raises for a strict tool that needs any
        of it."""
        for name, keywords in calls.unsaid.items():
            if not keywords:
                continue
            listed = ", ".join(map(repr, keywords))
            if name in strict and set(keywords) - {"format"}:
                raise UsageError(
                    f"the parameters of tool {name!r} use {listed}, which cannot be enforced; "
                    "leave it out, or the tool's 'strict'"
                )
            self._tell(f"the parameters of tool {name!r} use {listed}, which is not enforced")

    def _tell(self, sentence: str) -> None:
        if sentence not in self._told and len(self._told) < 1_000:
            self._told.add(sentence)
            _log.warning("%s: %s", self._model, sentence)


def _called(body: Body | None, rules: CallRules | None) -> str:
    """The grammar's name in sentences."""
    if body is not None and not (rules is not None and rules.demanded):
        return "the schema of response_format" if body.kind == JSON else f"the {body.kind}"
    return "the parameters of the tools"
