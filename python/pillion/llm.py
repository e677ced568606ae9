"""`LLM`: a model, one context and the tokenizer behind two methods, `complete` and `chat`.

Argument names and defaults are llama-cpp-python's where it has them, results are shaped like OpenAI's.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, Literal, Optional, Union, overload

from .chat import ChatTemplate, Message
from .context import Context
from .errors import PairingError, UsageError
from .file_settings import metadata_text, sampling_defaults
from .generation import Generation, TokenInfo
from .model import Metadata, Model
from .openai_format import ChatCompletion, Completion, Result
from .pair import DRAFT_MAX, LOOKUP, Draft, Drafter, Pair, PairStats, draft_length
from .pairing import drafter_beside
from .placing import Placed, draft_device_for, layers_for
from .sampling import Sampler, SamplingParams
from .tokenizer import Tokenizer
from .tool_calls import CALL, CHANNEL, THINKING, THINKING_END, ReplyParser

Prompt = Union[str, Sequence[int]]
Stop = Union[str, Sequence[str], None]
Tools = Sequence[Mapping[str, Any]]
ToolChoice = Union[str, Mapping[str, Any], None]

_log = logging.getLogger("pillion")


class LLM:
    """A model ready to write.

    path: the GGUF file.
    n_ctx: positions of the context (None: the model's own, at most 4096).
    n_batch, n_threads, kv_type, flash_attn: see `Context`.
    use_mmap, device, progress: see `Model.open`.
    n_gpu_layers: layers on the device (None or -1: as many as fit beside the cache and the drafter, with a warning when that
    is not all). strict: anything of the model that would not run on the device is an error instead. device_bytes: of the device's
    memory that may be used (0: what is free).
    seed: for calls that name none; None: a random one for each call.
    chat_template: Jinja source to use in place of the file's.
    drafter: what guesses ahead: "auto": the assistant beside the model, where there is one (with
    several that fit: nothing, and a warning that lists them); a path or a Model: an assistant or any
    small model with the same vocabulary; "lookup": no model, guesses come from the text; None:
    nothing. It changes the speed, never the text. `speculation` says what came of it.
    draft: how many tokens it guesses: 0 to 8, or "auto": as many as pay off. Calls may say otherwise.
    draft_p_min, draft_dense_head, draft_strict, draft_sampling: see `Pair`.
    draft_device: where the drafter runs; "auto": on the model's device, but on the CPU for a model on the Hexagon NPU.

    One answer at a time. What the context holds is used again: a prompt that begins like the text before costs only the rest.
    """

    def __init__(
        self,
        path: Union[str, os.PathLike[str]],
        *,
        n_ctx: Optional[int] = None,
        n_batch: Optional[int] = None,
        n_threads: Optional[int] = None,
        seed: Optional[int] = None,
        kv_type: str = "f16",
        flash_attn: Union[str, bool] = "auto",
        use_mmap: bool = True,
        device: str = "auto",
        n_gpu_layers: Optional[int] = None,
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
    ) -> None:
        draft_length(draft)
        self.draft = draft
        self.seed = seed
        sizes: dict[str, Any] = {"n_ctx": n_ctx, "n_batch": n_batch, "n_threads": n_threads, "kv_type": kv_type}
        sizes["n_outputs"] = DRAFT_MAX + 1  # a pair may come later
        draft_device = draft_device_for(device, draft_device)
        layers = layers_for(
            path,
            drafter,
            device_name=device,
            draft_device=draft_device,
            n_gpu_layers=None if n_gpu_layers == -1 else n_gpu_layers,
            strict=strict,
            use_mmap=use_mmap,
            sizes={"device_bytes": device_bytes, **sizes},
        )
        opening: dict[str, Any] = {"use_mmap": use_mmap, "n_threads": n_threads}
        self.model = Model.open(path, device=device, n_gpu_layers=layers, progress=progress, **opening)
        self.pair: Optional[Pair] = None
        """The model's context with its drafter; None without one."""
        self._drafter: Optional[Model] = None  # when it was opened here
        self._no_pair = "no drafter was asked for"
        try:
            self.tokenizer: Tokenizer = self.model.tokenizer
            automatic = isinstance(drafter, str) and drafter == "auto"
            if automatic and not self.model.is_drafter:
                drafter, self._no_pair = drafter_beside(self.model)
            self.context: Context = self.model.context(flash_attn=flash_attn, **sizes)
            if drafter is not None:
                self._pair_with(
                    drafter,
                    automatic,
                    {"device": draft_device, **opening},
                    {
                        "p_min": draft_p_min,
                        "dense_head": draft_dense_head,
                        "strict": draft_strict,
                        "draft_sampling": draft_sampling,
                    },
                )
            self._metadata: Metadata = self.model.metadata
            self._defaults = sampling_defaults(self.model, self._metadata)
            self._banned = dict.fromkeys(self.tokenizer.suppressed_tokens, -float("inf"))
        except BaseException:
            self._close_drafter()
            self.model.close()
            raise
        self.name = str(self._metadata.get("general.name") or os.path.basename(self.model.path))
        """The model's name in results."""
        self._template_source = chat_template
        self._template: Optional[ChatTemplate] = None
        self._gate = threading.Lock()
        self._current: Callable[[], Optional[Generation]] = lambda: None

    def _pair_with(self, drafter: Drafter, found: bool, opening: dict[str, Any], options: dict[str, Any]) -> None:
        """Pairs the context. A drafter that was only found beside the model and does not fit it is left alone, with a warning."""
        try:
            if isinstance(drafter, os.PathLike) or (isinstance(drafter, str) and drafter != LOOKUP):
                drafter = self._drafter = Model.open(drafter, **opening)
            self.pair = Pair(self.context, drafter, **options)
        except PairingError as error:
            if not found:
                raise
            self._no_pair = f"the drafter beside the model does not fit it: {error.sentence}"
            _log.warning("%s", self._no_pair)
            self._close_drafter()

    def placement(self) -> list[Placed]:
        """Which op of the model and of its drafter runs where, by which kernel."""
        found = [Placed("target", **entry) for entry in self.context.placement()]
        if self.pair is not None:
            found += [Placed("drafter", **entry) for entry in self.pair.placement()]
        return found

    # ---- text ----

    @overload
    def complete(self, prompt: Prompt, *, stream: Literal[False] = ..., **options: Any) -> Result: ...
    @overload
    def complete(self, prompt: Prompt, *, stream: Literal[True], **options: Any) -> Iterator[Result]: ...
    @overload
    def complete(self, prompt: Prompt, *, stream: bool, **options: Any) -> Union[Result, Iterator[Result]]: ...

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
        """Continues a text (or token ids).

        max_tokens: None or -1: until the context ends.
        stop: a string or a list of them; the text ends before the first.
        logprobs: how many alternatives to list for each token.
        echo: put the prompt before the answer (with logprobs the prompt is scored too, which runs it a second time).
        stream: return an iterator of chunks; leaving it early stops the work.
        options: temperature, top_k, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty, penalty_last_n, seed,
        logit_bias, stop, draft (0 to 8 or "auto"; None: as the LLM was made). Defaults come from the file where it has them
        (`general.sampling.*`), then from `SamplingParams`.
        """
        if suffix is not None:
            raise UsageError("suffix is not supported: this library does not fill in the middle")
        tokens = self._prompt_tokens(prompt)
        generation = self.generate(tokens, max_tokens=max_tokens, logprobs=logprobs, **options)
        completion = Completion(generation, self.tokenizer, self.name, logprobs is not None)
        if echo:
            completion.echo = prompt if isinstance(prompt, str) else self.tokenizer.decode(tokens)
            completion.echo_tokens = self._score_prompt(tokens) if logprobs is not None else ()
        return completion.chunks() if stream else completion.whole()

    @overload
    def chat(self, messages: Sequence[Message], *, stream: Literal[False] = ..., **options: Any) -> Result: ...
    @overload
    def chat(self, messages: Sequence[Message], *, stream: Literal[True], **options: Any) -> Iterator[Result]: ...
    @overload
    def chat(self, messages: Sequence[Message], *, stream: bool, **options: Any) -> Union[Result, Iterator[Result]]: ...

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
        **options: Any,
    ) -> Union[Result, Iterator[Result]]:
        """Answers a conversation, a list of {"role": …, "content": …}, through the file's chat template.

        tools: OpenAI's list of functions; it reaches the template, and the model's calls come back as message["tool_calls"] with
        finish_reason "tool_calls". Without it calls stay text. Gemma 4's syntax is the one that is understood (tool_calls.py).
        tool_choice: "auto" (None); "none": as without tools; "required", or {"type": "function", "function": {"name": …}}: the
        answer is made to begin with a call, without thinking.
        Thinking goes to message["reasoning_content"], with and without tools. `stop` looks at the raw text, thinking included.
        chat_template_kwargs: more variables for the template (`{"enable_thinking": True}`).
        logprobs, top_logprobs: as in OpenAI's API.
        The rest as in `complete`.
        """
        tools = None if tool_choice == "none" else tools
        prompt = self.render_chat(messages, tools=tools, **(chat_template_kwargs or {}))
        parser = ReplyParser(thinking=self._knows(CHANNEL), calls=bool(tools) and self._knows(CALL))
        forced = self._forced_call(tools or (), tool_choice)
        if forced:
            prompt += THINKING_END + forced if prompt.endswith(THINKING) else forced
            parser.feed(forced)
        elif prompt.endswith(THINKING):  # the template began the thinking
            parser.feed(THINKING)
        tokens = self.chat_tokens(prompt)
        wanted = (top_logprobs or 0) if logprobs else None
        generation = self.generate(tokens, max_tokens=max_tokens, logprobs=wanted, **options)
        completion = ChatCompletion(generation, self.tokenizer, self.name, logprobs, parser)
        return completion.chunks() if stream else completion.whole()

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
        """The iterator under `complete` and `chat`: pieces of text with their token ids. Nothing runs before its first step."""
        chosen = {name: value for name, value in settings.items() if value is not None}
        bias = {**self._checked_bias(logit_bias or {}), **self._banned}
        params = SamplingParams(**{**self._defaults, **chosen, "seed": self.seed if seed is None else seed, "logit_bias": bias})
        if self.pair is None and draft is not None and draft_length(draft) > 0:
            raise UsageError(f"draft is {draft}, but there is no drafter: {self._no_pair}")
        if max_tokens is not None and max_tokens < -1:
            raise UsageError(f"max_tokens is {max_tokens}; it must be 0 or more, or None (or -1) for as many as fit")
        if logprobs is not None and not 0 <= logprobs <= self.model.n_vocab:
            raise UsageError(f"logprobs is {logprobs}; it must be 0 to {self.model.n_vocab}")
        generation = Generation(
            self.context,
            self.tokenizer,
            Sampler(params),
            self._prompt_tokens(prompt),
            max_tokens=None if max_tokens == -1 else max_tokens,
            stop=_stop_strings(stop),
            logprobs=logprobs,
            pair=self.pair,
            n_draft=self.draft if draft is None else draft,
            why_no_pair=self._no_pair,
        )
        with self._gate:
            before = self._current()
            if before is not None:
                before.give_way()
            self._current = weakref.ref(generation)
        return generation

    def cancel(self) -> None:
        """Stops the answer in the making, from any thread, also while the prompt is read; that call raises `Cancelled`."""
        with self._gate:
            current = self._current()
        if current is not None:
            current.cancel()

    @property
    def speculation(self) -> PairStats:
        """What the drafter did so far; without one, the state is "off" and `reason` says why."""
        return PairStats(reason=self._no_pair) if self.pair is None else self.pair.stats

    # ---- tokens and prompts ----

    def tokenize(self, text: Union[str, bytes], add_bos: bool = True, special: bool = False) -> list[int]:
        """Token ids of a text."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        return self.tokenizer.encode(text, add_special=add_bos, parse_special=special)

    def detokenize(self, tokens: Sequence[int], special: bool = False) -> str:
        """The text of token ids."""
        return self.tokenizer.decode(tokens, special=special)

    def render_chat(self, messages: Sequence[Message], **variables: Any) -> str:
        """The prompt that `chat` would use."""
        if self._template is None:
            self._template = ChatTemplate(
                self._template_text(),
                bos_token=_spelling(self.tokenizer, self.tokenizer.bos),
                eos_token=_spelling(self.tokenizer, self.tokenizer.eos),
            )
        return self._template.render(messages, **variables)

    def chat_tokens(self, rendered: str) -> list[int]:
        """Token ids of a rendered conversation. Most templates write BOS themselves; it is not put a second time."""
        bos = _spelling(self.tokenizer, self.tokenizer.bos)
        has_bos = bool(bos) and rendered.startswith(bos)
        return self.tokenizer.encode(rendered, add_special=not has_bos, parse_special=True)

    def _knows(self, marker: str) -> bool:
        """Whether the marker means something to this model: to its vocabulary or to its chat template."""
        return len(self.tokenizer.encode(marker, add_special=False, parse_special=True)) == 1 or marker in self._template_text()

    def _forced_call(self, tools: Tools, choice: ToolChoice) -> str:
        """The beginning of the answer that `tool_choice` demands."""
        if choice is None or choice in ("auto", "none"):
            return ""
        names = [str((tool.get("function") or {}).get("name")) for tool in tools]
        name = ""
        if isinstance(choice, Mapping):
            name = str((choice.get("function") or {}).get("name"))
            if name not in names:
                raise UsageError(f"tool_choice names {name!r}; the tools are {', '.join(map(repr, names)) or 'none'}")
        elif choice != "required":
            raise UsageError(f"tool_choice is {choice!r}; it can be 'auto', 'none', 'required' or a function by name")
        elif not names:
            raise UsageError("tool_choice is 'required', but there are no tools")
        if not self._knows(CALL):
            raise UsageError(f"{self.name} has no known syntax for tool calls, so tool_choice cannot demand one")
        return f"{CALL}call:{name}{{" if name else f"{CALL}call:"

    def _template_text(self) -> str:
        if self._template_source is not None:
            return self._template_source
        source = metadata_text(self.model, self._metadata, "tokenizer.chat_template")
        if not source:
            raise UsageError(
                f"{self.name} has no chat template: use complete(), or give LLM(…, chat_template=…) the template of its makers"
            )
        return source

    def _prompt_tokens(self, prompt: Prompt) -> list[int]:
        if not isinstance(prompt, str):
            return [int(token) for token in prompt]
        tokens = self.tokenizer.encode(prompt)
        if not tokens and self.tokenizer.bos is not None:
            tokens = [self.tokenizer.bos]  # an empty text still has a beginning
        return tokens

    def _score_prompt(self, tokens: list[int]) -> tuple[TokenInfo, ...]:
        """The prompt's tokens with their log-probabilities; the first one has none."""
        scores: list[Optional[float]] = [None, *self.context.score(tokens).tolist()]
        stream, offset, infos = self.tokenizer.stream(), 0, []
        for token, score in zip(tokens, scores):
            text = stream.feed(token)
            infos.append(TokenInfo(token, text, offset, score))
            offset += len(text)
        return tuple(infos)

    def _checked_bias(self, bias: Mapping[Any, float]) -> dict[int, float]:
        checked = {int(token): float(value) for token, value in bias.items()}  # JSON has string keys
        for token in checked:
            if not 0 <= token < self.model.n_vocab:
                raise UsageError(f"logit_bias names token {token}; the vocabulary has 0 to {self.model.n_vocab - 1}")
        return checked

    # ---- llama-cpp-python's names ----

    create_completion = complete
    __call__ = complete
    create_chat_completion = chat

    def n_ctx(self) -> int:
        """Positions of the context."""
        return self.context.n_ctx

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
        """Empties the context."""
        self.context.clear()

    # ---- life ----

    def close(self) -> None:
        """Frees the context, the model and what guesses ahead. Doing it twice is fine; any later use raises `Closed`."""
        self._close_drafter()
        self.context.close()
        self.tokenizer.close()
        self.model.close()

    def _close_drafter(self) -> None:
        if self.pair is not None:
            self.pair.close()
        if self._drafter is not None:
            self._drafter.close()

    @property
    def closed(self) -> bool:
        return self.context.closed

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<pillion.LLM {self.name!r}{' (closed)' if self.closed else ''}>"


def _stop_strings(stop: Stop) -> list[str]:
    stops = [stop] if isinstance(stop, str) else list(stop or [])
    if any(not isinstance(one, str) or not one for one in stops):
        raise UsageError("stop must be a string or a list of strings, none of them empty")
    return stops


def _spelling(tokenizer: Tokenizer, token: Optional[int]) -> str:
    return "" if token is None else tokenizer.token_text(token)
