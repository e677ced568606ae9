"""Files that appear when they are complete: written under another name beside their place, then
renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ModelFileError, PillionError, UsageError


def check_place(target: Path) -> None:
    """Checks, before long work, that a file can be written there."""
    if not target.parent.is_dir():
        raise UsageError(f"{target}: the folder {target.parent} does not exist")
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{target}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise UsageError(f"{target} is a folder; give the name of the file to write")
    if not stat.S_ISREG(mode):  # a device or a pipe: a file would take its place
        raise UsageError(f"{target}: cannot be written: it is not a regular file")


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yields the name to write under. It becomes `target` when the body is done, and is removed
    when the body fails. Raises ModelFileError for what the system refuses (no space left, no
    permission)."""
    check_place(target)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        if isinstance(error, PillionError):
            raise
        if error.filename not in (None, str(temporary), str(target)):  # something that was read
            raise ModelFileError(f"{error.filename}: {error.strerror}") from None
        room = " (no space left on the device)" if error.errno == errno.ENOSPC else ""
        raise ModelFileError(f"{target}: writing failed: {error.strerror or error}{room}") from None
    finally:
        with contextlib.suppress(OSError):  # its name is too long for a file
            temporary.unlink(missing_ok=True)
