"""Makes imatrix-NAME.npz: what transformers feeds each weight of a checkpoint, for test_imatrix.py.

    python tests/golden/make_imatrix_golden.py NAME CHECKPOINT [--chunk N] [--chunks N]

Needs torch and transformers >= 5.24. Every linear layer, also those of routed experts, ends in
torch's F.linear: it is watched, and a weight is known by its address. The model runs in float32
over chunks of tests/data/text-en.txt, each with BOS in front.

    ids                  [chunks, chunk]
    <weight>.in_sum2     f32 [n_mat, n_in], names as in GGUF, added up in float64
    <weight>.counts      f32 [n_mat]
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
import torch
import transformers as hf

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tiny"))
import hf_to_gguf  # noqa: E402

EXPERTS = {
    "router.proj.weight": "ffn_gate_inp.weight",
    "experts.gate_up_proj": "ffn_gate_up_exps.weight",
    "experts.down_proj": "ffn_down_exps.weight",
}


def gguf_name(name):
    if name in hf_to_gguf.GLOBAL_TENSORS:
        return hf_to_gguf.GLOBAL_TENSORS[name]
    number, rest = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name).groups()
    return f"blk.{number}.{hf_to_gguf.LAYER_TENSORS.get(rest) or EXPERTS[rest]}"


def watch(model):
    """Replaces F.linear; returns what it sees: {name: (sums [n_mat, n_in], counts [n_mat])}."""
    weights, seen = {}, {}
    for name, parameter in model.named_parameters():
        name = name.replace("model.language_model.", "model.")
        if parameter.dim() == 3:
            for expert, matrix in enumerate(parameter):
                weights[matrix.data_ptr()] = gguf_name(name), expert, len(parameter)
        elif parameter.dim() == 2:
            weights[parameter.data_ptr()] = gguf_name(name), 0, 1
    plain = torch.nn.functional.linear

    def linear(x, weight, bias=None):
        name, matrix, n = weights[weight.data_ptr()]
        rows = x.detach().reshape(-1, x.shape[-1]).double().numpy()
        sums, counts = seen.setdefault(name, (np.zeros((n, rows.shape[1])), np.zeros(n)))
        sums[matrix] += (rows**2).sum(axis=0)
        counts[matrix] += len(rows)
        return plain(x, weight, bias)

    torch.nn.functional.linear = linear
    return seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--chunk", type=int, default=96)
    parser.add_argument("--chunks", type=int, default=2)
    options = parser.parse_args()
    tokenizer = hf.AutoTokenizer.from_pretrained(options.checkpoint)
    text = (HERE.parent / "data" / "text-en.txt").read_text(encoding="utf-8")
    ids = np.asarray(
        tokenizer(text)["input_ids"][: options.chunk * options.chunks], np.int32
    ).reshape(options.chunks, options.chunk)
    ids[:, 0] = tokenizer.bos_token_id
    model = hf.AutoModelForCausalLM.from_pretrained(
        options.checkpoint,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
    ).eval()
    seen = watch(model)
    with torch.no_grad():
        for row in ids:
            model(torch.tensor(row[None].astype(np.int64)))
    arrays = {"ids": ids}
    for name, (sums, counts) in seen.items():
        arrays[f"{name}.in_sum2"], arrays[f"{name}.counts"] = (
            sums.astype(np.float32),
            counts.astype(np.float32),
        )
    np.savez_compressed(HERE / f"imatrix-{options.name}.npz", **arrays)


if __name__ == "__main__":
    main()
