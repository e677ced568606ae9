"""`Request`: what a caller asks of an engine. `Work`: a request under way.

A Work lies between the engine's thread, which alone runs it, and the callers who wait for its text.
It belongs to neither. The engine doesn't know the handle (generation.py), so a handle that nobody
holds any more can end its work.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._locks import forks
from .._native import ffi, token_array
from ..arguments import check_bool, check_int, check_number, check_text, wrong
from ..calling import checked_class
from ..errors import Cancelled, UsageError
from ..pair import Draft, PairStats, draft_length
from ..pair_stats import Reading
from ..sampling import Sampler, SamplingParams
from .assembler import Piece, TextAssembler
from .stops import stop_strings
from .waiting import wake_all


@dataclass
class Timings:
    """Counts and times under llama-server's names."""

    cache_n: int = 0
    """Prompt tokens that the context already held."""
    prompt_n: int = 0
    """Prompt tokens that were evaluated."""
    prompt_ms: float = 0.0
    """Milliseconds of these runs."""
    predicted_n: int = 0
    """Generated tokens, without the one that ends the text."""
    predicted_ms: float = 0.0
    """Milliseconds of its own runs; other requests may have had turns in between."""
    draft_n: int | None = None
    """Drafted tokens; None without a drafter."""
    draft_n_accepted: int = 0
    """Those of them that stand."""

    def as_dict(self) -> dict[str, float]:
        """Counts and times by llama-server's names."""
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
    """How tokens are chosen."""
    max_tokens: int | None = None
    """The most tokens to write; None: until the context is full."""
    stop: Sequence[str] = ()
    """Strings that end the text; none of them is empty."""
    logprobs: int | None = None
    """Number of alternatives to list for each token; None: no log-probabilities."""
    draft: Draft | None = None
    """Draft length; None: as many as pay off."""
    shown: Collection[int] = ()
    """Control tokens whose spelling belongs to the text."""
    constraint: Any = None
    """Limits the text: a constraint.Constraint, or a function that makes a fresh one."""
    owner: str = ""
    """Its owner. Owners take turns. An owner never uses the cache that another owner's prompts left
    behind; the cache of "" may be used by anybody."""
    low_priority: bool = False
    """True: it waits while others wait."""
    queue_timeout: float | None = None
    """Seconds it may wait to begin. Then it raises `TimedOut`."""
    total_timeout: float | None = None
    """Seconds it may take in all. Then it raises `TimedOut`."""
    media: Any = None
    """Keeps the rows of media in the model (media.cache.Lease) while the request is unfinished;
    None: the prompt has none."""
    scores_prompt: bool = False
    """Also computes the log-probabilities of the prompt's tokens, which runs the prompt a second
    time."""


def check_request(request: Any, n_vocab: int) -> Any:
    """Raises `UsageError` for a wrong value in a request. Returns its prompt, int32 [n]."""
    if not isinstance(request, Request):
        wrong("request", request, "a Request")
    array, n = token_array(request.prompt, "prompt")
    prompt = np.frombuffer(ffi.buffer(array, 4 * n), dtype=np.int32).copy()
    known = prompt >= 0
    if request.media is not None:
        if request.media.over:
            raise UsageError("the media of this request are gone: such a request serves once")
        for ids in request.media.ids:
            known |= (prompt <= ids[0]) & (prompt >= ids[-1])
    known &= prompt < n_vocab
    if not known.all():
        at = int(np.argmin(known))
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
    """A request under way. The engine's thread writes it; any thread may read or end it."""

    def __init__(
        self, request: Request, prompt: Any, sampler: Sampler, assembler: TextAssembler
    ) -> None:
        self.request = request
        self.prompt = prompt
        """int32 [n]."""
        form = request.constraint
        self.constraint = form() if callable(form) else form
        self.sampler: Sampler | None = sampler
        self.accepted = False
        """The sampler's penalties know the prompt."""
        self.assembler = assembler
        self.timings = Timings()
        self.counts: tuple[PairStats, Reading] | None = None
        """The pair's counts as the request found them, and as last read; None: not read yet."""
        self.no_drafter = ""
        """Why there is no drafter; "": there is one."""
        self.prompt_scores: list[float] | None = None
        self.state = "queued"
        """ "queued", "reading" the prompt, "writing", or "done"."""
        self.place = 0
        """Place in the queue, from 1; 0: it is not in the queue."""
        self.pieces: deque[Piece] = deque()
        """Pieces that nobody has taken yet."""
        self.inside: Any = None
        """The Slot of its current run; None: it does not run."""
        self.forks = forks()
        self.submitted = time.monotonic()
        self.admitted: float | None = None
        self.first: float | None = None
        """Time of its first token."""
        self.told: float | None = None
        """Time at which its last round ended."""
        self.cause = ""
        """Why it ended early: "cancelled", "dropped", "timeout", "closed", "error"; "": it did
        not."""
        self.counted = False
        """True if the engine counted its early end."""
        self.kept: bytes | None = None
        """The cache of its text, while it is parked; None: the text is read again."""
        self.cut = False
        """True if it was cancelled: what it made meanwhile is dropped."""
        self.why: str | None = None
        """Why it ended early, as a sentence; None: it did not."""
        self.wanted = True
        """False: no handle is left."""
        self._errors: deque[BaseException] = deque()  # until it is raised: a traceback keeps frames
        self._end: dict[str, object] = {}
        self.readers: deque[Any] = deque()
        """Waiters for the next piece."""
        self.enders: deque[Any] = deque()
        """Waiters for the end."""

    @property
    def speculation(self) -> PairStats:
        """What the drafter did for the request, as last read."""
        if self.counts is None:
            return PairStats(reason=self.no_drafter)
        before, now = self.counts
        return now.stats - before

    @property
    def ended(self) -> bool:
        """True once something ended it."""
        return "by" in self._end

    def deliver(self, pieces: Sequence[Piece]) -> None:
        """Hands out the pieces of one turn together."""
        self.pieces.extend(pieces)
        if self.readers:
            wake_all(self.readers)

    def end(self, error: BaseException | None = None, cause: str = "", cut: bool = False) -> bool:
        """Ends the work, with the text's own end or with the error that its waiters raise. The
        first end counts; returns False for a later one.

        cut: ends at once, before pieces that nobody has taken yet.
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
        """True once it has ended and its results are complete."""
        return "over" in self._end

    def drop(self) -> None:
        """Notes that nobody waits for it any more."""
        self.wanted = False
        self._errors.clear()

    def raise_error(self) -> None:
        """Raises what ended it early. The first call raises the error itself, later calls
        `Cancelled` with the same reason."""
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
