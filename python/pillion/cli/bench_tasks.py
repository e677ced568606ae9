"""`pillion bench --tasks`: five tasks, with and without drafts from the text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from .. import Model
from ..benchmark.setting import Setting
from ..benchmark.tasks import PLAIN, TASKS, Result, measure_tasks, task_text
from ..pair import Draft
from .console import fail


def measure(setting: Setting, draft: Draft, synthetic: float | None) -> list[Result]:
    """The rows of all tasks. setting: its prompts are not used."""
    if synthetic is not None:
        raise fail("--synthetic-accept writes nonsense, --tasks compares texts")
    if not setting.model.metadata.get("tokenizer.ggml.model"):
        raise fail("--tasks needs a tokenizer, which this file doesn't have")
    prompts = {name: _prompt(setting.model, name) for name in TASKS}

    def report(done: int, total: int) -> None:
        typer.echo(f"task {done + 1} of {total}", err=True)

    return measure_tasks(
        setting.model,
        prompts,
        setting.drafter,
        draft,
        setting.n_gen,
        setting.repeats,
        setting.sizes,
        setting.options,
        report,
    )


def _prompt(model: Model, name: str) -> list[int]:
    return list(model.tokenizer.encode(task_text(name)))


def show(results: Sequence[Result]) -> None:
    """The rows as a table."""
    table = Table(box=None, pad_edge=False)
    for title in ("task", "drafts", "tokens/s", "× plain", "tokens a round", "accepted (%)"):
        table.add_column(title, justify="left" if title in ("task", "drafts") else "right")
    for one in results:
        drafts = one["mode"] != PLAIN
        times = f"{one['speedup']:.2f} ({min(one['speedups']):.2f}-{max(one['speedups']):.2f})"
        table.add_row(
            one["task"],
            one["mode"],
            f"{one['tokens_per_second']:.1f}",
            times if drafts else "",
            f"{one['mean_tokens_per_round']:.2f}" if drafts else "",
            " ".join(f"{100 * share:.0f}" for share in one["acceptance_by_position"]),
        )
    Console(highlight=False, width=160).print(table)
    if not all(one["texts_equal"] for one in results):
        typer.echo("TEXTS DIFFER: with drafts a text must be the one without them")


def draw(pyplot: Any, path: Path, results: Sequence[Result]) -> None:
    """Bars: how many times as fast as without drafts each task is written, by what drafts."""
    modes = list(dict.fromkeys(one["mode"] for one in results if one["mode"] != PLAIN))
    tasks = list(dict.fromkeys(one["task"] for one in results))
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    width = 0.8 / max(1, len(modes))
    for i, mode in enumerate(modes):
        rows = {one["task"]: one for one in results if one["mode"] == mode}
        at = [number + (i - (len(modes) - 1) / 2) * width for number in range(len(tasks))]
        bars = axes.bar(at, [rows[task]["speedup"] for task in tasks], width, label=mode)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.axhline(1, color="black", linestyle="--", label="without drafts")
    axes.set_xticks(range(len(tasks)), [task.replace("_", " ") for task in tasks])
    axes.set_ylabel("times as fast as without drafts")
    axes.set_title("Speed by task (the text is the same)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
