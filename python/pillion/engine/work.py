"""`Request`: what is asked of an engine. `Work`: one request under way.

A Work lies between the engine's thread, which alone runs it, and those that wait for its text. It
belongs to neither: the engine doesn't know the handle (generation.py), so a handle that nobody
holds any more can end its work.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from .._locks import forks
from .._native import ffi, token_array
from ..arguments import check_bool, check_int, check_number, check_text, wrong
from ..calling import checked_class
from ..errors import Cancelled, UsageError
from ..pair import Draft, PairStats, draft_length
from ..sampling import Sampler, SamplingParams
from .assembler import Piece, TextAssembler
from .stops import stop_strings
from .waiting import wake_all


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
    """Of its own runs; other requests may have had their turns in between."""
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


@checked_class
@dataclass
class Request:
    """One text to write."""

    prompt: list[int]
    """Token ids, at least one."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: Optional[int] = None
    """None: until the context is full."""
    stop: Sequence[str] = ()
    """Texts that end it; none of them is empty."""
    logprobs: Optional[int] = None
    """Alternatives to list for each token."""
    draft: Optional[Draft] = None
    """Draft length; None: as many as pay off."""
    shown: Collection[int] = ()
    """Control tokens whose spelling belongs to the text."""
    constraint: Any = None
    """What the text may be: a constraint.Constraint, or a function that makes a fresh one."""
    owner: str = ""
    """Whose it is. Owners take turns, and one never uses what another one's prompts left in a
    cache; what "" left is anybody's."""
    low_priority: bool = False
    """Waits while others wait."""
    queue_timeout: Optional[float] = None
    """Seconds it may wait to begin; `TimedOut` then."""
    total_timeout: Optional[float] = None
    """Seconds until it has to be over; `TimedOut` then."""
    scores_prompt: bool = False
    """Also gives the log-probabilities of the prompt's tokens, which runs it a second time."""


def check_request(request: Any, n_vocab: int) -> Any:
    """Raises `UsageError` for what is wrong in a request. Returns its prompt, int32 [n]."""
    if not isinstance(request, Request):
        wrong("request", request, "a Request")
    array, n = token_array(request.prompt, "prompt")
    prompt = np.frombuffer(ffi.buffer(array, 4 * n), dtype=np.int32).copy()
    if n and (prompt.min() < 0 or prompt.max() >= n_vocab):
        at = int(np.argmax((prompt < 0) | (prompt >= n_vocab)))
        said = f"token {at} of the prompt is {prompt[at]}"
        raise UsageError(f"{said}; the vocabulary has ids 0 to {n_vocab - 1}")
    if not isinstance(request.sampling, SamplingParams):
        wrong("sampling", request.sampling, "SamplingParams")
    if request.max_tokens is not None:
        check_int("max_tokens", request.max_tokens, 0)
    stop_strings(request.stop)
    if request.logprobs is not None:
        check_int("logprobs", request.logprobs, 0, n_vocab)
    draft_length("auto" if request.draft is None else request.draft)
    if not isinstance(request.shown, Collection):
        wrong("shown", request.shown, "a collection of token ids")
    form = request.constraint
    if form is not None and not callable(form) and not hasattr(form, "plan"):
        wrong("constraint", form, "a Constraint, or a function that makes one")
    check_text("owner", request.owner)
    check_bool("low_priority", request.low_priority)
    check_bool("scores_prompt", request.scores_prompt)
    for name in ("queue_timeout", "total_timeout"):
        if getattr(request, name) is not None:
            check_number(name, getattr(request, name), above=0, allowed="seconds, above 0")
    return prompt


class Work:
    """A request under way. The engine's thread writes it; anybody may read it, or end it."""

    def __init__(
        self, request: Request, prompt: Any, sampler: Sampler, assembler: TextAssembler
    ) -> None:
        self.request = request
        self.prompt = prompt
        """int32 [n]."""
        form = request.constraint
        self.constraint = form() if callable(form) else form
        self.sampler: Optional[Sampler] = sampler
        self.assembler = assembler
        self.timings = Timings()
        self.speculation = PairStats()
        self.prompt_scores: Optional[list[float]] = None
        self.state = "queued"
        """ "queued", "reading" the prompt, "writing", or "done"."""
        self.place = 0
        """Place in the queue, from 1 on; 0 when it is not there."""
        self.pieces: deque[Piece] = deque()
        """Made and not taken."""
        self.inside: Any = None
        """The Slot of a run that is under way for it."""
        self.forks = forks()
        self.submitted = time.monotonic()
        self.admitted: Optional[float] = None
        self.first: Optional[float] = None
        """When its first token came."""
        self.told: Optional[float] = None
        """When its last round ended."""
        self.cause = ""
        """Why it came to no end of its own: "cancelled", "dropped", "timeout", "closed",
        "error"."""
        self.counted = False
        """It stands among the engine's early ends."""
        self.cut = False
        """It was called off: what it made meanwhile is of no interest."""
        self.why: Optional[str] = None
        """Why it can't go on, once it has ended without its own end."""
        self.wanted = True
        """False: nobody has a handle any more."""
        self._errors: deque[BaseException] = deque()  # until it is raised: a traceback keeps frames
        self._end: dict[str, object] = {}
        self.readers: deque[Any] = deque()
        """Who waits for the next piece."""
        self.enders: deque[Any] = deque()
        """Who waits for the end."""

    @property
    def ended(self) -> bool:
        return "by" in self._end

    def deliver(self, pieces: Sequence[Piece]) -> None:
        """Pieces of one turn, in one go."""
        self.pieces.extend(pieces)
        if self.readers:
            wake_all(self.readers)

    def end(
        self, error: Optional[BaseException] = None, cause: str = "", cut: bool = False
    ) -> bool:
        """Ends it, by its own end or with what its waiters are to raise. The first one counts.

        cut: at once, even before the pieces that were not taken yet.
        """
        mine = object()
        if self._end.get("by") is not None or self._end.setdefault("by", mine) is not mine:
            return False
        if error is not None:
            self.why = error.args[0] if isinstance(error, Cancelled) else f"{_AN_ERROR}: {error}"
            self.cause, self.cut = cause or "error", cut
            if self.wanted:
                self._errors.append(error)
        self.state, self.place = "done", 0
        self._end["over"] = True
        wake_all(self.readers)
        wake_all(self.enders)
        return True

    @property
    def over(self) -> bool:
        """It has ended, and all there is to know of that is there."""
        return "over" in self._end

    def drop(self) -> None:
        """Nobody waits for it any more."""
        self.wanted = False
        self._errors.clear()

    def raise_error(self) -> None:
        """Raises what ended it, where that was no end of the text. Once the error itself, then
        `Cancelled`, which says what it was."""
        if self.why is None:
            return
        try:
            error = self._errors.popleft()
        except IndexError:
            error = Cancelled(self.why)
        try:
            raise error
        finally:
            del error  # the frame must not keep its own traceback


_AN_ERROR = "this generation cannot go on: it ended with an error"


def _per_second(n: int, ms: float) -> float:
    return 1e3 * n / ms if ms > 0 else 0.0
