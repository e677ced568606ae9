"""The `LLM` behind a class of LangChain: a given one, or one of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...arguments import wrong
from ...errors import UsageError
from ...llm.llm import LLM
from ..keywords import open_llm


def opened(model: Any, llm: Any, options: Mapping[str, Any]) -> tuple[LLM, bool]:
    """The LLM, and True if it was opened here. Raises `UsageError` without a model."""
    if llm is None:
        if isinstance(model, str) and not model:
            raise UsageError("give a model: the path of a GGUF file, or an open LLM as llm")
        return open_llm(model, options), True
    if not isinstance(llm, LLM):
        wrong("llm", llm, "an open pillion.LLM; give a path as model")
    return llm, False


def name_of(model: Any, llm: LLM) -> str:
    """The model's name for tracing: the path as it was given, else the open model's."""
    return os.fspath(model) if isinstance(model, (str, os.PathLike)) and model else llm.name
