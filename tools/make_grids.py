"""Writes csrc/core/grids.h: the code books of the formats IQ1, IQ2 and IQ3, one number an entry.

    python tools/make_grids.py            writes the file
    python tools/make_grids.py --check    exits with 1 where the file is not what would be written

The books are part of the formats, and the gguf package has them as values of weights. Here an entry
is the places of its values in the list of magnitudes, lowest first: 2 bits a value (8 values) for
IQ1 and IQ2, 3 bits a value (4 values) for IQ3. What was packed is unpacked again and compared with
the package before anything is written.
"""

import argparse
import sys
from pathlib import Path

import gguf
import numpy as np

TARGET = Path(__file__).resolve().parents[1] / "csrc" / "core" / "grids.h"
BOOKS = [  # name in C, name in the package, magnitudes, bits of a place
    ("kGridIq2Xxs", "IQ2_XXS", (8, 25, 43), 2),
    ("kGridIq2Xs", "IQ2_XS", (8, 25, 43), 2),
    ("kGridIq2S", "IQ2_S", (8, 25, 43), 2),
    ("kGridIq1", "IQ1_S", (-1, 0, 1), 2),
    ("kGridIq3Xxs", "IQ3_XXS", (4, 12, 20, 28, 36, 44, 52, 62), 3),
    ("kGridIq3S", "IQ3_S", (1, 3, 5, 7, 9, 11, 13, 15), 3),
]
HEAD = """\
// The code books of the formats IQ1, IQ2 and IQ3. Written by tools/make_grids.py: don't edit.
// An entry holds places in the list of magnitudes, the first input's lowest: 2 bits a place and 8
// inputs (IQ2: 8, 25, 43; IQ1: -1, 0, 1), or 3 bits a place and 4 inputs (IQ3: blocks.h).
#pragma once
#include <stdint.h>

namespace pillion {
"""


def book(name, magnitudes, bits):
    cls = getattr(gguf.quants, name)
    cls.init_grid()
    values = np.asarray(cls.grid).reshape(cls.grid_shape).astype(int)
    places = np.searchsorted(magnitudes, values)
    entries = (places << (bits * np.arange(values.shape[1]))).sum(axis=1)
    back = entries[:, None] >> (bits * np.arange(values.shape[1])) & (2**bits - 1)
    if entries.max() >= 1 << 16 or not np.array_equal(np.asarray(magnitudes)[back], values):
        sys.exit(f"{name}: the book does not come back from its places")
    return entries


def text():
    out = HEAD
    for c_name, name, magnitudes, bits in BOOKS:
        entries = book(name, magnitudes, bits)
        out += f"\nstatic constexpr uint16_t {c_name}[{len(entries)}] = {{\n"
        for i in range(0, len(entries), 13):  # lines of at most 100 columns
            out += "    " + ", ".join(str(e) for e in entries[i : i + 13]) + ",\n"
        out += "};\n"
    return out + "\n}  // namespace pillion\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if parser.parse_args().check:
        sys.exit(
            0 if TARGET.read_text() == text() else f"{TARGET}: not what tools/make_grids.py writes"
        )
    TARGET.write_text(text())


if __name__ == "__main__":
    main()
