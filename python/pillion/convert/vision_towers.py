"""The vision towers of Gemma 4: the transformer of E2B, E4B, 26B-A4B and 31B, and the patches of
12B, which go into the text model without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import UnsupportedModelError
from .architecture import sound_head_size
from .checkpoint import Checkpoint
from .config import n_layers
from .towers import (
    EXACT,
    MATRIX,
    PATCH,
    Tower,
    Wanted,
    channels_first,
    image_keys,
    planes_first,
)

_ROPE_BASE = 100.0
_POOLING = 3
"""Patches along one side of a soft token, where a file says nothing."""
_NORMS = {
    "input_layernorm": "ln1",
    "post_attention_layernorm": "attn_post_norm",
    "pre_feedforward_layernorm": "ln2",
    "post_feedforward_layernorm": "ffn_post_norm",
}


class VisionTransformer(Tower):
    """gemma4v"""

    medium, projector_type = "vision", "gemma4v"
    prefixes = ("vision_tower.", "embed_vision.")
    fixed = {"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False}
    defaults = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 16,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
        "head_dim": 64,
        "rms_norm_eps": 1e-6,
        "pooling_kernel_size": _POOLING,
        "patch_size": 16,
        "position_embedding_size": 10240,
        "use_clipped_linears": False,
        "standardize": False,
        "rope_parameters": None,
    }

    def __init__(self, source: Checkpoint, config: dict[str, Any], n_embd: int) -> None:
        super().__init__(source, config, n_embd)
        given = self.config
        self.width = given.whole("hidden_size")
        self.heads, self.size = given.whole("num_attention_heads"), self._head_size()
        base = (given["rope_parameters"] or {}).get("rope_theta", _ROPE_BASE)
        lost = {
            "num_key_value_heads": (given["num_key_value_heads"], self.heads),
            "rope_theta": (base, _ROPE_BASE),
        }
        for key, (value, needed) in lost.items():
            if value != needed:
                raise UnsupportedModelError(
                    f"{source.folder}: config.json gives {key} of the vision tower the value "
                    f"{value!r}, readers of an mmproj file take {needed}"
                )

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        given = self.config
        keys = self.sizes(self.width, given.whole("intermediate_size"), n_layers(given), self.heads)
        keys |= image_keys(source)
        keys["patch_size"] = given.whole("patch_size")
        keys["attention.layer_norm_epsilon"] = given.number("rms_norm_eps")
        if self.size * self.heads != self.width:
            keys["attention.head_dim"] = self.size
        if given.whole("pooling_kernel_size") != _POOLING:
            keys["projector.scale_factor"] = given.whole("pooling_kernel_size")
        return keys

    def tensors(self) -> Iterator[Wanted]:
        given, width = self.config, self.width
        patch = given.whole("patch_size", 1, 256)
        tower = "vision_tower.patch_embedder."
        yield Wanted(
            f"{tower}input_proj.weight",
            "v.patch_embd.weight",
            (width, patch * patch * 3),
            PATCH,
            (width, 3, patch, patch),
            channels_first(patch),
        )
        table = (2, given.whole("position_embedding_size"), width)
        yield Wanted(f"{tower}position_embedding_table", "v.position_embd.weight", table)
        for layer in range(n_layers(given)):
            yield from self._layer(f"vision_tower.encoder.layers.{layer}.", f"v.blk.{layer}.")
        if given.get("standardize"):
            for name in ("std_bias", "std_scale"):
                yield Wanted(f"vision_tower.{name}", f"v.{name}", (width,))
        yield projection("vision", "mm", self.n_embd, width)

    def _layer(self, name: str, block: str) -> Iterator[Wanted]:
        width, inner = self.width, self.config.whole("intermediate_size")
        heads = self.heads * self.size
        for norm, placed in _NORMS.items():
            yield Wanted(f"{name}{norm}.weight", f"{block}{placed}.weight", (width,))
        for part in "qkv":
            yield from self.clipped(
                f"{name}self_attn.{part}_proj", f"{block}attn_{part}", (heads, width)
            )
        yield from self.clipped(f"{name}self_attn.o_proj", f"{block}attn_out", (width, heads))
        for part in "qk":
            placed = f"{block}attn_{part}_norm.weight"
            yield Wanted(f"{name}self_attn.{part}_norm.weight", placed, (self.size,))
        for part in ("gate", "up"):
            yield from self.clipped(f"{name}mlp.{part}_proj", f"{block}ffn_{part}", (inner, width))
        yield from self.clipped(f"{name}mlp.down_proj", f"{block}ffn_down", (width, inner))

    def _head_size(self) -> int:
        given = self.config["head_dim"]
        return sound_head_size(self.width // self.heads if given is None else given)


class VisionPatches(Tower):
    """gemma4uv"""

    medium, projector_type = "vision", "gemma4uv"
    prefixes = ("vision_embedder.", "embed_vision.")
    fixed = {"rms_norm_eps": 1e-6, "pooling_kernel_size": _POOLING}
    defaults = {"patch_size": 16, "mm_embed_dim": 3840, "mm_posemb_size": 1120}

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        keys = self.sizes(self.config.whole("mm_embed_dim"), 0, 0, 0) | image_keys(source)
        keys["patch_size"] = self.config.whole("patch_size")
        keys["attention.layer_norm_epsilon"] = self.config.number("rms_norm_eps")
        return keys

    def tensors(self) -> Iterator[Wanted]:
        given, name = self.config, "vision_embedder."
        width, side = given.whole("mm_embed_dim"), _POOLING * given.whole("patch_size", 1, 256)
        pixels = side * side * 3
        order = channels_first(side)
        matrix = (width, pixels)
        yield Wanted(
            f"{name}patch_dense.weight", "v.patch_embd.weight", matrix, PATCH, change=order
        )
        yield Wanted(f"{name}patch_dense.bias", "v.patch_embd.bias", (width,))
        norms = (("patch_ln1", pixels), ("patch_ln2", width), ("pos_norm", width))
        for number, (norm, length) in enumerate(norms, 1):
            for end in ("weight", "bias"):
                yield Wanted(
                    f"{name}{norm}.{end}",
                    f"v.patch_norm.{number}.{end}",
                    (length,),
                    change=order if number == 1 else None,
                )
        positions = given.whole("mm_posemb_size")
        yield Wanted(
            f"{name}pos_embedding",
            "v.position_embd.weight",
            (positions, 2, width),
            EXACT,
            (2, positions, width),
            planes_first,
        )
        yield projection("vision", "mm", self.n_embd, width)


def projection(medium: str, prefix: str, n_embd: int, width: int) -> Wanted:
    """The last matrix of a tower, into rows of the text model."""
    name = f"embed_{medium}.embedding_projection.weight"
    return Wanted(name, f"{prefix}.input_projection.weight", (n_embd, width), MATRIX)
