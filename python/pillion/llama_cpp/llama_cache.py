"""Caches of states by their tokens.

pillion's contexts keep what they read, so `Llama.set_cache` takes a cache and asks it for nothing.
"""

from __future__ import annotations

import abc
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from ..errors import NoSuchName
from .low_level import LlamaState


class BaseLlamaCache(abc.ABC):
    """A mapping of tokens to states. A look-up finds the longest beginning of the tokens."""

    def __init__(self, capacity_bytes: int = 2 << 30) -> None:
        self.capacity_bytes = capacity_bytes

    @property
    @abc.abstractmethod
    def cache_size(self) -> int:
        """Bytes of all states."""

    @abc.abstractmethod
    def __getitem__(self, key: Sequence[int]) -> LlamaState: ...

    @abc.abstractmethod
    def __contains__(self, key: Sequence[int]) -> bool: ...

    @abc.abstractmethod
    def __setitem__(self, key: Sequence[int], value: LlamaState) -> None: ...


class LlamaRAMCache(BaseLlamaCache):
    """A cache in memory. The states that were used longest ago leave first."""

    def __init__(self, capacity_bytes: int = 2 << 30) -> None:
        super().__init__(capacity_bytes)
        self.cache_state: OrderedDict[tuple[int, ...], LlamaState] = OrderedDict()

    @property
    def cache_size(self) -> int:
        """Bytes of all states."""
        return sum(state.llama_state_size for state in self.cache_state.values())

    def _longest(self, key: Sequence[int]) -> tuple[int, ...] | None:
        given = tuple(key)
        fits = [one for one in self.cache_state if one == given[: len(one)]]
        return max(fits, key=len, default=None)

    def __getitem__(self, key: Sequence[int]) -> LlamaState:
        found = self._longest(key)
        if found is None:
            raise KeyError("Key not found")
        self.cache_state.move_to_end(found)
        return self.cache_state[found]

    def __contains__(self, key: Sequence[int]) -> bool:
        return self._longest(key) is not None

    def __setitem__(self, key: Sequence[int], value: LlamaState) -> None:
        self.cache_state[tuple(key)] = value
        self.cache_state.move_to_end(tuple(key))
        while self.cache_size > self.capacity_bytes and self.cache_state:
            self.cache_state.popitem(last=False)


LlamaCache = LlamaRAMCache


class LlamaDiskCache:
    """Is not here: keys and values stay in memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NoSuchName(
            "pillion.llama_cpp has no LlamaDiskCache: keys and values stay in memory, where "
            "Llama(…, parallel=n) keeps n texts"
        )
