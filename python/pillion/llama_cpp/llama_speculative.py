"""Draft models: what guesses ahead. The guesses change the speed, never the text."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import wrong
from ..constraint import Constraint, Ids
from ..pair import DRAFT_MAX
from ..sampling import Mask


class LlamaDraftModel(abc.ABC):
    """Guesses the tokens that follow a text."""

    @abc.abstractmethod
    def __call__(self, input_ids: Ids, /, **kwargs: Any) -> npt.NDArray[np.intc]:
        """Returns int32 [n] tokens; n may be 0."""


class LlamaPromptLookupDecoding(LlamaDraftModel):
    """Guesses that the text repeats itself. `Llama` runs pillion's own lookup in its place, which
    does the same in C++ and chooses the number of guesses."""

    def __init__(self, max_ngram_size: int = 2, num_pred_tokens: int = 10) -> None:
        self.max_ngram_size = max_ngram_size
        self.num_pred_tokens = num_pred_tokens

    @staticmethod
    def find_candidate_pred_tokens(
        input_ids: Ids, max_ngram_size: int, num_pred_tokens: int
    ) -> npt.NDArray[np.intc]:
        """The tokens behind the first earlier place of the longest known end of the text."""
        n = len(input_ids)
        for size in range(min(max_ngram_size, n - 1), 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(input_ids, size)
            found = np.flatnonzero((windows == input_ids[n - size :]).all(axis=1)) + size
            begins = found[found < n]
            if len(begins) and num_pred_tokens > 0:
                return np.asarray(input_ids[begins[0] : begins[0] + num_pred_tokens], dtype=np.intc)
        return np.array([], dtype=np.intc)

    def __call__(self, input_ids: Ids, /, **kwargs: Any) -> npt.NDArray[np.intc]:
        return self.find_candidate_pred_tokens(
            np.asarray(input_ids), self.max_ngram_size, self.num_pred_tokens
        )


class DraftsOf:
    """A constraint that limits nothing: it puts the guesses of a Python function in place of a
    drafter's. under: the constraint that the text has, if any."""

    def __init__(
        self, model: Callable[[Ids], Any], prompt: Sequence[int], under: Constraint | None
    ) -> None:
        self._model = model
        self._text = list(prompt)
        self._under = under

    def __getattr__(self, name: str) -> Any:
        if name == "choose" and self._under is not None:  # only logits processors have it
            return getattr(self._under, name)
        raise AttributeError(name)

    @property
    def stopped(self) -> bool:
        """As `Constraint.stopped`."""
        return self._under is not None and self._under.stopped

    def plan(self, drafts: Sequence[int], n_max: int) -> tuple[list[int], Mask | None]:
        """As `Constraint.plan`, with the function's guesses."""
        if not drafts and n_max > 0:
            guessed = np.asarray(self._model(np.array(self._text, dtype=np.intc)))
            if guessed.dtype.kind not in "iuf" or not np.isfinite(guessed).all():
                wrong("what draft_model guessed", guessed, "an array of token ids [n]")
            drafts = guessed.astype(int).ravel()[: min(n_max, DRAFT_MAX)].tolist()
        if self._under is not None:
            return self._under.plan(drafts, n_max)
        return list(drafts), None

    def forced(self, n_max: int) -> list[int]:
        """As `Constraint.forced`."""
        return [] if self._under is None else self._under.forced(n_max)

    def accept(self, tokens: Sequence[int]) -> None:
        """As `Constraint.accept`."""
        self._text += tokens
        if self._under is not None:
            self._under.accept(tokens)
