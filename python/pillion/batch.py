"""`Batch`: several texts on weights that are read once. Each is a `Context` with a `Pair`, and one
run has the rounds and the prompts of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ._native import (
    Handle,
    Tokens,
    as_str,
    check,
    check_handle,
    ffi,
    interruptible,
    lib,
    read_json,
    token_array,
)
from .arguments import check_int, wrong
from .calling import checked_class
from .context import LONG_RUN, Context
from .errors import PillionError, UsageError, error_for
from .options import ContextKeywords, ContextOptions, takes
from .pair import Draft, Drafter, Pair, draft_length, drafter_kind, drafter_model, pair_config
from .pair_stats import DRAFT_MAX, Round
from .sampling import Mask, Sampler, mask_pointer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .model import Model

SEQUENCES_MAX = 64
"""Most sequences of a batch."""
_OK: int = lib.PILLION_OK


class BatchStats(NamedTuple):
    """What a batch has, and did so far."""

    batched: bool
    """False: the device runs one sequence at a time, and the batch runs them in turn."""
    n_sequences: int
    """Most contexts at a time."""
    n_pages: int
    """Pages of the full layers' cache; 0 without a shared cache."""
    free_pages: int
    """Those that no sequence holds."""
    page_size: int
    """Positions of a page."""
    runs: int
    """Runs so far."""
    rows: int
    """Rows of all runs."""
    last_rows: int
    """Rows of the last run."""
    last_entries: int
    """Sequences with rows in the last run."""
    last_draft_ms: float
    """Milliseconds of the last joint draft."""
    last_run_ms: float
    """Milliseconds of the last run."""


@checked_class
class BatchEntry:
    """One sequence's part of a run: a round, or with `prompt` a part of its prompt.

    pair: of the batch. sampler: chooses the tokens; for a prompt None leaves its first token to a
    later round. n_draft, n_max, end_tokens: as for `Pair.step`.
    prompt: a text that the sequence is to hold; n_rows: at most so many of its tokens run now.

    An entry may be used for any number of rounds. Its arguments are attributes and may be set
    between two rounds.
    """

    __slots__ = (
        "chosen",
        "drafts",
        "end_tokens",
        "error",
        "first_row",
        "has_run",
        "left",
        "masks",
        "n_draft",
        "n_max",
        "n_rows",
        "pair",
        "prompt",
        "ran",
        "reused",
        "round",
        "sampler",
    )  # fmt: skip

    def __init__(
        self,
        pair: Pair,
        sampler: Sampler | None = None,
        *,
        n_draft: Draft = "auto",
        n_max: int | None = None,
        end_tokens: Tokens = (),
        prompt: Tokens | None = None,
        n_rows: int = 512,
    ) -> None:
        self.pair, self.sampler = pair, sampler
        self.n_draft, self.n_max, self.end_tokens = n_draft, n_max, end_tokens
        self.prompt, self.n_rows = prompt, n_rows
        self.drafts: list[int] = []
        """What the drafter proposed; before the run it may be shortened or replaced."""
        self.masks: Mask | None = None
        """For `take`, as for `Pair.take`."""
        self.chosen: Tokens | None = None
        """For `take`, as for `Pair.take`."""
        self.error: PillionError | None = None
        """Why this entry had no part in the last call; the others had."""
        self.has_run = False
        """`take` has something to take."""
        self.first_row = 0
        """The context's output row that is row 0 of the round."""
        self.reused = self.ran = self.left = 0
        """Tokens of the prompt that were there, that ran, and that are left."""
        self.round: Round | None = None
        """What the round brought."""


@checked_class
class Batch(Handle):
    """Sequences that share a model's threads, buffers and cache, and run together.

    model: a `Model`. drafter: as for `Pair`; one assistant drafts for all sequences.
    n_sequences: contexts that may exist at a time, 1 to 64.
    n_positions: positions of the full layers' cache that the sequences share, in pages of 256; at
    least n_ctx. None: n_sequences * n_ctx.
    dense_head, strict, as_model, n_ngram, p_min, draft_sampling, lookup: of each pair, as
    in `Pair`.
    n_ctx: most positions of one sequence, as in `Context`.
    The other options: those of `Context`, for every sequence; n_outputs None: 9 a sequence, at most
    128.

    One caller at a time, for the batch and all that it made: a second thread gets `Busy`. Any
    thread may call `cancel`. Tokens, logits (on the CPU bit for bit) and accepted drafts of a
    sequence are those of a run by itself.
    """

    _kind = "batch"

    @takes(ContextOptions)
    def __init__(
        self,
        model: Model,
        drafter: Drafter | None = None,
        n_sequences: int = 4,
        n_positions: int | None = None,
        dense_head: bool = False,
        strict: bool = False,
        as_model: bool = False,
        n_ngram: int = 3,
        p_min: float = 0.0,
        draft_sampling: str = "greedy",
        lookup: bool = False,
        n_ctx: int | None = None,
        **options: Unpack[ContextKeywords],
    ) -> None:
        pairs = pair_config(
            drafter, dense_head, strict, as_model, n_ngram, p_min, draft_sampling, lookup
        )
        contexts = ContextOptions(n_ctx=n_ctx, **options).config()
        config = ffi.new("pillion_batch_config*")
        lib.pillion_batch_config_init(config, ffi.sizeof("pillion_batch_config"))
        config.n_sequences = check_int("n_sequences", n_sequences, 1, SEQUENCES_MAX)
        if n_positions is not None:
            config.n_positions = check_int("n_positions", n_positions, 1, 2**40)
        pointer = check_handle("model", model, "model", "a Model (Model.open opens a file)")
        self._owned: list[Handle] = []
        out = ffi.new("pillion_batch**")
        try:
            self.drafter = drafter_model(drafter, self._owned)
            """The drafter's model; None: it has none."""
            kind = drafter_kind(drafter, self.drafter, as_model)
            drafts = ffi.NULL if self.drafter is None else self.drafter._c
            check(lib.pillion_batch_new(pointer, kind, drafts, contexts, pairs, config, out))
        except BaseException:
            lib.pillion_batch_free(out[0])  # Ctrl-C came just after
            self._close_owned()
            raise
        super().__init__(out[0], lib.pillion_batch_free)
        self.model = model
        """The model that all sequences run."""
        described = self.describe()
        self.n_ctx, self.n_batch, self.n_outputs = (
            int(described[name]) for name in ("n_ctx", "n_batch", "n_outputs")
        )
        self._entries = ffi.new("pillion_batch_entry[]", SEQUENCES_MAX)
        self._choices = ffi.new("pillion_choice[]", SEQUENCES_MAX)

    # ---- sequences ----

    def context(self) -> Context:
        """A new, empty sequence. Raises `ContextFullError` if there are n_sequences already; those
        whose `Context` and `Pair` are closed or gone do not count."""
        out = ffi.new("pillion_context**")
        check(lib.pillion_batch_context(self._c, out))
        return Context._of_batch(out[0], self.model)

    def pair(self, context: Context) -> Pair:
        """Pairs `context`, one of its own, with the drafter of all.

        Raises `UsageError` for a context of another batch.
        """
        pointer = check_handle("context", context, "context", "a Context of this batch")
        out = ffi.new("pillion_pair**")
        check(lib.pillion_batch_pair(self._c, pointer, out))
        return Pair._of_batch(out[0], context, self.drafter)

    # ---- a round of several ----

    def round(self, entries: Sequence[BatchEntry]) -> None:
        """A round of all `entries`, in one run: `draft`, `run` and `take`. Each entry's `round` or
        `error` says what came of it."""
        self.draft(entries)
        try:
            self.run(entries)
        except BaseException:
            self.abandon(entries)
            raise
        self.take(entries)

    def draft(self, entries: Sequence[BatchEntry]) -> None:
        """Begins the rounds of the `entries` without a prompt, and drafts for all of them together.
        "auto" lengths are chosen by what the whole batch gains; other lengths are never cut."""
        c, held = self._fill(entries)
        check(lib.pillion_batch_draft(self._c, c, len(entries)))
        for entry, one in zip(entries, c, strict=False):
            entry.has_run, entry.round, entry.error = False, None, _error(one)
            n = int(one.n_drafts)
            entry.drafts = list(one.drafts[0:n]) if n else []
        del held

    def run(self, entries: Sequence[BatchEntry]) -> None:
        """Runs the rows of all `entries`. A call that raises leaves every sequence as it was, and
        may be repeated."""
        c, held = self._fill(entries, drafts=True)
        before = [entry.pair.context for entry in entries]

        def call() -> None:
            check(lib.pillion_batch_run(self._c, c, len(entries)))

        try:
            if any(entry.prompt is not None and entry.n_rows >= LONG_RUN for entry in entries):
                interruptible(call, self.cancel)
            else:
                call()
        except BaseException:
            for context in before:
                context.changes += 1
            raise
        for entry, one in zip(entries, c, strict=False):
            context = entry.pair.context
            entry.has_run = bool(one.has_run)
            entry.reused, entry.ran, entry.left = int(one.n_reused), int(one.n_ran), int(one.n_left)
            entry.error = entry.error or _error(one)
            entry.first_row = int(one.first_row)
            context.changes += 1
            if entry.prompt is not None:
                context._n_rows = 1 if entry.ran and not entry.left else 0
                entry.pair._follows = False
            elif entry.has_run:
                context._n_rows = entry.first_row + len(entry.drafts) + 1
        del held

    def take(self, entries: Sequence[BatchEntry]) -> None:
        """Chooses the tokens of the `entries` that have run, as `Pair.take`."""
        c, held = self._fill(entries, drafts=True)
        for i, entry in enumerate(entries):
            c[i].has_run = entry.has_run
            if entry.has_run and (entry.masks is not None or entry.chosen is not None):
                held.append(self._choose(i, entry))
        check(lib.pillion_batch_take(self._c, c, len(entries)))
        for entry, one in zip(entries, c, strict=False):
            if not entry.has_run:
                continue
            entry.error = _error(one)
            if entry.error is not None:
                continue
            entry.has_run = False
            n = int(one.n_out)
            tokens = list(one.out[0:n])
            entry.pair.context.changes += 1
            entry.pair.context._n_rows = n
            entry.round = Round(
                tokens,
                int(one.drafted),
                int(one.accepted),
                bool(one.ended),
                float(one.draft_ms),
                float(one.verify_ms),
                float(one.accept_ms),
                int(one.forced),
            )
        del held

    def abandon(self, entries: Sequence[BatchEntry]) -> None:
        """Gives up the rounds of `entries` that were begun or run: each pair, context and sampler
        is as before them."""
        c, held = self._fill(entries)
        check(lib.pillion_batch_abandon(self._c, c, len(entries)))
        for entry in entries:
            entry.has_run = False
            entry.pair.context.changes += 1
        del held

    def cancel(self) -> None:
        """Stops the run that is under way, of all entries. Any thread may call it."""
        check(lib.pillion_batch_cancel(self._c))

    def _fill(self, entries: Sequence[BatchEntry], drafts: bool = False) -> tuple[Any, list[Any]]:
        """The entries for the library, and what must outlive the call."""
        if not isinstance(entries, Sequence) or not all(
            isinstance(one, BatchEntry) for one in entries
        ):
            wrong("entries", entries, "a list of BatchEntry")
        if len(entries) > SEQUENCES_MAX:
            raise UsageError(f"{len(entries)} entries, a batch takes at most {SEQUENCES_MAX}")
        c, held = self._entries, []
        for i, entry in enumerate(entries):
            one = c[i]
            lib.pillion_batch_entry_init(ffi.addressof(c, i), ffi.sizeof("pillion_batch_entry"))
            one.pair = check_handle("pair", entry.pair, "pair", "a Pair of this batch")
            if entry.sampler is not None:
                one.sampler = check_handle("sampler", entry.sampler, "sampler", "a Sampler")
            one.n_draft = draft_length(entry.n_draft)
            n_max = entry.n_max
            most = DRAFT_MAX + 1
            one.n_max = most if n_max is None else min(check_int("n_max", n_max, 1), most)
            ends, one.n_end = token_array(entry.end_tokens)
            one.end_tokens = ends
            held.append(ends)
            if entry.prompt is not None:
                tokens, one.n_tokens = token_array(entry.prompt)
                one.tokens = tokens
                held.append(tokens)
                one.n_rows = check_int("n_rows", entry.n_rows, 1)
            if not drafts:
                continue
            if entry.error is not None:
                one.code = lib.PILLION_ERROR_INVALID_ARGUMENT
            if len(entry.drafts) > DRAFT_MAX:
                raise UsageError(f"{len(entry.drafts)} drafts, a round takes at most {DRAFT_MAX}")
            one.n_drafts = len(entry.drafts)
            one.drafts[0 : len(entry.drafts)] = entry.drafts
        return c, held

    def _choose(self, i: int, entry: BatchEntry) -> Any:
        choice = ffi.addressof(self._choices, i)
        lib.pillion_choice_init(choice, ffi.sizeof("pillion_choice"))
        words = tokens = None
        if entry.masks is not None:
            words, choice.n_mask_words = mask_pointer("masks", entry.masks, 2)
            choice.masks = words
        if entry.chosen is not None:
            tokens, choice.n_chosen = token_array(entry.chosen)
            choice.chosen = tokens
        self._entries[i].choice = choice
        return words, tokens

    # ---- what it is ----

    def describe(self) -> dict[str, Any]:
        """batched, why (not), n_sequences, n_ctx, n_batch, n_outputs, few_rows, n_pages and page.

        few_rows above 0: on this device the bits of a row depend on the other rows of longer runs.
        A run then takes rounds of at most so many rows, or prompts; prompts beside rounds wait
        (`ran` is 0)."""
        found: dict[str, Any] = read_json(
            lambda out, capacity, needed: lib.pillion_batch_json(self._c, out, capacity, needed)
        )
        return found

    @property
    def stats(self) -> BatchStats:
        """Counts since the start, and the free pages."""
        raw = ffi.new("pillion_batch_stats*")
        check(lib.pillion_batch_get_stats(self._c, raw, ffi.sizeof("pillion_batch_stats")))
        return BatchStats(
            bool(raw.is_batched),
            int(raw.n_sequences),
            int(raw.n_pages),
            int(raw.n_free_pages),
            int(raw.page_size),
            int(raw.runs),
            int(raw.rows),
            int(raw.last_rows),
            int(raw.last_entries),
            float(raw.last_draft_ms),
            float(raw.last_run_ms),
        )

    # ---- life ----

    def close(self) -> None:
        """Frees the batch; its contexts and pairs live on. Closing twice is fine."""
        super().close()
        self._close_owned()

    def _close_owned(self) -> None:
        while self._owned:
            self._owned.pop().close()

    def __repr__(self) -> str:
        return "<pillion.Batch closed>" if self.closed else f"<pillion.Batch on {self.model!r}>"


def _error(one: Any) -> PillionError | None:
    if one.code == _OK:
        return None
    return error_for(one.code, as_str(ffi.string(one.error)))
