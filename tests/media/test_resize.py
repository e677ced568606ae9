"""pillion_resize_image beside Pillow's bicubic: equal to the bit."""

import numpy as np
import pytest
from PIL import Image


def resized(pillion, rgb, height, width):
    native = pillion._native
    rgb = np.ascontiguousarray(rgb)
    out = np.full((height, width, 3), 0xA5, np.uint8)
    native.check(
        native.lib.pillion_resize_image(
            native.ffi.from_buffer("uint8_t[]", rgb),
            *rgb.shape[:2],
            height,
            width,
            native.ffi.from_buffer("uint8_t[]", out),
        )
    )
    return out


def by_pillow(rgb, height, width):
    """Width first in every version: from 13 on Pillow begins with the height where more of it goes
    than twice of the width."""
    image = Image.fromarray(rgb)
    for size in ((width, rgb.shape[0]), (width, height)):
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)


def picture(r, height, width, kind):
    if kind == 0:  # noise overshoots at both ends, so that bytes are clipped after each pass
        return r.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == 1:
        return r.choice(np.array([0, 255], np.uint8), (height, width, 3))
    y, x = np.mgrid[:height, :width]
    waves = [128 + 127 * np.sin(y / (3 + c) + x / (5 - c) + c) for c in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def side(r):
    """1 as often as 2 to 20 and up to 400."""
    return int(r.choice([1, r.integers(2, 20), r.integers(20, 400)]))


def test_equals_pillow_for_random_sizes(pillion):
    r = np.random.default_rng(7)
    for n in range(300):
        height, width, out_height, out_width = (side(r) for _ in range(4))
        # a pass without change is left out
        out_height, out_width = (
            height if n % 7 == 1 else out_height,
            width if n % 7 == 2 else out_width,
        )
        rgb = picture(r, height, width, n % 3)
        np.testing.assert_array_equal(
            resized(pillion, rgb, out_height, out_width),
            by_pillow(rgb, out_height, out_width),
            err_msg=f"{height} x {width} to {out_height} x {out_width}, case {n}",
        )


@pytest.mark.parametrize(
    "height, width, out_height, out_width",
    [
        (1080, 1920, 576, 1056),  # a screen at 280 soft tokens, 192 at 70
        (1080, 1920, 288, 528),
        (96, 96, 384, 384),
        (48, 48, 48, 48),
        (3000, 1, 1440, 48),
        (1, 20000, 48, 3360),
        (2, 70000, 48, 96),
        (70001, 3, 96, 48),
    ],
)
def test_equals_pillow(pillion, height, width, out_height, out_width):
    rgb = picture(np.random.default_rng(height), height, width, 0)
    np.testing.assert_array_equal(
        resized(pillion, rgb, out_height, out_width), by_pillow(rgb, out_height, out_width)
    )


@pytest.mark.parametrize(
    "shape, out, sentence",
    [
        ((0, 3), (1, 1), "an image of 0 x 3 pixels: a side has 1 to 1048576"),
        ((3, 0), (1, 1), "an image of 3 x 0 pixels"),
        ((3, 3), (-1, 1), "a resized image of -1 x 1 pixels: a side has 1 to 1048576"),
        ((3, 3), (1, 2**20 + 1), "a resized image of 1 x 1048577 pixels"),
        ((3, 3), (2**20, 65), "it has at most 67108864 in all"),
    ],
)
def test_sizes_beyond_the_limits_are_refused(pillion, shape, out, sentence):
    with pytest.raises(pillion.UsageError, match=sentence):
        native = pillion._native
        byte = native.ffi.new("uint8_t[27]")  # read and written by nobody
        native.check(native.lib.pillion_resize_image(byte, *shape, *out, byte))


def test_a_missing_picture_is_named(pillion):
    native = pillion._native
    byte = native.ffi.new("uint8_t[3]")
    for image, out, name in ((native.ffi.NULL, byte, "rgb"), (byte, native.ffi.NULL, "out_rgb")):
        with pytest.raises(pillion.UsageError, match=f"{name} is NULL"):
            native.check(native.lib.pillion_resize_image(image, 1, 1, 1, 1, out))
