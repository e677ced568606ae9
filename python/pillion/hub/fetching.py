"""Files of a repository into the cache of `huggingface_hub`, so that all programs that use that
cache find them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import HubError, HubUnreachableError
from ..gguf_head import HEAD_BYTES, Head, head_of, read_head
from .choosing import Choice
from .client import Hub
from .downloading import Download, Report
from .listing import Listing, RemoteFile
from .sentences import of_cache, one_sentence, readable

_log = logging.getLogger("pillion")

Progress = Callable[[str, int, int], object]
"""Called with a file's name, the bytes of it that are there, and all its bytes."""

_ETAG = re.compile(r"[\w-]{1,128}")  # becomes the name of a file

PLAIN_MAX = 50 * 10**9
"""Larger files the hub gives out only in Xet's own way, which `huggingface_hub` speaks."""


def fetch(hub: Hub, listing: Listing, choice: Choice, progress: Progress | None) -> list[Path]:
    """Brings all files of a choice into the cache. Returns their paths there."""
    paths = [_fetch_one(hub, listing, file, progress) for file in choice.files]
    if not listing.cached_only:
        _write_ref(hub, listing)
    return paths


def cached_path(hub: Hub, listing: Listing, file: RemoteFile) -> Path | None:
    """The file in the cache; None: it is not there, or has lost a part of its bytes."""
    path = _path(hub, listing, file)
    try:
        whole = path.is_file() and file.size in (None, path.stat().st_size)
    except OSError as error:
        raise of_cache(error) from error
    return path if whole else None


def _path(hub: Hub, listing: Listing, file: RemoteFile) -> Path:
    return hub.folder(listing.repo) / "snapshots" / listing.commit / file.name


def head(hub: Hub, listing: Listing, file: RemoteFile) -> Head | None:
    """The head of a file, of which only the first bytes are fetched; None: it is not GGUF."""
    path = cached_path(hub, listing, file)
    if path is not None:
        return head_of(path)
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    asked = hub.asked(listing.repo, listing.revision, file.name)
    headers = {**hub.headers(), "Accept-Encoding": "identity"}
    headers["Range"] = f"bytes=0-{HEAD_BYTES - 1}"
    data = b""
    url = _url(hub, listing, file)
    with (
        one_sentence(asked),
        get_session().stream(
            "GET", url, headers=headers, timeout=hub.timeout, follow_redirects=True
        ) as answer,
    ):
        hf_raise_for_status(answer)
        for chunk in answer.iter_bytes(HEAD_BYTES):
            data += chunk
            if len(data) >= HEAD_BYTES:
                break
    return read_head(data)


def _fetch_one(hub: Hub, listing: Listing, file: RemoteFile, progress: Progress | None) -> Path:
    path = cached_path(hub, listing, file)
    if path is not None:
        return path
    if listing.cached_only:
        raise HubUnreachableError(
            f"{file.name} of {listing.repo} is not in the cache, and the hub cannot be asked"
        )

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(file.name, done, total)

    asked = hub.asked(listing.repo, listing.revision, file.name)
    with one_sentence(asked):
        _clear(_path(hub, listing, file))
        if (file.size or 0) > PLAIN_MAX:
            return Path(_place(hub, listing, file, report))
        _bring_blob(hub, listing, _with_etag(hub, listing, file), report)
        with readable(asked):
            return Path(_place(hub, listing, file, report))


def _clear(path: Path) -> None:
    """Makes room where a file has to come: what is there is not that file."""
    if path.is_dir():
        raise HubError(f"{path} is a folder where a file should be: remove it, and pull again")
    if path.is_file():
        path.resolve().unlink(missing_ok=True)  # the blob that a link leads to
        path.unlink(missing_ok=True)


def _bring_blob(hub: Hub, listing: Listing, file: RemoteFile, report: Report) -> None:
    """Puts the bytes where `huggingface_hub` looks for them. Waits for another process that is at
    the same file."""
    from huggingface_hub.utils import WeakFileLock

    assert file.etag is not None
    if _ETAG.fullmatch(file.etag) is None:
        host = hub.asked(listing.repo).host
        raise HubUnreachableError(f"{host} gives {file.name} the ETag {file.etag[:80]!r}")
    folder = hub.folder(listing.repo)
    blob = folder / "blobs" / file.etag
    lock = hub.cache / ".locks" / folder.name / f"{file.etag}.lock"
    blob.parent.mkdir(parents=True, exist_ok=True)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return
        partial = blob.with_name(f"{blob.name}.incomplete")
        Download(
            hub.asked(listing.repo, listing.revision, file.name),
            _url(hub, listing, file),
            hub.headers(),
            partial,
            file.size,
            file.etag,
            report,
            hub.timeout,
            file.name.lower().endswith(".gguf"),
        ).run()
        os.replace(partial, blob)


def _with_etag(hub: Hub, listing: Listing, file: RemoteFile) -> RemoteFile:
    """The file with what a hub leaves out of its list, as some mirrors do."""
    if file.etag is not None:
        return file
    from huggingface_hub import get_hf_file_metadata

    asked = hub.asked(listing.repo, listing.revision, file.name)
    with readable(asked):
        found = get_hf_file_metadata(_url(hub, listing, file), token=hub.token, timeout=hub.timeout)
    if found.etag is None:
        raise HubUnreachableError(f"{asked.host} does not say which {file.name} it has: no ETag")
    return RemoteFile(file.name, file.size if file.size is not None else found.size, found.etag)


def _place(hub: Hub, listing: Listing, file: RemoteFile, report: Report) -> str:
    """Lets `huggingface_hub` make the file's place in the snapshot, and fetch it where that was not
    done here."""
    from huggingface_hub import hf_hub_download

    return hf_hub_download(
        listing.repo,
        file.name,
        revision=listing.commit,
        cache_dir=hub.cache,
        token=hub.token,
        endpoint=hub.endpoint,
        etag_timeout=hub.timeout,
        library_name="pillion",
        tqdm_class=_bar(report, file.size or 0),
    )


def _bar(report: Report, size: int) -> Any:
    """A class of progress bars that shows nothing and reports."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            self._done = int(kwargs.get("initial") or 0)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self._done += int(n or 0)
            report(self._done, size)

    return Bar


def _url(hub: Hub, listing: Listing, file: RemoteFile) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(listing.repo, file.name, revision=listing.commit, endpoint=hub.endpoint)


def _write_ref(hub: Hub, listing: Listing) -> None:
    """Notes which commit the revision is, for when the hub cannot be asked. A cache that is only
    read (a shared one, one in an image) does without the note: its files are there."""
    if hub.cached_commit(listing.repo, listing.revision) == listing.commit:
        return
    ref = hub.folder(listing.repo) / "refs" / listing.revision
    try:
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(listing.commit, encoding="ascii")
    except OSError as error:
        _log.info("%s", of_cache(error).sentence)
