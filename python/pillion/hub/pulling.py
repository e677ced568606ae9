"""`pull`: a model and its drafter by name, from the hub or from the cache."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import check_bool, check_callable, check_path, wrong
from ..calling import checked
from ..errors import UsageError
from ..gguf_head import head_of
from . import drafters, projectors
from .choosing import Chosen, choose
from .client import Hub
from .fetching import Progress, cached_path, fetch
from .listing import Listing
from .names import Name, checked_name, looks_like_name, parse_name
from .sentences import of_cache

_log = logging.getLogger("pillion")


@dataclass(frozen=True)
class Pulled:
    """A model in the cache, with its drafter."""

    repo: str
    """OWNER/NAME."""
    revision: str
    """The branch, tag or commit that was asked for."""
    commit: str
    """The commit that it stands for."""
    file: str
    """The model's file in the repository; of a split one the first part."""
    path: Path
    """The same in the cache."""
    files: tuple[Path, ...]
    """All files of the model in the cache: the parts, and what `additional_files` named."""
    size: int
    """Bytes of `files`."""
    kind: str
    """target, drafter, mmproj, adapter or other."""
    quantization: str | None
    """Such as "Q4_0"; None: the file's name tells none."""
    reason: str
    """Why this file, where the name left it open; else empty."""
    was_cached: bool
    """Nothing of the model had to be fetched."""
    drafter: Path | None
    """The drafter in the cache, for `LLM(path, drafter=...)`."""
    drafter_repo: str | None
    """The repository that it came from."""
    no_drafter: str
    """Why there is none; else empty."""
    mmproj: Path | None
    """The mmproj file in the cache, for `LLM(path, mmproj=...)`."""
    no_mmproj: str
    """Why there is none; else empty."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found: dict[str, Any] = dict(vars(self))
        found["path"] = str(self.path)
        found["files"] = [str(path) for path in self.files]
        for name in ("drafter", "mmproj"):
            found[name] = None if found[name] is None else str(found[name])
        return found


@checked
def pull(
    repo_id: str,
    filename: str | None = None,
    *,
    drafter: str | os.PathLike[str] | None = "auto",
    mmproj: str | os.PathLike[str] | None = None,
    additional_files: Sequence[str] | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    local_files_only: bool = False,
    progress: Progress | None = None,
) -> Pulled:
    """Brings a model into the cache of `huggingface_hub`, unless it is there, and tells where it
    lies.

    repo_id: OWNER/NAME, OWNER/NAME:FILE, OWNER/NAME:QUANT, or an address of huggingface.co.
    filename: the part behind the colon: a file, a pattern such as "*Q4_0.gguf", or a quantization
    in small or capital letters. Without it: Q4_K_M, else Q4_0, else Q8_0, else the first file;
    `reason` tells which. All parts of a split file come. Projectors (mmproj), adapters and drafters
    are no models and only come when they are named.
    drafter: "auto": the assistant in the repository or in its sister repository whose header fits
    the model. OWNER/NAME[:FILE|QUANT]: that one. A path: as it is. None: none.
    mmproj: the towers for images and sounds. "auto": the mmproj file of the repository, if it has
    one: BF16, else F16, else Q8_0. A file's name or pattern: that one. A path: as it is. None:
    none.
    additional_files: more GGUF files or patterns of the same repository.
    revision: branch, tag or commit. The default is the repository's main branch.
    token, cache_dir, endpoint: in place of HF_TOKEN or the saved token, HF_HOME, HF_ENDPOINT.
    local_files_only: only what the cache holds, as with HF_HUB_OFFLINE=1.
    progress: called with a file's name, the bytes that are there, and all its bytes. What it raises
    stops the download.

    An interrupted download goes on where it stopped. Each file is checked against the hub's hash.

    Raises HubUnreachableError, HubAccessError, NotOnHubError, SeveralMatchesError, ChecksumError,
    DiskFullError (all HubError), ModelFileError for what is not GGUF, UsageError without the extra
    `hub`.
    """
    name = parse_name("repo_id", repo_id, _optional_text("filename", filename))
    revision = _optional_text("revision", revision) or name.revision
    if progress is not None:
        check_callable("progress", progress)
    others = _texts("additional_files", additional_files)
    hub = Hub(
        endpoint=_optional_text("endpoint", endpoint),
        token=_checked_token(token),
        cache_dir=None if cache_dir is None else check_path("cache_dir", cache_dir),
        local_files_only=check_bool("local_files_only", local_files_only),
    )
    listing = hub.listing(name.repo, revision)
    chosen = choose(listing, name)
    more = [choose(listing, Name(name.repo, file=one)).choice for one in others]
    was_cached = all(cached_path(hub, listing, one) for one in chosen.choice.files)
    paths = fetch(hub, listing, chosen.choice, progress)
    for one in more:
        paths += [path for path in fetch(hub, listing, one, progress) if path not in paths]
    _log.info("%s: %s (%s)", name.repo, chosen.choice.name, chosen.reason or "asked for")
    beside = _drafter(hub, listing, chosen, paths[0], drafter, progress)
    towers = _mmproj(hub, listing, paths[0], mmproj, progress)
    return _pulled(listing, chosen, paths, was_cached, beside, towers)


def _pulled(
    listing: Listing,
    chosen: Chosen,
    paths: list[Path],
    was_cached: bool,
    beside: drafters.Found,
    towers: projectors.FoundMmproj,
) -> Pulled:
    choice, facts = chosen.choice, head_of(paths[0])
    try:
        size = sum(path.stat().st_size for path in paths)
    except OSError as error:  # somebody removes the model at this moment
        raise of_cache(error) from error
    return Pulled(
        listing.repo,
        listing.revision,
        listing.commit,
        choice.name,
        paths[0],
        tuple(paths),
        size,
        (facts.kind if facts is not None else None) or choice.kind,
        choice.quantization or (facts.quantization if facts is not None else None),
        chosen.reason,
        was_cached,
        beside.path,
        beside.repo or None,
        beside.reason,
        towers.path,
        towers.reason,
    )


def _drafter(
    hub: Hub,
    listing: Listing,
    chosen: Chosen,
    path: Path,
    drafter: str | os.PathLike[str] | None,
    progress: Progress | None,
) -> drafters.Found:
    if drafter is None:
        return drafters.Found(reason="none was asked for")
    if isinstance(drafter, os.PathLike):
        return drafters.Found(Path(drafter))
    if not isinstance(drafter, str):
        wrong("drafter", drafter, "'auto', OWNER/NAME[:FILE|QUANT], a path, or None for no drafter")
    if checked_name("drafter", drafter) == "auto":
        return drafters.find(hub, listing, chosen.choice, path, progress)
    if Path(drafter).is_file():
        return drafters.Found(Path(drafter))
    if not looks_like_name(drafter):
        raise UsageError(
            f"drafter is {drafter!r}; it must be 'auto', OWNER/NAME[:FILE|QUANT], "
            "the path of a file, or None for no drafter"
        )
    name = parse_name("drafter", drafter)
    theirs = listing if name.repo == listing.repo else hub.listing(name.repo, name.revision)
    found = choose(theirs, name, prefer="drafter").choice
    paths = fetch(hub, theirs, found, progress)
    return drafters.Found(paths[0], name.repo, tuple(paths))


def _mmproj(
    hub: Hub,
    listing: Listing,
    target: Path,
    mmproj: str | os.PathLike[str] | None,
    progress: Progress | None,
) -> projectors.FoundMmproj:
    if mmproj is None:
        return projectors.FoundMmproj(reason="none was asked for")
    if isinstance(mmproj, os.PathLike):
        return projectors.FoundMmproj(Path(mmproj))
    if not isinstance(mmproj, str):
        wrong("mmproj", mmproj, "'auto', a file's name or pattern, a path, or None for none")
    if checked_name("mmproj", mmproj) == "auto":
        return projectors.find(hub, listing, target, progress)
    if Path(mmproj).is_file():
        return projectors.FoundMmproj(Path(mmproj))
    return projectors.FoundMmproj(projectors.named(hub, listing, mmproj, progress))


def _optional_text(name: str, value: Any) -> str | None:
    return None if value is None else checked_name(name, value)


def _checked_token(value: Any) -> str | None:
    """Never shows one."""
    if value is None or isinstance(value, str):
        return value or None
    wrong("token", type(value) if isinstance(value, (bytes, bytearray)) else value, "a string")


def _texts(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        wrong(name, value, "a list of file names or patterns")
    return [checked_name(f"a name in {name}", one) for one in value]
