"""What the cache on this machine holds, which pairs with which, and how to throw it away."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from ..arguments import check_path
from ..calling import checked
from ..errors import HubError, NotOnHubError, PillionError
from ..gguf_head import head_of
from ..mmproj_file import fits as mmproj_fits
from .choosing import matches
from .client import Hub
from .drafters import TARGETS
from .names import Name, kind_by_name, parse_name, part_of, quantization_of
from .sentences import of_cache

CacheDir: TypeAlias = str | os.PathLike[str] | None


@dataclass(frozen=True)
class CachedModel:
    """A GGUF file of the cache, or all parts of a split one."""

    repo: str
    """OWNER/NAME."""
    file: str
    """Its path in the repository; of a split one the first part's."""
    path: Path
    """The same in the cache."""
    size: int
    """Bytes, of all parts."""
    kind: str
    """target, drafter, mmproj, adapter or other."""
    quantization: str | None
    """Such as "Q4_0"; None: the file's name tells none."""
    architecture: str | None
    """As the file's header names it; None: it cannot be read."""
    commit: str
    """The commit that it belongs to."""
    revisions: tuple[str, ...]
    """Branches and tags that are at this commit."""
    n_parts: int = 1
    """Files that the model consists of."""
    n_parts_here: int = 1
    """Those of them that the cache holds."""
    pairs_with: tuple[str, ...] = field(default=())
    """Of a target the drafters and mmproj files that fit it, of these their targets, as
    REPO:FILE."""
    width: int | None = None
    """Width of a hidden row, of a drafter or an mmproj file that of its target; None: unknown."""

    @property
    def name(self) -> str:
        """REPO:FILE, as `pull` takes it."""
        return f"{self.repo}:{self.file}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**vars(self), "path": str(self.path)}


@checked
def list_cached(cache_dir: CacheDir = None) -> list[CachedModel]:
    """The GGUF files in the cache, by repository and name. cache_dir: in place of HF_HUB_CACHE."""
    rows = _rows(_hub(cache_dir))
    return [replace(row, pairs_with=tuple(_partners(row, rows))) for row in rows]


@checked
def unfinished(cache_dir: CacheDir = None) -> list[Path]:
    """Downloads that stopped midway. Pulling the same model again goes on with them. cache_dir: in
    place of HF_HUB_CACHE."""
    hub = _hub(cache_dir)
    try:
        return sorted(hub.cache.glob("models--*/blobs/*.incomplete"))
    except OSError as error:
        raise of_cache(error) from error


@checked
def remove_cached(name: str, cache_dir: CacheDir = None) -> int:
    """Deletes a repository, or files of it, from the cache. Returns the bytes that this frees.

    name: OWNER/NAME, OWNER/NAME:FILE or OWNER/NAME:QUANT. A pattern deletes all files that it fits.
    cache_dir: in place of HF_HUB_CACHE.

    Raises NotOnHubError, which lists what there is, if the cache has no such file.
    """
    hub = _hub(cache_dir)
    wanted = parse_name("name", name)
    try:
        return _remove(hub, wanted)
    except OSError as error:
        if isinstance(error, PillionError):
            raise
        raise of_cache(error) from error


def _remove(hub: Hub, wanted: Name) -> int:
    folder = hub.folder(wanted.repo)
    if wanted.file is None and wanted.quantization is None:
        if not folder.is_dir():
            repos = sorted({row.repo for row in _rows(hub)})
            has = ", ".join(repos) or "no model"
            raise NotOnHubError(f"the cache {hub.cache} has no {wanted.repo}; it has {has}")
        freed = _blob_bytes(folder)
        shutil.rmtree(folder)
        shutil.rmtree(hub.cache / ".locks" / folder.name, ignore_errors=True)
        return freed
    rows = [row for row in _rows(hub) if row.repo == wanted.repo]
    chosen = _meant(rows, wanted)
    if not chosen:
        has = ", ".join(row.file for row in rows) or "no file of it"
        raise NotOnHubError(
            f"the cache has no {wanted.file or wanted.quantization} of {wanted.repo}; it has {has}"
        )
    before = _blob_bytes(folder)
    for row in chosen:
        _unlink(folder, row)
    if len(chosen) == len(rows) and not any(_files(folder / "snapshots")):
        shutil.rmtree(folder)
        return before
    return before - _blob_bytes(folder)


def _hub(cache_dir: CacheDir) -> Hub:
    given = None if cache_dir is None else check_path("cache_dir", cache_dir)
    return Hub(cache_dir=given, local_files_only=True)


def _rows(hub: Hub) -> list[CachedModel]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        scanned = scan_cache_dir(hub.cache)
    except CacheNotFound:
        return []
    except ValueError as error:
        raise HubError(f"the cache {hub.cache} is no folder") from error
    except OSError as error:
        raise of_cache(error) from error
    rows: dict[tuple[str, str], CachedModel] = {}
    for repo in scanned.repos:
        if repo.repo_type != "model":
            continue
        for revision in sorted(repo.revisions, key=lambda one: (bool(one.refs), one.last_modified)):
            groups: dict[str, list[Any]] = {}
            for file in sorted(revision.files, key=lambda one: str(one.file_path)):
                name = file.file_path.relative_to(revision.snapshot_path).as_posix()
                if name.lower().endswith(".gguf"):
                    part = part_of(name)
                    groups.setdefault(part[0] if part else name, []).append((name, file))
            for group in groups.values():  # the later revision, and one with a name, stands last
                row = _row(repo.repo_id, revision, group)
                rows[row.repo, row.file] = row
    return [rows[key] for key in sorted(rows)]


def _row(repo: str, revision: Any, group: list[Any]) -> CachedModel:
    name, first = group[0]
    head, part = head_of(first.file_path), part_of(name)
    return CachedModel(
        repo,
        name,
        first.file_path,
        sum(file.size_on_disk for _, file in group),
        (head.kind if head is not None else None) or kind_by_name(name),
        quantization_of(name) or (head.quantization if head is not None else None),
        head.architecture if head is not None else None,
        revision.commit_hash,
        tuple(sorted(revision.refs)),
        part[2] if part else 1,
        len(group),
        width=head.width if head is not None else None,
    )


def _partners(row: CachedModel, rows: list[CachedModel]) -> list[str]:
    """The same repository's first."""
    found = [one for one in rows if _pair(row, one) or _pair(one, row)]
    return [one.name for one in sorted(found, key=lambda one: one.repo != row.repo)]


def _pair(target: CachedModel, other: CachedModel) -> bool:
    """True for a target with its drafter or its mmproj file."""
    if target.architecture not in TARGETS or target.width is None:
        return False
    if other.kind == "mmproj":
        return mmproj_fits(other.path, target.width)
    return other.kind == "drafter" and target.width == other.width


def _meant(rows: list[CachedModel], name: Name) -> list[CachedModel]:
    """Files by name or pattern; by quantization models, else drafters, as `pull` takes them."""
    if name.file is not None:
        pattern = name.file
        return [row for row in rows if matches(row.file, pattern)]
    tags = (f"{name.quantization}".upper(), f"UD-{name.quantization}".upper())
    fitting = [row for row in rows if row.quantization in tags]
    return [row for row in fitting if row.kind == "target"] or fitting


def _unlink(folder: Path, row: CachedModel) -> None:
    """Deletes the file, or all its parts, in every snapshot, and the blobs that nothing points to
    then."""
    part = part_of(row.file)
    for snapshot in (folder / "snapshots").iterdir():
        for path in _files(snapshot):
            name = path.relative_to(snapshot).as_posix()
            theirs = part_of(name)
            if name == row.file or (part and theirs and theirs[0] == part[0]):
                path.unlink()
    used = {path.resolve() for path in _files(folder / "snapshots") if path.is_symlink()}
    for blob in _files(folder / "blobs"):
        if blob.resolve() not in used and blob.suffix != ".incomplete":
            blob.unlink()


def _files(folder: Path) -> list[Path]:
    """Files and links below a folder; none where it is absent or is a link to elsewhere."""
    if folder.is_symlink():
        return []
    return [one for one in folder.rglob("*") if one.is_file() or one.is_symlink()]


def _blob_bytes(folder: Path) -> int:
    """Bytes that the repository takes: its blobs, and files that are no links to them."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)
