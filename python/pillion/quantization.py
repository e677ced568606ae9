"""`quantize`: writes a GGUF file with other tensor types."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from ._native import Progress, as_bytes, as_str, check, ffi, interruptible, lib
from .arguments import check_bool, check_callable, check_path, check_text, wrong
from .calling import checked
from .options import thread_count

QUANTIZE_TYPES = (
    "F32",
    "F16",
    "BF16",
    "Q8_0",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q4_K_S",
    "Q4_K_M",
    "Q5_K_S",
    "Q5_K_M",
    "Q6_K",
)
"""What `quantize` can make. K_S and K_M are mixes of several types."""

Path: TypeAlias = str | os.PathLike[str]


class QuantizedTensor(NamedTuple):
    """What happens to a tensor."""

    name: str
    """The tensor's name in the file."""
    source_type: str
    """Its type in the source, such as "BF16"."""
    target_type: str
    """Its type in the result."""
    n_values: int
    """Number of weights in it."""
    source_bytes: int
    """Bytes in the source."""
    target_bytes: int
    """Bytes in the result."""
    reason: str
    """Why it has this type, if it is not the type asked for."""
    error: float
    """Root mean square of the error over that of the values; 0 in a plan."""


@dataclass
class QuantizeReport:
    """A plan, or what was done."""

    type: str
    """The type asked for, one of QUANTIZE_TYPES."""
    tensors: list[QuantizedTensor] = field(default_factory=list)
    """All tensors, in the file's order."""
    seconds: float = 0.0
    """Seconds of the run; 0: nothing was written."""

    @property
    def source_bytes(self) -> int:
        """Bytes of all tensors in the source."""
        return sum(tensor.source_bytes for tensor in self.tensors)

    @property
    def target_bytes(self) -> int:
        """Bytes of all tensors in the result."""
        return sum(tensor.target_bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits of the result for each weight, over all tensors."""
        return 8 * self.target_bytes / max(1, sum(tensor.n_values for tensor in self.tensors))


@checked
def quantize(
    source: Path,
    out: Path | None,
    type: str,
    *,
    tensor_types: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    imatrix: Path | None = None,
    pure: bool = False,
    allow_requantize: bool = False,
    n_threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> QuantizeReport:
    """Writes `source` to `out` with its matrices in another type. Vectors, norms, routers and the
    centroid head stay exact.

    out: None: returns the plan and writes nothing.
    type: one of QUANTIZE_TYPES. Q4_K_M and its like are mixes that give some tensors more bits.
    tensor_types: {tensor name or regular expression: tensor type}. The last that fits wins; tensors
    that stay exact are skipped.
    imatrix: an importance matrix in llama.cpp's GGUF form: errors count by how much each input is
    used.
    pure: no mix.
    allow_requantize: `source` may be quantized already.
    n_threads: None: all cores this process may use.
    progress: called as progress(done_bytes, total_bytes); what it raises ends the run.

    The result is read back before it gets its name. A run that fails leaves nothing. Raises
    ModelFileError, UsageError.
    """
    source, pairs = check_path("source", source), _pairs(tensor_types)
    out, imatrix = (
        None if one is None else check_path(name, one)
        for name, one in (("out", out), ("imatrix", imatrix))
    )
    type, pure = check_text("type", type), check_bool("pure", pure)
    allow_requantize = check_bool("allow_requantize", allow_requantize)
    progress = None if progress is None else check_callable("progress", progress)
    with _plan(source, type, pairs, imatrix, pure, allow_requantize, n_threads) as handle:
        report = QuantizeReport(type)
        if out is not None:
            begin = time.monotonic()
            _run(handle, os.fsencode(out), Progress(progress))
            report.seconds = time.monotonic() - begin
        report.tensors = _tensors(handle)
    return report


def _pairs(tensor_types: Any) -> list[tuple[str, str]]:
    allowed = "a mapping of tensor names to types, or a list of such pairs"
    if isinstance(tensor_types, (str, bytes)):
        wrong("tensor_types", tensor_types, allowed)
    try:
        listed = list(tensor_types.items() if isinstance(tensor_types, Mapping) else tensor_types)
        pairs = [(name, kind) for name, kind in listed]
    except (TypeError, ValueError):
        wrong("tensor_types", tensor_types, allowed)
    for name, kind in pairs:
        check_text("a name in tensor_types", name), check_text(f"tensor_types[{name!r}]", kind)
    return pairs


@contextmanager
def _plan(
    source: str,
    type: str,
    pairs: list[tuple[str, str]],
    imatrix: str | None,
    pure: bool,
    allow_requantize: bool,
    n_threads: int | None,
) -> Iterator[Any]:
    config = ffi.new("pillion_quantize_config*")
    lib.pillion_quantize_config_init(config, ffi.sizeof("pillion_quantize_config"))
    config.pure, config.allow_requantize, config.n_threads = (
        pure,
        allow_requantize,
        thread_count(n_threads),
    )
    kept = [ffi.new("char[]", as_bytes(type))]
    config.type = kept[0]
    if imatrix is not None:
        kept.append(ffi.new("char[]", os.fsencode(imatrix)))
        config.imatrix = kept[-1]
    names = [ffi.new("char[]", as_bytes(name)) for name, _ in pairs]
    types = [ffi.new("char[]", as_bytes(kind)) for _, kind in pairs]
    lists = ffi.new("char*[]", names or [ffi.NULL]), ffi.new("char*[]", types or [ffi.NULL])
    config.n_overrides, config.override_names, config.override_types = (
        len(pairs),
        lists[0],
        lists[1],
    )
    out = ffi.new("pillion_quantization**")
    check(lib.pillion_quantization_new(os.fsencode(source), config, out))
    try:
        yield out[0]
    finally:
        lib.pillion_quantization_free(out[0])


def _run(handle: Any, out: bytes, watch: Progress) -> None:
    user = ffi.new_handle(watch)
    try:
        with watch:
            run = lib.pillion_quantization_run
            interruptible(
                lambda: check(run(handle, out, lib.pillion_py_progress, user)), watch.cancel
            )
    except Exception:
        if watch.error is not None:
            raise watch.error from None
        raise


def _tensors(handle: Any) -> list[QuantizedTensor]:
    n, raw = ffi.new("size_t*"), ffi.new("pillion_quantized_tensor*")
    check(lib.pillion_quantization_count(handle, n, ffi.NULL))
    found = []
    for i in range(int(n[0])):
        check(
            lib.pillion_quantization_tensor(handle, i, raw, ffi.sizeof("pillion_quantized_tensor"))
        )
        found.append(
            QuantizedTensor(
                name=as_str(ffi.string(raw.name)),
                source_type=as_str(ffi.string(raw.source_type)),
                target_type=as_str(ffi.string(raw.target_type)),
                n_values=int(raw.n_values),
                source_bytes=int(raw.source_bytes),
                target_bytes=int(raw.target_bytes),
                reason=as_str(ffi.string(raw.reason)),
                error=float(raw.error),
            )
        )
    return found
