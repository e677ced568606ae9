"""Tensors stream from a checkpoint into a file, in slices, with their progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .checkpoint import Source
from .values import Change, ValueConverter
from .writer import GgufFile

Progress = Callable[[int, int], object]
"""Called as progress(done_bytes, total_bytes) of the checkpoint."""


@dataclass(frozen=True)
class Planned:
    """A tensor of the file whose values are on their way."""

    tensor: Source
    into: str
    """Its type in the file."""
    change: Change | None
    infinite: bool = False
    """Whether infinite values are sound."""


def write_tensors(
    file: GgufFile, planned: list[Planned], n_threads: int | None, progress: Progress | None
) -> None:
    """Writes the values of every tensor that `file` still waits for, in order."""
    total, done = sum(each.tensor.n_bytes for each in planned), 0
    with ValueConverter(n_threads) as values_of:
        for each in planned:
            for piece, n_bytes in values_of(each.tensor, each.into, each.change, each.infinite):
                file.write(piece)
                done += n_bytes
                if progress is not None:
                    progress(done, total)
            file.end_tensor()
