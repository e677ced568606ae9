"""Gemma 4 and its assistants (docs: shared/spec/gemma4.md, section 5). All values are stored unchanged."""

from __future__ import annotations

import re
from typing import Any, Optional

import numpy as np

from ..errors import ModelFileError
from .architecture import Architecture, common_keys, sound_head_size
from .checkpoint import Array, Checkpoint
from .values import to_f32

_SLIDING = "sliding_attention"
_CENTROIDS, _ORDERING = "masked_embedding.centroids.weight", "masked_embedding.token_ordering"


class Gemma4(Architecture):
    """A target of any size, from the text-only, the multimodal and the unified classes."""

    name = "gemma4"
    tokenizer_model = "gemma4"
    activation = "gelu_pytorch_tanh"
    tensors = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
        "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
        "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
        "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
    }
    layer_tensors = {
        "self_attn.q_proj.weight": "attn_q.weight",
        "self_attn.k_proj.weight": "attn_k.weight",
        "self_attn.v_proj.weight": "attn_v.weight",
        "self_attn.o_proj.weight": "attn_output.weight",
        "self_attn.q_norm.weight": "attn_q_norm.weight",
        "self_attn.k_norm.weight": "attn_k_norm.weight",
        "mlp.gate_proj.weight": "ffn_gate.weight",
        "mlp.up_proj.weight": "ffn_up.weight",
        "mlp.down_proj.weight": "ffn_down.weight",
        "input_layernorm.weight": "attn_norm.weight",
        "post_attention_layernorm.weight": "post_attention_norm.weight",
        "pre_feedforward_layernorm.weight": "ffn_norm.weight",
        "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
        "layer_scalar": "layer_output_scale.weight",
        "per_layer_input_gate.weight": "inp_gate.weight",
        "per_layer_projection.weight": "proj.weight",
        "post_per_layer_input_norm.weight": "post_norm.weight",
        "router.proj.weight": "ffn_gate_inp.weight",
        "router.scale": "ffn_gate_inp.scale",
        "router.per_expert_scale": "ffn_down_exps.scale",
        "experts.gate_up_proj": "ffn_gate_up_exps.weight",  # gate rows first, then up rows
        "experts.down_proj": "ffn_down_exps.weight",
        "pre_feedforward_layernorm_2.weight": "pre_ffw_norm_2.weight",
        "post_feedforward_layernorm_1.weight": "post_ffw_norm_1.weight",
        "post_feedforward_layernorm_2.weight": "post_ffw_norm_2.weight",
    }

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        text = source.text
        layers, types = _layers(source), text["layer_types"]
        n_layers, n_shared = len(layers), int(text.get("num_kv_shared_layers") or 0)
        if not 0 <= n_shared <= n_layers:
            raise ModelFileError(f"config.json lets {n_shared} of {n_layers} layers share keys and values")
        sizes = {kind: layers[types.index(kind)][0] for kind in set(types)}
        full = sizes.get("full_attention", sizes.get(_SLIDING, 0))
        sliding = sizes.get(_SLIDING, full)
        ropes = text["rope_parameters"]
        keys = common_keys(source)
        keys["attention.key_length"] = keys["attention.value_length"] = full
        keys["attention.key_length_swa"] = keys["attention.value_length_swa"] = sliding
        keys["attention.sliding_window"] = int(text["sliding_window"])
        keys["attention.sliding_window_pattern"] = [kind == _SLIDING for kind in types]
        keys["attention.shared_kv_layers"] = n_shared
        keys["rope.dimension_count"], keys["rope.dimension_count_swa"] = full, sliding
        keys["rope.freq_base"] = float(ropes["full_attention"]["rope_theta"])
        keys["rope.freq_base_swa"] = float(ropes[_SLIDING]["rope_theta"])
        keys["embedding_length_per_layer_input"] = int(text.get("hidden_size_per_layer_input") or 0)
        kv_heads = [heads for _, heads in layers]
        if len(set(kv_heads)) > 1:
            keys["attention.head_count_kv"] = kv_heads
        if text.get("use_double_wide_mlp") and n_shared:
            width = int(text["intermediate_size"])
            keys["feed_forward_length"] = [width] * (n_layers - n_shared) + [2 * width] * n_shared
        if text.get("final_logit_softcapping"):
            keys["final_logit_softcapping"] = float(text["final_logit_softcapping"])
        if text.get("enable_moe_block"):
            keys["expert_count"] = int(text["num_experts"])
            keys["expert_used_count"] = int(text["top_k_experts"])
            keys["expert_feed_forward_length"] = int(text["moe_intermediate_size"])
        return keys

    def place(self, source: Checkpoint, name: str) -> tuple[Optional[str], str]:
        match = re.fullmatch(r"model\.layers\.(\d+)\.self_attn\.[kv]_(proj|norm)\.weight", name)
        n_shared = int(source.text.get("num_kv_shared_layers") or 0)
        if match and int(match[1]) >= int(source.text["num_hidden_layers"]) - n_shared:
            return None, "keys and values of layers that share those of another"
        return super().place(source, name)

    def computed_tensors(self, source: Checkpoint) -> dict[str, Array]:
        """Divisors of the rotation's angles in full layers; 1e30: not rotated."""
        head = max(size for size, _ in _layers(source))
        share = float(source.text["rope_parameters"]["full_attention"].get("partial_rotary_factor", 1.0))
        factors = np.full(head // 2, 1e30, np.float32)
        factors[: int(share * head / 2)] = 1.0
        return {"rope_freqs.weight": factors}


class Gemma4Assistant(Gemma4):
    """An MTP drafter, with its masked embedding if it has one."""

    name = "gemma4-assistant"
    tensors = {
        **Gemma4.tensors,
        "pre_projection.weight": "nextn.pre_projection.weight",
        "post_projection.weight": "nextn.post_projection.weight",
    }

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        keys = super().keys(source)
        keys["embedding_length_out"] = int(source.config["backbone_hidden_size"])
        keys["nextn_predict_layers"] = int(source.text["num_hidden_layers"])
        return keys

    def place(self, source: Checkpoint, name: str) -> tuple[Optional[str], str]:
        return (None, "") if name in (_CENTROIDS, _ORDERING) else super().place(source, name)

    def masked_tensors(self, source: Checkpoint) -> list[str]:
        return [name for name in (_CENTROIDS, _ORDERING) if name in source.tensors]

    def masked_embedding(self, source: Checkpoint) -> dict[str, Any]:
        """As metadata, 3 MB for E2B and E4B: llama.cpp refuses a file with these tensors and ignores keys it does not know."""
        found = self.masked_tensors(source)
        if not found:
            return {}
        if len(found) == 1:
            raise ModelFileError(f"{source.folder}: of the masked embedding only {found[0]} is there")
        centroids, ordering = source.tensors[_CENTROIDS], source.tensors[_ORDERING]
        n_vocab = int(source.text["vocab_size"])
        n_centroids = int(source.config["num_centroids"])
        if centroids.shape != (n_centroids, int(source.text["hidden_size"])):
            raise ModelFileError(
                f"{source.folder}: tensor {_CENTROIDS} has shape {list(centroids.shape)}, config.json says {n_centroids} "
                f"centroids of width {source.text['hidden_size']}"
            )
        order = ordering.array().ravel().astype(np.int64)
        if order.size != n_vocab or not np.array_equal(np.sort(order), np.arange(n_vocab)):
            raise ModelFileError(f"{source.folder}: tensor {_ORDERING} is no permutation of the {n_vocab} tokens")
        values = to_f32(centroids.array(), centroids.dtype).ravel()
        if not np.isfinite(values).all():
            raise ModelFileError(f"{source.folder}: tensor {_CENTROIDS} has a value that is no finite number")
        prefix = f"{self.name}.masked_embedding"
        return {
            f"{prefix}.num_centroids": n_centroids,
            f"{prefix}.centroid_top_k": int(source.config["centroid_intermediate_top_k"]),
            f"{prefix}.centroids": values.tolist(),
            f"{prefix}.token_ordering": order.tolist(),
        }


def _layers(source: Checkpoint) -> list[tuple[int, int]]:
    """(head size, KV heads) of every layer, from either form of the configuration."""
    text = source.text
    overrides = text.get("per_layer_config")
    if overrides is None:
        full: dict[str, Any] = {"head_dim": text.get("global_head_dim") or text["head_dim"]}
        if text.get("attention_k_eq_v") and text.get("num_global_key_value_heads"):
            full["num_key_value_heads"] = text["num_global_key_value_heads"]
        overrides = {str(i): full for i, kind in enumerate(text["layer_types"]) if kind != _SLIDING}
    n_layers = len(text["layer_types"])  # no longer than the file that lists them
    if int(text["num_hidden_layers"]) != n_layers:
        raise ModelFileError(f"config.json has {text['num_hidden_layers']} layers and the types of {n_layers}")
    layers = [{**text, **overrides.get(str(i), {})} for i in range(n_layers)]
    return [(sound_head_size(layer["head_dim"]), int(layer["num_key_value_heads"])) for layer in layers]
