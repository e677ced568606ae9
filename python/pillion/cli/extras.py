"""The package's extras, as far as this Python has what they bring. Nothing of them is imported."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

EXTRAS = {
    "hub": ("huggingface_hub",),
    "server": ("fastapi", "uvicorn", "prometheus-client", "llguidance"),
    "structured": ("llguidance",),
    "media": ("pillow", "soundfile", "soxr"),
    "ray": ("ray",),
    "langchain": ("langchain-core",),
    "convert": ("gguf", "safetensors", "tokenizers"),
    "plot": ("matplotlib",),
}
"""Those for users of the package, and the distributions that each brings."""

_SINCE = {"server": (3, 11)}
"""The Python that an extra needs, where it is later than the package's own."""


def installed() -> dict[str, dict[str, str | None]]:
    """{extra: {distribution: its version, or None}}."""
    return {name: {one: _version(one) for one in needed} for name, needed in EXTRAS.items()}


def in_words(extra: str, packages: dict[str, str | None]) -> str:
    """What is installed, or what to do about it."""
    missing = [name for name, found in packages.items() if found is None]
    if not missing:
        return ", ".join(f"{name} {found}" for name, found in packages.items())
    since = _SINCE.get(extra, (3, 10))
    if sys.version_info < since:
        return f"absent: it needs Python {since[0]}.{since[1]} or later"
    what = (
        "absent" if len(missing) == len(packages) else f"incomplete, without {', '.join(missing)}"
    )
    return f"{what}: pip install 'pillion[{extra}]'"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
