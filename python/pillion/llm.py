"""`LLM`: a model, its engine and the tokenizer behind `complete` and `chat`, which threads may
share, and `acomplete` and `achat` for asyncio.

Argument names and defaults are llama-cpp-python's where it has them, results are shaped like
OpenAI's."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Callable, Literal, Optional, Union, overload

import numpy as np

from .arguments import (
    check_bool,
    check_choice,
    check_int,
    check_number,
    check_path,
    check_text,
    unknown_names,
    wrong,
)
from .calling import checked_class
from .chat_format import ChatFormat
from .constraining import constraint_of
from .context import Context, Floats
from .embedding import Embedder, Texts, listed_texts
from .engine import PARALLEL_MAX, Engine
from .errors import Closed, UsageError
from .generation import Generation, TokenInfo
from .held import Held
from .messages import Message
from .model import Metadata, Model, layer_count
from .openai_format import ChatCompletion, Completion, Result, embedding_list
from .opening import open_slots
from .pair import DRAFT_MAX, DRAFT_SAMPLING, LOOKUP, Draft, Drafter, Pair, PairStats, draft_length
from .placement import Placed
from .replies import CALL
from .requests import (
    FORMS,
    Settings,
    checked_ids,
    checked_length,
    checked_prompt,
    checked_text,
    checked_variables,
    top_logprobs_of,
)
from .sampling import SEED_MAX, SamplingParams
from .streams import AsyncStream
from .structured import Compiled, Structured
from .tokenizer import Tokenizer
from .tools import checked_tools, named_tool, tool_names
from .work import Request

Prompt = Union[str, bytes, Sequence[int]]
Stop = Union[str, Sequence[str], None]
Tools = Sequence[Mapping[str, Any]]
ToolChoice = Union[str, Mapping[str, Any], None]


@checked_class
class LLM(Held):
    """A model ready to write.

    path: the GGUF file, or an open `Model`, which stays open when the LLM is closed.
    n_ctx: positions of the context (None: the model's own, at most 4096).
    n_batch, n_threads, kv_type, flash_attn, swa_full, n_snapshots: see `Context`.
    use_mmap, device, progress: see `Model.open`.
    n_gpu_layers: layers on the device (-1: as many as fit beside the cache and the drafter, with a
    warning when that is not all; 0: none). strict: anything of the model that would not run on the
    device is an error instead. device_bytes: of the device's memory that may be used (0: what is
    free). seed: for calls that name none; None: a random one for each call.
    chat_template: Jinja source to use in place of the file's, or the name of one of the file's.
    drafter: what guesses ahead: "auto": the assistant beside the model, where there is one (with
    several that fit: nothing, and a warning that lists them); a path or a Model: an assistant or
    any small model with the same vocabulary; "lookup": no model, guesses come from the text; None:
    nothing. It changes the speed, never the text. `speculation` says what came of it.
    draft: how many tokens it guesses: 0 to 8, or "auto": as many as pay off. Calls may say
    otherwise. draft_p_min, draft_dense_head, draft_strict, draft_sampling: see `Pair`.
    draft_device: where the drafter runs; "auto": on the model's device, but on the CPU for a model
    on the Hexagon NPU.

    parallel: answers that are written at the same time, in turn, each in a context of its own on
    the same weights. Further calls wait for their turn.

    Any number of threads and asyncio tasks may call it. What a context holds is used again: a
    prompt that begins like the text before costs only the rest (`timings`: cache_n tokens kept,
    prompt_n run). A turn of a chat costs the last answer, as the template writes it into the
    history, and the new message.
    """

    def __init__(
        self,
        path: Union[str, os.PathLike[str], Model],
        *,
        n_ctx: Optional[int] = None,
        n_batch: Optional[int] = None,
        n_threads: Optional[int] = None,
        seed: Optional[int] = None,
        kv_type: str = "f16",
        flash_attn: Union[str, bool] = "auto",
        swa_full: bool = False,
        n_snapshots: Optional[int] = None,
        use_mmap: bool = True,
        device: str = "auto",
        n_gpu_layers: int = -1,
        strict: bool = False,
        device_bytes: int = 0,
        chat_template: Optional[str] = None,
        progress: Optional[Callable[[int, int], object]] = None,
        drafter: Optional[Drafter] = "auto",
        draft: Draft = "auto",
        draft_p_min: float = 0.0,
        draft_dense_head: bool = False,
        draft_strict: bool = False,
        draft_sampling: str = "greedy",
        draft_device: str = "auto",
        parallel: int = 1,
    ) -> None:
        if not isinstance(path, Model):
            path = check_path("path", path)
        _check_seed_and_template(seed, chat_template)
        _check_drafting(drafter, draft, draft_p_min, draft_sampling, draft_dense_head, draft_strict)
        check_text("device", device), check_text("draft_device", draft_device)
        check_bool("strict", strict), check_int("device_bytes", device_bytes, 0, 2**63 - 1)
        parallel = check_int("parallel", parallel, 1, PARALLEL_MAX)
        self.draft = draft
        self.seed = seed
        opened = open_slots(
            path,
            {
                "use_mmap": use_mmap,
                "device": device,
                "n_gpu_layers": layer_count(n_gpu_layers),
                "strict": strict,
                "device_bytes": device_bytes,
                "progress": progress,
            },
            drafter,
            draft_device=draft_device,
            sizes={
                "n_ctx": n_ctx,
                "n_batch": n_batch,
                "n_threads": n_threads,
                "kv_type": kv_type,
                "swa_full": swa_full,
                "n_snapshots": n_snapshots,
                "n_outputs": DRAFT_MAX + 1,  # a pair may come later
            },
            flash_attn=flash_attn,
            pairing={
                "p_min": draft_p_min,
                "dense_head": draft_dense_head,
                "strict": draft_strict,
                "draft_sampling": draft_sampling,
            },
            parallel=parallel,
        )
        self.model = opened.model
        self._owns_model = opened.owns_model
        self._drafter = opened.drafter
        self._no_pair = opened.why_no_pair
        try:
            self.tokenizer: Tokenizer = self.model.tokenizer
            self.engine = Engine.on(opened.slots)
            """What writes; `engine.submit` takes requests without the forms of OpenAI's API."""
            self._metadata: Metadata = self.model.metadata
            self._defaults = SamplingParams.of_file(self.model)
        except BaseException:
            opened.close()
            raise
        self.name = str(self._metadata.get("general.name") or os.path.basename(self.model.path))
        """The model's name in results."""
        self._chat = ChatFormat(self.tokenizer, self._metadata, self.name, chat_template)
        options = {"n_batch": n_batch, "n_threads": n_threads, "kv_type": kv_type}
        options["flash_attn"] = flash_attn
        self.embedder = Embedder(self.model, self.n_ctx(), options, self.engine.between_turns)
        """Makes the vectors of `embed`."""
        self.structured = Structured(self._chat, self.tokenizer, self.model.n_vocab, self.name)
        """The grammars of replies."""

    @property
    def context(self) -> Context:
        """The first context. Use it directly only while no answer is under way."""
        return self.engine.slots_made[0].context

    @property
    def pair(self) -> Optional[Pair]:
        """That context with its drafter; None without one."""
        slot = self.engine.slots_made[0]
        return slot.pair if slot.drafts else None

    def placement(self) -> list[Placed]:
        """Which op of the model and of its drafter runs where, by which kernel. Waits for a run
        that is under way."""
        found: list[Placed] = []

        def read() -> None:
            found.extend(Placed("target", **entry) for entry in self.context.placement())
            if self.pair is not None:
                found.extend(Placed("drafter", **entry) for entry in self.pair.placement())

        self.engine.between_turns(read)
        return found

    # ---- text ----

    @overload
    def complete(
        self, prompt: Prompt, *, stream: Literal[False] = ..., **options: Any
    ) -> Result: ...
    @overload
    def complete(
        self, prompt: Prompt, *, stream: Literal[True], **options: Any
    ) -> Iterator[Result]: ...
    @overload
    def complete(
        self, prompt: Prompt, *, stream: bool, **options: Any
    ) -> Union[Result, Iterator[Result]]: ...

    def complete(
        self,
        prompt: Prompt,
        *,
        stream: bool = False,
        max_tokens: Optional[int] = 16,
        logprobs: Optional[int] = None,
        echo: bool = False,
        suffix: Optional[str] = None,
        **options: Any,
    ) -> Union[Result, Iterator[Result]]:
        """Continues a text (or UTF-8 bytes, or token ids).

        max_tokens: None or -1: until the context ends.
        stop: a string or a list of them; the text ends before the first.
        logprobs: how many alternatives to list for each token.
        echo: put the prompt before the answer (with logprobs the prompt is scored too, which runs
        it a second time). stream: return an iterator of chunks. The work begins at the call;
        leaving the iterator early stops it.
        options: temperature, top_k, top_p, min_p, repeat_penalty, frequency_penalty,
        presence_penalty, penalty_last_n, seed, logit_bias, stop, draft (0 to 8 or "auto"; None: as
        the LLM was made), and one of response_format, regex, grammar and choice (see `chat`).
        Defaults come from the file where it has them (`general.sampling.*`), then from
        `SamplingParams`."""
        check_bool("stream", stream)
        options.update(max_tokens=max_tokens, logprobs=logprobs, echo=echo, suffix=suffix)
        answer = self._completion(prompt, **options)
        return answer.chunks() if stream else answer.whole()

    async def acomplete(
        self, prompt: Prompt, *, stream: bool = False, **options: Any
    ) -> Union[Result, AsyncStream]:
        """`complete` for asyncio; stream=True gives an iterator for `async for`. A cancel of the
        task that waits ends the work."""
        check_bool("stream", stream)
        answer = self._completion(prompt, **options)
        return answer.achunks() if stream else await answer.awhole()

    def _completion(self, prompt: Prompt, **options: Any) -> Completion:
        """What `complete` returns, under way."""
        request, make = self.prepared_completion(prompt, **options)
        return make(self.engine.submit(request))

    def prepared_completion(
        self,
        prompt: Prompt,
        *,
        max_tokens: Optional[int] = 16,
        logprobs: Optional[int] = None,
        echo: bool = False,
        suffix: Optional[str] = None,
        **options: Any,
    ) -> tuple[Request, Callable[[Generation], Completion]]:
        """What `complete` asks of the engine, for who submits it; and what makes the result of
        that."""
        if suffix is not None:
            raise UsageError("suffix is not supported: this library does not fill in the middle")
        check_bool("echo", echo)
        text = checked_prompt(prompt)
        tokens = self._prompt_tokens(text)
        scores = echo and logprobs is not None
        request = self._request("complete()", tokens, max_tokens, {"logprobs": logprobs, **options})
        request.scores_prompt = scores

        def make(generation: Generation) -> Completion:
            completion = Completion(generation, self.tokenizer, self.name, logprobs is not None)
            if echo:
                completion.echo = text if isinstance(text, str) else self.tokenizer.decode(tokens)
            if scores:
                completion.scored = lambda found: self._scored(tokens, found)
            return completion

        return request, make

    @overload
    def chat(
        self, messages: Sequence[Message], *, stream: Literal[False] = ..., **options: Any
    ) -> Result: ...
    @overload
    def chat(
        self, messages: Sequence[Message], *, stream: Literal[True], **options: Any
    ) -> Iterator[Result]: ...
    @overload
    def chat(
        self, messages: Sequence[Message], *, stream: bool, **options: Any
    ) -> Union[Result, Iterator[Result]]: ...

    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: bool = False,
        max_tokens: Optional[int] = None,
        tools: Optional[Tools] = None,
        tool_choice: ToolChoice = None,
        chat_template_kwargs: Optional[Mapping[str, Any]] = None,
        logprobs: bool = False,
        top_logprobs: Optional[int] = None,
        response_format: Union[Mapping[str, Any], type, None] = None,
        parallel_tool_calls: Optional[bool] = None,
        **options: Any,
    ) -> Union[Result, Iterator[Result]]:
        """Answers a conversation, a list of {"role": …, "content": …}, through the file's chat
        template.

        tools: OpenAI's list of functions; it reaches the template, and the model's calls come back
        as message["tool_calls"] with finish_reason "tool_calls". Gemma 4's syntax is the one that
        is understood (tool_calls.py). A call that broke off, cannot be read or names no tool stands
        in message["malformed_tool_calls"], [{"text": …, "reason": …}]; the finish_reason is
        "malformed_tool_call" then, or "length". Markers of calls and of thinking never reach the
        content (replies.py). tool_choice: "auto" (None); "none": as without tools; "required", or
        {"type": "function", "function": {"name": …}}: the answer has nothing but calls, or one call
        of that function, behind its thinking. Without llguidance it is made to begin with a call,
        without thinking. Calls keep to their tools' schemas where one is demanded, where a tool has
        "strict": True, and beside a response_format. parallel_tool_calls: False: at most one call.
        Thinking goes to message["reasoning_content"], with and without tools. `stop` looks at the
        raw text, thinking included. chat_template_kwargs: more variables for the template
        (`{"enable_thinking": True}`). response_format: {"type": "json_schema", "json_schema":
        {"name": …, "schema": …}}, {"type": "json_object"}, {"type": "text"}, a class of pydantic,
        or None. Or, one at a time, regex: a regular expression for all of the content; grammar:
        Lark or GBNF; choice: a list of strings. The thinking before it is free. These need
        llguidance: docs/structured_output.md. logprobs, top_logprobs: as in OpenAI's API. The rest
        as in `complete`."""
        check_bool("stream", stream)
        options.update(
            max_tokens=max_tokens,
            tools=tools,
            tool_choice=tool_choice,
            chat_template_kwargs=chat_template_kwargs,
        )
        options.update(
            logprobs=logprobs, top_logprobs=top_logprobs, response_format=response_format
        )
        options["parallel_tool_calls"] = parallel_tool_calls
        answer = self._answer(messages, **options)
        return answer.chunks() if stream else answer.whole()

    async def achat(
        self, messages: Sequence[Message], *, stream: bool = False, **options: Any
    ) -> Union[Result, AsyncStream]:
        """`chat` for asyncio; stream=True gives an iterator for `async for`. A cancel of the task
        that waits ends the work."""
        check_bool("stream", stream)
        answer = self._answer(messages, **options)
        return answer.achunks() if stream else await answer.awhole()

    def _answer(self, messages: Sequence[Message], **options: Any) -> ChatCompletion:
        """What `chat` returns, under way."""
        request, make = self.prepared_chat(messages, **options)
        return make(self.engine.submit(request))

    def prepared_chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: Optional[int] = None,
        tools: Optional[Tools] = None,
        tool_choice: ToolChoice = None,
        chat_template_kwargs: Optional[Mapping[str, Any]] = None,
        logprobs: bool = False,
        top_logprobs: Optional[int] = None,
        parallel_tool_calls: Optional[bool] = None,
        **options: Any,
    ) -> tuple[Request, Callable[[Generation], ChatCompletion]]:
        """What `chat` asks of the engine, for who submits it; and what makes the result of that.
        Both serve once."""
        wanted = top_logprobs_of(logprobs, top_logprobs, self.model.n_vocab)
        listed = (
            [] if isinstance(tool_choice, str) and tool_choice == "none" else checked_tools(tools)
        )
        forced = self._forced_call(tool_names(listed), tool_choice)
        variables = checked_variables(chat_template_kwargs)
        thinks = bool(variables.get("enable_thinking"))
        prompt = self._chat.render(messages, listed, **variables)
        parser = self._chat.parser(tool_names(listed) if listed else None)
        forms = {name: options.pop(name, None) for name in FORMS}
        prompt, compiled = self.structured.of_reply(
            prompt, parser, listed, forms, forced, parallel_tool_calls, thinks
        )
        markers = self._chat.marker_tokens
        options["logprobs"] = wanted
        tokens = self.chat_tokens(prompt)
        request = self._request("chat()", tokens, max_tokens, options, markers, compiled)

        def make(generation: Generation) -> ChatCompletion:
            return ChatCompletion(
                generation, self.tokenizer, self.name, bool(logprobs), parser, markers
            )

        return request, make

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: Optional[int] = None,
        stop: Stop = None,
        logprobs: Optional[int] = None,
        seed: Optional[int] = None,
        logit_bias: Optional[Mapping[Any, float]] = None,
        draft: Optional[Draft] = None,
        **settings: Any,
    ) -> Generation:
        """The handle under `complete` and `chat`: pieces of text with their token ids. The work
        begins now."""
        settings.update(stop=stop, logprobs=logprobs, seed=seed, logit_bias=logit_bias, draft=draft)
        tokens = self._prompt_tokens(checked_prompt(prompt))
        return self.engine.submit(self._request("generate()", tokens, max_tokens, settings))

    def _request(
        self,
        call: str,
        tokens: list[int],
        max_tokens: Optional[int],
        options: Mapping[str, Any],
        shown: Collection[int] = (),
        compiled: Optional[Compiled] = None,
    ) -> Request:
        """What a call of that name asks for; shown: see `Request`; compiled: its grammar."""
        if self.closed:
            raise Closed("this LLM is closed")
        given = Settings(call, options, self.model.n_vocab)
        seed = self.seed if given.seed is None else given.seed
        bias = {**given.logit_bias, **self._defaults.logit_bias}
        settings: dict[str, Any] = {**given.sampling, "seed": seed, "logit_bias": bias}
        params = dataclasses.replace(self._defaults, **settings)
        if self.pair is None and given.draft is not None and draft_length(given.draft) > 0:
            raise UsageError(f"draft is {given.draft}, but there is no drafter: {self._no_pair}")
        return Request(
            prompt=tokens,
            sampling=params,
            max_tokens=checked_length(max_tokens),
            stop=given.stop,
            logprobs=given.logprobs,
            draft=self.draft if given.draft is None else given.draft,
            shown=shown,
            constraint=constraint_of(self, given, tokens, bias, compiled),
            owner=given.owner,
            low_priority=given.low_priority,
            queue_timeout=given.queue_timeout,
            total_timeout=given.total_timeout,
        )

    def cancel(self) -> None:
        """Stops all that is under way and all that waits, from any thread and in any state; those
        calls raise `Cancelled`."""
        self.engine.cancel()

    @property
    def speculation(self) -> PairStats:
        """What the drafter did so far, for all answers together; without one, the state is "off"
        and `reason` says why. Any thread may ask, also during an answer."""
        return self.engine.speculation()

    # ---- tokens and prompts ----

    def tokenize(
        self, text: Union[str, bytes], add_bos: bool = True, special: bool = False, **unknown: Any
    ) -> list[int]:
        """Token ids of a text, which may be UTF-8 bytes."""
        unknown_names("tokenize()", unknown, ("text", "add_bos", "special"))
        text, add_bos = checked_text("text", text), check_bool("add_bos", add_bos)
        return self.tokenizer.encode(
            text, add_special=add_bos, parse_special=check_bool("special", special)
        )

    def detokenize(self, tokens: Sequence[int], special: bool = False, **unknown: Any) -> str:
        """The text of token ids."""
        unknown_names("detokenize()", unknown, ("tokens", "special"))
        return self.tokenizer.decode(
            checked_ids("tokens", tokens), special=check_bool("special", special)
        )

    # ---- embeddings ----

    def embed(self, text: Texts, *, normalize: bool = True) -> Floats:
        """A vector for a text (or UTF-8 bytes, or token ids), float32 [n_embd]; for a list of texts
        a row each, [n, n_embd]. See `Context.embed`.

        They have a context of their own: what chats left in theirs stays. Raises `ContextFullError`
        for a text of more tokens than n_ctx.
        """
        check_bool("normalize", normalize)
        ids, single = self.embedding_tokens("text", text)
        rows = [self.embedder.embed(one, normalize) for one in ids]
        return rows[0] if single else np.stack(rows)

    def create_embedding(self, input: Texts, model: Optional[str] = None) -> Result:
        """The same, normalised, in the shape of OpenAI's API; model: the name in the result."""
        name = self.name if model is None else check_text("model", model)
        ids, _ = self.embedding_tokens("input", input)
        return embedding_list([self.embedder.embed(one) for one in ids], ids, name)

    def embedding_tokens(self, name: str, given: Texts) -> tuple[list[list[int]], bool]:
        """Token ids of texts to embed, with the token that texts begin with, and whether it was one
        text. name: of the argument, for sentences."""
        texts, single = listed_texts(name, given)
        names = [name] if single else [f"{name}[{at}]" for at in range(len(texts))]
        ids = [self._prompt_tokens(checked_prompt(one, of)) for one, of in zip(texts, names)]
        for one, of in zip(ids, names):
            if not one:
                raise UsageError(f"{of} is empty; it must have at least one token")
        return ids, single

    def render_chat(
        self, messages: Sequence[Message], *, tools: Optional[Tools] = None, **variables: Any
    ) -> str:
        """The prompt that `chat` would use; variables: as in chat_template_kwargs."""
        return self._chat.render(messages, tools, **checked_variables(variables))

    def chat_tokens(self, rendered: str) -> list[int]:
        """Token ids of a rendered conversation. Most templates write BOS themselves; it is not put
        a second time."""
        return self._chat.tokens(checked_text("rendered", rendered))

    def _forced_call(self, names: Sequence[str], choice: ToolChoice) -> Optional[str]:
        """The function that `tool_choice` demands a call of, "" for any; None when it demands
        none."""
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
                f"{self.name} has no known syntax for tool calls, so tool_choice cannot demand one"
            )
        return name

    def _prompt_tokens(self, prompt: Prompt) -> list[int]:
        if not isinstance(prompt, str):
            return checked_ids("prompt", prompt)
        tokens = self.tokenizer.encode(prompt)
        if not tokens and self.tokenizer.bos is not None:
            tokens = [self.tokenizer.bos]  # an empty text still has a beginning
        return tokens

    def _scored(self, tokens: list[int], found: Sequence[float]) -> tuple[TokenInfo, ...]:
        """The prompt's tokens with their log-probabilities; the first one has none."""
        stream, offset, infos = self.tokenizer.stream(), 0, []
        for token, score in zip(tokens, [None, *found]):
            text = stream.feed(token)
            infos.append(TokenInfo(token, text, offset, score))
            offset += len(text)
        return tuple(infos)

    # ---- llama-cpp-python's names ----

    create_completion = complete
    __call__ = complete
    create_chat_completion = chat

    def n_ctx(self) -> int:
        """Positions of the context, also while it is at work."""
        if self.closed:
            raise Closed("this LLM is closed")
        return self.engine.n_ctx

    def n_vocab(self) -> int:
        return self.model.n_vocab

    def token_bos(self) -> int:
        return -1 if self.tokenizer.bos is None else self.tokenizer.bos

    def token_eos(self) -> int:
        return -1 if self.tokenizer.eos is None else self.tokenizer.eos

    @property
    def metadata(self) -> Metadata:
        """The file's metadata."""
        return self._metadata

    def reset(self) -> None:
        """Empties the contexts; those of answers under way when these are over."""
        if self.closed:
            raise Closed("this LLM is closed")
        self.engine.forget()

    # ---- life ----

    def close(self) -> None:
        """Calls off what is under way and frees all. Doing it twice is fine; any later use raises
        `Closed`."""
        self.engine.close()
        self.embedder.close()
        if self._drafter is not None:
            self._drafter.close()
        if self._owns_model:
            self.tokenizer.close()
            self.model.close()

    @property
    def closed(self) -> bool:
        return self.engine.closed

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<pillion.LLM {self.name!r}{' (closed)' if self.closed else ''}>"


def _check_seed_and_template(seed: Any, chat_template: Any) -> None:
    if seed is not None:
        check_int("seed", seed, 0, SEED_MAX, "0 to 2**64 - 1, or None for a random one")
    if chat_template is not None:
        check_text(
            "chat_template",
            chat_template,
            "Jinja source or the name of one of the file's templates, a string",
        )


def _check_drafting(
    drafter: Any, draft: Any, p_min: Any, sampling: Any, dense_head: Any, strict: Any
) -> None:
    if drafter is not None and not isinstance(drafter, (str, os.PathLike, Model)):
        wrong("drafter", drafter, f"'auto', a path, a Model, {LOOKUP!r}, or None for no drafter")
    draft_length(draft)
    check_number("draft_p_min", p_min, 0, 1, "0 (off) to 1")
    check_choice("draft_sampling", sampling, DRAFT_SAMPLING)
    check_bool("draft_dense_head", dense_head), check_bool("draft_strict", strict)
