"""Gemma 3. Readers of this architecture know the 5:1 pattern, the sliding layers' RoPE base 10000 and the scale 1/sqrt(head size)
by themselves; files hold 1 + w of the norms and have no keys for the rest."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from ..errors import UnsupportedModelError
from .architecture import Architecture, common_keys, head_size
from .checkpoint import Checkpoint
from .gemma4 import Gemma4
from .values import Change, to_f32

_PERIOD = 6


class Gemma3(Architecture):
    """Text part of Gemma 3."""

    name = "gemma3"
    tokenizer_model = "llama"
    activation = "gelu_pytorch_tanh"
    tensors = {name: Gemma4.tensors[name] for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")}
    layer_tensors = {
        name: ours
        for name, ours in Gemma4.layer_tensors.items()
        if name.startswith(("self_attn.", "mlp.")) or name.endswith("layernorm.weight")
    }

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        text = source.text
        self._check(source)
        keys = common_keys(source)
        keys["attention.key_length"] = keys["attention.value_length"] = head_size(source)
        keys["attention.sliding_window"] = int(text["sliding_window"])
        rope = (text.get("rope_parameters") or {}).get("full_attention") or {
            "rope_theta": text.get("rope_theta", 1e6),
            **(text.get("rope_scaling") or {}),
        }
        keys["rope.freq_base"] = float(rope["rope_theta"])
        kind = rope.get("rope_type", "default")
        if kind == "linear":
            keys["rope.scaling.type"], keys["rope.scaling.factor"] = "linear", float(rope["factor"])
        elif kind != "default":
            raise UnsupportedModelError(
                f"{source.folder}: rope_type {kind!r} is unknown for gemma3; default and linear are known"
            )
        return keys

    def change_of(self, source: Checkpoint, name: str) -> Optional[Change]:
        if not name.endswith("norm.weight"):
            return None
        tensor = next(t for t in source.tensors.values() if self.place(source, t.name)[0] == name)
        return lambda bits: to_f32(bits, tensor.dtype) + np.float32(1)

    def _check(self, source: Checkpoint) -> None:
        text = source.text
        types = text.get("layer_types") or []
        if any((kind == "sliding_attention") != (i % _PERIOD < _PERIOD - 1) for i, kind in enumerate(types)):
            raise UnsupportedModelError(
                f"{source.folder}: layer_types is not five sliding layers and a full one, again and again"
            )
        scale = text.get("query_pre_attn_scalar", head_size(source))
        if scale != head_size(source):
            raise UnsupportedModelError(
                f"{source.folder}: query_pre_attn_scalar is {scale}, files of gemma3 imply the head size, {head_size(source)}"
            )
