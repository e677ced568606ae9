"""What this machine offers: processor, kernel tables, memory, backends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ._native import lib, read_json
from .calling import checked


@dataclass(frozen=True)
class Backend:
    """A backend of this build."""

    name: str
    """ "cpu", "cuda" or "htp"."""
    available: bool
    """True if a model can be opened on it here."""
    reason: str | None = None
    """Why it is not available; "": it is."""
    info: dict[str, Any] = field(default_factory=dict)
    """What an available one says of itself: a CUDA device's name, compute capability and memory, a
    DSP's architecture …"""


@checked
def system() -> dict[str, Any]:
    """{"cpu": {"table", "tables", "features", "threads", "threads_from"}, "backends": [...],
    "memory_bytes"}."""
    found: dict[str, Any] = read_json(lib.pillion_system_json, 4096)
    return found


@checked
def backends() -> list[Backend]:
    """Lists all backends, absent ones with the reason."""
    return [
        Backend(
            str(entry["name"]),
            bool(entry["available"]),
            entry.get("reason") or None,
            entry.get("info") or {},
        )
        for entry in system()["backends"]
    ]


def usable_cpus() -> int:
    """Number of CPUs this process may use: online, in its affinity mask, and within the quotas of
    its cgroups (rounded down)."""
    ask = lib.pillion_device_json
    found = read_json(lambda out, capacity, needed: ask(b"cpu", out, capacity, needed), 4096)
    return int(found["info"]["threads"])
