"""Sizes in bytes as text."""

from __future__ import annotations


def size_of(n_bytes: float) -> str:
    """Bytes in a readable unit, a power of 1024."""
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"
