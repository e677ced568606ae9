"""The vision tower of an mmproj file: rows beside those of transformers, grids, threads."""

import threading

import media_files
import numpy as np
import pytest
from device_models import nmse

# NMSE of the rows. Products by float weights take float activations, which leaves the differences
# of float32 sums; quantized weights take int8 activations. f16: what the rounding of the weights
# costs (the stored ones are bf16).
BOUNDS = {"f32": 1e-8, "bf16": 1e-8, "f16": 1e-6, "q8_0": 5e-4}
# The reference stretched 12B's pictures by torchvision, which differs from Pillow by one level in
# 0.2 % of the bytes; "exact" needs no stretching.
RESAMPLED = 1e-6
PICTURES = {
    "tiny-mm-e2b": ("wide", "tall"),
    "tiny-mm-31b": ("wide", "tall", "exact"),
    "tiny-mm-12b": ("wide", "tall", "exact"),
}
RANDOM = [
    (model, outtype, picture)
    for model, pictures in PICTURES.items()
    for outtype in BOUNDS
    for picture in pictures
]


def picture(name="wide", model="tiny-mm-e2b"):
    return media_files.golden(model)[f"img.{name}.rgb"]


@pytest.mark.parametrize("model, outtype, name", RANDOM)
def test_rows_equal_the_reference(opened, model, outtype, name):
    golden = media_files.golden(model)
    rows = opened(model, outtype).encode_image(golden[f"img.{name}.rgb"], 70)
    want = golden[f"img.{name}.embed"]
    assert rows.shape == want.shape and rows.dtype == np.float32
    resampled = model == "tiny-mm-12b" and name != "exact"
    assert nmse(rows, want) <= max(BOUNDS[outtype], RESAMPLED if resampled else 0)


@pytest.mark.parametrize("name", ["digit-04", "digit-10", "digit-15"])
@pytest.mark.parametrize("outtype", ["embedded", "q8_0"])
def test_rows_of_the_trained_tower(pillion, tmp_path_factory, name, outtype):
    from pillion.models import TINY_MMPROJ

    path = TINY_MMPROJ
    if outtype != "embedded":
        path = tmp_path_factory.mktemp("trained") / "mmproj.gguf"
        pillion.quantize(TINY_MMPROJ, path, outtype.upper())
    golden = media_files.golden("trained")
    gray = golden[f"{name}.pixels"]
    with pillion.Mmproj(path) as mmproj:
        rows = mmproj.encode_image(np.repeat(gray[..., None], 3, 2), 70)
    assert nmse(rows, golden[f"{name}.embed"]) <= (1e-8 if outtype == "embedded" else 5e-4)


# 4:3 gives these whatever the size of the source; the others are edges of the rule.
@pytest.mark.parametrize(
    "height, width, image_tokens, grid",
    [
        (480, 640, 70, (7, 9)),
        (3024, 4032, 140, (10, 13)),
        (480, 640, 280, (14, 19)),
        (48, 64, 560, (20, 27)),
        (1536, 2048, 1120, (28, 38)),
        (10, 16000, 70, (1, 70)),
        (16000, 10, 280, (280, 1)),
        (1, 1, 1, (1, 1)),
        (48, 48, 1120, (33, 33)),
    ],
)
def test_grids(opened, height, width, image_tokens, grid):
    assert opened("tiny-mm-e2b").image_grid(height, width, image_tokens) == grid


def test_threads_do_not_change_a_bit(opened):
    rows = [opened("tiny-mm-e2b", "q8_0", n).encode_image(picture(), 70) for n in (1, 2, 3)]
    assert (rows[0] == rows[1]).all() and (rows[0] == rows[2]).all()


def test_a_larger_picture_and_a_smaller_one_again(opened):
    """A plan for more tokens gives the bits of one for fewer."""
    mmproj = opened("tiny-mm-e2b", "q8_0")
    first = mmproj.encode_image(picture(), 60)
    large = mmproj.encode_image(picture(), 300)
    assert len(large) > 280
    again = mmproj.encode_image(picture(), 60)
    assert (first == again).all()


def test_a_picture_too_long_for_the_position_table(pillion, opened):
    strip = np.zeros((1, 300, 3), np.uint8)
    with pytest.raises(pillion.UsageError, match=r"1 x 75 tokens has 225 patches.* has 224"):
        opened("tiny-mm-e2b").encode_image(strip, 75)


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        [[[0, 0, 0]]],
        None,
    ],
    ids=["gray", "alpha", "empty", "floats", "a list", "None"],
)
def test_what_is_no_picture(pillion, opened, rgb):
    with pytest.raises(pillion.UsageError, match="rgb"):
        opened("tiny-mm-e2b").encode_image(rgb)


@pytest.mark.parametrize("image_tokens", [0, -1, 1121, "70", 1.5])
def test_other_numbers_of_tokens(pillion, opened, image_tokens):
    with pytest.raises(pillion.UsageError, match="image_tokens"):
        opened("tiny-mm-e2b").encode_image(picture(), image_tokens)


def test_several_threads_of_python(opened):
    mmproj = opened("tiny-mm-e2b")
    want, got = mmproj.encode_image(picture(), 70), [None] * 4

    def work(i):
        got[i] = mmproj.encode_image(picture(), 70)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((rows == want).all() for rows in got)
