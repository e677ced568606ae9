"""`RequestMaker`: from the arguments of a call of `LLM` to a `Request` of the engine, and to what
makes the call's result of the generation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..arguments import check_bool, wrong
from ..chat.format import ChatFormat
from ..chat.media_marks import MediaMarks
from ..chat.messages import Message, continues_message, prompt_text
from ..chat.replies import CALL
from ..chat.tools import checked_tools, named_tool, tool_names
from ..constraint import Constraint, LogitsProcessors, processor_list
from ..engine.engine import Engine
from ..engine.generation import Generation, TokenInfo
from ..engine.work import Request
from ..errors import Closed, UsageError
from ..media.markers import MARKER, token_of
from ..media.reader import MediaReader, ReadMedia
from ..pair import Draft, draft_length
from ..sampling import SamplingParams
from ..structured import Compiled, Structured
from ..tokenizer import Tokenizer
from .embedding import Texts, listed_texts
from .openai_format import ChatCompletion, Completion
from .requests import (
    FORMS,
    Settings,
    checked_ids,
    checked_length,
    checked_prompt,
    checked_variables,
    top_logprobs_of,
)

Prompt = str | bytes | Sequence[int] | Sequence[Mapping[str, Any] | str]
Tools = Sequence[Mapping[str, Any]]
ToolChoice = str | Mapping[str, Any] | None


class RequestMaker:
    """Makes the requests of one `LLM`.

    name: of the model, in results and sentences. seed, draft: for calls that give none. no_drafter:
    why there is no drafter; "" where there is one.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        chat: ChatFormat,
        structured: Structured,
        media: MediaReader,
        *,
        name: str,
        defaults: SamplingParams,
        n_vocab: int,
        seed: int | None,
        draft: Draft,
        no_drafter: str,
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._chat = chat
        self._structured = structured
        self.media = media
        """Reads the images and sounds of requests."""
        self._name = name
        self._n_vocab = n_vocab
        self.seed = seed
        self.draft = draft
        self._no_drafter = no_drafter
        self.defaults = defaults
        """What the model's file recommends; it bans the tokens that must never come."""

    # ---- requests ----

    def completion(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = 16,
        logprobs: int | None = None,
        echo: bool = False,
        suffix: str | None = None,
        media_files: bool = True,
        **options: Any,
    ) -> tuple[Request, Callable[[Generation], Completion]]:
        """The request of `LLM.complete`, and the function that makes its result. Each serves
        once."""
        self._check_open()
        if suffix is not None:
            raise UsageError("suffix is not supported: this library does not fill in the middle")
        check_bool("echo", echo)
        text, tokens, media = self._read_prompt(prompt, media_files)
        scores = echo and logprobs is not None
        if scores and media is not None:
            raise UsageError("echo with logprobs scores the prompt, which needs one without media")
        options["logprobs"] = logprobs
        request = self._request("complete()", tokens, max_tokens, options, media=media)
        request.scores_prompt = scores

        def make(generation: Generation) -> Completion:
            completion = Completion(generation, self._tokenizer, self._name, logprobs is not None)
            completion.media_counts = media.counts() if media else {}
            if echo:
                completion.echo = self._tokenizer.decode(tokens) if text is None else text
            if scores:
                completion.scored = lambda found: self._scored(tokens, found)
            return completion

        return request, make

    def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int | None = None,
        tools: Tools | None = None,
        tool_choice: ToolChoice = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        logprobs: bool = False,
        top_logprobs: int | None = None,
        parallel_tool_calls: bool | None = None,
        enable_thinking: bool | None = None,
        continue_final_message: bool | None = None,
        media_files: bool = True,
        **options: Any,
    ) -> tuple[Request, Callable[[Generation], ChatCompletion]]:
        """The request of `LLM.chat`, and the function that makes its result. Each serves once.

        Images and sounds are decoded and encoded here, in the caller's thread."""
        self._check_open()
        wanted = top_logprobs_of(logprobs, top_logprobs, self._n_vocab)
        no_tools = isinstance(tool_choice, str) and tool_choice == "none"
        listed = [] if no_tools else checked_tools(tools)
        forced = self._forced_call(tool_names(listed), tool_choice)
        variables = checked_variables(chat_template_kwargs, enable_thinking)
        thinks = bool(variables.get("enable_thinking"))
        forms = {name: options.pop(name, None) for name in FORMS}
        continues = continues_message(messages, continue_final_message, variables)
        if continues:
            _check_is_free(forms, forced)
        marks = MediaMarks()
        prompt = self._chat.render(messages, listed, continues, marks, **variables)
        parser = self._chat.parser(tool_names(listed) if listed else None)
        prompt, compiled = self._structured.of_reply(
            prompt, parser, listed, forms, forced, parallel_tool_calls, thinks
        )
        markers = self._chat.marker_tokens
        options["logprobs"] = wanted
        tokens = self.chat_tokens(prompt)
        media = self._read_media(marks, media_files)
        request = self._request("chat()", tokens, max_tokens, options, markers, compiled, media)

        def make(generation: Generation) -> ChatCompletion:
            completion = ChatCompletion(
                generation, self._tokenizer, self._name, bool(logprobs), parser, markers
            )
            completion.media_counts = media.counts() if media else {}
            return completion

        return request, make

    def plain(self, prompt: Prompt, *, max_tokens: int | None = None, **options: Any) -> Request:
        """The request of `LLM.generate`."""
        self._check_open()
        _, tokens, media = self._read_prompt(prompt)
        return self._request("generate()", tokens, max_tokens, options, media=media)

    def _check_open(self) -> None:
        if self._engine.closed:
            raise Closed("this LLM is closed")

    def _request(
        self,
        call: str,
        tokens: list[int],
        max_tokens: int | None,
        options: Mapping[str, Any],
        shown: Collection[int] = (),
        compiled: Compiled | None = None,
        media: ReadMedia | None = None,
    ) -> Request:
        """A request for the options of a call. call: its name, for sentences. shown: see `Request`.
        compiled: the grammar of a chat's reply. media: whose markers stand among the tokens."""
        given = Settings(call, options, self._n_vocab)
        seed = self.seed if given.seed is None else given.seed
        bias = {**given.logit_bias, **self.defaults.logit_bias}
        if media is not None:
            tokens = media.expanded(tokens)
            bias |= dict.fromkeys(self.media.never_sampled(), -math.inf)
        settings: dict[str, Any] = {**given.sampling, "seed": seed, "logit_bias": bias}
        params = dataclasses.replace(self.defaults, **settings)
        if self._no_drafter and given.draft is not None and draft_length(given.draft) > 0:
            raise UsageError(f"draft is {given.draft}, but there is no drafter: {self._no_drafter}")
        return Request(
            prompt=tokens,
            sampling=params,
            max_tokens=checked_length(max_tokens),
            stop=given.stop,
            logprobs=given.logprobs,
            draft=self.draft if given.draft is None else given.draft,
            shown=shown,
            media=None if media is None else media.lease,
            constraint=self._constraint(given, tokens, bias, compiled),
            owner=given.owner,
            low_priority=given.low_priority,
            queue_timeout=given.queue_timeout,
            total_timeout=given.total_timeout,
        )

    def _constraint(
        self,
        given: Settings,
        prompt: list[int],
        bias: Mapping[int, float],
        compiled: Compiled | None,
    ) -> Any:
        """What a call's options demand of the text behind `prompt`; None: nothing."""
        if compiled is None and given.forms:
            compiled = self._structured.of_text(given.forms)
        form: Constraint | None = None
        if compiled is not None:
            form = compiled.start([token for token, value in bias.items() if value == -math.inf])
        if given.logits_processor is None and given.stopping_criteria is None:
            return form
        processors = processor_list("logits_processor", given.logits_processor or ())
        criteria: Any = processor_list("stopping_criteria", given.stopping_criteria or ())
        if not processors and not criteria:
            return form
        ends = self._tokenizer.end_tokens
        end = min(ends) if ends else None
        return LogitsProcessors(processors, prompt, form, criteria=criteria, end_token=end)

    def _forced_call(self, names: Sequence[str], choice: ToolChoice) -> str | None:
        """The function that `tool_choice` demands a call of; "": any; None: no call is demanded."""
        if choice is None or (isinstance(choice, str) and choice in ("auto", "none")):
            return None
        name = ""
        if isinstance(choice, Mapping):
            name = named_tool(choice) or ""
            if name not in names:
                raise UsageError(
                    f"tool_choice names {name or None!r}; the tools are "
                    f"{', '.join(map(repr, names)) or 'none'}"
                )
        elif not isinstance(choice, str) or choice != "required":
            wrong("tool_choice", choice, "'auto', 'none', 'required' or a function by name")
        elif not names:
            raise UsageError("tool_choice is 'required', but there are no tools")
        if not self._chat.knows(CALL):
            raise UsageError(
                f"{self._name} has no known syntax for tool calls, so tool_choice cannot demand one"
            )
        return name

    # ---- tokens ----

    def chat_tokens(self, rendered: str) -> list[int]:
        """Token ids of a rendered conversation. A template that writes BOS gets no second one."""
        return self._chat.tokens(rendered)

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt. An empty text has the token that texts begin with."""
        if not isinstance(prompt, str):
            return checked_ids("prompt", prompt)
        tokens = self._tokenizer.encode(prompt)
        if not tokens and self._tokenizer.bos is not None:
            tokens = [self._tokenizer.bos]
        return tokens

    def _read_prompt(
        self, prompt: Any, files: bool = True
    ) -> tuple[str | None, list[int], ReadMedia | None]:
        """The text of a prompt (None: it was ids), its tokens, and its media, whose markers stand
        among the tokens."""
        parts = isinstance(prompt, (list, tuple)) and any(isinstance(x, Mapping) for x in prompt)
        if not parts:
            given = checked_prompt(prompt)
            text = given if isinstance(given, str) else None
            return text, self.prompt_tokens(given), None
        marks = MediaMarks()
        text, tokens = "", []
        for piece, kind in marks.pieces(prompt_text(prompt, marks)):
            if kind:
                text += MARKER[kind]
                tokens.append(token_of(self._tokenizer, MARKER[kind]) or 0)
            elif piece or not tokens:
                begins = not tokens
                text += piece
                tokens += self._tokenizer.encode(piece, add_special=begins)
        return text, tokens, self._read_media(marks, files)

    def _read_media(self, marks: MediaMarks, files: bool) -> ReadMedia | None:
        check_bool("media_files", files)
        return self.media.read(marks.parts, files) if marks.parts else None

    def embedding_tokens(self, name: str, given: Texts) -> tuple[list[list[int]], bool]:
        """Token ids of texts to embed, and True if `given` is a single text. name: of the argument,
        for sentences. Raises `UsageError` for a text without tokens."""
        self._check_open()
        texts, single = listed_texts(name, given)
        names = [name] if single else [f"{name}[{at}]" for at in range(len(texts))]
        ids = [
            self.prompt_tokens(checked_prompt(one, of))
            for one, of in zip(texts, names, strict=False)
        ]
        for one, of in zip(ids, names, strict=False):
            if not one:
                raise UsageError(f"{of} is empty; it must have at least one token")
        return ids, single

    def _scored(self, tokens: list[int], found: Sequence[float]) -> tuple[TokenInfo, ...]:
        """The prompt's tokens with their log-probabilities; the first one has none."""
        stream, offset, infos = self._tokenizer.stream(), 0, []
        for token, score in zip(tokens, [None, *found], strict=False):
            text = stream.feed(token)
            infos.append(TokenInfo(token, text, offset, score))
            offset += len(text)
        return tuple(infos)


def _check_is_free(forms: Mapping[str, Any], forced: str | None) -> None:
    """Raises `UsageError` for a demanded form of a reply that goes on with an assistant's message:
    a grammar would have to know what that message began."""
    given = next((name for name, form in forms.items() if form is not None), None)
    demanded = "tool_choice" if forced is not None else given
    if demanded is not None:
        raise UsageError(
            f"the last message is the assistant's, so the reply continues it, and {demanded} holds "
            "for whole replies; continue_final_message=False begins a new one"
        )
