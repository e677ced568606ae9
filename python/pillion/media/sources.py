"""Where the bytes of a medium come from: data URLs, base64, paths and bytes. Nothing is fetched
from the net."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from ..arguments import check_path, shown
from ..errors import MediaError
from .media_limits import FILE_BYTES_MAX, check_bytes

_SPACES = b" \t\r\n"


def bytes_of(where: str, source: Any, files: bool = True) -> bytes:
    """The bytes of a file: bytes as they are, of a data URL, or of the file at a path.

    where: names the medium, for sentences. files: False: bytes and data URLs only, which is what a
    server may take from strangers. Raises `MediaError`.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        n = source.nbytes if isinstance(source, memoryview) else len(source)
        check_bytes(where, n)
        return bytes(source)
    if isinstance(source, str):
        if source[:5].lower() == "data:":
            return _of_data_url(where, source)
        scheme = _scheme(source)
        if not files:
            raise MediaError(
                f"{where} is {shown(source)}; this server reads data URLs only, "
                "data:…;base64,…, and fetches nothing"
            )
        if scheme == "file":
            return _of_file(where, url2pathname(urlsplit(source).path))
        if scheme:
            raise MediaError(
                f"{where} is {shown(source)}; nothing is fetched from the net: download it, and "
                "give its path or its bytes"
            )
    elif not files or not isinstance(source, os.PathLike):
        raise MediaError(f"{where} is {shown(source)}; it must be a data URL, data:…;base64,…")
    return _of_file(where, check_path(where, source))


def base64_bytes(where: str, text: Any) -> bytes:
    """The bytes of base64, with or without spaces in it. Raises `MediaError`."""
    if not isinstance(text, (str, bytes)):
        raise MediaError(f"{where} is {shown(text)}; it must be base64, a string")
    if len(text) // 4 * 3 > 2 * FILE_BYTES_MAX:  # spaces are no reason to read on
        check_bytes(where, len(text) // 4 * 3)
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
        raw = raw.translate(None, _SPACES)
        check_bytes(where, len(raw) // 4 * 3)
        return base64.b64decode(raw, validate=True)
    except (ValueError, UnicodeEncodeError) as error:
        raise MediaError(f"{where} is not base64: {error}") from None


def _scheme(text: str) -> str:
    """The scheme of a URL; "": it is a path. One letter is a drive of Windows."""
    head, found, _ = text.partition("://")
    return head.lower() if found and len(head) > 1 and head.isalnum() else ""


def _of_data_url(where: str, url: str) -> bytes:
    head, found, data = url.partition(",")
    if not found:
        raise MediaError(f"{where} is {shown(url)}; a data URL has a comma before its data")
    if head.lower().endswith(";base64"):
        return base64_bytes(where, data)
    check_bytes(where, len(data) // 3)  # a byte takes three characters at most
    plain = unquote_to_bytes(data)
    check_bytes(where, len(plain))
    return plain


def _of_file(where: str, path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise MediaError(f"{where} is {path}, which is no plain file")
            check_bytes(f"{where}, {path},", about.st_size)
            return file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise MediaError(f"{where} cannot be read: {path}: {error.strerror}") from error
