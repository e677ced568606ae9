"""Writes the C source of the extension module from the public header; runs when the package is
built, never when it is used.

`python _cdef.py pillion.h out.c` cuts the declarations from between the header's two CDEF markers,
adds the two Python callbacks, and has cffi emit the module. There is one list of functions, the
header's, and the C compiler checks each of them."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

BEGIN, END = "/* CDEF BEGIN", "/* CDEF END */"

CALLBACKS = """
extern "Python" void pillion_py_log(int32_t level, const char* message, void* user);
extern "Python" int32_t pillion_py_progress(uint64_t done, uint64_t total, void* user);
"""


def declarations(header: str) -> str:
    """The part of the header's text that cffi is shown, with the ABI version the module is built
    for."""
    begin, end = header.find(BEGIN), header.find(END)
    if begin < 0 or end < begin:
        raise SystemExit(
            f"pillion.h: the markers '{BEGIN}' and '{END}' were not found in this order"
        )
    return "#define PILLION_ABI_VERSION ...\n" + header[begin:end]


def functions(header: str) -> list[str]:
    """The names of all functions the header declares, in its order."""
    code = re.sub(r"/\*.*?\*/", "", declarations(header), flags=re.S)
    return re.findall(r"\b(pillion_\w+)\s*\((?!\s*\*)", re.sub(r"typedef[^;{]*\([^;]*;", "", code))


def emit(
    header: Path,
    out: Path,
    module: str = "pillion._capi",
    extra_cdef: str = "",
    extra_source: str = "",
) -> None:
    """Writes the module's C source to `out`. The other arguments serve the tests' fake
    library."""
    import cffi

    builder = cffi.FFI()
    builder.cdef(declarations(header.read_text(encoding="utf-8")) + CALLBACKS + extra_cdef)
    builder.set_source(module, '#include "pillion.h"\n' + extra_source)
    with contextlib.redirect_stdout(io.StringIO()):  # it says "generating …"
        builder.emit_c_code(str(out))


if __name__ == "__main__":
    emit(Path(sys.argv[1]), Path(sys.argv[2]))
