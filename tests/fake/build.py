"""Builds the fake library and loads the Python package over it, under the name `pillion_fake`.

The fake is the built library with its CPU under a script (fake_backend.cpp) and with calls that
fail on command (faults.py). The package imports itself only relatively, so the same sources can
live twice in one process: `pillion` over the library, `pillion_fake` over this one.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "support"))

from faults import FaultyLib  # noqa: E402
from locked import locked  # noqa: E402

REPOSITORY = HERE.parent.parent
PACKAGE = REPOSITORY / "python" / "pillion"
HEADER = REPOSITORY / "csrc" / "include" / "pillion.h"
BACKEND = HERE / "fake_backend.cpp"
CORE = Path(os.environ.get("PILLION_BUILD_DIR", REPOSITORY / "build" / "python"))
CORE = CORE / "libpillion_core.a"
SOURCES = [HEADER, BACKEND, BACKEND.with_suffix(".h"), PACKAGE / "_cdef.py", Path(__file__)]


def load():
    """The package over the fake library."""
    if "pillion_fake" not in sys.modules:
        built = _import("pillion_fake._capi", _built())
        faulty = type(sys)("pillion_fake._capi")
        faulty.ffi, faulty.lib = built.ffi, FaultyLib(built.lib, built.ffi)
        sys.modules["pillion_fake._capi"] = faulty
        _import("pillion_fake", PACKAGE / "__init__.py", [str(PACKAGE)])
    return sys.modules["pillion_fake"]


def _import(name, path, search=None):
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=search)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _built():
    """Path of the module, linked anew when a source or the library changed."""
    digest = hashlib.sha256(sys.version.encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    state = CORE.stat()
    digest.update(f"{CORE} {state.st_size} {state.st_mtime_ns}".encode())
    folder = Path(tempfile.gettempdir()) / f"pillion-fake-{digest.hexdigest()[:16]}"
    module = folder / "_capi.so"
    with locked("fake"):
        if not module.exists():
            _compile(folder, module)
    return module


def backend_and_core(backend=None):
    """What to link for the fake's C interface. The backend comes first, so that it registers
    first."""
    core = ["-Wl,--whole-archive", CORE, "-Wl,--no-whole-archive"]
    return [backend or _built().parent / "fake_backend.o", *core, "-pthread", "-ldl"]


def _compile(folder, module):
    folder.mkdir(parents=True, exist_ok=True)
    cdef = _import("_pillion_cdef", PACKAGE / "_cdef.py")
    strings = BACKEND.with_suffix(".h").read_text()
    strings = strings.split("/* FAKE BEGIN */")[1].split("/* FAKE END */")[0]
    cdef.emit(
        HEADER, folder / "_capi.c", "pillion_fake._capi", strings, '#include "fake_backend.h"\n'
    )
    csrc = REPOSITORY / "csrc"
    includes = [
        f"-I{path}" for path in (csrc, HEADER.parent, HERE, sysconfig.get_paths()["include"])
    ]
    flags = ["-O1", "-g0", "-fPIC", "-fvisibility=hidden", *includes]
    backend, capi = folder / "fake_backend.o", folder / "_capi.o"
    subprocess.run(["cc", *flags, "-c", folder / "_capi.c", "-o", capi], check=True)
    warnings = ["-Wall", "-Wextra"]
    subprocess.run(
        ["c++", "-std=c++17", *flags, *warnings, "-c", BACKEND, "-o", backend], check=True
    )
    linked = [*backend_and_core(backend), capi, "-o", folder / "part.so"]
    subprocess.run(["c++", "-shared", *linked], check=True)
    (folder / "part.so").replace(module)
