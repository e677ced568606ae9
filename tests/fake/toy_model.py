"""Model files for the fake library: real GGUF files of Gemma 4 with one tiny layer of ones.

Tokens 0..255 are bytes; 256 <bos>, 257 <eos>, 258 <turn>, 259 </turn> (ends too), 260 <image>.
"""

import json
import math
import struct

from gguf_bytes import ARR, F32, I32, STR, auto, build, kv

N_EMBD, N_VOCAB = 32, 261
SPECIALS = ["<bos>", "<eos>", "<turn>", "</turn>", "<image>"]
SIZES = {
    "block_count": 1,
    "context_length": 4096,
    "embedding_length": N_EMBD,
    "feed_forward_length": 32,
    "attention.head_count": 1,
    "attention.head_count_kv": 1,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.key_length": 32,
    "attention.value_length": 32,
    "attention.key_length_swa": 32,
    "attention.value_length_swa": 32,
    "attention.sliding_window": 4096,
    "attention.shared_kv_layers": 0,
    "rope.dimension_count": 32,
    "rope.dimension_count_swa": 32,
    "rope.freq_base": 1e6,
    "rope.freq_base_swa": 1e4,
    "embedding_length_per_layer_input": 0,
}
LAYER = {
    "attn_norm": [32],
    "attn_q": [32, 32],
    "attn_q_norm": [32],
    "attn_output": [32, 32],
    "post_attention_norm": [32],
    "ffn_norm": [32],
    "ffn_gate": [32, 32],
    "ffn_up": [32, 32],
    "ffn_down": [32, 32],
    "post_ffw_norm": [32],
}
OWN_CACHE = {"attn_k": [32, 32], "attn_k_norm": [32], "attn_v": [32, 32]}


def _tokenizer():
    # A blank is a token of its own, as SentencePiece wants it.
    texts = ["▁" if i == 32 else f"<0x{i:02X}>" for i in range(256)] + SPECIALS
    types = [1 if i == 32 else 6 for i in range(256)] + [3] * len(SPECIALS)
    return [
        auto("tokenizer.ggml.model", "llama"),
        kv("tokenizer.ggml.tokens", ARR, texts, STR),
        kv("tokenizer.ggml.scores", ARR, [0.0] * N_VOCAB, F32),
        kv("tokenizer.ggml.token_type", ARR, types, I32),
        auto("tokenizer.ggml.bos_token_id", 256),
        auto("tokenizer.ggml.eos_token_id", 257),
        auto("tokenizer.ggml.eot_token_id", 259),
        auto("tokenizer.ggml.unknown_token_id", 260),  # for no byte, but one must be named
        auto("tokenizer.ggml.add_space_prefix", False),
    ]


def _ones(n):
    return struct.pack(f"<{n}f", *[1.0] * n)


def toy_model(metadata, assistant=False, target_width=N_EMBD, head="centroid"):
    """The bytes of a file. metadata: more of it, values as JSON. head: of an assistant; "part": its
    centroids are missing."""
    arch = "gemma4-assistant" if assistant else "gemma4"
    sizes = {**SIZES, "attention.sliding_window_pattern": [False]}
    if assistant:
        sizes |= {"attention.shared_kv_layers": 1, "embedding_length_out": target_width}
        sizes["masked_embedding.centroid_top_k"] = 2
    entries = {"general.architecture": auto("general.architecture", arch)}
    entries |= {key: auto(f"{arch}.{key}", value) for key, value in sizes.items()}
    for key, text in metadata.items():
        value = json.loads(text)
        is_float = key.startswith("general.sampling.") and not key.endswith(("top_k", "last_n"))
        entries[key] = auto(key, float(value) if is_float else value)
    tensors = {"token_embd": [32, N_VOCAB], "rope_freqs": [16], "output_norm": [32]}
    tensors |= {f"blk.0.{k}": d for k, d in (LAYER if assistant else LAYER | OWN_CACHE).items()}
    if assistant:
        tensors["nextn.pre_projection"] = [2 * target_width, 32]
        tensors["nextn.post_projection"] = [32, target_width]
    if assistant and head == "centroid":
        tensors |= {"masked_embd_centroids": [32, 9]}
    filled = {f"{name}.weight": _ones(math.prod(dims)) for name, dims in tensors.items()}
    listed = [(f"{name}.weight", "F32", dims) for name, dims in tensors.items()]
    if assistant:
        listed.append(("masked_embd_ordering.weight", "I32", [N_VOCAB]))
        filled["masked_embd_ordering.weight"] = struct.pack(f"<{N_VOCAB}i", *range(N_VOCAB))
    return build([*entries.values(), *_tokenizer()], listed, filled)
