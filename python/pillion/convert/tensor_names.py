"""Tensor names: what checkpoints call a tensor, without what classes around the text model and
training programs put in front, and what GGUF files call it. Tables hold what several architectures
share; an architecture adds its own."""

from __future__ import annotations

import re

# Anywhere in a name: torch.compile, FSDP, activation checkpointing. In front:
# DistributedDataParallel, peft without adapters.
_WRAPPED = re.compile(
    r"(?:(?<=^)|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_IN_FRONT = ("module.", "base_model.model.")
# Of classes around the text model, longest first.
_PREFIXES = {
    "model.language_model.model.": "model.",
    "model.language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "language_model.": "model.",
    "model.text_model.": "model.",
    "text_model.model.": "model.",
    "text_model.lm_head.": "lm_head.",
    "text_model.": "model.",
    "model.model.": "model.",
    "model.lm_head.": "lm_head.",
}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

# Outside the layers: name in a checkpoint to name in a file.
ENDS = {
    EMBEDDING: "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    HEAD: "output.weight",
}
# In a layer, "model.layers.N." and "blk.N." in front.
PROJECTIONS = {
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
# Norms of heads, and before and after each branch.
GEMMA_NORMS = {
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "post_attention_norm.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
}

_BARE = re.compile(
    r"(layers\.\d+\.|embed_tokens(_per_layer)?\.|norm\.|per_layer_\w+\.|rotary_emb\.)"
)


def plain(name: str) -> str:
    """As a class with a language head calls the tensor: model.layers.0.…,
    model.embed_tokens.weight, lm_head.weight. A class without a head has no `model.`."""
    name = _WRAPPED.sub("", name)
    while name.startswith(_IN_FRONT):
        name = name[len(next(part for part in _IN_FRONT if name.startswith(part))) :]
    for prefix, ours in _PREFIXES.items():
        if name.startswith(prefix):
            return ours + name[len(prefix) :]
    return f"model.{name}" if _BARE.match(name) else name
