"""`Mmproj`: an mmproj file, whose towers turn images and sounds into rows of the target's width."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from ._native import Handle, check, ffi, interruptible, lib, read_json
from .arguments import check_int, check_path, wrong
from .calling import checked_class
from .options import thread_count

Rows = npt.NDArray[np.float32]

_PIXELS = "an array of bytes [height, width, 3]"
_SAMPLES = "a flat array of floats: 16 kHz, one channel"
_SIDE = 2**31 - 1


@checked_class
class Mmproj(Handle):
    """An open mmproj file: a vision tower, an audio tower, or both. They run on the CPU.

    path: the GGUF file. n_threads: None: all cores this process may use.

    Opening checks every key and tensor. A tower's weights are loaded when it first encodes. Any
    thread may use it; encodings run one after the other, and Ctrl-C stops one.
    """

    _kind = "mmproj"

    def __init__(self, path: str | os.PathLike[str], n_threads: int | None = None) -> None:
        self.path = check_path("path", path)
        """The path that it was opened by."""
        out = ffi.new("pillion_mmproj**")
        check(lib.pillion_mmproj_open(os.fsencode(self.path), thread_count(n_threads), out))
        super().__init__(out[0], lib.pillion_mmproj_free)
        self._description = self.describe()

    def describe(self) -> dict[str, Any]:
        """Returns what it holds: {"path", "n_embd", "vision", "audio", "file_bytes", "n_threads",
        "tensor_types"}. "vision" and "audio" are None where it has no such tower, else
        {"projector", "n_embd", "n_ff", "n_layers", "n_heads", "file_bytes" …}."""
        found: dict[str, Any] = read_json(
            lambda out, capacity, needed: lib.pillion_mmproj_json(self._c, out, capacity, needed)
        )
        return found

    @property
    def has_vision(self) -> bool:
        """True if it encodes images."""
        return self._description["vision"] is not None

    @property
    def has_audio(self) -> bool:
        """True if it encodes sound."""
        return self._description["audio"] is not None

    @property
    def image_tokens(self) -> int:
        """The most soft tokens of an image for which nobody asks another number; 0: it encodes no
        images."""
        vision = self._description["vision"]
        return 0 if vision is None else int(vision["image_tokens"])

    @property
    def n_embd(self) -> int:
        """Width of a row: the n_embd of the target that it belongs to."""
        return int(self._description["n_embd"])

    @property
    def file_bytes(self) -> int:
        """Bytes of the file."""
        return int(self._description["file_bytes"])

    def image_grid(
        self, height: int, width: int, image_tokens: int | None = None
    ) -> tuple[int, int]:
        """Returns (rows, cols) of the soft tokens that an image becomes. Their product is at most
        `image_tokens` (None: as many as the file says). height, width: its pixels."""
        rows, cols = ffi.new("int32_t*"), ffi.new("int32_t*")
        check(
            lib.pillion_mmproj_image_grid(
                self._c,
                check_int("height", height, 1, _SIDE),
                check_int("width", width, 1, _SIDE),
                _n_tokens(image_tokens),
                rows,
                cols,
            )
        )
        return int(rows[0]), int(cols[0])

    def encode_image(self, rgb: npt.NDArray[np.uint8], image_tokens: int | None = None) -> Rows:
        """Encodes an image: f32 [T, n_embd], T = rows * cols of `image_grid`, row by row.

        rgb: bytes [height, width, 3], of any size. image_tokens: the most soft tokens; 70, 140,
        280, 560 or 1120 in training, 1 to 1120 here; None: as many as the file says. Raises
        `UsageError` for a file without a vision tower."""
        if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3:
            wrong("rgb", rgb, _PIXELS)
        if rgb.shape[2] != 3 or rgb.size == 0:
            wrong("rgb", rgb.shape, _PIXELS)
        pixels = np.ascontiguousarray(rgb)
        height, width = int(pixels.shape[0]), int(pixels.shape[1])
        n = int(np.prod(self.image_grid(height, width, image_tokens)))
        rows = np.empty((n, self.n_embd), np.float32)
        self._encode(
            lambda: lib.pillion_mmproj_encode_image(
                self._c,
                ffi.from_buffer("uint8_t[]", pixels),
                height,
                width,
                _n_tokens(image_tokens),
                ffi.from_buffer("float[]", rows),
                n,
            )
        )
        return rows

    def audio_tokens(self, n_samples: int) -> int:
        """Returns the soft tokens that `n_samples` samples become; 0: too few for one."""
        n = ffi.new("size_t*")
        check(
            lib.pillion_mmproj_audio_tokens(self._c, check_int("n_samples", n_samples, 0, 2**40), n)
        )
        return int(n[0])

    def encode_audio(self, samples: npt.ArrayLike) -> Rows:
        """Encodes one piece of sound: f32 [T, n_embd], T of `audio_tokens`.

        samples: 16 kHz, one channel, -1 … 1; at most 30 seconds for a gemma4a tower. Raises
        `UsageError` for a file without an audio tower."""
        try:
            wave = np.ascontiguousarray(samples, np.float32)
        except (TypeError, ValueError):
            wrong("samples", samples, _SAMPLES)
        if wave.ndim != 1:
            wrong("samples", wave.shape, _SAMPLES)
        n = self.audio_tokens(wave.size)
        rows = np.empty((n, self.n_embd), np.float32)
        self._encode(
            lambda: lib.pillion_mmproj_encode_audio(
                self._c,
                ffi.from_buffer("float[]", wave),
                wave.size,
                ffi.from_buffer("float[]", rows),
                n,
            )
        )
        return rows

    def _encode(self, call: Any) -> None:
        interruptible(lambda: check(call()), lambda: lib.pillion_mmproj_cancel(self._c))


def _n_tokens(image_tokens: int | None) -> int:
    return 0 if image_tokens is None else check_int("image_tokens", image_tokens, 1, 1120)
