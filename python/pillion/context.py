"""`Context`: a sequence of tokens on a model, its KV cache and the outputs of its last run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._native import (
    Handle,
    Tokens,
    as_str,
    check,
    check_handle,
    ffi,
    interruptible,
    lib,
    read_json,
    read_tokens,
    token_array,
)
from .arguments import check_bool, check_int, check_path, wrong
from .calling import checked_class
from .errors import Busy, UsageError
from .options import ContextKeywords, ContextOptions, takes

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .model import Model
    from .sampling import Sampler

LONG_RUN = 16
"""Rows from which a run is handed to a worker thread so that Ctrl-C can stop it. A thread costs
about 0.1 ms, a row of a small model 10 ms; single tokens and the few rows of a verification are
called directly, where Ctrl-C arrives between calls."""

Floats = npt.NDArray[np.float32]


class Logprobs(NamedTuple):
    """Log-probabilities (natural log) of one row, before any sampler."""

    top: list[tuple[int, float]]
    """The most likely tokens, best first."""
    token: float | None
    """Log-probability of the token asked for; None: none was."""


class Match(NamedTuple):
    """How many tokens of a text a context holds. Both numbers are less than the text's length."""

    common: int
    """Length of the common beginning."""
    usable: int
    """Tokens of it that would not run again."""


class Work(NamedTuple):
    """The work of a run."""

    multiply_adds: float
    """Multiply-adds of all matrix products."""
    weight_bytes: float
    """Bytes of the matrices that the run reads. Routed experts count as expected for random
    routing."""
    kv_bytes: float
    """Bytes of the cached keys and values that the run reads."""


class Limits(NamedTuple):
    """The most that a machine can do."""

    read_bytes_per_second: float
    """Bytes of memory read in a second."""
    multiply_adds_per_second: float
    """int8 dot products; 0: unknown."""


class Activation(NamedTuple):
    """The inputs of one weight, summed up."""

    sums: Floats
    """[n_experts, n_in]: squares of each input channel, summed over all rows. n_experts is 1 unless
    the weight is routed."""
    counts: Floats
    """[n_experts]: rows summed up; 0 for an expert that no row chose."""


@checked_class
class Context(Handle):
    """A sequence of tokens. It serves one caller at a time: a second thread gets `Busy`. Any thread
    may call `cancel`.

    model: the model that it runs, and keeps alive.
    n_ctx: positions (None: the model's own, at most 4096).
    n_batch: rows of one prefill run (None: 512).
    n_threads: None: all cores this process may use.
    n_outputs: the most rows whose logits one run can return (None: 16).
    kv_type: "f16" or "q8_0".
    flash_attn: "auto": tiled attention where the device has a kernel for the shape, else its plain
    kernel (`placement` tells which). "on" (True): a shape without a tiled kernel is an error. "off"
    (False): the plain kernel. The CPU's one kernel tiles all.
    swa_full: sliding layers keep every position, so that any rewind is a counter.
    n_snapshots: copies of the sliding layers' window that may be kept (0 to 256; None: as many as
    128 MB hold, 1 to 4). Going back to a prompt after a long answer is then a copy, not a run.
    `describe()["snapshot_bytes"]` is their size.
    collect_activations: sums up the inputs of each weight, for `activations()`.
    """

    _kind = "context"

    @takes(ContextOptions)
    def __init__(
        self,
        model: Model,
        n_ctx: int | None = None,
        **options: Unpack[ContextKeywords],
    ) -> None:
        config = ContextOptions(n_ctx=n_ctx, **options).config()
        out = ffi.new("pillion_context**")
        pointer = check_handle("model", model, "model", "a Model (Model.open opens a file)")
        check(lib.pillion_context_new(pointer, config, out))
        self._set_up(out[0], model)

    @classmethod
    def _of_batch(cls, pointer: Any, model: Model) -> Context:
        """A context that a batch has made."""
        context = cls.__new__(cls)
        context._set_up(pointer, model)
        return context

    def _set_up(self, pointer: Any, model: Model) -> None:
        super().__init__(pointer, lib.pillion_context_free)
        self.model = model
        """The model this context runs; kept alive by it."""
        self._n_ctx = self._lengths()[1]
        self._n_rows = 0
        self.changes = 0
        """Counts the calls that may have changed the sequence."""

    # ---- running ----

    def prefill(self, tokens: Tokens, outputs: int = 1) -> None:
        """Appends tokens. The last `outputs` of them get logits and hidden rows.

        Raises `ContextFullError`, before anything runs, if they do not fit, and `Cancelled` after
        cancel(). Either way the context is as it was before.
        """
        array, n = token_array(tokens)
        outputs = check_int("outputs", outputs, 0, 2**31 - 1)
        self._run(n, lambda: check(lib.pillion_context_eval(self._c, array, n, outputs)))
        self._n_rows = outputs

    def decode(self, tokens: int | Tokens) -> None:
        """Appends one token, or a few.

        tokens: a token id or several, at most n_outputs. Each of them gets logits. Raises what
        `prefill` raises."""
        if isinstance(tokens, (int, np.integer)):
            tokens = check_int("tokens", tokens, -(2**31), 2**31 - 1)
            self._fails_without_outputs(
                lib.pillion_context_eval(self._c, ffi.new("int32_t[]", (tokens,)), 1, 1)
            )
            self._n_rows = 1
            return
        array, n = token_array(tokens)
        self._run(n, lambda: check(lib.pillion_context_eval(self._c, array, n, n)))
        self._n_rows = n

    def sync(self, tokens: Tokens) -> int:
        """Makes the context hold exactly these tokens, with logits for the last one. Returns how
        many tokens it kept.

        It keeps the longest usable common prefix and runs the rest, at least one token. A prefix is
        usable if the sliding layers, or a snapshot, hold the window before its end. Prompts leave a
        snapshot behind. Raises what `prefill` raises.
        """
        array, n = token_array(tokens)
        reused = ffi.new("size_t*")
        self._run(n, lambda: check(lib.pillion_context_sync(self._c, array, n, reused)))
        self._n_rows = 1
        return int(reused[0])

    def read(self, tokens: Tokens, n_rows: int) -> int:
        """Runs a part of `sync`: keeps the usable prefix and runs at most n_rows tokens behind it,
        never the last one, without outputs. Returns the length of the prefix.

        The next call continues there; `sync` runs the rest.

        Raises `ContextFullError` for more tokens than n_ctx, `UsageError` for ids that are
        no tokens, and `Cancelled`.
        """
        array, n = token_array(tokens)
        n_rows = check_int("n_rows", n_rows, 1, 2**31 - 1)
        reused = ffi.new("size_t*")
        self._run(n, lambda: check(lib.pillion_context_read(self._c, array, n, n_rows, reused)))
        self._n_rows = 0
        return int(reused[0])

    def match(self, tokens: Tokens) -> Match:
        """Tells what `sync` would find of these tokens. Changes nothing."""
        array, n = token_array(tokens)
        common, usable = ffi.new("size_t*"), ffi.new("size_t*")
        check(lib.pillion_context_match(self._c, array, n, common, usable))
        return Match(int(common[0]), int(usable[0]))

    def share(self, other: Context, length: int | None = None) -> int:
        """Holds what `other`, a context of the same batch, holds at `length` (None: all), and no
        more. Full layers' pages are shared, until one of the two writes to them. Returns the number
        of tokens held: `length`, or less if `other`'s sliding layers no longer go back so far.

        Raises `UsageError` if `other` is of another batch or holds fewer tokens, and
        `ContextFullError` if the batch has no page left.
        """
        pointer = check_handle("other", other, "context", "a Context of the same batch")
        length = other.n_past if length is None else check_int("length", length, 0, 2**31 - 1)
        n = ffi.new("size_t*")
        check(lib.pillion_context_share(self._c, pointer, length, n))
        self.changes += 1
        self._n_rows = 0
        return int(n[0])

    def rewind(self, length: int) -> None:
        """Drops all positions from `length` on. The outputs of the last run become invalid.

        If neither the sliding layers nor a snapshot hold the window before `length`, the tokens
        since the nearest snapshot run again.

        Raises `UsageError` for a length beyond the tokens held, and `Cancelled`.
        """
        length = check_int("length", length, 0, 2**31 - 1)
        # A way back beyond the last run may mean running the kept tokens again.
        dropped = self.n_past - length
        self._run(dropped, lambda: check(lib.pillion_context_rewind(self._c, length)))
        self._n_rows = 0

    def clear(self) -> None:
        """Drops all positions."""
        self.rewind(0)

    def score(self, tokens: Tokens) -> Floats:
        """Computes log p(tokens[i + 1] | tokens[: i + 1]) for each i: float32 [n - 1]. Starts with
        an empty context and drops what the context held.

        Raises `ContextFullError` for more tokens than n_ctx, `UsageError` for ids that are
        no tokens, and `Cancelled`.
        """
        array, n = token_array(tokens)
        out = np.empty(max(n - 1, 0), dtype=np.float32)
        pointer = ffi.from_buffer("float[]", out) if n > 1 else ffi.new("float[1]")
        self._run(n, lambda: check(lib.pillion_context_score(self._c, array, n, pointer)))
        self._n_rows = 0
        return out

    def embed(self, tokens: Tokens, *, normalize: bool = True) -> Floats:
        """Computes one vector for the whole text, float32 [n_embd]: the mean of the hidden rows of
        all its tokens after the final norm, divided by its length if `normalize`.

        Starts with an empty context and drops what the context held. Afterwards the context holds
        these tokens, without outputs; after `Cancelled`, a part of them. Every n_batch and
        n_threads gives the same bits. Raises `ContextFullError` if the tokens do not fit.
        """
        check_bool("normalize", normalize)
        array, n = token_array(tokens)
        out = np.empty(self.model.n_embd, dtype=np.float32)
        pointer = ffi.from_buffer("float[]", out)
        self._run(n, lambda: check(lib.pillion_context_embed(self._c, array, n, pointer, len(out))))
        self._n_rows = 0
        return unit_vector(out) if normalize else out

    # ---- a state to keep ----

    def save(self, path: str | os.PathLike[str], sampler: Sampler | None = None) -> None:
        """Saves the text and its cache in a file, for `load`.

        path: the file. It appears when it is complete; until then an older one stays.
        sampler: its state is saved too, without its settings.

        Outputs are not saved. Raises `UsageError` for a path that is a folder or no regular file,
        `ModelFileError` if the system refuses to write (no space left, no permission), and
        `Cancelled`.
        """
        name, native = self._path(path), self._sampler(sampler)
        interruptible(lambda: check(lib.pillion_context_save(self._c, native, name)), self.cancel)

    def load(self, path: str | os.PathLike[str], sampler: Sampler | None = None) -> int:
        """Brings a saved text back. What follows has the bits that it would have had.

        path: a file of `save`, of the same model and kv_type; n_ctx and the other options may
        differ. sampler: gets the saved state and keeps its settings.

        Returns how many tokens had to run: 0, unless the context has copies of its cache on another
        device in another layout. There are no outputs afterwards: `sync(tokens)` runs the last
        token again.

        The whole file is checked before anything changes. Raises `UsageError` for a file of another
        model, kv_type or device layout and for a sampler that was not saved, `ContextFullError` for
        a text longer than n_ctx, `ModelFileError` for a damaged file or one of another kind,
        `UnsupportedModelError` for a newer version, `ModelNotFoundError`, and `Cancelled`. Only a
        device that fails, or a file that somebody changes meanwhile, leaves the context empty.
        """
        name, native, ran = self._path(path), self._sampler(sampler), ffi.new("size_t*")
        return self._load(lambda: check(lib.pillion_context_load(self._c, native, name, ran)), ran)

    def state(self, sampler: Sampler | None = None) -> bytes:
        """What `save` writes, as bytes. sampler: as in `save`. Raises what `save` raises, and
        `OutOfMemoryError`."""
        native, needed = self._sampler(sampler), ffi.new("size_t*")
        status = lib.pillion_context_get_state(self._c, native, ffi.NULL, 0, needed)
        if status != lib.PILLION_ERROR_BUFFER_TOO_SMALL:
            check(status)
        out = bytearray(needed[0])
        view = ffi.from_buffer(out)
        interruptible(
            lambda: check(lib.pillion_context_get_state(self._c, native, view, len(out), needed)),
            self.cancel,
        )
        return bytes(out)

    def set_state(self, state: bytes, sampler: Sampler | None = None) -> int:
        """`load` from the bytes of `state`. sampler: as in `load`. Returns and raises what `load`
        does."""
        if not isinstance(state, (bytes, bytearray, memoryview)):
            wrong("state", state, "the bytes that state() returned")
        native, ran = self._sampler(sampler), ffi.new("size_t*")
        raw = bytes(state)
        view = ffi.from_buffer(raw)
        return self._load(
            lambda: check(lib.pillion_context_set_state(self._c, native, view, len(raw), ran)), ran
        )

    def _path(self, path: Any) -> bytes:
        return os.fsencode(check_path("path", path))

    def _sampler(self, sampler: Any) -> Any:
        if sampler is None:
            return ffi.NULL
        return check_handle("sampler", sampler, "sampler", "a Sampler or None")

    def _load(self, call: Any, ran: Any) -> int:
        try:
            interruptible(call, self.cancel)
        finally:
            self.changes += 1
        self._n_rows = 0
        return int(ran[0])

    def cancel(self) -> None:
        """Stops a running call at its next operation; that call raises `Cancelled`. Any thread may
        call it. Without a running call it has no effect."""
        check(lib.pillion_context_cancel(self._c))

    def _run(self, n: int, call: Any) -> None:
        try:
            if n >= LONG_RUN:
                interruptible(call, self.cancel)
            else:
                call()
        except Busy:
            raise  # the outputs belong to the caller inside
        except BaseException:
            self._n_rows = 0
            self.changes += 1
            raise
        self.changes += 1

    def _fails_without_outputs(self, status: int) -> None:
        if status != lib.PILLION_ERROR_BUSY:
            self.changes += 1
        if status:
            if status != lib.PILLION_ERROR_BUSY:
                self._n_rows = 0
            check(status)

    # ---- what it holds ----

    @property
    def n_past(self) -> int:
        """Positions in use."""
        return self._lengths()[0]

    @property
    def n_ctx(self) -> int:
        """Positions of the context. Any thread may ask, also during a run."""
        self._c  # noqa: B018 - raises Closed
        return self._n_ctx

    @property
    def n_rows(self) -> int:
        """Output rows of the last run; 0 after a run without outputs."""
        return self._n_rows

    def __len__(self) -> int:
        return self.n_past

    def _lengths(self) -> tuple[int, int]:
        length, n_ctx = ffi.new("size_t*"), ffi.new("size_t*")
        check(lib.pillion_context_length(self._c, length, n_ctx))
        return int(length[0]), int(n_ctx[0])

    @property
    def tokens(self) -> list[int]:
        """The tokens in the context."""
        return read_tokens(
            lambda out, capacity, needed: lib.pillion_context_tokens(
                self._c, out, capacity, needed
            ),
            512,
        )

    def describe(self) -> dict[str, Any]:
        """Where each operation runs, the kernel table, scratch and KV sizes."""
        description: dict[str, Any] = read_json(
            lambda out, capacity, needed: lib.pillion_context_json(self._c, out, capacity, needed),
            1 << 14,
        )
        return description

    def placement(self) -> list[dict[str, Any]]:
        """Lists where each op of a decode step runs: {"op", "layer", "backend", "kernel"}. Layer
        -1: outside the layers (embedding, head)."""
        plan: list[dict[str, Any]] = self.describe()["plan"]
        return plan

    # ---- how fast it could be ----

    def work(self, n: int = 1, n_outputs: int = 1) -> Work:
        """Counts the work of a run of n more tokens from the model's graph. n_outputs: rows of them
        that get logits."""
        n, n_outputs = (
            check_int("n", n, 0, 2**31 - 1),
            check_int("n_outputs", n_outputs, 0, 2**31 - 1),
        )
        raw = ffi.new("pillion_work*")
        check(lib.pillion_context_work(self._c, n, n_outputs, raw, ffi.sizeof("pillion_work")))
        return Work(float(raw.multiply_adds), float(raw.weight_bytes), float(raw.kv_bytes))

    def limits(self) -> Limits:
        """Measures the most that the machine can do with this context's threads and kernels. Takes
        half a second and 256 MB."""
        raw = ffi.new("pillion_limits*")
        interruptible(
            lambda: check(lib.pillion_context_limits(self._c, raw, ffi.sizeof("pillion_limits"))),
            self.cancel,
        )
        return Limits(float(raw.read_bytes_per_second), float(raw.multiply_adds_per_second))

    def activations(self) -> dict[str, Activation]:
        """Returns the inputs of each weight, summed up since the context was made, by the weight's
        name in the file. Needs `collect_activations`.

        Collect with `score()`: it runs all layers for all rows, while other calls skip what nobody
        reads. Raises `UsageError` after a run that was broken off.
        """
        n, info = ffi.new("size_t*"), ffi.new("pillion_activation_info*")
        check(lib.pillion_context_activation_count(self._c, n))
        found = {}
        for i in range(n[0]):
            check(
                lib.pillion_context_activation(
                    self._c, i, info, ffi.sizeof("pillion_activation_info")
                )
            )
            sums = np.frombuffer(
                ffi.buffer(info.sums, info.n_experts * info.n_in * 4), dtype=np.float32
            )
            counts = np.frombuffer(ffi.buffer(info.counts, info.n_experts * 4), dtype=np.float32)
            found[as_str(ffi.string(info.name))] = Activation(
                sums.reshape(info.n_experts, info.n_in).copy(), counts.copy()
            )
        return found

    # ---- outputs of the last run ----

    def logits(self, row: int = -1, copy: bool = True) -> Floats:
        """Logits of an output row, float32 [n_vocab]; row -1: the last.

        copy=False returns a read-only view of the library's memory. Its content is valid until the
        next step.

        Raises `UsageError` for a row that has no outputs.
        """
        return self._output(lib.pillion_context_logits, row, copy)

    def hidden(self, row: int = -1, copy: bool = True) -> Floats:
        """Hidden row after the final norm, float32 [n_embd]. row, copy: as in `logits`.

        Raises what `logits` raises.
        """
        return self._output(lib.pillion_context_hidden, row, copy)

    def logprobs(self, row: int = -1, k: int = 0, token: int | None = None) -> Logprobs:
        """Returns the k most likely tokens of a row with their log-probabilities, and the
        log-probability of `token`.

        Raises `UsageError` for a row that has no outputs.
        """
        k = check_int("k", k, 0, self.model.n_vocab)
        token = None if token is None else check_int("token", token, 0, self.model.n_vocab - 1)
        ids, values = ffi.new("int32_t[]", max(k, 1)), ffi.new("float[]", max(k, 1))
        own = ffi.new("float*")
        check(
            lib.pillion_context_logprobs(
                self._c,
                self._row(row),
                k,
                ids,
                values,
                -1 if token is None else token,
                ffi.NULL if token is None else own,
            )
        )
        return Logprobs(
            [(ids[i], values[i]) for i in range(k)], None if token is None else float(own[0])
        )

    def _row(self, row: int) -> int:
        row = check_int("row", row)
        actual = row + self._n_rows if row < 0 else row
        if not 0 <= actual < self._n_rows:
            raise UsageError(f"row {row} has no outputs: the last run left {self._n_rows} rows")
        return actual

    def _output(self, read: Any, row: int, copy: bool) -> Floats:
        check_bool("copy", copy)
        pointer, n = ffi.new("const float**"), ffi.new("size_t*")
        check(read(self._c, self._row(row), pointer, n))
        held = self._c
        # The view's memory belongs to the context, so the view holds it: closing the context frees
        # it with the last view.
        owner = pointer[0] if copy else ffi.gc(pointer[0], lambda _, held=held: None)
        view: Floats = np.frombuffer(ffi.buffer(owner, n[0] * 4), dtype=np.float32)
        if copy:
            copied: Floats = view.copy()
            return copied
        view.flags.writeable = False
        return view

    def __repr__(self) -> str:
        return f"<pillion.Context {self._state()}>"

    def _state(self) -> str:
        if self.closed:
            return "closed"
        try:
            return f"{self.n_past} of {self._n_ctx} positions"
        except UsageError:  # another thread is inside it
            return f"{self._n_ctx} positions, busy"


def unit_vector(vector: Floats) -> Floats:
    """The same direction with length 1, computed in float64. A vector of zeros stays zero."""
    wide = vector.astype(np.float64)
    length = float(np.sqrt(np.sum(wide * wide)))
    unit: Floats = (wide / length if length > 0 else wide).astype(np.float32)
    return unit
