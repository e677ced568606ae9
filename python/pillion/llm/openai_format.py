"""Results in the shapes of OpenAI's API: completion and chat completion, whole and streamed, with
log-probabilities and tool calls.

Beside OpenAI's fields, each whole result and each last chunk carry `timings` (llama-server's names)
and `speculation` (what the drafter did). A choice that a stop string ended names it in
`stop_reason`, as vLLM's do.
"""

from __future__ import annotations

import binascii
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..chat.replies import At, Delta, Reply, ReplyParser
from ..engine.generation import Generation, Piece, TokenInfo
from ..tokenizer import Tokenizer
from .streams import AsyncStream, Stream

Result = dict[str, Any]
Pieces = list[tuple[str, bool]]
"""Texts, each with True if a drafter guessed it."""
Scored = Callable[[Sequence[float]], tuple[TokenInfo, ...]]


class Completion:
    """`text_completion` of one generation."""

    kind, chunk_kind, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(
        self, generation: Generation, tokenizer: Tokenizer, model: str, wants_logprobs: bool
    ) -> None:
        self._generation = generation
        self._tokenizer = tokenizer
        self._wants_logprobs = wants_logprobs
        self.head: Result = {
            "id": f"{self.prefix}-{uuid.uuid4()}",
            "created": int(time.time()),
            "model": model,
        }
        self.index = 0
        """Index of the answer among several to one request."""
        self.include_usage: bool | None = None
        """Usage in chunks. None: the last chunk has `usage`. True: it is null in each, for a chunk
        of its own follows (`usage_chunk`). False: no chunk has it."""
        self.shows_pieces = False
        """True: chunks tell which text was drafted: "pillion": {"pieces": [[text, drafted], …]}."""
        self.n_reasoning: int | None = None
        """Number of tokens of thinking; None: nobody looks for thinking."""
        self._n_parted = 0  # characters that were cut into parts
        self._drafted = False  # whether the last token was
        self.echo = ""
        """The prompt, if it stands before the answer."""
        self.media_counts: Mapping[str, int] = {}
        """Tokens of the prompt's images and sounds, and pieces in which sounds were heard."""
        self.echo_tokens: tuple[TokenInfo, ...] = ()
        self.scored: Scored | None = None
        """Makes `echo_tokens` of the prompt's log-probabilities, if they are wanted."""

    @property
    def generation(self) -> Generation:
        """The generation behind the result."""
        return self._generation

    def whole(self) -> Result:
        """Waits for the end and returns the result. Raises what ended the work."""
        return self.whole_of(self._generation.infos())

    async def awhole(self) -> Result:
        """`whole` for a task."""
        await self._generation
        return self.whole()

    def whole_of(self, tokens: Sequence[TokenInfo]) -> Result:
        """The result of a generation that has ended. tokens: all that its pieces had."""
        self._note_scores()
        tokens = [*self.echo_tokens, *tokens]
        choice = self._choice(self.echo + self._generation.text, tokens, len(self.echo))
        return self._frame(self.kind, choice, self._finish_reason())

    def chunks(self) -> Stream:
        """Returns an iterator of chunks. Closing or dropping it ends the generation."""
        return Stream(self)

    def achunks(self) -> AsyncStream:
        """`chunks` for a task."""
        return AsyncStream(self)

    # ---- the same for who runs the generation: each returns what is to be sent then ----

    def opening_chunks(self) -> list[Result]:
        """Chunks before all text. If `scored` is set they are ready with the first piece."""
        self._note_scores()
        return list(self._opening())

    def piece_chunks(self, piece: Piece) -> list[Result]:
        """Chunks of one piece; often none."""
        if not (piece.text or piece.tokens):
            return []
        return [self._chunk(choice) for choice in self._deltas(piece.text, piece.tokens)]

    def closing_chunks(self) -> list[Result]:
        """Chunks that the end makes certain, and the chunk with the finish_reason."""
        found = [self._chunk(choice) for choice in self._last_deltas()]
        return [*found, self._frame(self.chunk_kind, self._end(), self._finish_reason())]

    def usage_chunk(self, usage: Result) -> Result:
        """OpenAI's chunk without choices, which ends a stream with `include_usage`."""
        return {**self.head, "object": self.chunk_kind, "choices": [], "usage": usage}

    def _chunk(self, choice: Result) -> Result:
        pieces = choice.pop("pieces", None)
        result = self._frame(self.chunk_kind, choice, None)
        if pieces and self.shows_pieces:
            result["pillion"] = {"pieces": [list(one) for one in pieces]}
        return result

    def _frame(self, kind: str, choice: Result, finish_reason: str | None) -> Result:
        choice.pop("pieces", None)
        choices = [{"index": self.index, **choice, "finish_reason": finish_reason}]
        result: Result = {**self.head, "object": kind, "choices": choices}
        if self.include_usage:
            result["usage"] = None  # it has a chunk of its own
        if finish_reason is not None:
            if self._generation.stop is not None:
                result["choices"][0]["stop_reason"] = self._generation.stop  # vLLM's name
            if self.include_usage is None:
                result["usage"] = self.usage()
            result["timings"] = self._generation.timings.as_dict()
            result["speculation"] = self._generation.speculation.as_dict()
        return result

    def usage(self) -> Result:
        """Tokens so far, as OpenAI counts them."""
        n_prompt, n_new = len(self._generation.prompt), len(self._generation.tokens)
        found: Result = {
            "prompt_tokens": n_prompt,
            "completion_tokens": n_new,
            "total_tokens": n_prompt + n_new,
            "prompt_tokens_details": {
                "cached_tokens": self._generation.timings.cache_n,
                **self.media_counts,
            },
        }
        details = {}
        if self.n_reasoning is not None:
            details["reasoning_tokens"] = self.n_reasoning
        if self._generation.paired:
            done = self._generation.speculation
            details["accepted_prediction_tokens"] = done.accepted
            details["rejected_prediction_tokens"] = done.drafted - done.accepted
        if details:
            found["completion_tokens_details"] = details
        return found

    def _parts(
        self, text: str, tokens: Sequence[TokenInfo]
    ) -> Iterator[tuple[str, TokenInfo | None]]:
        """Cuts the text where its tokens begin. Returns parts with their tokens; None: the last
        token of the part before. Text and tokens are the next of the answer."""
        begin, at, token = self._n_parted, 0, None
        self._n_parted += len(text)
        for following in tokens:
            cut = min(max(following.offset - begin, at), len(text))
            if token is not None or cut > at:
                yield text[at:cut], token
            at, token = cut, following
        if token is not None or at < len(text):
            yield text[at:], token

    def _note_scores(self) -> None:
        scores = self._generation.prompt_scores
        if self.scored is not None and scores is not None:
            self.echo_tokens, self.scored = self.scored(scores), None

    def _spelling(self, token: int) -> str:
        return self._tokenizer.decode([token], special=True)

    # ---- what differs from chat ----

    def _opening(self) -> Iterator[Result]:
        if self.echo:
            yield self._chunk(self._choice(self.echo, self.echo_tokens, 0))

    def _choice(self, text: str, tokens: Sequence[TokenInfo], shift: int) -> Result:
        return {
            "text": text,
            "logprobs": self._logprobs(tokens, shift) if self._wants_logprobs else None,
        }

    def _deltas(self, text: str, tokens: Sequence[TokenInfo]) -> list[Result]:
        """Choices of the chunks for one piece."""
        pieces = []
        for part, token in self._parts(text, tokens):
            self._drafted = self._drafted if token is None else token.drafted
            pieces += [(part, self._drafted)] if part else []
        return [{**self._choice(text, tokens, len(self.echo)), "pieces": pieces}]

    def _last_deltas(self) -> list[Result]:
        """Choices of the chunks that the generation's end makes certain."""
        return []

    def _end(self) -> Result:
        return self._choice("", (), 0)

    def _finish_reason(self) -> str | None:
        return self._generation.finish_reason

    def _logprobs(self, tokens: Sequence[TokenInfo], shift: int) -> Result:
        n_echo = (
            len(self.echo_tokens)
            if tokens[: len(self.echo_tokens)] == list(self.echo_tokens)
            else 0
        )
        return {
            "tokens": [self._spelling(token.id) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [
                {self._spelling(other): value for other, value in token.top} if token.top else None
                for token in tokens
            ],
            "text_offset": [
                token.offset + (shift if i >= n_echo else 0) for i, token in enumerate(tokens)
            ],
        }


class ChatCompletion(Completion):
    """`chat.completion` of one generation. The parser takes thinking and tool calls out of the
    text.

    A call that broke off or cannot be read is in `malformed_tool_calls`, a list of {"text",
    "reason"}. If the model ended the answer and it has no other call, its finish_reason is
    "malformed_tool_call", never "stop". Log-probabilities list all tokens, also those of thinking
    and calls.

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
        markers: Mapping[int, str] | None = None,
    ) -> None:
        super().__init__(generation, tokenizer, model, wants_logprobs)
        self._parser = parser
        self._markers = markers or {}
        self._n_fed = 0  # characters that the parser has
        self._coming: list[At] = []  # markers beyond them
        self._n_calls = 0
        self._n_broken = 0
        self.n_reasoning = 0

    def deltas(self) -> Iterator[Delta]:
        """Runs the generation and yields what the reply grows by, without OpenAI's shapes."""
        for piece in self._generation:
            yield from self.grown(piece)
        yield from self.ended()

    def grown(self, piece: Piece) -> list[Delta]:
        """What one piece adds to the reply, for a caller who runs the generation."""
        return [delta for delta, _ in self._feed(piece.text, piece.tokens)]

    def ended(self) -> list[Delta]:
        """What the generation's end adds to the reply."""
        return self._finish()

    def _opening(self) -> Iterator[Result]:
        yield self._frame(
            self.chunk_kind, {"delta": {"role": "assistant", "content": ""}, "logprobs": None}, None
        )

    def _choice(self, text: str, tokens: Sequence[TokenInfo], shift: int) -> Result:
        reply = Reply().add([delta for delta, _ in self._feed(text, tokens)]).add(self._finish())
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
        return {
            "message": message,
            "logprobs": self._logprobs(tokens, shift) if self._wants_logprobs else None,
        }

    def _deltas(self, text: str, tokens: Sequence[TokenInfo]) -> list[Result]:
        deltas = [
            {**self._delta(delta), "pieces": pieces} for delta, pieces in self._feed(text, tokens)
        ]
        if self._wants_logprobs and tokens:
            choice = deltas[0] if deltas else self._end()
            choice["logprobs"] = self._logprobs(tokens, 0)
            return deltas or [choice]
        return deltas

    def _last_deltas(self) -> list[Result]:
        return [self._with_piece(delta) for delta in self._finish()]

    def _with_piece(self, delta: Delta) -> Result:
        text = delta.content or delta.reasoning
        return {**self._delta(delta), "pieces": [(text, self._drafted)] if text else []}

    def _feed(self, text: str, tokens: Sequence[TokenInfo]) -> list[tuple[Delta, Pieces]]:
        """Gives the parser a text and the markers among the tokens that begin in it. Counts the
        tokens of thinking. Text that belongs together is one delta, with the pieces it is made
        of."""
        for token in tokens:
            marker = self._markers.get(token.id)
            if marker is not None:  # bytes of an unfinished character may stand before it
                self._coming.append((token.offset + len(token.text) - len(marker), marker))
        grown: list[tuple[Delta, Pieces]] = []
        for part, its in self._parts(text, tokens):
            thinks = self._parser.thinking
            if its is not None:
                self._drafted = its.drafted
            for delta in self._feed_part(part):
                _append(grown, delta, self._drafted)
            if its is not None and (thinks or self._parser.thinking):
                self.n_reasoning = (self.n_reasoning or 0) + 1
        return grown

    def _feed_part(self, text: str) -> list[Delta]:
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

    def _finish_reason(self) -> str | None:
        """The finish_reason. A call that the length limit cut off is still reported as "length"."""
        reason = super()._finish_reason()
        if reason != "stop":
            return reason
        return (
            "tool_calls" if self._n_calls else "malformed_tool_call" if self._n_broken else reason
        )

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

    def _one(self, token: int, logprob: float | None) -> Result:
        raw = self._tokenizer.token_bytes(token, special=True)
        return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}


def embedding_list(
    vectors: Sequence[Any], tokens: Sequence[Sequence[int]], model: str, base64: bool = False
) -> Result:
    """OpenAI's list of embeddings. vectors: float32 [n_embd] each. tokens: of their texts. base64:
    writes vectors as base64 of their little-endian bytes."""
    data = []
    for at, vector in enumerate(vectors):
        raw = vector.astype("<f4").tobytes()
        value = binascii.b2a_base64(raw, newline=False).decode() if base64 else vector.tolist()
        data.append({"object": "embedding", "index": at, "embedding": value})
    n = sum(map(len, tokens))
    usage = {"prompt_tokens": n, "total_tokens": n}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _append(grown: list[tuple[Delta, Pieces]], delta: Delta, drafted: bool) -> None:
    """Joins text to the delta before it, if that is of the same kind."""
    text = delta.content or delta.reasoning
    pieces = [(text, drafted)] if text else []
    if grown:
        last, before = grown[-1]
        if delta.content and last.content:
            grown[-1] = (Delta(content=last.content + text), before + pieces)
            return
        if delta.reasoning and last.reasoning:
            grown[-1] = (Delta(reasoning=last.reasoning + text), before + pieces)
            return
    grown.append((delta, pieces))
