"""Where the golden models are, and their prompts (tests/golden/make_golden.py)."""

from pathlib import Path

import numpy as np


GOLDEN = Path(__file__).resolve().parent.parent / "golden"
SHAPES = ["tiny-e2b", "tiny-e4b-dims", "tiny-dense", "tiny-moe", "tiny-gemma3", "tiny-llama"]


def model_path(name):
    return GOLDEN / f"{name}.gguf"


def prompt(name, n=300):
    """Tokens of the longer prompt, over and over; 300 are more than a ring of 256 positions."""
    ids = np.load(GOLDEN / f"{name}.npz")["long.ids"].tolist()
    return (ids * (n // len(ids) + 1))[:n]
