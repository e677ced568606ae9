"""`pillion bench`: how fast a model reads and writes, and what a drafter adds."""

from __future__ import annotations

import importlib
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import typer
from rich.console import Console
from rich.table import Table

from .. import Context, Model, Pair, Sampler, SamplingParams, UsageError, find_drafter
from ..pair import DRAFT_MAX, LOOKUP, Draft, PairStats, Round
from .console import (
    DenseHeadOption,
    DraftOption,
    ModelOption,
    PMinOption,
    command,
    draft_count,
    fail,
    open_model,
    read_text,
)

Result = dict[str, Any]

VERIFY_ROWS = range(1, DRAFT_MAX + 2)


@command
def bench(
    model: Path = ModelOption,
    drafter: str = typer.Option(
        "auto", "-md", "--model-draft", help="A GGUF file; auto: the drafter beside the model; lookup; none."
    ),
    n_prompt: int = typer.Option(512, "-p", "--n-prompt", min=1, help="Tokens of the prompt."),
    n_gen: int = typer.Option(128, "-n", "--n-gen", min=1, help="Tokens to write."),
    repeats: int = typer.Option(5, "-r", "--repetitions", min=1, help="How often to measure."),
    threads: int = typer.Option(0, "-t", "--threads", help="Threads; 0: all cores."),
    kv_type: str = typer.Option("f16", "--kv-type", help="Type of the KV cache: f16 or q8_0."),
    file: Optional[Path] = typer.Option(None, "-f", "--file", help="Take the prompt from a text; else made-up tokens."),
    n_draft: str = DraftOption,
    p_min: float = PMinOption,
    dense_head: bool = DenseHeadOption,
    synthetic_accept: Optional[float] = typer.Option(
        None,
        "--synthetic-accept",
        help="Accept drafts at random so that a round yields this many tokens on average. The text is nonsense then.",
    ),
    bandwidth: Optional[float] = typer.Option(
        None, "--bandwidth", help="Memory bandwidth of this machine in GB/s, to show which share of it is used."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print a list of measurements as JSON."),
    plot: Optional[Path] = typer.Option(None, "--plot", help="Draw speed over draft length into this image (needs matplotlib)."),
) -> None:
    """Measure prefill, writing without and with the drafter, draft steps, and verification of 1 to 9 rows."""
    pyplot = _pyplot() if plot else None
    draft = draft_count(n_draft)
    with open_model(model, n_threads=threads) as target:
        if target.is_drafter:
            raise fail(f"{model.name} is a drafter: give its target with -m and the drafter with -md")
        weight_bytes = target.weight_bytes  # all: the share comes out too high for resting experts and embedding tables
        drafting = _open_drafter(target, drafter, threads)
        tokens = _prompt(target, file, n_prompt)
        n_ctx = min(len(tokens) + n_gen + 2 * DRAFT_MAX + 2, target.n_ctx_train)
        if len(tokens) + n_gen > n_ctx:
            raise fail(f"-p {len(tokens)} and -n {n_gen} do not fit the model's {target.n_ctx_train} positions")
        with target.context(n_ctx, n_threads=threads, n_outputs=DRAFT_MAX + 1, kv_type=kv_type) as context:
            bench = _Bench(context, tokens, n_gen, repeats)
            results = bench.prefill()
            pair = None
            if drafting is not None:
                pair = Pair(context, drafting, p_min=p_min, dense_head=dense_head)
            if pair is None:
                results += bench.decode(None, 0)
            elif synthetic_accept is None:
                results += bench.decode(pair, draft)
            else:
                results += bench.synthetic(pair, draft, synthetic_accept)
            verify = bench.verify()
            results += verify
            if pair is not None and pair.stats.kind == "mtp":
                steps = bench.draft_steps(pair, "dense" if dense_head else pair.stats.head)
                if pair.stats.head == "ordered":
                    with Pair(context, drafting or LOOKUP, dense_head=True) as other:
                        steps += bench.draft_steps(other, "dense")
                results += steps
                results += break_even(verify, steps[0]["median_ms"])
            if pair is not None:
                pair.close()
    if bandwidth:
        for one in results:
            if one["test"] in ("decode", "verify"):
                gb_per_second = weight_bytes / (1e6 * one["median_ms"] / one.get("n_runs", 1))
                one["share_of_bandwidth"] = gb_per_second / bandwidth
    for one in results:
        one.pop("n_runs", None)
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        _show(results)
    if plot:
        _draw(pyplot, plot, results)


class _Bench:
    """Measurements on one context."""

    def __init__(self, context: Context, tokens: Sequence[int], n_gen: int, repeats: int) -> None:
        self.context = context
        self.tokens = list(tokens)
        self.n_gen = n_gen
        self.repeats = repeats
        self.ends: list[int] = []  # nothing ends the text, so that all runs are of the same length

    def prefill(self) -> list[Result]:
        """The prompt on an empty context; once unmeasured."""
        times = []
        for number in range(self.repeats + 1):
            self.context.clear()
            times += [_timed(self.context.prefill, self.tokens)][: 1 if number else 0]
        n = len(self.tokens)
        return [_result("prefill", times, rows=n, n=n, ctx=0, tokens=n)]

    def decode(self, pair: Optional[Pair], draft: Draft) -> list[Result]:
        """Writing after the prompt, without and with drafts in turns."""
        off: list[float] = []
        on: list[float] = []
        self._rewind()
        self._write_plain(min(self.n_gen, 16))
        if pair is not None:
            self._rewind(pair)
            self._write(pair, draft, min(self.n_gen, 16))
            pair.reset_stats()
        texts: list[list[int]] = []
        for _ in range(self.repeats):
            self._rewind()
            off.append(_timed(lambda: texts.append(self._write_plain(self.n_gen))))
            if pair is not None:
                self._rewind(pair)
                on.append(_timed(lambda: texts.append(self._write(pair, draft, self.n_gen))))
        n, ctx = self.n_gen, len(self.tokens)
        results = [_result("decode", off, rows=1, n=n, ctx=ctx, tokens=n, n_runs=n)]
        if pair is not None:
            speed = statistics.median(off) / statistics.median(on)
            equal = all(text == texts[0] for text in texts)
            results.append(
                _result("decode_draft", on, rows=None, n=n, ctx=ctx, tokens=n, n_draft=draft, speedup=speed, texts_equal=equal)
            )
            results[-1].update(_of_stats(pair.stats))
        return results

    def synthetic(self, pair: Pair, draft: Draft, tokens_per_round: float) -> list[Result]:
        """Rounds whose drafts are accepted at random, with the chance that gives so many tokens a round."""
        if pair.stats.kind != "mtp":
            raise UsageError("--synthetic-accept needs an assistant as drafter")
        k = min(DRAFT_MAX, max(1, round(2 * (tokens_per_round - 1)))) if isinstance(draft, str) else draft
        chance = chance_for(tokens_per_round, k)
        generator = random.Random(0)
        stats = PairStats(state="on", kind="synthetic", head=pair.stats.head)
        off, on = [], []
        for number in range(self.repeats + 1):
            self._rewind()
            plain = _timed(self._write_plain, self.n_gen)
            self._rewind(pair)
            paired = _timed(self._write_at_random, pair, k, chance, generator, stats if number else PairStats())
            if number:
                off.append(plain)
                on.append(paired)
        n, ctx = self.n_gen, len(self.tokens)
        speed = statistics.median(off) / statistics.median(on)
        result = _result("decode_draft", on, rows=k + 1, n=n, ctx=ctx, tokens=n, n_draft=k, speedup=speed, synthetic=True)
        result.update(_of_stats(stats))
        return [_result("decode", off, rows=1, n=n, ctx=ctx, tokens=n, n_runs=n), result]

    def verify(self) -> list[Result]:
        """Runs of 1 to 9 rows after the prompt, each with all its outputs."""
        results = []
        for rows in VERIFY_ROWS:
            if len(self.tokens) + rows > self.context.n_ctx:
                break
            row_tokens = [self.tokens[i % len(self.tokens)] for i in range(rows)]
            times: list[float] = []
            self._rewind()
            for number in range(3 * self.repeats + 1):
                passed = _timed(self.context.decode, row_tokens)
                self.context.rewind(len(self.tokens))
                times += [passed] if number else []
            results.append(_result("verify", times, rows=rows, n=rows, ctx=len(self.tokens), tokens=rows))
        return results

    def draft_steps(self, pair: Pair, head: str) -> list[Result]:
        """Drafts of full length; the time is that of one step."""
        times: list[float] = []
        n = DRAFT_MAX
        self._rewind()
        for number in range(3 * self.repeats + 1):
            passed = _timed(pair.draft, self.tokens[-1], n) / n
            times += [passed] if number else []
        return [_result("draft_step", times, rows=1, n=n, ctx=len(self.tokens), tokens=1, head=head)]

    def _rewind(self, pair: Optional[Pair] = None) -> None:
        (pair or self.context).set_tokens(self.tokens)

    def _write_plain(self, n: int) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=0))
        written: list[int] = []
        while True:
            written.append(sampler.sample(self.context))
            if len(written) == n:
                return written
            self.context.decode(written[-1])

    def _write(self, pair: Pair, draft: Draft, n: int) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=0))
        written: list[int] = []
        while len(written) < n:
            written += pair.step(sampler, draft, n - len(written), self.ends).tokens
        return written

    def _write_at_random(self, pair: Pair, k: int, chance: float, generator: random.Random, stats: PairStats) -> None:
        """Real drafting and real verification; only what counts as accepted is made up.

        The way back comes after the next drafts, because it takes the hidden row with it that they begin with.
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
            stats.add(_round(len(drafts), accepted))


def chance_for(tokens_per_round: float, k: int) -> float:
    """The chance p of a draft with 1 + p + … + p^k tokens a round."""
    if not 1 <= tokens_per_round <= k + 1:
        raise UsageError(f"{tokens_per_round} tokens a round are not possible with {k} drafts; it can be 1 to {k + 1}")
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(middle**i for i in range(k + 1)) < tokens_per_round else (low, middle)
    return high


def break_even(verify: Sequence[Result], step_ms: float) -> list[Result]:
    """For each draft length, the chance of a draft from which a round costs no more than its tokens one by one."""
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


def _round(drafted: int, accepted: int) -> Round:
    return Round([0] * (accepted + 1), drafted, accepted, False, 0.0, 0.0, 0.0)


def _of_stats(stats: PairStats) -> Result:
    done = stats.as_dict()
    names = ("kind", "head", "state", "reason", "acceptance", "acceptance_by_position", "mean_tokens_per_round")
    return {name: done[name] for name in names}


def _timed(work: Callable[..., object], *arguments: Any) -> float:
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


def _open_drafter(target: Model, name: str, threads: int) -> Optional[Any]:
    if name == "none":
        return None
    if name == LOOKUP:
        return LOOKUP
    path = find_drafter(target) if name == "auto" else Path(name)
    if path is None:
        return None
    return open_model(path, n_threads=threads)


def _prompt(target: Model, file: Optional[Path], n: int) -> list[int]:
    """n tokens: of a text, or made up (which ones does not matter for the speed, but for the acceptance)."""
    if file is None:
        return [10 + 37 * i % max(1, min(490, target.n_vocab - 20)) for i in range(n)]
    tokens = target.tokenizer.encode(read_text(file))
    if len(tokens) < n:
        raise fail(f"{file} has {len(tokens)} tokens, -p asks for {n}")
    return tokens[:n]


# ---- output ----


def _show(results: Sequence[Result]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("test", "rows", "ms", "best ms", "tokens/s", ""):
        table.add_column(title, justify="left" if title in ("test", "") else "right")
    for one in results:
        if one["test"] != "break_even":
            rows = "" if one.get("rows") is None else str(one["rows"])
            times = f"{one['median_ms']:.3f}", f"{one['min_ms']:.3f}", f"{one['tokens_per_second']:.1f}"
            table.add_row(one["test"], rows, *times, _notes(one))
    Console(highlight=False, width=200).print(table)  # notes are long; a terminal wraps them
    needed = [one for one in results if one["test"] == "break_even"]
    if needed:
        shares = ("-" if one["acceptance"] is None else f"{100 * one['acceptance']:.0f} %" for one in needed)
        typer.echo("\nbreak-even acceptance for 1 to " + f"{len(needed)} drafts: " + ", ".join(shares))


def _notes(one: Result) -> str:
    notes = []
    if one["test"] == "draft_step":
        notes.append(f"{one['head']} head")
    if "speedup" in one:
        by_position = ", ".join(f"{100 * share:.0f}" for share in one["acceptance_by_position"])
        notes.append(f"{one['speedup']:.2f} times as fast, {100 * one['acceptance']:.0f} % accepted ({by_position})")
        notes.append(f"{one['mean_tokens_per_round']:.2f} tokens a round, {one['state']}")
        if one.get("reason"):
            notes.append(one["reason"])
        if one.get("texts_equal") is False:
            notes.append("TEXTS DIFFER")
    if "share_of_bandwidth" in one:
        notes.append(f"{100 * one['share_of_bandwidth']:.0f} % of the bandwidth")
    return "; ".join(notes)


def _pyplot() -> Any:
    """Asked for before anything runs, so that a missing module costs no measurement."""
    try:
        importlib.import_module("matplotlib").use("Agg")
        return importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise fail("--plot needs matplotlib: pip install matplotlib") from None


def _draw(pyplot: Any, path: Path, results: Sequence[Result]) -> None:
    """Tokens per second over the draft length, at several acceptances, from the measured costs; a line for no drafts."""
    verify = [one["median_ms"] for one in results if one["test"] == "verify"]
    steps = [one["median_ms"] for one in results if one["test"] == "draft_step"]
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    if steps:
        lengths = list(range(1, len(verify)))
        for chance in (0.3, 0.5, 0.7, 0.9):
            speeds = [1e3 * sum(chance**i for i in range(k + 1)) / (k * steps[0] + verify[k]) for k in lengths]
            axes.plot(lengths, speeds, marker="o", label=f"{100 * chance:.0f} % accepted")
        axes.set_xlabel("drafts a round")
        axes.axhline(1e3 / verify[0], color="gray", linestyle="--", label="no drafts")
        axes.set_ylabel("tokens/s")
    else:
        axes.plot(range(1, len(verify) + 1), verify, marker="o", label="verification")
        axes.set_xlabel("rows")
        axes.set_ylabel("ms")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
