"""What a user writes for a model, and what the names of files tell: quantization, kind, parts."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from ..arguments import check_text, wrong
from ..errors import UsageError

_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_SITES = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|^hf://", re.IGNORECASE)
_INSIDE = re.compile(r"/(?:blob|resolve|tree)/([^/]+)(?:/(.+))?$")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_TAG = (
    r"(?:UD-)?(?:I?Q[1-9](?:_(?:\d|K|P|XXS|XS|S|M|L|XL|XXL|NL))*|TQ[12]_0|[BF]?F(?:P?16|P?32)"
    r"|MXFP4(?:_MOE)?|NVFP4)"
)
_TAG_INSIDE = re.compile(rf"(?:^|[-._/])({_TAG})(?=$|[-._/])", re.IGNORECASE)
_KINDS = (
    ("mmproj", re.compile(r"mmproj", re.IGNORECASE)),
    ("other", re.compile(r"imatrix", re.IGNORECASE)),
    (
        "drafter",
        re.compile(
            r"(?:^|[-._/])(?:mtp|assistant|assist|draft|drafter|eagle3?)(?=$|[-._/])", re.IGNORECASE
        ),
    ),
    ("adapter", re.compile(r"(?:^|[-._/])(?:lora|adapter)(?=$|[-._/])", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Name:
    """REPO[:FILE|QUANT], taken apart."""

    repo: str
    file: str | None = None
    """A file of the repository, or a pattern with *, ? or [ ]."""
    quantization: str | None = None
    revision: str | None = None
    """Of an address of the hub's site that has one."""


TEXT_MAX = 1000
"""Characters of a name, a path, a revision or an address. What is longer is none."""


def checked_name(name: str, value: Any) -> str:
    """A text that can stand in an address and in a sentence. name: of the argument."""
    allowed = f"a string of at most {TEXT_MAX} characters, without control characters"
    text = check_text(name, value, allowed)
    if len(text) > TEXT_MAX or not is_clean(text):
        wrong(name, value, allowed)
    return text


def is_clean(text: str) -> bool:
    """True for a text without control characters, which a terminal would obey, and without lone
    surrogates."""
    return not any(unicodedata.category(one) in ("Cc", "Cs") for one in text)


def parse_name(name: str, text: str, filename: str | None = None) -> Name:
    """Takes REPO[:FILE|QUANT] or an address of huggingface.co apart. name: of the argument, for
    sentences. filename: the part behind the colon, given by itself."""
    given = checked_name(name, text).strip()
    plain = given
    if _SITES.match(given):  # with "?download=true", as the site's own links have it
        plain = re.split(r"[?#]", _SITES.sub("", given))[0].rstrip("/")
    revision = None
    inside = _INSIDE.search(plain) if plain != given else None
    if inside is not None:
        plain, revision = plain[: inside.start()], checked_name(name, unquote(inside[1]))
        filename = filename or (checked_name(name, unquote(inside[2])) if inside[2] else None)
    repo, colon, rest = plain.partition(":")
    if not _REPO.fullmatch(repo) or (colon and not rest):
        raise UsageError(
            f"{name} is {given!r}; it must be OWNER/NAME, OWNER/NAME:FILE or OWNER/NAME:QUANT"
        )
    if rest and filename:
        raise UsageError(f"{name} names {rest!r} and filename names {filename!r}; give one of them")
    rest = rest or filename or ""
    if not rest:
        return Name(repo, revision=revision)
    if is_quantization(rest):
        return Name(repo, quantization=rest, revision=revision)
    if "/" in rest or rest.lower().endswith(".gguf") or any(one in rest for one in "*?["):
        return Name(repo, file=rest.lstrip("/"), revision=revision)
    # "latest" is llama.cpp's word for no quantization.
    latest = rest.lower() == "latest"
    return Name(repo, quantization=None if latest else rest, revision=revision)


def is_repository(text: str) -> bool:
    """True for OWNER/NAME."""
    return len(text) <= TEXT_MAX and _REPO.fullmatch(text) is not None


def looks_like_name(text: str) -> bool:
    """True for what can only be meant as a repository: OWNER/NAME with a quantization or file
    behind a colon, or OWNER/NAME that is no GGUF file's path."""
    plain = _SITES.sub("", text)
    repo, _, rest = plain.partition(":")
    return _REPO.fullmatch(repo) is not None and (
        bool(rest) or not repo.lower().endswith(".gguf") or plain != text
    )


def is_quantization(text: str) -> bool:
    """True for the name of a quantization, such as q4_k_m."""
    return re.fullmatch(_TAG, text, re.IGNORECASE) is not None


def is_inside(path: str) -> bool:
    """True for a relative path that stays in its folder: names from outside become paths here, and
    are shown."""
    parts = path.replace("\\", "/").split("/")
    stays = not any(part in ("", ".", "..") or ":" in part for part in parts)
    return stays and len(path) <= TEXT_MAX and is_clean(path)


def quantization_of(file: str) -> str | None:
    """The quantization in a file's name, in capitals: the last one, the base name's first."""
    folder, _, base = file.rpartition("/")
    for part in (base, folder):
        found = _TAG_INSIDE.findall(part)
        if found:
            return str(found[-1]).upper()
    return None


def kind_by_name(file: str) -> str:
    """target, drafter, mmproj, adapter or other; the file's own header knows better."""
    return next((kind for kind, pattern in _KINDS if pattern.search(file)), "target")


def part_of(file: str) -> tuple[str, int, int] | None:
    """(the name without its number, number, count) of a part of a split file; None: no part."""
    found = _PART.search(file)
    return (file[: found.start()], int(found[1]), int(found[2])) if found else None


_SUFFIX = re.compile(r"[-._](?:gguf|i1|imatrix|noimatrix)$", re.IGNORECASE)


def stem_of(repo: str) -> str:
    """The model's name in a repository's: without owner, GGUF and quantization, in small
    letters."""
    stem = repo.rpartition("/")[2]
    while True:
        shorter = _SUFFIX.sub("", stem)
        tag = re.search(rf"[-._]{_TAG}$", shorter, re.IGNORECASE)
        shorter = shorter[: tag.start()] if tag else shorter
        if shorter == stem:
            return stem.lower()
        stem = shorter
