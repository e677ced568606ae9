"""The measurements of `pillion bench --parallel`: several users of one engine at once."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from .. import Engine, Model, UsageError
from ..pair import DRAFT_MAX, Draft
from .library_clock import LibraryClock
from .timeline import Spread, common_window, gap_summary, gaps_ms, rates, spread
from .users import Maker, Together, finish, submit, until_all_begin

Result = dict[str, Any]

PLAIN, AUTO, FIXED = "plain", "auto", "fixed"
_WARM_ROWS, _WARM_TOKENS = 64, 8


@dataclass(frozen=True)
class Mode:
    """How the users draft."""

    name: str
    """PLAIN (an engine without a drafter), AUTO or FIXED."""
    lengths: tuple[Draft, ...] = (0,)
    """Draft lengths; the users have them in turn."""

    def of_user(self, number: int) -> Draft:
        """The draft length of a user."""
        return self.lengths[number % len(self.lengths)]

    @property
    def shown(self) -> Draft | list[Draft]:
        """For results."""
        return self.lengths[0] if len(self.lengths) == 1 else list(self.lengths)


@dataclass
class Setting:
    """What is measured."""

    model: Model
    drafter: Any = None
    """As `Pair`'s; None: nothing drafts."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """Arguments of the slots' contexts, without n_ctx."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the slots' pairs."""
    prompt: Callable[[int], list[int]] = lambda number: [number]
    """The prompt of a number; no two begin alike."""
    n_prompt: int = 512
    n_gen: int = 128
    repeats: int = 5
    chance: float | None = None
    """Acceptance of each draft, simulated; None: as it comes."""

    def engine(self, mode: Mode, parallel: int, n_ctx: int) -> Engine:
        """Slots for so many users."""
        sizes = {**self.sizes, "n_ctx": n_ctx, "n_outputs": DRAFT_MAX + 1}
        plain = mode.name == PLAIN
        return Engine(
            self.model,
            sizes=sizes,
            drafter=None if plain else self.drafter,
            options=None if plain else self.options,
            parallel=parallel,
            queue_limit=None,
        )

    def check(self, n_ctx: int, said: str) -> int:
        """n_ctx, if the model was trained for it; else raises `UsageError`. said: of what is too
        long."""
        most = self.model.n_ctx_train
        if n_ctx > most:
            raise UsageError(f"{said} do not fit the model's {most} positions")
        return n_ctx


@dataclass
class Taken:
    """One measurement of some users in a mode."""

    rates: list[float]
    first_ms: list[float]
    gaps_ms: list[float]
    rounds: int
    user_rounds: int
    tokens: int
    drafted: int
    accepted: int
    round_ms: float
    python_ms: float
    python_cpu_ms: float


class Parallel:
    """Measures users of one engine a mode, all with slots for the largest number of users.

    In each measurement the prompts come together to empty caches, and the users write until each
    has its first token. Then the same prompts, which the caches hold now, begin together again, and
    all texts are written to their ends: their speed counts from when the last one has begun until
    the first one ends.
    """

    def __init__(self, setting: Setting, users: Sequence[int], modes: Sequence[Mode]) -> None:
        self._of = setting
        self.users = sorted({1, *users})  # one user without drafter is what ratios are against
        self._asked = set(users)
        self.modes = modes
        self._maker = Maker(setting.model, setting.chance)
        self._prompts = iter(range(1, 1 << 30))
        self._taken: dict[tuple[int, str], list[Taken]] = {}

    def run(self, report: Callable[[int, int], None]) -> list[Result]:
        """report: called with (measurements done, all of them)."""
        of, parallel = self._of, self.users[-1]
        said = f"-p {of.n_prompt} and -n {of.n_gen}"
        n_ctx = of.check(of.n_prompt + of.n_gen + 2 * DRAFT_MAX + 2, said)
        order = list(self._order())
        with LibraryClock() as clock, ExitStack() as stack:
            engines: dict[bool, Engine] = {}
            for mode in self.modes:
                plain = mode.name == PLAIN
                if plain not in engines:
                    engines[plain] = stack.enter_context(of.engine(mode, parallel, n_ctx))
                self._warm_up(engines[plain], mode)
            for done, (n, mode) in enumerate(order):
                report(done, len(order))
                taken = self._measure(engines[mode.name == PLAIN], clock, n, mode)
                self._taken.setdefault((n, mode.name), []).append(taken)
        return [
            self._result(n, mode) for n in self.users for mode in self.modes if self._has(n, mode)
        ]

    def _has(self, n: int, mode: Mode) -> bool:
        return n in self._asked or mode.name == PLAIN

    def _order(self) -> Iterator[tuple[int, Mode]]:
        """Modes take turns, and each is the first one now and then."""
        for number in range(self._of.repeats):
            for n in self.users:
                for i in range(len(self.modes)):
                    mode = self.modes[(i + number) % len(self.modes)]
                    if self._has(n, mode):
                        yield n, mode

    def _new_prompts(self, n: int) -> list[list[int]]:
        return [self._of.prompt(next(self._prompts)) for _ in range(n)]

    def _warm_up(self, engine: Engine, mode: Mode) -> None:
        """Short texts on all slots, so that no measurement pays for a first use."""
        prompts = [one[:_WARM_ROWS] for one in self._new_prompts(engine.parallel)]
        finish(engine, self._requests(prompts, mode, min(_WARM_TOKENS, self._of.n_gen)))

    def _requests(self, prompts: Sequence[list[int]], mode: Mode, n: int) -> list[Any]:
        return [
            self._maker.request(prompt, n, mode.of_user(number))
            for number, prompt in enumerate(prompts)
        ]

    def _measure(self, engine: Engine, clock: LibraryClock, n: int, mode: Mode) -> Taken:
        prompts, n_gen = self._new_prompts(n), self._of.n_gen
        engine.forget()
        first = submit(engine, self._requests(prompts, mode, n_gen))
        asyncio.run(until_all_begin(first))
        finish(engine, self._requests(prompts, mode, 1))  # whatever the stopped ones left behind
        clock.forget()
        together = Together(engine, submit(engine, self._requests(prompts, mode, n_gen)))
        asyncio.run(together.read())
        return _taken([text.first_ms for text in first], together, clock)

    def _result(self, n: int, mode: Mode) -> Result:
        """A row: what its measurements gave together."""
        found, of = self._taken[n, mode.name], self._of
        totals = [sum(one.rates) for one in found]
        base = [sum(one.rates) for one in self._taken[1, PLAIN]]
        rounds = sum(one.rounds for one in found)
        user_rounds = sum(one.user_rounds for one in found)
        drafted = sum(one.drafted for one in found)
        return {
            "test": "parallel",
            "users": n,
            "mode": mode.name,
            "draft": mode.shown,
            "ctx": of.n_prompt,
            "n": of.n_gen,
            "repeats": len(found),
            "tokens_per_second": spread(totals),
            "over_one_plain": spread([a / b for a, b in zip(totals, base, strict=True)]),
            "user_tokens_per_second": _all_of(found, "rates"),
            "first_token_ms": _all_of(found, "first_ms"),
            "gap_ms": gap_summary([ms for one in found for ms in one.gaps_ms]),
            "rounds": rounds,
            "rows_per_run": (user_rounds + drafted) / rounds if rounds else None,
            "tokens_per_round": sum(one.tokens for one in found) / user_rounds,
            "acceptance": sum(one.accepted for one in found) / drafted if drafted else None,
            "round_ms": statistics.median(one.round_ms for one in found),
            "python_ms": spread([one.python_ms for one in found]),
            "python_cpu_ms": spread([one.python_cpu_ms for one in found]),
            "simulated_acceptance": of.chance if mode.name != PLAIN else None,
        }


def _taken(first_ms: list[float], together: Together, clock: LibraryClock) -> Taken:
    users = [text.arrivals for text in together.texts]
    window = common_window(users)
    assert together.first is not None and together.last is not None
    before, after = together.first.stats, together.last.stats
    begin, end = together.counted_window
    outside = clock.outside((begin, end))
    rounds, tokens = after.rounds - before.rounds, after.tokens - before.tokens
    drafted_rounds = sum(after.draft_lengths) - sum(before.draft_lengths)
    return Taken(
        rates=rates(users, window),
        first_ms=first_ms,
        gaps_ms=[ms for arrivals in users for ms in gaps_ms(arrivals, window)],
        rounds=rounds,
        user_rounds=drafted_rounds or tokens,  # without a drafter a round is a token
        tokens=tokens,
        drafted=after.drafted - before.drafted,
        accepted=after.accepted - before.accepted,
        round_ms=1e3 * (end - begin) / max(rounds, 1),
        python_ms=1e3 * outside.seconds / max(rounds, 1),
        python_cpu_ms=1e3 * outside.used / max(rounds, 1),
    )


def _all_of(found: Sequence[Taken], name: str) -> Spread:
    return spread([value for one in found for value in getattr(one, name)])
