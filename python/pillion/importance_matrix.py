"""`imatrix`: measures over a text which input channels of which weights matter, and writes it in
llama.cpp's GGUF form, for quantizers.

Per weight the file holds `<weight>.in_sum2`, f32 [n_in, n_mat]: the squares of each input channel,
summed over rows; and `<weight>.counts`, f32 [1, n_mat]: the number of rows. n_mat is the number of
experts of a routed weight, else 1.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._native import as_bytes, as_str
from .arguments import check_callable, check_int, check_path, check_text
from .atomic_file import atomic_file, check_place
from .calling import checked
from .context import Activation
from .errors import ModelFileError, UsageError
from .model import Model, opened
from .options import thread_count
from .perplexity import cut_windows, window_losses

DEFAULT_CHUNK = 512


class ImatrixSummary(NamedTuple):
    """What `imatrix` wrote."""

    n_weights: int
    """Weights that the file has sums for."""
    n_chunks: int
    """Chunks of text that were run."""
    n_tokens: int
    """Tokens in them."""
    perplexity: float
    """Perplexity over the second half of each chunk."""
    unused_experts: dict[str, int]
    """{routed weight: number of experts that no row chose}. Their sums and counts are 0."""


@checked
def imatrix(
    model: Model,
    text: str,
    out: str | os.PathLike[str],
    *,
    chunk: int = DEFAULT_CHUNK,
    chunks: int | None = None,
    n_threads: int | None = None,
    dataset: str = "",
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> ImatrixSummary:
    """Runs the model over a text and writes the importance matrix of its weights.

    chunk: tokens of a chunk. Chunks follow each other. Each starts with an empty context, and with
    BOS in place of its first token if the model wants one. A rest shorter than a chunk is left out.
    chunks: the most chunks (None: all).
    n_threads: None: all cores this process may use.
    dataset: name of the text, stored in the file.
    progress: called as progress(done_chunks, chunks).

    The file appears under its name when all is done, or not at all. Needs the `gguf` package (`pip
    install pillion[convert]`). Raises UsageError, and ModelFileError if an input is not finite.
    """
    opened("model", model)
    check_text("text", text)
    dataset = as_str(as_bytes(check_text("dataset", dataset)))
    target = Path(check_path("out", out))
    thread_count(n_threads)
    check_callable("progress", progress)
    chunk = check_int("chunk", chunk, 4, 2**31 - 1, "at least 4 tokens")
    chunks = (
        None
        if chunks is None
        else check_int("chunks", chunks, 1, None, "at least 1, or None for all")
    )
    gguf = _gguf()
    tokens = _tokens(model, text, chunk, chunks)
    check_place(target)
    if target.exists() and any(
        os.path.exists(part) and target.samefile(part) for part in model.files
    ):
        raise UsageError(
            f"{target} is the model itself; the importance matrix needs a file of its own"
        )
    with model.context(chunk, n_threads=n_threads, collect_activations=True) as context:
        loss = window_losses(context, tokens, progress)
        found = context.activations()
    _check(found, model.path)
    with atomic_file(target) as path:
        _write(gguf, path, found, dataset, len(tokens), chunk)
    return ImatrixSummary(
        n_weights=len(found),
        n_chunks=len(tokens),
        n_tokens=int(tokens.size),
        perplexity=math.exp(min(float(loss.mean()), 700.0)),
        unused_experts={
            name: int((a.counts == 0).sum()) for name, a in found.items() if (a.counts == 0).any()
        },
    )


def _tokens(model: Model, text: str, chunk: int, chunks: int | None) -> Any:
    """The text's tokens, int32 [chunks, chunk]."""
    tokenizer = model.tokenizer
    ids = tokenizer.encode(text)
    if len(ids) < chunk:
        raise UsageError(f"the text has {len(ids)} tokens, less than one chunk of {chunk}")
    return cut_windows(ids, chunk, tokenizer.bos if tokenizer.adds_bos else None)[:chunks]


def _check(found: Mapping[str, Activation], path: str) -> None:
    for name, a in found.items():
        if not np.isfinite(a.sums).all():
            raise ModelFileError(
                f"{path}: what goes into {name} is not finite, "
                "so there is no importance matrix of this model"
            )


def _write(
    gguf: Any, path: Path, found: Mapping[str, Activation], dataset: str, n_chunks: int, chunk: int
) -> None:
    class Writer(gguf.GGUFWriter):  # type: ignore[misc]
        def add_architecture(self) -> None:
            """These files have none."""

    writer = Writer(path, arch="")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", [dataset])
    writer.add_uint32("imatrix.chunk_count", n_chunks)
    writer.add_uint32("imatrix.chunk_size", chunk)
    for name in sorted(found):
        writer.add_tensor(f"{name}.in_sum2", found[name].sums)
        writer.add_tensor(f"{name}.counts", found[name].counts[:, np.newaxis])
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _gguf() -> Any:
    """The gguf package. Imported before anything runs, so that a missing package costs no
    measurement."""
    try:
        return importlib.import_module("gguf")
    except ImportError:
        raise UsageError(
            'an importance matrix is written with the gguf package: pip install "pillion[convert]"'
        ) from None
