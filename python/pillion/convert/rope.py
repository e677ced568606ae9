"""RoPE parameters in both spellings of config.json: rope_theta beside rope_scaling, and
rope_parameters, for all layers or for each kind of layer. `type` is the older name of rope_type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ModelFileError, UnsupportedModelError
from .checkpoint import Array
from .config import FULL, SLIDING, Config, number

_NEVER = 1e30  # a divisor that stops a pair of dimensions
Rope = Config
"""rope_type and rope_theta, and what the type needs."""


def flat_rope(text: Config) -> Rope:
    """Of a model with one kind of layer. rope_scaling goes before rope_parameters."""
    given = _object(
        text.get("rope_scaling") or text.get("rope_parameters") or {}, "rope_parameters"
    )
    apart = next((key for key, value in given.items() if isinstance(value, dict)), None)
    if apart is not None:
        raise ModelFileError(
            f"config.json has rope_parameters of {apart} layers, and a model whose layers are of "
            f"one kind"
        )
    rope = _rope(given, text.get("rope_theta", 1e4))
    if "partial_rotary_factor" in text:
        rope.setdefault("partial_rotary_factor", text["partial_rotary_factor"])
    if rope["rope_type"] == "llama3":  # the length outside goes before the one inside
        inner = rope.get("original_max_position_embeddings", text["max_position_embeddings"])
        rope["original_max_position_embeddings"] = text.get(
            "original_max_position_embeddings", inner
        )
    return rope


def gemma3_ropes(text: Config) -> dict[str, Rope]:
    """Of full and of sliding layers. rope_scaling is that of full layers alone."""
    given = _object(text.get("rope_parameters") or {}, "rope_parameters")
    if given and not any(kind in given for kind in (FULL, SLIDING)):
        if (
            given.get("rope_type", given.get("type", "default")) != "default"
            or "rope_theta" in given
        ):
            raise ModelFileError(
                f"config.json has rope_parameters without a part for {FULL} or {SLIDING}, which "
                f"Gemma 3 needs"
            )
        given = {}
    full = dict(_object(given.get(FULL) or {}, FULL))
    scaling = dict(_object(text.get("rope_scaling") or {}, "rope_scaling"))
    if "type" in scaling:
        scaling.setdefault("rope_type", scaling["type"])
    full.update(scaling)
    return {
        FULL: _rope(full, text.get("rope_theta", 1e6)),
        SLIDING: _rope(given.get(SLIDING) or {}, text.get("rope_local_base_freq", 1e4)),
    }


def gemma4_ropes(text: Config, kinds: set[str]) -> dict[str, Rope]:
    """Of the kinds of layer that the model has."""
    known = {
        FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
        SLIDING: {"rope_type": "default", "rope_theta": 1e4},
    }
    given = text.get("rope_scaling") or text.get("rope_parameters")
    ropes = known if given is None else _object(given, "rope_parameters")
    for kind in kinds:
        if not isinstance(ropes.get(kind), dict):
            raise ModelFileError(
                f"config.json has rope_parameters without a part for {kind}, which its layers need"
            )
    return {kind: _rope(ropes[kind], None) for kind in kinds}


def linear_factor(rope: Rope, where: str) -> float:
    """1 for plain rotation, the factor of a linear one; any other is refused by name."""
    kind = rope["rope_type"]
    if kind not in ("default", "linear"):
        raise UnsupportedModelError(
            f"{where}: rope_type {kind!r} cannot be converted here; default and linear can"
        )
    _refuse_partial(rope, where)
    return rope.number("factor") if kind == "linear" else 1.0


def is_plain(rope: Rope) -> bool:
    """All pairs of dimensions turn by the base alone."""
    kind = rope["rope_type"]
    if kind == "default":
        return True
    whole = rope.get("partial_rotary_factor", 1) == 1
    return kind in ("linear", "proportional") and whole and rope.get("factor", 1) == 1


def divisors(rope: Rope, size: int, where: str, kinds: tuple[str, ...]) -> Array:
    """f32 [size / 2]: what each pair's angle is divided by, beyond the base. 1e30: the pair does
    not turn. Raises UnsupportedModelError for a rope_type that is not among `kinds`."""
    kind = rope["rope_type"]
    if kind not in kinds:
        raise UnsupportedModelError(
            f"{where}: rope_type {kind!r} cannot be converted here; {', '.join(kinds)} can"
        )
    if kind == "llama3":
        _refuse_partial(rope, where)
        return _llama3(rope, size)
    if kind == "linear":
        return np.full(size // 2, linear_factor(rope, where), np.float32)
    if kind == "default":
        return np.ones(size // 2, np.float32)
    share = number(rope.get("partial_rotary_factor", 1.0), "partial_rotary_factor")
    factors = np.full(size // 2, _NEVER, np.float32)
    factors[: int(share * size // 2)] = number(rope.get("factor", 1.0), "factor")
    return factors


def _llama3(rope: Rope, size: int) -> Array:
    """Short waves stay, long ones are divided by `factor`, between them it is blended."""
    wavelength = 2 * math.pi * rope.number("rope_theta") ** (np.arange(0, size, 2) / size)
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    if low >= high:
        raise ModelFileError(
            f"config.json gives low_freq_factor the value {low:g}, not below high_freq_factor, "
            f"{high:g}"
        )
    turns = rope.number("original_max_position_embeddings") / wavelength
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    found: Array = (1 / ((1 - smooth) / rope.number("factor") + smooth)).astype(np.float32)
    return found


def _rope(given: Any, base: Any) -> Rope:
    """With rope_type, and a checked rope_theta: its own, else `base`."""
    rope = Config(_object(given, "rope_parameters"))
    rope["rope_type"] = rope.get("rope_type", rope.get("type", "default"))
    if "rope_theta" not in rope and base is not None:
        rope["rope_theta"] = base
    rope["rope_theta"] = rope.number("rope_theta")
    return rope


def _refuse_partial(rope: Rope, where: str) -> None:
    share = rope.get("partial_rotary_factor", 1)
    if rope["rope_type"] != "default" and share != 1:
        raise UnsupportedModelError(
            f"{where}: rope_type {rope['rope_type']!r} with partial_rotary_factor {share!r} cannot "
            f"be converted; 1 can"
        )


def _object(found: Any, name: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ModelFileError(f"config.json gives {name} the value {found!r}, an object is needed")
    return found
