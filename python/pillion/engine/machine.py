"""What runs the parts of a turn: one pair by itself, or a batch for several.

A turn has three steps, as a round of `Pair` and `Batch`: draft, run, take. Between them a
constraint has its say. A step that raises leaves every sequence as it was before it. What concerns
one part only stands in its `error`.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..batch import SEQUENCES_MAX, Batch, BatchEntry
from ..context import Context
from ..model import Model
from ..options import CONTEXT_DEFAULT
from ..pair import DRAFT_MAX, Drafter, Pair
from .scheduler import ROWS_MIN

_log = logging.getLogger("pillion")

OUTPUTS_MOST = 128
"""Most rows with logits of a batch's run: 128 MB of them at Gemma 4's vocabulary."""
N_BATCH = 512
PREFIXES_MOST = 4
PAGE = 256
"""Positions of a page of the shared cache."""


class Part(BatchEntry):
    """A slot's part of a turn: a round, or with `prompt` some of a prompt's rows."""

    __slots__ = ("by_steps", "changes", "forced")

    def __init__(self, pair: Pair, sampler: Any, end_tokens: Any, by_steps: bool) -> None:
        super().__init__(pair, sampler, end_tokens=end_tokens)
        self.by_steps = by_steps
        """Something comes between draft, run and take: a constraint."""
        self.forced: list[int] = []
        """Tokens that stand in place of drafts."""
        self.changes = 0
        """The context's count of changes, if nobody else was there since the last step."""


class Machine(Protocol):
    """Runs the parts of turns. Only the engine's thread calls it."""

    def draft(self, parts: Sequence[Part]) -> None:
        """Begins rounds and drafts."""

    def run(self, parts: Sequence[Part]) -> None:
        """Runs the rows of all parts."""

    def take(self, parts: Sequence[Part]) -> None:
        """Chooses the tokens of parts that have run."""

    def abandon(self, parts: Sequence[Part]) -> None:
        """Gives up rounds that were begun or run."""


class Solo:
    """One pair with a context of its own."""

    def draft(self, parts: Sequence[Part]) -> None:
        """Begins the round. An unconstrained one is a single call, in `run`."""
        (part,) = parts
        part.error, part.round, part.has_run, part.drafts = None, None, False, []
        part.changes = part.pair.context.changes
        if part.by_steps and part.prompt is None and not part.forced:
            assert part.sampler is not None
            part.drafts = part.pair.propose(part.sampler, part.n_draft, part.n_max)

    def run(self, parts: Sequence[Part]) -> None:
        """Runs a round, or rows of a prompt."""
        (part,) = parts
        pair, context = part.pair, part.pair.context
        part.changes = context.changes + 1
        if part.prompt is not None:
            self._read(part, pair, context)
        elif part.by_steps:
            pair.run(part.drafts)
            part.first_row, part.has_run = pair.first_row, True
        else:
            self._step(part)

    def _step(self, part: Part) -> None:
        assert part.sampler is not None
        part.round = part.pair.step(part.sampler, part.n_draft, part.n_max, part.end_tokens)

    def _read(self, part: Part, pair: Pair, context: Context) -> None:
        prompt: Any = part.prompt
        n = len(prompt)
        if n - context.match(prompt).usable > part.n_rows:
            part.reused = context.read(prompt, part.n_rows)
            part.ran = len(context) - part.reused  # an image may be read as a whole
            part.left = n - part.reused - part.ran
            return
        part.reused = pair.sync(prompt)
        part.ran, part.left = n - part.reused, 0
        if part.sampler is None:
            return
        if part.by_steps and context.changes == part.changes:
            pair.run()
            part.changes, part.first_row = part.changes + 1, pair.first_row
        part.has_run = True

    def take(self, parts: Sequence[Part]) -> None:
        """Chooses the tokens; after a prompt that is its first."""
        for part in parts:
            part.changes += 1
            if part.by_steps:
                sampler = part.sampler if part.chosen is None else None
                ends: Any = part.end_tokens
                part.round = part.pair.take(sampler, part.n_max, ends, part.masks, part.chosen)
            else:
                self._step(part)
            part.has_run = False

    def abandon(self, parts: Sequence[Part]) -> None:
        """As `Pair.abandon`."""
        for part in parts:
            if part.by_steps:
                part.pair.abandon()
            part.has_run = False


class Several:
    """The pairs of a batch."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def _batch(self) -> Batch:
        assert self._parts.batch is not None
        return self._parts.batch

    def draft(self, parts: Sequence[Part]) -> None:
        """As `Batch.draft`."""
        for part in parts:
            part.changes = part.pair.context.changes
        self._batch.draft(parts)

    def run(self, parts: Sequence[Part]) -> None:
        """As `Batch.run`."""
        for part in parts:
            part.changes = part.pair.context.changes + 1
        self._batch.run(parts)

    def take(self, parts: Sequence[Part]) -> None:
        """As `Batch.take`."""
        self._batch.take(parts)
        for part in parts:
            part.changes += part.error is None

    def abandon(self, parts: Sequence[Part]) -> None:
        """As `Batch.abandon`."""
        if parts:
            self._batch.abandon(parts)


@dataclass
class Parts:
    """What slots are made of; it can be made again."""

    model: Model
    sizes: dict[str, Any] = field(default_factory=dict)
    """Arguments of `Context`."""
    drafter: Drafter | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of `Pair`."""
    why_no_pair: str = "no drafter was asked for"
    parallel: int = 1
    """Number of slots; several share a batch."""
    n_positions: int | None = None
    """As for `Batch`."""
    batch: Batch | None = field(default=None, init=False)
    version: int = field(default=0, init=False)
    """Counts the batches that were made."""
    why_in_turn: str = field(default="", init=False)
    """Why the batch runs its sequences one after another; "": it does not."""
    few_rows: int = field(default=0, init=False)
    """Above 0: the batch runs rounds of at most so many rows, and prompts apart from them."""
    _pages: tuple[int, int] = field(default=(0, PAGE), init=False)

    @property
    def n_batch(self) -> int:
        """Most rows of a part of a prompt."""
        return operator.index(self.sizes.get("n_batch") or N_BATCH)

    @property
    def n_outputs(self) -> int:
        """Most rows of a slot's round."""
        return operator.index(self.sizes.get("n_outputs") or DRAFT_MAX + 1)

    @property
    def outputs_most(self) -> int:
        """Most rows with outputs of a turn."""
        most = min(OUTPUTS_MOST, self.parallel * min(self.n_outputs, DRAFT_MAX + 1))
        most = max(most, self.parallel)
        return min(most, self.few_rows) if self.few_rows else most

    @property
    def n_prefixes(self) -> int:
        """Most beginnings of texts that are kept beside the slots: half as many, at most 4. Each
        has the rings of a sequence."""
        return 0 if self.batch is None or self.why_in_turn else self._n_spare

    @property
    def _n_spare(self) -> int:
        return min(self.parallel // 2, PREFIXES_MOST, SEQUENCES_MAX - self.parallel)

    def machine(self) -> Machine:
        """What runs the slots."""
        if self.parallel == 1:
            return Solo()
        self.renew()
        return Several(self)

    @property
    def n_pages(self) -> int:
        """Pages that the slots share; 0: each has a cache of its own."""
        return self._pages[0]

    @property
    def page_size(self) -> int:
        """Positions of a page."""
        return self._pages[1]

    def renew(self) -> None:
        """Makes the batch, or another one in its place."""
        sizes = {
            **self.sizes,
            "n_outputs": self.outputs_most,
            # rounds never keep the prompts out
            "n_batch": max(self.n_batch, self.outputs_most + ROWS_MIN),
        }
        n_ctx = self.sizes.get("n_ctx") or min(self.model.n_ctx_train, CONTEXT_DEFAULT)
        whole = self.parallel * -(-n_ctx // PAGE) * PAGE  # a context for each slot
        made = Batch(
            self.model,
            self.drafter,
            n_sequences=self.parallel + self._n_spare,
            n_positions=self.n_positions or whole,
            **self.options,
            **sizes,
        )
        self.close()
        self.batch = made
        stats = made.stats
        self._pages = (stats.n_pages, stats.page_size)
        described = made.describe()
        self.why_in_turn, self.few_rows = str(described["why"]), int(described["few_rows"])
        self.version += 1
        if self.why_in_turn:
            _log.warning("%s", self.why_in_turn)

    def context(self) -> Context:
        return Context(self.model, **self.sizes) if self.batch is None else self.batch.context()

    def pair(self, context: Context) -> Pair:
        if self.batch is not None:
            return self.batch.pair(context)
        return Pair(context, self.drafter, **self.options)

    def close(self) -> None:
        """Frees the batch; the contexts and pairs are their owners'."""
        if self.batch is not None:
            self.batch.close()


PARALLEL_MAX = SEQUENCES_MAX
