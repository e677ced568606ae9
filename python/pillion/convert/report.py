"""What a conversion did, and the checks that every conversion makes."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..atomic_file import check_place
from ..errors import ModelFileError, PillionError, UsageError
from .checkpoint import Checkpoint


@dataclass
class Report:
    """What a conversion did."""

    out: Path
    architecture: str
    outtype: str
    tensors: int = 0
    bytes: int = 0
    """Of the file."""
    seconds: float = 0.0
    skipped: dict[str, int] = field(default_factory=dict)
    """Why tensors were left out, and how many."""


@contextlib.contextmanager
def sound(folder: Path, what: str = "model") -> Iterator[None]:
    """JSON files that do not hold together fail in many places, and always for one reason."""
    try:
        yield
    except PillionError:
        raise
    except (
        LookupError,
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as error:
        raise ModelFileError(f"{folder}: it does not describe a {what}: {error!r}") from error
    except OSError as error:
        if error.filename is None or folder not in (
            Path(error.filename),
            *Path(error.filename).parents,
        ):
            raise
        raise ModelFileError(f"{error.filename}: {error.strerror}") from None


def refuse_unplaced(target: Path, source: Checkpoint) -> None:
    """Raises UsageError for a place where no file can be written, or where the checkpoint's are."""
    check_place(target)
    if target.exists() and any(_same(path, target) for path in source.folder.iterdir()):
        raise UsageError(f"{target} is a file of the checkpoint")


def _same(path: Path, target: Path) -> bool:
    with contextlib.suppress(OSError):  # a link to nothing
        return path.samefile(target)
    return False


def refuse_out_of_range(source: Checkpoint, keys: dict[str, Any]) -> None:
    """Raises ModelFileError for a number that no key of a file can hold."""
    for name, value in keys.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, (int, float)) and not 0 <= one < 2**32:
                raise ModelFileError(f"{source.folder}: config.json gives {name} the value {one}")
