"""Images of all kinds become the same RGB, or an error that says why not."""

import base64
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from pillion import MediaError, UsageError
from pillion.media import media_limits, read_image
from pillion.media.budget import budget_for, budget_of_detail, checked_budget


def drawn(height=30, width=44):
    """A picture that no turn and no flip leaves as it is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // height, x * 255 // width, (x * y) % 256], axis=2).astype(np.uint8)


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


PIXELS = drawn()
PICTURE = Image.fromarray(PIXELS)


def test_every_way_to_hand_an_image_over(tmp_path):
    data = saved(PICTURE, "PNG")
    path = tmp_path / "a b.png"
    path.write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    spaced = "data:image/png;base64," + base64.encodebytes(data).decode()
    quoted = "data:image/png," + "".join(f"%{byte:02x}" for byte in data)
    for source in (
        path, str(path), path.as_uri(), data, bytearray(data), memoryview(data), url, spaced,
        quoted, PICTURE, PIXELS,
    ):  # fmt: skip
        found = read_image(source)
        assert found.dtype == np.uint8 and found.flags.c_contiguous
        assert np.array_equal(found, PIXELS), str(source)[:40]


@pytest.mark.parametrize("tag", range(1, 9))
def test_a_photo_of_any_orientation_is_upright(tag):
    """llama.cpp shows phone photos sideways."""
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[tag]  # Image.Transpose, inverted
    turned = PICTURE if undo is None else PICTURE.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = tag
    assert np.array_equal(read_image(saved(turned, "PNG", exif=exif)), PIXELS)
    photo = saved(turned, "JPEG", exif=exif, quality=95, subsampling=0)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(photo))))
    assert np.array_equal(read_image(photo), upright)
    assert np.abs(upright.astype(int) - PIXELS).mean() < 6  # and it is that picture


def clear_half():
    """A picture whose right half is clear, with wild colours under it."""
    alpha = np.full(PIXELS.shape[:2], 255, np.uint8)
    alpha[:, 22:] = 0
    expected = PIXELS.copy()
    expected[:, 22:] = 255
    return alpha, expected


def test_transparency_lies_on_white():
    alpha, expected = clear_half()
    rgba = Image.fromarray(np.dstack([PIXELS, alpha]))
    for form in ("PNG", "TIFF"):
        assert np.array_equal(read_image(saved(rgba, form)), expected), form
    webp = read_image(saved(rgba, "WEBP", lossless=True, exact=True))
    assert np.array_equal(webp, expected)
    assert np.array_equal(read_image(np.dstack([PIXELS, alpha])), expected)
    gray = np.asarray(PICTURE.convert("L"))
    la = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])
    found = read_image(saved(la, "PNG"))
    assert (found[:, 22:] == 255).all() and np.array_equal(found[:, :22, 1], gray[:, :22])
    half = Image.new("RGBA", (2, 2), (200, 0, 100, 51))
    assert (read_image(saved(half, "PNG")) == [244, 204, 224]).all()


def test_palettes_and_single_clear_colours():
    indexed = Image.new("P", (4, 1))
    indexed.putpalette([250, 1, 2, 9, 200, 30, 0, 0, 255, 70, 70, 70])
    indexed.putdata([0, 1, 2, 3])
    data = saved(indexed, "PNG", transparency=bytes([255, 0, 255, 255]))
    assert read_image(data).tolist() == [[[250, 1, 2], [255, 255, 255], [0, 0, 255], [70, 70, 70]]]
    keyed = saved(
        Image.fromarray(np.uint8([[[5, 6, 7], [8, 9, 10]]])), "PNG", transparency=(5, 6, 7)
    )
    assert read_image(keyed).tolist() == [[[255, 255, 255], [8, 9, 10]]]
    bits = Image.fromarray(np.uint8([[0, 255], [255, 0]])).convert("1")
    assert read_image(saved(bits, "PNG"))[:, :, 2].tolist() == [[0, 255], [255, 0]]


def test_deep_gray_is_scaled_and_not_cut():
    """Pillow's own conversion cuts 16 bits at 255, so that all is white."""
    deep = np.uint16([[0, 257, 32768, 65535]])
    found = read_image(saved(Image.fromarray(deep), "PNG"))
    assert found[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (found == found[:, :, :1]).all()
    with pytest.raises(MediaError, match="the image has pixels of mode F, whose range is unknown"):
        read_image(saved(Image.fromarray(np.float32([[0.5]])), "TIFF"))


def png_of_16_bits(pixels):
    """A PNG of three colours of 16 bits each; uint16 [h, w, 3]."""

    def chunk(kind, body):
        data = kind + body
        return struct.pack(">I", len(body)) + data + struct.pack(">I", zlib.crc32(data))

    height, width, _ = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_colours_of_16_bits_ink_and_animations():
    found = read_image(png_of_16_bits(PIXELS.astype(np.uint16) * 257))
    assert np.array_equal(found, PIXELS)
    ink = read_image(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert (ink[..., 0] > 200).all() and (ink[..., 1:] < 60).all()  # magenta and yellow are red
    first, second = (Image.new("RGB", (6, 5), colour) for colour in ("red", "blue"))
    for form in ("GIF", "WEBP", "PNG"):
        moving = saved(first, form, save_all=True, append_images=[second])
        found = read_image(moving)
        assert found.shape == (5, 6, 3) and (found[..., 0] > 240).all(), form


@pytest.mark.parametrize("form", ["WEBP", "JPEG", "BMP", "GIF", "TIFF", "JPEG2000", "PPM"])
def test_formats(form):
    flat = Image.new("RGB", (16, 9), (10, 200, 30))
    found = read_image(saved(flat, form)).astype(int)
    assert found.shape == (9, 16, 3) and np.abs(found - [10, 200, 30]).max() <= 4


def cut_off(form):
    data = saved(Image.fromarray(drawn(200, 200)), form)
    return data[: len(data) // 2]


NO_IMAGES = [
    (cut_off("JPEG"), "the image cannot be decoded: image file is truncated"),
    (cut_off("PNG"), "cannot be decoded"),
    (b"Just a text.\n", r"is no image that can be read: it begins with b'Just a text"),
    (b"", "it is empty"),
    (b"\0\0\0\x18ftypheic\0\0", "HEIC; save it as JPEG, PNG or WebP"),
    (b"%PDF-1.7 ...", "it is a PDF"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    ("data:image/png;base64,A", "is not base64"),
    ("data:image/png;base64,é", "is not base64"),
    ("data:image/png;base64", "has a comma"),
    ("https://example.com/a.png", "nothing is fetched from the net: download it"),
    ("/no/such/file.png", "cannot be read: /no/such/file.png: No such file"),
    (os.curdir, "cannot be read|no plain file"),
    (17, "must be a path|must be a data URL"),
]


@pytest.mark.parametrize("data, reason", NO_IMAGES, ids=range(len(NO_IMAGES)))
def test_what_is_no_image_is_told(data, reason):
    with pytest.raises(MediaError, match=reason):
        read_image(data)


def test_arrays_that_are_no_images():
    for array in (PIXELS / 255, PIXELS[None], np.zeros((0, 3, 3), np.uint8), PIXELS[:, :, :2]):
        with pytest.raises(MediaError, match=r"it must be uint8 \[height, width, 3\]"):
            read_image(array)


def test_strangers_name_no_files(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(saved(PICTURE, "PNG"))
    for source in (str(path), path, path.as_uri(), "https://example.com/a.png", "/dev/zero"):
        with pytest.raises(MediaError, match="data URL"):
            read_image(source, files=False)
    url = "data:;base64," + base64.b64encode(path.read_bytes()).decode()
    assert np.array_equal(read_image(url, files=False), PIXELS)


def bomb(width, height):
    """A PNG of a few bytes that says it has so many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
        + struct.pack(">I", 10) + b"IDAT" + b"\0" * 14
    )  # fmt: skip


def test_limits_hold_before_anything_is_decoded(recwarn, tmp_path):
    with pytest.raises(MediaError, match="8001 x 8000 pixels, 64 million; at most 64 million"):
        read_image(bomb(8001, 8000))
    for size in ((10_000, 10_000), (30_000, 30_000)):  # Pillow warns of one and refuses the other
        with pytest.raises(MediaError, match="at most 64 million are read"):
            read_image(bomb(*size))
    assert not recwarn.list
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(media_limits.FILE_BYTES_MAX + 1)  # a hole: nothing is written
    with pytest.raises(MediaError, match="50,000,001 bytes; at most 50,000,000"):
        read_image(large)
    with pytest.raises(MediaError, match="at most 50,000,000"):
        read_image("data:;base64," + "A" * 68_000_000)


def test_budgets_of_images():
    assert [checked_budget("n", one) for one in (70, 1120, "auto", np.int64(280))] == [
        70, 1120, "auto", 280,
    ]  # fmt: skip
    for wrong in (71, 0, -1, True, None, 280.0, "280", "Auto", [280]):
        with pytest.raises(UsageError, match=r"n is .*; it must be 70, 140, 280, 560, 1120 or"):
            checked_budget("n", wrong)
    given = (None, "auto", "original", "low", "high")
    assert [budget_of_detail("detail", one) for one in given] == [None, None, None, 70, 1120]
    for wrong in ("medium", 5, ["low"]):
        with pytest.raises(UsageError, match="it must be 'low', 'high' or 'auto'"):
            budget_of_detail("detail", wrong)


def test_auto_takes_the_smallest_budget_that_shows_all_pixels():
    cases = {(384, 384): 70, (401, 402): 70, (402, 402): 140, (640, 480): 140, (800, 600): 280,
             (1080, 1920): 1120, (3024, 4032): 1120, (1, 1): 70}  # fmt: skip
    assert {size: budget_for("auto", *size) for size in cases} == cases
    assert budget_for(560, 1, 1) == 560


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UsageError, match=r"needs PIL.Image: pip install 'pillion\[media\]'"):
        read_image(b"")
