"""`Pair`: a target context and a drafter that guesses ahead of it. It writes what the target alone
would write, only sooner."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from ._native import Handle, Tokens, check, ffi, interruptible, lib, read_json, token_array
from .arguments import check_bool, check_choice, check_int, check_number, check_path, wrong
from .calling import checked_class
from .context import Context, Floats
from .errors import Busy, UsageError
from .model import Model
from .pair_stats import DRAFT_MAX as DRAFT_MAX
from .pair_stats import PairStats as PairStats
from .pair_stats import Reading
from .pair_stats import Round as Round
from .sampling import Mask, Sampler, SamplingParams, mask_pointer

LOOKUP = "lookup"
"""The drafter without a model: it looks for the last words earlier in the text."""

DRAFT_SAMPLING = ("greedy", "probabilistic")

Draft = int | str
"""A draft length: 0 (off) to 8, or "auto"."""
Drafter: TypeAlias = Model | str | os.PathLike[str]


@checked_class
class Pair(Handle):
    """A target and its drafter, at any time, also after a prompt. One caller at a time.

    target: a Context; or a Model, which gets a context of default size; or an LLM, whose context it
    is then. drafter: a Gemma 4 assistant (it reads the target's cache), or any other model with the
    target's vocabulary (it gets a cache of its own), as a Model or a path; or "lookup": no model,
    drafts are looked up in the text so far; None: nothing, and every step is plain decoding.
    dense_head: score the whole vocabulary even if the drafter has a centroid head. strict: a
    centroid head that the file has only in part is an error, not a warning. as_model: run the
    drafter as an ordinary model; refused for an assistant. n_ngram: for "lookup", the longest run
    of tokens to look for.
    p_min: a step whose best token is less likely than this ends the draft; 0: off.
    draft_sampling: "greedy": each draft is the drafter's most likely token, and the text is that of
    plain steps, token for token, also when sampling. "probabilistic": when sampling, drafts are
    drawn too and verified by rejection; they are accepted more often, the text follows the same
    distribution but is another one.
    lookup: with an assistant, drafts also come from the text so far: each round takes those that
    promise more by what was measured, and the assistant goes on behind them.

    The pair keeps both alive. Between steps the context may be used by itself. A context whose
    n_outputs is below 9 shortens the drafts: a draft of k needs k + 1 outputs.
    """

    _kind = "pair"

    def __init__(
        self,
        target: Any,
        drafter: Drafter | None,
        *,
        dense_head: bool = False,
        strict: bool = False,
        as_model: bool = False,
        n_ngram: int = 3,
        p_min: float = 0.0,
        draft_sampling: str = "greedy",
        lookup: bool = False,
    ) -> None:
        config = pair_config(
            drafter, dense_head, strict, as_model, n_ngram, p_min, draft_sampling, lookup
        )
        self._owned: list[Handle] = []
        out = ffi.new("pillion_pair**")
        try:
            self.context = self._context_of(target)
            """The target's context."""
            self.drafter = drafter_model(drafter, self._owned)
            """The drafter's model; None: it has none."""
            kind = drafter_kind(drafter, self.drafter, as_model)
            model = ffi.NULL if self.drafter is None else self.drafter._c
            # Copies of the cache for a drafter elsewhere take a run of the text so far.
            interruptible(
                lambda: check(lib.pillion_pair_new(self.context._c, kind, model, config, out)),
                self.context.cancel,
            )
        except BaseException:
            lib.pillion_pair_free(out[0])  # Ctrl-C came just after
            self._close_owned()
            raise
        self._set_up(out[0])

    @classmethod
    def _of_batch(cls, pointer: Any, context: Context, drafter: Model | None) -> Pair:
        """A pair that a batch has made."""
        pair = cls.__new__(cls)
        pair._owned, pair.context, pair.drafter = [], context, drafter
        pair._set_up(pointer)
        return pair

    def _set_up(self, pointer: Any) -> None:
        super().__init__(pointer, lib.pillion_pair_free)
        self._tokens = ffi.new("int32_t[]", DRAFT_MAX + 1)
        self._n = ffi.new("size_t*")
        self._info = ffi.new("pillion_round_info*")
        self._ran_at = -1  # the context's count of changes, after the last run()
        self.first_row = 0
        """The context's output row that is row 0 of the round that was run last."""
        self._follows = (
            False  # the drafter's own cache is as long as the target's, so a step is short
        )
        self._kind_of_drafter = self.stats.kind

    def _context_of(self, target: Any) -> Context:
        if isinstance(target, Context):
            return target
        if isinstance(target, Model):
            context = target.context()
            self._owned.append(context)
            return context
        of_llm = getattr(target, "context", None)
        if not isinstance(of_llm, Context):
            wrong("target", target, "a Context, a Model or an LLM")
        return of_llm

    # ---- what it is ----

    def placement(self) -> list[dict[str, Any]]:
        """Where each op of one draft step runs, as `Context.placement`; empty for a drafter without
        a model."""
        found: dict[str, Any] = read_json(
            lambda out, capacity, needed: lib.pillion_pair_json(self._c, out, capacity, needed),
            1 << 14,
        )
        return found["plan"] or []

    # ---- running ----

    def sync(self, tokens: Tokens) -> int:
        """Makes the context hold exactly these tokens; see `Context.sync`.

        Raises what `Context.sync` raises.
        """
        array, n = token_array(tokens)
        reused = ffi.new("size_t*")
        self._follows = False
        self.context._run(n, lambda: check(lib.pillion_pair_sync(self._c, array, n, reused)))
        self.context._n_rows = 1
        self._follows = True
        return int(reused[0])

    def step(
        self,
        sampler: Sampler,
        n_draft: Draft = "auto",
        n_max: int | None = None,
        end_tokens: Tokens = (),
    ) -> Round:
        """One round: drafts, lets the target verify, and returns the tokens that the sampler chose,
        which it has accepted too.

        n_draft: 0 to 8, or "auto": as many as pay off by what was measured.
        n_max: most tokens to return.
        end_tokens: the round ends with the first of these, which is returned.

        The last token is not in the cache yet; the next step runs it. The first step after a prompt
        returns one token.

        Raises `ContextFullError` if the context has no room, `UsageError` before any prompt
        and while a round waits for `take`, and `Cancelled`.
        """
        sampler = _sampler(sampler)
        n_max = None if n_max is None else check_int("n_max", n_max, 1)
        wanted, most = draft_length(n_draft), min(n_max or DRAFT_MAX + 1, DRAFT_MAX + 1)
        ends, n_ends = token_array(end_tokens)

        def call() -> None:
            check(
                lib.pillion_pair_step(
                    self._c,
                    sampler._c,
                    wanted,
                    most,
                    ends,
                    n_ends,
                    self._tokens,
                    DRAFT_MAX + 1,
                    self._n,
                    self._info,
                    ffi.sizeof("pillion_round_info"),
                )
            )

        # A round that waits for its take() is a reason to refuse, and stays as it is.
        waits = self._ran_at == self.context.changes
        self._run(lambda: self._draft(call), UsageError if waits else Busy)
        return self._round()

    # ---- a round in three steps ----

    def propose(
        self,
        sampler: Sampler,
        n_draft: Draft = "auto",
        n_max: int | None = None,
    ) -> list[int]:
        """The drafter's tokens for the next round. n_draft, n_max: as in `step`.

        None right after a prompt, where nothing has to run, and while "auto" is paused. With `run`
        and `take` this is `step`, for callers that have a say in the round. A call that raises
        leaves pair, context and sampler as before it, and can be repeated; `abandon` goes back to
        before the round. In between the context may be read, not changed.
        """
        sampler = _sampler(sampler)
        n_max = None if n_max is None else check_int("n_max", n_max, 1)
        wanted, most = draft_length(n_draft), min(n_max or DRAFT_MAX + 1, DRAFT_MAX + 1)
        out, n = self._tokens, self._n

        def call() -> None:
            drafter = (self._c, sampler._c, wanted, most)
            check(lib.pillion_pair_propose(*drafter, out, DRAFT_MAX + 1, n))

        self.context._c  # noqa: B018 - raises Closed
        self._draft(call)
        return self._n_tokens()

    def run(self, drafts: Tokens = ()) -> None:
        """Runs the last token and these drafts: the proposal, its beginning, other tokens behind
        that or alone, or none.

        At most `room` of them; right after a prompt none. May come without a proposal.

        Raises `UsageError` for more drafts than there is room for, `ContextFullError`, and
        `Cancelled`.
        """
        array, n = token_array(drafts)
        self._run(lambda: check(lib.pillion_pair_run(self._c, array, n, self._n)), UsageError)
        self.first_row = int(self._n[0])
        self._ran_at = self.context.changes
        self.context._n_rows = self.first_row + n + 1

    def take(
        self,
        sampler: Sampler | None,
        n_max: int | None = None,
        end_tokens: Sequence[int] = (),
        masks: Mask | None = None,
        chosen: Tokens | None = None,
    ) -> Round:
        """Chooses the tokens of the round that was run, as `step` does.

        n_max, end_tokens: as in `step`.
        masks: uint32 [drafts + 1, words], row i's for what follows i drafts; see `Sampler.sample`.
        One that refuses all raises `UsageError` if the text gets there.
        chosen: the caller's own choice for the first rows, kept as far as it agrees with the
        drafts; the sampler (which may be None then) is neither asked nor fed.
        """
        choice = ffi.new("pillion_choice*")
        lib.pillion_choice_init(choice, ffi.sizeof("pillion_choice"))
        n_max = None if n_max is None else check_int("n_max", n_max, 1)
        ends, n_ends = token_array(end_tokens)
        if masks is not None:
            words, choice.n_mask_words = mask_pointer("masks", masks, 2)
            choice.masks = words
        if chosen is not None:
            tokens, choice.n_chosen = token_array(chosen)
            choice.chosen = tokens
        handle = ffi.NULL if sampler is None and chosen is not None else _sampler(sampler)._c
        check(
            lib.pillion_pair_take(
                self._c,
                handle,
                min(n_max or DRAFT_MAX + 1, DRAFT_MAX + 1),
                ends,
                n_ends,
                choice,
                self._tokens,
                DRAFT_MAX + 1,
                self._n,
                self._info,
                ffi.sizeof("pillion_round_info"),
            )
        )
        self.context.changes += 1
        return self._round()

    def abandon(self, sampler: Sampler | None = None) -> None:
        """Gives up a round that was proposed or run: pair and context are as before it, and so is
        the sampler, if it is the one of `propose`. Without such a round it does nothing."""
        handle = ffi.NULL if sampler is None else _sampler(sampler)._c
        before = self.context.n_past
        check(lib.pillion_pair_abandon(self._c, handle))
        if self.context.n_past != before:
            self.context._n_rows = 0
            self.context.changes += 1

    @property
    def room(self) -> int:
        """Most drafts of the next `run`; 0 right after a prompt."""
        check(lib.pillion_pair_room(self._c, self._n))
        return int(self._n[0])

    def _draft(self, call: Callable[[], None]) -> None:
        """A call in which the drafter may read the text so far."""
        if self._kind_of_drafter == "model" and not self._follows:
            interruptible(call, self.context.cancel)  # the drafter may have a whole prompt to read
        else:
            call()
        self._follows = True

    def _run(self, call: Callable[[], None], harmless: type[Exception] = Busy) -> None:
        """harmless: what is raised before anything has run; Busy always is."""
        context = self.context
        context._c  # noqa: B018 - raises Closed
        try:
            call()
        except (Busy, harmless):
            raise
        except BaseException:
            context._n_rows = 0
            context.changes += 1
            raise
        context.changes += 1

    def _n_tokens(self) -> list[int]:
        n = int(self._n[0])
        return list(ffi.unpack(self._tokens, n)) if n else []

    def _round(self) -> Round:
        tokens, info = self._n_tokens(), self._info
        self.context._n_rows = len(tokens)
        return Round(
            tokens,
            int(info.drafted),
            int(info.accepted),
            bool(info.ended),
            float(info.draft_ms),
            float(info.verify_ms),
            float(info.accept_ms),
            int(info.forced),
        )

    def generate(
        self,
        prompt: str | Tokens,
        *,
        sampler: Sampler | None = None,
        max_tokens: int | None = None,
        n_draft: Draft = "auto",
        end_tokens: Sequence[int] | None = None,
    ) -> Iterator[Round]:
        """Rounds until an end token, `max_tokens` or the end of the context. Leaving early leaves a
        usable pair.

        prompt: text or token ids.
        sampler: None: the most likely token each time.
        n_draft: as in `step`.
        end_tokens: None: those of the model.
        """
        tokenizer = self.context.model.tokenizer
        tokens = tokenizer.encode(prompt) if isinstance(prompt, str) else token_list(prompt)
        ends = sorted(tokenizer.end_tokens) if end_tokens is None else token_list(end_tokens)
        sampler = Sampler(SamplingParams(temperature=0)) if sampler is None else _sampler(sampler)
        draft_length(n_draft)
        max_tokens = None if max_tokens is None else check_int("max_tokens", max_tokens, 0)
        return self._generate(tokens, sampler, max_tokens, n_draft, ends)

    def _generate(
        self,
        prompt: list[int],
        sampler: Sampler,
        max_tokens: int | None,
        n_draft: Draft,
        ends: list[int],
    ) -> Iterator[Round]:
        self.sync(prompt)
        room = self.context.n_ctx - len(prompt)
        most = room if max_tokens is None else min(max_tokens, room)
        yield from self._rounds(sampler, most, n_draft, ends)

    def rounds(
        self,
        sampler: Sampler,
        max_tokens: int,
        n_draft: Draft = "auto",
        end_tokens: Tokens = (),
    ) -> Iterator[Round]:
        """The rounds behind what the context holds, until an end token or max_tokens tokens.
        sampler, n_draft, end_tokens: as in `step`. There must be room for them in the context."""
        sampler, left = _sampler(sampler), check_int("max_tokens", max_tokens, 0)
        draft_length(n_draft)
        return self._rounds(sampler, left, n_draft, end_tokens)

    def _rounds(
        self, sampler: Sampler, left: int, n_draft: Draft, end_tokens: Tokens
    ) -> Iterator[Round]:
        while left > 0:
            one = self.step(sampler, n_draft, left, end_tokens)
            left -= len(one.tokens)
            yield one
            if one.ended:
                return

    # ---- how it goes ----

    @property
    def stats(self) -> PairStats:
        """Counts since the start or the last `reset_stats`."""
        return self._reading().stats

    def _reading(self) -> Reading:
        """As `stats`, in the library's form."""
        raw = ffi.new("pillion_pair_stats*")
        check(lib.pillion_pair_get_stats(self._c, raw, ffi.sizeof("pillion_pair_stats")))
        return Reading(raw)

    def reset_stats(self) -> None:
        """Counts from zero again."""
        check(lib.pillion_pair_reset_stats(self._c))

    # ---- for tests and benchmarks ----

    def draft(self, last: int, n: int) -> list[int]:
        """What an assistant says after `last`, which would stand at the context's length: up to n
        tokens; nothing is verified.

        Raises `UsageError` for an id that is no token.
        """
        last, n = check_int("last", last, -(2**31), 2**31 - 1), check_int("n", n, 1, DRAFT_MAX)
        check(lib.pillion_pair_draft(self._c, last, n, self._tokens, DRAFT_MAX + 1, self._n))
        return list(ffi.unpack(self._tokens, self._n[0])) if self._n[0] else []

    def draft_row(self, step: int) -> tuple[Floats, Floats]:
        """Of the last `draft`: a step's logits (-inf for tokens that were not scored), and the
        hidden row for the next step."""
        step = check_int("step", step, 0, 2**31 - 1)
        logits = np.empty(self.context.model.n_vocab, dtype=np.float32)
        hidden = np.empty(self.context.model.n_embd, dtype=np.float32)
        check(
            lib.pillion_pair_draft_row(
                self._c,
                step,
                ffi.from_buffer("float[]", logits),
                ffi.from_buffer("float[]", hidden),
            )
        )
        return logits, hidden

    # ---- life ----

    def close(self) -> None:
        """Frees the pair, and what it opened itself. Doing it twice is fine; any later use raises
        `Closed`."""
        super().close()
        self._close_owned()

    def _close_owned(self) -> None:
        while self._owned:
            self._owned.pop().close()

    def __repr__(self) -> str:
        if self.closed:
            return "<pillion.Pair closed>"
        if not self._kind_of_drafter:
            return "<pillion.Pair without a drafter>"
        name = LOOKUP if self.drafter is None else repr(self.drafter.path)
        return f"<pillion.Pair {self._kind_of_drafter}, drafter {name}>"


def _is_lookup(drafter: Any) -> bool:
    return isinstance(drafter, str) and drafter == LOOKUP


def pair_config(
    drafter: Drafter | None,
    dense_head: bool = False,
    strict: bool = False,
    as_model: bool = False,
    n_ngram: int = 3,
    p_min: float = 0.0,
    draft_sampling: str = "greedy",
    lookup: bool = False,
) -> Any:
    """The library's pillion_pair_config. The options: as in `Pair`."""
    n_ngram = check_int("n_ngram", n_ngram, 1, 2**31 - 1, "1 or more")
    p_min = check_number("p_min", p_min, 0, 1, "0 (off) to 1")
    check_choice("draft_sampling", draft_sampling, DRAFT_SAMPLING)
    flags = {"dense_head": dense_head, "strict": strict, "as_model": as_model}
    dense_head, strict, as_model = (check_bool(name, value) for name, value in flags.items())
    if check_bool("lookup", lookup) and (drafter is None or _is_lookup(drafter)):
        raise UsageError(f"lookup goes with an assistant; the drafter is {drafter!r}")
    if as_model and (drafter is None or _is_lookup(drafter)):
        raise UsageError(f"as_model needs a model; the drafter is {drafter!r}")
    config = ffi.new("pillion_pair_config*")
    lib.pillion_pair_config_init(config, ffi.sizeof("pillion_pair_config"))
    config.dense_head, config.strict = dense_head, strict
    config.n_ngram, config.p_min = n_ngram, p_min
    config.sampled = draft_sampling == "probabilistic"
    config.lookup = lookup
    return config


def drafter_model(drafter: Drafter | None, owned: list[Handle]) -> Model | None:
    """The drafter's model. One that is opened here is added to `owned`."""
    if isinstance(drafter, Model):
        return drafter
    if drafter is None or _is_lookup(drafter):
        return None
    if not isinstance(drafter, (str, os.PathLike)):
        wrong("drafter", drafter, f"a Model, a path, {LOOKUP!r} or None")
    model = Model.open(check_path("drafter", drafter))
    owned.append(model)
    return model


def drafter_kind(drafter: Drafter | None, model: Model | None, as_model: bool) -> int:
    """Of the drafter, for the library."""
    if model is None:
        return int(lib.PILLION_DRAFTER_NONE if drafter is None else lib.PILLION_DRAFTER_LOOKUP)
    is_assistant = model.is_drafter and not as_model
    return int(lib.PILLION_DRAFTER_ASSISTANT if is_assistant else lib.PILLION_DRAFTER_MODEL)


def draft_length(n_draft: Draft) -> int:
    """A draft length for the library."""
    if isinstance(n_draft, str) and n_draft == "auto":
        return int(lib.PILLION_DRAFT_AUTO)
    return check_int(
        "the draft length", n_draft, 0, DRAFT_MAX, f"0 (off) to {DRAFT_MAX}, or 'auto'"
    )


def _sampler(value: Any) -> Sampler:
    if not isinstance(value, Sampler):
        wrong("sampler", value, "a Sampler")
    return value


def token_list(tokens: Tokens) -> list[int]:
    """Token ids as a list, checked."""
    array, n = token_array(tokens)
    return list(ffi.unpack(array, n)) if n else []
