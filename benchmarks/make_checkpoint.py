"""Writes a Hugging Face checkpoint of Gemma 4 E2B's shape with random BF16 weights, in shards, for
`pillion convert`.

    python benchmarks/make_checkpoint.py OUT_DIR [--layers 35] [--shard-gb 2]

All 35 layers are 10.2 GB, 14 layers 4.2 GB. The tokenizer is a vocabulary of the right size without
merges. Needs numpy only."""

import argparse
import json
from pathlib import Path

import numpy as np

VOCAB, WIDTH, PLE, HEAD, HEAD_SWA, HEADS = 262144, 1536, 256, 512, 256, 8
FF, FF_WIDE, WINDOW, PERIOD = 6144, 12288, 512, 5


def config(layers, shared):
    types = [
        "full_attention" if layer % PERIOD == PERIOD - 1 else "sliding_attention"
        for layer in range(layers)
    ]
    return {
        "architectures": ["Gemma4ForCausalLM"],
        "model_type": "gemma4_text",
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "hidden_size_per_layer_input": PLE,
        "intermediate_size": FF,
        "num_hidden_layers": layers,
        "layer_types": types,
        "num_kv_shared_layers": shared,
        "use_double_wide_mlp": True,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 1,
        "head_dim": HEAD_SWA,
        "global_head_dim": HEAD,
        "sliding_window": WINDOW,
        "final_logit_softcapping": 30.0,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "full_attention": {"rope_theta": 1e6, "partial_rotary_factor": 0.25},
            "sliding_attention": {"rope_theta": 1e4},
        },
    }


def shapes(text):
    """(name, shape) of every tensor."""
    layers, shared = text["num_hidden_layers"], text["num_kv_shared_layers"]
    yield "model.embed_tokens.weight", (VOCAB, WIDTH)
    yield "model.embed_tokens_per_layer.weight", (VOCAB, layers * PLE)
    yield "model.per_layer_model_projection.weight", (layers * PLE, WIDTH)
    yield "model.per_layer_projection_norm.weight", (PLE,)
    yield "model.norm.weight", (WIDTH,)
    for layer, kind in enumerate(text["layer_types"]):
        p, head = f"model.layers.{layer}.", HEAD if kind == "full_attention" else HEAD_SWA
        ff = FF_WIDE if layer >= layers - shared else FF
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield f"{p}{name}_layernorm.weight", (WIDTH,)
        yield p + "post_per_layer_input_norm.weight", (WIDTH,)
        yield p + "layer_scalar", (1,)
        yield p + "self_attn.q_proj.weight", (HEADS * head, WIDTH)
        yield p + "self_attn.q_norm.weight", (head,)
        if layer < layers - shared:
            yield p + "self_attn.k_proj.weight", (head, WIDTH)
            yield p + "self_attn.v_proj.weight", (head, WIDTH)
            yield p + "self_attn.k_norm.weight", (head,)
        yield p + "self_attn.o_proj.weight", (WIDTH, HEADS * head)
        yield p + "mlp.gate_proj.weight", (ff, WIDTH)
        yield p + "mlp.up_proj.weight", (ff, WIDTH)
        yield p + "mlp.down_proj.weight", (WIDTH, ff)
        yield p + "per_layer_input_gate.weight", (PLE, WIDTH)
        yield p + "per_layer_projection.weight", (WIDTH, PLE)


def bf16(rng, shape):
    """Chunks of random bits: normal values of spread 0.02 for matrices, ones for vectors."""
    n = int(np.prod(shape))
    if len(shape) == 1:
        yield np.full(n, 0x3F80, np.uint16)
        return
    block = (rng.standard_normal(1 << 22, np.float32) * 0.02).view(np.uint32) >> 16
    for begin in range(0, n, len(block)):
        yield np.roll(block, int(rng.integers(len(block))))[: n - begin].astype(np.uint16)


def write_shard(path, tensors, rng):
    header, at = {}, 0
    for name, shape in tensors:
        n_bytes = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + n_bytes]}
        at += n_bytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, shape in tensors:
            for chunk in bf16(rng, shape):
                chunk.tofile(file)


def tokenizer():
    special = [
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<mask>",
        "<|turn>",
        "<turn|>",
        "<|tool_response>",
    ]
    pieces = special + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += [f"t{i}" for i in range(VOCAB - len(pieces))]
    return {
        "added_tokens": [
            {"id": i, "content": piece, "special": True} for i, piece in enumerate(special)
        ],
        "model": {
            "type": "BPE",
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": ["t 1"],
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--layers", type=int, default=35, help="fewer, for a smaller one; the last 4/7 share KV"
    )
    parser.add_argument("--shard-gb", type=float, default=2.0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    text = config(args.layers, args.layers * 4 // 7)
    (args.out / "config.json").write_text(json.dumps(text))
    (args.out / "tokenizer.json").write_text(json.dumps(tokenizer()))
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    (args.out / "tokenizer_config.json").write_text(json.dumps(names))
    shards, size = [[]], 0
    for name, shape in shapes(text):
        n_bytes = 2 * int(np.prod(shape))
        if shards[-1] and size + n_bytes > args.shard_gb * 1e9:
            shards, size = [*shards, []], 0
        shards[-1].append((name, shape))
        size += n_bytes
    rng = np.random.default_rng(1)
    where = {}
    for number, tensors in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_shard(args.out / file, tensors, rng)
        where.update(dict.fromkeys((name for name, _ in tensors), file))
    (args.out / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": where})
    )


if __name__ == "__main__":
    main()
