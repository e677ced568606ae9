"""The towers of a multimodal checkpoint to an mmproj file, under llama.cpp's names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelFileError, UnsupportedModelError
from ..mmproj import Mmproj
from .audio_towers import AudioFrames, Conformer
from .checkpoint import Checkpoint, Source
from .gemma4 import Gemma4
from .report import Report, refuse_out_of_range, refuse_unplaced, sound
from .towers import BOUND, EXACT, PATCH, Tower, Wanted
from .values import FILE_TYPES, FLOATS, Change, stored_type, to_f32
from .vision_towers import VisionPatches, VisionTransformer
from .writer import GgufFile
from .writing import Planned, Progress, write_tensors

_TOWERS: dict[str, tuple[type[Tower], ...]] = {
    "gemma4": (VisionTransformer, Conformer),
    "gemma4_unified": (VisionPatches, AudioFrames),
}
_ARCHITECTURE = "clip"


def write_mmproj(
    folder: Path,
    out: Path,
    outtype: str,
    name: str | None,
    n_threads: int | None,
    progress: Progress | None,
) -> Report:
    """What convert_mmproj does, with sound arguments."""
    begin = time.monotonic()
    with sound(folder):
        source = Checkpoint(folder)
        refuse_unplaced(out, source)
        with sound(folder, "multimodal model"):
            towers = towers_of(source)
            kind = _main_type(source, towers) if outtype == "auto" else outtype
            report = Report(out, _ARCHITECTURE, kind)
            planned = _plan(source, towers, report)
            keys = _keys(source, towers)
    with GgufFile(out, _ARCHITECTURE) as file:
        file.write_keys(
            {
                "general.type": "mmproj",
                "general.name": name or source.folder.resolve().name,
                "general.file_type": FILE_TYPES[kind],
                "general.quantization_version": 2,
                **keys,
            }
        )
        for wanted, _ in planned:
            file.add(wanted.placed, wanted.stored or wanted.shape, type_in_file(wanted, kind))
        file.begin_data(_check)
        each = (
            Planned(
                tensor, type_in_file(wanted, kind), _change(wanted, tensor), wanted.kind == BOUND
            )
            for wanted, tensor in planned
        )
        write_tensors(file, list(each), n_threads, progress)
        report.tensors, report.bytes = len(planned), file.finish(_check)
    report.seconds = time.monotonic() - begin
    return report


def towers_of(source: Checkpoint) -> list[Tower]:
    """The towers that config.json describes. Raises UnsupportedModelError where it has none that
    can be converted."""
    if source.model_type not in _TOWERS:
        raise UnsupportedModelError(
            f"{source.folder}: model_type {source.model_type!r} has no towers that an mmproj file "
            f"of ours could hold; {' and '.join(_TOWERS)} have"
        )
    Gemma4().read_config(source)
    n_embd = source.text.whole("hidden_size")
    towers = []
    for tower in _TOWERS[source.model_type]:
        part = source.config.get(f"{tower.medium}_config")
        if isinstance(part, dict):
            towers.append(tower(source, part, n_embd))
    if not towers:
        raise UnsupportedModelError(
            f"{source.folder}: config.json has neither vision_config nor audio_config: the model "
            f"takes text alone, there is no mmproj file to write"
        )
    return towers


def _keys(source: Checkpoint, towers: list[Tower]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for tower in towers:
        keys[f"clip.has_{tower.medium}_encoder"] = True
        own = tower.keys(source).items()
        keys.update({f"clip.{tower.medium}.{key}": value for key, value in own})
    refuse_out_of_range(source, keys)
    return keys


def _main_type(source: Checkpoint, towers: list[Tower]) -> str:
    """The float type of most bytes of the towers."""
    return source.main_type(lambda name: _tower_of(name, towers) is not None)


def _plain(name: str) -> str:
    return name.removeprefix("model.")


def _tower_of(name: str, towers: list[Tower]) -> Tower | None:
    return next((tower for tower in towers if _plain(name).startswith(tower.prefixes)), None)


def _plan(source: Checkpoint, towers: list[Tower], report: Report) -> list[tuple[Wanted, Source]]:
    """What the file holds; nothing of a tower missing, of another shape, or too much."""
    there = {_plain(name): tensor for name, tensor in source.tensors.items()}
    planned = [(wanted, _find(source, there, wanted)) for wanted in _all(towers)]
    _check_bounds(planned)
    for name, tensor in there.items():
        tower = _tower_of(name, towers)
        if tower is not None:
            raise ModelFileError(
                f"{source.folder}: tensor {tensor.spelled} has no place in the {tower.medium} "
                f"tower that config.json describes"
            )
        medium = next((m for m in ("vision", "audio") if m in name.split(".")[0]), None)
        reason = f"{medium}, which config.json does not describe" if medium else "text"
        report.skipped[reason] = report.skipped.get(reason, 0) + 1
    return planned


def _all(towers: list[Tower]) -> Iterator[Wanted]:
    for tower in towers:
        yield from tower.tensors()


def _find(source: Checkpoint, there: dict[str, Source], wanted: Wanted) -> Source:
    """Takes the tensor out of `there`."""
    tensor = there.pop(wanted.name, None)
    shape = list(wanted.shape)
    if tensor is None:
        raise ModelFileError(
            f"{source.folder}: tensor model.{wanted.name} is missing, config.json makes it {shape}"
        )
    which = f"{tensor.path}: tensor {tensor.spelled}"
    if (tensor.shape or (1,)) != wanted.shape:
        raise ModelFileError(
            f"{which} has shape {list(tensor.shape)}, config.json makes it {shape}"
        )
    if tensor.dtype not in FLOATS:
        raise ModelFileError(
            f"{which} has type {tensor.dtype}; {', '.join(FLOATS)} can be converted"
        )
    return tensor


def _check_bounds(planned: list[tuple[Wanted, Source]]) -> None:
    """Clip ranges are not empty."""
    ends = {w.name: float(to_f32(t.array(), t.dtype)) for w, t in planned if w.kind == BOUND}
    spelled = {wanted.name: tensor for wanted, tensor in planned}
    for name, low in ends.items():
        if not name.endswith("_min"):
            continue
        high = ends[f"{name[:-4]}_max"]
        if not low <= high:
            tensor = spelled[name]
            raise ModelFileError(
                f"{tensor.path}: tensor {tensor.spelled} is {low:g}, its upper bound {high:g}; "
                f"nothing lies between them"
            )


def type_in_file(wanted: Wanted, kind: str) -> str:
    """Of a tensor, in a file of that kind."""
    if wanted.kind == PATCH:
        return "f16" if kind == "f16" else "f32"
    exact = wanted.kind in (EXACT, BOUND)
    return "f32" if exact else stored_type(wanted.placed, wanted.shape, kind)


def _change(wanted: Wanted, tensor: Source) -> Change | None:
    change = wanted.change
    if change is None:
        return None
    return lambda bits: np.asarray(change(bits, tensor.dtype))


def _check(path: Path) -> None:
    """Our own reader takes the file: all tensors there, all shapes right."""
    Mmproj(path, n_threads=1).close()
