"""Small converter for test checkpoints: a Hugging Face folder (config.json, one or more
safetensors files, tokenizer.json) becomes one GGUF file.

    python tests/tiny/hf_to_gguf.py CHECKPOINT OUT.gguf [--type bf16] [--masked-head keys]

Knows Gemma 4 targets and their assistants and, as far as the tests need them, Gemma 3 and
Llama.  Needs numpy and gguf, no torch.  It reads whole files into memory and trusts them:
it bootstraps the tests and is not the converter for users.
"""

import argparse
import json
import re
from pathlib import Path

import gguf
import numpy as np

FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "bf16": 32}

ARCHITECTURES = {
    "gemma4": "gemma4",
    "gemma4_text": "gemma4",
    "gemma4_unified": "gemma4",
    "gemma4_unified_text": "gemma4",
    "gemma4_assistant": "gemma4-assistant",
    "gemma4_unified_assistant": "gemma4-assistant",
    "gemma3_text": "gemma3",
    "llama": "llama",
}

GLOBAL_TENSORS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
    "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
    "pre_projection.weight": "nextn.pre_projection.weight",
    "post_projection.weight": "nextn.post_projection.weight",
}

LAYER_TENSORS = {
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
LLAMA_LAYER_TENSORS = {**LAYER_TENSORS, "post_attention_layernorm.weight": "ffn_norm.weight"}

CENTROIDS, ORDERING = "masked_embedding.centroids.weight", "masked_embedding.token_ordering"

# Control tokens of the chat form that users want to see printed.
VISIBLE_TOKENS = {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>'}
NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6
SLIDING = "sliding_attention"


def convert(checkpoint, out, outtype="bf16", masked_head="keys", name=None):
    """Writes `out`.  `masked_head` says how the assistant's centroids travel: "keys",
    "tensors" or "none".  `name` defaults to the name of the folder."""
    checkpoint = Path(checkpoint)
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    arch = ARCHITECTURES[config["model_type"]]
    text = config.get("text_config", config)
    writer = gguf.GGUFWriter(str(out), arch)
    writer.add_string("general.type", "model")
    writer.add_string("general.name", name or checkpoint.name)
    writer.add_uint32("general.file_type", FILE_TYPES[outtype])
    writer.add_uint32("general.quantization_version", 2)

    keys = {"gemma3": gemma3_keys, "llama": llama_keys}.get(arch, gemma4_keys)(text)
    if arch == "gemma4-assistant":
        keys["embedding_length_out"] = config["backbone_hidden_size"]
        keys["nextn_predict_layers"] = text["num_hidden_layers"]
    write_keys(writer, arch, keys)
    write_tokenizer(writer, checkpoint, "gemma4" if arch.startswith("gemma4") else "llama")

    tensors = read_checkpoint(checkpoint)
    centroids, ordering = tensors.pop(CENTROIDS, None), tensors.pop(ORDERING, None)
    if centroids is not None and masked_head != "none":
        write_masked_head(writer, config, centroids, ordering, masked_head)
    if (factors := rope_factors(arch, text)) is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    for source, values in tensors.items():
        if (target := tensor_name(arch, text, source)) is not None:
            add_tensor(writer, target, adapted(arch, text, target, values), outtype)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# -- metadata ------------------------------------------------------------------


def common_keys(text):
    return {
        "block_count": text["num_hidden_layers"],
        "context_length": text["max_position_embeddings"],
        "embedding_length": text["hidden_size"],
        "feed_forward_length": text["intermediate_size"],
        "attention.head_count": text["num_attention_heads"],
        "attention.head_count_kv": text["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": float(text["rms_norm_eps"]),
    }


def gemma4_layers(text):
    """(head size, KV heads) of every layer, from either form of the configuration."""
    overrides = text.get("per_layer_config")
    if overrides is None:
        full = {"head_dim": text.get("global_head_dim") or text["head_dim"]}
        if text.get("attention_k_eq_v") and text.get("num_global_key_value_heads"):
            full["num_key_value_heads"] = text["num_global_key_value_heads"]
        types = text["layer_types"]
        overrides = {str(i): full for i, kind in enumerate(types) if kind != SLIDING}
    layers = [{**text, **overrides.get(str(i), {})} for i in range(text["num_hidden_layers"])]
    return [(layer["head_dim"], layer["num_key_value_heads"]) for layer in layers]


def gemma4_keys(text):
    layers, types = gemma4_layers(text), text["layer_types"]
    n_layers, n_shared = text["num_hidden_layers"], text.get("num_kv_shared_layers") or 0
    full, sliding = (layers[types.index(kind)][0] for kind in ("full_attention", SLIDING))
    keys = common_keys(text)
    keys["attention.key_length"] = keys["attention.value_length"] = full
    keys["attention.key_length_swa"] = keys["attention.value_length_swa"] = sliding
    keys["attention.sliding_window"] = text["sliding_window"]
    keys["attention.sliding_window_pattern"] = [kind == SLIDING for kind in types]
    keys["attention.shared_kv_layers"] = n_shared
    keys["rope.dimension_count"], keys["rope.dimension_count_swa"] = full, sliding
    keys["rope.freq_base"] = float(text["rope_parameters"]["full_attention"]["rope_theta"])
    keys["rope.freq_base_swa"] = float(text["rope_parameters"][SLIDING]["rope_theta"])
    keys["embedding_length_per_layer_input"] = text.get("hidden_size_per_layer_input") or 0
    kv_heads = [heads for _, heads in layers]
    if len(set(kv_heads)) > 1:
        keys["attention.head_count_kv"] = kv_heads
    if text.get("use_double_wide_mlp") and n_shared:
        width = text["intermediate_size"]
        keys["feed_forward_length"] = [width] * (n_layers - n_shared) + [2 * width] * n_shared
    if text.get("final_logit_softcapping"):
        keys["final_logit_softcapping"] = float(text["final_logit_softcapping"])
    if text.get("enable_moe_block"):
        keys["expert_count"] = text["num_experts"]
        keys["expert_used_count"] = text["top_k_experts"]
        keys["expert_feed_forward_length"] = text["moe_intermediate_size"]
    return keys


def gemma3_keys(text):
    """The readers of this architecture know the 5:1 pattern, the sliding layers' RoPE base
    10000 and the scale 1/sqrt(head size) by themselves; files carry no keys for them."""
    types = text["layer_types"]
    assert all((kind == SLIDING) == (i % 6 < 5) for i, kind in enumerate(types))
    assert text["query_pre_attn_scalar"] == text["head_dim"]
    keys = common_keys(text)
    keys["attention.key_length"] = keys["attention.value_length"] = text["head_dim"]
    keys["attention.sliding_window"] = text["sliding_window"]
    keys["rope.freq_base"] = float(text["rope_parameters"]["full_attention"]["rope_theta"])
    return keys


def llama_keys(text):
    keys = common_keys(text)
    keys["rope.freq_base"] = float(text["rope_parameters"]["rope_theta"])
    keys["rope.dimension_count"] = head_size(text)
    keys["vocab_size"] = text["vocab_size"]
    return keys


def write_keys(writer, arch, keys):
    for name, value in keys.items():
        if isinstance(value, list):
            writer.add_array(f"{arch}.{name}", value)
        elif isinstance(value, float):
            writer.add_float32(f"{arch}.{name}", value)
        else:
            writer.add_uint32(f"{arch}.{name}", value)


def write_tokenizer(writer, checkpoint, model):
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text("utf-8"))
    ids = dict(tokenizer["model"]["vocab"])
    added = {entry["content"]: entry for entry in tokenizer["added_tokens"]}
    ids.update({piece: entry["id"] for piece, entry in added.items()})
    tokens = sorted(ids, key=ids.get)
    assert [ids[piece] for piece in tokens] == list(range(len(tokens))), "gaps in the vocabulary"
    merges = [m.split(" ") if isinstance(m, str) else m for m in tokenizer["model"]["merges"]]

    def kind(piece):
        if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
            return BYTE
        if piece in VISIBLE_TOKENS or (piece in added and not added[piece]["special"]):
            return USER_DEFINED
        return CONTROL if piece in added else NORMAL

    scores = [-1000.0] * len(tokens)
    if model == "llama":  # such a file has no merges: the best score is merged first
        for rank, (left, right) in reversed(list(enumerate(merges))):
            scores[ids[left + right]] = float(-rank)
        writer.add_string("tokenizer.ggml.pre", "default")
    else:
        writer.add_array("tokenizer.ggml.merges", [" ".join(pair) for pair in merges])
    writer.add_string("tokenizer.ggml.model", model)
    writer.add_array("tokenizer.ggml.tokens", tokens)
    writer.add_array("tokenizer.ggml.scores", scores)
    writer.add_array("tokenizer.ggml.token_type", [kind(piece) for piece in tokens])
    short = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "mask": "mask"}
    for name, key in short.items():
        if (piece := settings.get(f"{name}_token")) in ids:
            writer.add_uint32(f"tokenizer.ggml.{key}_token_id", ids[piece])
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_bool("tokenizer.ggml.add_sep_token", False)
    writer.add_bool("tokenizer.ggml.add_space_prefix", False)
    if (template := checkpoint / "chat_template.jinja").exists():
        writer.add_string("tokenizer.chat_template", template.read_text("utf-8"))


# -- tensors -------------------------------------------------------------------


def read_checkpoint(checkpoint):
    """All tensors of the folder as float32 (integers as they are), names without the
    prefix of multimodal checkpoints."""
    tensors = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        raw = path.read_bytes()
        start = 8 + int.from_bytes(raw[:8], "little")
        for name, entry in json.loads(raw[8:start]).items():
            if name == "__metadata__":
                continue
            begin, end = (start + offset for offset in entry["data_offsets"])
            name = name.replace("model.language_model.", "model.")
            tensors[name] = decode(raw[begin:end], entry["dtype"]).reshape(entry["shape"])
    return tensors


def decode(data, dtype):
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    kind = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}[dtype]
    values = np.frombuffer(data, kind)
    return values.astype(np.float32) if dtype == "F16" else values


def head_size(text):
    return text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]


def tensor_name(arch, text, name):
    """GGUF name, or None for what the file does not carry."""
    if name == "lm_head.weight" and text.get("tie_word_embeddings"):
        return None
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    if not match:
        return GLOBAL_TENSORS.get(name)
    layer, rest = int(match[1]), match[2]
    first_shared = text["num_hidden_layers"] - (text.get("num_kv_shared_layers") or 0)
    if layer >= first_shared and re.match(r"self_attn\.[kv]_", rest):
        return None
    names = LLAMA_LAYER_TENSORS if arch == "llama" else LAYER_TENSORS
    return f"blk.{layer}.{names[rest]}" if rest in names else None


def adapted(arch, text, target, values):
    """Gemma 4 values are stored unchanged.  Gemma 3 files hold 1 + w of the norms, Llama files
    hold the rows of q and k in the order of interleaved rotation."""
    if arch == "gemma3" and target.endswith("norm.weight"):
        return values + 1
    if arch == "llama" and re.search(r"attn_[qk]\.weight$", target):
        half = head_size(text) // 2
        return values.reshape(-1, 2, half, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
    return values


def add_tensor(writer, name, values, outtype):
    kind = gguf.GGMLQuantizationType[outtype.upper()]
    if values.ndim < 2 or name.endswith("ffn_gate_inp.weight"):
        kind = gguf.GGMLQuantizationType.F32
    elif values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = gguf.GGMLQuantizationType.F16
    data = gguf.quants.quantize(np.ascontiguousarray(values, np.float32), kind)
    writer.add_tensor(name, data, raw_dtype=kind)


def rope_factors(arch, text):
    """Divisors of the rotation angles, or None where every angle is the plain one."""
    if arch.startswith("gemma4"):
        head = max(size for size, _ in gemma4_layers(text))
        share = text["rope_parameters"]["full_attention"].get("partial_rotary_factor", 1.0)
        factors = np.full(head // 2, 1e30, np.float32)
        factors[: int(share * head / 2)] = 1.0
        return factors
    rope = text["rope_parameters"]
    if arch != "llama" or rope.get("rope_type") != "llama3":
        return None
    size = head_size(text)
    wavelength = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, size, 2) / size)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] / wavelength
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)


def write_masked_head(writer, config, centroids, ordering, form):
    prefix = "gemma4-assistant.masked_embedding"
    writer.add_uint32(f"{prefix}.num_centroids", config["num_centroids"])
    writer.add_uint32(f"{prefix}.centroid_top_k", config["centroid_intermediate_top_k"])
    if form == "keys":
        writer.add_array(f"{prefix}.centroids", centroids.ravel().tolist())
        writer.add_array(f"{prefix}.token_ordering", ordering.tolist())
    else:
        writer.add_tensor("masked_embd_centroids.weight", centroids.astype(np.float32))
        writer.add_tensor("masked_embd_ordering", ordering.astype(np.int32))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("out")
    parser.add_argument("--type", choices=FILE_TYPES, default="bf16")
    parser.add_argument("--masked-head", choices=("keys", "tensors", "none"), default="keys")
    parser.add_argument("--name", help="general.name, by default the folder's")
    args = parser.parse_args()
    convert(args.checkpoint, args.out, args.type, args.masked_head, args.name)
