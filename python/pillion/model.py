"""`Model`: an open GGUF file, its weights and its tokenizer. It is immutable and serves any number
of contexts and threads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._native import (
    Handle,
    Progress,
    as_bytes,
    as_str,
    check,
    ffi,
    interruptible,
    lib,
    read_bytes,
    read_json,
)
from .arguments import check_bool, check_callable, check_int, check_path, check_text, wrong
from .calling import checked_class
from .context import Context
from .options import (
    ContextKeywords,
    ContextOptions,
    ContextSizes,
    SizeKeywords,
    takes,
    thread_count,
)
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack


@checked_class
class Model(Handle):
    """A model file. `Model.open(path)` opens it; `close()` or `with` closes it.

    Contexts and the tokenizer stay usable after the model is closed: the weights are freed with the
    last of them.
    """

    _kind = "model"
    _made_by = "Model.open(path) opens a file"

    def __init__(self, pointer: Any, path: str) -> None:
        super().__init__(pointer, lib.pillion_model_free)
        self.path = path
        """The path that it was opened by."""
        self._info = ffi.new("pillion_model_info*")
        self._info.struct_size = ffi.sizeof("pillion_model_info")
        check(lib.pillion_model_get_info(self._c, self._info, ffi.sizeof("pillion_model_info")))
        self._tokenizer: Tokenizer | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        use_mmap: bool = True,
        device: str = "auto",
        n_gpu_layers: int = -1,
        n_threads: int | None = None,
        metadata_only: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> Model:
        """Opens a GGUF file, or a model in parts (`NAME-00001-of-00003.gguf`) by the path of any.

        use_mmap: map the file; False reads it into memory.
        device: "auto" (a CUDA device where there is one, else the CPU), "cpu", "cuda", "cuda:1",
        "htp". n_gpu_layers: layers on the device, from the last one down; the others stay on the
        CPU. -1: as many as fit beside a context of default size (`LLM` counts for its own); 0:
        none; more than there are: all. An assistant lies on its device as a whole. n_threads:
        threads that repack weights (None: all this process may use).
        metadata_only: no weights are loaded; the tokenizer and the descriptions work, contexts do
        not. progress: called as progress(done_bytes, total_bytes), perhaps from another thread.
        What it raises ends the load."""
        name = check_path("path", path)
        watch = Progress(None if progress is None else check_callable("progress", progress))
        handle = ffi.new_handle(watch)
        device_name = ffi.new("char[]", as_bytes(check_text("device", device)))
        config = ffi.new("pillion_model_config*")
        lib.pillion_model_config_init(config, ffi.sizeof("pillion_model_config"))
        config.no_mmap = not check_bool("use_mmap", use_mmap)
        config.metadata_only = check_bool("metadata_only", metadata_only)
        config.n_threads = thread_count(n_threads)
        config.device = device_name
        config.n_gpu_layers = layer_count(n_gpu_layers)
        config.progress = lib.pillion_py_progress
        config.progress_user = handle
        encoded = os.fsencode(name)
        out = ffi.new("pillion_model**")
        try:
            with watch:
                interruptible(
                    lambda: check(lib.pillion_model_open(encoded, config, out)), watch.cancel
                )
        except Exception:
            if watch.error is not None:
                raise watch.error from None
            raise
        except BaseException:
            if out[0] != ffi.NULL:  # Ctrl-C came just after the load was done
                lib.pillion_model_free(out[0])
            raise
        return cls(out[0], name)

    # ---- what it is ----

    @property
    def arch(self) -> str:
        """The architecture's name in the file: "gemma4", "gemma3", "llama" …"""
        return as_str(ffi.string(self._info.arch))

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self._info.n_layers)

    @property
    def n_embd(self) -> int:
        """Width of a hidden row."""
        return int(self._info.n_embd)

    @property
    def n_vocab(self) -> int:
        """Tokens of the vocabulary: the width of a row of logits."""
        return int(self._info.n_vocab)

    @property
    def n_ctx_train(self) -> int:
        """The context length the model was trained for."""
        return int(self._info.n_ctx_train)

    @property
    def n_heads(self) -> int:
        """Attention heads of a layer."""
        return int(self._info.n_heads)

    @property
    def window(self) -> int:
        """Positions of the sliding window; 0: no layer has one."""
        return int(self._info.window)

    @property
    def is_drafter(self) -> bool:
        """True for a Gemma 4 assistant, which runs only beside its target."""
        return bool(self._info.is_drafter)

    @property
    def n_params(self) -> int:
        """Number of weights."""
        return int(self._info.n_params)

    @property
    def file_bytes(self) -> int:
        """Bytes of the file, or of all parts together."""
        return int(self._info.file_bytes)

    @property
    def files(self) -> list[str]:
        """Paths of the file, or of all parts of a model in several, in order."""
        parts: list[str] = self.describe().get("parts") or [self.path]
        return parts

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in memory."""
        return int(self._info.weight_bytes)

    @property
    def tokenizer(self) -> Tokenizer:
        """The file's tokenizer."""
        if self._tokenizer is None or self._tokenizer.closed:
            out = ffi.new("pillion_tokenizer**")
            check(lib.pillion_model_tokenizer(self._c, out))
            self._tokenizer = Tokenizer(out[0])
        return self._tokenizer

    @property
    def metadata(self) -> Metadata:
        """The file's metadata as a read-only mapping of key to value."""
        return Metadata(self)

    def describe(self) -> dict[str, Any]:
        """Returns sizes, layers, tensor types, what a drafter needs, what is wrong or not read, and
        the metadata with long arrays shortened."""
        description: dict[str, Any] = read_json(
            lambda out, capacity, needed: lib.pillion_model_json(self._c, out, capacity, needed),
            1 << 16,
        )
        return description

    @takes(ContextSizes)
    def memory(
        self,
        n_ctx: int | None = None,
        *,
        drafter: Model | None = None,
        **sizes: Unpack[SizeKeywords],
    ) -> dict[str, Any]:
        """Computes the bytes that a context of this size would take, and a drafter on it. Loads
        nothing. n_ctx and the further sizes: as in `Context`.

        Works with models opened for metadata only. Raises what making the context or the pair would
        raise. An assistant alone gives its weights; the rest depends on its target.
        """
        config = ContextSizes(n_ctx=n_ctx, **sizes).config()
        other = ffi.NULL if drafter is None else opened("drafter", drafter)._c
        found: dict[str, Any] = read_json(
            lambda out, capacity, needed: lib.pillion_model_memory(
                self._c, other, config, out, capacity, needed
            )
        )
        return found

    @takes(ContextSizes)
    def fit(
        self,
        n_ctx: int | None = None,
        *,
        drafter: Model | None = None,
        device: str = "auto",
        draft_device: str = "auto",
        n_gpu_layers: int = -1,
        device_bytes: int = 0,
        strict: bool = False,
        **sizes: Unpack[SizeKeywords],
    ) -> dict[str, Any]:
        """How many layers a device holds beside cache, scratch and drafter: counted, nothing is
        loaded. n_ctx and the further sizes: as in `Context`.

        device, draft_device: as in `LLM`.
        n_gpu_layers: exactly so many (-1: as many as fit). device_bytes: of its memory that may
        be used (0: what is free now). strict: fewer layers than all are an error where n_gpu_layers
        is -1. Returns {"device", "is_host", "n_layers", "device_layers", "weights", "kv",
        "scratch", "total", "available", "note"}, bytes on the device; note: a sentence where not
        all layers fit, else "". Raises `OutOfMemoryError` with the numbers when it does not fit."""
        context = ContextSizes(n_ctx=n_ctx, **sizes).config()
        places = {"device": device, "draft_device": draft_device}
        names = [
            ffi.new("char[]", as_bytes(check_text(name, place))) for name, place in places.items()
        ]
        config = ffi.new("pillion_fit_config*")
        lib.pillion_fit_config_init(config, ffi.sizeof("pillion_fit_config"))
        config.device, config.draft_device = names
        config.n_gpu_layers = layer_count(n_gpu_layers)
        config.device_bytes = check_int("device_bytes", device_bytes, 0, 2**63 - 1)
        config.strict = check_bool("strict", strict)
        other = ffi.NULL if drafter is None else opened("drafter", drafter)._c
        found: dict[str, Any] = read_json(
            lambda out, capacity, needed: lib.pillion_model_fit(
                self._c, other, context, config, ffi.NULL, out, capacity, needed
            )
        )
        return found

    # ---- images and sounds ----

    @property
    def takes_media(self) -> bool:
        """True if its texts may have rows of images and sounds."""
        return bool(self._info.takes_media)

    @property
    def image_bidirectional(self) -> bool:
        """True if rows of an image see one another: the large Gemma 4 models."""
        return bool(self._info.image_bidirectional)

    def add_media(
        self,
        rows: npt.ArrayLike,
        digest: bytes,
        *,
        bidirectional: bool = False,
    ) -> int:
        """Lends the rows of an image or a sound to the texts of this model.

        rows: [n, n_embd] float32, what `Mmproj` encodes; they are copied. digest: 32 bytes that
        tell this medium from others, such as a SHA-256. bidirectional: its rows see one another
        (`image_bidirectional`, for images).
        Returns the id of the first row, below 0: row i has id `first - i`. In any list of tokens,
        these ids stand for the rows. The same digest gives the same ids, so texts with the same
        media begin alike. Raises `UsageError` for another width, no rows, or a known digest with
        other rows, `UnsupportedModelError` if the model takes no media."""
        values = _rows(rows)
        if not isinstance(digest, bytes) or len(digest) != 32:
            wrong("digest", digest, "32 bytes")
        first = ffi.new("int32_t*")
        check(
            lib.pillion_model_add_media(
                self._c,
                digest,
                ffi.from_buffer("float[]", values),
                values.shape[0],
                values.shape[1],
                check_bool("bidirectional", bidirectional),
                first,
            )
        )
        return int(first[0])

    def drop_media(self, first: int) -> None:
        """Frees the rows of a medium. first: the id that `add_media` returned. Texts that have been
        read keep the rows in their caches, and the digest still gives the same ids. Raises
        `UsageError` if no medium begins with this id."""
        check(lib.pillion_model_drop_media(self._c, check_int("first", first, -(2**31), 2**31 - 1)))

    # ---- running it ----

    @takes(ContextOptions)
    def context(self, n_ctx: int | None = None, **options: Unpack[ContextKeywords]) -> Context:
        """Makes a new, empty sequence on this model. n_ctx and the further options: as in
        `Context`.

        Raises `UsageError` for a size, thread count or type that is not allowed, and
        `OutOfMemoryError`.
        """
        return Context(self, **vars(ContextOptions(n_ctx=n_ctx, **options)))

    def __repr__(self) -> str:
        state = " (closed)" if self.closed else ""
        return (
            f"<pillion.Model {self.arch}, "
            f"{self.n_params / 1e6:.0f}M parameters, {self.path!r}{state}>"
        )


class Metadata(Mapping[str, Any]):
    """A file's metadata, key to value. Strings are str; everything else has the type of its JSON. A
    long array is read when asked for."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[str, Any] = model.describe().get("metadata", {})

    @property
    def path(self) -> str:
        """The file's path."""
        return self._model.path

    def __getitem__(self, key: str) -> Any:
        if key not in self._known:
            raise KeyError(key)
        name = as_bytes(key)
        raw = read_bytes(
            lambda out, capacity, needed: lib.pillion_model_metadata(
                self._model._c, name, out, capacity, needed
            )
        )
        return as_str(raw) if isinstance(self._known[key], str) else json.loads(as_str(raw))

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def _rows(rows: Any) -> npt.NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(rows, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        wrong("rows", rows, "an array of numbers [n, n_embd]")
    if values.ndim != 2:
        wrong("rows", rows, "an array of numbers [n, n_embd]")
    return values


def layer_count(n_gpu_layers: int) -> int:
    """A number of layers on a device, checked."""
    allowed = "-1 (as many as fit), 0 (none) or more"
    return check_int("n_gpu_layers", n_gpu_layers, -1, 2**31 - 1, allowed)


def opened(name: str, value: Any) -> Model:
    """Checks that an argument is a Model. Raises `UsageError` otherwise."""
    if not isinstance(value, Model):
        wrong(name, value, "a Model (Model.open opens a file)")
    return value
