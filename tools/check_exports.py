"""What the built library shows, and what its kernels hide.

    python tools/check_exports.py build/python/libpillion.so [build/python]

1. libpillion exports exactly the functions of pillion.h.
2. With the build folder: objects of the ISA folders define no symbol that the linker could use for
   other code (weak or unique); such a symbol would carry instructions of a later processor into
   code for all.
"""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "python" / "pillion"))

import _cdef  # noqa: E402

ISA_PARTS = (
    "part_cpu_x86_avx2",
    "part_cpu_x86_avx512",
    "part_cpu_x86_avx_vnni",
    "part_cpu_arm_dotprod",
    "part_cpu_arm_i8mm",
)


def symbols(path, *options):
    """(kind, name) of the symbols of an object, as nm gives them."""
    output = subprocess.run(
        ["nm", "--defined-only", *options, str(path)], capture_output=True, text=True, check=True
    ).stdout
    return [tuple(line.split()[-2:]) for line in output.splitlines() if line]


def export_faults(library):
    declared = set(
        _cdef.functions((REPOSITORY / "csrc" / "include" / "pillion.h").read_text(encoding="utf-8"))
    )
    exported = {name for _, name in symbols(library, "-D")}
    yield from (
        f"{name} is declared in pillion.h and not exported" for name in sorted(declared - exported)
    )
    yield from (
        f"{name} is exported and not declared in pillion.h" for name in sorted(exported - declared)
    )


def merge_faults(build):
    for part in ISA_PARTS:
        for item in sorted(Path(build).glob(f"CMakeFiles/{part}.dir/**/*.o")):
            yield from (
                f"{part}: {item.name} defines {name} as a symbol other code may be given ({kind})"
                for kind, name in symbols(item)
                if kind in "WVu"
                and not name.startswith("DW.ref.")  # a pointer for unwinding, no code
            )


if __name__ == "__main__":
    faults = list(export_faults(sys.argv[1]))
    if len(sys.argv) > 2:
        faults += merge_faults(sys.argv[2])
    print("\n".join(faults) or "exports: exactly those of pillion.h")
    sys.exit(bool(faults))
