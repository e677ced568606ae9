"""Formats that are expanded at import: what every backend makes of them, against the gguf package.

Blocks are random bytes: every place of a code book, every sign and every scale occurs. Values must
be equal bit for bit: one is the product of a scale and a whole number, both exact in an f32.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from op_cases import EXPANDED, QUANTS, Weight

gguf = pytest.importorskip("gguf")
testing = pytest.importorskip("pillion._testing")
ROOT = Path(__file__).resolve().parents[2]


def test_the_code_books_are_the_package_s():
    done = subprocess.run(
        [sys.executable, ROOT / "tools/make_grids.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def bits(values):
    """Every NaN counts as the same."""
    values = np.asarray(values, np.float32)
    return np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32))


@pytest.mark.parametrize("name", EXPANDED)
def test_rows_of_a_file_have_the_values_of_the_package(name):
    weight = Weight(name, 8 * 256, 40)
    row = len(weight.data) // 40
    wanted = weight.dequantized()[0]
    for r in range(40):
        got = testing.dequantize_row(name, weight.data[r * row : (r + 1) * row], 8 * 256)
        assert np.array_equal(bits(got), bits(wanted[r]))


@pytest.mark.parametrize("name", EXPANDED)
def test_any_bytes_are_a_block(name):
    """Scales too: zero, subnormal, negative, infinite and NaN ones."""
    block, size = QUANTS[name][:2]
    data = np.random.default_rng(7).integers(0, 256, (4096, size), np.uint8)
    with np.errstate(all="ignore"):
        wanted = gguf.quants.dequantize(
            data, getattr(gguf.GGMLQuantizationType, name.upper())
        ).reshape(-1)
    got = testing.dequantize_row(name, data.tobytes(), 4096 * block)
    assert np.array_equal(bits(got), bits(wanted))


@pytest.mark.parametrize("name", EXPANDED)
@pytest.mark.parametrize("rows", [1, 33])
def test_packed_rows_have_the_values_of_the_package(name, rows):
    width = 512 if QUANTS[name][0] == 256 else 3 * QUANTS[name][0]
    weight = Weight(name, width, rows)
    packed = testing.pack(name, weight.data, rows, width)
    for r in range(rows):
        values, _ = testing.unpack_row(name, packed, rows, width, r)
        assert np.array_equal(bits(values), bits(weight.dequantized()[0, r]))
