"""Keywords sorted by who takes them: `LLM`, or a call of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..llm.llm import LLM

LLM_KEYWORDS = frozenset(inspect.signature(LLM).parameters) - {"path"}
"""What the constructor of `LLM` takes, beside the model."""


def parted(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of `LLM`, and the others."""
    for_llm = {name: value for name, value in options.items() if name in LLM_KEYWORDS}
    return for_llm, {name: value for name, value in options.items() if name not in for_llm}
