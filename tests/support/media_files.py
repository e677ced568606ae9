"""Tiny multimodal models for tests, converted from the checkpoints of tests/golden/media when first
asked for, and their reference values.

NAMES are the random ones: towers of E2B's, 31B's and 12B's kind. The trained towers belong to the
embedded pair: `pillion.models.TINY_MMPROJ`; SAMPLES holds what they read and hear rightly.
tests/golden/media/README.md explains the keys of the goldens.
"""

import atexit
import functools
import json
import shutil
import tempfile
import wave
from pathlib import Path

import numpy as np

MEDIA = Path(__file__).resolve().parents[1] / "golden" / "media"
SAMPLES = MEDIA / "samples"
NAMES = ("tiny-mm-e2b", "tiny-mm-31b", "tiny-mm-12b")


@functools.cache
def _folder():
    folder = Path(tempfile.mkdtemp(prefix="pillion-media-"))
    atexit.register(shutil.rmtree, folder, True)
    return folder


@functools.cache
def target(name, outtype="auto"):
    """Path of a text model: "tiny-mm-e2b"."""
    from pillion.convert import convert

    out = _folder() / f"{name}-{outtype}.gguf"
    convert(MEDIA / name, out, outtype=outtype, name=name)
    return out


def assistant(name):
    """Path of its drafter: random, so that hardly any draft is accepted."""
    return target(f"{name}-assistant")


@functools.cache
def mmproj(name, outtype="f32"):
    """Path of its towers, of one of convert's types."""
    from pillion.convert import convert_mmproj

    out = _folder() / f"mmproj-{name}-{outtype}.gguf"
    convert_mmproj(MEDIA / name, out, outtype=outtype, name=name)
    return out


@functools.cache
def golden(name):
    """{key: array} of a random model, or of "trained"."""
    with np.load(MEDIA / f"{name}.npz") as found:
        return {key: found[key] for key in found}


@functools.cache
def labels():
    """{file of SAMPLES: {"label": word, "answer_ids": [...], "lead": logits}}: 20 pictures, then
    10 sounds."""
    return json.loads((SAMPLES / "labels.json").read_text("utf-8"))


def picture(name):
    """A picture of SAMPLES as RGB bytes [height, width, 3]."""
    from PIL import Image

    with Image.open(SAMPLES / name) as image:
        return np.asarray(image.convert("RGB"))


def sound(name):
    """A sound of SAMPLES as float32 samples at 16 kHz."""
    with wave.open(str(SAMPLES / name)) as file:
        return np.frombuffer(file.readframes(-1), "<i2").astype(np.float32) / 32768
