"""The shapes of OpenAI's API: completion and chat completion, whole and streamed, with log-probabilities and tool calls.

Beside what OpenAI has, each whole result and each last chunk carry `timings` under llama-server's names, and `speculation`: what
the drafter did.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Optional

from ._locks import Caller, TryLock
from .errors import Busy, Cancelled
from .generation import Generation, TokenInfo
from .held import Held
from .replies import At, Delta, Reply, ReplyParser
from .tokenizer import Tokenizer

Result = dict[str, Any]


class Stream(Held, Iterator[Result]):
    """The chunks of an answer in the making. One thread at a time may ask for the next one; a
    second gets `Busy`."""

    def __init__(self, generation: Generation, chunks: Generator[Result, None, None]) -> None:
        self._generation = generation
        self._chunks = chunks
        self._inside = TryLock()

    def __next__(self) -> Result:
        caller = Caller()
        try:
            holder = self._inside.acquire(caller)
            if holder is not caller:
                if holder.is_here:
                    raise Busy("another thread waits for the next chunk of this stream")
                why = "another thread was inside it when fork() copied the process"
                raise Cancelled(f"this stream cannot go on: {why}")
            return next(self._chunks)
        finally:
            self._inside.release(caller)

    def close(self) -> None:
        """Ends the answer here, from any thread: a step under way in another one raises `Cancelled`
        there."""
        self._generation.close()
        caller = Caller()
        try:
            if self._inside.acquire(caller) is caller:
                self._chunks.close()
        finally:
            self._inside.release(caller)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Completion:
    """`text_completion` of one generation."""

    kind, chunk_kind, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, generation: Generation, tokenizer: Tokenizer, model: str, wants_logprobs: bool) -> None:
        self._generation = generation
        self._tokenizer = tokenizer
        self._wants_logprobs = wants_logprobs
        self._head = {"id": f"{self.prefix}-{uuid.uuid4()}", "created": int(time.time()), "model": model}
        self.echo = ""
        """The prompt, when it is to stand before the answer."""
        self.echo_tokens: tuple[TokenInfo, ...] = ()

    def whole(self) -> Result:
        """Runs the generation to its end. The caller is inside it already."""
        tokens: list[TokenInfo] = list(self.echo_tokens)
        for piece in self._generation.pieces():
            tokens += piece.tokens
        choice = self._choice(self.echo + self._generation.text, tokens, len(self.echo))
        return self._frame(self.kind, choice, self._finish_reason())

    def chunks(self) -> Stream:
        """Runs it chunk by chunk; closing the iterator closes the generation."""
        return Stream(self._generation, self._all_chunks())

    def _all_chunks(self) -> Generator[Result, None, None]:
        try:
            yield from self._opening()
            for piece in self._generation:
                if piece.text or piece.tokens:
                    for choice in self._deltas(piece.text, piece.tokens):
                        yield self._frame(self.chunk_kind, choice, None)
            for choice in self._last_deltas():
                yield self._frame(self.chunk_kind, choice, None)
            yield self._frame(self.chunk_kind, self._end(), self._finish_reason())
        finally:
            self._generation.close()

    def _frame(self, kind: str, choice: Result, finish_reason: Optional[str]) -> Result:
        result: Result = {**self._head, "object": kind, "choices": [{"index": 0, **choice, "finish_reason": finish_reason}]}
        if finish_reason is not None:
            n_prompt, n_new = len(self._generation.prompt), len(self._generation.tokens)
            result["usage"] = {
                "prompt_tokens": n_prompt,
                "completion_tokens": n_new,
                "total_tokens": n_prompt + n_new,
            }
            done = self._generation.speculation
            if self._generation.paired:
                result["usage"]["completion_tokens_details"] = {
                    "accepted_prediction_tokens": done.accepted,
                    "rejected_prediction_tokens": done.drafted - done.accepted,
                }
            result["timings"] = self._generation.timings.as_dict()
            result["speculation"] = done.as_dict()
        return result

    def _spelling(self, token: int) -> str:
        return self._tokenizer.decode([token], special=True)

    # ---- what differs from chat ----

    def _opening(self) -> Iterator[Result]:
        if self.echo:
            yield self._frame(self.chunk_kind, self._choice(self.echo, self.echo_tokens, 0), None)

    def _choice(self, text: str, tokens: Sequence[TokenInfo], shift: int) -> Result:
        return {"text": text, "logprobs": self._logprobs(tokens, shift) if self._wants_logprobs else None}

    def _deltas(self, text: str, tokens: Sequence[TokenInfo]) -> list[Result]:
        """The choices of the chunks for one piece."""
        return [self._choice(text, tokens, len(self.echo))]

    def _last_deltas(self) -> list[Result]:
        """What the generation's end makes certain."""
        return []

    def _end(self) -> Result:
        return self._choice("", (), 0)

    def _finish_reason(self) -> Optional[str]:
        return self._generation.finish_reason

    def _logprobs(self, tokens: Sequence[TokenInfo], shift: int) -> Result:
        n_echo = len(self.echo_tokens) if tokens[: len(self.echo_tokens)] == list(self.echo_tokens) else 0
        return {
            "tokens": [self._spelling(token.id) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [
                {self._spelling(other): value for other, value in token.top} if token.top else None for token in tokens
            ],
            "text_offset": [token.offset + (shift if i >= n_echo else 0) for i, token in enumerate(tokens)],
        }


class ChatCompletion(Completion):
    """`chat.completion` of one generation. Thinking and tool calls leave the text as far as the parser looks for them.

    A call that broke off or that cannot be read stands in `malformed_tool_calls`, a list of
    {"text", "reason"}; an answer that the model ended and that has no other call has the
    finish_reason "malformed_tool_call" then, never "stop".
    Log-probabilities list all tokens, also those of thinking and calls.

    markers: the tokens that are markers of the parser, by id.
    """

    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def __init__(
        self,
        generation: Generation,
        tokenizer: Tokenizer,
        model: str,
        wants_logprobs: bool,
        parser: ReplyParser,
        markers: Optional[Mapping[int, str]] = None,
    ) -> None:
        super().__init__(generation, tokenizer, model, wants_logprobs)
        self._parser = parser
        self._markers = markers or {}
        self._n_fed = 0  # characters that the parser has
        self._coming: list[At] = []  # markers beyond them
        self._n_calls = 0
        self._n_broken = 0

    @property
    def generation(self) -> Generation:
        """What it is made of."""
        return self._generation

    def deltas(self) -> Iterator[Delta]:
        """Runs it; what the reply grows by, without OpenAI's shapes."""
        for piece in self._generation:
            yield from self._feed(piece.text, piece.tokens)
        yield from self._finish()

    def _opening(self) -> Iterator[Result]:
        yield self._frame(self.chunk_kind, {"delta": {"role": "assistant", "content": ""}, "logprobs": None}, None)

    def _choice(self, text: str, tokens: Sequence[TokenInfo], shift: int) -> Result:
        reply = Reply().add(self._feed(text, tokens)).add(self._finish())
        message: Result = {"role": "assistant", "content": reply.content}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.calls or reply.broken:
            message["content"] = reply.content or None
        if reply.calls:
            message["tool_calls"] = [call.as_dict() for call in reply.calls]
        if reply.broken:
            message["malformed_tool_calls"] = [call.as_dict() for call in reply.broken]
        self._n_calls, self._n_broken = len(reply.calls), len(reply.broken)
        return {"message": message, "logprobs": self._logprobs(tokens, shift) if self._wants_logprobs else None}

    def _deltas(self, text: str, tokens: Sequence[TokenInfo]) -> list[Result]:
        deltas = [self._delta(delta) for delta in self._feed(text, tokens)]
        if self._wants_logprobs and tokens:
            choice = deltas[0] if deltas else self._end()
            choice["logprobs"] = self._logprobs(tokens, 0)
            return deltas or [choice]
        return deltas

    def _last_deltas(self) -> list[Result]:
        return [self._delta(delta) for delta in self._finish()]

    def _feed(self, text: str, tokens: Sequence[TokenInfo]) -> list[Delta]:
        """Gives the parser a text and the markers among the tokens that begin in it."""
        for token in tokens:
            marker = self._markers.get(token.id)
            if marker is not None:  # bytes of an unfinished character may stand before it
                self._coming.append((token.offset + len(token.text) - len(marker), marker))
        begin, end = self._n_fed, self._n_fed + len(text)
        at = [(place - begin, marker) for place, marker in self._coming if place < end]
        self._coming = [one for one in self._coming if one[0] >= end]
        self._n_fed = end
        return self._parser.feed(text, at)

    def _finish(self) -> list[Delta]:
        return self._parser.finish(complete=self._generation.finish_reason == "stop")

    def _delta(self, delta: Delta) -> Result:
        if delta.call is not None:
            body: Result = {"tool_calls": [{"index": self._n_calls, **delta.call.as_dict()}]}
            self._n_calls += 1
        elif delta.broken is not None:
            body = {"malformed_tool_calls": [{"index": self._n_broken, **delta.broken.as_dict()}]}
            self._n_broken += 1
        elif delta.reasoning:
            body = {"reasoning_content": delta.reasoning}
        else:
            body = {"content": delta.content}
        return {"delta": body, "logprobs": None}

    def _end(self) -> Result:
        return {"delta": {}, "logprobs": None}

    def _finish_reason(self) -> Optional[str]:
        """A call that the length limit cut off from what would have followed is still reported as "length"."""
        reason = super()._finish_reason()
        if reason != "stop":
            return reason
        return "tool_calls" if self._n_calls else "malformed_tool_call" if self._n_broken else reason

    def _logprobs(self, tokens: Sequence[TokenInfo], shift: int) -> Result:
        return {
            "content": [
                {
                    **self._one(token.id, token.logprob),
                    "top_logprobs": [self._one(other, value) for other, value in token.top],
                }
                for token in tokens
            ]
        }

    def _one(self, token: int, logprob: Optional[float]) -> Result:
        raw = self._tokenizer.token_bytes(token, special=True)
        return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}
