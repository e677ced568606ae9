"""`Constraint`: what may come next in a text, such as a grammar. `constrained_round` obeys one.

For every number of drafts the tokens are those that plain steps would choose under the same
constraint. Row i of a round is chosen under the mask of the text with the drafts before it, and
counts only if those drafts are accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ._native import Tokens
from .arguments import check_int, wrong
from .calling import checked, checked_class
from .context import Context
from .errors import UsageError
from .pair import DRAFT_MAX, Draft, Pair, Round, draft_length, token_list
from .sampling import Mask, Sampler, float_row

Ids = npt.NDArray[np.intc]
Scores = npt.NDArray[np.single]
LogitsProcessor = Callable[[Ids, Scores], Scores]
"""(tokens so far, float32 [n_vocab] logits that it may change) -> logits, as llama-cpp-python's."""
StoppingCriterion = Callable[[Ids, Scores], bool]
"""(tokens so far, float32 [n_vocab] logits of the next) -> whether the text ends here."""


@runtime_checkable
class Constraint(Protocol):
    """Decides what may follow the text so far. Its state changes in `accept` only. What it raises
    propagates, and the round can be repeated."""

    @property
    def stopped(self) -> bool:
        """True if the text is complete: nothing may follow."""

    def plan(self, drafts: Sequence[int], n_max: int) -> tuple[list[int], Mask | None]:
        """Chooses what to verify of a drafter's tokens, and the masks of the rows.

        Returns at most n_max drafts (the allowed beginning of `drafts`, then tokens that the
        constraint forces) and uint32 [drafts + 1, words]: row i is the mask of what may follow i of
        them. None in place of the masks: anything may follow. n_max may be 0.
        """

    def forced(self, n_max: int) -> list[int]:
        """Returns the only tokens that can come next, up to n_max; none if there is a choice."""

    def accept(self, tokens: Sequence[int]) -> None:
        """Notes that these tokens are in the text."""


@checked
def constrained_round(
    pair: Pair,
    sampler: Sampler,
    constraint: Constraint,
    n_draft: Draft = "auto",
    n_max: int | None = None,
    end_tokens: Sequence[int] = (),
) -> Round:
    """Runs `Pair.step` under a constraint. Sampler and constraint have accepted the round's tokens.

    n_draft, n_max, end_tokens: as in `Pair.step`.

    If anything fails or is cancelled, also in the constraint, pair, context and sampler are as
    before, so that the round can be repeated.
    """
    if not isinstance(pair, Pair):
        wrong("pair", pair, "a Pair")
    _check(sampler, constraint)
    draft_length(n_draft)
    ends = token_list(end_tokens)
    mark, room = sampler.mark(), pair.room
    if n_max is not None:
        room = min(room, check_int("n_max", n_max, 1) - 1)
    try:
        drafts, masks = _drafts(pair, sampler, constraint, n_draft, room)
        pair.run(drafts)
        choose = getattr(constraint, "choose", None)
        if choose is None:
            one = pair.take(sampler, n_max, ends, masks)
        else:
            most = DRAFT_MAX + 1 if n_max is None else n_max
            chosen = choose(pair.context, pair.first_row, sampler, drafts, masks, most, ends)
            one = pair.take(None, n_max, ends, chosen=chosen)
    except BaseException:
        if not pair.closed and not pair.context.closed:
            pair.abandon()
        if not sampler.closed:
            sampler.go_back(mark)
        raise
    constraint.accept(one.tokens)
    return one


def _check(sampler: Any, constraint: Any) -> None:
    if not isinstance(sampler, Sampler):
        wrong("sampler", sampler, "a Sampler")
    if not isinstance(constraint, Constraint):
        wrong("constraint", constraint, "a Constraint: stopped, plan, forced and accept")


def _drafts(
    pair: Pair,
    sampler: Sampler,
    constraint: Constraint,
    n_draft: Draft,
    room: int,
) -> tuple[list[int], Mask | None]:
    """The tokens that a round runs, and their masks."""
    # Forced tokens are certain, and a row of a run costs the same whoever its token is from. So as
    # many of them as the drafter would write are worth more than its drafts, and cost no draft.
    # Fewer of them do not: a drafter that writes them too goes on behind them in the same run, and
    # where it does not, the plan puts them in its place.
    forced = constraint.forced(room) if room > 0 else []
    if forced and len(forced) >= min(room, expected_drafts(pair, n_draft)):
        return constraint.plan(forced, room)
    return constraint.plan(pair.propose(sampler, n_draft, room + 1), room)


def expected_drafts(pair: Pair, n_draft: Draft) -> int:
    """How many tokens the drafter would write."""
    n = draft_length(n_draft)
    return pair.stats.n_draft if n < 0 else n


@checked
def constrained_token(context: Context, sampler: Sampler, constraint: Constraint) -> int:
    """Chooses the next token from the context's last row, without a drafter.

    Sampler and constraint have accepted it. If anything fails, the sampler is as before.
    """
    if not isinstance(context, Context):
        wrong("context", context, "a Context")
    _check(sampler, constraint)
    mark = sampler.mark()
    try:
        _, masks = constraint.plan([], 0)
        choose = getattr(constraint, "choose", None)
        if choose is None:
            token = sampler.sample(context, -1, None if masks is None else masks[0])
            sampler.accept(token)
        else:
            token = choose(context, context.n_rows - 1, sampler, [], masks, 1, ())[0]
    except BaseException:
        if not sampler.closed:
            sampler.go_back(mark)
        raise
    constraint.accept([token])
    return token


def processor_list(name: str, given: Any) -> list[LogitsProcessor]:
    """A list of logits processors, from a callable or several. name: of the argument, for
    sentences."""
    several = [given] if callable(given) else given
    if isinstance(several, (str, bytes)) or not isinstance(several, Sequence):
        wrong(name, given, "a callable or a list of them")
    for at, one in enumerate(several):
        if not callable(one):
            wrong(f"{name}[{at}]", one, "a callable")
    return list(several)


@checked_class
class LogitsProcessors:
    """A constraint made of functions that change the logits before the sampler reads them.

    processors: a callable or several, applied in order: (int32 [n] tokens so far, float32 [n_vocab]
    logits) -> logits of the same shape. They may change the array.
    prompt: the tokens that the text begins with.
    under: another constraint, such as a grammar. Its masks apply after the processors.
    criteria: a callable or several: (tokens so far, logits before the processors) -> True where the
    text ends. end_token: the token that then stands in place of the next.

    The rows of a round are processed in order, each only if the drafts before it are accepted. So a
    processor sees nothing but the text.
    """

    def __init__(
        self,
        processors: LogitsProcessor | Sequence[LogitsProcessor],
        prompt: Tokens,
        under: Constraint | None = None,
        *,
        criteria: StoppingCriterion | Sequence[StoppingCriterion] = (),
        end_token: int | None = None,
    ) -> None:
        self._processors = processor_list("processors", processors)
        self._criteria: list[Any] = processor_list("criteria", criteria)
        if self._criteria and end_token is None:
            raise UsageError("criteria need an end_token; this model has no token that ends texts")
        self._end = -1 if end_token is None else check_int("end_token", end_token, 0, 2**31 - 1)
        self._is_cut = False  # by the criteria, in the round under way
        if under is not None and not isinstance(under, Constraint):
            wrong("under", under, "a Constraint or None")
        self._text = token_list(prompt)
        self._under = under

    @property
    def stopped(self) -> bool:
        """True if the text under `under` is complete."""
        return self._under is not None and self._under.stopped

    def plan(self, drafts: Sequence[int], n_max: int) -> tuple[list[int], Mask | None]:
        """As `Constraint.plan`, whose drafts and n_max it takes."""
        if self._under is not None:
            return self._under.plan(drafts, n_max)
        return list(drafts[:n_max]), None

    def forced(self, n_max: int) -> list[int]:
        """As `Constraint.forced`, up to n_max tokens."""
        return [] if self._under is None else self._under.forced(n_max)

    def accept(self, tokens: Sequence[int]) -> None:
        """As `Constraint.accept`: these tokens are in the text."""
        self._text += tokens
        if self._under is not None:  # which knows nothing of the criteria's end token
            self._under.accept(tokens[:-1] if self._is_cut else tokens)

    def choose(
        self,
        context: Context,
        first_row: int,
        sampler: Sampler,
        drafts: Sequence[int],
        masks: Mask | None,
        n_max: int,
        end_tokens: Collection[int],
    ) -> list[int]:
        """Chooses a token for each row of a run, as long as drafts, end_tokens and n_max let it go
        on. The sampler has accepted them.

        context, first_row: the output rows of the run. masks: those of `plan`."""
        chosen: list[int] = []
        self._is_cut = False
        while True:
            i, ids = len(chosen), np.array(self._text + chosen, dtype=np.intc)
            scores = context.logits(first_row + i)
            if any([one(ids, scores) for one in self._criteria]):  # each sees each text
                self._is_cut = True
                sampler.accept(self._end)
                return [*chosen, self._end]
            scores = self._scores(ids, scores)
            token = sampler.sample_from(scores, None if masks is None else masks[i])
            sampler.accept(token)
            chosen.append(token)
            if i == len(drafts) or token != drafts[i] or token in end_tokens or i + 1 == n_max:
                return chosen

    def _scores(self, ids: Ids, scores: Scores) -> Scores:
        shape = scores.shape
        for processor in self._processors:
            result: Any = processor(ids, scores)
            name = f"the result of logits processor {getattr(processor, '__name__', processor)!r}"
            scores = float_row(name, result)
            if scores.shape != shape:
                raise UsageError(f"{name} has {scores.size} logits, the vocabulary {shape[0]}")
        return scores
