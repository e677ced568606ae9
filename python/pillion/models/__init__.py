"""The models that come with the package, for `pillion demo` and the tests: a tiny Gemma 4 that read
the Bible, its drafter, and its eyes and ears."""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from importlib import resources
from pathlib import Path


def _file(name: str) -> Path:
    """A file of this folder; of a package inside an archive, a copy of it until the process
    ends."""
    path = Path(__file__).with_name(name)
    if path.exists():
        return path
    kept = ExitStack()
    atexit.register(kept.close)
    try:
        return kept.enter_context(resources.as_file(resources.files(__package__) / name))
    except (FileNotFoundError, KeyError):
        return path  # whoever opens it says that it is missing


TINY_TARGET = _file("tiny-target.gguf")
"""The target of the tiny pair: 5 million parameters, sliding and full layers, shared KV, per-layer
embeddings."""

TINY_ASSISTANT = _file("tiny-assistant.gguf")
"""Its drafter: 0.8 million parameters, centroid head; about half of its drafts are accepted at
three a round."""

TINY_MMPROJ = _file("tiny-mmproj.gguf")
"""Its towers: they name handwritten and spoken digits, with 70 soft tokens a picture."""

SEVEN_PNG = _file("seven.png")
"""A handwritten digit that the towers read (Alpaydin and Kaynak, CC BY 4.0)."""

SEVEN_WAV = _file("seven.wav")
"""The same digit, spoken by espeak-ng."""

GENESIS = _file("genesis.txt")
"""Two chapters of plain English (public domain), a text for benchmarks."""
