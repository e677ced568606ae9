"""The requests of OpenAI's API as pydantic models.

They check types and sizes. The library checks values, with its own sentences. Unknown fields are
kept apart (`model_extra`): the answer's header names them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional, TypeVar, Union

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

Stop = Union[str, Several[str], None]
Draft = Union[int, Literal["auto"], None]


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

    include_usage: Optional[bool] = None
    include_obfuscation: Optional[bool] = None


class Wishes(Fields):
    """pillion's own options: what a stream shows beside the text."""

    pieces: Optional[bool] = None
    place: Optional[bool] = None


class Formed(Fields):
    """The demanded form of a text. All APIs take it beside their own fields."""

    regex: Optional[str] = None
    grammar: Optional[str] = None
    choice: Optional[Several[str]] = None


class Sampled(Formed):
    """Fields of both kinds of completion."""

    model: Optional[str] = None
    stream: Optional[bool] = None
    stream_options: Optional[StreamOptions] = None
    max_tokens: Optional[int] = None
    n: Optional[int] = Field(None, ge=1)
    stop: Stop = None
    seed: Optional[int] = None
    temperature: Optional[float] = None
    top_p: Optional[float] = None
    top_k: Optional[int] = None
    min_p: Optional[float] = None
    repeat_penalty: Optional[float] = None
    frequency_penalty: Optional[float] = None
    presence_penalty: Optional[float] = None
    penalty_last_n: Optional[int] = None
    logit_bias: Optional[dict[str, Any]] = None
    response_format: Optional[dict[str, Any]] = None
    draft: Draft = None
    cache_salt: Optional[str] = Field(None, max_length=256)
    pillion: Optional[Wishes] = None
    user: Optional[str] = None
    store: Optional[bool] = None
    metadata: Optional[dict[str, Any]] = None
    service_tier: Optional[str] = None
    safety_identifier: Optional[str] = None
    prompt_cache_key: Optional[str] = None


class ChatRequest(Sampled):
    """POST /v1/chat/completions."""

    messages: Several[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: Optional[int] = None
    logprobs: Optional[bool] = None
    top_logprobs: Optional[int] = None
    tools: Optional[Several[dict[str, Any]]] = None
    tool_choice: Union[str, dict[str, Any], None] = None
    parallel_tool_calls: Optional[bool] = None
    reasoning_effort: Optional[str] = None
    chat_template_kwargs: Optional[dict[str, Any]] = None
    modalities: Optional[Several[str]] = None


class CompletionRequest(Sampled):
    """POST /v1/completions."""

    prompt: Union[str, Annotated[Several[Union[str, int, Several[int]]], Field(max_length=MOST)]]
    logprobs: Optional[int] = None
    echo: Optional[bool] = None
    suffix: Optional[str] = None


class TokenizeRequest(Fields):
    """POST /tokenize."""

    content: str
    add_special: Optional[bool] = None
    parse_special: Optional[bool] = None
    with_pieces: Optional[bool] = None


class DetokenizeRequest(Fields):
    """POST /detokenize."""

    tokens: Several[int]
    special: Optional[bool] = None


class TemplateRequest(Fields):
    """POST /apply-template."""

    messages: Several[dict[str, Any]] = Field(min_length=1)
    tools: Optional[Several[dict[str, Any]]] = None
    reasoning_effort: Optional[str] = None
    chat_template_kwargs: Optional[dict[str, Any]] = None
    add_generation_prompt: Optional[bool] = None
