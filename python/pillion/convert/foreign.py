"""Folders that are no plain checkpoint: adapters, quantized weights, files not yet fetched, other
formats. Each is one sentence: what it is, and what to do."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

from ..errors import ModelFileError, ModelNotFoundError, UnsupportedModelError

_POINTER = b"version https://git-lfs.github.com/spec/"
_MERGE = "merge it into its base (peft: merge_and_unload, save_pretrained) and convert the result"
_LORA = re.compile(
    r"(^|\.)(lora_(A|B|E|embedding_A|embedding_B|magnitude_vector)|base_layer|modules_to_save)\b"
)
# Parts that quantizing programs put beside or in place of a weight: whose they are.
_QUANTIZED = {
    r"\.weight\.((nested_)?(absmax|quant_map)|quant_state\.bitsandbytes__\w+)$": (
        "bitsandbytes, 4 bits"
    ),
    r"\.(SCB|weight_format)$": "bitsandbytes, 8 bits",
    r"\.(qweight|qzeros|g_idx)$": "GPTQ or AWQ",
    r"\.weight_(packed|shape|global_scale)$": "compressed-tensors",
    r"(_proj|\.experts)\w*_(blocks|scales)$": "MXFP4",
    r"\.(weight_scale|weight_scale_inv|weight_scale_2|input_scale)$": "FP8 or FP4 with scales",
    r"\.(scales|biases)$": "MLX",
}
# Weights in files of other kinds, when no safetensors are there.
_OTHERS = {
    "pytorch_model*.bin": "PyTorch's own files, which can run code when they are read",
    "consolidated*.pth": "Meta's own format",
    "*.pth": "PyTorch's own files, which can run code when they are read",
    "*.gguf": "a GGUF file already, which needs no conversion",
    "tf_model*.h5": "TensorFlow's files",
    "flax_model*.msgpack": "Flax's files",
    "original/*.pth": "Meta's own format, in the folder original",
    "original/consolidated*.safetensors": "the maker's own format, in the folder original",
}


def refuse_pointer(path: Path) -> None:
    """Raises ModelFileError when the file is what Git keeps in place of a large one."""
    with path.open("rb") as file:
        begin = file.read(512)
    if not begin.startswith(_POINTER):
        return
    size = re.search(rb"^size (\d+)$", begin, re.MULTILINE)
    bytes_ = f" ({int(size[1])} bytes)" if size else ""
    raise ModelFileError(
        f"{path}: it is a Git LFS pointer, the file itself{bytes_} is not there; fetch it with "
        f"`git lfs pull`"
    )


def refuse_adapter(folder: Path) -> None:
    """Raises UnsupportedModelError when the folder holds an adapter, alone or beside weights: read
    without it, the weights are another model."""
    path = folder / "adapter_config.json"
    if not path.exists():
        if (folder / "adapter_model.safetensors").exists() and not (
            folder / "config.json"
        ).exists():
            raise UnsupportedModelError(
                f"{folder}: it holds an adapter (adapter_model.safetensors), no model; {_MERGE}"
            )
        return
    base: Any = None
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        base = json.loads(path.read_text("utf-8")).get("base_model_name_or_path")
    what = f"an adapter of {' '.join(str(base).split())}" if base else "an adapter"
    if any(folder.glob("model*.safetensors")):
        raise UnsupportedModelError(
            f"{folder}: beside the weights it holds {what} (adapter_config.json), which "
            f"transformers applies; {_MERGE}, or "
            "move adapter_config.json away to convert the weights alone"
        )
    raise UnsupportedModelError(
        f"{folder}: it holds {what} (adapter_config.json), no model of its own; {_MERGE}"
    )


def refuse_adapter_tensor(path: Path, name: str) -> None:
    """Raises UnsupportedModelError for a tensor of an adapter among a model's."""
    if _LORA.search(name):
        raise UnsupportedModelError(
            f"{path}: tensor {name} belongs to an adapter that was not merged; {_MERGE}"
        )


def quantized_tensor(name: str) -> str | None:
    """Who writes tensors of such a name beside quantized weights; None for others."""
    return next((who for pattern, who in _QUANTIZED.items() if re.search(pattern, name)), None)


def refuse_quantized(folder: Path, config: dict[str, Any], tensors: dict[str, str]) -> None:
    """Raises UnsupportedModelError for quantized weights. tensors: {name: safetensors type}."""
    found = _settings(config)
    what = _method(found) if found is not None else None
    if what is None:
        of_names = ((name, quantized_tensor(name)) for name in tensors)
        named = next(((name, who) for name, who in of_names if who), None)
        eight = next(
            (
                (name, kind)
                for name, kind in tensors.items()
                if kind.startswith(("F8_", "F4", "F6_"))
            ),
            None,
        )
        if named is not None:
            what = f"{named[1]}: tensor {named[0]}"
        elif eight is not None:
            what = f"{eight[1]}: tensor {eight[0]}"
        else:
            return
    raise UnsupportedModelError(
        f"{folder}: its weights are quantized ({what}); convert the checkpoint in bf16, f16 or f32 "
        f"that they were made from, or "
        "dequantize them first (transformers: from_pretrained, dequantize, save_pretrained)"
    )


def _settings(config: dict[str, Any]) -> dict[str, Any] | None:
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        for key in ("quantization_config", "compression_config", "quantization"):
            if part.get(key) is not None:
                return part[key] if isinstance(part[key], dict) else {"quant_method": part[key]}
    return None


def _method(found: dict[str, Any]) -> str:
    """As its own settings name it."""
    if found.get("load_in_4bit") or found.get("_load_in_4bit"):
        return f"bitsandbytes, 4 bits, {found.get('bnb_4bit_quant_type', 'fp4')}"
    if found.get("load_in_8bit") or found.get("_load_in_8bit"):
        return "bitsandbytes, 8 bits"
    bits = found.get("bits") or found.get("w_bit")
    method = found.get("quant_method") or (
        "MLX" if "group_size" in found else "quantization_config"
    )
    return f"{method}, {bits} bits" if bits else str(method)


def no_weights(folder: Path) -> ModelNotFoundError:
    """What the folder has in place of safetensors."""
    for pattern, what in _OTHERS.items():
        found = sorted(folder.glob(pattern))
        if found:
            return ModelNotFoundError(
                f"{folder}: no *.safetensors in it, {found[0].name} is {what}; take the checkpoint "
                f"in safetensors, or load it with transformers and save_pretrained"
            )
    return ModelNotFoundError(f"{folder}: no *.safetensors in it")
