"""`LLM.fit`: what of a model fits a memory, by count. Nothing is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import check_choice, check_int, check_path
from ..devices import system
from ..drafter_file import find_drafter
from ..errors import OutOfMemoryError, PairingError
from ..mmproj import Mmproj
from ..mmproj_file import find_mmproj
from ..model import Model
from ..options import KV_TYPES
from ..sizes import size_of

GivenFile = str | os.PathLike[str] | None
"""A path; "auto": the one beside the model; None: none."""

_LEAST = 4096
"""No context is made smaller than this to save a drafter or an mmproj file."""


@dataclass(frozen=True)
class Fit:
    """What of a model fits a memory, and what it takes. All sizes are bytes."""

    memory_bytes: int
    """The memory that it was counted for."""
    n_ctx: int
    """Positions of the context."""
    kv_type: str
    """Type of the KV cache."""
    drafter: Path | None
    """The drafter that fits beside the model; None: none."""
    mmproj: Path | None
    """The mmproj file that fits beside the model; None: none."""
    parts: dict[str, int]
    """Bytes of "weights", "kv", "scratch", "drafter" and "mmproj" (its towers, loaded)."""
    mapped: int
    """Bytes that stay in the model's file and are read row by row. They are not in `total`: the
    system keeps of them what it has room for."""
    total: int
    """Bytes in all."""
    left_out: tuple[str, ...]
    """What did not fit: "f16 cache", "drafter", "mmproj", "context of 131072"."""

    def __str__(self) -> str:
        names = [f"context of {self.n_ctx} in {self.kv_type}"]
        names += [
            f"{what} {path.name}"
            for what, path in (("drafter", self.drafter), ("mmproj", self.mmproj))
            if path is not None
        ]
        lost = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        used = f"{size_of(self.total)} of {size_of(self.memory_bytes)}"
        return f"{used}: {', '.join(names)}{lost}"


def fit(
    path: str | os.PathLike[str],
    memory_bytes: int | None,
    n_ctx: int | None,
    kv_type: str | None,
    drafter: GivenFile,
    mmproj: GivenFile,
) -> Fit:
    """What `LLM.fit` does."""
    if memory_bytes is None:
        memory_bytes = int(system().get("memory_bytes") or 0)
    memory_bytes = check_int("memory_bytes", memory_bytes, 1, 2**63 - 1)
    if n_ctx is not None:
        n_ctx = check_int("n_ctx", n_ctx, 1, 2**31 - 1)
    if kv_type is not None:
        check_choice("kv_type", kv_type, KV_TYPES)
    files = {"drafter": _path("drafter", drafter), "mmproj": _path("mmproj", mmproj)}
    with Model.open(check_path("path", path), metadata_only=True) as model:
        if files["drafter"] == "auto":
            files["drafter"] = find_drafter(model)
        if files["mmproj"] == "auto":
            files["mmproj"] = find_mmproj(model)
        return _Search(model, memory_bytes, n_ctx, kv_type, files).best()


def _path(name: str, given: GivenFile) -> Any:
    if given is None:
        return None
    path = check_path(name, given)
    return "auto" if path == "auto" else Path(path)


class _Search:
    """Counts combinations, the most wanted first."""

    def __init__(
        self,
        model: Model,
        memory_bytes: int,
        n_ctx: int | None,
        kv_type: str | None,
        files: dict[str, Path | None],
    ) -> None:
        self._model, self._memory, self._files = model, memory_bytes, files
        self._towers = 0 if files["mmproj"] is None else _tower_bytes(files["mmproj"], model)
        self._lengths = [n_ctx] if n_ctx is not None else list(_lengths(model.n_ctx_train))
        self._kv_types = [kv_type] if kv_type is not None else ["f16", "q8_0"]

    def best(self) -> Fit:
        """The first that fits. Raises OutOfMemoryError with what the least takes."""
        least = 0
        for has_drafter, has_towers in self._companies():
            for n_ctx in self._lengths:
                for kv_type in self._kv_types:
                    found = self._count(n_ctx, kv_type, has_drafter, has_towers)
                    if found.total <= self._memory:
                        return found
                    least = found.total
        raise OutOfMemoryError(
            f"{self._model.path} takes {size_of(least)} with the smallest context counted and "
            f"nothing beside it, the memory has {size_of(self._memory)}"
        )

    def _companies(self) -> Iterator[tuple[bool, bool]]:
        """(drafter, mmproj): a drafter changes the speed, an mmproj file what can be asked."""
        wanted = tuple(self._files[name] is not None for name in ("drafter", "mmproj"))
        for company in ((True, True), (False, True), (True, False), (False, False)):
            if all(want or not have for have, want in zip(company, wanted, strict=True)):
                yield company

    def _count(self, n_ctx: int, kv_type: str, has_drafter: bool, has_towers: bool) -> Fit:
        drafter = self._files["drafter"] if has_drafter else None
        if drafter is None:
            found = self._model.memory(n_ctx, kv_type=kv_type)
        else:
            with Model.open(drafter, metadata_only=True) as other:
                found = self._model.memory(n_ctx, drafter=other, kv_type=kv_type)
        towers = self._towers if has_towers else 0
        parts = {
            "weights": int(found["weights"]),
            "kv": int(found["kv"]["bytes"]),
            "scratch": int(found["scratch"] + found["outputs"]),
            "drafter": int(found["drafter"]["bytes"]) if found["drafter"] else 0,
            "mmproj": towers,
        }
        left_out = {
            f"context of {self._lengths[0]}": n_ctx != self._lengths[0],
            f"{self._kv_types[0]} cache": kv_type != self._kv_types[0],
            "drafter": self._files["drafter"] is not None and not has_drafter,
            "mmproj": self._files["mmproj"] is not None and not has_towers,
        }
        return Fit(
            memory_bytes=self._memory,
            n_ctx=n_ctx,
            kv_type=kv_type,
            drafter=drafter,
            mmproj=self._files["mmproj"] if has_towers else None,
            parts=parts,
            mapped=int(found["mapped"]),
            total=int(found["total"]) + towers,
            left_out=tuple(name for name, is_out in left_out.items() if is_out),
        )


def _lengths(n_ctx_train: int) -> Iterator[int]:
    """The trained context, then halves of it."""
    while n_ctx_train > _LEAST:
        yield n_ctx_train
        n_ctx_train //= 2
    yield min(n_ctx_train, _LEAST)


def _tower_bytes(path: Path, model: Model) -> int:
    """What the towers take when all are loaded: about the file's size."""
    with Mmproj(path, n_threads=1) as towers:
        if towers.n_embd != model.n_embd:
            raise PairingError(
                f"{path} is for models of width {towers.n_embd}, {model.path} has width "
                f"{model.n_embd}"
            )
        return towers.file_bytes
