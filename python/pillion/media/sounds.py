"""Sounds to what the model hears: mono, 16 kHz, float32 (soundfile decodes, soxr resamples)."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..arguments import check_int, shown
from ..errors import MediaError
from .media_limits import check_seconds, extra
from .sources import bytes_of

Samples: TypeAlias = npt.NDArray[np.float32]
"""[n], mono, 16 kHz, -1 to 1."""

SAMPLE_RATE = 16_000
"""Samples a second that the model hears."""

_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "MPEG", "AIFF", "AU", "CAF")
_READ = "WAV, FLAC, OGG and MP3 are read"
_RATES = (1_000, 384_000)
_CHANNELS_MAX = 64
_BLOCK = 1 << 16  # frames that are decoded at a time


def read_sound(
    source: Any, *, rate: int | None = None, name: str = "the sound", files: bool = True
) -> Samples:
    """Decodes a sound to mono samples at 16 kHz, float32 [n], -1 to 1.

    source: a path, the bytes of a file (WAV, FLAC, OGG, MP3), a data URL, or samples: an array [n]
    or [n, channels] of floats or whole numbers, alone, with its rate as (array, rate), or as
    {"array": …, "sampling_rate": …}, which data sets of Hugging Face have.
    rate: samples a second of an array alone; None: 16000.
    name: of the sound, for sentences. files: False: paths are refused.

    Channels are averaged. Raises `MediaError` for what is no sound, for more than 30 minutes or
    50 MB, and `UsageError` without the extra `media`.
    """
    if isinstance(source, Mapping) and "array" in source:
        source, rate = np.asarray(source["array"]), source.get("sampling_rate", rate)
    elif isinstance(source, tuple) and len(source) == 2:
        source, rate = np.asarray(source[0]), source[1]
    if isinstance(source, np.ndarray):
        given = SAMPLE_RATE if rate is None else _checked_rate(name, rate)
        return _resampled(name, iter([_of_array(name, source, given)]), given)
    return _decoded(name, bytes_of(name, source, files))


def _decoded(name: str, data: bytes) -> Samples:
    soundfile = extra("soundfile", "reading sounds")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in _FORMATS:
                raise MediaError(f"{name} is a {file.format} file; {_READ}")
            if file.channels > _CHANNELS_MAX:
                many = f"{file.channels} channels; at most {_CHANNELS_MAX} are read"
                raise MediaError(f"{name} has {many}")
            rate = _checked_rate(name, file.samplerate)
            check_seconds(name, _stated(file.frames) / rate)
            return _resampled(name, _blocks(file), rate)
    except soundfile.LibsndfileError as error:
        raise MediaError(f"{name} is no sound that can be read: {_what(data, error)}") from None


def _stated(frames: int) -> int:
    """Frames that a file's head names; a stream names more than any file could hold."""
    return frames if 0 <= frames < 1 << 48 else 0


def _blocks(file: Any) -> Iterator[Samples]:
    while True:
        block = file.read(_BLOCK, dtype="float32", always_2d=True)
        if not len(block):
            return
        yield _mono(block)


def _mono(samples: npt.NDArray[np.float32]) -> Samples:
    found: Samples = samples.mean(axis=1, dtype=np.float32)
    return found


def _resampled(name: str, blocks: Iterator[Samples], rate: int) -> Samples:
    """The blocks at 16 kHz. They are counted, since a head may lie about their number."""
    stream = None
    if rate != SAMPLE_RATE:
        soxr = extra("soxr", "resampling sounds")
        stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    parts: list[Samples] = []
    n = 0
    for block in blocks:
        n += len(block)
        check_seconds(name, n / rate)
        if not np.isfinite(block).all():
            raise MediaError(f"{name} has samples that are no numbers (NaN or infinite)")
        parts.append(block if stream is None else stream.resample_chunk(block))
    if stream is not None:
        parts.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    if n == 0:
        raise MediaError(f"{name} is empty: it has no samples")
    return np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)


def _of_array(name: str, array: npt.NDArray[Any], rate: int) -> Samples:
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] > _CHANNELS_MAX):
        shape = list(array.shape)
        raise MediaError(f"{name} is an array {shape}; it must be [n] or [n, channels]")
    check_seconds(name, len(array) / rate)
    found: Samples
    if array.dtype == np.uint8:
        found = (array.astype(np.float32) - np.float32(128)) / np.float32(128)
    elif array.dtype.kind == "i" and array.dtype.itemsize in (2, 4):
        found = array.astype(np.float32) / np.float32(2 ** (8 * array.dtype.itemsize - 1))
    elif array.dtype.kind == "f":
        found = array.astype(np.float32)
    else:
        raise MediaError(f"{name} is an array of {array.dtype}; it must be float, int16 or int32")
    return found if found.ndim == 1 else _mono(found)


def _checked_rate(name: str, rate: Any) -> int:
    least, most = _RATES
    return check_int(f"the sample rate of {name}", rate, least, most)


def pieces_of(samples: Samples, most: int | None) -> list[Samples]:
    """The sound in pieces of `most` samples at most, as the tower takes them (None: any number)."""
    if most is None or len(samples) <= most:
        return [samples]
    return [samples[at : at + most] for at in range(0, len(samples), most)]


def seconds_of(samples: Samples) -> float:
    """Its length in seconds, with two digits."""
    return math.floor(100 * len(samples) / SAMPLE_RATE) / 100


_MAGIC = {
    b"\x1aE\xdf\xa3": "it is WebM or Matroska",
    b"ftyp": "it is MP4 or M4A",
    b"#!AM": "it is AMR",
}


def _what(data: bytes, error: Exception) -> str:
    if not data:
        return "it is empty"
    known = _MAGIC.get(data[:4]) or _MAGIC.get(data[4:8])
    if known:
        return f"{known}; {_READ}"
    said = " ".join(str(error).split()).rstrip(".")
    return f"it begins with {shown(data[:12])} ({said}); {_READ}"
