"""The requests of OpenAI's API as pydantic models.

They check types and sizes. The library checks values, with its own sentences. Unknown fields are
kept apart (`model_extra`): the answer's header names them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field

MOST = 1 << 20
"""Entries of any list that may be long."""
MOST_STOPS = 64
STOP_LENGTH = 4096


class _FirstFault(FailFast):
    __hash__ = object.__hash__  # a Union wants it


T = TypeVar("T")
Several = Annotated[list[T], _FirstFault()]
"""A list that is checked up to its first fault: a body has room for millions of faults, and each
would cost a kilobyte and its time."""

Stop = str | Several[str] | None
Draft = int | Literal["auto"] | None


class Fields(BaseModel):
    """The base: strict types, null is "not given", and unknown fields are no error."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())

    def said(self, *names: str) -> dict[str, Any]:
        """Fields of those names that are not null."""
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def ignored(self) -> list[str]:
        """Fields without effect."""
        return sorted(self.model_extra or {})


class StreamOptions(Fields):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Wishes(Fields):
    """pillion's own options: what a stream shows beside the text."""

    pieces: bool | None = None
    place: bool | None = None


class Formed(Fields):
    """The demanded form of a text. All APIs take it beside their own fields."""

    regex: str | None = None
    grammar: str | None = None
    choice: Several[str] | None = None


class Sampled(Formed):
    """Fields of both kinds of completion."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = Field(None, ge=1)
    stop: Stop = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    penalty_last_n: int | None = None
    logit_bias: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    draft: Draft = None
    cache_salt: str | None = Field(None, max_length=256)
    pillion: Wishes | None = None
    user: str | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class ChatRequest(Sampled):
    """POST /v1/chat/completions."""

    messages: Several[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: Several[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    continue_final_message: bool | None = None
    modalities: Several[str] | None = None


class CompletionRequest(Sampled):
    """POST /v1/completions."""

    prompt: str | Annotated[Several[str | int | Several[int]], Field(max_length=MOST)]
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None


class TokenizeRequest(Fields):
    """POST /tokenize."""

    content: str
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None


class DetokenizeRequest(Fields):
    """POST /detokenize."""

    tokens: Several[int]
    special: bool | None = None


class TemplateRequest(Fields):
    """POST /apply-template."""

    messages: Several[dict[str, Any]] = Field(min_length=1)
    tools: Several[dict[str, Any]] | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
