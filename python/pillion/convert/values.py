"""Values on their way: from a checkpoint's type to the file's, a slice at a time, on several
threads, in order."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..devices import usable_cpus
from ..errors import ModelFileError, UsageError
from .checkpoint import Array, Source

OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0")
FLOATS = ("f32", "f16", "bf16")
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}
"""general.file_type"""

_SLICE_BYTES = 8 << 20
_EXACT = re.compile(r"norm\.weight$|ffn_gate_inp\.weight$|^rope_freqs\.")

Change = Callable[[Array], Array]
"""Of a whole tensor's bits (a permutation) or of its f32 values (a vector)."""


def stored_type(name: str, shape: tuple[int, ...], kind: str) -> str:
    """The type of a tensor in a file of that kind: vectors, norms and routers exact; rows that are
    no whole blocks as f16."""
    if len(shape) < 2 or _EXACT.search(name):
        return "f32"
    return "f16" if kind == "q8_0" and shape[-1] % 32 else kind


class ValueConverter:
    """Calls give (bytes of the file, bytes of the checkpoint) pieces of a tensor."""

    def __init__(self, n_threads: int | None) -> None:
        n = n_threads or usable_cpus()
        if n < 1:
            raise UsageError(f"n_threads is {n_threads}; it must be 1 or more")
        self._window = n + 1
        self._pool = ThreadPoolExecutor(n)

    def __enter__(self) -> ValueConverter:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __call__(
        self, tensor: Source, into: str, change: Change | None, infinite: bool = False
    ) -> Iterator[tuple[Array, int]]:
        slices = (
            iter([change(tensor.array()).reshape(-1, tensor.width)])
            if change
            else tensor.slices(_SLICE_BYTES)
        )
        waiting: deque[tuple[Future[Array], int]] = deque()
        row = 0
        for bits in slices:
            work = self._pool.submit(_convert, tensor, bits, into, row, infinite)
            waiting.append((work, bits.nbytes))
            row += len(bits)
            if len(waiting) > self._window:
                done, n_bytes = waiting.popleft()
                yield done.result(), n_bytes
        for done, n_bytes in waiting:
            yield done.result(), n_bytes


def to_f32(bits: Array, dtype: str) -> Array:
    """Bits of a float type as f32 values."""
    if dtype == "bf16" and bits.dtype == np.uint16:
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.astype(np.float32)


def _convert(tensor: Source, bits: Array, into: str, first_row: int, infinite: bool) -> Array:
    """Bytes as the file holds them. infinite: infinite values are sound."""
    if tensor.dtype.startswith("i"):
        raise ModelFileError(
            f"{tensor.path}: tensor {tensor.spelled} holds integers, weights were expected"
        )
    # bf16 is no type of NumPy's: all bits of the exponent set
    broken = (bits & 0x7FFF) >= 0x7F80 if bits.dtype == np.uint16 else ~np.isfinite(bits)
    if infinite:
        broken = np.isnan(to_f32(bits, tensor.dtype))
    if broken.any():
        row, column = np.argwhere(broken)[0]
        value = to_f32(bits[row : row + 1], tensor.dtype)[0, column]
        raise ModelFileError(
            f"{tensor.path}: tensor {tensor.spelled}, row {first_row + row}, column {column} is "
            f"{value}"
        )
    same = into == tensor.dtype and (bits.dtype == np.uint16) == (into == "bf16")
    if same:
        return _bytes(bits)
    values = to_f32(bits, tensor.dtype)
    if into == "f32":
        return _bytes(values)
    if into == "f16":
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.isfinite(halves).all():
            largest = float(np.abs(values).max())
            which = f"{tensor.path}: tensor {tensor.spelled}"
            raise ModelFileError(
                f"{which} has values up to {largest:g}, f16 ends at 65504; use bf16"
            )
        return _bytes(halves)
    import gguf

    return _bytes(gguf.quants.quantize(values, gguf.GGMLQuantizationType[into.upper()]))


def _bytes(values: Array) -> Array:
    flat: Array = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return flat
