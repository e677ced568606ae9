"""`Generation`: one answer in the making. An iterator of `Piece`s that prefills, samples and decodes, one token per step.

With a pair, tokens come in rounds of several; they wait in a queue and leave it one per step, so that all else is as without.

What is not here: how prompts are made (llm.py, chat.py) and how results look (openai_format.py).
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ._locks import Caller, TryLock
from .context import Context
from .errors import Busy, Cancelled, Closed, ContextFullError, UsageError
from .held import Held
from .pair import Draft, Pair, PairStats, draft_length
from .sampling import Sampler
from .stops import StopFilter
from .tokenizer import Tokenizer

_LEFT_BEHIND = "another thread was inside it when fork() copied the process"


@dataclass
class Timings:
    """Counts and times under llama-server's names."""

    cache_n: int = 0
    """Prompt tokens that the context held already."""
    prompt_n: int = 0
    """Prompt tokens that were evaluated."""
    prompt_ms: float = 0.0
    predicted_n: int = 0
    """Generated tokens, without the one that ends the text."""
    predicted_ms: float = 0.0
    draft_n: Optional[int] = None
    """Drafted tokens; None without a drafter."""
    draft_n_accepted: int = 0

    def as_dict(self) -> dict[str, float]:
        times = {
            "cache_n": self.cache_n,
            "prompt_n": self.prompt_n,
            "prompt_ms": self.prompt_ms,
            "prompt_per_second": _per_second(self.prompt_n, self.prompt_ms),
            "predicted_n": self.predicted_n,
            "predicted_ms": self.predicted_ms,
            "predicted_per_second": _per_second(self.predicted_n, self.predicted_ms),
        }
        if self.draft_n is not None:
            times.update(draft_n=self.draft_n, draft_n_accepted=self.draft_n_accepted)
        return times


@dataclass(frozen=True)
class TokenInfo:
    """A generated token. The log-probabilities are there when they were asked for."""

    id: int
    text: str
    """The text this token completed; "" inside a character."""
    offset: int
    """Where that text begins in the answer."""
    logprob: Optional[float] = None
    top: tuple[tuple[int, float], ...] = ()
    drafted: bool = False
    """A drafter guessed it."""


@dataclass(frozen=True)
class Piece:
    """Text that is ready, and the tokens that belong to it."""

    text: str
    tokens: tuple[TokenInfo, ...] = field(default=())


class Generation(Held):
    """Iterate for pieces of text; `text`, `tokens`, `finish_reason` and `timings` tell the state at any time.

    Leaving early (break, close(), dropping the object) is fine: between two steps nothing runs. Only one generation of a
    context can go on. A new one ends it when no thread is inside it, and its next step raises
    `Cancelled`; while a thread is inside, a new one gets `Busy`. Inside is a running step, and all
    of a call that makes a whole answer.
    """

    def __init__(
        self,
        context: Context,
        tokenizer: Tokenizer,
        sampler: Sampler,
        prompt: Sequence[int],
        *,
        max_tokens: Optional[int],
        stop: Sequence[str],
        logprobs: Optional[int],
        pair: Optional[Pair] = None,
        n_draft: Draft = "auto",
        why_no_pair: str = "no drafter",
        shown: Collection[int] = (),
        caller: Optional[Caller] = None,
    ) -> None:
        """caller: is inside from the beginning, until it leaves."""
        draft_length(n_draft)
        n_ctx = context.n_ctx
        if not prompt:
            raise UsageError("the prompt is empty and the model has no token to begin a text with")
        if len(prompt) > n_ctx:
            raise ContextFullError(f"the prompt has {len(prompt)} tokens, but the context holds {n_ctx} (n_ctx)")
        room = n_ctx - len(prompt)
        self._limit = room if max_tokens is None else min(max_tokens, room)
        self._context = context
        self._tokenizer = tokenizer
        self._sampler = sampler
        self._logprobs = logprobs
        self._pair = pair
        self._n_draft = n_draft
        self._shown = shown  # control tokens whose spelling belongs to the text
        self._end_tokens = sorted(tokenizer.end_tokens)
        self._stream = tokenizer.stream()
        self._stops = StopFilter(stop)

        self._prefilled = False
        self._waiting: Optional[int] = None  # sampled, not yet decoded
        self._queue: deque[Optional[TokenInfo]] = deque()  # chosen by a round, not yet taken; None: the end token
        self._unsent: deque[TokenInfo] = deque()  # tokens whose text is still held back
        self._raw_length = 0  # characters decoded, before the stop filter
        self._sent_length = 0  # characters after it
        self._texts: list[str] = []

        self.prompt = list(prompt)
        self.tokens: list[int] = []
        """Ids of the generated tokens, without the one that ends the text."""
        self.finish_reason: Optional[str] = None
        """None until the end, then "stop" (the model or a stop string ended it) or "length" (max_tokens or the context)."""
        self.timings = Timings()
        self.speculation = PairStats(reason=why_no_pair)
        """What the drafter did for this answer; without one, the state is "off" and `reason` says why."""
        if pair is not None:
            self.timings.draft_n = 0

        self._ended_by: Optional[str] = None  # why it may not go on
        self._changes = -1  # the context's count after our last step; -1: before the first
        self._inside = TryLock()  # who is in a step or a call
        if caller is not None:
            self._inside.acquire(caller)

    @property
    def paired(self) -> bool:
        """Whether a drafter is there."""
        return self._pair is not None

    # ---- the iterator ----

    def __iter__(self) -> Generation:
        return self

    def __next__(self) -> Piece:
        """The next piece that has text. The last one may have none: it brings the tokens that are left."""
        caller = Caller()
        try:
            self._enter(caller)
            if self.finish_reason is not None:
                raise StopIteration
            return self._advance()
        finally:
            self._inside.release(caller)

    def pieces(self) -> Iterator[Piece]:
        """The rest of its pieces, for a caller who is inside already and stays there."""
        while self.finish_reason is None:
            yield self._advance()

    def run(self) -> Generation:
        """Goes on to the end, and lets nobody in on the way."""
        caller = Caller()
        try:
            self._enter(caller)
            for _ in self.pieces():
                pass
        finally:
            self._inside.release(caller)
        return self

    def leave(self, caller: Caller) -> None:
        """Ends what `caller` began."""
        self._inside.release(caller)

    def _enter(self, caller: Caller) -> None:
        if self.finish_reason is None:
            self._raise_if_ended()
        holder = self._inside.acquire(caller)
        if holder is caller:
            return
        if holder.is_here:
            raise Busy("another thread is inside this generation")
        self._ended_by = _LEFT_BEHIND
        self._raise_if_ended()

    def _advance(self) -> Piece:
        try:
            while True:
                self._raise_if_ended()
                self._raise_if_moved()
                piece = self._step()
                self._changes = self._context.changes
                if self.finish_reason is not None:
                    return piece
                self._raise_if_ended()
                if piece.text or piece.tokens:
                    return piece
        except BaseException as error:
            self._ended_by = self._ended_by or f"it ended with an error: {error}"
            raise

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    def close(self) -> None:
        """Ends it here. The context stays usable."""
        if self.finish_reason is not None or self._ended_by is not None:
            return
        holder = self._inside.holder
        if holder is not None and holder.is_here and holder.thread != Caller().thread:
            self.cancel()  # the step that another thread has begun
        else:
            self._ended_by = "it was closed"

    def cancel(self) -> None:
        """Stops it, from any thread, also during the prompt; the running step raises `Cancelled`. Returns once it has."""
        self._ended_by = self._ended_by or "it was cancelled"
        # The library forgets a cancel that comes just before its call begins, so repeat it until the step is over. From a signal
        # handler in the driving thread itself there is nothing to wait for.
        deadline = time.monotonic() + 2.0
        with contextlib.suppress(Closed):
            while time.monotonic() < deadline:
                holder = self._inside.holder
                if holder is None or not holder.is_here:
                    return
                self._context.cancel()
                if holder.thread == Caller().thread:
                    return
                time.sleep(0.002)

    def give_way(self) -> None:
        """Ends a generation that nobody is inside; raises `Busy` when another thread is."""
        if self.finish_reason is not None:
            return
        caller = Caller()
        try:
            # Nobody can enter while we hold its lock. Our own thread there is one whose way out a
            # signal cut short, or its signal handler that calls us: then the step it interrupted
            # ends with Cancelled.
            holder = self._inside.acquire(caller)
            if holder.is_here and holder.thread != caller.thread:
                why = "wait for it, or make a second LLM or context"
                raise Busy(f"another thread's generation is going on; {why}")
            self._ended_by = self._ended_by or "a newer call took over its context"
        finally:
            self._inside.release(caller)

    # ---- one step ----

    def _step(self) -> Piece:
        if not self._prefilled:
            self._prefill()
        if len(self.tokens) >= self._limit:
            return self._finish("length")

        if not self._queue:
            begin = time.perf_counter()
            self._fill_queue()
            self.timings.predicted_ms += 1e3 * (time.perf_counter() - begin)
        info = self._queue.popleft()
        if info is None:
            return self._finish("stop")

        self.tokens.append(info.id)
        self.timings.predicted_n += 1
        self._unsent.append(info)
        text = self._stops.feed(info.text)
        if self._stops.stopped:
            return self._finish("stop", text)
        if len(self.tokens) >= self._limit:
            return self._finish("length", text)
        return self._send(text)

    def _prefill(self) -> None:
        begin = time.perf_counter()
        reused = (self._pair or self._context).set_tokens(self.prompt)
        self.timings.prompt_ms = 1e3 * (time.perf_counter() - begin)
        self.timings.cache_n = reused
        self.timings.prompt_n = len(self.prompt) - reused
        self._prefilled = True
        self._raise_if_ended()
        if self._sampler.params.penalised:
            last_n = self._sampler.params.penalty_last_n
            for token in self.prompt if last_n < 0 else self.prompt[-last_n:]:
                self._sampler.accept(token)

    def _fill_queue(self) -> None:
        """The next token, or those of the next round, described while the context still has their rows."""
        if self._pair is None:
            token = self._next_token()
            self._queue.append(None if token in self._tokenizer.end_tokens else self._describe(token))
            return
        room = self._limit - len(self.tokens)
        one = self._pair.step(self._sampler, self._n_draft, room, self._end_tokens)
        self.speculation.add(one)
        if not self.speculation.kind:
            self._note_state()
        self.timings.draft_n = self.speculation.drafted
        self.timings.draft_n_accepted = self.speculation.accepted
        for row, token in enumerate(one.tokens):
            ends = one.ended and row == len(one.tokens) - 1
            self._queue.append(None if ends else self._describe(token, row, row < one.accepted))

    def _note_state(self) -> None:
        if self._pair is not None and not self._pair.closed:
            now = self._pair.stats
            for name in ("state", "reason", "kind", "head", "n_draft"):
                setattr(self.speculation, name, getattr(now, name))

    def _next_token(self) -> int:
        """Decodes the token of the step before, if there was one, and samples the next."""
        if self._waiting is not None:
            self._context.decode(self._waiting)
        token = self._sampler.sample(self._context)
        self._sampler.accept(token)
        self._waiting = token
        return token

    def _describe(self, token: int, row: int = -1, drafted: bool = False) -> TokenInfo:
        """The token with its text, and its log-probabilities while the context still has its row."""
        text = self._stream.feed(token, token in self._shown)
        offset = self._raw_length
        self._raw_length += len(text)
        if self._logprobs is None:
            return TokenInfo(token, text, offset, drafted=drafted)
        found = self._context.logprobs(row, k=self._logprobs, token=token)
        return TokenInfo(token, text, offset, found.token, tuple(found.top), drafted)

    # ---- what goes out ----

    def _send(self, text: str) -> Piece:
        """Text that passed the stop filter, with the tokens that begin before its end."""
        if not text:
            return Piece("")
        self._texts.append(text)
        self._sent_length += len(text)
        ready = []
        while self._unsent and self._unsent[0].offset < self._sent_length:
            ready.append(self._unsent.popleft())
        return Piece(text, tuple(ready))

    def _finish(self, reason: str, text: str = "") -> Piece:
        """The last piece: what the stop filter and the decoder still hold, unless a stop string cut it off."""
        if not self._stops.stopped:
            text += self._stops.feed(self._stream.flush())
        if self._stops.stopped:
            reason = "stop"
        else:
            text += self._stops.flush()
        self.finish_reason = reason
        self._note_state()
        piece = self._send(text)
        if self._stops.stopped:
            self._unsent.clear()
        rest = tuple(self._unsent)
        self._unsent.clear()
        return Piece(piece.text, piece.tokens + rest)

    def _raise_if_ended(self) -> None:
        if self._ended_by is not None:
            raise Cancelled(f"this generation cannot go on: {self._ended_by}")

    def _raise_if_moved(self) -> None:
        """Somebody may have used the context itself between two steps; the text would go on from
        what that left."""
        if self._changes not in (-1, self._context.changes):
            self._ended_by = "its context was used for something else"
            self._raise_if_ended()


def _per_second(n: int, ms: float) -> float:
    return 1e3 * n / ms if ms > 0 else 0.0
