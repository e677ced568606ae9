"""Models by name, through `huggingface_hub` (extra `hub`).

    pulled = pillion.hub.pull("unsloth/gemma-4-E2B-it-GGUF:Q4_K_M")
    llm = pillion.LLM(pulled.path, drafter=pulled.drafter)

`import pillion` imports nothing of `huggingface_hub`; its absence is an error of the first call.
"""

from __future__ import annotations

from .cached import CachedModel, list_cached, remove_cached, unfinished
from .client import needs_extra
from .pulling import Pulled, pull

__all__ = [
    "CachedModel",
    "Pulled",
    "list_cached",
    "needs_extra",
    "pull",
    "remove_cached",
    "unfinished",
]
