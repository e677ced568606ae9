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


SOURCES = (".h", ".c", ".cpp", ".inl", ".inc", ".def", ".cu", ".cuh")


def built(name, folder="python", of=("",)):
    """A file of build/FOLDER; None where it is older than a source in these folders of csrc, or has
    sanitizers in it."""
    path = REPOSITORY / "build" / folder / name
    if os.environ.get("PILLION_BUILD_DIR") or not path.exists():
        return None
    sources = [path for room in of for path in (REPOSITORY / "csrc" / room).rglob("*")]
    newest = max(source.stat().st_mtime for source in sources if source.suffix in SOURCES)
    return path if path.stat().st_mtime >= newest else None


def built_core(folder="python"):
    """The core's archive in build/FOLDER."""
    return built("libpillion_core.a", folder)


def toolchain(name):
    return f"-DCMAKE_TOOLCHAIN_FILE={REPOSITORY}/toolchains/{name}.cmake"
