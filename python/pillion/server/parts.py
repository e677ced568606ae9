"""Shared by the adapters: what a request of another API asks for, and what an answer grows by, read
from OpenAI's chunks and results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..arguments import shown
from ..errors import UsageError


@dataclass
class ChatCall:
    """A request of another API, as arguments of `LLM.chat`."""

    model: str
    messages: list[dict[str, Any]]
    """OpenAI's shape."""
    options: dict[str, Any] = field(default_factory=dict)
    """More arguments of `LLM.chat`."""
    max_tokens: int | None = None
    stream: bool = False
    ignored: list[str] = field(default_factory=list)
    """Names of the request's fields and tools without effect."""


@dataclass(frozen=True)
class Part:
    """What an answer grew by."""

    kind: str
    """"text"; "thinking"; "call": a tool call begins; "arguments": of the call that began last."""
    text: str = ""
    """The text, the thinking, or a piece of the arguments' JSON."""
    id: str = ""
    name: str = ""
    """Of a call."""


@dataclass(frozen=True)
class End:
    """How an answer ended."""

    reason: str
    """OpenAI's finish_reason, or "malformed_tool_call"."""
    stop: str | None
    """The stop string that ended it, where that is known."""
    prompt: int
    """Tokens of the prompt, including cached ones."""
    cached: int
    written: int
    thought: int
    """Number of written tokens that were thinking."""


def data_url(where: str, url: Any) -> str:
    """The URL of a medium, which must hold its data. Raises `UsageError` for any other."""
    if not isinstance(url, str) or url[:5].lower() != "data:":
        said = f"{where} is {shown(url)}; this server fetches nothing"
        raise UsageError(f"{said}: send the data itself, data:…;base64,…")
    return url


class ChunkReader:
    """Feed it the chunks of a stream, or one whole result."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._stop: str | None = None
        self._usage: Mapping[str, Any] = {}
        self._cached = 0
        self._calls: set[int] = set()

    def feed(self, chunk: Mapping[str, Any]) -> list[Part]:
        """Returns the parts that a chunk, or a whole result, adds."""
        self._usage = chunk.get("usage") or self._usage
        self._cached = (chunk.get("timings") or {}).get("cache_n", self._cached)
        parts: list[Part] = []
        for choice in chunk.get("choices") or ():
            self._reason = choice.get("finish_reason") or self._reason
            stop = choice.get("stop_reason")
            self._stop = stop if isinstance(stop, str) else self._stop
            parts += self._parts(choice.get("delta") or choice.get("message") or {})
        return parts

    def _parts(self, grown: Mapping[str, Any]) -> Iterator[Part]:
        if grown.get("reasoning_content"):
            yield Part("thinking", grown["reasoning_content"])
        if grown.get("content"):
            yield Part("text", grown["content"])
        for number, call in enumerate(grown.get("tool_calls") or ()):
            yield from self._call(call.get("index", number), call)
        for broken in grown.get("malformed_tool_calls") or ():
            # the other shapes have no field for one
            yield Part("text", f"[a tool call that cannot be read: {broken['reason']}]")

    def _call(self, index: int, call: Mapping[str, Any]) -> Iterator[Part]:
        function = call.get("function") or {}
        if index not in self._calls:
            self._calls.add(index)
            yield Part("call", id=call["id"], name=function["name"])
        if function.get("arguments"):
            yield Part("arguments", function["arguments"])

    @property
    def end(self) -> End:
        """Tells how the answer ended, once all chunks were fed."""
        prompt = self._usage.get("prompt_tokens_details") or {}
        written = self._usage.get("completion_tokens_details") or {}
        return End(
            reason=self._reason or "stop",
            stop=self._stop,
            prompt=self._usage.get("prompt_tokens", 0),
            cached=prompt.get("cached_tokens", self._cached),
            written=self._usage.get("completion_tokens", 0),
            thought=written.get("reasoning_tokens", 0),
        )
