"""Tensor names of checkpoints without what classes around the text model and training programs
put in front."""

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
