"""Puts tiny multimodal checkpoints and their reference values into the tree.

    python tests/golden/media/pack.py --random DIR      # what make_tiny_mm.py wrote into DIR
    python tests/golden/media/pack.py --trained DIR     # the trained checkpoint with its samples

Checkpoints become two shards, the text model and the towers, so that no file has 1 MB but the text
model of the trained one. Of the pictures that were resized for the e2b goldens only the digests are
kept: the other two shapes have theirs. Nothing is computed here.

    tiny-mm-e2b, -31b, -12b, and -assistant    random checkpoints; NAME.npz their goldens
    trained.npz, samples/                      of the trained towers of tests/tiny-pair/target
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
TINY_PAIR = HERE.parent.parent / "tiny-pair"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
WEIGHTS = "model.safetensors"


def read(path):
    """{name: (type, shape, bytes)}"""
    raw = path.read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    entries = {n: e for n, e in json.loads(raw[8:begin]).items() if n != "__metadata__"}
    return {
        name: (
            e["dtype"],
            e["shape"],
            raw[begin + e["data_offsets"][0] : begin + e["data_offsets"][1]],
        )
        for name, e in entries.items()
    }


def write(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (kind, shape, raw) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(raw for _, _, raw in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def pack_checkpoint(source, target):
    """The folder in two shards; all its other files as they are."""
    target.mkdir(exist_ok=True)
    for path in target.glob("model*"):
        path.unlink()
    for path in source.iterdir():
        if path.name != WEIGHTS:
            shutil.copyfile(path, target / path.name)
    tensors = read(source / WEIGHTS)
    weight_map = {}
    for shard, wanted in zip(SHARDS, (True, False), strict=True):
        part = {n: t for n, t in tensors.items() if ("language_model." in n) == wanted}
        write(target / shard, part)
        weight_map.update(dict.fromkeys(part, shard))
    total = sum(len(raw) for _, _, raw in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (target / f"{WEIGHTS}.index.json").write_text(json.dumps(index, indent=1) + "\n")


def pack_goldens(source, target, digests):
    values = {}
    with np.load(source) as found:
        for name in found:
            values[name] = found[name]
            if digests and name.endswith(".resized"):
                bits = hashlib.sha256(values.pop(name).tobytes()).digest()
                values[f"{name}_sha256"] = np.frombuffer(bits, np.uint8)
    np.savez_compressed(target, **values)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=Path)
    parser.add_argument("--trained", type=Path)
    given = parser.parse_args()
    if given.random:
        for golden in sorted((given.random / "goldens").glob("tiny-mm-*.npz")):
            name = golden.stem
            pack_checkpoint(given.random / name, HERE / name)
            assistant = HERE / f"{name}-assistant"
            shutil.copytree(given.random / assistant.name, assistant, dirs_exist_ok=True)
            pack_goldens(golden, HERE / golden.name, name == "tiny-mm-e2b")
    if given.trained:
        pack_checkpoint(given.trained / "target-mm", TINY_PAIR / "target")
        pack_goldens(given.trained / "goldens.npz", HERE / "trained.npz", False)
        shutil.copytree(given.trained / "samples", HERE / "samples", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
