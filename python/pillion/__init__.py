"""pillion: Gemma 4 from a GGUF file, on the CPU, from Python.

    import pillion

    with pillion.LLM("gemma-4-E2B-it-Q4_0.gguf") as llm:
        for chunk in llm.chat([{"role": "user", "content": "Hello!"}], stream=True):
            print(chunk["choices"][0]["delta"].get("content", ""), end="")

`LLM` writes text. Under it: `Model` (a file), `Context` (one sequence), `Pair` (a context and its
drafter), `Tokenizer`, `Sampler`. Nothing is printed; the logger "pillion" tells what happens.
"""

from __future__ import annotations

from . import _loading as _loading  # first: says what is missing
from . import hub as hub
from ._native import version
from .batch import Batch, BatchEntry, BatchStats
from .chat.template import ChatTemplate
from .constraint import Constraint, LogitsProcessors, constrained_round, constrained_token
from .context import Activation, Context, Limits, Logprobs, Work
from .devices import Backend, backends, system
from .drafter_file import find_drafter
from .engine.engine import Engine, SlotState
from .engine.generation import Generation, Piece, Timings, TokenInfo
from .engine.stats import EngineStats
from .engine.work import Request
from .errors import (
    BackendError,
    BufferTooSmallError,
    Busy,
    Cancelled,
    ChecksumError,
    Closed,
    ContextFullError,
    DeviceLostError,
    DiskFullError,
    HubAccessError,
    HubError,
    HubUnreachableError,
    InternalError,
    MediaError,
    ModelFileError,
    ModelNotFoundError,
    NoBackendError,
    NoSuchName,
    NotOnHubError,
    OutOfMemoryError,
    PairingError,
    PillionError,
    QueueFull,
    SeveralMatchesError,
    TimedOut,
    UnsupportedModelError,
    UnsupportedOpError,
    UsageError,
)
from .importance_matrix import ImatrixSummary, imatrix
from .llm.fitting import Fit
from .llm.llm import LLM
from .mmproj import Mmproj
from .mmproj_file import find_mmproj
from .model import Metadata, Model
from .pair import Pair, PairStats, Round
from .placement import Placed, device
from .quantization import QUANTIZE_TYPES, QuantizedTensor, QuantizeReport, quantize
from .sampling import Sampler, SamplingParams
from .splitting import join, split
from .tokenizer import Tokenizer, TokenStream

__version__ = version()

__all__ = [
    "LLM",
    "QUANTIZE_TYPES",
    "Activation",
    "Backend",
    "BackendError",
    "BufferTooSmallError",
    "Batch",
    "BatchEntry",
    "BatchStats",
    "Busy",
    "Cancelled",
    "ChatTemplate",
    "ChecksumError",
    "Closed",
    "Constraint",
    "Context",
    "ContextFullError",
    "DeviceLostError",
    "DiskFullError",
    "Engine",
    "EngineStats",
    "Generation",
    "Fit",
    "HubAccessError",
    "HubError",
    "HubUnreachableError",
    "ImatrixSummary",
    "InternalError",
    "Limits",
    "LogitsProcessors",
    "Logprobs",
    "MediaError",
    "Metadata",
    "Mmproj",
    "Model",
    "ModelFileError",
    "ModelNotFoundError",
    "NoBackendError",
    "NoSuchName",
    "NotOnHubError",
    "OutOfMemoryError",
    "Pair",
    "PairStats",
    "PairingError",
    "Placed",
    "Piece",
    "PillionError",
    "QuantizeReport",
    "QuantizedTensor",
    "QueueFull",
    "Request",
    "Round",
    "Sampler",
    "SamplingParams",
    "SeveralMatchesError",
    "SlotState",
    "TimedOut",
    "Timings",
    "TokenInfo",
    "TokenStream",
    "Tokenizer",
    "UnsupportedModelError",
    "UnsupportedOpError",
    "UsageError",
    "Work",
    "backends",
    "constrained_round",
    "constrained_token",
    "device",
    "find_drafter",
    "find_mmproj",
    "hub",
    "imatrix",
    "join",
    "quantize",
    "split",
    "system",
    "version",
]
