"""What `inspect_file` says of an mmproj file, alone or beside its model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from .errors import PillionError
from .mmproj import Mmproj
from .model import Model

Facts = dict[str, Any]

_EXACT = (".conv_dw.weight", "a.conv1d.0.weight", "a.conv1d.1.weight", "v.position_embd.weight")
"""Ends of the names of tensors that readers take for F32."""


def describe_towers(path: str | os.PathLike[str], model: Model | None = None) -> Facts:
    """{"path", "fits", "reason"}, and what the file holds where it can be opened: "n_embd",
    "vision", "audio", "file_bytes", "tensor_types".

    fits: of a model; None: none was given. reason: why it does not fit, or does not open."""
    facts: Facts = {"path": os.fspath(path), "fits": None, "reason": None}
    try:
        with Mmproj(path, n_threads=1) as towers:
            facts |= {name: one for name, one in towers.describe().items() if name != "n_threads"}
    except PillionError as error:
        return facts | {"fits": None if model is None else False, "reason": error.sentence}
    if model is not None:
        facts["fits"] = facts["n_embd"] == model.n_embd
        if not facts["fits"]:
            facts["reason"] = (
                f"it is for models of width {facts['n_embd']}, this one has width {model.n_embd}"
            )
    return facts


def tower_warnings(tensors: list[Facts]) -> Iterator[str]:
    """What other programs trip over."""
    halves = [
        tensor["name"]
        for tensor in tensors
        if tensor["name"].endswith(_EXACT) and tensor["type"] != "F32"
    ]
    if halves:
        more = f" and {len(halves) - 1} more" if len(halves) > 1 else ""
        yield (
            f"tensor {halves[0]}{more} is not F32: llama.cpp stops at such a file; "
            "pillion quantize writes one that it reads"
        )
