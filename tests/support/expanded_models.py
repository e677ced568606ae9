"""Small models whose matrices are random blocks of any weight format, and the same values as F32.

Widths are 256 where a tiny golden model has 64, so that blocks of 256 inputs fit; everything else
(keys, tokenizer, names) comes from the golden file.
"""

from pathlib import Path

import gguf
import numpy as np
import op_cases as oc

GOLDEN = Path(__file__).resolve().parent.parent / "golden"

# A golden model's keys that change.
WIDE = {
    "tiny-llama": {"embedding_length": 256, "feed_forward_length": 256, "rope.dimension_count": 64},
    "tiny-moe": {
        "embedding_length": 256,
        "feed_forward_length": 256,
        "expert_feed_forward_length": 256,
        "attention.key_length_swa": 64,
        "attention.value_length_swa": 64,
        "rope.dimension_count_swa": 64,
        "expert_used_count": 8,  # all of them: a rounding can't turn one expert into another
    },
}
SHAPES = {  # of a file, outputs first
    "tiny-llama": {
        "attn_q": (256, 256), "attn_k": (128, 256), "attn_v": (128, 256),
        "attn_output": (256, 256), "ffn_gate": (256, 256), "ffn_up": (256, 256),
        "ffn_down": (256, 256), "token_embd": (512, 256), "output": (512, 256), "rope_freqs": (32,),
    },
    "tiny-moe": {
        "attn_q": (256, 256), "attn_k": (128, 256), "attn_v": (128, 256),
        "blk.1.attn_k": (64, 256), "attn_output": (256, 256), "ffn_gate": (256, 256),
        "ffn_up": (256, 256), "ffn_down": (256, 256), "token_embd": (512, 256),
        "ffn_gate_up_exps": (8, 512, 256), "ffn_down_exps": (8, 256, 256),
        "ffn_gate_inp": (8, 256), "ffn_down_exps.scale": (8,), "attn_q_norm": (64,),
        "attn_k_norm": (64,), "layer_output_scale": (1,), "rope_freqs": (32,),
    },
}  # fmt: skip


def blocks(kind, shape, rng):
    """Random blocks whose values have a size of about 1 / sqrt(inputs), and these values."""
    n = int(np.prod(shape)) // oc.QUANTS[kind][0]
    data = oc.random_blocks(kind, n, rng)
    if kind == "nvfp4":
        data[:, :4] = rng.integers(1, 24, (n, 4))
    type_ = gguf.GGMLQuantizationType[kind.upper()]

    def values():
        return gguf.quants.dequantize(data, type_).reshape(shape)

    shift = round(np.log2(1 / np.sqrt(shape[-1]) / values().std()))
    if kind == "mxfp4":
        data[:, 0] += np.uint8(shift & 255)
    elif kind == "iq1_m":
        oc.set_iq1_m_scales(
            data, (oc.iq1_m_scales(data) * np.float16(2.0**shift)).astype(np.float16)
        )
    for at in oc.QUANTS[kind][2]:
        half = data[:, at : at + 2].copy().view(np.float16) * np.float16(2.0**shift)
        data[:, at : at + 2] = half.astype(np.float16).view(np.uint8).reshape(-1, 2)
    return data.reshape(*shape[:-1], -1), values()


def write(name, path, kind_of, plain=False):
    """kind_of(tensor's name) -> a format of op_cases.QUANTS. plain: the same values as F32."""
    reader = gguf.GGUFReader(GOLDEN / f"{name}.gguf")
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(path, arch)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = WIDE[name].get(key.removeprefix(f"{arch}."), field.contents())
        writer.add_key_value(
            key, value, field.types[0], field.types[-1] if len(field.types) > 1 else None
        )
    shapes = SHAPES[name]
    for tensor in reader.tensors:
        parts = tensor.name.removesuffix(".weight").split(".", 2)
        short = parts[-1] if parts[0] == "blk" else ".".join(parts)
        shape = shapes.get(tensor.name.removesuffix(".weight"), shapes.get(short, (256,)))
        rng = oc.rng("expanded model", name, tensor.name)
        if len(shape) == 1 or "ffn_gate_inp" in tensor.name:
            small = rng.standard_normal(shape).astype(np.float32) * np.float32(
                1 / 16 if len(shape) > 1 else 0.1
            )
            writer.add_tensor(tensor.name, small + np.float32(len(shape) == 1))
            continue
        kind = kind_of(tensor.name)
        data, values = blocks(kind, shape, rng)
        if plain:
            writer.add_tensor(tensor.name, values.astype(np.float32))
        else:
            writer.add_tensor(tensor.name, data, raw_dtype=gguf.GGMLQuantizationType[kind.upper()])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
