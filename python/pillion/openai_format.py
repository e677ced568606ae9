"""The shapes of OpenAI's API: completion and chat completion, whole and streamed, with log-probabilities.

Beside what OpenAI has, each whole result and each last chunk carry `timings` under llama-server's names.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from .generation import Generation, TokenInfo
from .tokenizer import Tokenizer

Result = dict[str, Any]


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
        """Runs the generation to its end."""
        tokens: list[TokenInfo] = list(self.echo_tokens)
        for piece in self._generation:
            tokens += piece.tokens
        choice = self._choice(self.echo + self._generation.text, tokens, len(self.echo))
        return self._frame(self.kind, choice, self._generation.finish_reason)

    def chunks(self) -> Iterator[Result]:
        """Runs it chunk by chunk; closing the iterator closes the generation."""
        try:
            yield from self._opening()
            for piece in self._generation:
                if piece.text or piece.tokens:
                    yield self._frame(self.chunk_kind, self._delta(piece.text, piece.tokens, len(self.echo)), None)
            yield self._frame(self.chunk_kind, self._delta("", (), 0), self._generation.finish_reason)
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
            result["timings"] = self._generation.timings.as_dict()
        return result

    def _spelling(self, token: int) -> str:
        return self._tokenizer.decode([token], special=True)

    # ---- what differs from chat ----

    def _opening(self) -> Iterator[Result]:
        if self.echo:
            yield self._frame(self.chunk_kind, self._choice(self.echo, self.echo_tokens, 0), None)

    def _choice(self, text: str, tokens: Sequence[TokenInfo], shift: int) -> Result:
        return {"text": text, "logprobs": self._logprobs(tokens, shift) if self._wants_logprobs else None}

    def _delta(self, text: str, tokens: Sequence[TokenInfo], shift: int) -> Result:
        return self._choice(text, tokens, shift)

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
    """`chat.completion` of one generation."""

    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def _opening(self) -> Iterator[Result]:
        yield self._frame(self.chunk_kind, {"delta": {"role": "assistant", "content": ""}, "logprobs": None}, None)

    def _choice(self, text: str, tokens: Sequence[TokenInfo], shift: int) -> Result:
        message = {"role": "assistant", "content": text}
        return {"message": message, "logprobs": self._logprobs(tokens, shift) if self._wants_logprobs else None}

    def _delta(self, text: str, tokens: Sequence[TokenInfo], shift: int) -> Result:
        logprobs = self._logprobs(tokens, shift) if self._wants_logprobs and tokens else None
        return {"delta": {"content": text} if text else {}, "logprobs": logprobs}

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
