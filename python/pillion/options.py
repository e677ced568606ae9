"""Options as values: each is declared here once, with its default, its check and its meaning.

`ContextSizes` decides the memory of a context, `ContextOptions` adds how it runs. `takes` gives a
function the fields of such a class as keywords; the TypedDicts say the same to type checkers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypedDict, TypeVar

from ._native import ffi, lib
from .arguments import check_bool, check_choice, check_int

KV_TYPES = {"f16": lib.PILLION_KV_F16, "q8_0": lib.PILLION_KV_Q8_0}
FLASH_ATTN = {
    "auto": lib.PILLION_FLASH_AUTO,
    "on": lib.PILLION_FLASH_ON,
    "off": lib.PILLION_FLASH_OFF,
    True: lib.PILLION_FLASH_ON,
    False: lib.PILLION_FLASH_OFF,
}
SNAPSHOTS_MAX = 256
CONTEXT_DEFAULT = 4096

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class ContextSizes:
    """What decides the memory of a context."""

    n_ctx: int | None = None
    """Positions; None: the model's own, at most 4096 (CONTEXT_DEFAULT)."""
    n_batch: int | None = None
    """Rows of one prefill run; None: 512."""
    n_threads: int | None = None
    """None: all cores this process may use."""
    n_outputs: int | None = None
    """The most rows whose logits one run can return; None: 16."""
    kv_type: str = "f16"
    """Type of the cached keys and values: "f16" or "q8_0"."""
    swa_full: bool = False
    """Sliding layers keep every position, so that any rewind is a counter."""
    n_snapshots: int | None = None
    """Copies of the sliding layers' window that may be kept, 0 to 256; None: as many as 128 MB
    hold, 1 to 4. Going back to a prompt after a long answer is then a copy, not a run."""

    def config(self) -> Any:
        """The library's pillion_context_config. Raises `UsageError` for a wrong value."""
        config = ffi.new("pillion_context_config*")
        lib.pillion_context_config_init(config, ffi.sizeof("pillion_context_config"))
        config.n_ctx = _count("n_ctx", self.n_ctx)
        config.n_batch = _count("n_batch", self.n_batch)
        config.n_threads = thread_count(self.n_threads)
        config.n_outputs = _count("n_outputs", self.n_outputs)
        config.kv_type = KV_TYPES[check_choice("kv_type", self.kv_type, KV_TYPES)]
        config.swa_full = check_bool("swa_full", self.swa_full)
        if self.n_snapshots is not None:  # in the library 0 is the default
            allowed = f"0 (none) to {SNAPSHOTS_MAX}, or None for the default"
            n = check_int("n_snapshots", self.n_snapshots, 0, SNAPSHOTS_MAX, allowed)
            config.n_snapshots = n or -1
        return config


@dataclass(frozen=True)
class ContextOptions(ContextSizes):
    """All options of a `Context`."""

    flash_attn: str | bool = "auto"
    """ "auto": tiled attention where the device has a kernel for the shape, else its plain kernel
    (`placement` tells which). "on" (True): a shape without a tiled kernel is an error. "off"
    (False): the plain kernel. The CPU's one kernel tiles all."""
    collect_activations: bool = False
    """Sums up what goes into each weight, for `Context.activations`."""

    def config(self) -> Any:
        config = super().config()
        config.flash_attn = FLASH_ATTN[check_choice("flash_attn", self.flash_attn, FLASH_ATTN)]
        config.collect_activations = check_bool("collect_activations", self.collect_activations)
        return config

    def sizes(self) -> dict[str, Any]:
        """The fields of `ContextSizes`, as keywords of `Model.memory` and `Model.fit`."""
        return {one.name: getattr(self, one.name) for one in fields(ContextSizes)}


class _Keywords(TypedDict, total=False):
    n_batch: int | None
    n_threads: int | None
    kv_type: str
    swa_full: bool
    n_snapshots: int | None


class SizeKeywords(_Keywords, total=False):
    """`ContextSizes` as keywords behind n_ctx."""

    n_outputs: int | None


class ContextKeywords(SizeKeywords, total=False):
    """`ContextOptions` as keywords behind n_ctx."""

    flash_attn: str | bool
    collect_activations: bool


class LLMContextKeywords(_Keywords, total=False):
    """The fields of `ContextOptions` that `LLM` takes."""

    n_ctx: int | None
    flash_attn: str | bool


def takes(options: type, *without: str) -> Callable[[F], F]:
    """Decorates a function whose last parameter is **keywords: its signature shows the fields of
    the dataclass `options` instead, except `without` and those that are parameters already."""

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        *given, _ = signature.parameters.values()
        known = {one.name for one in given} | set(without)
        more = [
            inspect.Parameter(
                one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type
            )
            for one in fields(options)
            if one.name not in known
        ]
        shown = signature.replace(parameters=[*given, *more])
        function.__signature__ = shown  # type: ignore[attr-defined]
        return function

    return decorate


def thread_count(n_threads: int | None) -> int:
    """A thread count for the library, where None and 0 mean all. Raises `UsageError` above 1024."""
    if n_threads is None:
        return 0
    return check_int("n_threads", n_threads, 0, 1024, "1 to 1024, or None for all cores")


def _count(name: str, value: int | None) -> int:
    if value is None:
        return 0
    return check_int(name, value, 0, 2**31 - 1, "positive and below 2**31, or None for the default")
