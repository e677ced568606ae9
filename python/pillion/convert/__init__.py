"""Hugging Face checkpoints (config.json, safetensors, tokenizer.json) to GGUF: Gemma 4, its
assistants and its towers (mmproj), Gemma 3, Llama.

Keys and tensor names are those that llama.cpp's converter writes, so files go both ways. Needs the
extra "convert"."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from .._native import as_bytes, as_str
from ..arguments import check_bool, check_callable, check_path, check_text, shown
from ..calling import checked
from ..errors import ModelFileError, UsageError
from ..model import Model
from ..options import thread_count
from .architecture import Architecture
from .architectures import architecture_of
from .checkpoint import Checkpoint, Source
from .mmproj_conversion import write_mmproj
from .report import Report, refuse_out_of_range, refuse_unplaced, sound
from .values import FILE_TYPES, FLOATS, OUTTYPES, stored_type
from .vocabulary import write_tokenizer
from .writer import GgufFile
from .writing import Planned, Progress, write_tensors

__all__ = ["OUTTYPES", "Progress", "Report", "convert", "convert_mmproj"]


@checked
def convert(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    outtype: str = "auto",
    masked_embedding: bool = True,
    name: str | None = None,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Writes the GGUF file `out` from the folder `checkpoint`.

    outtype: of the matrices: "f32", "f16", "bf16", "q8_0", or "auto": the type that most of the
    checkpoint has. Vectors, norms,
        router and scalars are always f32.
    masked_embedding: keep an assistant's centroids and token ordering, as metadata keys (files stay
    readable for llama.cpp). name: general.name; None: the folder's.
    progress: called as progress(done_bytes, total_bytes) of the checkpoint; what it raises ends the
    conversion.

    What config.json and the list of tensors rule out is refused before anything is written.
    Tensors stream through in slices of some MB. The file appears under its name when it is
    complete and has been opened; a run that fails leaves nothing behind. Raises ModelFileError (a
    bad checkpoint, no space), UnsupportedModelError, UsageError.
    """
    _check_outtype(outtype)
    folder, target = Path(check_path("checkpoint", checkpoint)), Path(check_path("out", out))
    n_threads = thread_count(n_threads) or None
    name = _file_name(name)
    check_bool("masked_embedding", masked_embedding)
    progress = None if progress is None else check_callable("progress", progress)
    begin = time.monotonic()
    with sound(folder):
        source = Checkpoint(folder)
        refuse_unplaced(target, source)
        architecture = architecture_of(source)
        kind = source.main_type() if outtype == "auto" else outtype
        report = Report(target, architecture.name, kind)
        with sound(folder, f"{architecture.name} model"):
            planned = _plan(source, architecture, report)
            keys, sampling = _keys(source, architecture), source.sampling_defaults()

    with GgufFile(target, architecture.name) as file:
        with sound(folder, f"{architecture.name} model"):
            file.write_keys(
                {
                    "general.type": "model",
                    "general.name": name or source.folder.resolve().name,
                    **sampling,
                    "general.file_type": FILE_TYPES[kind],
                    "general.quantization_version": 2,
                }
            )
            file.write_keys(keys)
            write_tokenizer(file, source, architecture)
            if masked_embedding:
                file.write_keys(architecture.masked_embedding(source))
            elif architecture.masked_tensors(source):
                report.skipped["centroid head, not wanted"] = len(
                    architecture.masked_tensors(source)
                )
            extra = architecture.computed_tensors(source)
            for tensor_name, values in extra.items():
                file.add(tensor_name, values.shape, "f32")
            for tensor_name, tensor in planned.items():
                file.add(tensor_name, tensor.shape, stored_type(tensor_name, tensor.shape, kind))
            file.begin_data(_check)
        for values in extra.values():
            file.write(values.tobytes())
            file.end_tensor()
        each = [
            Planned(
                tensor,
                stored_type(tensor_name, tensor.shape, kind),
                architecture.change_of(source, tensor_name),
            )
            for tensor_name, tensor in planned.items()
        ]
        write_tensors(file, each, n_threads, progress)
        report.tensors, report.bytes = len(extra) + len(planned), file.finish(_check)
    report.seconds = time.monotonic() - begin
    return report


@checked
def convert_mmproj(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    outtype: str = "auto",
    name: str | None = None,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Writes the vision and audio towers of the folder `checkpoint` to the mmproj file `out`.

    outtype: of the matrices, as in `convert`; "auto": the type that most bytes of the towers have.
    Vectors, convolutions and position tables are always f32; patch embeddings are f16 in f16 files,
    else f32; with "q8_0", rows that are no multiple of 32 are f16. name: general.name; None: the
    folder's. progress: called as progress(done_bytes, total_bytes); what it raises ends the
    conversion.

    The report's `architecture` is "clip"; its `skipped` counts the text model's tensors. Files and
    errors are as with `convert`; a checkpoint without towers raises UnsupportedModelError.
    """
    _check_outtype(outtype)
    folder, target = Path(check_path("checkpoint", checkpoint)), Path(check_path("out", out))
    progress = None if progress is None else check_callable("progress", progress)
    threads = thread_count(n_threads) or None
    return write_mmproj(folder, target, outtype, _file_name(name), threads, progress)


def _check_outtype(outtype: str) -> None:
    if not isinstance(outtype, str) or outtype not in OUTTYPES:
        raise UsageError(f"outtype is {shown(outtype)}; it must be one of {', '.join(OUTTYPES)}")


def _file_name(name: str | None) -> str | None:
    return None if name is None else as_str(as_bytes(check_text("name", name)))


def _keys(source: Checkpoint, architecture: Architecture) -> dict[str, Any]:
    """The hyper-parameters."""
    keys = architecture.keys(source)
    refuse_out_of_range(source, keys)
    return {f"{architecture.name}.{name}": value for name, value in keys.items()}


def _plan(source: Checkpoint, architecture: Architecture, report: Report) -> dict[str, Source]:
    """{name in the file: tensor of the checkpoint}, and why others are left out."""
    planned: dict[str, Source] = {}
    for tensor in source.tensors.values():
        name, reason = architecture.place(source, tensor.name)
        if name is None:
            if reason:
                report.skipped[reason] = report.skipped.get(reason, 0) + 1
        elif name in planned:
            both = f"{planned[name].spelled} and {tensor.spelled}"
            raise ModelFileError(f"{source.folder}: tensors {both} would both become {name}")
        else:
            planned[name] = architecture.part_of(source, tensor)
    if not planned:
        raise ModelFileError(
            f"{source.folder}: no tensor of a {architecture.name} text model in it"
        )
    architecture.check_tensors(source, planned)
    for tensor in planned.values():
        which = f"{tensor.path}: tensor {tensor.spelled}"
        if tensor.dtype.startswith("i"):
            raise ModelFileError(f"{which} holds integers, weights were expected")
        if tensor.dtype not in FLOATS:
            known = ", ".join(FLOATS)
            raise ModelFileError(f"{which} has type {tensor.dtype}; {known} can be converted")
    return planned


def _check(path: Path) -> None:
    """Our own reader takes the file: all tensors there, all shapes right, none too many."""
    logger, quiet = (
        logging.getLogger("pillion"),
        lambda record: path.name not in record.getMessage(),
    )
    logger.addFilter(quiet)  # what it finds becomes the error's sentence
    try:
        with Model.open(path, metadata_only=True) as model:
            found = model.describe()["warnings"]
            model.tokenizer.close()  # it can be made
    finally:
        logger.removeFilter(quiet)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ModelFileError(f"{path}: the checkpoint does not make a model: {found[0]}{more}")
