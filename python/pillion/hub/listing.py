"""What a repository holds, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository."""

    name: str
    """Its path in the repository."""
    size: int | None = None
    """Bytes."""
    etag: str | None = None
    """SHA-256 of a large file, the git hash of a small one; its name among the cache's blobs."""


@dataclass(frozen=True)
class Listing:
    """A repository at one commit."""

    repo: str
    revision: str
    """The branch, tag or commit that was asked for."""
    commit: str
    files: tuple[RemoteFile, ...]
    base_models: tuple[str, ...] = field(default=())
    """Repositories that this one was made from."""
    cached_only: bool = False
    """The list is the cache's: the hub was not asked or did not answer."""

    @property
    def shown(self) -> str:
        """The repository, in sentences about what it holds."""
        return f"the cache's copy of {self.repo}" if self.cached_only else self.repo
