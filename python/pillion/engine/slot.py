"""`Slot`: a context with what guesses ahead, that writes one text after the other. One thread at a
time; the engine's.

The mechanism only: it makes its part of a turn, and reads what came of it.
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

import numpy as np

from ..constraint import expected_drafts
from ..context import Context
from ..errors import Busy, Cancelled, Closed, OutOfMemoryError, UsageError
from ..pair import DRAFT_MAX, PairStats, Round
from .assembler import Piece
from .machine import Machine, Part, Parts
from .prefixes import Prefixes
from .work import Work


class Moved(Cancelled):
    """The context isn't where the request left it."""

    def __init__(self) -> None:
        super().__init__("this generation cannot go on: its context was used for something else")


class Source(Protocol):
    """What a slot may take the beginning of its text from."""

    context: Context
    shares: bool
    has_shared: bool


class Slot:
    """See the module. `context` and `pair` may be used directly between the requests; what the next
    one finds there is only what it need not read again."""

    def __init__(self, index: int, parts: Parts) -> None:
        self.index = index
        self._parts = parts
        self._make()
        self.n_batch = parts.n_batch
        """Most rows of a part of a prompt."""
        self.work: Work | None = None
        self.owner = ""
        """Whose text the context holds."""
        self.forget = False
        """What the context holds is to be dropped before the next request."""
        self.last_round: Round | None = None
        """The round of the last turn; None without a drafter."""
        self.has_shared = False
        """Since it was empty, another slot and it have shared pages."""
        self.shares = False
        """The page that it writes to next may be another slot's too."""
        self.unclean: Part | None = None
        """What is still to be given up: somebody else was inside."""
        self.prompt_length = 0
        """Of the text that it holds; 0: unknown."""
        self.outputs_most = parts.outputs_most
        """Most rows with outputs of a turn."""
        self.reads_apart = parts.few_rows > 0
        """A turn has rounds or prompts, never both."""
        self._part: Part | None = None
        self._text: Any = None  # int32 array: what is to be read before the first round
        self._began = False
        self._mark: Any = None  # of the sampler, before a constraint's choice
        self._changes = -1  # the context's count after our last turn
        self._ends: list[int] = sorted(parts.model.tokenizer.end_tokens)
        self._end_array: Any = np.array(
            self._ends, dtype=np.int32
        )  # needs no conversion in a round

    def _make(self) -> None:
        self.context = self._parts.context()
        try:
            self.pair = self._parts.pair(self.context)
        except BaseException:
            self.context.close()
            raise
        self._version = self._parts.version
        self._known = self.pair._reading()
        self._before = self._known.stats  # as the request found them

    @property
    def drafts(self) -> bool:
        """Whether there is a drafter."""
        return self._parts.drafter is not None

    def speculation(self) -> PairStats:
        """What its drafter did so far; during a request, until its last turn. Any thread may ask:
        the pair itself would be busy, and would find us busy."""
        if not self.drafts:
            return PairStats(reason=self._parts.why_no_pair)
        return self._known.stats if self.work is not None else self.pair.stats

    @property
    def length(self) -> int:
        """Tokens that it holds; 0 while somebody else is inside."""
        try:
            return 0 if self.context.closed else self.context.n_past
        except (Busy, Closed):
            return 0

    # ---- a request ----

    def shared(self, owner: str) -> bool:
        """Whether another slot may take over what it holds for that owner."""
        return self.length > 0 and self.serves(owner)

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
        """Takes a request, also one that was parked, whose text so far is read like a prompt.
        Returns how many tokens are to be read."""
        request, so_far = work.request, work.assembler.tokens
        self._text, self.prompt_length = work.prompt, len(work.prompt)
        if so_far:
            self._text = np.concatenate([work.prompt, np.array(so_far, dtype=np.int32)])
        self._began, self._changes, self.shares = bool(so_far), -1, self.has_shared
        if self.forget or not self.serves(request.owner):
            self.context.clear()
        self.forget, self.owner = False, request.owner
        if work.kept is not None:
            self.context.set_state(work.kept)
            work.kept = None
        if self.drafts:
            work.timings.draft_n = 0
        else:
            work.no_drafter = self._parts.why_no_pair
        usable = self.context.match(self._text).usable
        self._known = self.pair._reading()
        self._before = self._known.stats - work.speculation  # of its turns before it was parked
        by_steps = work.constraint is not None
        self._part = Part(self.pair, work.sampler, self._end_array, by_steps)
        self.work = work
        return len(self._text) - usable

    def share(self, source: Source, length: int, owner: str) -> None:
        """Holds the beginning of what a source holds, whose pages they share."""
        if self.forget or not self.serves(owner):
            self.context.clear()
            self.forget = False
        self.context.share(source.context, length)
        self.owner = owner
        self.shares = source.shares = self.has_shared = source.has_shared = True

    @property
    def text_length(self) -> int:
        """Tokens that are read before the first round."""
        return 0 if self._text is None else len(self._text)

    @property
    def width(self) -> int:
        """Rows of the request's rounds that can't be cut."""
        draft = self._of().request.draft
        return 1 + self._n_draft(draft) if isinstance(draft, int) and self.drafts else 1

    def _n_draft(self, draft: int) -> int:
        return min(draft, self._parts.n_outputs - 1)

    # ---- a turn ----

    def read(self, n_rows: int) -> Part:
        """Its part of a turn: at most so many tokens of the prompt, which finds its way whatever
        somebody else did to the context. With its last token the text's first one is chosen."""
        work, part = self._of(), self._part
        assert part is not None
        if work.request.scores_prompt and work.prompt_scores is None:
            work.prompt_scores = self.context.score(self._text).tolist()
        self._accept_prompt(work)
        part.prompt, part.n_rows = self._text, n_rows
        part.sampler = work.sampler if work.assembler.room > 0 else None
        part.n_draft, part.n_max, part.forced, part.masks, part.chosen = 0, 1, [], None, None
        return part

    def _accept_prompt(self, work: Work) -> None:
        """Tells the penalties once what stands before the text."""
        params, prompt = work.request.sampling, work.request.prompt
        if work.accepted or not params.penalised or work.sampler is None:
            return
        work.accepted = True
        last_n = params.penalty_last_n
        for token in prompt if last_n < 0 else prompt[-last_n:]:
            if token >= 0:  # a row of an image or a sound is no token that could be repeated
                work.sampler.accept(token)

    def write(self) -> Part:
        """Its part of a turn: a round; without a drafter that is one token."""
        work, part = self._of(), self._part
        assert part is not None
        if self.context.changes != self._changes:
            raise Moved()
        draft = work.request.draft
        part.prompt = part.masks = part.chosen = None
        part.n_max = min(work.assembler.room, DRAFT_MAX + 1)
        part.n_draft = self._n_draft(draft) if isinstance(draft, int) else "auto"
        part.forced = []
        if work.constraint is not None:
            self._force(part, work.constraint)
        return part

    def _force(self, part: Part, constraint: Any) -> None:
        """Lets tokens that the constraint forces stand in place of drafts."""
        # Forced tokens are certain, and a row of a run costs the same whoever its token is from. So
        # as many of them as the drafter would write are worth more than its drafts. Fewer of them
        # are not: a drafter that writes them too goes on behind them in the same run.
        assert part.n_max is not None
        room = min(self.pair.room, part.n_max - 1)
        part.n_max = room + 1
        forced = constraint.forced(room) if room > 0 else []
        if forced and len(forced) >= min(room, expected_drafts(self.pair, part.n_draft)):
            part.forced, part.n_draft = forced, 0

    def plan(self, part: Part) -> None:
        """Between draft and run: what the constraint lets through."""
        constraint = self._of().constraint
        if part.prompt is None and constraint is not None:
            assert part.n_max is not None
            part.drafts, part.masks = constraint.plan(part.forced or part.drafts, part.n_max - 1)

    def choose(self, part: Part) -> None:
        """Between run and take: the masks of a text's first token, and a constraint's own choice.

        A part that has nothing to take any more is left alone."""
        if part.changes != self.context.changes:
            if part.prompt is None:
                raise Moved()
            part.left = max(part.left, 1)  # nothing is lost: the prompt finds its way again
            part.has_run, part.round = False, None
            return
        work = self._of()
        constraint = work.constraint
        if constraint is None or not part.has_run:
            return
        if part.prompt is not None:
            part.drafts, part.masks = constraint.plan([], 0)
        choose = getattr(constraint, "choose", None)
        if choose is None:
            return
        sampler, most, row = work.sampler, part.n_max, part.first_row
        assert sampler is not None
        self._mark = sampler.mark()
        part.chosen = choose(self.context, row, sampler, part.drafts, part.masks, most, self._ends)

    def give_up(self) -> None:
        """Its part of the turn came to nothing: the constraint's choice is undone."""
        mark, self._mark = self._mark, None
        work, part = self.work, self._part
        if mark is not None and work is not None and work.sampler is not None:
            with contextlib.suppress(Closed):
                work.sampler.go_back(mark)
        if part is not None:
            part.chosen = part.masks = part.round = None
            part.has_run = False

    def explained(self, error: BaseException) -> BaseException:
        """What an error of its part means: its rows may be gone because somebody came between two
        of our calls."""
        part, work = self._part, self.work
        if not isinstance(error, UsageError) or isinstance(error, Busy) or part is None:
            return error
        if work is None or part.prompt is not None or self.context.closed:
            return error
        if self.context.changes > part.changes:
            return Moved()
        with contextlib.suppress(Busy, Closed):
            if self.context.n_past != len(work.prompt) + max(len(work.assembler.tokens) - 1, 0):
                return Moved()
        return error

    def has_read(self, part: Part, seconds: float) -> None:
        """Notes that rows of its prompt ran."""
        times = self._of().timings
        times.prompt_ms += 1e3 * seconds
        self.shares = False  # it has written, to a page of its own
        if not self._began:
            self._began = True
            times.cache_n = part.reused
            times.prompt_n = len(self._text) - times.cache_n

    def take(self, part: Part, seconds: float) -> list[Piece]:
        """The text of the round. With the text's end `work.assembler.finish_reason` is there."""
        work = self._of()
        text, one, constraint = work.assembler, part.round, work.constraint
        self.last_round, self._mark, self.shares = None, None, False
        if one is None:  # the prompt is all there is room for
            self._read_counts(work)
            return [text.finish("length")]
        if self.context.changes != part.changes:
            raise Moved()
        self._changes = part.changes
        if constraint is not None:
            constraint.accept(one.tokens)
        pieces = self._pieces(work, one)
        work.timings.predicted_n = len(text.tokens)
        work.timings.predicted_ms += 1e3 * seconds
        if constraint is not None and constraint.stopped and text.finish_reason is None:
            pieces.append(text.finish("stop"))
        return pieces

    def _pieces(self, work: Work, one: Round) -> list[Piece]:
        text = work.assembler
        # A reading costs some µs, which a tiny model would feel: rounds without drafts wait.
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
            self._known = self.pair._reading()
        except Busy:  # the round is over: it can't come again
            raise Moved() from None
        before, now = self._before, self._known.raw
        work.counts = (before, self._known)
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

    def park(self) -> None:
        """Lets go of the request, which comes again, and of the pages. Where its text would not
        have the same bits if it was read like a prompt, the request keeps a copy of the cache."""
        if self._parts.few_rows and self.work is not None:
            with contextlib.suppress(OutOfMemoryError):  # then its text is read again
                self.work.kept = self.context.state()
        self.leave()
        self.context.clear()
        self.owner, self.shares, self.has_shared = "", False, False

    def leave(self) -> None:
        """Lets go of the request, whatever state the context is in."""
        self.work = None
        self._text = self._part = None

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
        context, pair = self.context, self.pair
        if self._version == self._parts.version and self._parts.batch is not None:
            self._parts.renew()
        self._make()
        pair.close()
        context.close()
        self.owner, self.forget = "", False

    def close(self) -> None:
        self.pair.close()
        self.context.close()


class SlotGroup:
    """The slots of an engine, and what runs them."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.slots: list[Slot] = []
        self.prefixes = Prefixes(parts)
        try:
            self.machine: Machine = parts.machine()
            for index in range(parts.parallel):
                self.slots.append(Slot(index, parts))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Frees the contexts."""
        for slot in self.slots:
            slot.close()
        self.prefixes.close()
        self.parts.close()
