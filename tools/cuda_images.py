"""Which GPUs a compiled CUDA module has code for, read from its file; no CUDA tool is needed.

    python tools/cuda_images.py build/gpu/libpillion_cuda.so [--for 9.0]

Prints machine code as sm_80 and PTX as compute_90. --for exits with 1 and a sentence if a card of
that compute capability finds no code."""

import argparse
import struct
import sys
from pathlib import Path

MAGIC = struct.pack("<I", 0xBA55ED50)  # of a fat binary
PTX, CODE = 1, 2
TEGRA = {72, 87}  # their code and that of other cards do not go together


def images(path):
    """{"sm_80", "compute_90", …}: what every fat binary in the file holds; what only some hold is
    missing. Empty where the file holds none."""
    data, at, found = Path(path).read_bytes(), 0, None
    while (at := data.find(MAGIC, at)) >= 0:
        header, size = struct.unpack_from("<HQ", data, at + 6)
        entry, end, held = at + header, at + header + size, set()
        while entry < end:
            kind, _, head, body = struct.unpack_from("<HHIQ", data, entry)
            (arch,) = struct.unpack_from("<I", data, entry + 28)
            held.add(f"{'compute' if kind == PTX else 'sm'}_{arch}")
            entry += head + body
        found = held if found is None else found & held
        at = end
    return found or set()


def serves(held, capability):
    """Whether a card of this compute capability (86 for 8.6) finds code: machine code of its major
    version and no higher minor one, or PTX of no higher version."""
    for one in held:
        kind, arch = one.split("_")
        arch = int(arch)
        if kind == "compute" and arch <= capability:
            return True
        same_kind = arch == capability or not {arch, capability} & TEGRA
        if kind == "sm" and arch // 10 == capability // 10 and arch <= capability and same_kind:
            return True
    return False


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("module", type=Path)
    parser.add_argument("--for", dest="capability", help="a compute capability, as 8.6")
    options = parser.parse_args()
    held = images(options.module)
    print(*sorted(held, key=lambda one: (int(one.split("_")[1]), one)))
    if options.capability and not serves(held, int(options.capability.replace(".", ""))):
        sys.exit(f"{options.module} has no code for compute capability {options.capability}")


if __name__ == "__main__":
    main()
