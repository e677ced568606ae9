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

from ..errors import HubUnreachableError, NotOnHubError, UsageError
from .listing import Listing, RemoteFile
from .names import is_inside
from .sentences import Asked, one_sentence

_log = logging.getLogger("pillion")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_FOUND_MAX = 20  # repositories of a search


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

        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self.token = token
        self.cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
        self.offline = bool(local_files_only or constants.HF_HUB_OFFLINE)
        by = "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "local_files_only"
        self._why_offline = f"the hub is not asked: {by} is set"
        self.timeout = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)

    def asked(self, repo: str, revision: str | None = None, file: str | None = None) -> Asked:
        """A request, for sentences."""
        return Asked(self.endpoint, repo, revision, file, "authorization" in self.headers())

    def headers(self) -> dict[str, str]:
        """Headers of a request, with the token."""
        from huggingface_hub.utils import build_hf_headers

        return dict(build_hf_headers(token=self.token, library_name="pillion"))

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
        if not self.endpoint.startswith(("http://", "https://")):
            raise UsageError(
                f"the hub's address is {self.endpoint!r}; it must begin with https:// or http:// "
                "(HF_ENDPOINT, or endpoint=)"
            )
        try:
            return self._remote(repo, revision)
        except HubUnreachableError as error:
            found = self._cached(repo, revision, error.sentence)
            self._why_offline = error.sentence
            self.offline = True  # what else this call needs comes from the cache too
            _log.warning("%s; taking %s from the cache", error.sentence, repo)
            return found

    def _remote(self, repo: str, revision: str | None) -> Listing:
        with one_sentence(self.asked(repo, revision)):
            try:
                info = self._api().model_info(
                    repo, revision=revision, files_metadata=True, timeout=self.timeout
                )
            except Exception as error:
                if type(error).__name__ == "RevisionNotFoundError":
                    raise NotOnHubError(self._no_revision(repo, revision)) from error
                raise
        files = []
        for sibling in info.siblings or ():
            lfs: Any = sibling.lfs
            etag = lfs.sha256 if lfs is not None else sibling.blob_id
            if is_inside(sibling.rfilename):
                files.append(RemoteFile(sibling.rfilename, sibling.size, etag))
        bases = getattr(info.card_data, "base_model", None) or ()
        bases = (bases,) if isinstance(bases, str) else tuple(map(str, bases))
        commit = str(info.sha)
        if _COMMIT.fullmatch(commit) is None:
            raise HubUnreachableError(f"{self.endpoint} names no commit of {repo}; it is no hub")
        return Listing(repo, revision or "main", commit, tuple(files), bases)

    def _no_revision(self, repo: str, revision: str | None) -> str:
        sentence = f"{repo} has no revision {revision}"
        try:
            refs = self._api().list_repo_refs(repo)
        except Exception:  # the sentence without the list says enough
            return sentence
        names = [one.name for one in (*refs.branches, *refs.tags)]
        return f"{sentence}; it has {', '.join(names[:_FOUND_MAX])}"

    def _cached(self, repo: str, revision: str | None, why: str) -> Listing:
        commit = self.cached_commit(repo, revision)
        snapshot = self.folder(repo) / "snapshots" / commit
        if not commit or not snapshot.is_dir():
            what = repo if revision is None else f"revision {revision} of {repo}"
            raise HubUnreachableError(f"{why}; the cache {self.cache} does not hold {what}")
        files = (
            RemoteFile(path.relative_to(snapshot).as_posix(), path.stat().st_size)
            for path in sorted(snapshot.rglob("*"))
            if path.is_file()
        )
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
        with one_sentence(self.asked(f"{owner}/{text}")):
            found = self._api().list_models(author=owner, search=text, limit=_FOUND_MAX)
            return [one.id for one in found]

    def _cached_repos(self, owner: str, text: str) -> Iterator[str]:
        for folder in sorted(self.cache.glob(f"models--{owner}--*")):
            name = folder.name.removeprefix(f"models--{owner}--")
            if text.lower() in name.lower():
                yield f"{owner}/{name}"

    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.token, library_name="pillion")
