"""One process at a time: test workers (pytest-xdist) that build the same thing wait for each other."""

import fcntl
import tempfile
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(name):
    with open(Path(tempfile.gettempdir()) / f"pillion-{name}.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
