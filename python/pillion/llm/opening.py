"""Opens what an `LLM` is made of: the model, the drafter, and the slots with their contexts."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..arguments import check_bool, check_choice, check_int, check_number, check_text, wrong
from ..drafter_file import drafter_beside
from ..engine.machine import Parts
from ..engine.slot import SlotGroup
from ..errors import ModelNotFoundError, OutOfMemoryError, PairingError, UsageError
from ..hub.names import looks_like_name
from ..model import Model, layer_count
from ..options import ContextOptions
from ..pair import DRAFT_SAMPLING, LOOKUP, Draft, Drafter, draft_length
from ..placement import device, draft_device_for, layers_for

_log = logging.getLogger("pillion")


@dataclass(frozen=True)
class FileOptions:
    """How `LLM` opens a model's file; see there."""

    use_mmap: bool = True
    device: str = "auto"
    n_gpu_layers: int = -1
    """-1: as many as fit; 0: none."""
    strict: bool = False
    device_bytes: int = 0
    progress: Callable[[int, int], object] | None = None

    def check(self) -> None:
        """Raises `UsageError` for a wrong value."""
        check_text("device", self.device)
        check_bool("strict", self.strict)
        check_int("device_bytes", self.device_bytes, 0, 2**63 - 1)
        layer_count(self.n_gpu_layers)

    def changed(self) -> str | None:
        """The first field that is not as when nobody gives it; None: there is none."""
        given = (one.name for one in fields(self) if getattr(self, one.name) != one.default)
        return next(given, None)


@dataclass(frozen=True)
class Speculation:
    """What guesses ahead of the model, and how; see `LLM` and `Pair`."""

    drafter: Drafter | Literal[False] | None = "auto"
    draft: Draft = "auto"
    p_min: float = 0.0
    dense_head: bool = False
    strict: bool = False
    sampling: str = "greedy"
    lookup: bool = False
    device: str = "auto"

    def check(self) -> None:
        """Raises `UsageError` for a wrong value, under its name in `LLM`."""
        drafter = self.drafter
        if (
            drafter is not None
            and drafter is not False
            and not isinstance(drafter, (str, os.PathLike, Model))
        ):
            allowed = f"'auto', a path, a Model, {LOOKUP!r}, or None (or False) for no drafter"
            wrong("drafter", drafter, allowed)
        draft_length(self.draft)
        check_number("draft_p_min", self.p_min, 0, 1, "0 (off) to 1")
        check_choice("draft_sampling", self.sampling, DRAFT_SAMPLING)
        check_bool("draft_dense_head", self.dense_head)
        check_bool("draft_strict", self.strict)
        if check_bool("draft_lookup", self.lookup) and drafter in (None, False, LOOKUP):
            raise UsageError(f"draft_lookup goes with an assistant; the drafter is {drafter!r}")
        check_text("draft_device", self.device)

    def of_pair(self) -> dict[str, Any]:
        """Arguments of `Pair`."""
        return {
            "p_min": self.p_min,
            "dense_head": self.dense_head,
            "strict": self.strict,
            "draft_sampling": self.sampling,
            "lookup": self.lookup,
        }


@dataclass
class Opened:
    """A model and the slots on it."""

    model: Model
    owns_model: bool
    drafter: Model | None
    """The drafter's model, where it was opened here."""
    group: SlotGroup | None
    why_no_pair: str

    def close(self) -> None:
        if self.group is not None:
            self.group.close()
        if self.drafter is not None:
            self.drafter.close()
        if self.owns_model:
            self.model.close()


def open_slots(
    path: str | Model,
    file: FileOptions,
    speculation: Speculation,
    context: ContextOptions,
    parallel: int,
    n_positions: int | None = None,
    mmproj: Any = None,
) -> Opened:
    """Opens the model and its drafter, and makes `parallel` slots on them. mmproj: as `LLM` takes
    it; room is left for its towers.

    A drafter "auto" that does not fit is left out, with a warning. Raises `UsageError` for a wrong
    option, and what `Model.open`, `Context` and `Pair` raise.
    """
    speculation.check()
    file.check()
    drafter = None if speculation.drafter is False else speculation.drafter
    draft_device = draft_device_for(file.device, speculation.device)
    opening: dict[str, Any] = {"use_mmap": file.use_mmap, "n_threads": context.n_threads}
    if isinstance(path, Model):
        name = file.changed()
        if name is not None:
            raise UsageError(f"{name} says how a file is opened, and this model is open already")
        opened = Opened(path, False, None, None, "no drafter was asked for")
    else:
        layers = layers_for(
            path,
            drafter,
            device_name=file.device,
            draft_device=draft_device,
            n_gpu_layers=file.n_gpu_layers,
            strict=file.strict,
            use_mmap=file.use_mmap,
            sizes={"device_bytes": file.device_bytes, **context.sizes()},
            parallel=parallel,
            mmproj=mmproj,
        )
        model = _open_model(
            path, device=file.device, n_gpu_layers=layers, progress=file.progress, **opening
        )
        opened = Opened(model, True, None, None, "no drafter was asked for")
    try:
        _warn_of_length(opened.model, context.n_ctx)
        found = isinstance(drafter, str) and drafter == "auto"
        if found:
            drafter = None
            if not opened.model.is_drafter:  # its context tells why it can't be one
                drafter, opened.why_no_pair = drafter_beside(opened.model)
        if isinstance(drafter, os.PathLike) or (isinstance(drafter, str) and drafter != LOOKUP):
            _open_drafter(opened, drafter, found, {"device": draft_device, **opening})
            drafter = opened.drafter
        parts = Parts(opened.model, vars(context), drafter, speculation.of_pair())
        parts.why_no_pair = opened.why_no_pair
        parts.parallel, parts.n_positions = parallel, n_positions
        _make_slots(opened, parts, found)
    except BaseException:
        opened.close()
        raise
    return opened


def is_repository(path: str) -> bool:
    """True for OWNER/NAME where a file is expected, and is not."""
    return not os.path.exists(path) and looks_like_name(os.fspath(path))


def _open_model(path: str, **options: Any) -> Model:
    try:
        return Model.open(path, **options)
    except ModelNotFoundError as error:
        if not is_repository(path):
            raise
        way = f"a repository of huggingface.co opens with LLM.from_pretrained({os.fspath(path)!r})"
        raise ModelNotFoundError(f"{error.sentence}; {way}") from error


def _warn_of_length(model: Model, n_ctx: int | None) -> None:
    trained = model.n_ctx_train
    if isinstance(n_ctx, int) and 0 < trained < n_ctx:
        _log.warning(
            "n_ctx is %d, but %s was trained for texts of %d tokens: it may lose the thread beyond",
            n_ctx,
            model.path,
            trained,
        )


def _open_drafter(opened: Opened, drafter: Any, found: bool, opening: dict[str, Any]) -> None:
    try:
        opened.drafter = Model.open(drafter, **opening)
    except PairingError as error:
        _leave_alone(opened, error, found)


def _leave_alone(opened: Opened, error: PairingError, found: bool) -> None:
    """Raises the error if the drafter was asked for. Leaves out a drafter that was only found, with
    a warning."""
    if not found:
        raise error
    opened.why_no_pair = f"the drafter beside the model does not fit it: {error.sentence}"
    _log.warning("%s", opened.why_no_pair)
    if opened.drafter is not None:
        opened.drafter.close()
        opened.drafter = None


def _make_slots(opened: Opened, parts: Parts, found: bool) -> None:
    if parts.parallel > 1:
        check_memory(parts)
    try:
        opened.group = SlotGroup(parts)
    except PairingError as error:
        if parts.drafter is None:
            raise
        _leave_alone(opened, error, found)
        parts.drafter, parts.why_no_pair = None, opened.why_no_pair
        opened.group = SlotGroup(parts)


def check_memory(parts: Parts) -> None:
    """Raises `OutOfMemoryError`, with the numbers, if the host has no room for all contexts."""
    parallel = parts.parallel
    sizes = ContextOptions(**parts.sizes).sizes()
    found = parts.model.memory(**sizes)
    kv = found["kv"]
    full = kv["full"]["bytes"]
    if parts.n_positions is not None:  # they share them
        n_ctx = max(int(found["n_ctx"]), 1)
        full = full * min(1.0, max(parts.n_positions, n_ctx) / (parallel * n_ctx))
    each = int(full + kv["bytes"] - kv["full"]["bytes"] + kv["snapshots"])
    shared = int(found["scratch"] + found["outputs"] * min(parallel, 14))
    memory, total = device("cpu")["memory"], each * parallel + shared
    if total > memory["free"]:
        raise OutOfMemoryError(
            f"{parallel} contexts of {each / 1e9:.2f} GB take {total / 1e9:.2f} GB, but "
            f"{memory['free'] / 1e9:.2f} GB are free: lower parallel, n_positions or n_ctx"
        )


def context_bytes(model: Model, sizes: dict[str, Any], drafter: Model | None = None) -> int:
    """Bytes of each further context, without the weights."""
    found = model.memory(drafter=drafter, **sizes)
    kv = found["kv"]
    return int(kv["bytes"] + kv["snapshots"] + found["scratch"] + found["outputs"])
