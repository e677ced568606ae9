"""A GGUF file that is written tensor by tensor and appears when it is complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ..atomic_file import atomic_file
from ..errors import ModelFileError, UsageError

_ALIGNMENT = 32


class GgufFile:
    """Keys, then tensors by name and shape, then their bytes in the same order, then `finish`."""

    def __init__(self, path: Path, architecture: str) -> None:
        try:
            import gguf
        except ImportError:
            raise UsageError('converting needs gguf: pip install "pillion[convert]"') from None
        self._path = path
        self._gguf = gguf
        self._writer = gguf.GGUFWriter(None, architecture)
        self._data: BinaryIO | None = None
        self._sizes: list[int] = []
        self._place = atomic_file(path)

    def __enter__(self) -> GgufFile:
        self._temporary = self._place.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if self._data is not None:
            with contextlib.suppress(OSError):  # the disk is full: the error is on its way already
                self._data.close()
        return self._place.__exit__(kind, error, trace)

    def write_keys(self, keys: dict[str, Any]) -> None:
        """bool, int (u32), float (f32), str, and lists of one of these (ints as i32)."""
        for name, value in keys.items():
            if isinstance(value, bool):
                self._writer.add_bool(name, value)
            elif isinstance(value, int):
                self._writer.add_uint32(name, value)
            elif isinstance(value, float):
                self._writer.add_float32(name, value)
            elif isinstance(value, str):
                self._writer.add_string(name, value)
            else:
                self._writer.add_array(name, value)

    def add(self, name: str, shape: tuple[int, ...], kind: str) -> None:
        """A tensor of that shape (rows first, as NumPy has it)."""
        import numpy as np

        quantization = self._gguf.GGMLQuantizationType[kind.upper()]
        block, block_bytes = self._gguf.GGML_QUANT_SIZES[quantization]
        n_bytes = int(np.prod(shape)) // block * block_bytes
        self._sizes.append(n_bytes)
        self._writer.add_tensor_info(
            name, list(shape) or [1], np.dtype(np.float32), n_bytes, raw_dtype=quantization
        )

    def begin_data(self, check: Callable[[Path], None]) -> None:
        """Keys and tensor list are complete. `check` looks at them in a file of the final length,
        before any tensor is written."""
        self._writer.write_header_to_file(path=self._temporary)
        self._writer.write_kv_data_to_file()
        self._writer.write_ti_data_to_file()
        self._writer.close()
        self._data = self._temporary.open("ab")
        self.end_tensor()
        self._data.flush()
        begin = self._data.tell()
        os.truncate(self._temporary, begin + sum(size + -size % _ALIGNMENT for size in self._sizes))
        self._check(check)
        os.truncate(self._temporary, begin)

    def write(self, data: Any) -> None:
        """Bytes of the present tensor."""
        assert self._data is not None
        self._data.write(data)

    def end_tensor(self) -> None:
        assert self._data is not None
        self._data.write(bytes(-self._data.tell() % _ALIGNMENT))

    def finish(self, check: Callable[[Path], None]) -> int:
        """All bytes are on the disk, and `check` finds them right. Returns the size; the name comes
        at the end of the block."""
        assert self._data is not None
        self._data.flush()
        os.fsync(self._data.fileno())
        size = self._data.tell()
        self._data.close()
        self._check(check)
        return size

    def _check(self, check: Callable[[Path], None]) -> None:
        try:
            check(self._temporary)
        except ModelFileError as error:
            raise type(error)(
                str(error).replace(str(self._temporary), str(self._path)), error.code
            ) from None
