"""Who may include whom: checks every #include of csrc/ against the table of docs/architecture.md,
section 2.

Prints each offence as file:line and exits with 1 when there is one.
"""

import re
import sys
from pathlib import Path

CSRC = Path(__file__).resolve().parent.parent / "csrc"

# folder: what its files may include, besides their own folder and the standard library
ALLOWED = {
    "include": (),
    "core": (),
    "core/contract": (),
    "tokenizer": ("core",),
    "gguf": ("core",),
    "model": ("core", "gguf"),
    "media": ("core", "gguf", "model"),
    "quantize": ("core", "gguf"),
    "runtime": ("core", "gguf", "model"),
    "speculative": ("core", "gguf", "model", "runtime"),
    "api": (
        "include",
        "core",
        "gguf",
        "tokenizer",
        "model",
        "media",
        "quantize",
        "runtime",
        "speculative",
        "backends/cpu/cpu_backend.h",
    ),
    "run": ("include",),
    "backends/cpu": ("core",),
    "backends/cuda": ("core",),
    "backends/htp/host": ("core", "backends/htp/wire"),
    "backends/htp/wire": ("core/contract",),
    "backends/htp/dsp": (
        "backends/htp/wire",
        "core/contract",
        "core/rng.h",
    ),
}

# Code compiled for a later processor must not be merged by the linker into code for all: no
# templates of the standard library, no header but plain data and loops. The reference kernel is
# compiled for all, but is written under the same rule, with <math.h>.
ISA_FOLDERS = ("x86_avx2", "x86_avx_vnni", "x86_avx512", "arm_dotprod", "arm_i8mm", "generic")
ISA_SYSTEM = {"stddef.h", "stdint.h", "string.h", "math.h", "immintrin.h", "arm_neon.h"}
ISA_HEADERS = {
    "core/contract/blocks.h",
    "core/contract/block_values.h",
    "core/contract/scaled_formats.def",
    "core/contract/kv_lanes.h",
    "core/contract/op_params.h",
    "backends/cpu/kernel_table.h",
    "backends/cpu/activations.h",
    "backends/cpu/formats.h",
    "backends/cpu/kv_head.h",
}
ISA_OWN = re.compile(r"backends/cpu/(\w+/(simd|bytes|dot)\.h|body/\w+\.inl)")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
C_ONLY = ("include", "core/contract", "backends/htp/wire", "backends/htp/dsp")


def folder_of(path):
    """The row of the table a file belongs to: the longest that fits."""
    rows = [row for row in ALLOWED if path == row or path.startswith(row + "/")]
    return max(rows, key=len, default=None)


def resolve(source, name):
    """An include as a path below csrc/, or None when it is no file of ours."""
    for base in (source.parent, CSRC, CSRC / "include"):
        found = (base / name).resolve()
        if found.is_file() and CSRC in found.parents:
            return found.relative_to(CSRC).as_posix()
    return None


def offence(source, kind, name):
    """Why this include is not allowed; None when it is."""
    path = source.relative_to(CSRC).as_posix()
    row = folder_of(path)
    if row is None:
        return "its folder is not in the table"
    target = resolve(source, name)
    if target is None:
        if kind == '"':
            return "there is no such file below csrc/"
        if row in C_ONLY and not name.endswith(".h"):
            return f"csrc/{row} is plain C"
        if is_isa(path) and name not in ISA_SYSTEM:
            return (
                f"kernels may include only {', '.join(sorted(ISA_SYSTEM))} "
                "and headers of plain data"
            )
        return None
    if kind == "<":
        return "our own files stand in quotes"
    if is_isa(path) and target not in ISA_HEADERS and not ISA_OWN.fullmatch(target):
        return (
            "kernels may include only kernel_table.h and what it needs, "
            "simd.h, dot.h and body/*.inl"
        )
    allowed = (row, *ALLOWED[row])
    if (
        folder_of(target) in allowed
        or target in allowed
        or any(target.startswith(one + "/") for one in allowed)
    ):
        return None
    return f"csrc/{row} may include only {', '.join(allowed)}"


def is_isa(path):
    parts = path.split("/")
    return (
        parts[:2] == ["backends", "cpu"] and len(parts) > 3 and parts[2] in (*ISA_FOLDERS, "body")
    )


def offences():
    for source in sorted(CSRC.rglob("*")):
        if source.suffix not in {".h", ".cpp", ".c", ".inl", ".inc", ".def", ".cu", ".cuh"}:
            continue
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            reason = match and offence(source, *match.groups())
            if reason:
                yield f"csrc/{source.relative_to(CSRC)}:{number}: {match.group(2)}: {reason}"


if __name__ == "__main__":
    found = list(offences())
    print("\n".join(found) or "includes: all within the table")
    sys.exit(bool(found))
