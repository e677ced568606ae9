"""Sampling settings of a checkpoint and where a model file has them; text of a model file."""

from __future__ import annotations

import math
from typing import Any

from .errors import ModelFileError, UsageError
from .model import Metadata
from .sampling import Sampler, SamplingParams

SAMPLING_KEYS = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repeat_penalty": "general.sampling.penalty_repeat",
    "penalty_last_n": "general.sampling.penalty_last_n",
}
"""Where a model file may name the sampling settings its makers recommend."""

_WHOLE = ("top_k", "penalty_last_n")
_LONGEST = 60


def sampling_setting(path: str, name: str, key: str, value: Any) -> Any:
    """The value of a field of `SamplingParams` as the file at `path` has it under `key`.

    Raises ModelFileError with key, value and limit.
    """
    kind = "an integer" if name in _WHOLE else "a finite number"
    if not _is_number(value) or (name in _WHOLE and value != int(value)):
        raise ModelFileError(f"{path}: key {key} is {_shown(value)}; it must be {kind}")
    if name in _WHOLE:
        value = max(int(value), 0 if name == "top_k" else -1)  # others write anything negative
    try:
        Sampler(SamplingParams(**{name: value})).close()  # the library has limits of its own
    except UsageError as error:
        raise ModelFileError(f"{path}: key {key}: {error.sentence}") from None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def metadata_text(metadata: Metadata, key: str) -> str | None:
    """A string of the file, None without the key. Raises ModelFileError for another type."""
    if key not in metadata:
        return None
    value = metadata[key]
    if isinstance(value, str):
        return value
    raise ModelFileError(f"{metadata.path}: key {key} is {_shown(value)}; it must be a string")


def _shown(value: Any) -> str:
    if value is None:
        return "not finite"
    kind = {str: "the string ", list: "the array ", bool: "the bool "}.get(type(value), "")
    text = repr(value)
    return kind + (text if len(text) <= _LONGEST else text[:_LONGEST] + "…")
