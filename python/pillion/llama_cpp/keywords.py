"""From the keywords of llama-cpp-python's `Llama` to those of `pillion.LLM`.

Each keyword is either translated here, or belongs to `UNUSED`: its listed values change nothing,
and every other one is a sentence.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..arguments import check_bool, check_int, closest, shown, wrong
from ..errors import UsageError
from ..foreign_names import LLM as INSTEAD
from ..llm.llm import LLM
from ..model import Model
from ..options import ContextOptions
from . import constants as c
from .llama_speculative import LlamaPromptLookupDecoding

_KV_TYPES = {None: "f16", c.GGML_TYPE_F16: "f16", c.GGML_TYPE_Q8_0: "q8_0"}

UNUSED: dict[str, tuple[Any, ...]] = {
    "split_mode": (c.LLAMA_SPLIT_MODE_LAYER, c.LLAMA_SPLIT_MODE_NONE),
    "main_gpu": (0,),
    "tensor_split": (None,),
    "use_mlock": (False,),
    "kv_overrides": (None,),
    "rope_scaling_type": (c.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED, None),
    "pooling_type": (
        c.LLAMA_POOLING_TYPE_UNSPECIFIED,
        c.LLAMA_POOLING_TYPE_NONE,
        c.LLAMA_POOLING_TYPE_MEAN,
    ),
    "attention_type": (c.LLAMA_ATTENTION_TYPE_UNSPECIFIED, c.LLAMA_ATTENTION_TYPE_CAUSAL),
    "rope_freq_base": (0.0,),
    "rope_freq_scale": (0.0,),
    "yarn_ext_factor": (-1.0,),
    "yarn_attn_factor": (1.0,),
    "yarn_beta_fast": (32.0,),
    "yarn_beta_slow": (1.0,),
    "yarn_orig_ctx": (0,),
    "offload_kqv": (True,),
    "op_offload": (None, True),
    "lora_base": (None,),
    "lora_scale": (1.0,),
    "lora_path": (None,),
    "numa": (False,),
    "tokenizer": (None,),
    "spm_infill": (False,),
}
"""Keywords with few values or none that differ here, each with those that are taken."""

SWITCHES = ("vocab_only", "logits_all", "embedding", "no_perf", "verbose")
"""Keywords that `Llama` reads itself, True or False."""

_OWN = set(inspect.signature(LLM).parameters) | {
    one.name for one in dataclasses.fields(ContextOptions)
}
_OWN -= {"path", "seed", "use_mmap", "n_gpu_layers", "progress"}
_OWN -= {"n_ctx", "n_batch", "n_threads", "flash_attn", "swa_full", "n_outputs"}
_OWN -= {"collect_activations"}
PILLION = tuple(sorted(_OWN | {"progress"}))
"""Keywords of `pillion.LLM` that `Llama` takes beside llama-cpp-python's."""


@dataclass
class Translated:
    """What becomes of the keywords."""

    options: dict[str, Any]
    """Keywords of `pillion.LLM`."""
    draft_model: Any = None
    """A Python function that guesses ahead; None: pillion's own drafter does, or none."""


def translated(given: Mapping[str, Any], more: Mapping[str, Any], n_ctx_train: int) -> Translated:
    """given: llama-cpp-python's keywords, all of them. more: the others. Raises `UsageError`."""
    _check_names(more, given)
    for name, values in UNUSED.items():
        check_unused(name, given[name], values)
    for name in SWITCHES:
        check_bool(name, given[name])
    n_ctx = check_int("n_ctx", given["n_ctx"], 0, 2**31 - 1) or n_ctx_train
    rows = [check_int(name, given[name], 1, 2**31 - 1) for name in ("n_batch", "n_ubatch")]
    options: dict[str, Any] = {
        "n_gpu_layers": layers(given["n_gpu_layers"]),
        "use_mmap": given["use_mmap"],
        "seed": seed_of(given["seed"]),
        "n_ctx": n_ctx,
        "n_batch": min(n_ctx, *rows),
        "n_threads": _threads(given["n_threads"], given["n_threads_batch"]),
        "kv_type": _kv_type(given["type_k"], given["type_v"]),
        "flash_attn": "on" if check_bool("flash_attn", given["flash_attn"]) else "auto",
        "swa_full": check_bool("swa_full", given["swa_full"] or False),
        **more,
    }
    found = Translated(options)
    _draft(found, given["draft_model"], more)
    return found


def _check_names(more: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in more:
        if name in PILLION:
            continue
        if name in INSTEAD:
            raise UsageError(f"Llama() has no argument {shown(name)}: {INSTEAD[name]}")
        close = closest(name, (*known, *PILLION))
        hint = f"; did you mean {close}?" if close else ""
        raise UsageError(
            f"Llama() has no argument {shown(name)}, which llama-cpp-python would pass over{hint}"
        )


def check_unused(name: str, value: Any, values: tuple[Any, ...]) -> None:
    """Raises the sentence of a keyword without a use here, unless its value changes nothing."""
    for one in values:
        if value is one or (isinstance(value, (int, float)) and one is not None and value == one):
            return
    raise UsageError(f"{name}={shown(value)} has no use in pillion: {INSTEAD[name]}")


def layers(n_gpu_layers: Any) -> int:
    """Any negative number is all layers."""
    return max(-1, check_int("n_gpu_layers", n_gpu_layers, None, 2**31 - 1))


def seed_of(seed: Any) -> int | None:
    """A seed; None, -1 and LLAMA_DEFAULT_SEED: a random one."""
    if seed is None or check_int("seed", seed, -1, 2**64 - 1) in (-1, c.LLAMA_DEFAULT_SEED):
        return None
    return int(seed)


def _threads(n_threads: Any, n_threads_batch: Any) -> int | None:
    if n_threads and n_threads_batch and n_threads != n_threads_batch:
        raise UsageError(
            f"n_threads is {shown(n_threads)} and n_threads_batch {shown(n_threads_batch)}, but "
            "the same threads run prompts and tokens: give one of them"
        )
    found: int | None = n_threads or n_threads_batch
    return found


def _kv_type(type_k: Any, type_v: Any) -> str:
    if not _same_type(type_k, type_v):
        raise UsageError(
            f"type_k is {shown(type_k)} and type_v {shown(type_v)}, but keys and values have one "
            "type: GGML_TYPE_F16 (1) or GGML_TYPE_Q8_0 (8) for both"
        )
    if isinstance(type_k, bool) or not isinstance(type_k, (int, type(None))):
        wrong("type_k", type_k, "GGML_TYPE_F16 (1), GGML_TYPE_Q8_0 (8) or None")
    if type_k not in _KV_TYPES:
        wrong("type_k", type_k, "GGML_TYPE_F16 (1), GGML_TYPE_Q8_0 (8) or None")
    return _KV_TYPES[type_k]


def _same_type(type_k: Any, type_v: Any) -> bool:
    try:
        return bool(_KV_TYPES.get(type_k, type_k) == _KV_TYPES.get(type_v, type_v))
    except TypeError:  # unhashable
        return bool(type_k == type_v)


def _draft(found: Translated, draft_model: Any, more: Mapping[str, Any]) -> None:
    """Says who guesses ahead."""
    if draft_model is None:
        return
    if "drafter" in more:
        raise UsageError("draft_model and drafter were given; drafter is pillion's name for it")
    if isinstance(draft_model, LlamaPromptLookupDecoding):
        found.options["drafter"] = "lookup"
    elif isinstance(draft_model, (str, Model)) or hasattr(draft_model, "__fspath__"):
        found.options["drafter"] = draft_model
    elif callable(draft_model):
        found.options["drafter"], found.draft_model = None, draft_model
    else:
        allowed = "a LlamaDraftModel, another callable, a path, a pillion.Model or None"
        wrong("draft_model", draft_model, allowed)
