"""The first bytes of a GGUF file, of a disk or of the hub: its magic and the metadata in front.

Model files have the facts that tell a target from a drafter before the vocabulary. So a few
kilobytes answer what the whole file would, also before it is downloaded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

HEAD_BYTES = 1 << 16
MAGIC = b"GGUF"
ASSISTANTS = ("gemma4-assistant", "gemma4_assistant")
"""Architectures of drafters that read the target's cache."""

Value: TypeAlias = str | int | float | bool

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_SCALARS[12] = "d"
_STRING, _ARRAY = 8, 9

_WIDTH = {"drafter": "embedding_length_out", "mmproj": "vision.projection_dim"}

_FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1"}
_FILE_TYPES |= {14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16"}
"""`general.file_type` of the types that `pillion quantize` writes."""


@dataclass(frozen=True)
class Head:
    """What the first bytes tell. A fact that stands further back is None."""

    kind: str | None
    """target, drafter, mmproj, adapter or other."""
    architecture: str | None
    width: int | None
    """Of a target its width, of a drafter or an mmproj file the width of its targets."""
    quantization: str | None


def head_of(path: Path) -> Head | None:
    """The head of a file; None: it is not GGUF, or cannot be read."""
    try:
        with path.open("rb") as file:
            return read_head(file.read(HEAD_BYTES))
    except OSError:
        return None


def facts_of(path: Path) -> dict[str, Value]:
    """The scalars and strings of a file's metadata, as far as its first bytes have them; empty: it
    is not GGUF, or cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(HEAD_BYTES)
    except OSError:
        return {}
    return _metadata(data) if data[:4] == MAGIC else {}


def read_head(data: bytes) -> Head | None:
    """The head of a file that begins with these bytes; None: it is not GGUF."""
    if data[:4] != MAGIC:
        return None
    facts = _metadata(data)
    arch = facts.get("general.architecture")
    arch = arch if isinstance(arch, str) else None
    kind = _kind(arch, facts.get("general.type"))
    width = facts.get(f"{arch}.{_WIDTH.get(kind or '', 'embedding_length')}")
    if kind == "mmproj" and width is None:
        width = facts.get("clip.audio.projection_dim")
    file_type = facts.get("general.file_type")
    return Head(
        kind,
        arch,
        width if isinstance(width, int) else None,
        _FILE_TYPES.get(file_type) if isinstance(file_type, int) else None,
    )


def _kind(arch: str | None, file_kind: Value | None) -> str | None:
    if file_kind in ("adapter", "mmproj", "imatrix"):
        return "other" if file_kind == "imatrix" else str(file_kind)
    if arch is None:
        return None
    if arch in ASSISTANTS:
        return "drafter"
    return {"clip": "mmproj", "imatrix": "other"}.get(arch, "target")


def _metadata(data: bytes) -> dict[str, Value]:
    """The scalars and strings of the metadata, as far as the bytes go."""
    found: dict[str, Value] = {}
    reader = _Reader(data)
    try:
        version, _, n_pairs = reader.scalar("I"), reader.scalar("Q"), reader.scalar("Q")
        if version not in (2, 3):
            return found
        for _ in range(int(n_pairs)):
            key, kind = reader.string(), int(reader.scalar("I"))
            value = reader.value(kind)
            if value is not None:
                found[key] = value
    except (struct.error, IndexError, KeyError, OverflowError, UnicodeDecodeError):
        pass  # the rest stands behind these bytes
    return found


class _Reader:
    """Reads values one behind the other. Raises where the bytes end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, len(MAGIC)

    def scalar(self, code: str) -> int | float | bool:
        value: int | float | bool = struct.unpack_from(f"<{code}", self._data, self._at)[0]
        self._at += struct.calcsize(f"<{code}")
        return value

    def string(self) -> str:
        length = int(self.scalar("Q"))
        end = self._at + length
        if end > len(self._data):
            raise IndexError
        text = self._data[self._at : end].decode("utf-8")
        self._at = end
        return text

    def value(self, kind: int) -> Value | None:
        """A value of this kind. An array is passed over."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(_SCALARS[kind])
        inner, count = int(self.scalar("I")), int(self.scalar("Q"))
        if inner in _SCALARS:
            self._at += struct.calcsize(f"<{_SCALARS[inner]}") * count
        elif inner == _STRING:
            for _ in range(count):
                self.string()
        else:
            raise KeyError(inner)
        return None
