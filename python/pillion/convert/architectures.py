"""The list of architectures that can be converted, and the choice among them. A new one is a file
with an Architecture, and a line here."""

from __future__ import annotations

from ..errors import UnsupportedModelError
from .architecture import Architecture
from .checkpoint import Checkpoint
from .gemma3 import Gemma3
from .gemma4 import Gemma4, Gemma4Assistant
from .llama import Llama

ARCHITECTURES: tuple[type[Architecture], ...] = (Gemma4, Gemma4Assistant, Gemma3, Llama)

# Classes with a language head, and those that are all of a model but the head.
_WRITERS = ("ForCausalLM", "ForConditionalGeneration")
_BASES = ("Model",)
# One function by several names.
_SAME = {"swish": "silu", "gelu_new": "gelu_pytorch_tanh", "gelu_fast": "gelu_pytorch_tanh"}


def architecture_of(source: Checkpoint) -> Architecture:
    """By config.json's model_type, which source.config and source.text then follow. Raises
    UnsupportedModelError with the model_type and the class, or with what a file cannot say."""
    known = {kind: each for each in ARCHITECTURES for kind in each.model_types}
    kind = source.config["model_type"]
    listed = source.config.get("architectures") or ["?"]
    classes = listed if isinstance(listed, str) else ", ".join(map(str, listed))
    if kind in known and classes != "?" and not classes.endswith((*_WRITERS, *_BASES)):
        raise UnsupportedModelError(
            f"{source.folder}: class {classes} writes no text; {' and '.join(_WRITERS)} classes do"
        )
    if kind not in known:
        raise UnsupportedModelError(
            f"{source.folder}: model_type {kind!r} (class {classes}) cannot be converted; "
            f"{', '.join(known)} can"
        )
    architecture = known[kind]()
    architecture.read_config(source)
    _refuse_what_is_lost(source, architecture)
    return architecture


def _refuse_what_is_lost(source: Checkpoint, architecture: Architecture) -> None:
    """What config.json may say and a file cannot: converted all the same, it would be another
    model."""
    text = source.text
    given = text.get(architecture.activation_key, architecture.activation)
    bidirectional = text.get("use_bidirectional_attention")
    losses = {
        "attention_bias": bool(text.get("attention_bias")),
        "mlp_bias": bool(text.get("mlp_bias")),
        "attn_logit_softcapping": bool(text.get("attn_logit_softcapping")),
        "use_bidirectional_attention": bool(bidirectional) and bidirectional != "vision",
        f"{architecture.activation_key} {given!r}": _SAME.get(given, given)
        != architecture.activation,
    }
    for name, lost in losses.items():
        if lost:
            raise UnsupportedModelError(
                f"{source.folder}: config.json sets {name}, which a {architecture.name} file "
                f"cannot say"
            )
