"""A checkpoint folder of a case of random_configurations.py, and what pillion computes from it."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

sys.path.append(str(Path(__file__).resolve().parent))

from random_configurations import weights  # noqa: E402

# As tests/model/test_goldens.py: what is left is the f16 cache.
NMSE = 1e-5
NMSE_DRAFTED = 1e-4  # as tests/speculative/test_pair_tiny.py
_PIECES = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", "a", "b", "ab"]


def remove(folder):
    """Weights are large, and there are many."""
    shutil.rmtree(folder, ignore_errors=True)


def nmse(ours, reference):
    ours, reference = ours.astype(np.float64), reference.astype(np.float64)
    return float(((ours - reference) ** 2).sum() / (reference**2).sum())


def write_config(folder, case):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(case.config))


def write_tokenizer(folder):
    """The smallest that is one; rows of the table beyond it become fillers."""
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    tokenizer = {
        "added_tokens": [
            {"id": i, "content": piece, **flags} for i, piece in enumerate(_PIECES[:4])
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "vocab": {piece: i for i, piece in enumerate(_PIECES)},
            "merges": [["a", "b"]],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


def tensors_of(case, reseed=0):
    """Weights under the names of the class of transformers, the head as the case has it."""
    made = weights(case.tensors, case, reseed)
    table = next(name for name in made if name.endswith("embed_tokens.weight"))
    made.pop("lm_head.weight", None)
    if case.head == "equal":
        made["lm_head.weight"] = made[table].copy()
    elif case.head == "other":
        made["lm_head.weight"] = weights({"lm_head.weight": case.tensors[table]}, case, reseed)[
            "lm_head.weight"
        ]
    return made


def named(tensors, case, wrapped):
    """The names that the checkpoint has."""
    found = {}
    for name, values in tensors.items():
        if case.naming == "bare":
            name = name.removeprefix("model.")
        elif case.naming == "old":
            name = name.replace("model.language_model.", "language_model.model.", 1)
            name = "language_model.lm_head.weight" if name == "lm_head.weight" else name
            name = name.removeprefix("model.") if not name.startswith("language_model.") else name
        found[(case.wrapped if wrapped else "") + name] = values
    return found


def write_folder(folder, case, wrapped=True, reseed=0):
    """Everything that `pillion convert` reads."""
    write_config(folder, case)
    write_tokenizer(folder)
    save_file(
        named(tensors_of(case, reseed), case, wrapped),
        folder / "model.safetensors",
        {"format": "pt"},
    )


def logits_of(pillion, path, ids):
    """[tokens, vocabulary]"""
    with pillion.Model.open(path) as model, model.context(n_ctx=64, n_outputs=len(ids)) as context:
        context.prefill(ids, outputs=len(ids))
        return np.stack([context.logits(row) for row in range(len(ids))])


def drafts_of(pillion, target, assistant, ids, start, n):
    """[(token, logits, state)] of n chained greedy steps."""
    with (
        pillion.Model.open(target) as model,
        pillion.Pair(model.context(n_ctx=64), assistant) as pair,
    ):
        pair.sync(ids)
        drafts = pair.draft(start, n)
        return [(token, *pair.draft_row(step)) for step, token in enumerate(drafts)]


def drafted_error(logits, state, expected, expected_state):
    """The larger of both; scores that were not computed are left out, transformers fills them
    in."""
    scored = np.isfinite(logits)
    return max(nmse(logits[scored], expected[scored]), nmse(state, expected_state))
