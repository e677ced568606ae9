"""Fills the tables of docs/memory.md: what Gemma 4 takes, counted by the library.

    python tools/make_memory_page.py                     writes the page
    python tools/make_memory_page.py --check [MODEL …]   exits with 1 where a row is not current

Headers of true shape (gemma4_shapes.py) get the types that `pillion.quantize` plans for them;
`Model.memory` makes context and pair on them without content, and asks those.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

import gemma4_shapes
import pillion

PAGE = Path(__file__).resolve().parents[1] / "docs" / "memory.md"
TYPES = ("Q4_0", "Q4_K_M", "Q6_K", "Q8_0")
LENGTHS = (4096, 32768, 131072)
CACHES = ("f16", "q8_0")
MACHINES = (4, 8, 12, 16, 24, 32, 48, 64)  # GiB
FOR_THE_SYSTEM, FITS_AT = 2, 8192  # GiB, positions
N_THREADS = 8  # scratch grows a little with them
GIB = 2**30


def quantized(folder: Path, name: str, model: object, kind: str) -> tuple[Path, int]:
    """A header with the types of the library's plan, and the bytes of its tensors."""
    source, out = folder / f"{name}.gguf", folder / f"{name}-{kind}.gguf"
    if not source.exists():
        gemma4_shapes.write(source, model, {})
    plan = pillion.quantize(source, None, kind)
    gemma4_shapes.write(out, model, {one.name: one.target_type for one in plan.tensors})
    return out, plan.target_bytes


def counted(folder: Path, shape: gemma4_shapes.Shape, kind: str) -> dict[str, object]:
    """Bytes of one model in one type: file, its assistant's file, and memory by length and
    cache."""
    target, size = quantized(folder, shape.name, gemma4_shapes.target(shape), kind)
    name = f"{shape.name}-assistant"
    assistant, more = quantized(folder, name, gemma4_shapes.assistant(shape), kind)
    with (
        pillion.Model.open(target, metadata_only=True) as model,
        pillion.Model.open(assistant, metadata_only=True) as drafter,
    ):
        memory = {
            (n_ctx, cache): model.memory(n_ctx, drafter=drafter, kv_type=cache, n_threads=N_THREADS)
            for n_ctx in (*LENGTHS, FITS_AT)
            for cache in (CACHES if kind == TYPES[0] else CACHES[:1])
        }
    return {"file": size, "assistant": more, "memory": memory}


def gib(n_bytes: float) -> str:
    return f"{n_bytes / GIB:.1f}"


def rows_of(shape: gemma4_shapes.Shape, by_type: dict[str, dict]) -> list[str]:
    """The rows of the first table."""
    rows = []
    for kind, one in by_type.items():
        totals = [one["memory"][n_ctx, "f16"] for n_ctx in LENGTHS]
        cells = [shape.name, kind, gib(one["file"]), gib(totals[0]["mapped"] or 0)]
        cells += [gib(total["total"] - total["drafter"]["bytes"]) for total in totals]
        cells += [gib(total["total"]) for total in totals]
        rows.append(" | ".join(cells))
    return rows


def cache_row(shape: gemma4_shapes.Shape, one: dict) -> str:
    """A row of the second table, MiB."""
    cells = [
        f"{one['memory'][n_ctx, cache]['kv']['bytes'] / 2**20:.0f}"
        for cache in CACHES
        for n_ctx in LENGTHS
    ]
    snapshots = one["memory"][LENGTHS[0], "f16"]["kv"]["snapshots"] / 2**20
    return " | ".join([shape.name, *cells, f"{snapshots:.0f}"])


def fitting_rows(found: dict[str, dict[str, dict]]) -> list[str]:
    """The third table: the best type of each model that a machine holds."""
    rows = []
    for machine in MACHINES:
        cells = [f"{machine} GiB"]
        for by_type in found.values():
            fit = [
                kind
                for kind, one in by_type.items()
                if needed(one) <= (machine - FOR_THE_SYSTEM) * GIB
            ]
            cells.append(fit[-1] if fit else "–")
        rows.append(" | ".join(cells))
    return rows


def needed(one: dict) -> int:
    """With the per-layer table, whose pages stay in memory only where there is room for them."""
    memory = one["memory"][FITS_AT, "f16"]
    return memory["total"] + memory["mapped"]


def tables(names: list[str]) -> dict[str, list[str]]:
    """{marker: rows} of the models named."""
    shapes = [one for one in gemma4_shapes.shapes() if not names or one.name in names]
    with tempfile.TemporaryDirectory() as folder:
        found = {
            shape.name: {kind: counted(Path(folder), shape, kind) for kind in TYPES}
            for shape in shapes
        }
    made = {
        "all": [row for shape in shapes for row in rows_of(shape, found[shape.name])],
        "cache": [cache_row(shape, found[shape.name][TYPES[0]]) for shape in shapes],
    }
    return made if names else made | {"machines": fitting_rows(found)}


def filled(page: str, made: dict[str, list[str]]) -> str:
    """The page with the rows behind each marker's heading of a table."""
    for marker, rows in made.items():
        body = "".join(f"| {row} |\n" for row in rows)
        page, n = re.subn(
            rf"(<!-- table: {marker} -->\n\n\|.*\n\|.*\n)(?:\|.*\n)*",
            lambda match, body=body: match[1] + body,
            page,
        )
        assert n == 1, marker
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("models", nargs="*")
    given = parser.parse_args()
    made, page = tables(given.models), PAGE.read_text(encoding="utf-8")
    if not given.check:
        PAGE.write_text(filled(page, made), encoding="utf-8")
        sys.exit(0)
    missing = [row for rows in made.values() for row in rows if f"| {row} |\n" not in page]
    if missing or (not given.models and filled(page, made) != page):
        sys.exit(
            "docs/memory.md is not current: run tools/make_memory_page.py\n" + "\n".join(missing)
        )
