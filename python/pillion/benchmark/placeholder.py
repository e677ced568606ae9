"""A target for benchmarking a drafter alone: two layers with random weights, in the shapes that the
drafter reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import Model, UsageError

_WIDTH_OF_NOTHING = 32  # feed-forward width and query rows: nobody asks how fast the placeholder is
_BLOCK = 32  # inputs of a Q4_0 block


def write_placeholder(drafter: Model, path: Path) -> None:
    """Writes a GGUF file with `drafter`'s vocabulary and target width, and a cache of each kind
    that its layers read."""
    try:
        import gguf
    except ImportError:
        raise UsageError(
            "benching a drafter alone writes a placeholder for its target, which needs gguf: pip "
            'install "pillion[convert]"'
        ) from None
    described = drafter.describe()
    width = int(described["drafter"]["target_n_embd"])
    kinds: dict[str, dict[str, Any]] = {}
    for layer in described["layers"]:
        kinds.setdefault(layer["kind"], layer)
    layers = [kinds[kind] for kind in ("sliding", "full") if kind in kinds]

    writer = gguf.GGUFWriter(str(path), "gemma4")
    _write_keys(writer, drafter, width, layers)
    rng = np.random.default_rng(1)

    def matrix(name: str, inputs: int, rows: int) -> None:
        writer.add_tensor(
            name, _random_q4_0(rng, inputs, rows), raw_dtype=gguf.GGMLQuantizationType.Q4_0
        )

    def ones(name: str, n: int) -> None:
        writer.add_tensor(name, np.ones(n, np.float32))

    matrix("token_embd.weight", width, drafter.n_vocab)
    ones("output_norm.weight", width)
    ones("rope_freqs.weight", int(layers[-1]["head_dim"]) // 2)
    for number, layer in enumerate(layers):
        block, head, kv = f"blk.{number}.", int(layer["head_dim"]), int(layer["kv_heads"])
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            ones(f"{block}{name}.weight", width)
        for name in ("attn_q_norm", "attn_k_norm"):
            ones(f"{block}{name}.weight", head)
        matrix(block + "attn_q.weight", width, kv * head)
        matrix(block + "attn_k.weight", width, kv * head)
        matrix(block + "attn_v.weight", width, kv * head)
        matrix(block + "attn_output.weight", kv * head, width)
        matrix(block + "ffn_gate.weight", width, _WIDTH_OF_NOTHING)
        matrix(block + "ffn_up.weight", width, _WIDTH_OF_NOTHING)
        matrix(block + "ffn_down.weight", _WIDTH_OF_NOTHING, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_keys(writer: Any, drafter: Model, width: int, layers: list[dict[str, Any]]) -> None:
    heads = [int(layer["kv_heads"]) for layer in layers]
    sizes = {layer["kind"]: int(layer["head_dim"]) for layer in layers}
    full, sliding = (
        sizes.get("full", sizes.get("sliding", 0)),
        sizes.get("sliding", sizes.get("full", 0)),
    )
    writer.add_name(f"placeholder for the target of {Path(drafter.path).name}")
    writer.add_block_count(len(layers))
    writer.add_context_length(drafter.n_ctx_train)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(_WIDTH_OF_NOTHING)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_key_length(full)
    writer.add_value_length(full)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_uint32("gemma4.attention.key_length_swa", sliding)
    writer.add_uint32("gemma4.attention.value_length_swa", sliding)
    if drafter.window:
        writer.add_uint32("gemma4.attention.sliding_window", drafter.window)
    writer.add_array(
        "gemma4.attention.sliding_window_pattern", [layer["kind"] == "sliding" for layer in layers]
    )
    writer.add_uint32("gemma4.attention.shared_kv_layers", 0)
    writer.add_float32("gemma4.rope.freq_base_swa", 1e4)
    writer.add_uint32("gemma4.rope.dimension_count", full)
    writer.add_uint32("gemma4.rope.dimension_count_swa", sliding)
    writer.add_uint32("gemma4.embedding_length_per_layer_input", 0)


def _random_q4_0(rng: np.random.Generator, inputs: int, rows: int) -> Any:
    """Rows of Q4_0 blocks (f16 scale, 16 bytes of two codes). A few thousand different rows
    repeat."""
    blocks = inputs // _BLOCK
    some = min(rows, max(1, (1 << 20) // (blocks * 18)))
    data = np.empty((some, blocks, 18), np.uint8)
    data[:, :, 2:] = rng.integers(0, 256, (some, blocks, 16), np.uint8)
    # Codes less 8 have variance 21.25.
    data[:, :, :2] = np.array([1 / np.sqrt(21.25 * inputs)], np.float16).view(np.uint8)
    return np.resize(data.reshape(some, -1), (rows, blocks * 18))
