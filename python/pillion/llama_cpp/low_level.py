"""`LowLevel`: the low-level side of `Llama`: eval, sample, generate, and going back to a state.

It works on the first context of the LLM, between the turns of its engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..arguments import check_bool, check_int, wrong
from ..calling import checked_class
from ..constraint import processor_list
from ..context import Context, Floats, unit_vector
from ..errors import OutOfMemoryError, UsageError
from ..llm.llm import LLM
from ..llm.requests import checked_ids
from ..sampling import SamplingParams
from .chooser import Chooser
from .llama_grammar import LlamaGrammar
from .llama_settings import checked_sampling
from .processors import LogitsProcessorList, StoppingCriteriaList

T = TypeVar("T")


class LlamaState:
    """A text, to go back to. It holds token ids, not keys and values: loading it runs those tokens
    that the context no longer has.

    input_ids: int32 [n_ctx]. scores: float32 [n_tokens, n_vocab] with logits_all, else without
    rows. llama_state: the n_tokens ids as int32 bytes.
    """

    def __init__(
        self,
        input_ids: npt.NDArray[np.intc],
        scores: Floats,
        n_tokens: int,
        llama_state: bytes,
        llama_state_size: int,
        seed: int | None,
    ) -> None:
        self.input_ids = input_ids
        self.scores = scores
        self.n_tokens = n_tokens
        self.llama_state = llama_state
        self.llama_state_size = llama_state_size
        self.seed = seed


@checked_class
class LowLevel:
    """See the module. A part of `Llama`."""

    _shown_as = "Llama"
    llm: LLM
    last_n_tokens_size: int
    n_batch: int
    _logits_all: bool
    _seed: int | None
    _scores_kept: Floats | None = None
    _chooser: Chooser | None = None

    # ---- what the context holds ----

    @property
    def n_tokens(self) -> int:
        """Tokens in the context. Setting it drops those behind."""
        return self.llm.context.n_past

    @n_tokens.setter
    def n_tokens(self, n: int) -> None:
        n = check_int("n_tokens", n, 0, self.n_tokens)
        if n != self.n_tokens:
            self._alone(lambda context: context.rewind(n))

    @property
    def input_ids(self) -> npt.NDArray[np.intc]:
        """int32 [n_ctx]: the tokens in the context, then zeros. A copy."""
        ids = np.zeros(self.llm.n_ctx(), dtype=np.intc)
        held = self.llm.context.tokens
        ids[: len(held)] = held
        return ids

    @property
    def eval_tokens(self) -> deque[int]:
        """The tokens in the context."""
        return deque(self.llm.context.tokens, maxlen=self.llm.n_ctx())

    @property
    def scores(self) -> Floats:
        """float32 [n_ctx, n_vocab]: the logits behind each token. Without logits_all only the row
        n_tokens - 1 is filled, and only after `eval`."""
        scores, context = self._score_rows(), self.llm.context
        if not self._logits_all and context.n_rows:
            scores[context.n_past - 1] = context.logits(-1, copy=False)
        return scores

    @property
    def eval_logits(self) -> deque[list[float]]:
        """The rows of `scores` as lists; without logits_all the last one."""
        n = self.n_tokens
        first = 0 if self._logits_all else max(n - 1, 0)
        return deque(self.scores[first:n].tolist(), maxlen=self.llm.n_ctx())

    def _score_rows(self) -> Floats:
        if self._scores_kept is None:
            shape = (self.llm.n_ctx(), self.llm.n_vocab())
            try:
                self._scores_kept = np.zeros(shape, dtype=np.single)
            except MemoryError:
                raise OutOfMemoryError(
                    f"scores takes {shape[0] * shape[1] * 4 / 1e9:.1f} GB for n_ctx {shape[0]}: "
                    "lower n_ctx, or read the logits row by row: Llama.llm.context.logits(row)"
                ) from None
        return self._scores_kept

    def _alone(self, work: Callable[[Context], T]) -> T:
        """Runs work on the first context while no answer is inside it."""
        found: list[T] = []
        self.llm.engine.between_turns(lambda: found.append(work(self.llm.context)))
        return found[0]

    # ---- running ----

    def eval(self, tokens: Sequence[int]) -> None:
        """Appends tokens to the context. Raises `ContextFullError` if they do not fit."""
        ids = checked_ids("tokens", tokens)
        if ids:
            self._alone(lambda context: self._eval(context, ids))

    def _eval(self, context: Context, ids: list[int]) -> None:
        if not self._logits_all:
            return context.prefill(ids, outputs=1)
        scores = self._score_rows()
        for at in range(0, len(ids), ROWS):
            part = ids[at : at + ROWS]
            begin = context.n_past
            context.prefill(part, outputs=len(part))
            for row in range(len(part)):
                scores[begin + row] = context.logits(row, copy=False)

    def sample(
        self,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_eta: float = 0.1,
        mirostat_tau: float = 5.0,
        penalize_nl: bool = True,
        logits_processor: LogitsProcessorList | None = None,
        grammar: LlamaGrammar | None = None,
        idx: int | None = None,
    ) -> int:
        """Chooses the token behind the context's last one; idx: behind another, with logits_all.

        Random numbers go on from call to call, until reset(), set_seed(), load_state() or other
        arguments. So eval and sample in a loop write what create_completion writes.
        """
        params = self._params(locals())
        if self._chooser is None or not self._chooser.serves(params, logits_processor, grammar):
            self._chooser = self._new_chooser(params, logits_processor, grammar)
        return self._choose(self._chooser, idx)

    def _params(self, given: Mapping[str, Any]) -> SamplingParams:
        checked = checked_sampling(given, "temp", self.last_n_tokens_size)
        banned = self.llm.requests.defaults.logit_bias
        return SamplingParams(**checked, seed=self._seed, logit_bias=banned)

    def _new_chooser(self, params: SamplingParams, processors: Any, grammar: Any) -> Chooser:
        return Chooser(self.llm, params, processors, grammar, len(self.llm.context.tokens))

    def _choose(self, chooser: Chooser, idx: int | None) -> int:
        def choose(context: Context) -> int:
            held = context.tokens
            if idx is None or idx == len(held) - 1:
                if not context.n_rows:
                    raise UsageError("sample() has no logits: eval() comes before it")
                return chooser.choose(held, context.logits(-1))
            at = check_int("idx", idx, 0, max(len(held) - 1, 0))
            if not self._logits_all:
                wrong("idx", idx, f"{len(held) - 1} or None, unless Llama has logits_all=True")
            return chooser.choose(held[: at + 1], self._score_rows()[at].copy())

        return self._alone(choose)

    def generate(
        self,
        tokens: Sequence[int],
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        reset: bool = True,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        penalize_nl: bool = True,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        grammar: LlamaGrammar | None = None,
    ) -> Generator[int, Sequence[int] | None, None]:
        """Yields the tokens behind a prompt, one run each, without a drafter, beyond the end of the
        text too. `send(tokens)` puts tokens behind the last one.

        reset: the prompt stands alone; what the context holds of it does not run again. False: it
        stands behind what the context holds.
        """
        params = self._params(locals())
        ids = checked_ids("tokens", tokens)
        return self._generate(ids, params, reset, logits_processor, stopping_criteria, grammar)

    def _generate(
        self,
        ids: list[int],
        params: SamplingParams,
        reset: bool,
        processors: Any,
        criteria: Any,
        grammar: Any,
    ) -> Generator[int, Sequence[int] | None, None]:
        criteria = None if criteria is None else processor_list("stopping_criteria", criteria)
        self._begin(ids, check_bool("reset", reset))
        chooser = self._chooser = self._new_chooser(params, processors, grammar)
        while True:
            token = self._choose(chooser, None)
            if criteria is not None and self._alone(lambda context: _is_over(context, criteria)):
                return
            more = yield token
            self.eval([token, *(more or ())])

    def _begin(self, ids: list[int], reset: bool) -> None:
        if not reset:
            return self.eval(ids)
        if not ids:
            raise UsageError("tokens is empty; generate() needs at least one")
        if self._logits_all:
            self.llm.reset()
            return self.eval(ids)
        self._alone(lambda context: context.sync(ids))

    # ---- going back ----

    def reset(self) -> None:
        """Empties the contexts and begins the random numbers anew."""
        self._chooser = None
        self.llm.reset()

    def set_seed(self, seed: int) -> None:
        """Sets the seed of calls that give none. -1 and LLAMA_DEFAULT_SEED: a random one."""
        from .keywords import seed_of

        self._seed = self.llm.seed = seed_of(seed)
        self._chooser = None

    def save_state(self) -> LlamaState:
        """The text in the context. It costs a copy of its token ids, and of `scores` with
        logits_all."""
        held = np.array(self.llm.context.tokens, dtype=np.int32)
        n = len(held) if self._logits_all else 0
        scores = self._score_rows()[:n].copy() if n else np.zeros((0, self.llm.n_vocab()), "f4")
        raw = held.tobytes()
        return LlamaState(self.input_ids, scores, len(held), raw, len(raw), self._seed)

    def load_state(self, state: LlamaState) -> None:
        """Goes back to a text, with the logits of its last token. What follows has the same bits.
        Tokens that the context no longer holds run again."""
        if not isinstance(state, LlamaState):
            wrong("state", state, "what save_state() returned")
        from .keywords import seed_of

        ids, scores, seed = _ids_of(state), self._scores_of(state), seed_of(state.seed)
        self._alone(lambda context: context.sync(ids) if ids else context.clear())
        self._seed = self.llm.seed = seed
        self._chooser = None
        if len(scores):
            self._score_rows()[: len(scores)] = scores

    def _scores_of(self, state: LlamaState) -> Floats:
        n_ctx, n_vocab = self.llm.n_ctx(), self.llm.n_vocab()
        scores = np.asarray(state.scores)
        fits = scores.ndim == 2 and scores.shape[1] == n_vocab and len(scores) <= n_ctx
        if not fits or scores.dtype.kind != "f":
            raise UsageError(
                f"the state's scores are {scores.dtype} {list(scores.shape)}; this Llama has "
                f"floats [at most {n_ctx}, {n_vocab}]: the state is of another model"
            )
        return scores


ROWS = 8  # rows with logits of one run: an LLM's contexts return DRAFT_MAX + 1


def _ids_of(state: LlamaState) -> list[int]:
    held = state.llama_state
    if not isinstance(held, (bytes, bytearray, memoryview)) or len(held) % 4:
        wrong("the state's llama_state", held, "token ids as int32 bytes")
    ids: list[int] = np.frombuffer(held, dtype=np.int32).tolist()
    return ids


def _is_over(context: Context, criteria: Any) -> bool:
    ids = np.array(context.tokens, dtype=np.intc)
    scores = context.logits(-1)
    return any([one(ids, scores) for one in criteria])


def hidden_rows(context: Context, ids: list[int], normalize: bool) -> Floats:
    """The hidden row behind each token of a text, float32 [n, n_embd]. The context is emptied
    first."""
    context.clear()
    rows: list[Floats] = []
    for at in range(0, len(ids), ROWS):
        part = ids[at : at + ROWS]
        context.prefill(part, outputs=len(part))
        rows += [context.hidden(row) for row in range(len(part))]
    return np.stack([unit_vector(one) for one in rows] if normalize else rows)
