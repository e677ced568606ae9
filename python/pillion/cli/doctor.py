"""`pillion doctor`: what this machine offers, what is missing and why, and where the ops of a model
would run."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from .. import Placed, backends, system, version
from .by_name import HfOption, model_and_drafter
from .console import command, open_llm, size
from .extras import in_words, installed
from .options import (
    CtxOption,
    DeviceOption,
    DraftDeviceOption,
    DrafterOption,
    FlashAttnOption,
    LayersOption,
    drafter_choice,
)


@command
def doctor(
    model: Path | None = typer.Option(
        None, "-m", "--model", help="Load this model and list which op runs where."
    ),
    hf: str | None = HfOption,
    drafter: str | None = DrafterOption,
    device: str = DeviceOption,
    draft_device: str = DraftDeviceOption,
    n_gpu_layers: int = LayersOption,
    flash_attn: str = FlashAttnOption,
    ctx: int = CtxOption,
    as_json: bool = typer.Option(False, "--json", help="Print everything as one JSON object."),
) -> None:
    """Show the processor, the kernel table in use, memory, the back ends, and the extras; with -m,
    where each op of a model runs."""
    found = system()
    placed: list[Placed] = []
    if model is not None or hf is not None:
        model, drafter = model_and_drafter(model, hf, drafter)
        options: dict[str, Any] = {
            "device": device,
            "draft_device": draft_device,
            "n_gpu_layers": n_gpu_layers,
        }
        options["drafter"] = drafter_choice(model, drafter)
        with open_llm(model, n_ctx=ctx, flash_attn=flash_attn, **options) as llm:
            placed = llm.placement()
    if as_json:
        more = {} if model is None else {"placement": [entry._asdict() for entry in placed]}
        facts = {"version": version(), **found, "extras": installed(), **more}
        typer.echo(json.dumps(facts, indent=2))
        return
    cpu = found["cpu"]
    typer.echo(f"pillion {version()}, Python {platform.python_version()}, {platform.machine()}")
    typer.echo(f"memory         {size(found.get('memory_bytes'))}")
    typer.echo(f"threads        {cpu['threads']} ({cpu['threads_from']})")
    typer.echo(f"CPU features   {' '.join(cpu['features']) or 'none beyond the baseline'}")
    typer.echo(f"kernel table   {cpu['table']} (this machine can run: {', '.join(cpu['tables'])})")
    for backend in backends():
        state = (
            _available(backend.info)
            if backend.available
            else f"absent: {backend.reason or 'no reason was given'}"
        )
        typer.echo(f"{backend.name:<14} {state}")
    for name, packages in installed().items():
        typer.echo(f"{f'extra {name}':<17} {in_words(name, packages)}")
    if placed:
        _show(placed)


def _available(info: dict[str, Any]) -> str:
    """Name, architecture and memory of a device that says them."""
    words = {"device": "{}", "compute_capability": "compute capability {}", "architecture": "{}"}
    sizes = {"memory_bytes": "{} of memory", "free_bytes": "{} free"}
    facts = [text.format(info[key]) for key, text in words.items() if key in info]
    facts += [text.format(size(info[key])) for key, text in sizes.items() if key in info]
    if info.get("unified"):
        facts.append("shared with the CPU")
    return "available" + (": " + ", ".join(facts) if facts else "")


def _show(placed: list[Placed]) -> None:
    """One line for each op, device and kernel."""
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for one in placed:
        backend = f"{one.backend}, session {one.session}" if one.session else one.backend
        groups.setdefault((one.model, one.op, backend, one.kernel), []).append(one.layer)
    table = Table(box=None, pad_edge=False)
    for title in ("model", "op", "runs on", "kernel", "layers"):
        table.add_column(title, no_wrap=title != "layers")
    for (model, op, backend, kernel), layers in groups.items():
        table.add_row(model, op, backend, kernel, _ranges(layers))
    typer.echo()
    Console(highlight=False).print(table)


def _ranges(layers: Iterable[int]) -> str:
    """Layers as "0-3, 7"; what lies outside them as "-"."""
    texts: list[str] = []
    numbers = sorted({layer for layer in layers if layer >= 0})
    first = 0
    for i, number in enumerate(numbers):
        if i + 1 < len(numbers) and numbers[i + 1] == number + 1:
            continue
        texts.append(str(number) if number == numbers[first] else f"{numbers[first]}-{number}")
        first = i + 1
    return ", ".join(texts) or "-"
