"""Settings of a sampler from llama-cpp-python's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import check_int, check_number, shown
from ..errors import UsageError
from ..foreign_names import CALLS

_OFF = {"typical_p": 1.0, "tfs_z": 1.0, "mirostat_mode": 0}


def checked_sampling(given: Mapping[str, Any], temperature: str, last_n: int) -> dict[str, Any]:
    """Fields of `SamplingParams`, without seed and bias. temperature: the name of that argument.

    Samplers that pillion lacks are taken where they are off, and are a sentence otherwise.
    """
    for name, off in _OFF.items():
        if check_number(name, given[name]) != off:
            raise UsageError(f"{name}={shown(given[name])} is no sampler of pillion: {CALLS[name]}")
    top_k = max(check_int("top_k", given["top_k"], None, 2**31 - 1), 0)
    top_p = check_number("top_p", given["top_p"])
    if top_p <= 0:  # at least one token stays: the most likely
        top_k, top_p = 1, 1.0
    return {
        "temperature": check_number(temperature, given[temperature], 0, None, "0 or more"),
        "top_k": top_k,
        "top_p": min(top_p, 1.0),
        "min_p": max(check_number("min_p", given["min_p"]), 0.0),
        "repeat_penalty": given["repeat_penalty"],
        "frequency_penalty": given["frequency_penalty"],
        "presence_penalty": given["presence_penalty"],
        "penalty_last_n": last_n,
    }
