"""Llama. Files hold the rows of q and k in the order of interleaved rotation, where checkpoints
rotate halves."""

from __future__ import annotations

import re
from typing import Any

from .architecture import Architecture, Shape, block_shapes, common_keys, ends_shapes, head_size
from .checkpoint import Array, Checkpoint
from .config import n_layers
from .rope import divisors, flat_rope
from .tensor_names import PROJECTIONS
from .tokenizer_kind import SENTENCEPIECE
from .values import Change

_ROPES = ("default", "linear", "llama3")


class Llama(Architecture):
    """Llama 1 to 3 and models of the same class."""

    name = "llama"
    model_types = {"llama": "llama"}
    defaults = {
        "llama": {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "hidden_act": "silu",
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
        }
    }
    tokenizer = SENTENCEPIECE
    activation = "silu"
    activation_key = "hidden_act"
    ties_by_default = False
    layer_tensors = {
        **PROJECTIONS,
        "input_layernorm.weight": "attn_norm.weight",
        "post_attention_layernorm.weight": "ffn_norm.weight",
    }

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        text, size = source.text, head_size(source)
        keys = common_keys(source)
        if size * keys["attention.head_count"] != keys["embedding_length"]:
            keys["attention.key_length"] = keys["attention.value_length"] = size
        rope = flat_rope(text)
        stretched = divisors(rope, size, str(source.folder), _ROPES)
        keys["rope.freq_base"] = rope["rope_theta"]
        keys["rope.dimension_count"] = size
        keys["vocab_size"] = text.whole("vocab_size")
        if rope["rope_type"] == "linear":
            keys["rope.scaling.type"], keys["rope.scaling.factor"] = "linear", float(stretched[0])
        return keys

    def shapes(self, source: Checkpoint) -> dict[str, Shape]:
        text, size, keys = source.text, head_size(source), common_keys(source)
        q, kv = (keys[f"attention.{name}"] * size for name in ("head_count", "head_count_kv"))
        shapes = ends_shapes(source)
        for layer in range(n_layers(text)):
            shapes.update(
                block_shapes(layer, text.whole("hidden_size"), q, kv, keys["feed_forward_length"])
            )
        return shapes

    def computed_tensors(self, source: Checkpoint) -> dict[str, Array]:
        """Llama 3's stretched frequencies."""
        rope = flat_rope(source.text)
        if rope["rope_type"] != "llama3":
            return {}
        return {"rope_freqs.weight": divisors(rope, head_size(source), str(source.folder), _ROPES)}

    def change_of(self, source: Checkpoint, name: str) -> Change | None:
        if not re.search(r"attn_[qk]\.weight$", name):
            return None
        half = head_size(source) // 2
        return lambda bits: (
            bits.reshape(-1, 2, half, bits.shape[1]).swapaxes(1, 2).reshape(bits.shape)
        )
