"""The measurements of `pillion bench --parallel`: several users of one engine at once."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import NamedTuple

from .. import Engine, Request
from ..pair import DRAFT_MAX
from .library_clock import LibraryClock
from .setting import PLAIN, Mode, Result, Setting
from .simulated_acceptance import SimulatedAcceptance
from .timeline import Spread, common_window, gap_summary, gaps_ms, rates, spread
from .users import Counts, Maker, Together, finish, until_all_begin

_WARM_ROWS, _WARM_TOKENS = 64, 8
_TRIES = 3
LATE = 0.1
"""Share of the tokens. A measurement whose reader was later is made again, a few times."""


@dataclass
class Taken:
    """One measurement of some users in a mode."""

    rates: list[float]
    first_ms: list[float]
    gaps_ms: list[float]
    all: Counts
    """From the submission to the last end."""
    together: Counts
    """While all wrote."""
    round_ms: float
    python_ms: float
    python_cpu_ms: float
    late: float
    """As of `Together`."""


class Step(NamedTuple):
    """One measurement of the run. beside: the number of users whose modes it stands beside."""

    beside: int
    users: int
    mode: Mode

    @property
    def is_base(self) -> bool:
        """One user without drafter."""
        return self.users == 1 and self.mode.name == PLAIN


class Parallel:
    """Measures users of one engine a mode, all with slots for the largest number of users.

    In each measurement the prompts come together to empty caches, and the users write until each
    has its first token. Then the same prompts, which the caches hold now, begin together again, and
    all texts are written to their ends: their speed counts from when the last one has begun until
    the first one ends.

    modes: the first is PLAIN. One user of it is measured beside each number of users, for machines
    drift. Raises `UsageError` if prompt and text don't fit the model.
    """

    def __init__(self, setting: Setting, users: Sequence[int], modes: Sequence[Mode]) -> None:
        self._of = setting
        self.users = sorted(set(users))
        self.modes = modes
        self._maker = Maker(setting.model, setting.chance)
        self._prompts = iter(range(1, 1 << 30))
        self._taken: dict[tuple[int, str], list[Taken]] = {}
        self._base: dict[int, list[float]] = {n: [] for n in self.users}  # by users beside it
        n_ctx = setting.n_prompt + setting.n_gen + 2 * DRAFT_MAX + 2
        said = f"-p {setting.n_prompt} and -n {setting.n_gen}"
        self._n_ctx = setting.check(n_ctx, said)

    def run(self, report: Callable[[int, int], None]) -> list[Result]:
        """report: called with (measurements done, all of them)."""
        steps = list(self._steps())
        with LibraryClock(SimulatedAcceptance) as clock, ExitStack() as stack:
            engines: dict[bool, Engine] = {}
            for mode in self.modes:
                plain = mode.name == PLAIN
                if plain not in engines:
                    engine = self._of.engine(mode, self.users[-1], self._n_ctx)
                    engines[plain] = stack.enter_context(engine)
                self._warm_up(engines[plain], mode)
            for done, step in enumerate(steps):
                report(done, len(steps))
                taken = self._measured(engines[step.mode.name == PLAIN], clock, step)
                if step.is_base:
                    self._base[step.beside].append(sum(taken.rates))
                if step.users == step.beside:
                    self._taken.setdefault((step.users, step.mode.name), []).append(taken)
        return [self._result(n, mode) for n in self.users for mode in self.modes]

    def _steps(self) -> Iterator[Step]:
        """Modes take turns, and each is the first one now and then."""
        for number in range(self._of.repeats):
            for n in self.users:
                if n > 1:
                    yield Step(n, 1, self.modes[0])
                for i in range(len(self.modes)):
                    yield Step(n, n, self.modes[(i + number) % len(self.modes)])

    def _new_prompts(self, n: int) -> list[list[int]]:
        return [self._of.prompt(next(self._prompts)) for _ in range(n)]

    def _warm_up(self, engine: Engine, mode: Mode) -> None:
        """Short texts on all slots, so that no measurement pays for a first use."""
        prompts = [one[:_WARM_ROWS] for one in self._new_prompts(engine.parallel)]
        finish(engine, self._requests(prompts, mode, min(_WARM_TOKENS, self._of.n_gen)))

    def _requests(self, prompts: Sequence[list[int]], mode: Mode, n: int) -> list[Request]:
        return [
            self._maker.request(prompt, n, mode.of_user(number))
            for number, prompt in enumerate(prompts)
        ]

    def _measured(self, engine: Engine, clock: LibraryClock, step: Step) -> Taken:
        """A measurement with a reader that was in time, or the best of a few."""
        found: list[Taken] = []
        while len(found) < _TRIES and all(one.late > LATE for one in found):
            found.append(self._measure(engine, clock, step))
        return min(found, key=lambda one: one.late)

    def _measure(self, engine: Engine, clock: LibraryClock, step: Step) -> Taken:
        prompts, n_gen, mode = self._new_prompts(step.users), self._of.n_gen, step.mode
        engine.forget()
        first = asyncio.run(until_all_begin(engine, self._requests(prompts, mode, n_gen)))
        finish(engine, self._requests(prompts, mode, 1))  # whatever the stopped ones left behind
        clock.forget()
        together = Together(engine)
        asyncio.run(together.read(self._requests(prompts, mode, n_gen)))
        return _taken([text.first_ms for text in first], together, clock)

    def _totals(self, n: int, mode: Mode) -> list[float]:
        """Tokens per second of all users, for each repeat."""
        return [sum(one.rates) for one in self._taken[n, mode.name]]

    def _result(self, n: int, mode: Mode) -> Result:
        """A row: what its measurements gave together."""
        found, of = self._taken[n, mode.name], self._of
        totals = self._totals(n, mode)
        counts = reduce(add, (one.all for one in found))
        together = reduce(add, (one.together for one in found))
        rows = together.user_rounds + together.drafted
        return {
            "test": "parallel",
            "users": n,
            "mode": mode.name,
            "draft": mode.shown,
            "ctx": of.n_prompt,
            "n": of.n_gen,
            "repeats": len(found),
            "tokens_per_second": spread(totals),
            "over_one_plain": _ratio(totals, self._base[n]),
            "over_plain": _ratio(totals, self._totals(n, self.modes[0])),
            "over_one_user": _ratio(totals, self._totals(1, mode)) if 1 in self.users else None,
            "user_tokens_per_second": _all_of(found, "rates"),
            "first_token_ms": _all_of(found, "first_ms"),
            "gap_ms": gap_summary([ms for one in found for ms in one.gaps_ms]),
            "rounds": counts.rounds,
            "rows_per_run": rows / together.rounds if together.rounds else None,
            "tokens_per_round": counts.tokens / counts.user_rounds,
            "acceptance": counts.accepted / counts.drafted if counts.drafted else None,
            "round_ms": statistics.median(one.round_ms for one in found),
            "python_ms": spread([one.python_ms for one in found]),
            "python_cpu_ms": spread([one.python_cpu_ms for one in found]),
            "late": max(one.late for one in found),
            "simulated_acceptance": of.chance if mode.name != PLAIN else None,
        }


def _ratio(speeds: Sequence[float], base: Sequence[float]) -> Spread:
    """Of the measurements of the same repeats."""
    return spread([a / b for a, b in zip(speeds, base, strict=True)])


def _taken(first_ms: list[float], together: Together, clock: LibraryClock) -> Taken:
    users = [text.arrivals for text in together.texts]
    window = common_window(users)
    outside = clock.outside(together.window)
    per_round = 1e3 / max(together.together.rounds, 1)
    return Taken(
        rates=rates(users, window),
        first_ms=first_ms,
        gaps_ms=[ms for arrivals in users for ms in gaps_ms(arrivals, window)],
        all=together.all,
        together=together.together,
        round_ms=per_round * (together.window[1] - together.window[0]),
        python_ms=per_round * outside.seconds,
        python_cpu_ms=per_round * outside.used,
        late=together.late,
    )


def _all_of(found: Sequence[Taken], name: str) -> Spread:
    return spread([value for one in found for value in getattr(one, name)])
