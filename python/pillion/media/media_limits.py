"""How much of images and sounds may come. All limits hold before anything is decoded, because files
may come from strangers: a picture of 100 kB can hold gigabytes of pixels."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import MediaError, UsageError

PIXELS_MAX = 64_000_000
"""Pixels of an image: width times height."""
FILE_BYTES_MAX = 50_000_000
"""Bytes of a file, as it is, before base64."""
MEDIA_MAX = 16
"""Images and sounds of one request."""
SECONDS_MAX = 30 * 60
"""Seconds of a sound."""


def check_bytes(where: str, n: int) -> None:
    """Raises `MediaError` for a file that is too large. where: names it, for the sentence."""
    if n > FILE_BYTES_MAX:
        raise MediaError(f"{where} has {n:,} bytes; at most {FILE_BYTES_MAX:,} are read")


def check_pixels(where: str, width: int, height: int) -> None:
    """Raises `MediaError` for an image that is too large, or that has no pixel."""
    if width < 1 or height < 1:
        raise MediaError(f"{where} has {width} x {height} pixels; an image has at least one")
    if width * height > PIXELS_MAX:
        raise MediaError(
            f"{where} has {width} x {height} pixels, {width * height / 1e6:.0f} million; "
            f"at most {PIXELS_MAX // 1_000_000} million are read: make it smaller"
        )


def check_seconds(where: str, seconds: float) -> None:
    """Raises `MediaError` for a sound that is too long."""
    if seconds > SECONDS_MAX:
        raise MediaError(
            f"{where} lasts {seconds / 60:.1f} minutes; at most {SECONDS_MAX // 60} are read"
        )


def extra(module: str, what: str) -> Any:
    """A module of the extra `media`. what: it does, for the sentence. Raises `UsageError` without
    the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{what} needs {module}: pip install 'pillion[media]'") from error
