"""A long prompt arrives beside a text that is being written: how long the text stands still, and
how long the newcomer waits."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from .. import Engine, UsageError
from ..engine.scheduler import ROUNDS, ROWS_MIN, TARGET
from ..pair import DRAFT_MAX
from .setting import PLAIN, Mode, Result, Setting
from .timeline import gap_summary, gaps_across_ms, gaps_ms, spread
from .users import Maker, Text, submit

_ROUNDS_BEFORE = 16  # of the stream, before the prompt comes
_WARM_ROWS = 512


class Arriving:
    """Measures with two slots. The stream writes until the newcomer has its first token.

    n_arriving: tokens of the newcomer's prompt. Raises `UsageError` if they don't fit the model.
    """

    def __init__(self, setting: Setting, n_arriving: int, modes: Sequence[Mode]) -> None:
        self._of = setting
        self._n = n_arriving
        self._modes = modes
        self._maker = Maker(setting.model, setting.chance)
        self._found: dict[str, list[dict[str, Any]]] = {mode.name: [] for mode in modes}
        # A part of a prompt has at least 16 rows, and a round beside it at most 9 tokens.
        self._room = (DRAFT_MAX + 1) * (n_arriving // ROWS_MIN + 4 * _ROUNDS_BEFORE)
        n_ctx = max(n_arriving + 1, setting.n_prompt + self._room) + 2 * DRAFT_MAX + 2
        text = f"-p {setting.n_prompt} with {self._room} tokens behind it"
        self._n_ctx = setting.check(n_ctx, f"--arrival {n_arriving} and {text}")

    def run(self, report: Callable[[int, int], None]) -> list[Result]:
        """report: called with (measurements done, all of them)."""
        of, n_ctx = self._of, self._n_ctx
        with ExitStack() as stack:
            engines = [(one, stack.enter_context(of.engine(one, 2, n_ctx))) for one in self._modes]
            for mode, engine in engines:
                asyncio.run(self._measure(engine, mode, 0, min(self._n, _WARM_ROWS)))
            for done in range(of.repeats * len(engines)):
                report(done, of.repeats * len(engines))
                mode, engine = engines[done % len(engines)]
                found = asyncio.run(self._measure(engine, mode, 1 + done, self._n))
                self._found[mode.name].append(found)
        return [self._result(mode) for mode in self._modes]

    async def _measure(self, engine: Engine, mode: Mode, number: int, n: int) -> dict[str, Any]:
        engine.forget()
        draft = mode.of_user(0)
        prompt = self._of.prompt(1)
        (stream,) = submit(engine, [self._maker.request(prompt, self._room, draft)])
        some = _Some(stream)
        reading = asyncio.create_task(stream.read(some.look))
        await some.pieces(_ROUNDS_BEFORE)
        (newcomer,) = submit(engine, [self._maker.request(self._long_prompt(number, n), 1, draft)])
        await newcomer.read()
        newcomer.generation.result()
        await some.pieces(1)  # the gap that is open ends with it
        stream.generation.close()
        await reading
        return _found(stream, newcomer)

    def _long_prompt(self, number: int, n: int) -> list[int]:
        """One of n tokens that no cache holds."""
        tokens: list[int] = []
        while len(tokens) < n:
            tokens += self._of.prompt(100 + number + len(tokens))
        return tokens[:n]

    def _result(self, mode: Mode) -> Result:
        found = self._found[mode.name]
        before = [ms for one in found for ms in one["before"]]
        beside = [ms for one in found for ms in one["beside"]]
        target_ms = 1e3 * max(TARGET, ROUNDS * statistics.median(before) / 1e3)
        longest = spread([max(one["beside"]) for one in found])
        return {
            "test": "arrival",
            "mode": mode.name,
            "draft": mode.shown,
            "ctx": self._of.n_prompt,
            "arriving": self._n,
            "repeats": len(found),
            "gap_before_ms": gap_summary(before),
            "gap_beside_ms": gap_summary(beside),
            "longest_gap_ms": longest,
            "latency_target_ms": target_ms,
            "longest_over_target": longest["max"] / target_ms,
            "first_token_ms": spread([one["first_ms"] for one in found]),
            "simulated_acceptance": self._of.chance if mode.name != PLAIN else None,
        }


class _Some:
    """Waits for more pieces of a text."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._wanted = 0
        self._there = asyncio.Event()

    def look(self) -> None:
        """To be called at each piece and at the end."""
        if self._text.ended or len(self._text.stamped) >= self._wanted:
            self._there.set()

    async def pieces(self, n: int) -> None:
        """Waits for n more of them. Raises what ended the text before, or `UsageError`."""
        self._wanted = len(self._text.stamped) + n
        self._there.clear()
        self.look()
        await self._there.wait()
        if len(self._text.stamped) < self._wanted:
            self._text.generation.result()
            n = len(self._text.generation.tokens)
            raise UsageError(f"the text beside --arrival was over after {n} tokens, too early")


def _found(stream: Text, newcomer: Text) -> dict[str, Any]:
    arrivals = stream.arrivals
    came, first = newcomer.submitted, newcomer.stamped[0][0]
    return {
        "before": gaps_ms(arrivals, (arrivals[0].time, came)),
        "beside": gaps_across_ms(arrivals, (came, first)),
        "first_ms": newcomer.first_ms,
    }
