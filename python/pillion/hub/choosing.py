"""Which files of a repository a name means. Projectors, adapters and drafters are not taken for a
model unless they are named."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import NotOnHubError, SeveralMatchesError
from ..sizes import size_of
from .listing import Listing, RemoteFile
from .names import Name, kind_by_name, part_of, quantization_of

DEFAULTS = ("Q4_K_M", "Q4_0", "Q8_0")
"""What is taken when nobody says which quantization: the first of them that is there."""

_LISTED = 20


@dataclass(frozen=True)
class Choice:
    """A model of a repository: one file, or all parts of a split one."""

    files: tuple[RemoteFile, ...]
    kind: str
    quantization: str | None
    n_parts: int = 1

    @property
    def name(self) -> str:
        """The first file."""
        return self.files[0].name

    @property
    def size(self) -> int | None:
        """Bytes; None: the hub does not say."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def __str__(self) -> str:
        return self.name if self.size is None else f"{self.name} ({size_of(self.size)})"


@dataclass(frozen=True)
class Chosen:
    """A choice and how it came about."""

    choice: Choice
    reason: str
    """Why this one, where the name left it open; else empty."""


def choices(listing: Listing) -> list[Choice]:
    """The GGUF files of a repository by name, the parts of a split one together."""
    groups: dict[str, list[RemoteFile]] = {}
    for file in sorted(listing.files, key=lambda one: one.name):
        if file.name.lower().endswith(".gguf"):
            part = part_of(file.name)
            groups.setdefault(part[0] if part else file.name, []).append(file)
    found = []
    for files in groups.values():
        name = files[0].name
        part = part_of(name)
        found.append(
            Choice(tuple(files), kind_by_name(name), quantization_of(name), part[2] if part else 1)
        )
    return found


def choose(listing: Listing, name: Name, prefer: str = "target") -> Chosen:
    """What a name means in a repository. prefer: "drafter" where a drafter is looked for.

    Raises NotOnHubError and SeveralMatchesError, which list what there is.
    """
    all_of_them = choices(listing)
    if not all_of_them:
        raise NotOnHubError(_no_gguf(listing))
    if name.file is not None:
        return Chosen(_complete(listing, _by_file(listing, all_of_them, name.file)), "")
    usable = _usable(listing, all_of_them, prefer)
    if name.quantization is not None:
        return Chosen(_complete(listing, _by_quantization(listing, usable, name.quantization)), "")
    choice, reason = _default(listing, usable)
    return Chosen(_complete(listing, choice), reason)


def _usable(listing: Listing, found: Sequence[Choice], prefer: str) -> list[Choice]:
    kinds: tuple[str, ...] = (prefer, "target", "drafter")
    if listing.cached_only and kind_by_name(listing.repo) != "drafter":
        kinds = (prefer, "target")  # its model is on the hub
    for kind in kinds:
        usable = [one for one in found if one.kind == kind]
        if usable:
            return usable
    raise NotOnHubError(f"{listing.shown} holds no model, only {_list(found)}")


def _by_file(listing: Listing, found: Sequence[Choice], wanted: str) -> Choice:
    """Exact names count for all kinds, patterns for models first."""
    exact = [one for one in found if wanted in [file.name for file in one.files]]
    exact = exact or [one for one in found if one.name.rpartition("/")[2] == wanted]
    if len(exact) == 1:
        return exact[0]
    matching = [one for one in found if any(matches(file.name, wanted) for file in one.files)]
    for kind in ("target", "drafter", "adapter"):
        of_kind = [one for one in matching if one.kind == kind]
        if len(of_kind) == 1:
            return of_kind[0]
        if of_kind:
            raise SeveralMatchesError(
                f"{wanted} fits {len(of_kind)} models of {listing.repo}: {_list(of_kind)}; name one"
            )
    if matching:
        raise NotOnHubError(
            f"{wanted} fits no model of {listing.repo}, only {_list(matching)}; "
            "to have such a file, give its whole name"
        )
    where = "" if listing.revision == "main" else f" at revision {listing.revision}"
    raise NotOnHubError(f"{listing.shown} has no GGUF file {wanted}{where}; it has {_list(found)}")


def matches(file: str, pattern: str) -> bool:
    """True if the pattern fits the path in the repository or the base name, in small or capital
    letters."""
    file, pattern = file.lower(), pattern.lower()
    return fnmatch.fnmatchcase(file, pattern) or fnmatch.fnmatchcase(
        file.rpartition("/")[2], pattern
    )


def _by_quantization(listing: Listing, usable: Sequence[Choice], wanted: str) -> Choice:
    matching = with_quantization(usable, wanted)
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise SeveralMatchesError(
            f"{listing.repo} has {len(matching)} models in {wanted.upper()}: {_list(matching)}; "
            "name one"
        )
    has = sorted({one.quantization for one in usable if one.quantization})
    if usable[0].kind == "drafter":
        raise NotOnHubError(f"{listing.shown} has no drafter in {wanted}; it has {_list(usable)}")
    what = ", ".join(has) if has else _list(usable)
    raise NotOnHubError(f"{listing.shown} has no quantization {wanted}; it has {what}")


def with_quantization(found: Iterable[Choice], wanted: str) -> list[Choice]:
    """Those whose name has this quantization; where none has, those that have it behind UD-."""
    found, wanted = list(found), wanted.upper()
    return [one for one in found if one.quantization == wanted] or [
        one for one in found if one.quantization == f"UD-{wanted}"
    ]


def _default(listing: Listing, usable: Sequence[Choice]) -> tuple[Choice, str]:
    if len(usable) == 1:
        return usable[0], "the only one"
    missing: list[str] = []
    for quantization in DEFAULTS:
        matching = with_quantization(usable, quantization)
        if len(matching) == 1:
            lacks = f", as there is no {' and no '.join(missing)}" if missing else ", the default"
            return matching[0], f"{matching[0].quantization}{lacks}"
        if matching:
            raise SeveralMatchesError(
                f"{listing.repo} has {len(matching)} models in {quantization}: "
                f"{_list(matching)}; name one"
            )
        missing.append(quantization)
    return usable[0], f"the first by name, as there is no {', '.join(DEFAULTS)}"


def _complete(listing: Listing, choice: Choice) -> Choice:
    if len(choice.files) != choice.n_parts:
        raise NotOnHubError(
            f"{choice.name} of {listing.repo} is in {choice.n_parts} parts, "
            f"and {'the cache' if listing.cached_only else 'the repository'} has "
            f"{len(choice.files)} of them"
        )
    return choice


def _list(found: Sequence[Choice]) -> str:
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return ", ".join(map(str, found[:_LISTED])) + more


def _no_gguf(listing: Listing) -> str:
    if listing.cached_only:
        return f"the cache holds no GGUF file of {listing.repo}, and the hub was not asked"
    names = [file.name for file in listing.files]
    weights = [one for one in names if one.endswith((".safetensors", ".bin", ".pt"))]
    has = f"it has {', '.join(weights[:3])}" if weights else f"it has {len(names)} other files"
    return (
        f"{listing.repo} has no GGUF file; {has}: look for a repository of the same model whose "
        "name ends in GGUF, or make a file with pillion convert"
    )
