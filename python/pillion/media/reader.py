"""`MediaReader`: from the images and sounds of a request to the ids that stand for their rows."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np

from .._locks import ForkLock
from ..errors import Closed, MediaError
from ..mmproj import Mmproj
from ..model import Model
from ..tokenizer import Tokenizer
from .budget import ImageTokens, budget_for, checked_budget
from .cache import Entry, Lease, RowCache, Rows
from .expanding import Medium, expanded
from .markers import MarkerTokens, marker_tokens, never_sampled
from .media_parts import IMAGE, MediaPart, check_count
from .media_towers import Towers, check_kind
from .sounds import SAMPLE_RATE, pieces_of, seconds_of

_PIECE_SECONDS = {"gemma4a": 30}
"""The longest sound that an audio tower takes at once; others take any."""
_SEEN_MAX = 1024  # files whose digests are remembered
_VERSION = b"pillion media 1"


@dataclass
class ReadMedia:
    """The media of one request, whose rows the model has."""

    lease: Lease
    """Keeps the rows there."""
    markers: dict[str, MarkerTokens]
    """The tokens around each kind."""
    media: list[Medium] = field(default_factory=list)

    def expanded(self, tokens: Sequence[int]) -> list[int]:
        """A prompt's tokens with the media in place of their markers."""
        return expanded(tokens, self.markers, self.media)

    def counts(self) -> dict[str, int]:
        """Tokens of images and sounds, and pieces of sounds, for the usage."""
        found = {"image_tokens": 0, "audio_tokens": 0, "audio_pieces": 0}
        for one in self.media:
            if one.kind == IMAGE:
                found["image_tokens"] += len(one.ids)
            else:
                found["audio_tokens"] += len(one.ids)
                found["audio_pieces"] += one.n_pieces
        return {name: n for name, n in found.items() if n}


@dataclass(frozen=True)
class _Known:
    """A file that was decoded before."""

    digest: bytes
    n_pieces: int
    seconds: float


class MediaReader:
    """Reads the media of requests for one model. Threads may share it; each encodes its own.

    image_tokens: the budget of images that name none; None: what the mmproj file says. n_batch:
    rows of one run. Raises `UsageError` for a wrong budget.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        towers: Towers,
        image_tokens: ImageTokens | None,
        n_batch: int,
    ) -> None:
        self.image_tokens = (
            None if image_tokens is None else checked_budget("image_tokens", image_tokens)
        )
        """The budget of images that name none; None: what the mmproj file says."""
        self.towers = towers
        """The mmproj file."""
        self._n_batch = n_batch
        self._model = model
        self._tokenizer = tokenizer
        self.cache = _cache_of(model)
        """The rows that the model has, shared by all who read media for it."""
        self._seen: OrderedDict[tuple[Any, ...], _Known] = OrderedDict()
        self._lock = ForkLock()

    def read(self, parts: Sequence[MediaPart], files: bool = True) -> ReadMedia:
        """Decodes and encodes the media, in this thread. files: False: paths are refused.

        Raises `MediaError` for a medium that cannot be read, and where there is no tower for it.
        """
        check_count(len(parts))
        mmproj = self.towers.open()
        for part in parts:
            check_kind(mmproj, part.kind, part.name)
        kinds = sorted({part.kind for part in parts})
        markers = {kind: marker_tokens(self._tokenizer, kind) for kind in kinds}
        found = ReadMedia(self.cache.lease(), markers)
        for part in parts:
            found.media.append(self._read_one(found.lease, mmproj, part, files))
        return found

    def never_sampled(self) -> list[int]:
        """Tokens that no answer to a request with media may have."""
        return never_sampled(self._tokenizer)

    # ---- one medium ----

    def _read_one(self, lease: Lease, mmproj: Mmproj, part: MediaPart, files: bool) -> Medium:
        source = part.loaded(files)
        budget = next(
            one
            for one in (part.image_tokens, self.image_tokens, mmproj.image_tokens)
            if one is not None
        )
        key: tuple[Any, ...] | None = None
        if isinstance(source, bytes):
            key = (hashlib.sha256(source).digest(), part.kind, budget)
            with self._lock.here():
                known = self._seen.get(key)
            entry = None if known is None else lease.find(known.digest)
            if known is not None and entry is not None:
                _check_strict(part, known)
                return Medium(part.kind, entry.ids, known.n_pieces)
        if part.kind == IMAGE:
            known, entry = self._image(lease, mmproj, part, source, budget)
        else:
            known, entry = self._sound(lease, mmproj, part, source)
        if key is not None:
            with self._lock.here():
                self._seen[key] = known
                self._seen.move_to_end(key)
                while len(self._seen) > _SEEN_MAX:
                    self._seen.popitem(last=False)
        return Medium(part.kind, entry.ids, known.n_pieces)

    def _image(
        self, lease: Lease, mmproj: Mmproj, part: MediaPart, source: Any, wanted: ImageTokens
    ) -> tuple[_Known, Entry]:
        pixels = part.pixels(source)
        height, width, _ = pixels.shape
        budget = budget_for(wanted, height, width)
        digest = self._digest(part.kind, pixels, height, width, budget)
        sees_itself = self._model.image_bidirectional
        rows, columns = mmproj.image_grid(height, width, budget)
        if sees_itself and rows * columns > self._n_batch:
            raise MediaError(
                f"{part.name} has {rows * columns} tokens, which this model reads in one run, but "
                f"n_batch is {self._n_batch}: make n_batch larger, or image_tokens smaller"
            )
        entry = lease.add(digest, lambda: mmproj.encode_image(pixels, budget), sees_itself)
        return _Known(digest, 1, 0), entry

    def _sound(
        self, lease: Lease, mmproj: Mmproj, part: MediaPart, source: Any
    ) -> tuple[_Known, Entry]:
        samples = part.samples(source)
        pieces = _heard_pieces(mmproj, part, samples)
        digest = self._digest(part.kind, samples)
        known = _Known(digest, len(pieces), seconds_of(samples))
        _check_strict(part, known)

        def encode() -> Rows:
            return np.concatenate([mmproj.encode_audio(one) for one in pieces])

        return known, lease.add(digest, encode)

    def _digest(self, kind: str, values: Any, *sizes: int) -> bytes:
        head = hashlib.sha256(_VERSION + self.towers.identity + kind.encode())
        head.update(repr(sizes).encode())
        head.update(np.ascontiguousarray(values).data)
        return head.digest()

    def close(self) -> None:
        """Drops all rows and frees the towers."""
        self.cache.clear()
        self.towers.close()


_caches: WeakKeyDictionary[Model, RowCache] = WeakKeyDictionary()


def _cache_of(model: Model) -> RowCache:
    """The one cache of a model, which several LLMs may stand on."""
    found = _caches.get(model)
    if found is None:
        known = ref(model)  # the cache must not keep it

        def add(rows: Rows, digest: bytes, sees_itself: bool) -> int:
            there = known()
            if there is None:
                raise Closed("this model is closed")
            return there.add_media(rows, digest, bidirectional=sees_itself)

        def drop(first: int) -> None:
            there = known()
            if there is not None and not there.closed:
                there.drop_media(first)

        found = _caches.setdefault(model, RowCache(add, drop))
    return found


def _heard_pieces(mmproj: Mmproj, part: MediaPart, samples: Any) -> list[Any]:
    """The sound in the pieces that the tower takes at once. What gives no token is left out: at the
    end less than a hundredth of a second; a sound of nothing else is refused."""
    projector = (mmproj.describe().get("audio") or {}).get("projector")
    seconds = _PIECE_SECONDS.get(str(projector))
    pieces = pieces_of(samples, None if seconds is None else seconds * SAMPLE_RATE)
    heard = [one for one in pieces if mmproj.audio_tokens(len(one)) > 0]
    if not heard:
        raise MediaError(
            f"{part.name} has {len(samples)} samples at 16 kHz, {len(samples) / 16:.1f} ms, which "
            "is too short to hear anything"
        )
    return heard


def _check_strict(part: MediaPart, known: _Known) -> None:
    if part.strict and known.n_pieces > 1:
        raise MediaError(
            f"{part.name} lasts {known.seconds:g} s, so the model would hear it in "
            f"{known.n_pieces} pieces of 30 s, and its part says strict: cut it, or leave strict "
            "out"
        )
