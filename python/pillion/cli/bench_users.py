"""`pillion bench --parallel`: its options, its table and its picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from ..benchmark.arrival import Arriving
from ..benchmark.measure import chance_of
from ..benchmark.parallel import LATE, Parallel
from ..benchmark.setting import AUTO, FIXED, PLAIN, Mode, Result, Setting
from ..engine.machine import PARALLEL_MAX
from ..pair import DRAFT_MAX, LOOKUP, Draft
from .console import fail, progress

_FIXED = "3"
_NAMES = {PLAIN: "no drafter", AUTO: "auto", FIXED: "fixed"}


@dataclass(frozen=True)
class Users:
    """What was asked for."""

    users: list[int]
    lengths: tuple[int, ...]
    lengths_asked: bool
    arriving: int | None


def users_asked(
    parallel: str | None, fixed: str | None, arriving: int | None, draft: Draft, roofline: bool
) -> Users | None:
    """The options of several users; None: there is no --parallel."""
    if parallel is None:
        for name, value in (("--draft", fixed), ("--arrival", arriving)):
            if value is not None:
                one = "; for one user it is --spec-draft-n-max" if name == "--draft" else ""
                raise fail(f"{name} belongs to --parallel{one}")
        return None
    if draft != "auto":
        raise fail("with --parallel fixed lengths are --draft, not --spec-draft-n-max")
    if roofline:
        raise fail("--roofline is for one user: leave it or --parallel out")
    users = _numbers("--parallel", parallel, PARALLEL_MAX, "numbers of users", "1,2,4,8")
    lengths = _numbers("--draft", fixed or _FIXED, DRAFT_MAX, "draft lengths", "3 or 4,2")
    return Users(sorted(set(users)), tuple(lengths), fixed is not None, arriving)


def _numbers(name: str, text: str, most: int, what: str, such: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and 1 <= int(part) <= most for part in parts):
        raise fail(f"{name} is {text}; it is {what}, 1 to {most}, such as {such}")
    return [int(part) for part in parts]


def measure_users(setting: Setting, asked: Users, accept: float | None) -> list[Result]:
    """Measures behind a progress bar."""
    if setting.model.is_drafter:
        raise fail(f"{setting.model.path} is a drafter, which writes no texts for --parallel")
    modes = [Mode(PLAIN)]
    if setting.drafter is not None:
        modes += [Mode(AUTO, ("auto",)), Mode(FIXED, asked.lengths)]
    elif asked.lengths_asked or accept is not None:
        name = "--draft" if asked.lengths_asked else "--synthetic-accept"
        raise fail(f"{name} needs a drafter (-md)")
    if accept is not None:
        if setting.drafter == LOOKUP or not setting.drafter.is_drafter:
            raise fail("--synthetic-accept needs an assistant as drafter")
        setting = dataclasses.replace(setting, chance=chance_of(accept, max(asked.lengths)))
    measured: list[Parallel | Arriving] = [Parallel(setting, asked.users, modes)]
    if asked.arriving is not None:
        measured.append(Arriving(setting, asked.arriving, modes))
    with progress("Measuring") as report:
        return [row for one in measured for row in one.run(report)]


# ---- output ----


def show_users(results: Sequence[Result]) -> None:
    """Prints the rows as tables."""
    rows = [one for one in results if one["test"] == "parallel"]
    table = _table(
        "users drafts tokens/s x,one,plain x,plain each first,ms gap,ms p95 max accepted a,round "
        "rows python,ms cpu"
    )
    for one in rows:
        gaps, share, per_run = one["gap_ms"], one["acceptance"], one["rows_per_run"]
        table.add_row(
            str(one["users"]),
            _drafts(one),
            _range(one["tokens_per_second"], 1),
            _range(one["over_one_plain"], 2),
            f"{one['over_plain']['median']:.2f}",
            _range(one["user_tokens_per_second"], 1),
            _range(one["first_token_ms"], 0),
            *(f"{gaps[name]:.1f}" for name in ("median", "p95", "max")),
            "" if share is None else f"{100 * share:.0f} %",
            f"{one['tokens_per_round']:.2f}",
            "" if per_run is None else f"{per_run:.1f}",
            f"{one['python_ms']['median']:.3f}",
            f"{one['python_cpu_ms']['median']:.3f}",
        )
    console = Console(highlight=False, width=200)
    console.print(table)
    arrivals = [one for one in results if one["test"] == "arrival"]
    for one in arrivals:
        before, beside = one["gap_before_ms"], one["gap_beside_ms"]
        typer.echo(
            f"\na prompt of {one['arriving']} tokens beside one text ({_drafts(one)}): "
            f"first token after {_range(one['first_token_ms'], 0)} ms; the text's gaps "
            f"{beside['median']:.1f} ms, p95 {beside['p95']:.1f}, longest {beside['max']:.1f} "
            f"(before: {before['median']:.1f}, {before['p95']:.1f}, {before['max']:.1f}), "
            f"{one['longest_over_target']:.2f} of the latency target of "
            f"{one['latency_target_ms']:.0f} ms"
        )
    late = max((one["late"] for one in rows), default=0.0)
    if late > LATE:
        typer.echo(
            f"\nthe machine was too busy: {100 * late:.0f} % of the tokens waited for their "
            "reader; speeds and gaps mean little"
        )
    if any(one["simulated_acceptance"] is not None for one in results):
        typer.echo("\nacceptance is simulated; the texts are nonsense")


def _table(titles: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles.split():
        table.add_column(title.replace(",", " "), justify="left" if title == "drafts" else "right")
    return table


def _drafts(one: Result) -> str:
    name = _NAMES[one["mode"]]
    if one["mode"] != FIXED:
        return name
    draft = one["draft"]
    return f"{name} {draft if isinstance(draft, int) else ','.join(map(str, draft))}"


def _range(spread: dict[str, float], digits: int) -> str:
    median, low, high = (f"{spread[name]:.{digits}f}" for name in ("median", "min", "max"))
    return f"{median} ({low}-{high})"


def draw_users(pyplot: Any, path: Path, results: Sequence[Result]) -> None:
    """Tokens per second of all users over their number, a line for each way of drafting, with the
    least and the largest."""
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    rows = [one for one in results if one["test"] == "parallel"]
    for mode in dict.fromkeys(one["mode"] for one in rows):
        line = [one for one in rows if one["mode"] == mode]
        users = [one["users"] for one in line]
        speeds = [one["tokens_per_second"] for one in line]
        axes.plot(users, [one["median"] for one in speeds], marker="o", label=_drafts(line[0]))
        axes.fill_between(
            users, [one["min"] for one in speeds], [one["max"] for one in speeds], alpha=0.15
        )
    axes.set_xticks(sorted({one["users"] for one in rows}))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("users at once")
    axes.set_ylabel("tokens/s of all")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
