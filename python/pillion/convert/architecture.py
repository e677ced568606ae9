"""What differs between architectures: keys, tensor names, values that change on the way. One file each, chosen here."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any, Optional

from ..errors import ModelFileError, UnsupportedModelError
from .checkpoint import Array, Checkpoint
from .values import Change

# Of multimodal checkpoints: other towers and what joins them to the text model.
_OTHER_MODES = re.compile(r"(model\.)?(vision|audio|image|visual|multi_modal|embed_vision|embed_audio)")
# Classes with a language head.
_WRITERS = ("ForCausalLM", "ForConditionalGeneration")
_HEAD_MOST = 1 << 16
_COMPUTED = re.compile(r"rotary_emb\.inv_freq$")


class Architecture(ABC):
    """How checkpoints of one kind become files."""

    name: str
    """general.architecture"""
    tokenizer_model: str
    """Of a tokenizer with ▁ for blanks: "gemma4" (merges) or "llama" (scores)."""
    activation: str
    """hidden_act of the one kind that files of this architecture mean."""
    tensors: dict[str, str]
    """Outside the layers: name there to name here."""
    layer_tensors: dict[str, str]

    @abstractmethod
    def keys(self, source: Checkpoint) -> dict[str, Any]:
        """Hyper-parameters, without the architecture's prefix."""

    ties_by_default = True
    """Whether a checkpoint that does not say so has its output head in the embedding table."""

    def file_name(self, name: str) -> Optional[str]:
        """What a tensor is called in a file; None for those of other models."""
        match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
        if match and match[2] in self.layer_tensors:
            return f"blk.{int(match[1])}.{self.layer_tensors[match[2]]}"
        return self.tensors.get(name)

    def place(self, source: Checkpoint, name: str) -> tuple[Optional[str], str]:
        """(name in the file, "") or (None, why it is left out; "" when it travels otherwise)."""
        if name == "lm_head.weight" and source.text.get("tie_word_embeddings", self.ties_by_default):
            return None, "output head tied to the embedding"
        ours = self.file_name(name)
        if ours is not None:
            return ours, ""
        if _OTHER_MODES.match(name):
            return None, "vision and audio"
        if _COMPUTED.search(name):
            return None, "computed"
        raise UnsupportedModelError(f"{source.folder}: tensor {name} is none that a {self.name} text model has")

    def computed_tensors(self, source: Checkpoint) -> dict[str, Array]:
        """f32 tensors that the file has and the checkpoint has not."""
        return {}

    def change_of(self, source: Checkpoint, name: str) -> Optional[Change]:
        """What happens to the values of a tensor of the file; None: they are stored as they are."""
        return None

    def masked_tensors(self, source: Checkpoint) -> list[str]:
        """Tensors of an assistant's masked embedding."""
        return []

    def masked_embedding(self, source: Checkpoint) -> dict[str, Any]:
        """The same as metadata keys."""
        return {}


def common_keys(source: Checkpoint) -> dict[str, Any]:
    """What all architectures call the same."""
    text = source.text
    return {
        "block_count": int(text["num_hidden_layers"]),
        "context_length": int(text["max_position_embeddings"]),
        "embedding_length": int(text["hidden_size"]),
        "feed_forward_length": int(text["intermediate_size"]),
        "attention.head_count": int(text["num_attention_heads"]),
        "attention.head_count_kv": int(text["num_key_value_heads"]),
        "attention.layer_norm_rms_epsilon": float(text["rms_norm_eps"]),
    }


def head_size(source: Checkpoint) -> int:
    """head_dim, or what follows from the width."""
    text = source.text
    return sound_head_size(text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"])


def sound_head_size(given: Any) -> int:
    """Tables are made of this size before any tensor is compared with it."""
    size = int(given)
    if not 1 <= size <= _HEAD_MOST:
        raise ModelFileError(f"config.json has heads of size {size}, allowed are 1 to {_HEAD_MOST}")
    return size


def architecture_of(source: Checkpoint) -> Architecture:
    """By config.json's model_type; UnsupportedModelError names it and the class."""
    from .gemma3 import Gemma3
    from .gemma4 import Gemma4, Gemma4Assistant
    from .llama import Llama

    known: dict[str, type[Architecture]] = {
        "gemma4": Gemma4,
        "gemma4_text": Gemma4,
        "gemma4_unified": Gemma4,
        "gemma4_unified_text": Gemma4,
        "gemma4_assistant": Gemma4Assistant,
        "gemma4_unified_assistant": Gemma4Assistant,
        "gemma3": Gemma3,
        "gemma3_text": Gemma3,
        "llama": Llama,
    }
    kind = source.config["model_type"]
    classes = ", ".join(map(str, source.config.get("architectures") or ["?"]))
    if kind in known and classes != "?" and not classes.endswith(_WRITERS):
        raise UnsupportedModelError(f"{source.folder}: class {classes} writes no text; {' and '.join(_WRITERS)} classes do")
    if kind not in known:
        raise UnsupportedModelError(
            f"{source.folder}: model_type {kind!r} (class {classes}) cannot be converted; {', '.join(known)} can"
        )
    architecture = known[kind]()
    _refuse_what_is_lost(source, architecture)
    return architecture


def _refuse_what_is_lost(source: Checkpoint, architecture: Architecture) -> None:
    """What config.json may say and a file cannot: converted all the same, it would be another model."""
    text, table = source.text, source.tensors.get("model.embed_tokens.weight")
    given = text.get("hidden_activation") or text.get("hidden_act") or architecture.activation
    losses = {
        "quantization_config": source.config.get("quantization_config") is not None,
        "attention_bias": bool(text.get("attention_bias")),
        "mlp_bias": bool(text.get("mlp_bias")),
        "attn_logit_softcapping": bool(text.get("attn_logit_softcapping")),
        "use_bidirectional_attention": text.get("use_bidirectional_attention") == "all",
        f"hidden_activation {given!r}": given != architecture.activation,
    }
    for name, lost in losses.items():
        if lost:
            raise UnsupportedModelError(f"{source.folder}: config.json sets {name}, which a {architecture.name} file cannot say")
    if table is not None and text.get("vocab_size", table.shape[0]) != table.shape[0]:
        raise ModelFileError(
            f"{source.folder}: vocab_size is {text['vocab_size']}, the embedding table has {table.shape[0]} rows"
        )
