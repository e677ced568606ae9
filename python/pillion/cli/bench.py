"""`pillion bench`: how fast a model reads and writes, and what a drafter adds."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from .. import Model, Pair
from ..benchmark.measure import Measure, Result, break_even
from ..benchmark.placeholder import write_placeholder
from ..benchmark.setting import Setting
from ..models import GENESIS
from ..pair import DRAFT_MAX, Draft
from ..placement import draft_device_for
from . import bench_tasks
from .bench_users import draw_users, measure_users, show_users, users_asked
from .by_name import HfOption, model_and_drafter, one_model
from .console import command, fail, open_model, read_text
from .drafter_choice import open_drafter
from .options import (
    DenseHeadOption,
    DeviceOption,
    DraftDeviceOption,
    DraftLookupOption,
    DraftOption,
    KvTypeOption,
    MeasuredDrafterOption,
    ModelArgument,
    ModelOption,
    PMinOption,
    SwaFullOption,
    ThreadsOption,
    draft_count,
)

_STRIDE = 101  # tokens of the text between the beginnings of two prompts


@command
def bench(
    model: Path | None = ModelArgument,
    model_option: Path | None = ModelOption,
    hf: str | None = HfOption,
    drafter: str | None = MeasuredDrafterOption,
    n_prompt: int = typer.Option(512, "-p", "--n-prompt", min=1, help="Tokens of the prompt."),
    n_gen: int = typer.Option(128, "-n", "--n-gen", min=1, help="Tokens to write."),
    repeats: int = typer.Option(5, "-r", "--repetitions", min=1, help="How often to measure."),
    threads: int = ThreadsOption,
    device: str = DeviceOption,
    draft_device: str = DraftDeviceOption,
    n_gpu_layers: int = typer.Option(
        -1, "-ngl", "--n-gpu-layers", help="Layers on the device, from the last one down; -1: all."
    ),
    kv_type: str = KvTypeOption,
    swa_full: bool = SwaFullOption,
    file: Path | None = typer.Option(
        None, "-f", "--file", help="Take the prompt from this text instead of Genesis 1."
    ),
    n_draft: str = DraftOption,
    p_min: float = PMinOption,
    dense_head: bool = DenseHeadOption,
    draft_lookup: bool = DraftLookupOption,
    synthetic_accept: float | None = typer.Option(
        None,
        "--synthetic-accept",
        help="Accept drafts at random: below 1 each with this probability, from 1 so that a round "
        "yields this many tokens on average. The text is nonsense then.",
    ),
    roofline: bool = typer.Option(
        False,
        "--roofline",
        help="Measure memory bandwidth and int8 peak beside each test, and show which share of "
        "them was used.",
    ),
    parallel: str | None = typer.Option(
        None,
        "-np",
        "--parallel",
        metavar="N,N,...",
        help="Measure this many users of one engine at once, such as 1,2,4,8, in place of the "
        "tests for one.",
    ),
    fixed: str | None = typer.Option(
        None,
        "--draft",
        metavar="K[,K...]",
        help="With --parallel: the users' own draft lengths where they are fixed, 1 to 8; several: "
        "the users have them in turn.  [default: 3]",
        show_default=False,
    ),
    arrival: int | None = typer.Option(
        None,
        "--arrival",
        min=1,
        help="With --parallel: also let a prompt of this many tokens arrive beside a text that is "
        "being written.",
    ),
    tasks: bool = typer.Option(
        False,
        "--tasks",
        help="Write five tasks (code, prose, JSON, copy-editing, a summary) without drafts, with "
        "the drafter, and with lookup beside an assistant, in place of the other tests.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print a list of measurements as JSON."),
    plot: Path | None = typer.Option(
        None,
        "--plot",
        help="Draw speed over draft length, with --parallel over users, with --tasks by task, into "
        "this image (needs matplotlib).",
    ),
) -> None:
    """Measure prefill, writing without and with the drafter, draft steps, and verification of 1 to
    9 rows; with --parallel throughput and waiting times of several users at once.

    A drafter given with -m is measured alone, on the cache of a made-up target.
    """
    pyplot = _pyplot() if plot else None
    draft = draft_count(n_draft)
    many = users_asked(parallel, fixed, arrival, draft, roofline)
    if tasks and many is not None:
        raise fail("--tasks and --parallel are different measurements")
    options: dict[str, Any] = {"n_threads": threads, "kv_type": kv_type, "swa_full": swa_full}
    path, drafter = model_and_drafter(one_model(model, model_option), hf, drafter)
    with open_model(path, n_threads=threads, device=device, n_gpu_layers=n_gpu_layers) as target:
        if many is not None or tasks:
            guessing = open_drafter(
                target, drafter, threads, draft_device_for(device, draft_device)
            )
            setting = Setting(
                target,
                guessing,
                sizes=options,
                options={"p_min": p_min, "dense_head": dense_head, "lookup": draft_lookup},
                prompt=_prompts(target, file, n_prompt) if many is not None else lambda _: [],
                n_prompt=n_prompt,
                n_gen=n_gen,
                repeats=repeats,
            )
            results = (
                bench_tasks.measure(setting, draft, synthetic_accept)
                if many is None
                else measure_users(setting, many, synthetic_accept)
            )
        elif target.is_drafter:
            results = _drafter_alone(target, device, n_prompt, repeats, dense_head, options)
        else:
            drafting = open_drafter(
                target, drafter, threads, draft_device_for(device, draft_device)
            )
            tokens = _prompt(target, file, n_prompt)
            n_ctx = min(len(tokens) + n_gen + 2 * DRAFT_MAX + 2, target.n_ctx_train)
            if len(tokens) + n_gen > n_ctx:
                raise fail(
                    f"-p {len(tokens)} and -n {n_gen} do not fit "
                    f"the model's {target.n_ctx_train} positions"
                )
            with target.context(n_ctx, n_outputs=DRAFT_MAX + 1, **options) as context:
                bench = Measure(context, tokens, n_gen, repeats, roofline)
                results = bench.prefill()
                if drafting is None:
                    results += bench.decode(None, 0) + bench.verify()
                else:
                    with Pair(
                        context,
                        drafting,
                        p_min=p_min,
                        dense_head=dense_head,
                        lookup=draft_lookup,
                    ) as pair:
                        results += _pair(bench, pair, draft, synthetic_accept)
                results += bench.machine()
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    elif tasks:
        bench_tasks.show(results)
    elif many is not None:
        show_users(results)
    else:
        _show(results)
    if plot:
        draw = bench_tasks.draw if tasks else draw_users if many is not None else _draw
        draw(pyplot, plot, results)


def _pair(bench: Measure, pair: Pair, draft: Draft, synthetic_accept: float | None) -> list[Result]:
    """Writing with it, verification, and its steps."""
    results = (
        bench.decode(pair, draft)
        if synthetic_accept is None
        else bench.synthetic(pair, draft, synthetic_accept)
    )
    verify = bench.verify()
    results += verify
    if pair.stats.kind.endswith("mtp"):
        steps = _draft_steps(bench, pair)
        results += steps + break_even(verify, steps[0]["median_ms"])
    return results


def _draft_steps(bench: Measure, pair: Pair) -> list[Result]:
    """With the pair's head, and with the dense one where that is another."""
    results = bench.draft_steps(pair)
    if pair.stats.head == "centroid":
        assert pair.drafter is not None
        with Pair(bench.context, pair.drafter, dense_head=True) as dense:
            results += bench.draft_steps(dense)
    return results


def _drafter_alone(
    drafter: Model,
    device: str,
    n_prompt: int,
    repeats: int,
    dense_head: bool,
    options: dict[str, Any],
) -> list[Result]:
    """Draft steps on a cache of n_prompt rows that a target of the right shapes and random weights
    has filled."""
    n_ctx = n_prompt + DRAFT_MAX + 1
    if n_ctx > drafter.n_ctx_train:
        raise fail(f"-p {n_prompt} does not fit the model's {drafter.n_ctx_train} positions")
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as folder:
        file = Path(folder) / "placeholder.gguf"
        write_placeholder(drafter, file)
        threads = options["n_threads"]
        with (
            open_model(file, n_threads=threads, device=device) as target,
            target.context(n_ctx, **options) as context,
        ):
            bench = Measure(context, _made_up(target, n_prompt), 1, repeats)
            bench.context.prefill(bench.tokens)
            with Pair(context, drafter, dense_head=dense_head) as pair:
                return _draft_steps(bench, pair)


def _prompt(target: Model, file: Path | None, n: int) -> list[int]:
    """n tokens of a text."""
    return _text(target, file, n)[:n]


def _prompts(target: Model, file: Path | None, n: int) -> Callable[[int], list[int]]:
    """Prompts of n tokens by number: the same text, each from another place on."""
    text = _text(target, file, n)
    first, rest = text[:1], text[1:] or text

    def prompt(number: int) -> list[int]:
        at = _STRIDE * number % len(rest)
        return (first + rest[at:] + rest[:at])[:n]

    return prompt


def _text(target: Model, file: Path | None, n: int) -> list[int]:
    """A text of n tokens or more: the given one, or the package's, again and again. A file without
    a tokenizer gets made-up ones."""
    if file is None and not target.metadata.get("tokenizer.ggml.model"):
        return _made_up(target, n)
    tokens = target.tokenizer.encode(read_text(file or GENESIS))
    if file is None:
        tokens *= 1 + n // len(tokens)
    if len(tokens) < n:
        raise fail(f"{file} has {len(tokens)} tokens, -p asks for {n}")
    return tokens


def _made_up(target: Model, n: int) -> list[int]:
    return [10 + 37 * i % max(1, min(490, target.n_vocab - 20)) for i in range(n)]


# ---- output ----


def _show(results: Sequence[Result]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("test", "rows", "ms", "best ms", "tokens/s", ""):
        table.add_column(title, justify="left" if title in ("test", "") else "right")
    for one in results:
        if "median_ms" in one:
            rows = "" if one.get("rows") is None else str(one["rows"])
            times = (
                f"{one['median_ms']:.3f}",
                f"{one['min_ms']:.3f}",
                f"{one['tokens_per_second']:.1f}",
            )
            table.add_row(one["test"], rows, *times, _notes(one))
    Console(highlight=False, width=200).print(table)  # notes are long; a terminal wraps them
    for one in results:
        if one["test"] == "machine":
            (low, high), (slow, quick) = one["read_gb_per_second_range"], one["int8_tops_range"]
            typer.echo(
                f"\nmachine, {one['n_probes']} probes: reads {one['read_gb_per_second']:.1f} GB/s "
                f"({low:.1f} to {high:.1f}), "
                f"int8 {one['int8_tops']:.2f} TOPS ({slow:.2f} to {quick:.2f})"
            )
    needed = [one for one in results if one["test"] == "break_even"]
    if needed:
        shares = (
            "-" if one["acceptance"] is None else f"{100 * one['acceptance']:.0f} %"
            for one in needed
        )
        typer.echo(
            "\nbreak-even acceptance for 1 to " + f"{len(needed)} drafts: " + ", ".join(shares)
        )


def _notes(one: Result) -> str:
    notes = []
    if one["test"] == "draft_step":
        notes.append(f"{one['head']} head")
    if "speedup" in one:
        by_position = ", ".join(f"{100 * share:.0f}" for share in one["acceptance_by_position"])
        notes.append(
            f"{one['speedup']:.2f} times as fast, "
            f"{100 * one['acceptance']:.0f} % accepted ({by_position})"
        )
        notes.append(f"{one['mean_tokens_per_round']:.2f} tokens a round, {one['state']}")
        if one.get("reason"):
            notes.append(one["reason"])
        if one.get("texts_equal") is False:
            notes.append("TEXTS DIFFER")
    if "share_of_bandwidth" in one:
        notes.append(f"{100 * one['share_of_bandwidth']:.0f} % of the bandwidth")
    if "share_of_int8_peak" in one:
        notes.append(f"{100 * one['share_of_int8_peak']:.0f} % of the int8 peak")
    return "; ".join(notes)


def _pyplot() -> Any:
    """Asked for before anything runs, so that a missing module costs no measurement."""
    try:
        importlib.import_module("matplotlib").use("Agg")
        return importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise fail('--plot needs matplotlib: pip install "pillion[plot]"') from None


def _draw(pyplot: Any, path: Path, results: Sequence[Result]) -> None:
    """Tokens per second over the draft length, at several acceptances, from the measured costs; a
    line for no drafts."""
    verify = [one["median_ms"] for one in results if one["test"] == "verify"]
    steps = [one["median_ms"] for one in results if one["test"] == "draft_step"]
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    if steps:
        lengths = list(range(1, len(verify)))
        for chance in (0.3, 0.5, 0.7, 0.9):
            speeds = [
                1e3 * sum(chance**i for i in range(k + 1)) / (k * steps[0] + verify[k])
                for k in lengths
            ]
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
