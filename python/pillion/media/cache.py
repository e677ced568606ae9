"""`RowCache`: the rows of media in the model, so that a picture is encoded once, whoever shows it
again.

Each medium is known by a digest of its pixels or samples, its budget and the mmproj file. Rows that
an unfinished request uses stay; of the others, those used last stay, up to a number of bytes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .._locks import ForkLock, forks

Rows: TypeAlias = npt.NDArray[np.float32]
"""[soft tokens, width]."""

CACHE_BYTES = 128 << 20
"""Rows of 40 images of 560 tokens for a model of width 1536."""


@dataclass
class Entry:
    """A medium whose rows the model has."""

    first: int
    """Id of its first row; the next ones count down from it."""
    n_rows: int
    n_bytes: int
    users: int = 0
    """Leases that are not over."""

    @property
    def ids(self) -> range:
        """Token ids of the rows."""
        return range(self.first, self.first - self.n_rows, -1)


class Lease:
    """Keeps the rows of some media in the model, until `release` or until nobody has it."""

    def __init__(self, cache: RowCache) -> None:
        self._cache = cache
        self._held: list[Entry] = []
        self.over = False
        """True once it was released."""

    @property
    def ids(self) -> list[range]:
        """Token ids of each medium."""
        return [entry.ids for entry in self._held]

    def add(self, digest: bytes, encode: Callable[[], Rows], sees_itself: bool = False) -> Entry:
        """Holds a medium too. encode: makes its rows, if the model does not have them.
        sees_itself: they see one another."""
        entry = self._cache._entry(digest, encode, sees_itself)
        self._held.append(entry)
        return entry

    def find(self, digest: bytes) -> Entry | None:
        """Holds a medium too, if the model has its rows."""
        entry = self._cache._known(digest)
        if entry is not None:
            self._held.append(entry)
        return entry

    def release(self) -> None:
        """Gives the rows back to the cache, which may drop them. A second time is fine."""
        if not self.over:
            self.over = True
            self._cache._left.append(self._held)
            self._cache.sweep()

    def __del__(self) -> None:
        if not self.over:  # in any thread, at any moment: the cache looks later
            self._cache._left.append(self._held)


class RowCache:
    """Rows of media in one model. Threads may share it.

    add: gives rows to the model, under a digest and with whether they see one another, and returns
    the id of the first. drop: takes them away again. n_bytes: how much may stay that nobody uses.
    """

    def __init__(
        self,
        add: Callable[[Rows, bytes, bool], int],
        drop: Callable[[int], object],
        n_bytes: int = CACHE_BYTES,
    ) -> None:
        self._add = add
        self._drop = drop
        self.limit = n_bytes
        """The most bytes of rows that nobody uses."""
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()  # those used last at the end
        self._coming: dict[tuple[int, bytes], threading.Event] = {}
        self._left: deque[list[Entry]] = deque()  # of leases that are over, not counted yet
        self._lock = ForkLock()

    def lease(self) -> Lease:
        """A lease of nothing yet."""
        return Lease(self)

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows."""
        with self._lock.here():
            return sum(one.n_bytes for one in self._entries.values())

    def __len__(self) -> int:
        """Number of media."""
        return len(self._entries)

    def _known(self, digest: bytes) -> Entry | None:
        """A medium, one more time used; None: the model does not have it."""
        with self._lock.here():
            self._count()
            entry = self._entries.get(digest)
            if entry is not None:
                entry.users += 1
                self._entries.move_to_end(digest)
            return entry

    def _entry(self, digest: bytes, encode: Callable[[], Rows], sees_itself: bool) -> Entry:
        """A medium, one more time used. Threads that want the same at the same time encode it
        once."""
        me = (forks(), digest)
        while True:
            with self._lock.here():
                entry = self._known(digest)
                if entry is not None:
                    return entry
                other = self._coming.get(me)
                if other is None:
                    mine = self._coming[me] = threading.Event()
                    break
            other.wait()
        try:
            return self._encoded(digest, encode, sees_itself)
        finally:
            with self._lock.here():
                self._coming.pop(me, None)
            mine.set()

    def _encoded(self, digest: bytes, encode: Callable[[], Rows], sees_itself: bool) -> Entry:
        rows = np.ascontiguousarray(encode(), dtype=np.float32)
        with self._lock.here():
            entry = Entry(self._add(rows, digest, sees_itself), len(rows), rows.nbytes, users=1)
            self._entries[digest] = entry
            self._shrink()
        return entry

    def sweep(self) -> None:
        """Drops what is too much, now that some leases are over."""
        with self._lock.here():
            self._count()
            self._shrink()

    def _count(self) -> None:
        """Counts the leases that are over."""
        while self._left:
            for entry in self._left.popleft():
                entry.users -= 1

    def _shrink(self) -> None:
        """Drops what nobody uses, oldest first, until the rest fits."""
        total = sum(one.n_bytes for one in self._entries.values())
        for digest in [one for one, entry in self._entries.items() if not entry.users]:
            if total <= self.limit:
                return
            entry = self._entries.pop(digest)
            total -= entry.n_bytes
            self._drop(entry.first)

    def clear(self) -> None:
        """Drops all that nobody uses."""
        with self._lock.here():
            limit, self.limit = self.limit, 0
            try:
                self.sweep()
            finally:
                self.limit = limit
