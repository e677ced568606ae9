"""`Towers`: the mmproj file beside a model. It is found and opened when the first image or sound
comes, so that a session of text alone never pays for it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

from .._locks import ForkLock
from ..arguments import check_path, wrong
from ..errors import Closed, MediaError, ModelNotFoundError, PairingError
from ..gguf_head import facts_of
from ..mmproj import Mmproj
from ..mmproj_file import find_mmproj
from ..model import Model
from .media_parts import AUDIO, IMAGE

Given = str | os.PathLike[str] | Mmproj | Literal[False] | None
"""What `LLM` takes as mmproj."""

_BLOCK = 4096
_SAMPLES = 64
_HEAD = 1 << 16


class Towers:
    """The towers for one model.

    given: "auto" (the file beside the model), a path, an open `Mmproj`, which stays open, or None
    (or False). n_threads: of the encodings; None: all. Raises `UsageError` for another value, and
    `ModelNotFoundError` for a path without a file.
    """

    def __init__(self, model: Model, given: Given, n_threads: int | None = None) -> None:
        if isinstance(given, Mmproj):
            check_width(model, given)
        elif isinstance(given, (str, os.PathLike)):
            given = check_path("mmproj", given)
            if given != "auto" and not os.path.exists(given):
                raise ModelNotFoundError(f"mmproj: there is no file {given}")
        elif given is not None and given is not False:
            wrong("mmproj", given, "'auto', a path, a Mmproj, or None (or False) for none")
        self._model = model
        self._given = given
        self._n_threads = n_threads
        self._opened: Mmproj | None = given if isinstance(given, Mmproj) else None
        self._identity: bytes | None = None
        self._kinds: frozenset[str] | None = None
        self._closed = False
        self._lock = ForkLock()

    @property
    def path(self) -> Path | None:
        """The file; None: there is none. Raises `PairingError` if "auto" finds several."""
        given = self._given
        if isinstance(given, Mmproj):
            return Path(given.path)
        if given is None or given is False:
            return None
        return find_mmproj(self._model) if given == "auto" else Path(os.fspath(given))

    @property
    def loaded(self) -> bool:
        """True once the file was opened."""
        return self._opened is not None

    def open(self) -> Mmproj:
        """The file's towers, opened at the first call. Raises `MediaError` where there is no file,
        `PairingError` for a file of another model, and what `Mmproj` raises."""
        with self._lock.here():
            if self._closed:
                raise Closed("this LLM is closed")
            if self._opened is None:
                path = self.path
                if path is None:
                    raise MediaError(self._why_none())
                opened = Mmproj(path, n_threads=self._n_threads)
                try:
                    check_width(self._model, opened)
                except BaseException:
                    opened.close()
                    raise
                self._opened = opened
            return self._opened

    def _why_none(self) -> str:
        model = os.path.basename(self._model.path)
        if self._given == "auto":
            return (
                f"there is no mmproj file beside {model}, which would hold the model's towers for "
                "images and sounds: put it there, or name it: LLM(…, mmproj=PATH), --mmproj PATH"
            )
        return (
            f"{model} was opened without an mmproj file, which holds the model's towers for images "
            "and sounds: name it: LLM(…, mmproj=PATH), --mmproj PATH"
        )

    @property
    def identity(self) -> bytes:
        """A digest of the file, from its size and a sample of its bytes: rows of another file are
        other rows."""
        if self._identity is None:
            self._identity = _digest_of(Path(self.open().path))
        return self._identity

    @property
    def kinds(self) -> frozenset[str]:
        """What the model sees and hears: "image", "audio", as the file's head says, which is all
        that is read. Empty where there is no file that fits."""
        if isinstance(self._given, Mmproj):
            return _kinds_of(self._given)
        if self._kinds is None:
            try:
                path = self.path
            except PairingError:  # several: the first medium will say so
                path = None
            self._kinds = frozenset() if path is None else _kinds_in_head(path)
        return self._kinds

    def close(self) -> None:
        """Frees the towers. Closing twice is fine."""
        with self._lock.here():
            self._closed = True
            if self._opened is not None and self._opened is not self._given:
                self._opened.close()


def check_width(model: Model, mmproj: Mmproj) -> None:
    """Raises `PairingError` for the mmproj of another model."""
    if mmproj.n_embd != model.n_embd:
        raise PairingError(
            f"{mmproj.path} is for a model of width {mmproj.n_embd}, but {model.path} has width "
            f"{model.n_embd}: it belongs to another model"
        )


def check_kind(mmproj: Mmproj, kind: str, name: str) -> None:
    """Raises `MediaError` for a medium that the towers do not take. name: of the medium."""
    if kind in _kinds_of(mmproj):
        return
    tower, others = ("vision", "sounds") if kind == IMAGE else ("audio", "images")
    raise MediaError(
        f"{name} cannot be read: {os.path.basename(mmproj.path)} has no {tower} tower, the model "
        f"takes {others} only"
    )


def _kinds_of(mmproj: Mmproj) -> frozenset[str]:
    has = {IMAGE: mmproj.has_vision, AUDIO: mmproj.has_audio}
    return frozenset(kind for kind, there in has.items() if there)


def _kinds_in_head(path: Path) -> frozenset[str]:
    facts = facts_of(path)
    keys = {IMAGE: "clip.has_vision_encoder", AUDIO: "clip.has_audio_encoder"}
    return frozenset(kind for kind, key in keys.items() if facts.get(key) is True)


def _digest_of(path: Path) -> bytes:
    """Head, end and evenly spread blocks: a gigabyte is not read for a name."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        found.update(size.to_bytes(8, "little"))
        file.seek(0)
        found.update(file.read(_HEAD))
        for at in range(_SAMPLES):
            file.seek(max(0, (size - _BLOCK) * at // (_SAMPLES - 1)))
            found.update(file.read(_BLOCK))
    return found.digest()
