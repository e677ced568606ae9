"""Llama. Files hold the rows of q and k in the order of interleaved rotation, where checkpoints rotate halves."""

from __future__ import annotations

import math
import re
from typing import Any, Optional

import numpy as np

from ..errors import UnsupportedModelError
from .architecture import Architecture, common_keys, head_size
from .checkpoint import Array, Checkpoint
from .gemma4 import Gemma4
from .values import Change


class Llama(Architecture):
    """Llama 1 to 3 and models of the same class."""

    name = "llama"
    tokenizer_model = "llama"
    activation = "silu"
    ties_by_default = False
    tensors = {name: Gemma4.tensors[name] for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")}
    layer_tensors = {
        **{name: ours for name, ours in Gemma4.layer_tensors.items() if re.match(r"(self_attn|mlp)\.\w+_proj", name)},
        "input_layernorm.weight": "attn_norm.weight",
        "post_attention_layernorm.weight": "ffn_norm.weight",
    }

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        text = source.text
        keys = common_keys(source)
        keys["rope.freq_base"] = float(_rope(source)["rope_theta"])
        keys["rope.dimension_count"] = head_size(source)
        keys["vocab_size"] = int(text["vocab_size"])
        rope = _rope(source)
        kind = rope.get("rope_type") or rope.get("type") or "default"
        if kind == "linear":
            keys["rope.scaling.type"], keys["rope.scaling.factor"] = "linear", float(rope["factor"])
        elif kind not in ("default", "llama3"):
            raise UnsupportedModelError(
                f"{source.folder}: rope_type {kind!r} is unknown for llama; default, linear and llama3 are known"
            )
        return keys

    def computed_tensors(self, source: Checkpoint) -> dict[str, Array]:
        """Llama 3's stretched frequencies: short waves stay, long ones are divided by `factor`, between them it is blended."""
        rope = _rope(source)
        if (rope.get("rope_type") or rope.get("type")) != "llama3":
            return {}
        size = head_size(source)
        wavelength = 2 * math.pi * float(rope["rope_theta"]) ** (np.arange(0, size, 2) / size)
        low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
        turns = float(rope["original_max_position_embeddings"]) / wavelength
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        return {"rope_freqs.weight": (1 / ((1 - smooth) / float(rope["factor"]) + smooth)).astype(np.float32)}

    def change_of(self, source: Checkpoint, name: str) -> Optional[Change]:
        if not re.search(r"attn_[qk]\.weight$", name):
            return None
        half = head_size(source) // 2
        return lambda bits: bits.reshape(-1, 2, half, bits.shape[1]).swapaxes(1, 2).reshape(bits.shape)


def _rope(source: Checkpoint) -> dict[str, Any]:
    """Its parameters, in the older and the newer spelling."""
    text = source.text
    return text.get("rope_parameters") or {"rope_theta": text.get("rope_theta", 10000.0), **(text.get("rope_scaling") or {})}
