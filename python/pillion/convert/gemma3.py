"""Gemma 3. Readers of this architecture know the 5:1 pattern, the sliding layers' RoPE base 10000
and the scale 1/sqrt(head size) (27B: 1/sqrt(width / heads)) by themselves; files hold 1 + w of the
norms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import UnsupportedModelError
from .architecture import Architecture, Shape, block_shapes, common_keys, ends_shapes, head_size
from .checkpoint import Checkpoint
from .config import FULL, GEMMA_DEFAULTS, SLIDING, layer_types, n_layers, softcap
from .rope import gemma3_ropes, is_plain, linear_factor
from .tensor_names import GEMMA_NORMS, PROJECTIONS
from .tokenizer_kind import SENTENCEPIECE
from .values import Change, to_f32

_PERIOD = 6
_LOCAL_BASE = 1e4
_LAYERS_27B = 62


class Gemma3(Architecture):
    """Text part of Gemma 3."""

    name = "gemma3"
    model_types = {"gemma3": "gemma3_text", "gemma3_text": "gemma3_text"}
    defaults = {
        "gemma3_text": {
            **GEMMA_DEFAULTS,
            "vocab_size": 262208,
            "num_hidden_layers": 26,
            "query_pre_attn_scalar": 256,
            "sliding_window": 4096,
        }
    }
    tokenizer = SENTENCEPIECE
    activation = "gelu_pytorch_tanh"
    layer_tensors = {**PROJECTIONS, **GEMMA_NORMS}

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        text = source.text
        keys = common_keys(source)
        keys["attention.key_length"] = keys["attention.value_length"] = head_size(source)
        keys.update(self._layers(source))
        ropes = gemma3_ropes(text)
        keys["rope.freq_base"] = ropes[FULL]["rope_theta"]
        sliding = SLIDING in self._types(source)
        if sliding and ropes[SLIDING]["rope_theta"] != _LOCAL_BASE:
            keys["rope.freq_base_swa"] = ropes[SLIDING]["rope_theta"]
        if sliding and not is_plain(ropes[SLIDING]):
            kind = ropes[SLIDING]["rope_type"]
            raise UnsupportedModelError(
                f"{source.folder}: rope_type {kind!r} of the sliding layers cannot be converted; "
                f"default can"
            )
        where = f"{source.folder}: {FULL}"
        if FULL in self._types(source) and (factor := linear_factor(ropes[FULL], where)) != 1:
            keys["rope.scaling.type"], keys["rope.scaling.factor"] = "linear", factor
        cap = softcap(text, "final_logit_softcapping")
        # the class with a vision tower caps nothing
        if cap and source.config["model_type"] != "gemma3":
            keys["final_logit_softcapping"] = cap
        return keys

    def shapes(self, source: Checkpoint) -> dict[str, Shape]:
        text, size = source.text, head_size(source)
        width, keys = text.whole("hidden_size"), common_keys(source)
        q, kv = (keys[f"attention.{name}"] * size for name in ("head_count", "head_count_kv"))
        shapes = ends_shapes(source)
        for layer in range(n_layers(text)):
            block = f"model.layers.{layer}."
            shapes.update(block_shapes(layer, width, q, kv, keys["feed_forward_length"]))
            shapes.update({f"{block}self_attn.{name}_norm.weight": (size,) for name in "qk"})
            shapes.update(
                {
                    f"{block}{name}_feedforward_layernorm.weight": (width,)
                    for name in ("pre", "post")
                }
            )
        return shapes

    def change_of(self, source: Checkpoint, name: str) -> Change | None:
        if not name.endswith("norm.weight"):
            return None
        tensor = next(t for t in source.tensors.values() if self.file_name(t.name) == name)
        scale = np.float32(_score_scale(source) if name.endswith("attn_q_norm.weight") else 1)
        return lambda bits: (to_f32(bits, tensor.dtype) + np.float32(1)) * scale

    def _types(self, source: Checkpoint) -> list[str]:
        return layer_types(source.text, source.text.get("sliding_window_pattern", _PERIOD))

    def _layers(self, source: Checkpoint) -> dict[str, Any]:
        """Window and pattern, as far as readers do not know them by themselves."""
        types = self._types(source)
        if SLIDING not in types:
            return {}
        keys: dict[str, Any] = {"attention.sliding_window": source.text.whole("sliding_window")}
        pattern = [kind == SLIDING for kind in types]
        periods = (_PERIOD, *range(2, len(types) + 2))
        period = next(
            (p for p in periods if pattern == [i % p != p - 1 for i in range(len(types))]), None
        )
        if period != _PERIOD:
            keys["attention.sliding_window_pattern"] = period or pattern
        return keys


def _score_scale(source: Checkpoint) -> float:
    """What queries are multiplied by, so that the scale of scores that readers know becomes
    1/sqrt(query_pre_attn_scalar)."""
    text, size = source.text, head_size(source)
    implied: float = size
    if n_layers(text) == _LAYERS_27B:
        implied = text.whole("hidden_size") // text.whole("num_attention_heads")
    return math.sqrt(implied / text.number("query_pre_attn_scalar"))
