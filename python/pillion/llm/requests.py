"""Checks the arguments of a call of `LLM`. Each wrong value raises `UsageError`, which names the
argument and what is allowed."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping
from typing import Any

from ..arguments import check_bool, check_int, check_number, check_text, unknown_names, wrong
from ..engine.stops import stop_strings
from ..errors import UsageError
from ..pair import Draft, draft_length
from ..sampling import SEED_MAX, SamplingParams, checked_seed
from ..tokenizer import Tokenizer

_WHOLE = ("top_k", "penalty_last_n")
_SAMPLING = tuple(
    one.name for one in dataclasses.fields(SamplingParams) if one.name not in ("seed", "logit_bias")
)
FORMS = ("response_format", "regex", "grammar", "choice")
"""Arguments that fix the form of a text."""
_TERMS = ("owner", "low_priority", "queue_timeout", "total_timeout")
_OTHERS = (
    "stop",
    "logprobs",
    "seed",
    "logit_bias",
    "draft",
    "logits_processor",
    "stopping_criteria",
    *FORMS,
    *_TERMS,
)
_OF_A_CALL = {
    "complete()": ("prompt", "stream", "max_tokens", "echo", "suffix", "media_files"),
    "chat()": (
        "messages",
        "stream",
        "max_tokens",
        "tools",
        "tool_choice",
        "chat_template_kwargs",
        "top_logprobs",
        "parallel_tool_calls",
        "enable_thinking",
        "continue_final_message",
        "media_files",
    ),
    "generate()": ("prompt", "max_tokens"),
}


class Settings:
    """The keyword arguments that `complete`, `chat` and `generate` share; None: not given.

    call: its name, for sentences. n_vocab: tokens of the vocabulary.
    """

    def __init__(self, call: str, given: Mapping[str, Any], n_vocab: int) -> None:
        unknown_names(
            call, given.keys() - set(_SAMPLING + _OTHERS), (*_SAMPLING, *_OTHERS, *_OF_A_CALL[call])
        )
        said = {name: value for name, value in given.items() if value is not None}
        self.sampling = {
            name: check_int(name, said[name]) if name in _WHOLE else check_number(name, said[name])
            for name in _SAMPLING
            if name in said
        }
        seed = "a whole number from 0 to 2**64 - 1, or None"
        self.seed = check_int("seed", said["seed"], -1, SEED_MAX, seed) if "seed" in said else None
        self.stop = stop_strings(said.get("stop"))
        alternatives = said.get("logprobs")
        self.logprobs = (
            None if alternatives is None else check_int("logprobs", alternatives, 0, n_vocab)
        )
        self.logit_bias = checked_bias(said.get("logit_bias", {}), n_vocab)
        self.draft: Draft | None = said.get("draft")
        if self.draft is not None:
            draft_length(self.draft)
        self.forms = {name: said[name] for name in FORMS if name in said}
        """The demanded form of the text."""
        self.logits_processor: Any = said.get("logits_processor")
        self.stopping_criteria: Any = said.get("stopping_criteria")
        self.owner = check_text("owner", said.get("owner", ""))
        self.low_priority = check_bool("low_priority", said.get("low_priority", False))
        self.queue_timeout, self.total_timeout = (
            check_number(name, said[name], above=0, allowed="seconds, above 0")
            if name in said
            else None
            for name in ("queue_timeout", "total_timeout")
        )


def check_seed_and_template(seed: Any, chat_template: Any) -> None:
    """Raises `UsageError` for a wrong value of these arguments of `LLM`."""
    checked_seed(seed, "0 to 2**64 - 1, or None for a random one")
    if chat_template is not None:
        allowed = "Jinja source or the name of one of the file's templates, a string"
        check_text("chat_template", chat_template, allowed)


def checked_length(max_tokens: Any) -> int | None:
    """The most tokens to write; None: as many as fit."""
    if max_tokens is None:
        return None
    found = check_int(
        "max_tokens", max_tokens, -1, None, "0 or more, or None (or -1) for as many as fit"
    )
    return None if found == -1 else found


def checked_prompt(prompt: Any, name: str = "prompt") -> str | list[int]:
    """A text, which may be UTF-8 bytes, or token ids."""
    if isinstance(prompt, (str, bytes, bytearray)):
        return checked_text(name, prompt)
    return checked_ids(name, prompt, "a string, UTF-8 bytes or a list of token ids")


def checked_text(name: str, text: Any) -> str:
    """A text, which may be UTF-8 bytes."""
    if isinstance(text, (bytes, bytearray)):
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{name} is bytes that are not UTF-8: byte {error.start} is "
                f"0x{text[error.start]:02X}; decode it first"
            ) from None
    if not isinstance(text, str):
        wrong(name, text, "a string or UTF-8 bytes")
    return text


def checked_ids(name: str, tokens: Any, allowed: str = "a list of token ids") -> list[int]:
    """A list of token ids."""
    if isinstance(tokens, (str, bytes, bytearray, Mapping)):
        wrong(name, tokens, allowed)
    try:
        listed = list(tokens)
    except TypeError:
        wrong(name, tokens, allowed)
    return [
        check_int(f"{name}[{at}]", token, None, None, "a token id, a whole number")
        for at, token in enumerate(listed)
    ]


def checked_bias(bias: Any, n_vocab: int) -> dict[int, float]:
    """{token: number added to its logit}. Keys may be texts, as in JSON."""
    if not isinstance(bias, Mapping):
        wrong("logit_bias", bias, "a mapping of token ids to numbers")
    checked = {}
    for key, value in bias.items():
        try:
            token = int(key) if isinstance(key, str) else operator.index(key)
        except (TypeError, ValueError):
            wrong("a key of logit_bias", key, "a token id")
        if not 0 <= token < n_vocab:
            raise UsageError(
                f"logit_bias names token {token}; the vocabulary has 0 to {n_vocab - 1}"
            )
        banned = isinstance(value, float) and value == -math.inf
        checked[token] = (
            value
            if banned
            else check_number(f"logit_bias[{token}]", value, allowed="a finite number or -inf")
        )
    return checked


def top_logprobs_of(logprobs: Any, top: Any, n_vocab: int) -> int | None:
    """Number of alternatives that a chat lists for each token; None: no log-probabilities."""
    if logprobs is not None and not isinstance(logprobs, bool):
        wrong("logprobs", logprobs, "True or False in chat(); top_logprobs says how many")
    found = 0 if top is None else check_int("top_logprobs", top, 0, n_vocab)
    return found if logprobs else None


def checked_variables(variables: Any, enable_thinking: Any = None) -> dict[str, Any]:
    """Variables for a chat template. enable_thinking: one of them; None: not given."""
    if enable_thinking is not None:
        thinks = check_bool("enable_thinking", enable_thinking)
        return {**checked_variables(variables), "enable_thinking": thinks}
    if variables is None:
        return {}
    if not isinstance(variables, Mapping) or any(not isinstance(name, str) for name in variables):
        wrong("chat_template_kwargs", variables, "a mapping of names to values")
    taken = sorted({"messages", "tools"} & set(variables))
    if taken:
        raise UsageError(
            f"chat_template_kwargs names {', '.join(taken)}; give it as an argument of its own"
        )
    return dict(variables)


def newline_token(tokenizer: Tokenizer) -> int:
    """The token of a line's end; -1: it is not a single token."""
    last = tokenizer.encode("\n", add_special=False)[-1:]
    return last[0] if last and tokenizer.token_bytes(last[0]) == b"\n" else -1
