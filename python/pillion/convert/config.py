"""config.json as `transformers` reads it: keys that are left out, and numbers that are numbers."""

from __future__ import annotations

import sys
from typing import Any

from ..arguments import shown
from ..errors import ModelFileError

FULL, SLIDING = "full_attention", "sliding_attention"
_LAYERS_MOST, _WIDTH_MOST = 1024, 1 << 31
_PERIOD = 6  # five sliding layers and a full one


# What the configuration classes of Gemma 3 and 4 have in common.
GEMMA_DEFAULTS: dict[str, Any] = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
}


class Config(dict[str, Any]):
    """A JSON object whose missing keys are one sentence."""

    def __missing__(self, key: str) -> Any:
        raise ModelFileError(f"config.json has no {key!r}, which this model needs")

    def whole(self, key: str, least: int = 1, most: int = _WIDTH_MOST) -> int:
        """A whole number in its bounds; raises ModelFileError with key, value and bounds."""
        return whole(self[key], key, least, most)

    def number(self, key: str) -> float:
        """A finite number above 0; raises ModelFileError with the key and the value."""
        return number(self[key], key)


def whole(value: Any, name: str, least: int = 1, most: int = _WIDTH_MOST) -> int:
    """The value when it is a whole number in its bounds; raises ModelFileError with the name, the
    value and the bounds."""
    if not _is_number(value) or not least <= value <= most or int(value) != value:
        needed = f"a whole number from {least} to {most} is needed"
        raise ModelFileError(f"config.json gives {name} the value {shown(value)}, {needed}")
    return int(value)


def number(value: Any, name: str) -> float:
    """The value when it is a finite number above 0; raises ModelFileError with name and value."""
    if not _is_number(value) or not 0 < value <= sys.float_info.max:
        needed = "a number above 0 is needed"
        raise ModelFileError(f"config.json gives {name} the value {shown(value)}, {needed}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def text_config(config: Config, text_type: str, defaults: dict[str, Any]) -> Config:
    """The part on the text model, with the defaults of its class. A class around a text model keeps
    it under text_config; without one the object itself is taken.

    text_type: the model_type of the text model, config's own when no class is around it."""
    nested = config.get("text_config") if config["model_type"] != text_type else None
    text = nested if isinstance(nested, dict) else dict(config)
    return Config({**defaults, **text, "model_type": text_type})


def n_layers(text: Config) -> int:
    return text.whole("num_hidden_layers", 1, _LAYERS_MOST)


def layer_types(text: Config, period: int | float | None = _PERIOD) -> list[str]:
    """FULL or SLIDING for each layer: as listed, else every `period`-th one full."""
    listed = text.get("layer_types")
    if listed is None:
        every = whole(period, "sliding_window_pattern", 1)
        return [SLIDING if (layer + 1) % every else FULL for layer in range(n_layers(text))]
    if not isinstance(listed, list):
        raise ModelFileError(
            f"config.json gives layer_types the value {listed!r}, a list is needed"
        )
    if text["num_hidden_layers"] != len(listed):  # no longer than the file that lists them
        raise ModelFileError(
            f"config.json has {text['num_hidden_layers']} layers and the types of {len(listed)}"
        )
    for kind in listed:
        if kind not in (FULL, SLIDING):
            raise ModelFileError(
                f"config.json lists a layer of type {kind!r}, {FULL} and {SLIDING} are known"
            )
    return list(listed)


def end_ids(found: dict[str, Any]) -> list[int]:
    """eos_token_id: a number, a list of them, or nothing."""
    given = found.get("eos_token_id")
    given = given if isinstance(given, list) else [given]
    return [token for token in given if isinstance(token, int) and not isinstance(token, bool)]


def softcap(text: Config, key: str) -> float | None:
    """A bound on scores, or None."""
    return text.number(key) if text.get(key) is not None else None
