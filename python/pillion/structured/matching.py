"""`GrammarConstraint`: a grammar that follows one reply, as rounds with a drafter need it
(constraint.py has the protocol).

Masks decide. Drafts and forced tokens are guesses that the masks let through; so the text is the
one that the masks alone would give, for every number of drafts.

End tokens are never fed to the matcher, and a draft that would complete the text is left to the
row before it: that row chooses it anyway, and the run has a row less.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..errors import UsageError
from .bridge import Vocabulary
from .ending import inside

_STOPPED = ("NoExtension", "EndOfSentence")


class GrammarConstraint:
    """Follows one reply by a grammar. prototype: an LLMatcher at its beginning; it is copied, never
    changed.

    banned: tokens that the sampler refuses whatever the mask allows (a bias of -inf).
    """

    def __init__(
        self, prototype: Any, vocabulary: Vocabulary, what: str, banned: Collection[int] = ()
    ) -> None:
        self.stopped = False
        """True if the text is complete: nothing may follow."""
        self._prototype = prototype
        with inside():
            self._matcher = prototype.deep_copy()
        self._what = what
        self._n_words = vocabulary.n_words
        self._end_tokens = vocabulary.end_tokens
        self._taken: list[int] = []
        self._masks = np.zeros((9, self._n_words), dtype=np.uint32)
        self._permitted = _without(banned, vocabulary.n_vocab) if banned else None

    # ---- the protocol ----

    def plan(self, drafts: Sequence[int], n_max: int) -> tuple[list[int], np.ndarray | None]:
        """Chooses the drafts to run: those of `drafts` that the grammar allows, then what it
        forces, at most n_max in all. Returns them and the masks of their rows and of the one behind
        them, uint32 [drafts + 1, words]. Leaves the state as before.

        Raises UsageError if the grammar leaves no token to go on with.
        """
        with inside():
            return self._planned(drafts, n_max)

    def _planned(self, drafts: Sequence[int], n_max: int) -> tuple[list[int], np.ndarray]:
        self._room_for(n_max)
        if not self._fill(0):
            raise UsageError(self._why_stuck())
        kept = self._follow(list(drafts)[: max(n_max, 0)], [], n_max)
        if len(kept) < n_max:
            kept = self._follow(self._matcher.compute_ff_tokens(), kept, n_max)
        if kept:
            self._undo(len(kept))
        return kept, self._masks[: len(kept) + 1]

    def forced(self, n_max: int) -> list[int]:
        """The tokens that the grammar forces now: they spell the only text that can follow. `plan`
        finds how many of them the masks allow."""
        with inside():
            found: list[int] = self._matcher.compute_ff_tokens()[: max(n_max, 0)]
        return found

    def accept(self, tokens: Sequence[int]) -> None:
        """Continues the text with these tokens."""
        with inside():
            self._accepted(tokens)

    def _accepted(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            if token in self._end_tokens:
                return
            if not self._matcher.consume_token(token):
                raise UsageError(f"token {token} does not follow {self._what}{self._reason()}")
            self._taken.append(token)
        if tokens:
            self._check_stop()

    # ---- one row ----

    def _follow(self, drafts: list[int], kept: list[int], n_max: int) -> list[int]:
        """Takes drafts as long as the masks allow them, and advances the state. Returns `kept` and
        the drafts taken."""
        for token in drafts:
            if len(kept) == n_max or token in self._end_tokens:
                break
            if not self._allows(len(kept), token):
                break
            if not self._matcher.consume_token(token):
                self._rebuild(kept)
                break
            kept = [*kept, token]
            if self._matcher.is_stopped() or not self._fill(len(kept)):
                kept = kept[:-1]  # the row before chooses it, or nothing could follow it
                self._rebuild(kept) if self._matcher.is_error() else self._undo(1)
                break
        return kept

    def _fill(self, row: int) -> bool:
        """Writes the mask of the current state. Returns False if no token is left, or if it took
        too much."""
        mask = self._masks[row]
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            return False
        if self._permitted is None:
            return True
        np.bitwise_and(mask, self._permitted, out=mask)
        return bool(mask.any())

    def _allows(self, row: int, token: int) -> bool:
        if not 0 <= token < 32 * self._n_words:
            return False
        return bool(self._masks[row, token >> 5] >> np.uint32(token & 31) & np.uint32(1))

    def _undo(self, n: int) -> None:
        if not self._matcher.rollback(n):
            self._rebuild([])

    def _rebuild(self, drafts: Sequence[int]) -> None:
        """Builds the state from the beginning: a matcher that met an error stays in it."""
        self._matcher = self._prototype.deep_copy()
        if not self._matcher.consume_tokens([*self._taken, *drafts]):
            raise UsageError(f"{self._what} cannot be followed any more{self._reason()}")

    def _room_for(self, n_max: int) -> None:
        if len(self._masks) <= n_max:
            self._masks = np.zeros((n_max + 1, self._n_words), dtype=np.uint32)

    # ---- ends ----

    def _check_stop(self) -> None:
        if not self._matcher.is_stopped():
            return
        if self._matcher.is_error() or self._matcher.stop_reason() not in _STOPPED:
            raise UsageError(f"{self._what} cannot be followed any more{self._reason()}")
        self.stopped = True

    def _why_stuck(self) -> str:
        n = len(self._taken)
        if self._matcher.is_error():
            return f"{self._what} cannot be followed after {n} tokens{self._reason()}"
        return f"{self._what} allows only tokens after {n} tokens of the reply that logit_bias bans"

    def _reason(self) -> str:
        reason = first_line(self._matcher.get_error())
        return f": {reason}" if reason else ""


def first_line(message: str) -> str:
    """llguidance's message without its dump of the state."""
    return message.split("\n", 1)[0].strip().rstrip(".")


def _without(banned: Collection[int], n_vocab: int) -> np.ndarray:
    """A mask of all tokens but these."""
    bits = np.ones((n_vocab + 31) // 32 * 32, dtype=np.uint8)
    bits[[one for one in banned if 0 <= one < n_vocab]] = 0
    return np.packbits(bits, bitorder="little").view(np.uint32)
