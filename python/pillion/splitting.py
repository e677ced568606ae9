"""`join` and `split`: a model as one GGUF file, or as parts `NAME-00001-of-00003.gguf`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from ._native import Progress, check, ffi, interruptible, lib
from .arguments import check_callable, check_int, check_path, wrong
from .calling import checked

Path: TypeAlias = str | os.PathLike[str]

_SIZE = re.compile(r"(\d+)([KMGT]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_MOST = 2**63 - 1


@checked
def join(part: Path, out: Path, *, progress: Callable[[int, int], object] | None = None) -> None:
    """Copies a model in parts to one file: the same keys, the same bytes of every tensor.

    part: any of the parts, which lie in one folder; or a file that `cat` made of them.
    progress: called as progress(done_bytes, total_bytes); what it raises ends the run.

    The result is read back before it gets its name. A run that fails leaves nothing. Raises
    ModelNotFoundError, which names the missing part, ModelFileError for parts that do not belong
    together and for a full disk, and UsageError for a model that is one file already or an `out`
    that is one of the parts.
    """
    names = _path("part", part), _path("out", out)
    _run(_watch(progress), lambda user: lib.pillion_join(*names, lib.pillion_py_progress, user))


@checked
def split(
    source: Path,
    prefix: Path,
    *,
    max_size: int | str | None = None,
    max_tensors: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[str]:
    """Copies a model to the parts `prefix-00001-of-0000N.gguf` and so on. Returns their paths.

    max_size: the most bytes of a part's file, a number or a text like "2G" (K, M, G and T are
    powers of 1000).
    max_tensors: the most tensors of a part. One of the two must be given.
    progress: called as progress(done_bytes, total_bytes); what it raises ends the run.

    The first part has the metadata. `join` of the result is the source again, byte for byte. All
    parts get their names after all were read back. A run that fails leaves none. Raises UsageError
    for limits that a single tensor breaks, ModelFileError.
    """
    most = 0 if max_size is None else _bytes(max_size)
    if max_tensors is not None:
        max_tensors = check_int("max_tensors", max_tensors, 1, _MOST, "1 or more")
    names = _path("source", source), _path("prefix", prefix)
    n = ffi.new("size_t*")
    limits = most, max_tensors or 0
    report = lib.pillion_py_progress
    _run(_watch(progress), lambda user: lib.pillion_split(*names, *limits, n, report, user))
    stem = os.fsdecode(names[1])
    stem = stem[: -len(".gguf")] if stem.endswith(".gguf") and len(stem) > len(".gguf") else stem
    return [f"{stem}-{number + 1:05d}-of-{n[0]:05d}.gguf" for number in range(n[0])]


def _bytes(size: int | str) -> int:
    allowed = "a number of bytes, or a text like '2G'"
    if not isinstance(size, str):
        return check_int("max_size", size, 1, _MOST, allowed)
    found = _SIZE.fullmatch(size.strip())
    n = int(found[1]) * _UNITS[found[2].upper()] if found and len(found[1]) < 20 else 0
    return n if 1 <= n <= _MOST else wrong("max_size", size, allowed)


def _path(name: str, path: Path) -> bytes:
    return os.fsencode(check_path(name, path))


def _watch(progress: Any) -> Progress:
    return Progress(None if progress is None else check_callable("progress", progress))


def _run(watch: Progress, call: Callable[[Any], int]) -> None:
    user = ffi.new_handle(watch)
    try:
        interruptible(lambda: check(call(user)), watch.cancel)
    except Exception:
        if watch.error is not None:
            raise watch.error from None
        raise
