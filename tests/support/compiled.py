"""Programs of tests that all workers and later runs share, kept by a hash of their sources."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from locked import REPOSITORY, SOURCES, locked

CSRC = REPOSITORY / "csrc"


def shared(name, how, sources, make):
    """A folder that `make(folder)` has filled. how: compiler and flags. It is made anew when those
    change, one of the sources, or a file of csrc outside of backends."""
    digest = hashlib.sha256(repr(how).encode())
    files = [path for path in CSRC.rglob("*") if path.suffix in SOURCES]
    plain = [path for path in files if "backends" not in path.relative_to(CSRC).parts]
    for path in sorted({*plain, *map(Path, sources)}):
        digest.update(str(path).encode() + path.read_bytes())
    folder = Path(tempfile.gettempdir()) / (
        f"pillion-{name}-{os.getuid()}-{digest.hexdigest()[:16]}"
    )
    with locked(name):
        if not folder.exists():
            made = folder.with_suffix(".new")
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            make(made)
            made.rename(folder)
    return folder
