"""The measurements of `pillion bench`: a context, a prompt, and times in milliseconds."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from .. import Context, Limits, Pair, Sampler, SamplingParams, UsageError
from ..pair import DRAFT_MAX, Draft, PairStats
from .simulated_acceptance import SimulatedAcceptance

Result = dict[str, Any]

VERIFY_ROWS = range(1, DRAFT_MAX + 2)


class Measure:
    """Measures on one context. With `roofline` each measurement is compared with the machine's
    limits, probed just before and after."""

    def __init__(
        self,
        context: Context,
        tokens: Sequence[int],
        n_gen: int,
        repeats: int,
        roofline: bool = False,
    ) -> None:
        self.context = context
        self.roofline = roofline
        self.limits: list[Limits] = []
        self.tokens = list(tokens)
        self.n_gen = n_gen
        self.repeats = repeats
        self.plain = Pair(context, None)  # its texts end by their length only, as all here

    def prefill(self) -> list[Result]:
        """Times the prompt on an empty context, after one unmeasured run."""
        times = []
        self._probe()
        for number in range(self.repeats + 1):
            self.context.clear()
            times += [timed(self.context.prefill, self.tokens)][: 1 if number else 0]
        n = len(self.tokens)
        result = _result("prefill", times, rows=n, n=n, ctx=0, tokens=n)
        self.context.clear()
        self._judge(result, n, 1, result["median_ms"])
        return [result]

    def decode(self, pair: Pair | None, draft: Draft) -> list[Result]:
        """Times writing after the prompt, without and with drafts in turns."""
        off: list[float] = []
        on: list[float] = []
        self._rewind()
        self._write(self.plain, 0, min(self.n_gen, 16))
        if pair is not None:
            self._rewind(pair)
            self._write(pair, draft, min(self.n_gen, 16))
            pair.reset_stats()
        texts: list[list[int]] = []
        self._probe()
        for _ in range(self.repeats):
            self._rewind()
            off.append(timed(lambda: texts.append(self._write(self.plain, 0, self.n_gen))))
            if pair is not None:
                self._rewind(pair)
                on.append(timed(lambda: texts.append(self._write(pair, draft, self.n_gen))))
        n, ctx = self.n_gen, len(self.tokens)
        results = [_result("decode", off, rows=1, n=n, ctx=ctx, tokens=n)]
        self._rewind()
        self._judge(results[0], 1, 1, results[0]["median_ms"] / n)
        if pair is not None:
            speed = statistics.median(off) / statistics.median(on)
            equal = all(text == texts[0] for text in texts)
            results.append(
                _result(
                    "decode_draft",
                    on,
                    rows=None,
                    n=n,
                    ctx=ctx,
                    tokens=n,
                    n_draft=draft,
                    speedup=speed,
                    texts_equal=equal,
                )
            )
            results[-1].update(_of_stats(pair.stats))
        return results

    def synthetic(self, pair: Pair, draft: Draft, accept: float) -> list[Result]:
        """Times rounds whose drafts are accepted at random. accept: as of `chance_of`. Raises
        `UsageError` for an impossible number."""
        if not pair.stats.kind.endswith("mtp"):
            raise UsageError("--synthetic-accept needs an assistant as drafter")
        k = _fixed_length(draft, accept)
        chance = accept if k is None else chance_of(accept, k)
        generator = random.Random(0)
        stats = PairStats(state="on", kind="synthetic", head=pair.stats.head)
        off, on = [], []
        self._probe()
        for number in range(self.repeats + 1):
            self._rewind()
            plain = timed(self._write, self.plain, 0, self.n_gen)
            self._rewind(pair)
            counts = stats if number else PairStats()
            if k is None:
                paired = timed(self._write_simulated, pair, chance, generator, counts)
            else:
                paired = timed(self._write_at_random, pair, k, chance, generator, counts)
            if number:
                off.append(plain)
                on.append(paired)
        n, ctx = self.n_gen, len(self.tokens)
        speed = statistics.median(off) / statistics.median(on)
        result = _result(
            "decode_draft",
            on,
            rows=None if k is None else k + 1,
            n=n,
            ctx=ctx,
            tokens=n,
            n_draft=draft if k is None else k,
            speedup=speed,
            speedups=[plain / paired for plain, paired in zip(off, on, strict=True)],
            synthetic=True,
        )
        result.update(_of_stats(stats))
        plain_result = _result("decode", off, rows=1, n=n, ctx=ctx, tokens=n)
        self._rewind()
        self._judge(plain_result, 1, 1, plain_result["median_ms"] / n)
        return [plain_result, result]

    def _write_simulated(
        self, pair: Pair, chance: float, generator: random.Random, stats: PairStats
    ) -> None:
        """As `_write_at_random`, with the draft lengths of "auto": the pair's own rounds, whose
        verdict alone is made up."""
        sampler, context = Sampler(SamplingParams(temperature=0)), self.context
        verdict = SimulatedAcceptance(chance, generator.getrandbits(32), context.model.n_vocab)
        left = self.n_gen
        while left > 0:
            drafts = pair.propose(sampler, "auto", left)
            pair.run(drafts)
            chosen = verdict.choose(context, pair.first_row, sampler, drafts, None, left, ())
            one = pair.take(None, chosen=chosen)
            left -= len(one.tokens)
            _count(stats, one.drafted, one.accepted)

    def verify(self) -> list[Result]:
        """Times runs of 1 to 9 rows after the prompt, each with all its outputs."""
        results = []
        for rows in VERIFY_ROWS:
            if len(self.tokens) + rows > self.context.n_ctx:
                break
            row_tokens = [self.tokens[i % len(self.tokens)] for i in range(rows)]
            times: list[float] = []
            self._rewind()
            self._probe()
            for number in range(3 * self.repeats + 1):
                passed = timed(self.context.decode, row_tokens)
                self.context.rewind(len(self.tokens))
                times += [passed] if number else []
            results.append(
                _result("verify", times, rows=rows, n=rows, ctx=len(self.tokens), tokens=rows)
            )
            self._judge(results[-1], rows, rows, results[-1]["median_ms"])
        return results

    def draft_steps(self, pair: Pair) -> list[Result]:
        """Times drafts of full length; the result is the time of one step."""
        times: list[float] = []
        n = DRAFT_MAX
        self._rewind()
        for number in range(3 * self.repeats + 1):
            passed = timed(pair.draft, self.tokens[-1], n) / n
            times += [passed] if number else []
        return [
            _result(
                "draft_step",
                times,
                rows=1,
                n=n,
                ctx=len(self.tokens),
                tokens=1,
                head=pair.stats.head,
            )
        ]

    def _probe(self) -> None:
        if self.roofline:
            self.limits.append(self.context.limits())

    def _judge(self, result: Result, n: int, n_outputs: int, run_ms: float) -> None:
        """Adds the shares of the machine's limits that a run of n tokens used, from the probes
        before and after."""
        if not self.roofline:
            return
        self._probe()
        work = self.context.work(n, n_outputs)
        read, dots = (statistics.mean(pair) for pair in zip(*self.limits[-2:], strict=False))
        result["share_of_bandwidth"] = (work.weight_bytes + work.kv_bytes) / (1e-3 * run_ms) / read
        if dots:
            result["share_of_int8_peak"] = work.multiply_adds / (1e-3 * run_ms) / dots

    def machine(self) -> list[Result]:
        """What the probes measured."""
        if not self.limits:
            return []
        read = [one.read_bytes_per_second / 1e9 for one in self.limits]
        dots = [2 * one.multiply_adds_per_second / 1e12 for one in self.limits]
        return [
            {
                "test": "machine",
                "n_probes": len(read),
                "read_gb_per_second": statistics.median(read),
                "read_gb_per_second_range": [min(read), max(read)],
                "int8_tops": statistics.median(dots),
                "int8_tops_range": [min(dots), max(dots)],
            }
        ]

    def _rewind(self, pair: Pair | None = None) -> None:
        (pair or self.context).sync(self.tokens)

    def _write(self, pair: Pair, draft: Draft, n: int) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=0))
        return [token for one in pair.rounds(sampler, n, draft) for token in one.tokens]

    def _write_at_random(
        self, pair: Pair, k: int, chance: float, generator: random.Random, stats: PairStats
    ) -> None:
        """Writes with real drafting and real verification; only acceptance is random.

        The rewind comes after the next drafts, because it drops the hidden row that they begin
        with.
        """
        sampler, context = Sampler(SamplingParams(temperature=0)), self.context
        length, last, left = context.n_past, sampler.sample(context), self.n_gen - 1
        while left > 0:
            wanted = min(k, left - 1)
            drafts = pair.draft(last, wanted) if wanted else []
            if context.n_past > length:
                context.rewind(length)
            context.decode([last, *drafts])
            accepted = 0
            while accepted < len(drafts) and generator.random() < chance:
                accepted += 1
            last = sampler.sample(context, accepted)
            length += accepted + 1
            left -= accepted + 1
            _count(stats, len(drafts), accepted)


def _fixed_length(draft: Draft, accept: float) -> int | None:
    """None: the pair's own choice. Tokens a round have a chance only at a length of drafts."""
    if not isinstance(draft, str):
        return draft
    if 0 < accept < 1:
        return None
    return min(DRAFT_MAX, max(1, round(2 * (accept - 1))))


def chance_of(accept: float, k: int) -> float:
    """The acceptance probability of each of k drafts. accept: below 1 the probability itself, from
    1 on the tokens that a round yields on average. Raises `UsageError` for an impossible number."""
    return accept if 0 < accept < 1 else chance_for(accept, k)


def chance_for(tokens_per_round: float, k: int) -> float:
    """The acceptance probability p of a draft with 1 + p + … + p^k tokens a round."""
    if not 1 <= tokens_per_round <= k + 1:
        raise UsageError(
            f"{tokens_per_round} tokens a round are not possible with {k} drafts; "
            f"it can be 1 to {k + 1}"
        )
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if sum(middle**i for i in range(k + 1)) < tokens_per_round
            else (low, middle)
        )
    return high


def break_even(verify: Sequence[Result], step_ms: float) -> list[Result]:
    """For each draft length, the acceptance probability from which a round costs no more than its
    tokens one by one."""
    one_row = verify[0]["median_ms"]
    results = []
    for k in range(1, len(verify)):
        tokens = (k * step_ms + verify[k]["median_ms"]) / one_row
        possible = tokens <= k + 1
        results.append(
            {
                "test": "break_even",
                "n_draft": k,
                "round_ms": k * step_ms + verify[k]["median_ms"],
                "tokens_per_round": tokens,
                "acceptance": chance_for(max(tokens, 1.0), k) if possible else None,
            }
        )
    return results


def _count(stats: PairStats, drafted: int, accepted: int) -> None:
    """A made-up round, of which the library knows nothing."""
    stats.rounds += drafted > 0
    stats.tokens += accepted + 1
    stats.drafted += drafted
    stats.accepted += accepted
    for position in range(drafted):
        stats.drafted_at[position] += 1
        stats.accepted_at[position] += position < accepted


def _of_stats(stats: PairStats) -> Result:
    done = stats.as_dict()
    names = (
        "kind",
        "head",
        "state",
        "reason",
        "acceptance",
        "acceptance_by_position",
        "mean_tokens_per_round",
    )
    return {name: done[name] for name in names}


def timed(work: Callable[..., object], *arguments: Any) -> float:
    """Milliseconds."""
    begin = time.perf_counter()
    work(*arguments)
    return 1e3 * (time.perf_counter() - begin)


def _result(test: str, times: Sequence[float], *, tokens: int, **facts: Any) -> Result:
    median = statistics.median(times)
    return {
        "test": test,
        **facts,
        "median_ms": median,
        "min_ms": min(times),
        "tokens_per_second": 1e3 * tokens / median if median else 0.0,
    }
