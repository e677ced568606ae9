"""llama-cpp-python's names on pillion: a script runs with one import changed.

    from pillion.llama_cpp import Llama

`Llama` has the signature, the defaults and the result shapes of llama-cpp-python 0.3.36. What has
no meaning here is taken at its default, and is otherwise a sentence that names pillion's own way.
The table is docs/from_llama_cpp_python.md. New programs are better off with `pillion.LLM`.
"""

from __future__ import annotations

from typing import Any

from ..errors import NoSuchName
from . import constants as _constants
from .llama import Llama
from .llama_cache import BaseLlamaCache, LlamaCache, LlamaDiskCache, LlamaRAMCache
from .llama_grammar import LlamaGrammar
from .llama_speculative import LlamaDraftModel, LlamaPromptLookupDecoding
from .llama_tokenizer import BaseLlamaTokenizer, LlamaHFTokenizer, LlamaTokenizer
from .low_level import LlamaState
from .processors import (
    LogitsProcessor,
    LogitsProcessorList,
    MinTokensLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)

__version__ = "0.3.36"
"""The version of llama-cpp-python whose names these are."""

__all__ = [
    "BaseLlamaCache",
    "BaseLlamaTokenizer",
    "Llama",
    "LlamaCache",
    "LlamaDiskCache",
    "LlamaDraftModel",
    "LlamaGrammar",
    "LlamaHFTokenizer",
    "LlamaPromptLookupDecoding",
    "LlamaRAMCache",
    "LlamaState",
    "LlamaTokenizer",
    "LogitsProcessor",
    "LogitsProcessorList",
    "MinTokensLogitsProcessor",
    "StoppingCriteria",
    "StoppingCriteriaList",
]


def __getattr__(name: str) -> Any:
    """The constants that are values of arguments. llama.cpp's C functions are a sentence."""
    if name in vars(_constants):
        return getattr(_constants, name)
    if name.startswith(("llama_", "ggml_", "LLAMA_", "GGML_", "mtmd_", "llava_")):
        raise NoSuchName(
            f"pillion.llama_cpp has no {name!r}, a name of llama.cpp's C interface: use "
            "pillion.Model, Context and Sampler, or libpillion (docs/c_abi.md)"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
