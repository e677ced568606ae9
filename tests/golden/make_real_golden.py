"""Reference values of the real models, and the comparison of other logits with them.

    python tests/golden/make_real_golden.py [NAME ...]                      make NAME.npz
    python tests/golden/make_real_golden.py --full-kl NAME LOGITS.npy      exact divergence

The weights of the GGUF file are dequantized exactly and run by transformers in float32, so the
difference to pillion is pillion's alone, not the quantization's.  Making needs torch,
transformers, tokenizers and gguf; `compare` needs numpy only.

NAME.npz (gemma3-270m, smollm2-135m), for the first 512 tokens of tests/data/text-en.txt:

    ids                [512] with BOS where the model adds one (Gemma does, SmolLM2 does not)
    lse                [512] logsumexp of the logits
    next_logprob       [511] log probability of the token that follows
    top_ids            [512,64] the likeliest tokens, best first
    top_logprobs       [512,64] their log probabilities
    rest               [512] probability of all others together
    layers, rows       [L+1,2,H] at two positions: (scaled) embedding, then the output of each
                       layer; the last entry is after the final norm
    france.ids         "The capital of France is"
    france.greedy      [24] greedy continuation; france.greedy_margin, france.text
"""

import argparse
import heapq
import json
import re
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import models as real_models  # noqa: E402

MODELS = {"gemma3-270m": real_models.gemma3_270m, "smollm2-135m": real_models.smollm2_135m}
N_TOKENS, N_TOP, N_GREEDY = 512, 64, 24
PROMPT = "The capital of France is"

# -- comparison (numpy only) ---------------------------------------------------


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def compare(name, logits):
    """Compares [n,V] logits of the first n golden tokens with NAME.npz.

    `kl` is KL(reference || ours) of the distributions with all tokens outside the top 64 put
    together: a lower bound of the full divergence, and close to it while `rest` is small.
    """
    golden = np.load(HERE / f"{name}.npz")
    kl, same, ours_next = [], 0, []
    for row, values in enumerate(logits):
        ours = log_softmax(values)
        top, reference = golden["top_ids"][row], golden["top_logprobs"][row].astype(np.float64)
        kl.append((np.exp(reference) * (reference - ours[top])).sum())
        rest = float(golden["rest"][row])
        if rest > 1e-12:
            ours_rest = max(1 - np.exp(ours[top]).sum(), 1e-12)
            kl[-1] += rest * (np.log(rest) - np.log(ours_rest))
        same += int(ours.argmax() == top[0])
        if row + 1 < len(golden["ids"]):
            ours_next.append(ours[golden["ids"][row + 1]])
    reference_next = golden["next_logprob"][: len(ours_next)]
    return {
        "kl": float(np.mean(kl)),
        "kl_max": float(np.max(kl)),
        "same_top": same / len(kl),
        "perplexity": float(np.exp(-np.mean(ours_next))),
        "reference_perplexity": float(np.exp(-np.mean(reference_next))),
    }


def full_kl(model_path, logits_npy):
    """Mean and largest KL(reference || ours) over the whole vocabulary.  `logits_npy` holds the
    logits [n,V] of the first n golden tokens; the reference is computed anew (float32, torch)."""
    name = next(n for n, find in MODELS.items() if find().name == Path(model_path).name)
    ours = np.load(logits_npy, mmap_mode="r")
    ids = np.load(HERE / f"{name}.npz")["ids"][: len(ours)].tolist()
    reference = run(load(model_path), ids)["logits"]
    kl = []
    for theirs, row in zip(reference, ours, strict=True):
        p, q = log_softmax(theirs.numpy()), log_softmax(row)
        kl.append(float((np.exp(p) * (p - q)).sum()))
    return {"kl": float(np.mean(kl)), "kl_max": max(kl)}


# -- model ---------------------------------------------------------------------


def metadata(reader):
    return {field.name: field.contents() for field in reader.fields.values()}


def gemma3_config(keys):
    import transformers

    return transformers.Gemma3TextConfig(
        vocab_size=len(keys["tokenizer.ggml.tokens"]),
        hidden_size=keys["gemma3.embedding_length"],
        intermediate_size=keys["gemma3.feed_forward_length"],
        num_hidden_layers=keys["gemma3.block_count"],
        num_attention_heads=keys["gemma3.attention.head_count"],
        num_key_value_heads=keys["gemma3.attention.head_count_kv"],
        head_dim=keys["gemma3.attention.key_length"],
        query_pre_attn_scalar=keys["gemma3.attention.key_length"],
        sliding_window=keys["gemma3.attention.sliding_window"],
        max_position_embeddings=keys["gemma3.context_length"],
        rms_norm_eps=keys["gemma3.attention.layer_norm_rms_epsilon"],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": keys["gemma3.rope.freq_base"]},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    )


def llama_config(keys):
    import transformers

    return transformers.LlamaConfig(
        vocab_size=keys["llama.vocab_size"],
        hidden_size=keys["llama.embedding_length"],
        intermediate_size=keys["llama.feed_forward_length"],
        num_hidden_layers=keys["llama.block_count"],
        num_attention_heads=keys["llama.attention.head_count"],
        num_key_value_heads=keys["llama.attention.head_count_kv"],
        max_position_embeddings=keys["llama.context_length"],
        rms_norm_eps=keys["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": keys["llama.rope.freq_base"]},
        tie_word_embeddings=True,
    )


def load(path):
    """The transformers model with the dequantized weights of the file."""
    import gguf
    import torch
    import transformers

    from pillion.convert.gemma3 import Gemma3
    from pillion.convert.llama import Llama

    reader = gguf.GGUFReader(str(path))
    keys = metadata(reader)
    arch = keys["general.architecture"]
    if arch == "gemma3":
        model = transformers.Gemma3ForCausalLM(gemma3_config(keys))
    else:
        model = transformers.LlamaForCausalLM(llama_config(keys))
    names = Gemma3() if arch == "gemma3" else Llama()
    tensors = {t.name: t for t in reader.tensors}
    state = {}
    for source, parameter in model.state_dict().items():
        target = names.file_name(source)
        if target not in tensors:  # the tied head
            continue
        tensor = tensors.pop(target)
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(parameter.shape)
        if arch == "gemma3" and target.endswith("norm.weight"):
            values = values - 1
        if arch == "llama" and re.search(r"attn_[qk]\.weight$", target):
            half = keys["llama.rope.dimension_count"] // 2
            values = values.reshape(-1, half, 2, values.shape[1]).swapaxes(1, 2)
        state[source] = torch.from_numpy(values.reshape(parameter.shape).astype(np.float32))
    assert not tensors, f"tensors without a place: {list(tensors)}"
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    return model.to(torch.float32).eval()


def run(model, ids):
    import torch

    with torch.no_grad():
        out = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    return {"logits": out.logits[0], "layers": torch.stack(out.hidden_states)[:, 0]}


# -- tokens --------------------------------------------------------------------


def encode(keys, text):
    """Ids of the text by the vocabulary of the file, with BOS where the file asks for it."""
    ids = (
        encode_spm(keys, text)
        if keys["tokenizer.ggml.model"] == "llama"
        else encode_gpt2(keys, text)
    )
    return [keys["tokenizer.ggml.bos_token_id"]] * keys["tokenizer.ggml.add_bos_token"] + ids


def encode_gpt2(keys, text):
    from tokenizers import Tokenizer, models, pre_tokenizers

    assert keys["tokenizer.ggml.pre"] == "smollm"
    vocab = {token: i for i, token in enumerate(keys["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in keys["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer.encode(text).ids


def encode_spm(keys, text):
    """Best score first, over the pieces between user-defined tokens."""
    assert not keys["tokenizer.ggml.add_space_prefix"]
    tokens, scores = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.scores"]
    ids = {token: i for i, token in enumerate(tokens)}
    kinds = keys["tokenizer.ggml.token_type"]
    fixed = sorted(
        (t for t, kind in zip(tokens, kinds, strict=True) if kind == 4), key=len, reverse=True
    )
    out = []
    for piece in re.split("(" + "|".join(map(re.escape, fixed)) + ")", text):
        if piece in ids and kinds[ids[piece]] == 4:
            out.append(ids[piece])
        else:
            out += merge_pieces(list(piece.replace(" ", "▁")), ids, scores)
    return out


def merge_pieces(pieces, ids, scores):
    heap = []
    following = [*range(1, len(pieces)), None]

    def consider(left):
        right = following[left]
        if right is not None and (joined := pieces[left] + pieces[right]) in ids:
            heapq.heappush(heap, (-scores[ids[joined]], left, right, joined))

    for left in range(len(pieces)):
        consider(left)
    before = [None, *range(len(pieces) - 1)]
    while heap:
        _, left, right, joined = heapq.heappop(heap)
        if pieces[left] is None or pieces[right] is None or pieces[left] + pieces[right] != joined:
            continue
        if following[left] != right:
            continue
        pieces[left], pieces[right] = joined, None
        following[left] = following[right]
        if following[left] is not None:
            before[following[left]] = left
        consider(left)
        if before[left] is not None:
            consider(before[left])
    out = []
    for piece in pieces:
        if piece is None:
            continue
        unknown = [ids[f"<0x{byte:02X}>"] for byte in piece.encode()] if piece not in ids else None
        out += unknown or [ids[piece]]
    return out


def decode(keys, ids):
    text = "".join(keys["tokenizer.ggml.tokens"][i] for i in ids)
    return text.replace("▁", " ").replace("Ġ", " ").replace("Ċ", "\n")


# -- goldens -------------------------------------------------------------------


def make(name):
    import gguf

    path = MODELS[name]()
    keys = metadata(gguf.GGUFReader(str(path)))
    model = load(path)
    text = (HERE.parent / "data" / "text-en.txt").read_text("utf-8")
    ids = encode(keys, text)[:N_TOKENS]
    seen = run(model, ids)
    z = {"ids": np.array(ids, np.int32), "rows": np.array([1, N_TOKENS - 1])}
    z["layers"] = seen["layers"][:, z["rows"]].numpy()
    rows = {key: [] for key in ("lse", "top_ids", "top_logprobs", "rest")}
    following = []
    for position, row in enumerate(seen["logits"]):
        row = row.numpy().astype(np.float64)
        logprobs = log_softmax(row)
        top = np.argsort(-row, kind="stable")[:N_TOP]
        rows["lse"].append(row[0] - logprobs[0])
        rows["top_ids"].append(top)
        rows["top_logprobs"].append(logprobs[top])
        rows["rest"].append(max(0.0, 1 - np.exp(logprobs[top]).sum()))
        following += [logprobs[i] for i in ids[position + 1 : position + 2]]
    z |= {key: np.array(values, np.float32) for key, values in rows.items()}
    z["top_ids"] = z["top_ids"].astype(np.int32)
    z["next_logprob"] = np.array(following, np.float32)

    prompt = encode(keys, PROMPT)
    greedy, margins = [], []
    for _ in range(N_GREEDY):
        top = run(model, prompt + greedy)["logits"][-1].topk(2)
        greedy.append(int(top.indices[0]))
        margins.append(float(top.values[0] - top.values[1]))
    z["france.ids"], z["france.greedy"] = np.array(prompt, np.int32), np.array(greedy, np.int32)
    z["france.greedy_margin"] = np.array(margins, np.float32)
    z["france.text"] = np.array(decode(keys, greedy))
    np.savez_compressed(HERE / f"{name}.npz", **z)
    perplexity = np.exp(-z["next_logprob"].mean(dtype=np.float64))
    print(
        f"{name}: perplexity {perplexity:.4f}, "
        f"largest rest {z['rest'].max():.3f}, {decode(keys, greedy)!r}"
    )
    print(f"  {name}: check of compare(): {json.dumps(compare(name, seen['logits'].numpy()[:64]))}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MODELS)}; all by default")
    parser.add_argument("--full-kl", nargs=2, metavar=("NAME", "LOGITS"))
    args = parser.parse_args()
    if args.full_kl:
        print(json.dumps(full_kl(MODELS[args.full_kl[0]](), args.full_kl[1])))
    else:
        for each in args.names or MODELS:
            make(each)
