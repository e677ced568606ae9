"""`Slot`: a context with what guesses ahead, that writes one text after the other. One thread at a
time; the engine's.

The mechanism only: a part of a prompt, or a round, when it is told to.
"""

from __future__ import annotations

import contextlib
import operator
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..constraint import constrained_round
from ..context import Context
from ..errors import Busy, Cancelled, Closed, UsageError
from ..model import Model
from ..pair import Drafter, Pair, PairStats, Round
from .assembler import Piece, TextAssembler
from .work import Work


class Moved(Cancelled):
    """The context isn't where the request left it."""

    def __init__(self) -> None:
        super().__init__("this generation cannot go on: its context was used for something else")


@dataclass
class Parts:
    """What a slot is made of; it can be made again."""

    model: Model
    sizes: dict[str, Any] = field(default_factory=dict)
    """Arguments of `Context`."""
    drafter: Drafter | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of `Pair`."""
    why_no_pair: str = "no drafter was asked for"

    def context(self) -> Context:
        return Context(self.model, **self.sizes)

    def pair(self, context: Context) -> Pair:
        return Pair(context, self.drafter, **self.options)


class Slot:
    """See the module. `context` and `pair` may be used directly between the requests; what the next
    one finds there is only what it need not read again."""

    def __init__(self, index: int, parts: Parts) -> None:
        self.index = index
        self._parts = parts
        self.context = parts.context()
        try:
            self.pair = parts.pair(self.context)
        except BaseException:
            self.context.close()
            raise
        self._known = self._before = self.pair.stats  # as last read; as the request found them
        self.n_batch = operator.index(parts.sizes.get("n_batch") or 512)
        """Most rows of one run."""
        self.work: Work | None = None
        self.owner = ""
        """Whose text the context holds."""
        self.forget = False
        """What the context holds is to be dropped before the next request."""
        self.last_round: Round | None = None
        """The round of the last turn; None without a drafter."""
        self._prompt: Any = None
        self._at = 0  # tokens of the prompt that are in place, as far as is known
        self._began = False
        self._changes = -1  # the context's count after our last turn
        self._ends: list[int] = sorted(parts.model.tokenizer.end_tokens)
        self._end_array: Any = np.array(
            self._ends, dtype=np.int32
        )  # needs no conversion in a round

    @property
    def drafts(self) -> bool:
        """Whether there is a drafter."""
        return self._parts.drafter is not None

    def speculation(self) -> PairStats:
        """What its drafter did so far; during a request, until its last turn. Any thread may ask:
        the pair itself would be busy, and would find us busy."""
        if not self.drafts:
            return PairStats(reason=self._parts.why_no_pair)
        return self._known if self.work is not None else self.pair.stats

    # ---- a request ----

    def serves(self, owner: str) -> bool:
        """Whether what it holds may be used for that owner."""
        return self.owner in ("", owner)

    def match(self, prompt: Any, owner: str) -> tuple[int, int]:
        """Tokens of a prompt (int32 array) that need not run here, and how many others it holds."""
        held = self.context.n_past
        if self.forget or not self.serves(owner):
            return 0, held
        found = self.context.match(prompt)
        return found.usable, held - found.common

    def begin(self, work: Work) -> int:
        """Takes a request. Returns how many tokens of its prompt are to be read."""
        request = work.request
        self._prompt = work.prompt
        self._began, self._changes = False, -1
        if self.forget or not self.serves(request.owner):
            self.context.clear()
        self.forget, self.owner = False, request.owner
        if self.drafts:
            work.timings.draft_n = 0
        else:
            work.counts = (PairStats(), PairStats(reason=self._parts.why_no_pair))
        self._at = self.context.match(self._prompt).usable
        self._known = self._before = self.pair.stats
        self.work = work
        return len(self._prompt) - self._at

    def read(self, n_rows: int) -> tuple[int, int]:
        """Reads at most so many tokens of the prompt. Returns how many ran, and how many are left;
        with none left the first turn may come.

        It finds its way whatever somebody else did to the context since the last part.
        """
        work = self._of()
        if work.request.scores_prompt and work.prompt_scores is None:
            work.prompt_scores = self.context.score(self._prompt).tolist()
            self._at = self.context.match(self._prompt).usable
        begin = time.perf_counter()
        n = len(self._prompt)
        is_last = n - self._at <= n_rows
        if is_last:
            reused, at = self._sync(), n
        else:
            reused = self.context.read(self._prompt, n_rows)
            at = min(reused + n_rows, n - 1)
        times = work.timings
        times.prompt_ms += 1e3 * (time.perf_counter() - begin)
        if not self._began:
            self._began = True
            times.cache_n = reused
        times.prompt_n = n - times.cache_n
        ran, self._at = at - reused, at
        if is_last:
            self._accept_prompt(work)
        return ran, n - at

    def _sync(self) -> int:
        """Lets the context hold the prompt and nothing else. Returns how much of it was there."""
        before = self.context.changes
        reused = self.pair.sync(self._prompt)
        self._changes = before + 1  # more, if somebody came since: the first turn sees that
        return reused

    def _accept_prompt(self, work: Work) -> None:
        """Tells the penalties what stands before the text."""
        params, prompt = work.request.sampling, work.request.prompt
        if not params.penalised or work.sampler is None:
            return
        last_n = params.penalty_last_n
        for token in prompt if last_n < 0 else prompt[-last_n:]:
            work.sampler.accept(token)

    def turn(self) -> list[Piece]:
        """One round; without a drafter that is one token. With the text's end
        `work.assembler.finish_reason` is there."""
        work = self._of()
        text = work.assembler
        self.last_round = None
        if text.room <= 0:
            self._read_counts(work)
            return [text.finish("length")]
        begin = time.perf_counter()
        if not text.tokens and self._moved(0):
            self._sync()  # nothing is lost yet: the prompt finds its way again
        self._raise_if_moved(0)
        try:
            pieces = self._round(work)
        except Busy:
            raise
        except UsageError:  # its rows may be gone because somebody came between two of our calls
            self._raise_if_moved(1)
            if self.context.n_past != self._expected(text):
                raise Moved() from None
            raise
        if work.constraint is None:
            self._raise_if_moved(1)
        self._changes = self.context.changes
        work.timings.predicted_n = len(text.tokens)
        work.timings.predicted_ms += 1e3 * (time.perf_counter() - begin)
        constraint = work.constraint
        if constraint is not None and constraint.stopped and text.finish_reason is None:
            pieces.append(text.finish("stop"))
        return pieces

    def _expected(self, text: TextAssembler) -> int:
        """The context's length before a round."""
        return len(self._prompt) + max(len(text.tokens) - 1, 0)

    def _moved(self, own: int) -> bool:
        """own: changes that are this turn's."""
        return bool(self.context.changes - self._changes > own)

    def _raise_if_moved(self, own: int) -> None:
        if self._moved(own):
            raise Moved()

    def _round(self, work: Work) -> list[Piece]:
        request, text, sampler, pair = work.request, work.assembler, work.sampler, self.pair
        assert sampler is not None
        draft = "auto" if request.draft is None else request.draft
        if work.constraint is not None:
            one = constrained_round(pair, sampler, work.constraint, draft, text.room, self._ends)
        else:
            one = pair.step(sampler, draft, text.room, self._end_array)
        # A reading costs 10 µs, a twentieth of a tiny model's token: rounds without drafts wait.
        is_read = bool(one.drafted or one.forced or one.ended)
        if self.drafts:
            self.last_round = one
            if is_read:
                self._read_counts(work)
        pieces = []
        for row, token in enumerate(one.tokens):
            if one.ended and row == len(one.tokens) - 1:
                piece: Piece | None = text.finish("stop")
            else:
                piece = self._add(work, token, row, row < one.accepted)
            if piece is not None:
                pieces.append(piece)
            if text.finish_reason is not None:
                break
        if self.drafts and not is_read and text.finish_reason is not None:
            with contextlib.suppress(Moved):  # the text is complete
                self._read_counts(work)
        return pieces

    def _add(self, work: Work, token: int, row: int, drafted: bool) -> Piece | None:
        """The token's text, and its log-probabilities while the context still has its row."""
        k = work.request.logprobs
        try:
            found = None if k is None else self.context.logprobs(row, k=k, token=token)
        except Busy:  # the round is over: it can't come again
            raise Moved() from None
        return work.assembler.add(token, drafted, found)

    def _read_counts(self, work: Work) -> None:
        """Reads what the drafter did, as the library counts it."""
        try:
            self._known = self.pair.stats
        except Busy:  # the round is over: it can't come again
            raise Moved() from None
        now, before = self._known, self._before
        work.counts = (before, now)
        work.timings.draft_n = now.drafted - before.drafted
        work.timings.draft_n_accepted = now.accepted - before.accepted

    def again(self) -> None:
        """A turn was broken off that is to come once more; nothing of it happened."""
        self._changes = self.context.changes

    def save(self, path: str) -> None:
        """Saves what the context holds."""
        self.mend()
        self.context.save(path)

    def load(self, path: str, owner: str) -> int:
        """Holds a saved text of that owner afterwards. Returns how many tokens ran for it. Raises
        `Busy` during a request."""
        if self.work is not None:
            raise Busy(f"slot {self.index} writes an answer: load when that is over")
        self.mend()
        ran = self.context.load(path)
        self.owner, self.forget = owner, False
        return ran

    def end(self) -> None:
        """The request is over, by its own end or another."""
        self.leave()
        if self.forget:
            self.context.clear()
            self.forget, self.owner = False, ""

    def leave(self) -> None:
        """Lets go of the request, whatever state the context is in."""
        self.work = None
        self._prompt = None

    def _of(self) -> Work:
        assert self.work is not None
        return self.work

    # ---- life ----

    def mend(self) -> None:
        """Makes the context anew where it can't be used any more: another thread was inside it when
        fork() copied the process, or a device failed it. One that was closed stays closed."""
        if self.context.closed:
            return
        try:
            self.context.n_past  # noqa: B018 - raises what is wrong
        except Closed:
            self._renew()

    def _renew(self) -> None:
        context = self._parts.context()
        try:
            pair = self._parts.pair(context)
        except BaseException:
            context.close()
            raise
        self.close()
        self.context, self.pair, self.owner, self.forget = context, pair, "", False

    def close(self) -> None:
        self.pair.close()
        self.context.close()
