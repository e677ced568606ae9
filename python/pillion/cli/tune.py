"""`pillion tune`: the best options for this machine, with what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from .. import Model
from ..benchmark.tune import Result, thread_counts, tune_cache, tune_drafts, tune_threads
from ..models import GENESIS
from .by_name import HfOption, model_and_drafter, one_model
from .console import command, fail, open_model, read_text
from .drafter_choice import open_drafter
from .options import MeasuredDrafterOption, ModelArgument, ModelOption


@command
def tune(
    model: Path | None = ModelArgument,
    model_option: Path | None = ModelOption,
    hf: str | None = HfOption,
    drafter: str | None = MeasuredDrafterOption,
    depth: int = typer.Option(
        1024, "-d", "--depth", min=16, help="Tokens of the text that the cache types are timed on."
    ),
    repeats: int = typer.Option(5, "-r", "--repetitions", min=1, help="How often to measure."),
    as_json: bool = typer.Option(False, "--json", help="Print the measurements as JSON."),
) -> None:
    """Measure threads, draft length and cache type on this machine's CPU, and print the best."""
    path, drafter = model_and_drafter(one_model(model, model_option), hf, drafter)
    with open_model(path, n_threads=thread_counts()[-1], device="cpu") as target:
        if target.is_drafter:
            raise fail(f"{path} is a drafter: tune the model that it drafts for")
        tokens = _tokens(target, min(depth, target.n_ctx_train - 32))
        results = [tune_threads(target, tokens[:16], repeats)]
        threads = results[0]["choice"]
        results.append(tune_cache(target, tokens, threads, repeats))
        guessing = open_drafter(target, drafter, threads, "cpu")
        if isinstance(guessing, Model) and guessing.is_drafter:
            results.append(tune_drafts(target, guessing, tokens[:128], threads, repeats))
    if as_json:
        typer.echo(json.dumps(results, indent=2))
        return
    for line in _lines(results):
        typer.echo(line)


def _tokens(target: Model, n: int) -> list[int]:
    if target.metadata.get("tokenizer.ggml.model"):
        tokens = list(target.tokenizer.encode(read_text(GENESIS)))
        return (tokens * (1 + n // len(tokens)))[:n]
    return [10 + 37 * i % max(1, min(490, target.n_vocab - 20)) for i in range(n)]


def _lines(results: Sequence[Result]) -> list[str]:
    threads, cache = results[0], results[1]
    lines = [
        f"-t {threads['choice']}: a token takes " + _times(threads["ms_per_token"], "threads"),
        f"--kv-type {cache['choice']}: behind {cache['depth']} tokens one takes "
        + _times(cache["ms_per_token"], ""),
    ]
    for one in results[2:]:
        rows = ", ".join(f"{ms / one['run_ms'][0]:.2f}" for ms in one["run_ms"][1:])
        best = "; ".join(
            f"{100 * float(chance):.0f} % accepted: {found['n_draft']} drafts, "
            f"{found['speedup']:.2f} times as fast"
            for chance, found in one["lengths"].items()
        )
        lines.append(
            f"--spec-draft-n-max {one['choice']}: 2 to 9 rows cost {rows} of one, a draft step "
            f"{one['step_ms'] / one['run_ms'][0]:.3f}; {best}"
        )
    return lines


def _times(ms: dict[object, float], unit: str) -> str:
    return ", ".join(f"{time:.2f} ms with {name} {unit}".rstrip() for name, time in ms.items())
