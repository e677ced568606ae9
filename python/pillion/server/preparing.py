"""From a request's fields to what the engine runs, and to what makes the answer of it.

Runs in a thread: rendering and tokenising a long conversation takes a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

from ..errors import UsageError
from ..llm import LLM
from ..openai_format import ChatCompletion, Completion
from ..requests import (
    Settings,
    checked_length,
    checked_prompt,
    checked_variables,
    plain_format,
    top_logprobs_of,
)
from ..sampling import SEED_MAX, SamplingParams
from ..tools import checked_tools, tool_names
from .stand_in import Request

Fields = Mapping[str, Any]


@dataclass
class Prepared:
    """One answer to come. make: the shape that it gets, of its generation."""

    request: Request
    make: Callable[[Any], Completion]
    index: int = 0


@dataclass(frozen=True)
class Terms:
    """What the server itself says of a request."""

    owner: str = ""
    low_priority: bool = False
    queue_timeout: Optional[float] = None
    total_timeout: Optional[float] = None


def prepared_chat(llm: LLM, fields: Fields, terms: Terms = Terms()) -> list[Prepared]:
    """The answers to a conversation; fields: those of `LLM.chat`, and n."""
    given = dict(fields)
    n = given.pop("n", 1)
    messages = given.pop("messages")
    choice = given.pop("tool_choice", None)
    tools = given.pop("tools", None)
    plain_format(given.pop("response_format", None))
    logprobs, top = given.pop("logprobs", False), given.pop("top_logprobs", None)
    wanted = top_logprobs_of(logprobs, top, llm.model.n_vocab)
    listed = [] if choice == "none" else checked_tools(tools)
    forced = llm._forced_call(tool_names(listed), choice)
    variables = checked_variables(given.pop("chat_template_kwargs", None))
    prompt = llm._chat.render(messages, listed, **variables)
    names = tool_names(listed) if listed else None
    prompt = llm._chat.opening(prompt, llm._chat.parser(names), forced)
    markers = llm._chat.marker_tokens
    tokens = llm.chat_tokens(prompt)
    request = _request(llm, "chat()", tokens, {**given, "logprobs": wanted}, terms, markers)

    def make(generation: Any) -> Completion:
        parser = llm._chat.parser(names)
        llm._chat.opening(prompt, parser, forced)
        return ChatCompletion(generation, llm.tokenizer, llm.name, bool(logprobs), parser, markers)

    return several(request, make, n)


def prepared_text(llm: LLM, fields: Fields, terms: Terms = Terms()) -> list[Prepared]:
    """The continuations of one or several prompts; fields: those of `LLM.complete`, and n."""
    given = dict(fields)
    n = given.pop("n", 1)
    echo = given.pop("echo", False)
    if given.pop("suffix", None):
        raise UsageError("suffix is not supported: this library does not fill in the middle")
    plain_format(given.pop("response_format", None))
    found: list[Prepared] = []
    for one in prompts_of(given.pop("prompt")):
        text = checked_prompt(one)
        tokens = llm._prompt_tokens(text)
        request = _request(llm, "complete()", tokens, given, terms)
        before = (text if isinstance(text, str) else llm.tokenizer.decode(tokens)) if echo else ""

        def make(generation: Any, before: str = before) -> Completion:
            wants = given.get("logprobs") is not None
            made = Completion(generation, llm.tokenizer, llm.name, wants)
            made.echo = before
            return made

        found += several(request, make, n, len(found))
    return found


def prompts_of(prompt: Any) -> list[Any]:
    """One prompt, a text or ids, or a list of such."""
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return prompt
    return [prompt]


def several(
    request: Request, make: Callable[[Any], Completion], n: int, first: int = 0
) -> list[Prepared]:
    """The same n times, with seeds that follow one another."""
    found = []
    for at in range(n):
        seed = request.sampling.seed
        sampling = request.sampling
        if seed is not None and at:
            sampling = replace(sampling, seed=(seed + at) & SEED_MAX)
        found.append(Prepared(replace(request, sampling=sampling), make, first + at))
    return found


def _request(
    llm: LLM,
    call: str,
    tokens: Sequence[int],
    options: Fields,
    terms: Terms,
    shown: Any = (),
) -> Request:
    options = dict(options)
    max_tokens = checked_length(options.pop("max_tokens", None))
    given = Settings(call, options, llm.model.n_vocab)
    seed = llm.seed if given.seed is None else given.seed
    bias = {**given.logit_bias, **llm._banned}
    sampling = {**llm._defaults, **given.sampling, "seed": seed, "logit_bias": bias}
    return Request(
        prompt=list(tokens),
        sampling=SamplingParams(**sampling),
        max_tokens=max_tokens,
        stop=given.stop,
        logprobs=given.logprobs,
        draft=given.draft,
        shown=shown,
        owner=terms.owner,
        low_priority=terms.low_priority,
        queue_timeout=terms.queue_timeout,
        total_timeout=terms.total_timeout,
    )
