"""`SamplingParams`: how the next token is chosen. `Sampler`: chooses it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ._native import Handle, check, ffi, lib
from .arguments import check_int, check_mapping, check_number, wrong
from .calling import checked_class
from .context import Context
from .errors import UsageError
from .model import Model, opened

Mask = npt.NDArray[np.uint32]
"""Allowed tokens as uint32 [`mask_words(n_vocab)`]: bit t % 32 of word t // 32 is token t."""

Logits = npt.NDArray[np.floating[Any]]

SEED_MAX = 2**64 - 1
_FLOAT_MAX = float(np.finfo(np.float32).max)  # the library has floats of 32 bits


@checked_class
@dataclass(frozen=True)
class SamplingParams:
    """Settings of a sampler, checked when made. The defaults are llama-cpp-python's. Raises
    `UsageError` for a wrong value."""

    temperature: float = 0.8
    """0: always the most likely token."""
    top_k: int = 40
    """Keeps the k most likely tokens; 0 or -1: all."""
    top_p: float = 0.95
    """Keeps the most likely tokens that together have this probability; 1: all."""
    min_p: float = 0.05
    """Drops tokens less likely than this fraction of the most likely one; 0: none."""
    repeat_penalty: float = 1.0
    """Divides the logits of tokens already in the text; 1: off."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit once for each time it is in the text."""
    presence_penalty: float = 0.0
    """Subtracted once from the logit of each token in the text."""
    penalty_last_n: int = 64
    """Tokens at the end of the text that the penalties see; -1: all, 0: penalties off."""
    seed: int | None = None
    """The same seed gives the same text; None or -1: a random one."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """{token: number added to its logit}; -inf bans a token."""

    def __post_init__(self) -> None:
        checked = {
            "temperature": check_number(
                "temperature", self.temperature, 0, _FLOAT_MAX, "0 or more"
            ),
            "top_k": max(check_int("top_k", self.top_k, -1, 2**31 - 1, "0 (off) or more"), 0),
            "top_p": check_number(
                "top_p", self.top_p, None, 1, "above 0 and at most 1 (off)", above=0
            ),
            "min_p": check_number("min_p", self.min_p, 0, 1, "0 (off) to 1"),
            "repeat_penalty": check_number(
                "repeat_penalty", self.repeat_penalty, None, _FLOAT_MAX, "above 0", above=0
            ),
            "penalty_last_n": check_int(
                "penalty_last_n", self.penalty_last_n, -1, 2**31 - 1, "-1 (all), 0 (off) or more"
            ),
        }
        for name in ("frequency_penalty", "presence_penalty"):
            checked[name] = check_number(
                name, getattr(self, name), -_FLOAT_MAX, _FLOAT_MAX, "a finite number"
            )
        seed = checked_seed(self.seed, "0 to 2**64 - 1, or None")
        for name, value in checked.items():  # plain numbers, whatever NumPy's came in
            object.__setattr__(self, name, value)
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "logit_bias", dict(map(_bias, *_pairs(self.logit_bias))))

    @classmethod
    def of_file(cls, model: Model) -> SamplingParams:
        """What the model's file recommends, with the defaults where it says nothing. The tokens
        that it says must never come are banned in `logit_bias`.

        Raises ModelFileError for a setting that can't be, with key, value and limit.
        """
        config = ffi.new("pillion_sampler_config*")
        size = ffi.sizeof("pillion_sampler_config")
        check(lib.pillion_sampler_config_from_model(opened("model", model)._c, config, size))
        banned = ffi.unpack(config.bias_tokens, config.n_bias) if config.n_bias else []
        return cls(
            temperature=_shortest(config.temperature),
            top_k=config.top_k,
            top_p=_shortest(config.top_p),
            min_p=_shortest(config.min_p),
            repeat_penalty=_shortest(config.repeat_penalty),
            penalty_last_n=0 if config.penalty_last_n == -2 else config.penalty_last_n,
            logit_bias=dict.fromkeys(banned, -math.inf),
        )

    @property
    def penalised(self) -> bool:
        """True if the tokens already written change the choice."""
        used = self.repeat_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0
        return used and self.penalty_last_n != 0


@checked_class
class Sampler(Handle):
    """Chooses tokens from a context's logits. One thread at a time. params: the settings; None: the
    defaults of `SamplingParams`."""

    _kind = "sampler"

    def __init__(self, params: SamplingParams | None = None) -> None:
        if params is not None and not isinstance(params, SamplingParams):
            wrong("params", params, "SamplingParams")
        self.params = params = params or SamplingParams()
        """The settings."""
        config = ffi.new("pillion_sampler_config*")
        lib.pillion_sampler_config_init(config, ffi.sizeof("pillion_sampler_config"))
        config.temperature = params.temperature
        config.top_k = params.top_k
        config.top_p = params.top_p
        config.min_p = params.min_p
        if params.penalised:
            config.repeat_penalty = params.repeat_penalty
            config.frequency_penalty = params.frequency_penalty
            config.presence_penalty = params.presence_penalty
            config.penalty_last_n = params.penalty_last_n
        config.seed = _native_seed(params.seed)
        tokens = ffi.new("int32_t[]", list(params.logit_bias))
        values = ffi.new("float[]", list(params.logit_bias.values()))
        config.bias_tokens, config.bias_values, config.n_bias = (
            tokens,
            values,
            len(params.logit_bias),
        )
        out = ffi.new("pillion_sampler**")
        check(lib.pillion_sampler_new(config, out))
        super().__init__(out[0], lib.pillion_sampler_free)
        self._token = ffi.new("int32_t*")

    def sample(self, context: Context, row: int = -1, mask: Mask | None = None) -> int:
        """Chooses the next token from a row of the context's logits. Changes neither; pass the
        token that you use to `accept`.

        mask: the tokens that may come. It applies before bias, penalties and top-k. Raises
        `UsageError` for a mask of the wrong length, and if no allowed token has a logit above -inf.
        """
        if not isinstance(context, Context):
            wrong("context", context, "a Context")
        row = context._row(row)
        if mask is None:
            check(lib.pillion_sampler_sample(self._c, context._c, row, self._token))
        else:
            words, n_words = mask_pointer("mask", mask)
            place = (context._c, row)
            check(lib.pillion_sampler_sample_masked(self._c, *place, words, n_words, self._token))
        return int(self._token[0])

    def sample_from(self, logits: Logits, mask: Mask | None = None) -> int:
        """Chooses the next token from a row of logits: floats [n_vocab], token t's logit at t.

        mask: as in `sample`. Raises `UsageError` if no token has a logit above -inf.
        """
        row = float_row("logits", logits)
        words, n_words = (ffi.NULL, 0) if mask is None else mask_pointer("mask", mask)
        given = (ffi.from_buffer("float[]", row), row.size)
        check(lib.pillion_sampler_sample_logits(self._c, *given, words, n_words, self._token))
        return int(self._token[0])

    def mark(self) -> tuple[int, int]:
        """Returns the numbers of tokens accepted and of random numbers drawn, for `go_back`."""
        accepted, drawn = ffi.new("uint64_t*"), ffi.new("uint64_t*")
        check(lib.pillion_sampler_mark(self._c, accepted, drawn))
        return int(accepted[0]), int(drawn[0])

    def go_back(self, mark: tuple[int, int]) -> None:
        """Undoes what it accepted and drew since `mark()`.

        Raises `UsageError` for what `mark` did not return.
        """
        if not isinstance(mark, tuple) or len(mark) != 2:
            wrong("mark", mark, "what mark() returned")
        accepted, drawn = (check_int("a count of a mark", count, 0, 2**64 - 1) for count in mark)
        check(lib.pillion_sampler_go_back(self._c, accepted, drawn))

    def accept(self, token: int) -> None:
        """Tells the penalties that a token was added to the text.

        Raises `UsageError` for what is no token id.
        """
        check(
            lib.pillion_sampler_accept(
                self._c, check_int("token", token, 0, 2**31 - 1, "a token id, 0 or more")
            )
        )

    def reset(self) -> None:
        """Forgets the accepted tokens and restarts the seed."""
        check(lib.pillion_sampler_reset(self._c))


def checked_seed(seed: Any, allowed: str) -> int | None:
    """A seed; None or -1, as other libraries write it: a random one."""
    found = None if seed is None else check_int("seed", seed, -1, SEED_MAX, allowed)
    return None if found == -1 else found


def mask_words(n_vocab: int) -> int:
    """Number of 32-bit words of a mask."""
    return -(-n_vocab // 32)


def mask_pointer(name: str, mask: Any, dimensions: int = 1) -> tuple[Any, int]:
    """One or more masks as (const uint32_t*, words in all)."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint32 or mask.ndim != dimensions:
        shape = "[words]" if dimensions == 1 else "[rows, words]"
        raise UsageError(f"{name} must be an array of uint32 {shape}, not {_described(mask)}")
    if mask.size == 0:
        raise UsageError(f"{name} has no words: its shape is {list(mask.shape)}")
    return ffi.from_buffer("uint32_t[]", np.ascontiguousarray(mask)), int(mask.size)


def float_row(name: str, row: Any) -> npt.NDArray[np.float32]:
    """A row of logits for the library."""
    if not isinstance(row, np.ndarray) or row.dtype.kind != "f" or row.ndim != 1 or row.size == 0:
        raise UsageError(f"{name} must be an array of floats [n_vocab], not {_described(row)}")
    with np.errstate(over="ignore"):  # what is too large is an infinity
        return np.ascontiguousarray(row, dtype=np.float32)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"one of {value.dtype} {list(value.shape)}"
    return f"a value of type {type(value).__name__}"


def _shortest(value: float) -> float:
    """A float of 32 bits as the number that somebody wrote: 0.95, not 0.949999988079071."""
    return float(str(np.float32(value)))


def _native_seed(seed: int | None) -> int:
    """The seed for the library, which reads 0 as "random". A seed of 0 becomes SEED_MAX."""
    if seed is None:
        return 0
    return seed or SEED_MAX


def _pairs(bias: Any) -> tuple[list[Any], list[Any]]:
    items = check_mapping("logit_bias", bias, "a mapping of token ids to numbers")
    return list(items.keys()), list(items.values())


def _bias(token: Any, value: Any) -> tuple[int, float]:
    token = check_int("a key of logit_bias", token, 0, 2**31 - 1, "a token id")
    if isinstance(value, (float, np.floating)) and value == -math.inf:
        return token, -math.inf
    return token, check_number(
        f"logit_bias[{token}]", value, -_FLOAT_MAX, _FLOAT_MAX, "a number or -inf"
    )
