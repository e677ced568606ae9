"""Opens what an `LLM` is made of: the model, what guesses ahead, and the sizes of its contexts."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any, Optional, Union

from .drafter_file import drafter_beside
from .errors import OutOfMemoryError, PairingError, UsageError
from .model import Model
from .pair import LOOKUP, Drafter
from .placement import device, draft_device_for, layers_for
from .slot import Parts, Slot

_log = logging.getLogger("pillion")

OF_A_FILE = {
    "use_mmap": True, "device": "auto", "n_gpu_layers": -1, "strict": False, "device_bytes": 0,
    "progress": None,
}  # fmt: skip
"""Arguments that say how a file is opened, with what they are when nobody gives them."""


@dataclass
class Opened:
    """A model, and the first slot on it."""

    model: Model
    owns_model: bool
    drafter: Optional[Model]
    """The drafter's model, where it was opened here."""
    slots: list[Slot]
    why_no_pair: str

    def close(self) -> None:
        for slot in self.slots:
            slot.close()
        if self.drafter is not None:
            self.drafter.close()
        if self.owns_model:
            self.model.close()


def open_slots(
    path: Union[str, Model],
    file: dict[str, Any],
    drafter: Optional[Drafter],
    *,
    draft_device: str,
    sizes: dict[str, Any],
    flash_attn: Any,
    pairing: dict[str, Any],
    parallel: int,
) -> Opened:
    """file: the values of OF_A_FILE. sizes: arguments of `Context`; pairing: of `Pair`. A drafter
    "auto" that does not fit is left alone, with a warning."""
    draft_device = draft_device_for(file["device"], draft_device)
    opening: dict[str, Any] = {"use_mmap": file["use_mmap"], "n_threads": sizes["n_threads"]}
    if isinstance(path, Model):
        _refuse_file_arguments(file)
        opened = Opened(path, False, None, [], "no drafter was asked for")
    else:
        layers = layers_for(
            path,
            drafter,
            device_name=file["device"],
            draft_device=draft_device,
            n_gpu_layers=file["n_gpu_layers"],
            strict=file["strict"],
            use_mmap=file["use_mmap"],
            sizes={"device_bytes": file["device_bytes"], **sizes},
            parallel=parallel,
        )
        model = Model.open(
            path, device=file["device"], n_gpu_layers=layers, progress=file["progress"], **opening
        )
        opened = Opened(model, True, None, [], "no drafter was asked for")
    try:
        found = isinstance(drafter, str) and drafter == "auto"
        if found:
            drafter = None
            if not opened.model.is_drafter:  # its context says why it can't be one
                drafter, opened.why_no_pair = drafter_beside(opened.model)
        if isinstance(drafter, os.PathLike) or (isinstance(drafter, str) and drafter != LOOKUP):
            _open_drafter(opened, drafter, found, {"device": draft_device, **opening})
            drafter = opened.drafter
        parts = Parts(opened.model, {**sizes, "flash_attn": flash_attn}, drafter, pairing)
        parts.why_no_pair = opened.why_no_pair
        _make_slots(opened, parts, found, parallel)
    except BaseException:
        opened.close()
        raise
    return opened


def _refuse_file_arguments(file: dict[str, Any]) -> None:
    given = [name for name, usual in OF_A_FILE.items() if file[name] != usual]
    if given:
        raise UsageError(f"{given[0]} says how a file is opened, and this model is open already")


def _open_drafter(opened: Opened, drafter: Any, found: bool, opening: dict[str, Any]) -> None:
    try:
        opened.drafter = Model.open(drafter, **opening)
    except PairingError as error:
        _leave_alone(opened, error, found)


def _leave_alone(opened: Opened, error: PairingError, found: bool) -> None:
    """A drafter that was asked for has to fit; one that was only found need not."""
    if not found:
        raise error
    opened.why_no_pair = f"the drafter beside the model does not fit it: {error.sentence}"
    _log.warning("%s", opened.why_no_pair)
    if opened.drafter is not None:
        opened.drafter.close()
        opened.drafter = None


def _make_slots(opened: Opened, parts: Parts, found: bool, parallel: int) -> None:
    if parallel > 1:
        check_memory(parts, parallel)
    try:
        opened.slots.append(Slot(0, parts))
    except PairingError as error:
        if parts.drafter is None:
            raise
        _leave_alone(opened, error, found)
        parts.drafter, parts.why_no_pair = None, opened.why_no_pair
        opened.slots.append(Slot(0, parts))
    for index in range(1, parallel):
        opened.slots.append(Slot(index, parts))


def check_memory(parts: Parts, parallel: int) -> None:
    """Raises `OutOfMemoryError`, with the numbers, when the host has no room for all contexts."""
    sizes = {name: value for name, value in parts.sizes.items() if name != "flash_attn"}
    each = context_bytes(parts.model, sizes)
    memory = device("cpu")["memory"]
    if each * parallel > memory["free"]:
        raise OutOfMemoryError(
            f"{parallel} contexts of {each / 1e9:.2f} GB take {parallel * each / 1e9:.2f} GB, but "
            f"{memory['free'] / 1e9:.2f} GB are free: lower parallel or n_ctx"
        )


def context_bytes(model: Model, sizes: dict[str, Any], drafter: Optional[Model] = None) -> int:
    """What each further context takes, without the weights."""
    found = model.memory(drafter=drafter, **sizes)
    kv = found["kv"]
    return int(kv["bytes"] + kv["snapshots"] + found["scratch"] + found["outputs"])
