"""Rows of weights of every format for tests of matmul kernels: random ones, and their values by the
gguf package."""

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")


NAMES = (
    "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS TQ2_0"
).split()
TYPES = {name: getattr(gguf.GGMLQuantizationType, name) for name in NAMES}
# Where the f16 scales and minima of a block stand, and which bytes are codes.
HALVES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "IQ4_NL": [0],
    "IQ4_XS": [0],
    "TQ2_0": [64],
}
# formats with minima
CODES = {"Q4_1": (4, 20), "Q5_1": (4, 24), "Q2_K": (16, 80), "Q4_K": (16, 144), "Q5_K": (16, 176)}
SCALE_INPUTS = {"Q2_K": 16, "Q3_K": 16, "Q6_K": 16}


def random_rows(name, rows, inputs, rng, scales=True):
    """Bytes of rows of a type. With scales: finite ones, about 2^-8; without: any bytes at all."""
    block, size = gguf.GGML_QUANT_SIZES[TYPES[name]]
    if name in HALVES:
        blocks = rng.integers(0, 256, (rows * inputs // block, size), dtype=np.uint8)
        if scales:
            for at in HALVES[name]:
                half = rng.uniform(2.0**-9, 2.0**-7, len(blocks)) * rng.choice([-1, 1], len(blocks))
                half[rng.random(len(blocks)) < 0.02] = 0
                half[rng.random(len(blocks)) < 0.02] = 2.0**-24  # subnormal
                blocks[:, at : at + 2] = half.astype(np.float16).view(np.uint8).reshape(-1, 2)
        return blocks.reshape(rows, -1)
    if not scales:
        return rng.integers(0, 256, (rows, inputs * size), dtype=np.uint8)
    values = rng.standard_normal((rows, inputs)).astype(np.float32)
    return gguf.quants.quantize(values, TYPES[name]).view(np.uint8).reshape(rows, -1)


def dequantize(name, data, rows, inputs):
    if name in ("F32", "F16"):
        return (
            data.view(np.float32 if name == "F32" else np.float16)
            .astype(np.float32)
            .reshape(rows, inputs)
        )
    return gguf.quants.dequantize(data, TYPES[name]).reshape(rows, inputs)
