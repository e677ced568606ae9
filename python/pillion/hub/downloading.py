"""One file from the hub onto the disk: goes on where an earlier download stopped, and is checked
against the hub's hash before it counts.

`huggingface_hub` throws the beginning of a broken download away. These are files of gigabytes, so
their bytes are fetched here and put where it looks for them; it does the rest.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import ChecksumError, DiskFullError, HubUnreachableError, ModelFileError
from ..gguf_head import MAGIC
from ..sizes import size_of
from .sentences import Asked, one_sentence, unreachable

Report = Callable[[int, int], object]
"""Called with the bytes that are there and the bytes of the file."""

CHUNK = 1 << 20
"""Bytes between two reports, and of one read."""

WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each new attempt. It starts again with the first when bytes came."""

STALL_SECONDS, STALL_BYTES = 60.0, 64 << 10
"""A download in which fewer bytes come in this time is given up."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_PASSING = (408, 429, 500, 502, 503, 504)


@dataclass
class Download:
    """A file that comes: `url` to `partial`, with the hash in `etag`."""

    asked: Asked
    url: str
    headers: dict[str, str] = field(repr=False)  # with the token
    partial: Path
    size: int | None
    etag: str
    report: Report
    timeout: float
    is_gguf: bool
    _have: int = field(default=0, init=False)
    _digest: Any = field(default=None, init=False)

    def run(self) -> None:
        """Fills `partial` and checks it. Raises HubError and ModelFileError; all but a wrong file
        leaves what came."""
        try:
            with self.partial.open("a+b") as file:
                self._check_room(file)
                self._digest = _digest(self.etag, self.size)
                self._have = _feed(file, self._digest)
                self._fetch(file)
            self._verify()
        except OSError as error:
            if error.errno in _FULL and not isinstance(error, DiskFullError):
                raise DiskFullError(self._full()) from error
            raise
        except (ChecksumError, ModelFileError):
            self.partial.unlink(missing_ok=True)
            raise

    def _check_room(self, file: BinaryIO) -> None:
        file.seek(0, os.SEEK_END)
        needed = (self.size or 0) - file.tell()
        free = shutil.disk_usage(self.partial.parent).free
        if needed > free:
            raise DiskFullError(
                f"{self.asked.file} needs {size_of(needed)}, and {self.partial.parent} has "
                f"{size_of(free)} free: make room, or set HF_HOME to a folder on another disk"
            )

    def _full(self) -> str:
        return (
            f"the disk of {self.partial.parent} is full after {size_of(self._have)} of "
            f"{self.asked.file}, which are kept: make room and pull again"
        )

    def _fetch(self, file: BinaryIO) -> None:
        """Attempt after attempt, until all is there."""
        from huggingface_hub.errors import HfHubHTTPError

        transport: Any = HfHubHTTPError.__mro__[1]
        failures = most = 0
        while self.size is None or self._have < self.size:
            most = max(most, self._have)
            problem: BaseException = EOFError("the answer ended early")
            try:
                if self._attempt(file) and self.size is None:
                    return
            except HfHubHTTPError as error:
                problem = error
                if error.response.status_code not in _PASSING:
                    with one_sentence(self.asked):
                        raise
            except transport as error:
                problem = error
            if self._have == self.size:
                return
            failures = 0 if self._have > most else failures + 1
            if failures > len(WAITS):
                raise HubUnreachableError(self._broken(problem)) from problem
            time.sleep(WAITS[max(0, failures - 1)])

    def _broken(self, problem: BaseException) -> str:
        if not self._have:
            return unreachable(self.asked, problem)
        of = "" if self.size is None else f" of {size_of(self.size)}"
        return (
            f"{self.asked.host} broke off after {size_of(self._have)}{of} of {self.asked.file}, "
            "which are kept: pull again to go on from there"
        )

    def _stalled(self) -> str:
        of = "" if self.size is None else f" of {size_of(self.size)}"
        return (
            f"{self.asked.host} sends {self.asked.file} with less than {size_of(STALL_BYTES)} in "
            f"{STALL_SECONDS:g} s; {size_of(self._have)}{of} came and are kept: pull again to go "
            "on from there"
        )

    def _attempt(self, file: BinaryIO) -> bool:
        """False: the hub refused to go on from there, so the next attempt begins anew."""
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status

        headers = {**self.headers, "Accept-Encoding": "identity"}
        if self._have:
            headers["Range"] = f"bytes={self._have}-"
        with get_session().stream(
            "GET", self.url, headers=headers, timeout=self.timeout, follow_redirects=True
        ) as answer:
            if self._have and answer.status_code in (200, 416):  # no ranges here: from the start
                self._restart(file)
            if answer.status_code == 416:
                return False
            hf_raise_for_status(answer)
            if self._have and not self._goes_on(answer.headers.get("Content-Range")):
                self._restart(file)
                return False
            end, wanted = time.monotonic() + STALL_SECONDS, self._have + STALL_BYTES
            for chunk in answer.iter_bytes():  # as it comes: what a break cuts off is little
                self._take(file, chunk)
                if self._have >= wanted:
                    end, wanted = time.monotonic() + STALL_SECONDS, self._have + STALL_BYTES
                elif time.monotonic() > end:
                    raise HubUnreachableError(self._stalled())
                if self.size is not None and self._have > self.size:
                    return True  # more than there is, maybe without end: `_verify` says so
            return True

    def _goes_on(self, where: str | None) -> bool:
        """True if these bytes are the ones behind those that are there."""
        return where is None or where.partition("-")[0].split() == ["bytes", str(self._have)]

    def _restart(self, file: BinaryIO) -> None:
        file.seek(0)
        file.truncate()
        self._digest, self._have = _digest(self.etag, self.size), 0

    def _take(self, file: BinaryIO, chunk: bytes) -> None:
        if self._have < len(MAGIC) and self.is_gguf:
            begin = chunk[: len(MAGIC) - self._have]  # of a slow answer less than the magic
            if not MAGIC[self._have :].startswith(begin):
                raise ModelFileError(
                    f"{self.asked.file} of {self.asked.repo} is not a GGUF file: "
                    f"it begins with {MAGIC[: self._have] + begin!r}"
                )
        file.write(chunk)
        file.flush()  # so that `_have` is what a later call finds
        if self._digest is not None:
            self._digest.update(chunk)
        before, self._have = self._have, self._have + len(chunk)
        if self._have == self.size or before // CHUNK != self._have // CHUNK:
            self.report(self._have, self.size or 0)

    def _verify(self) -> None:
        what = f"{self.asked.file} of {self.asked.repo}"
        if self.size is not None and self._have != self.size:
            raise ChecksumError(
                f"{what} came with {self._have} bytes, the hub has {self.size}: it was not kept, "
                "pull it again"
            )
        found = self.etag if self._digest is None else self._digest.hexdigest()
        if found != self.etag:
            raise ChecksumError(
                f"{what} came with the checksum {found[:16]}…, the hub has {self.etag[:16]}…: "
                "it was not kept, pull it again"
            )


def _digest(etag: str, size: int | None) -> Any:
    """The hash whose value the etag is: SHA-256 of a large file, git's SHA-1 of a small one; None:
    the etag is no hash."""
    if len(etag) == 64:
        return hashlib.sha256()
    if len(etag) == 40 and size is not None:
        return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    return None


def _feed(file: BinaryIO, digest: Any) -> int:
    """Reads what is there into the hash. Returns its bytes."""
    file.seek(0)
    have = 0
    while chunk := file.read(CHUNK):
        if digest is not None:
            digest.update(chunk)
        have += len(chunk)
    return have
