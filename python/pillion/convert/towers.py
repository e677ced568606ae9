"""Vision and audio towers of Gemma 4: what config.json makes, and what an mmproj file calls it.

Names, shapes and values are those of llama.cpp's converter. A Tower yields every tensor in the
order of the file; mmproj.py finds and writes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UnsupportedModelError
from .architecture import Shape
from .checkpoint import Array, Checkpoint
from .config import Config
from .values import to_f32

MATRIX, PATCH, EXACT, BOUND = "matrix", "patch", "exact", "bound"
"""How a tensor is stored: in the file's type; f16 in f16 files, else f32; always f32; the same,
and infinite values are sound."""

BOUNDS = ("input_min", "input_max", "output_min", "output_max")
"""Ends of the names of a clipped linear layer's scalars."""


@dataclass(frozen=True)
class Wanted:
    """A tensor that config.json makes."""

    name: str
    """In the checkpoint, without `model.`"""
    placed: str
    """In the file."""
    shape: Shape
    """In the checkpoint, rows first."""
    kind: str = EXACT
    stored: Shape | None = None
    """In the file, where it differs."""
    change: Callable[[Array, str], Array] | None = None
    """What happens to its bits of that type; None: nothing."""


class Tower(ABC):
    """What turns one kind of media into rows of the text model's width."""

    medium: str
    """vision or audio, as config.json and the keys of a file call it."""
    projector_type: str
    prefixes: tuple[str, ...]
    """Of its tensors in a checkpoint, without `model.`"""
    fixed: dict[str, Any] = {}
    """Keys of config.json that a file cannot say, and what readers take for them."""
    defaults: dict[str, Any]
    """What a key means that config.json leaves out."""

    def __init__(self, source: Checkpoint, config: dict[str, Any], n_embd: int) -> None:
        """n_embd: width of the text model's rows."""
        self.config = Config({**self.fixed, **self.defaults, **config})
        self.n_embd = n_embd
        for key, value in self.fixed.items():
            if self.config[key] != value:
                raise UnsupportedModelError(
                    f"{source.folder}: config.json gives {key} of the {self.medium} tower the "
                    f"value {self.config[key]!r}, readers of an mmproj file take {value!r}"
                )

    @abstractmethod
    def keys(self, source: Checkpoint) -> dict[str, Any]:
        """Hyper-parameters, without `clip.vision.` or `clip.audio.`"""

    @abstractmethod
    def tensors(self) -> Iterator[Wanted]:
        """Every tensor."""

    def sizes(self, width: int, feed_forward: int, layers: int, heads: int) -> dict[str, Any]:
        """The keys that all towers have."""
        return {
            "projection_dim": self.n_embd,
            "embedding_length": width,
            "feed_forward_length": feed_forward,
            "block_count": layers,
            "attention.head_count": heads,
            "projector_type": self.projector_type,
        }

    def clipped(self, name: str, placed: str, shape: Shape) -> Iterator[Wanted]:
        """A linear layer, and its four bounds where the tower clips."""
        yield Wanted(f"{name}.linear.weight", f"{placed}.weight", shape, MATRIX)
        if self.config.get("use_clipped_linears"):
            for bound in BOUNDS:
                yield Wanted(f"{name}.{bound}", f"{placed}.{bound}", (1,), BOUND)


IMAGE_TOKENS = 280
"""Most soft tokens of a picture, where a file says nothing."""


def image_keys(source: Checkpoint) -> dict[str, Any]:
    """Size, mean and deviation of pictures: nothing depends on them, but readers ask for them. And
    how many soft tokens a picture gets, where that is not the released models' number."""
    found: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "processor_config.json"):
        given = source.json(name, needed=False)
        part = given.get("image_processor")
        found.update(given, **(part if isinstance(part, dict) else {}))
    keys: dict[str, Any] = {}
    if (most := found.get("max_soft_tokens", IMAGE_TOKENS)) != IMAGE_TOKENS:
        keys["image_tokens"] = int(most)
    mean, std = found.get("image_mean") or [0.0] * 3, found.get("image_std") or [1.0] * 3
    return keys | {
        "image_size": 224,
        "image_mean": [float(value) for value in mean],
        "image_std": [float(value) for value in std],
    }


def channels_first(patch: int, axis: int = -1) -> Callable[[Array, str], Array]:
    """Puts the values of patches, (row, column, channel) along `axis`, into the order (channel,
    row, column)."""
    order = np.arange(patch * patch * 3).reshape(patch, patch, 3).transpose(2, 0, 1).ravel()
    return lambda bits, dtype: np.take(bits, order, axis)


def planes_first(bits: Array, dtype: str) -> Array:
    """[positions, 2, width] to [2, positions, width]."""
    return np.ascontiguousarray(bits.transpose(1, 0, 2))


def softplus(bits: Array, dtype: str) -> Array:
    """ln(1 + e^x), in float32."""
    return np.logaddexp(0, to_f32(bits, dtype).astype(np.float64)).astype(np.float32)
