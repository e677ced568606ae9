"""Images to RGB, as the model's own processor makes them (by Pillow): upright, transparency on
white, 8 bits a colour, of an animation the first picture."""

from __future__ import annotations

import io
import warnings
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .._locks import ForkLock
from ..arguments import shown
from ..errors import MediaError
from .media_limits import check_pixels, extra
from .sources import bytes_of

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""[height, width, 3], red, green, blue."""

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM")
"""What is read. Pillow knows more, and runs other programs for some of them (Ghostscript for
EPS)."""

_WHITE = (255, 255, 255, 255)
_CLEAR = ("RGBA", "LA", "PA", "RGBa", "La")  # modes with an alpha channel
_quiet = ForkLock()  # of the filters of warnings, which are the process's


def read_image(source: Any, *, name: str = "the image", files: bool = True) -> Pixels:
    """Decodes an image to RGB, uint8 [height, width, 3].

    source: a path, the bytes of a file, a data URL, an image of Pillow, or an array: uint8
    [h, w, 3], [h, w, 4] with alpha, [h, w] or [h, w, 1] gray.
    name: of the image, for sentences. files: False: paths are refused.

    The orientation that a camera wrote into the file is applied. Raises `MediaError` for what is no
    image, for more than 64 million pixels or 50 MB, and `UsageError` without the extra `media`.
    """
    pillow = extra("PIL.Image", "reading images")
    if isinstance(source, np.ndarray):
        source = pillow.fromarray(_checked_array(name, source))
    if isinstance(source, pillow.Image):
        return _rgb(name, source, pillow)
    data = bytes_of(name, source, files)
    try:
        # Pillow warns from 89 million pixels on, which are refused here with a sentence.
        with _quiet.here(), warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
            pillow.init()
            known = [one for one in FORMATS if one in pillow.OPEN]
            opened = pillow.open(io.BytesIO(data), formats=known)
    except pillow.UnidentifiedImageError:
        raise MediaError(f"{name} is no image that can be read: {_what(data)}") from None
    except pillow.DecompressionBombError:
        raise MediaError(f"{name} has too many pixels; at most 64 million are read") from None
    except Exception as error:  # what a decoder makes of a damaged head
        raise MediaError(f"{name} cannot be decoded: {_reason(error)}") from error
    with opened:
        return _rgb(name, opened, pillow)


def _rgb(name: str, image: Any, pillow: Any) -> Pixels:
    check_pixels(name, *image.size)
    try:
        upright = extra("PIL.ImageOps", "reading images").exif_transpose(image)
        found = np.asarray(_flat(upright, pillow), dtype=np.uint8)
    except MemoryError:
        raise
    except MediaError as error:
        raise MediaError(f"{name} {error.sentence}") from None
    except Exception as error:  # truncated, or any other fault that a decoder meets
        raise MediaError(f"{name} cannot be decoded: {_reason(error)}") from error
    return np.ascontiguousarray(found)


def _flat(image: Any, pillow: Any) -> Any:
    """The image in RGB, without transparency."""
    if image.mode.startswith(("I", "F")):
        return _of_deep(image, pillow).convert("RGB")
    if image.mode in _CLEAR or "transparency" in image.info:
        clear = image.convert("RGBA")
        paper = pillow.new("RGBA", clear.size, _WHITE)
        paper.alpha_composite(clear)
        return paper.convert("RGB")
    return image.convert("RGB")


def _of_deep(image: Any, pillow: Any) -> Any:
    """Gray of 16 bits, which Pillow would cut at 255 instead of scaling it."""
    values = np.asarray(image)
    if image.mode == "F" or (values.size and (values.min() < 0 or values.max() > 65535)):
        raise MediaError(f"has pixels of mode {image.mode}, whose range is unknown: save 8 bits")
    scaled = (values.astype(np.uint32) + 128) // 257
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        scaled[values == clear] = 255
    return pillow.fromarray(scaled.astype(np.uint8))


def _checked_array(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shape or array.size == 0:
        raise MediaError(
            f"{name} is an array {list(array.shape)} of {array.dtype}; it must be uint8 "
            "[height, width, 3], or [h, w, 4] with alpha, or [h, w] gray"
        )
    check_pixels(name, array.shape[1], array.shape[0])
    return np.ascontiguousarray(array)


_MAGIC = {
    b"%PDF": "a PDF",
    b"<svg": "an SVG, which is a drawing",
    b"<?xm": "XML",
    b"%!PS": "PostScript",
    b"RIFF": "a WAV or WebP file that is damaged, or a video",
    b"\x1aE\xdf\xa3": "a video (Matroska or WebM)",
}


def _what(data: bytes) -> str:
    """What bytes are that no decoder knows."""
    if not data:
        return "it is empty"
    if data[4:8] == b"ftyp":
        return "it is a video or HEIC; save it as JPEG, PNG or WebP"
    found = _MAGIC.get(data[:4])
    if found:
        return f"it is {found}; PNG, JPEG, WebP, GIF, BMP and TIFF are read"
    return f"it begins with {shown(data[:12])}; PNG, JPEG, WebP, GIF, BMP and TIFF are read"


def _reason(error: Exception) -> str:
    """A decoder's words on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
