"""Writes mmproj files of true Gemma 4 shape with random weights: speed, memory and load time of the
towers without the real weights.

    python benchmarks/make_synthetic_mmproj.py OUT.gguf [--size e2b|e4b|26b|31b|12b]
        [--type f32|f16|bf16|q8_0]

Keys, names, shapes and types are those of `pillion convert --mmproj`, and sizes are those of the
published files: E2B has 986 MB in F16 and 557 MB in Q8_0. Rows from such a file mean nothing.
Weights keep activations alive; a matrix repeats one random megabyte, which no kernel notices. The
file is written piece by piece."""

import argparse
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
from pillion.convert.audio_towers import AudioFrames, Conformer
from pillion.convert.mmproj_conversion import type_in_file
from pillion.convert.values import FILE_TYPES
from pillion.convert.vision_towers import VisionPatches, VisionTransformer
from pillion.convert.writer import GgufFile

SMALL = {"use_clipped_linears": True}
LARGE = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 72,
    "standardize": True,
}
# Width of the target's rows, and the towers with what differs from their configuration's defaults.
SIZES = {
    "e2b": (1536, [(VisionTransformer, SMALL), (Conformer, {})]),
    "e4b": (2560, [(VisionTransformer, SMALL), (Conformer, {})]),
    "26b": (2816, [(VisionTransformer, LARGE)]),
    "31b": (5376, [(VisionTransformer, LARGE)]),
    "12b": (3840, [(VisionPatches, {}), (AudioFrames, {})]),
}
N_RANDOM = 1 << 18
BOUND = 30.0
"""Of clipped layers: it hardly ever bites, and costs what it costs."""

# A checkpoint without files, for what towers ask beside their configuration.
NO_CHECKPOINT = SimpleNamespace(folder="synthetic", json=lambda name, needed=True: {})


class Values:
    """Bytes of random tensors."""

    def __init__(self):
        self._random = np.random.default_rng(1).standard_normal(N_RANDOM, np.float32)
        self._pieces = {}

    def pieces(self, wanted, kind):
        """Yields the bytes of a tensor, about a megabyte at a time."""
        left = int(np.prod(wanted.stored or wanted.shape))
        constant = self.constant(wanted)
        if constant is not None:
            yield np.full(left, constant, np.float32).tobytes()
            return
        # The dot product of a row with unit inputs has variance 1.
        scale = 1 / np.sqrt(np.prod(wanted.shape[1:]))
        piece = self.random(kind, float(scale) if "position" not in wanted.placed else 0.02)
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.upper()]]
        while left > 0:
            yield piece[: min(left, N_RANDOM) // block * size]
            left -= N_RANDOM

    @staticmethod
    def constant(wanted):
        """The value of a vector's elements; None for what is random."""
        name = wanted.placed
        if name.endswith(("_min", "_max")):
            return -BOUND if name.endswith("_min") else BOUND
        if len(wanted.shape) > 1:
            return None
        return 0.0 if name.endswith("bias") else 1.0

    def random(self, kind, scale):
        if (kind, scale) not in self._pieces:
            to = gguf.GGMLQuantizationType[kind.upper()]
            values = (self._random * np.float32(scale)).reshape(-1, 64)
            self._pieces[kind, scale] = gguf.quants.quantize(values, to).tobytes()
        return self._pieces[kind, scale]


def write(path, size, kind):
    """Returns the bytes of the file."""
    n_embd, parts = SIZES[size]
    towers = [tower(NO_CHECKPOINT, changes, n_embd) for tower, changes in parts]
    wanted = [each for tower in towers for each in tower.tensors()]
    values = Values()
    with GgufFile(Path(path), "clip") as file:
        file.write_keys({"general.type": "mmproj", "general.file_type": FILE_TYPES[kind]})
        file.write_keys({"general.name": f"synthetic {size}", "general.quantization_version": 2})
        for tower in towers:
            file.write_keys({f"clip.has_{tower.medium}_encoder": True})
            keys = tower.keys(NO_CHECKPOINT).items()
            file.write_keys({f"clip.{tower.medium}.{key}": value for key, value in keys})
        for each in wanted:
            file.add(each.placed, each.stored or each.shape, type_in_file(each, kind))
        file.begin_data(lambda path: None)
        for each in wanted:
            for piece in values.pieces(each, type_in_file(each, kind)):
                file.write(piece)
            file.end_tensor()
        return file.finish(lambda path: None)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=list(SIZES), default="e2b")
    parser.add_argument("--type", choices=list(FILE_TYPES), default="f16")
    given = parser.parse_args()
    n_bytes = write(given.out, given.size, given.type)
    print(f"{given.out}: {given.size}, {given.type}, {n_bytes / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
