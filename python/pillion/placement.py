"""Where a model's layers lie: what a device can hold beside the cache and the drafter, and which op
runs where."""

from __future__ import annotations

import logging
import os
from typing import Any, NamedTuple

from ._native import as_bytes, as_str, ffi, lib, read_json
from .arguments import check_text
from .calling import checked
from .drafter_file import drafter_beside
from .errors import OutOfMemoryError, PairingError
from .mmproj import Mmproj
from .mmproj_file import find_mmproj
from .model import Model, layer_count
from .pair import LOOKUP, Drafter

_log = logging.getLogger("pillion")


class Placed(NamedTuple):
    """One op of a plan."""

    model: str
    """"target" or "drafter"."""
    op: str
    """Its name, as docs/ops.md has it."""
    layer: int
    """-1: before or behind the layers."""
    backend: str
    """ "cpu", "cuda" or "htp"."""
    kernel: str
    """The kernel that runs it, named with its types."""
    session: int | None = None
    """Of a Hexagon device, which may need several."""


@checked
def device(name: str = "auto") -> dict[str, Any]:
    """{"name", "is_host", "memory": {"total", "free", "unified"}, "info"} of a device: "auto",
    "cpu", "cuda", "cuda:1", "htp".

    Raises `NoBackendError` with the reason when it is not there.
    """
    encoded = as_bytes(check_text("name", name))
    found: dict[str, Any] = read_json(
        lambda out, capacity, needed: lib.pillion_device_json(encoded, out, capacity, needed), 4096
    )
    return found


def draft_device_for(device_name: str, asked: str) -> str:
    """Where to open a drafter: the device that was asked for, or what "auto" means beside a target
    on `device_name`."""
    names = [ffi.new("char[]", as_bytes(name)) for name in (device_name, asked)]
    return as_str(ffi.string(lib.pillion_draft_device(*names)))


def layers_for(
    path: str | os.PathLike[str],
    drafter: Drafter | None,
    *,
    device_name: str,
    draft_device: str,
    n_gpu_layers: int,
    strict: bool,
    use_mmap: bool,
    sizes: dict[str, Any],
    parallel: int = 1,
    mmproj: Any = None,
) -> int:
    """The n_gpu_layers to open a model with, so that it, its caches (parallel of them) and its
    drafter fit the device. The towers of mmproj, as `LLM` takes it, run on the CPU: they count
    where the device has the host's memory.

    strict: fewer than all layers, where no number was asked for, is an error.
    """
    if device_name == "cpu" or device(device_name)["is_host"]:
        if layer_count(n_gpu_layers) > 0 and device_name == "auto" and not strict:
            # One script for machines with and without a GPU.
            _log.warning("n_gpu_layers is %d, but the only device is the CPU", n_gpu_layers)
            return -1
        return n_gpu_layers  # the library says what is wrong with it
    if isinstance(drafter, str) and drafter == "auto":
        drafter, _ = drafter_beside(path, warn=False)  # whoever pairs them says it
    other: Model | None = None
    opened: list[Model] = []
    try:
        model = Model.open(path, metadata_only=True, use_mmap=use_mmap)
        opened.append(model)
        if isinstance(drafter, Model):
            other = drafter
        elif drafter is not None and not (isinstance(drafter, str) and drafter == LOOKUP):
            other = Model.open(drafter, metadata_only=True, use_mmap=use_mmap)
            opened.append(other)
        sizes = _with_room(model, device_name, sizes, parallel, mmproj)
        places: dict[str, Any] = {
            "device": device_name,
            "draft_device": draft_device,
            "n_gpu_layers": n_gpu_layers,
            "strict": strict,
            **sizes,
        }
        try:
            fit = model.fit(drafter=other, **places)
        except PairingError:
            fit = model.fit(**places)  # the pair says so itself, when it is made
    finally:
        for one in opened:
            one.close()
    if fit["note"]:
        _log.warning("%s", fit["note"])
    return int(fit["device_layers"])


def _with_room(
    model: Model, device_name: str, sizes: dict[str, Any], parallel: int, mmproj: Any
) -> dict[str, Any]:
    """The sizes, with what further contexts and towers take left out of the device's memory."""
    memory = device(device_name)["memory"]
    towers = tower_bytes(model, mmproj) if memory.get("unified") else 0
    if parallel == 1 and not towers:
        return sizes
    given = sizes["device_bytes"] or memory["free"]
    of_one = model.memory(**{name: one for name, one in sizes.items() if name != "device_bytes"})
    each = of_one["kv"]["bytes"] + of_one["scratch"] + of_one["outputs"]
    left = given - (parallel - 1) * each - towers
    if left <= 0:
        beside = f" beside an mmproj file of {towers / 1e9:.2f} GB" if towers else ""
        raise OutOfMemoryError(
            f"{parallel} contexts of {each / 1e9:.2f} GB do not fit the {given / 1e9:.2f} GB of "
            f"{device_name}{beside}: lower parallel or n_ctx"
            + (", or take mmproj=None" if towers else "")
        )
    return {**sizes, "device_bytes": left}


def tower_bytes(model: Model, mmproj: Any) -> int:
    """Bytes of the towers that a model will have, by the size of their file. mmproj: as `LLM`
    takes it. 0: none, or it is for the first image to say what is wrong."""
    if isinstance(mmproj, Mmproj):
        return mmproj.file_bytes
    try:
        path = find_mmproj(model) if mmproj == "auto" else mmproj
        return os.path.getsize(path) if isinstance(path, (str, os.PathLike)) else 0
    except (PairingError, OSError):
        return 0
