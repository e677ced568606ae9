"""Builds the fake library as a cffi module and loads the Python package over it, under the name
`pillion_fake`.

The package imports itself only relatively, so the same sources can live twice in one process:
`pillion` over the real library, `pillion_fake` over this one.
"""

import hashlib
import importlib.util
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "support"))

from locked import locked  # noqa: E402

REPOSITORY = HERE.parent.parent
PACKAGE = REPOSITORY / "python" / "pillion"
HEADER = REPOSITORY / "csrc" / "include" / "pillion.h"
PARTS = sorted(HERE.glob("fake_*.c"))
SOURCES = [HEADER, *PARTS, *sorted(HERE.glob("*.h")), PACKAGE / "_cdef.py", Path(__file__)]


def load():
    """The package over the fake library."""
    if "pillion_fake" not in sys.modules:
        _import("pillion_fake._capi", _built())
        _import("pillion_fake", PACKAGE / "__init__.py", [str(PACKAGE)])
    return sys.modules["pillion_fake"]


def _import(name, path, search=None):
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=search)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _built():
    """Path of the module, compiled anew when a source changed."""
    digest = hashlib.sha256(sys.version.encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"pillion-fake-{digest.hexdigest()[:16]}"
    module = folder / "_capi.so"
    with locked("fake"):
        if not module.exists():
            _compile(folder, module)
    return module


def _compile(folder, module):
    folder.mkdir(parents=True, exist_ok=True)
    cdef = _import("_pillion_cdef", PACKAGE / "_cdef.py")
    strings = (
        (HERE / "fake_pillion.h")
        .read_text()
        .split("/* FAKE BEGIN */")[1]
        .split("/* FAKE END */")[0]
    )
    cdef.emit(
        HEADER, folder / "_capi.c", "pillion_fake._capi", strings, '#include "fake_pillion.h"\n'
    )
    includes = [f"-I{folder}" for folder in (HEADER.parent, HERE, sysconfig.get_paths()["include"])]
    flags = [
        "-std=gnu11",
        "-O1",
        "-g",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Wno-unused-function",
    ]
    sources = [folder / "_capi.c", *PARTS]
    subprocess.run(
        ["cc", *flags, *includes, *sources, "-o", folder / "part.so", "-lm", "-pthread"], check=True
    )
    (folder / "part.so").replace(module)
