"""The pair that comes with the package, for `pillion demo` and the tests: a tiny Gemma 4 that read the Bible, and its drafter."""

from __future__ import annotations

from pathlib import Path

TINY_TARGET = Path(__file__).with_name("tiny-target.gguf")
"""The target of the tiny pair: 5 million parameters, sliding and full layers, shared KV, per-layer embeddings."""

TINY_ASSISTANT = Path(__file__).with_name("tiny-assistant.gguf")
"""Its drafter: 0.8 million parameters, ordered head; about half of its drafts are accepted at three a round."""

GENESIS = Path(__file__).with_name("genesis.txt")
"""Two chapters of plain English (public domain), a text for benchmarks."""
