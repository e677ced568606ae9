"""One process at a time: test workers (pytest-xdist) that build the same thing wait for each
other."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def locked(name):
    with open(Path(tempfile.gettempdir()) / f"pillion-{name}.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cmake_build(folder, *defines, source=".", targets=()):
    """Targets (none: all) of a CMake project of the repository, in build/FOLDER."""
    build = REPOSITORY / "build" / folder
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    wanted = ["--target", *targets] if targets else []
    with locked(f"build-{folder}"):
        subprocess.run(
            ["cmake", *generator, "-S", REPOSITORY / source, "-B", build, *defines], **quiet
        )
        subprocess.run(
            ["cmake", "--build", build, "--parallel", str(os.cpu_count()), *wanted], **quiet
        )
    return build


def built_core(folder="python"):
    """The core's archive in build/FOLDER; None where it is older than its sources, or has
    sanitizers in it."""
    archive = REPOSITORY / "build" / folder / "libpillion_core.a"
    if os.environ.get("PILLION_BUILD_DIR") or not archive.exists():
        return None
    sources = [
        path
        for path in (REPOSITORY / "csrc").rglob("*")
        if path.suffix in (".h", ".cpp", ".inl", ".def")
    ]
    newest = max(path.stat().st_mtime for path in sources)
    return archive if archive.stat().st_mtime >= newest else None


def toolchain(name):
    return f"-DCMAKE_TOOLCHAIN_FILE={REPOSITORY}/toolchains/{name}.cmake"
