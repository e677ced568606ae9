"""Gemma 4 and its assistants (docs/gemma4.md, section 5). All values are stored
unchanged."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from ..errors import ModelFileError, UnsupportedModelError
from .architecture import (
    OTHER_MODES,
    Architecture,
    Shape,
    block_shapes,
    common_keys,
    ends_shapes,
    sound_head_size,
)
from .checkpoint import Array, Checkpoint, Source
from .config import FULL, GEMMA_DEFAULTS, SLIDING, layer_types, softcap, whole
from .rope import divisors, gemma4_ropes, is_plain
from .tensor_names import EMBEDDING, ENDS, GEMMA_NORMS, HEAD, PROJECTIONS
from .tokenizer_kind import GEMMA4
from .values import to_f32

_ROPES = ("default", "linear", "llama3", "proportional")
_GLOBAL_HEAD = 512
_PER_LAYER_TABLE = "model.embed_tokens_per_layer.weight"
_DEFAULTS = {
    **GEMMA_DEFAULTS,
    "vocab_size": 262144,
    "num_hidden_layers": 30,
    "sliding_window": 512,
}
_TOWERS_ELSEWHERE = "vision and audio, which --mmproj writes into a file of their own"
_CENTROIDS, _ORDERING = "masked_embedding.centroids.weight", "masked_embedding.token_ordering"


class Gemma4(Architecture):
    """A target of any size, from the text-only, the multimodal and the unified classes."""

    name = "gemma4"
    model_types = {
        "gemma4": "gemma4_text",
        "gemma4_text": "gemma4_text",
        "gemma4_unified": "gemma4_unified_text",
        "gemma4_unified_text": "gemma4_unified_text",
    }
    defaults = {
        "gemma4_text": {**_DEFAULTS, "hidden_size_per_layer_input": 256},
        "gemma4_unified_text": {
            **_DEFAULTS,
            "max_position_embeddings": 262144,
            "sliding_window": 1024,
            "use_bidirectional_attention": "vision",
        },
    }
    tokenizer = GEMMA4
    activation = "gelu_pytorch_tanh"
    tensors = {
        **ENDS,
        "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
        "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
        "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
    }
    layer_tensors = {
        **PROJECTIONS,
        **GEMMA_NORMS,
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

    optional = frozenset(("layer_scalar",))

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        text, types = source.text, _types(source)
        layers, n_shared = _layers(source), _n_shared(source)
        sizes = {kind: layers[types.index(kind)][0] for kind in set(types)}
        full = _full_size(source)
        sliding = sizes.get(SLIDING, full)
        ropes = gemma4_ropes(text, set(types))
        if SLIDING in ropes and not is_plain(ropes[SLIDING]):
            kind = ropes[SLIDING]["rope_type"]
            raise UnsupportedModelError(
                f"{source.folder}: rope_type {kind!r} of the sliding layers cannot be converted; "
                f"default can"
            )
        keys = common_keys(source)
        keys["attention.key_length"] = keys["attention.value_length"] = full
        keys["attention.key_length_swa"] = keys["attention.value_length_swa"] = sliding
        keys["attention.sliding_window"] = text.whole("sliding_window")
        keys["attention.sliding_window_pattern"] = [kind == SLIDING for kind in types]
        keys["attention.shared_kv_layers"] = n_shared
        keys["rope.dimension_count"], keys["rope.dimension_count_swa"] = full, sliding
        for key, kind in (("rope.freq_base", FULL), ("rope.freq_base_swa", SLIDING)):
            if kind in ropes:
                keys[key] = ropes[kind]["rope_theta"]
        keys["embedding_length_per_layer_input"] = _per_layer_width(source)
        kv_heads = [heads for _, heads in layers]
        keys["attention.head_count_kv"] = kv_heads if len(set(kv_heads)) > 1 else kv_heads[0]
        if text.get("use_double_wide_mlp") and n_shared:
            keys["feed_forward_length"] = [
                _feed_forward(source, layer) for layer in range(len(types))
            ]
        cap = softcap(text, "final_logit_softcapping")
        if cap:
            keys["final_logit_softcapping"] = cap
        if _has_experts(source):
            keys["expert_count"] = text.whole("num_experts")
            keys["expert_used_count"] = text.whole("top_k_experts")
            keys["expert_feed_forward_length"] = text.whole("moe_intermediate_size")
        if _sees(source):
            keys["attention.image_bidirectional"] = _image_bidirectional(source)
        return keys

    def shapes(self, source: Checkpoint) -> dict[str, Shape]:
        text, types, shapes = source.text, _types(source), ends_shapes(source)
        width, heads, per_layer = (
            text.whole("hidden_size"),
            text.whole("num_attention_heads"),
            _per_layer_width(source),
        )
        if per_layer:
            shapes[_PER_LAYER_TABLE] = (text.whole("vocab_size"), len(types) * per_layer)
            shapes["model.per_layer_model_projection.weight"] = (len(types) * per_layer, width)
            shapes["model.per_layer_projection_norm.weight"] = (per_layer,)
        for layer, (size, kv_heads) in enumerate(_layers(source)):
            block = f"model.layers.{layer}."
            of_layer = block_shapes(
                layer, width, heads * size, kv_heads * size, _feed_forward(source, layer)
            )
            of_layer.update({f"{block}self_attn.{name}_norm.weight": (size,) for name in "qk"})
            of_layer.update(
                {
                    f"{block}{name}_feedforward_layernorm.weight": (width,)
                    for name in ("pre", "post")
                }
            )
            of_layer[f"{block}layer_scalar"] = (1,)
            if per_layer:
                of_layer[f"{block}per_layer_input_gate.weight"] = (per_layer, width)
                of_layer[f"{block}per_layer_projection.weight"] = (width, per_layer)
                of_layer[f"{block}post_per_layer_input_norm.weight"] = (width,)
            if _has_experts(source):
                of_layer.update(_expert_shapes(source, block))
            shapes.update(
                {name: shape for name, shape in of_layer.items() if not _unused(source, name)}
            )
        return shapes

    def check_tensors(self, source: Checkpoint, planned: dict[str, Source]) -> None:
        table, n_vocab = source.tensors.get(_PER_LAYER_TABLE), source.text.whole("vocab_size")
        if table is not None and _per_layer_width(source) and table.shape[0] < n_vocab:
            raise ModelFileError(
                f"{table.path}: tensor {table.spelled} has {table.shape[0]} rows, the vocabulary "
                f"has {n_vocab} tokens; each needs a row of its own"
            )
        super().check_tensors(source, planned)

    def part_of(self, source: Checkpoint, tensor: Source) -> Source:
        """The per-layer table may have rows that no token asks for."""
        n_vocab = source.text.whole("vocab_size")
        if tensor.name != _PER_LAYER_TABLE or len(tensor.shape) != 2 or tensor.shape[0] <= n_vocab:
            return tensor
        n_bytes = tensor.n_bytes // tensor.shape[0] * n_vocab
        return dataclasses.replace(tensor, shape=(n_vocab, tensor.width), n_bytes=n_bytes)

    def place(self, source: Checkpoint, name: str) -> tuple[str | None, str]:
        reason = _unused(source, name)
        placed, why = (None, reason) if reason else super().place(source, name)
        return placed, _TOWERS_ELSEWHERE if why == OTHER_MODES else why

    def computed_tensors(self, source: Checkpoint) -> dict[str, Array]:
        """Divisors of the rotation's angles in full layers; 1e30: not rotated."""
        size, ropes = _full_size(source), gemma4_ropes(source.text, set(_types(source)))
        if FULL not in ropes:
            return {"rope_freqs.weight": np.ones(size // 2, np.float32)}
        return {
            "rope_freqs.weight": divisors(ropes[FULL], size, f"{source.folder}: {FULL}", _ROPES)
        }


class Gemma4Assistant(Gemma4):
    """An MTP drafter, with its centroid head if it has one."""

    name = "gemma4-assistant"
    model_types = {
        "gemma4_assistant": "gemma4_text",
        "gemma4_unified_assistant": "gemma4_unified_text",
    }
    outer_defaults = {
        "backbone_hidden_size": 1536,
        "num_centroids": 2048,
        "centroid_intermediate_top_k": 32,
    }
    tensors = {
        **Gemma4.tensors,
        "pre_projection.weight": "nextn.pre_projection.weight",
        "post_projection.weight": "nextn.post_projection.weight",
    }

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        keys = super().keys(source)
        keys["embedding_length_out"] = source.config.whole("backbone_hidden_size")
        keys["nextn_predict_layers"] = keys["block_count"]
        keys.pop("final_logit_softcapping", None)  # its class caps nothing
        return keys

    def shapes(self, source: Checkpoint) -> dict[str, Shape]:
        width, target = (
            source.text.whole("hidden_size"),
            source.config.whole("backbone_hidden_size"),
        )
        joints = {
            "pre_projection.weight": (width, 2 * target),
            "post_projection.weight": (target, width),
        }
        return {**super().shapes(source), **joints}

    def place(self, source: Checkpoint, name: str) -> tuple[str | None, str]:
        if name in (_CENTROIDS, _ORDERING):
            return None, "" if source.config.get(
                "use_ordered_embeddings"
            ) else "centroid head, not in use"
        return super().place(source, name)

    def place_vocabulary(self, source: Checkpoint, name: str) -> tuple[str | None, str]:
        """Its own embedding serves the head alone: tokens come as rows of the target's table."""
        placed, reason = super().place_vocabulary(source, name)
        if HEAD not in source.tensors or EMBEDDING not in source.tensors or not placed:
            return placed, reason
        differ = super().place_vocabulary(source, HEAD)[0] is not None
        if name == EMBEDDING and differ:
            return None, "the target's is used"
        return self.tensors[EMBEDDING], ""

    def masked_tensors(self, source: Checkpoint) -> list[str]:
        if not source.config.get("use_ordered_embeddings"):
            return []
        found = [name for name in (_CENTROIDS, _ORDERING) if name in source.tensors]
        if not found:
            raise ModelFileError(
                f"{source.folder}: tensor {_CENTROIDS} is missing, and config.json sets "
                f"use_ordered_embeddings"
            )
        return found

    def masked_embedding(self, source: Checkpoint) -> dict[str, Any]:
        """As metadata, 3 MB for E2B and E4B: llama.cpp refuses a file with these tensors and
        ignores keys it does not know."""
        found = self.masked_tensors(source)
        if not found:
            return {}
        if len(found) == 1:
            raise ModelFileError(f"{source.folder}: of the centroid head only {found[0]} is there")
        centroids, ordering = source.tensors[_CENTROIDS], source.tensors[_ORDERING]
        n_vocab = source.text.whole("vocab_size")
        n_centroids = source.config.whole("num_centroids", 1, n_vocab)
        if n_vocab % n_centroids != 0:
            raise ModelFileError(
                f"{source.folder}: num_centroids is {n_centroids}, which does not divide "
                f"vocab_size, {n_vocab}"
            )
        if centroids.shape != (n_centroids, source.text.whole("hidden_size")):
            raise ModelFileError(
                f"{source.folder}: tensor {_CENTROIDS} has shape {list(centroids.shape)}, "
                f"config.json says {n_centroids} centroids of width {source.text['hidden_size']}"
            )
        order = ordering.array().ravel().astype(np.int64)
        if order.size != n_vocab or not np.array_equal(np.sort(order), np.arange(n_vocab)):
            raise ModelFileError(
                f"{source.folder}: tensor {_ORDERING} is no permutation of the {n_vocab} tokens"
            )
        values = to_f32(centroids.array(), centroids.dtype).ravel()
        if not np.isfinite(values).all():
            raise ModelFileError(
                f"{source.folder}: tensor {_CENTROIDS} has a value that is no finite number"
            )
        prefix = f"{self.name}.masked_embedding"
        return {
            f"{prefix}.num_centroids": n_centroids,
            f"{prefix}.centroid_top_k": source.config.whole(
                "centroid_intermediate_top_k", 1, n_centroids
            ),
            f"{prefix}.centroids": values.tolist(),
            f"{prefix}.token_ordering": order.tolist(),
        }


def _types(source: Checkpoint) -> list[str]:
    """The last layer is full, whatever is listed."""
    return [*layer_types(source.text)[:-1], FULL]


def _n_shared(source: Checkpoint) -> int:
    """Layers at the end that read the keys and values of another; all of an assistant's."""
    n_layers, given = len(_types(source)), source.text.get("num_kv_shared_layers")
    n_shared = 0 if given is None else whole(given, "num_kv_shared_layers", 0)
    if n_shared > n_layers:
        raise ModelFileError(
            f"config.json lets {n_shared} of {n_layers} layers share keys and values"
        )
    assistant = str(source.config["model_type"]).endswith("_assistant")
    return n_layers if assistant and not n_shared else n_shared


def _layers(source: Checkpoint) -> list[tuple[int, int]]:
    """(head size, KV heads) of every layer, from either form of the configuration."""
    text, types = source.text, _types(source)
    if "per_layer_config" in text:
        overrides = _overrides(text["per_layer_config"] or {}, len(types))
    else:
        full: dict[str, Any] = {
            "head_dim": text.get("global_head_dim", _GLOBAL_HEAD) or text["head_dim"]
        }
        if text.get("attention_k_eq_v") and text.get("num_global_key_value_heads"):
            full["num_key_value_heads"] = text["num_global_key_value_heads"]
        overrides = {layer: full for layer, kind in enumerate(types) if kind == FULL}
    found = []
    for layer in range(len(types)):
        of_layer = {**text, **overrides.get(layer, {})}
        heads = whole(of_layer["num_key_value_heads"], "num_key_value_heads")
        found.append((sound_head_size(of_layer["head_dim"]), heads))
    return found


def _overrides(given: dict[str, Any], n_layers: int) -> dict[int, dict[str, Any]]:
    """per_layer_config: what single layers have of their own. Its keys are numbers with or without
    leading zeros."""
    found = {
        int(layer): {key: value for key, value in own.items() if value != []}
        for layer, own in given.items()
    }
    for layer, own in found.items():
        if not 0 <= layer < n_layers:
            raise ModelFileError(
                f"config.json has a per_layer_config of layer {layer}, and {n_layers} layers"
            )
        for key in own:
            if key not in ("head_dim", "num_key_value_heads"):
                raise ModelFileError(
                    f"config.json has {key} in per_layer_config; head_dim and num_key_value_heads "
                    f"may differ between layers"
                )
    return found


def _full_size(source: Checkpoint) -> int:
    """Head size of full layers."""
    return _layers(source)[-1][0]


def _per_layer_width(source: Checkpoint) -> int:
    """0: no per-layer embeddings."""
    given = source.text.get("hidden_size_per_layer_input")
    if given is None or source.text["model_type"] == "gemma4_unified_text":
        return 0
    return whole(given, "hidden_size_per_layer_input", 0)


def _sees(source: Checkpoint) -> bool:
    """Whether pictures can be put into the model's prompt."""
    return isinstance(source.config.get("vision_config"), dict)


def _image_bidirectional(source: Checkpoint) -> bool:
    """Whether the rows of a picture see each other, also those after them. Where config.json does
    not say it: models without per-layer embeddings do."""
    given = source.text.get("use_bidirectional_attention", _per_layer_width(source) == 0)
    return given in ("vision", True)


def _has_experts(source: Checkpoint) -> bool:
    return (
        bool(source.text.get("enable_moe_block"))
        and source.text["model_type"] != "gemma4_unified_text"
    )


def _feed_forward(source: Checkpoint, layer: int) -> int:
    """Width of the dense feed-forward."""
    text = source.text
    wide = text.get("use_double_wide_mlp") and layer >= len(_types(source)) - _n_shared(source)
    return text.whole("intermediate_size") * (2 if wide else 1)


def _expert_shapes(source: Checkpoint, block: str) -> dict[str, Shape]:
    text = source.text
    width, n, ff = (
        text.whole("hidden_size"),
        text.whole("num_experts"),
        text.whole("moe_intermediate_size"),
    )
    return {
        f"{block}router.proj.weight": (n, width),
        f"{block}router.scale": (width,),
        f"{block}router.per_expert_scale": (n,),
        f"{block}experts.gate_up_proj": (n, 2 * ff, width),
        f"{block}experts.down_proj": (n, width, ff),
        f"{block}pre_feedforward_layernorm_2.weight": (width,),
        f"{block}post_feedforward_layernorm_1.weight": (width,),
        f"{block}post_feedforward_layernorm_2.weight": (width,),
    }


def _unused(source: Checkpoint, name: str) -> str:
    """Why the model has no use for a tensor that checkpoints may hold; "" for all others."""
    match = re.fullmatch(r"model\.layers\.(\d+)\.self_attn\.([kv])_(proj|norm)\.weight", name)
    types = _types(source) if match else []
    if not match or int(match[1]) >= len(types):
        return ""
    if int(match[1]) >= len(types) - _n_shared(source):
        return "keys and values of layers that share those of another"
    if match[2] == "v" and source.text.get("attention_k_eq_v") and types[int(match[1])] == FULL:
        return "values of layers that take their keys for them"
    return ""
