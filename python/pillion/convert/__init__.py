"""Hugging Face checkpoints (config.json, safetensors, tokenizer.json) to GGUF: Gemma 4 and its
assistants, Gemma 3, Llama.

Keys and tensor names are those that llama.cpp's converter writes, so files go both ways. Needs the
extra "convert"."""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._native import as_bytes, as_str
from ..arguments import check_bool, check_callable, check_path, check_text, shown
from ..atomic_file import check_place
from ..calling import checked
from ..errors import ModelFileError, PillionError, UsageError
from ..model import Model
from ..options import thread_count
from .architecture import Architecture
from .architectures import architecture_of
from .checkpoint import Checkpoint, Source
from .values import FILE_TYPES, FLOATS, OUTTYPES, ValueConverter, stored_type
from .vocabulary import write_tokenizer
from .writer import GgufFile

__all__ = ["OUTTYPES", "Report", "convert"]

Progress = Callable[[int, int], object]


@dataclass
class Report:
    """What a conversion did."""

    out: Path
    architecture: str
    outtype: str
    tensors: int = 0
    bytes: int = 0
    """Of the file."""
    seconds: float = 0.0
    skipped: dict[str, int] = field(default_factory=dict)
    """Why tensors were left out, and how many."""


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
    if not isinstance(outtype, str) or outtype not in OUTTYPES:
        raise UsageError(f"outtype is {shown(outtype)}; it must be one of {', '.join(OUTTYPES)}")
    checkpoint, out = check_path("checkpoint", checkpoint), check_path("out", out)
    n_threads = thread_count(n_threads) or None
    name = None if name is None else as_str(as_bytes(check_text("name", name)))
    check_bool("masked_embedding", masked_embedding)
    progress = None if progress is None else check_callable("progress", progress)
    begin = time.monotonic()
    folder, target = Path(checkpoint), Path(out)
    with _sound(folder):
        source = Checkpoint(folder)
        check_place(target)
        if target.exists() and any(_same(path, target) for path in source.folder.iterdir()):
            raise UsageError(f"{target} is a file of the checkpoint")
        architecture = architecture_of(source)
        kind = source.main_type() if outtype == "auto" else outtype
        report = Report(target, architecture.name, kind)
        with _sound(folder, f"{architecture.name} model"):
            planned = _plan(source, architecture, report)
            keys, sampling = _keys(source, architecture), source.sampling_defaults()

    with GgufFile(target, architecture.name) as file:
        with _sound(folder, f"{architecture.name} model"):
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
        total, done = sum(tensor.n_bytes for tensor in planned.values()), 0
        with ValueConverter(n_threads) as values_of:
            for tensor_name, tensor in planned.items():
                into = stored_type(tensor_name, tensor.shape, kind)
                for piece, n_bytes in values_of(
                    tensor, into, architecture.change_of(source, tensor_name)
                ):
                    file.write(piece)
                    done += n_bytes
                    if progress is not None:
                        progress(done, total)
                file.end_tensor()
        report.tensors, report.bytes = len(extra) + len(planned), file.finish(_check)
    report.seconds = time.monotonic() - begin
    return report


@contextlib.contextmanager
def _sound(folder: Path, what: str = "model") -> Iterator[None]:
    """JSON files that do not hold together fail in many places, and always for one reason."""
    try:
        yield
    except PillionError:
        raise
    except (
        LookupError,
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as error:
        raise ModelFileError(f"{folder}: it does not describe a {what}: {error!r}") from error
    except OSError as error:
        if error.filename is None or folder not in (
            Path(error.filename),
            *Path(error.filename).parents,
        ):
            raise
        raise ModelFileError(f"{error.filename}: {error.strerror}") from None


def _same(path: Path, target: Path) -> bool:
    with contextlib.suppress(OSError):  # a link to nothing
        return path.samefile(target)
    return False


def _keys(source: Checkpoint, architecture: Architecture) -> dict[str, Any]:
    """The hyper-parameters."""
    keys = architecture.keys(source)
    for name, value in keys.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, (int, float)) and not 0 <= one < 2**32:
                raise ModelFileError(f"{source.folder}: config.json gives {name} the value {one}")
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
