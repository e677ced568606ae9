"""pillion: Gemma 4 from a GGUF file, on the CPU, from Python.

    import pillion

    with pillion.LLM("gemma-4-E2B-it-Q4_0.gguf") as llm:
        for chunk in llm.chat([{"role": "user", "content": "Hello!"}], stream=True):
            print(chunk["choices"][0]["delta"].get("content", ""), end="")

`LLM` writes text. Under it: `Model` (a file), `Context` (one sequence), `Pair` (a context and its drafter), `Tokenizer`,
`Sampler`. Nothing is printed; the logger "pillion" tells what happens.
"""

from __future__ import annotations

from ._native import version
from .chat import ChatTemplate
from .context import Activation, Context, Logprobs
from .devices import Backend, backends, system
from .errors import (
    BackendError,
    BufferTooSmallError,
    Busy,
    Cancelled,
    Closed,
    ContextFullError,
    DeviceLostError,
    InternalError,
    ModelFileError,
    ModelNotFoundError,
    NoBackendError,
    OutOfMemoryError,
    PairingError,
    PillionError,
    UnsupportedModelError,
    UnsupportedOpError,
    UsageError,
)
from .generation import Generation, Piece, Timings, TokenInfo
from .importance import ImatrixSummary, imatrix
from .llm import LLM
from .model import Metadata, Model
from .pair import Pair, PairStats, Round
from .pairing import find_drafter
from .sampling import Sampler, SamplingParams
from .tokenizer import Tokenizer, TokenStream

__version__ = version()

__all__ = [
    "LLM",
    "Activation",
    "Backend",
    "BackendError",
    "BufferTooSmallError",
    "Busy",
    "Cancelled",
    "ChatTemplate",
    "Closed",
    "Context",
    "ContextFullError",
    "DeviceLostError",
    "Generation",
    "ImatrixSummary",
    "InternalError",
    "Logprobs",
    "Metadata",
    "Model",
    "ModelFileError",
    "ModelNotFoundError",
    "NoBackendError",
    "OutOfMemoryError",
    "Pair",
    "PairStats",
    "PairingError",
    "Piece",
    "PillionError",
    "Round",
    "Sampler",
    "SamplingParams",
    "Timings",
    "TokenInfo",
    "TokenStream",
    "Tokenizer",
    "UnsupportedModelError",
    "UnsupportedOpError",
    "UsageError",
    "backends",
    "find_drafter",
    "imatrix",
    "system",
    "version",
]
