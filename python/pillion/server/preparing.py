"""Turns a request's fields into the engine's requests and the functions that make their answers.

It runs in a thread: rendering and tokenising a long conversation takes a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..engine.generation import Generation
from ..engine.work import Request
from ..errors import ContextFullError
from ..llm.llm import LLM
from ..llm.openai_format import Completion
from ..llm.requests import FORMS, checked_length
from ..media.media_parts import has_media
from ..sampling import SEED_MAX

Fields = Mapping[str, Any]


@dataclass
class Prepared:
    """An answer to come. make: makes its result of its generation; it serves once."""

    request: Request
    make: Callable[[Generation], Completion]
    index: int = 0
    prompt: int = 0
    """Index of its prompt in the request."""


@dataclass(frozen=True)
class Terms:
    """The server's own terms for a request."""

    owner: str = ""
    low_priority: bool = False
    queue_timeout: float | None = None
    total_timeout: float | None = None


def prepared_chat(llm: LLM, fields: Fields, terms: Terms = Terms()) -> list[Prepared]:
    """Prepares the answers to a conversation. fields: those of `LLM.chat`, and n."""
    given = {**fields, **asdict(terms), "media_files": False}
    messages = given.pop("messages")
    found: list[Prepared] = []
    for at, options in enumerate(_several(llm, given)):
        found.append(Prepared(*llm.requests.chat(messages, **options), index=at))
        _check_fits(llm, found[-1].request.prompt)
    return found


def prepared_text(llm: LLM, fields: Fields, terms: Terms = Terms()) -> list[Prepared]:
    """Prepares the continuations of one or several prompts. fields: those of `LLM.complete`, and
    n."""
    given = {**fields, **asdict(terms)}
    given["suffix"] = given.get("suffix") or None  # "": nothing stands behind
    prompts = prompts_of(given.pop("prompt"))
    found: list[Prepared] = []
    for number, prompt in enumerate(prompts):
        for options in _several(llm, dict(given)):
            if isinstance(prompt, list):
                _check_fits(llm, prompt)
            pair = llm.requests.completion(prompt, **options)
            found.append(Prepared(*pair, index=len(found), prompt=number))
            _check_fits(llm, pair[0].prompt)
    return found


def prompts_of(prompt: Any) -> list[Any]:
    """One prompt, a text or ids, or a list of such."""
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return prompt
    return [prompt]


def _check_fits(llm: LLM, prompt: list[int]) -> None:
    """As the engine does, before the other answers to it are prepared too."""
    if len(prompt) > llm.n_ctx():
        held = f"the context holds {llm.n_ctx()} (n_ctx)"
        raise ContextFullError(f"the prompt has {len(prompt)} tokens, but {held}")


def n_answers(fields: Fields) -> int:
    """Number of answers that the fields ask for."""
    n_prompts = len(prompts_of(fields["prompt"])) if "prompt" in fields else 1
    return n_prompts * int(fields.get("n") or 1)


_LONG = 65_536  # characters, token ids and other values, n times


def takes_long(fields: Fields) -> bool:
    """True if preparing may take more than a moment: it compiles a grammar, encodes images and
    sounds, or has much to render and encode."""
    if any(fields.get(name) for name in (*FORMS, "tools")) or has_media(fields.get("messages")):
        return True
    left = _LONG // int(fields.get("n") or 1)
    waiting = [fields.get("messages"), fields.get("prompt"), fields.get("logit_bias")]
    while waiting and left > 0:
        value = waiting.pop()
        if isinstance(value, str):
            left -= len(value)
        elif isinstance(value, (list, dict)):
            left -= len(value)
            if left > 0:
                waiting += value.values() if isinstance(value, dict) else value
    return left <= 0


def _several(llm: LLM, given: dict[str, Any]) -> list[dict[str, Any]]:
    """The options of each of n answers: their seeds follow one another."""
    n = given.pop("n", 1)
    checked_length(given.get("max_tokens"))
    seed = given.get("seed", llm.seed)
    if seed is None or n == 1:
        return [given] * n
    return [{**given, "seed": (seed + at) & SEED_MAX} for at in range(n)]
