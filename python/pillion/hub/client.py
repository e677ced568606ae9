"""The hub as this package sees it: listings, searches, addresses. All through `huggingface_hub`,
which knows the endpoint, the token and the cache."""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..arguments import shown
from ..errors import HubAccessError, HubUnreachableError, NotOnHubError, UsageError
from .limits import limited
from .listing import Listing, RemoteFile
from .names import is_clean, is_inside, is_repository
from .sentences import Asked, line, of_cache, one_sentence, readable

_log = logging.getLogger("pillion")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_FOUND_MAX = 20  # repositories of a search
_BASES_MAX = 8  # models that one was made from


def needs_extra() -> None:
    """Raises UsageError if `huggingface_hub` is missing."""
    try:
        importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UsageError(
            "models by name need huggingface_hub, which is not installed: "
            "pip install 'pillion[hub]'"
        ) from error


class Hub:
    """A hub and the cache on this machine. What is None is as `huggingface_hub` has it:
    HF_ENDPOINT, HF_TOKEN and the saved token, HF_HUB_CACHE or HF_HOME, HF_HUB_OFFLINE."""

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> None:
        needs_extra()
        from huggingface_hub import constants

        self.token = token
        self.cache = _at_home(Path(cache_dir or constants.HF_HUB_CACHE))
        self.offline = bool(local_files_only or constants.HF_HUB_OFFLINE)
        by = "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "local_files_only"
        self._why_offline = f"the hub is not asked: {by} is set"
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        if not self.offline:
            _check_address(self.endpoint)
        self.timeout = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)

    def asked(self, repo: str, revision: str | None = None, file: str | None = None) -> Asked:
        """A request, for sentences."""
        return Asked(
            without_user(self.endpoint), repo, revision, file, "authorization" in self.headers()
        )

    def headers(self) -> dict[str, str]:
        """Headers of a request, with the token. Raises HubAccessError for what no header can
        hold."""
        from huggingface_hub.utils import build_hf_headers

        found = dict(build_hf_headers(token=self.token, library_name="pillion"))
        if not re.fullmatch(r"(?:Bearer [!-~]{1,1000})?", found.get("authorization", "")):
            raise HubAccessError(  # the transport would show it
                "the token has characters that no token has: give a valid one in HF_TOKEN or with "
                "`hf auth login`"
            )
        return found

    def folder(self, repo: str) -> Path:
        """The repository's folder in the cache."""
        return self.cache / f"models--{repo.replace('/', '--')}"

    def listing(self, repo: str, revision: str | None = None) -> Listing:
        """What a repository holds. Without the hub: what the cache holds of it.

        Raises HubUnreachableError if neither has it.
        """
        if revision is not None and not is_inside(revision):
            raise UsageError(f"revision is {revision!r}; it must be a branch, a tag or a commit")
        if self.offline:
            return self._cached(repo, revision, self._why_offline)
        try:
            return self._remote(repo, revision)
        except HubUnreachableError as error:
            found = self._cached(repo, revision, error.sentence)
            self._why_offline = error.sentence
            self.offline = True  # what else this call needs comes from the cache too
            _log.warning("%s; taking %s from the cache", error.sentence, repo)
            return found

    def _remote(self, repo: str, revision: str | None) -> Listing:
        asked = self.asked(repo, revision)
        with one_sentence(asked), readable(asked), limited(asked):
            try:
                info = self._api().model_info(
                    repo, revision=revision, files_metadata=True, timeout=self.timeout
                )
            except Exception as error:
                if type(error).__name__ == "RevisionNotFoundError":
                    raise NotOnHubError(self._no_revision(repo, revision)) from error
                raise
            files = [_remote_file(one) for one in info.siblings or () if is_inside(one.rfilename)]
            bases = getattr(info.card_data, "base_model", None) or ()
            bases = bases if isinstance(bases, (list, tuple)) else [bases]
            bases = [one for one in bases if isinstance(one, str) and is_repository(one)]
        commit = str(info.sha)
        if _COMMIT.fullmatch(commit) is None:
            raise HubUnreachableError(f"{asked.host} names no commit of {repo}; it is no hub")
        return Listing(repo, revision or "main", commit, tuple(files), tuple(bases[:_BASES_MAX]))

    def _no_revision(self, repo: str, revision: str | None) -> str:
        sentence = f"{repo} has no revision {revision}"
        try:
            with limited(self.asked(repo)):
                refs = self._api().list_repo_refs(repo)
        except Exception:  # the sentence without the list says enough
            return sentence
        names = [one.name for one in (*refs.branches, *refs.tags)]
        return f"{sentence}; it has {line(', '.join(map(str, names[:_FOUND_MAX])))}"

    def _cached(self, repo: str, revision: str | None, why: str) -> Listing:
        try:
            commit = self.cached_commit(repo, revision)
            snapshot = self.folder(repo) / "snapshots" / commit
            found = sorted(snapshot.rglob("*")) if commit and snapshot.is_dir() else None
            files = [
                RemoteFile(path.relative_to(snapshot).as_posix(), path.stat().st_size)
                for path in found or ()
                if path.is_file()
            ]
        except OSError as error:
            raise of_cache(error) from error
        if found is None:
            what = repo if revision is None else f"revision {revision} of {repo}"
            raise HubUnreachableError(f"{why}; the cache {self.cache} does not hold {what}")
        return Listing(repo, revision or "main", commit, tuple(files), cached_only=True)

    def cached_commit(self, repo: str, revision: str | None) -> str:
        """The commit that the cache has for a revision; empty: none."""
        revision = revision or "main"
        try:
            return (self.folder(repo) / "refs" / revision).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return revision if (self.folder(repo) / "snapshots" / revision).is_dir() else ""

    def search(self, owner: str, text: str) -> list[str]:
        """Names of the owner's repositories with the text in their names. Offline: those in the
        cache."""
        if self.offline:
            return list(self._cached_repos(owner, text))
        asked = self.asked(f"{owner}/{text}")
        with one_sentence(asked), readable(asked), limited(asked):
            found = self._api().list_models(author=owner, search=text, limit=_FOUND_MAX)
            return [one.id for one in found if is_repository(one.id)]

    def _cached_repos(self, owner: str, text: str) -> Iterator[str]:
        for folder in sorted(self.cache.glob(f"models--{owner}--*")):
            name = folder.name.removeprefix(f"models--{owner}--")
            if text.lower() in name.lower():
                yield f"{owner}/{name}"

    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.token, library_name="pillion")


def without_user(address: str) -> str:
    """An address without the name and password that may stand in it, for sentences."""
    return re.sub(r"(?<=://)[^/]*@", "", address)


def _check_address(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not is_clean(endpoint):
        raise UsageError(
            f"endpoint is {shown(without_user(endpoint))}; it must be the address of a hub, such "
            "as https://huggingface.co (without the argument it is HF_ENDPOINT)"
        )


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UsageError(f"cache_dir is {shown(str(path))}: {error}") from error


def _remote_file(sibling: Any) -> RemoteFile:
    """Raises ValueError for what no hub says."""
    lfs, size = sibling.lfs, sibling.size
    etag = lfs.sha256 if lfs is not None else sibling.blob_id
    if not isinstance(etag, (str, type(None))):
        raise ValueError("a hash is no text")
    if size is not None and (type(size) is not int or not 0 <= size < 2**63):
        raise ValueError("a size is no number of bytes")
    return RemoteFile(sibling.rfilename, size, etag)
