"""`Llama`: llama-cpp-python's class on a `pillion.LLM`, which is its `llm`."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import check_bool, check_path
from ..calling import checked_class
from ..chat.format import TEMPLATE
from ..context import Floats
from ..errors import ContextFullError, NoSuchName, UsageError
from ..llm.embedding import Texts
from ..llm.llm import LLM
from ..llm.openai_format import embedding_list
from ..llm.requests import checked_ids, checked_text, newline_token
from ..model import Model
from ..tokenizer import Tokenizer
from . import constants as c
from .keywords import translated
from .llama_calls import Calls
from .llama_chat_format import handler_of
from .llama_tokenizer import LlamaTokenizer
from .low_level import ROWS, LowLevel, hidden_rows
from .media_handlers import MTMDChatHandler

_NO_POINTER = (
    "Llama.{0} is a pointer of llama.cpp's in llama-cpp-python; Llama.llm.{1} is pillion's object"
)


@checked_class
class Llama(Calls, LowLevel):
    """A model with llama-cpp-python's arguments, methods and results.

    Arguments mean what they mean there; docs/from_llama_cpp_python.md lists each. Those of
    `pillion.LLM` are taken too (drafter, draft, parallel, kv_type, chat_template, device, …).
    Threads may share it. `llm` is the LLM behind it.
    """

    n_threads: int | None
    n_threads_batch: int | None
    chat_format: str | None

    def __init__(
        self,
        model_path: str,
        *,
        n_gpu_layers: int = 0,
        split_mode: int = c.LLAMA_SPLIT_MODE_LAYER,
        main_gpu: int = 0,
        tensor_split: list[float] | None = None,
        vocab_only: bool = False,
        use_mmap: bool = True,
        use_mlock: bool = False,
        kv_overrides: dict[str, Any] | None = None,
        seed: int = c.LLAMA_DEFAULT_SEED,
        n_ctx: int = 512,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_threads: int | None = None,
        n_threads_batch: int | None = None,
        rope_scaling_type: int | None = c.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED,
        pooling_type: int = c.LLAMA_POOLING_TYPE_UNSPECIFIED,
        attention_type: int = c.LLAMA_ATTENTION_TYPE_UNSPECIFIED,
        rope_freq_base: float = 0.0,
        rope_freq_scale: float = 0.0,
        yarn_ext_factor: float = -1.0,
        yarn_attn_factor: float = 1.0,
        yarn_beta_fast: float = 32.0,
        yarn_beta_slow: float = 1.0,
        yarn_orig_ctx: int = 0,
        logits_all: bool = False,
        embedding: bool = False,
        offload_kqv: bool = True,
        flash_attn: bool = False,
        op_offload: bool | None = None,
        swa_full: bool | None = None,
        no_perf: bool = False,
        last_n_tokens_size: int = 64,
        lora_base: str | None = None,
        lora_scale: float = 1.0,
        lora_path: str | None = None,
        numa: bool | int = False,
        chat_format: str | None = None,
        chat_handler: Callable[..., Any] | None = None,
        draft_model: Any = None,
        tokenizer: Any = None,
        type_k: int | None = None,
        type_v: int | None = None,
        spm_infill: bool = False,
        verbose: bool = True,
        **kwargs: Any,
    ) -> None:
        given = {
            name: value
            for name, value in locals().items()
            if name not in ("self", "model_path", "kwargs", "__class__")
        }
        path = check_path("model_path", model_path)
        self._open(path, given, kwargs, lambda options: LLM(path, **options))

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        filename: str | None = None,
        additional_files: Sequence[str] | None = None,
        local_dir: str | os.PathLike[str] | None = None,
        local_dir_use_symlinks: bool | str = "auto",
        cache_dir: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Llama:
        """A model of Hugging Face's hub, by its repository and a file name or pattern. See
        `pillion.LLM.from_pretrained`, which finds the drafter and all parts of a file itself, and
        whose options are taken too."""
        if local_dir is not None:
            raise UsageError(
                f"local_dir={str(local_dir)!r} has no use in pillion: files lie in the hub's "
                "cache, which cache_dir or the environment variable HF_HOME moves"
            )
        asked = {name: kwargs.pop(name) for name in _OF_HUB if name in kwargs}
        if additional_files is not None:
            asked["additional_files"] = additional_files
        if cache_dir is not None:
            asked["cache_dir"] = cache_dir
        llama = cls.__new__(cls)
        known = {
            name: kwargs.pop(name, one.default)
            for name, one in _parameters().items()
            if name not in ("self", "model_path", "kwargs")
        }
        hub: Any = LLM
        llama._open(
            "",
            known,
            kwargs,
            lambda options: hub.from_pretrained(repo_id, filename, **asked, **options),
        )
        return llama

    def _open(
        self,
        path: str,
        given: dict[str, Any],
        more: dict[str, Any],
        open_llm: Callable[[dict[str, Any]], LLM],
    ) -> None:
        self._llm: LLM | None = None
        self._file: Model | None = None
        trained = 0
        if (given["n_ctx"] == 0 and path) or given["vocab_only"]:
            self._file = Model.open(path, metadata_only=True)
            trained = self._file.n_ctx_train
        found = translated(given, more, trained)
        handler, template = handler_of(given["chat_format"], given["chat_handler"])
        if isinstance(given["chat_handler"], MTMDChatHandler):
            if "mmproj" in more:
                raise UsageError("chat_handler and mmproj were given; they name the same file")
            found.options["mmproj"] = given["chat_handler"].clip_model_path
        if template is not None and "chat_template" in more:
            raise UsageError("chat_format and chat_template were given; they are the same choice")
        if template is not None:
            found.options["chat_template"] = template
        self._handler, self._guess = handler, found.draft_model
        self._logits_all = given["logits_all"]
        self._seed = found.options["seed"]
        self._given = {**given, **more}
        if not given["vocab_only"]:
            if self._file is not None:
                self._file.close()
                self._file = None
            if found.options["n_ctx"] == 0:
                found.options["n_ctx"] = None
            self._llm = open_llm(found.options)
        self._set_attributes(path, given, found.options)

    def _set_attributes(self, path: str, given: dict[str, Any], options: dict[str, Any]) -> None:
        """What scripts read of a Llama."""
        self.model_path = path or self._model.path
        self.n_batch: int = options["n_batch"]
        for name in _KEPT:
            setattr(self, name, given[name])
        if self._llm is not None:
            self.n_threads = self.n_threads_batch = self._llm.context.describe()["n_threads"]
        if self._handler is None and self.chat_format is None and TEMPLATE in self._model.metadata:
            self.chat_format = "chat_template.default"
        self.cache: Any = None
        names = ("n_gpu_layers", "split_mode", "main_gpu", "vocab_only", "use_mmap", "use_mlock")
        self.model_params = SimpleNamespace(**{name: given[name] for name in names})
        self.context_params = SimpleNamespace(
            **{name: given[name] for name in _OF_CONTEXT},
            n_ctx=options["n_ctx"],
            n_batch=self.n_batch,
            embeddings=given["embedding"],
        )
        self.tokenizer_ = LlamaTokenizer(self._tokenizer)
        self.metadata: dict[str, str] = _as_text(self._model)

    @property
    def llm(self) -> LLM:  # type: ignore[override]
        """The `pillion.LLM` behind it."""
        if self._llm is None:
            raise UsageError(
                "this Llama has vocab_only=True: it knows the tokenizer and no weights"
            )
        return self._llm

    @property
    def _model(self) -> Model:
        if self._file is not None:
            return self._file
        return self.llm.model

    @property
    def _tokenizer(self) -> Tokenizer:
        return self._model.tokenizer if self._file is not None else self.llm.tokenizer

    # ---- tokens ----

    def tokenize(self, text: bytes | str, add_bos: bool = True, special: bool = False) -> list[int]:
        """Token ids of UTF-8 bytes, or of a text. special: the spelling of a control token becomes
        that token."""
        add_bos, special = check_bool("add_bos", add_bos), check_bool("special", special)
        return self._tokenizer.encode(checked_text("text", text), add_bos, special)

    def detokenize(
        self, tokens: list[int], prev_tokens: list[int] | None = None, special: bool = False
    ) -> bytes:
        """The bytes of token ids. special: control tokens are spelled out. prev_tokens changes
        nothing: a token's bytes do not depend on those before."""
        check_bool("special", special)
        return self._tokenizer.decode_bytes(checked_ids("tokens", tokens), special)

    def tokenizer(self) -> LlamaTokenizer:
        """The file's tokenizer."""
        return LlamaTokenizer(self._tokenizer)

    def token_bos(self) -> int:
        """The token that texts begin with; -1: none."""
        return -1 if self._tokenizer.bos is None else self._tokenizer.bos

    def token_eos(self) -> int:
        """The token that ends a text; -1: none."""
        return -1 if self._tokenizer.eos is None else self._tokenizer.eos

    def token_nl(self) -> int:
        """The token of a line's end; -1: it is not a single token."""
        return newline_token(self._tokenizer)

    # ---- sizes ----

    def n_ctx(self) -> int:
        """Positions of a context."""
        return self.llm.n_ctx()

    def n_embd(self) -> int:
        """Width of an embedding."""
        return self._model.n_embd

    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        return self._model.n_vocab

    def pooling_type(self) -> int:
        """LLAMA_POOLING_TYPE_MEAN (1): an embedding is the mean of the rows of all tokens.
        LLAMA_POOLING_TYPE_NONE (0), for unspecified too: it is a row for each token."""
        return max(int(self._given["pooling_type"]), c.LLAMA_POOLING_TYPE_NONE)

    # ---- embeddings ----

    def embed(
        self,
        input: Texts,
        normalize: bool = False,
        truncate: bool = True,
        return_count: bool = False,
    ) -> Any:
        """What a text means to the model, or a list of it for a list of texts. Floats [n_tokens,
        n_embd], the hidden rows after the final norm; with pooling_type 1 their mean, [n_embd].

        truncate: a long text is cut at n_ctx tokens; False: `ContextFullError`. return_count:
        returns (vectors, number of tokens).
        """
        for name, value in (("normalize", normalize), ("truncate", truncate)):
            check_bool(name, value)
        ids, single = self.llm.embedding_tokens("input", input)
        if truncate:
            ids = [one[: self.llm.n_ctx()] for one in ids]
        rows = [one.tolist() for one in self._embedded(ids, normalize)]
        found = rows[0] if single else rows
        return (found, sum(map(len, ids))) if check_bool("return_count", return_count) else found

    def create_embedding(self, input: Texts, model: str | None = None) -> dict[str, Any]:
        """`embed` in the shape of OpenAI's API. The vectors are not normalised."""
        texts: Any = input if isinstance(input, list) else [input]
        ids, _ = self.llm.embedding_tokens("input", texts)
        ids = [one[: self.llm.n_ctx()] for one in ids]
        found = embedding_list(
            self._embedded(ids, False), ids, self.model_path if model is None else model
        )
        return found

    def _embedded(self, ids: list[list[int]], normalize: bool) -> list[Floats]:
        if self.pooling_type() == c.LLAMA_POOLING_TYPE_MEAN:
            return [self.llm.embedder.embed(one, normalize) for one in ids]
        longest, n_ctx = max(map(len, ids)), self.llm.n_ctx()
        if longest > n_ctx:
            raise ContextFullError(
                f"the text has {longest} tokens, but the context holds {n_ctx} (n_ctx)"
            )
        found: list[Floats] = []

        def work() -> None:
            with self.llm.model.context(longest, n_outputs=ROWS, n_snapshots=0) as context:
                found.extend(hidden_rows(context, one, normalize) for one in ids)

        self.llm.engine.between_turns(work)
        return found

    # ---- the rest ----

    def set_cache(self, cache: Any) -> None:
        """Takes a cache, and asks it for nothing: contexts keep what they read by themselves."""
        self.cache = cache

    @property
    def ctx(self) -> Any:
        """Raises `NoSuchName`: there is no pointer of llama.cpp's."""
        raise NoSuchName(_NO_POINTER.format("ctx", "context"))

    @property
    def model(self) -> Any:
        """Raises `NoSuchName`: there is no pointer of llama.cpp's."""
        raise NoSuchName(_NO_POINTER.format("model", "model"))

    @staticmethod
    def logits_to_logprobs(logits: npt.ArrayLike, axis: int = -1) -> Floats:
        """log_softmax along an axis, float32."""
        rows = np.asarray(logits, dtype=np.single)
        most = np.amax(rows, axis=axis, keepdims=True)
        shifted = rows - np.where(np.isfinite(most), most, 0)
        with np.errstate(divide="ignore"):
            total = np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
        found: Floats = (shifted - total).astype(np.single)
        return found

    @staticmethod
    def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
        """Length of the common beginning."""
        pairs = zip(a, b, strict=False)
        return next((at for at, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))

    # ---- life ----

    def close(self) -> None:
        """Frees all. Closing twice is fine."""
        if self._llm is not None:
            self._llm.close()
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Llama:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # half made, or the interpreter ends
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        """The arguments: a copy opens the file again, with an empty context."""
        return {"model_path": self.model_path, **self._given}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Llama.__init__(self, **state)

    def __repr__(self) -> str:
        return f"<pillion.llama_cpp.Llama {self.model_path!r}>"


_OF_HUB = ("revision", "token", "endpoint", "local_files_only", "download_progress")
_KEPT = (
    "verbose",
    "n_threads",
    "n_threads_batch",
    "chat_format",
    "last_n_tokens_size",
    "lora_base",
    "lora_scale",
    "lora_path",
    "numa",
    "tensor_split",
    "kv_overrides",
    "chat_handler",
    "draft_model",
    "spm_infill",
)
_OF_CONTEXT = (
    "n_ubatch",
    "rope_scaling_type",
    "rope_freq_base",
    "rope_freq_scale",
    "offload_kqv",
    "flash_attn",
    "type_k",
    "type_v",
    "no_perf",
)


def _parameters() -> Mapping[str, inspect.Parameter]:
    return inspect.signature(Llama.__init__).parameters


def _as_text(model: Model) -> dict[str, str]:
    """The metadata as llama.cpp spells it: all values are text, and lists are left out."""
    found = {}
    for key, value in model.describe().get("metadata", {}).items():
        if isinstance(value, bool):
            found[key] = str(value).lower()
        elif isinstance(value, float):
            found[key] = f"{value:f}"
        elif isinstance(value, (str, int)):
            found[key] = str(model.metadata[key])
    return found
