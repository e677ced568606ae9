"""Compiles every CUDA kernel with nvcc and says what each takes: registers, static shared memory,
spilled bytes.

    python tools/cuda_report.py [--arch 87 --arch 90] [--only attn_tile] [--json OUT]

Exits with 1 when a file does not compile, a kernel spills, or takes every register a thread can
have (launch bounds already keep a kernel to what its block can have). Two files at a time. Nothing
runs: no GPU is needed."""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "csrc/backends/cuda/kernels"
FLAGS = ["-std=c++17", "-O3", "-fmad=false", f"-I{ROOT / 'csrc'}", "-Xptxas", "-v", "-c"]
REGISTERS_MAX = 255  # of a thread


def nvcc():
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def compile_one(job):
    """(source, architecture, kernels, what nvcc said or None): kernels as {"name", "registers",
    "shared", "spill"}."""
    source, arch, folder = job
    out = Path(folder) / f"{source.stem}-{arch}.o"
    command = [nvcc(), *FLAGS, f"-arch=sm_{arch}", "-x", "cu", str(source), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    return source, arch, read_kernels(said), None if done.returncode == 0 else said


def read_kernels(said):
    """What ptxas reports, a kernel a dictionary."""
    kernels, name, spill = [], None, 0
    for line in said.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)'", line):
            name, spill = match[1], 0
        elif match := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spill = int(match[1]) + int(match[2])
        elif name and (match := re.search(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?", line)):
            kernels.append(
                {
                    "name": name,
                    "registers": int(match[1]),
                    "shared": int(match[2] or 0),
                    "spill": spill,
                }
            )
            name = None
    return kernels


def readable(names):
    """Demangled, without return type and arguments."""
    if not shutil.which("c++filt"):
        return names
    said = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [
        re.sub(
            r"^void |pillion::(cuda::)?|\(anonymous namespace\)::",
            "",
            re.sub(r"\((?!.*>\().*$", "", one),
        )
        for one in said
    ]


def report(archs, only=None):
    """Two lists: {"file", "arch", "name", "registers", "shared", "spill"} of every kernel, and
    sentences about what is wrong."""
    sources = [
        s
        for s in [*sorted(KERNELS.glob("*.cu")), KERNELS / "matmul.cpp"]
        if not only or s.stem in only
    ]
    kernels, faults = [], []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        for source, arch, found, said in pool.map(
            compile_one, [(s, a, folder) for s in sources for a in archs]
        ):
            if said is not None:
                faults.append(
                    f"{source.name} does not compile for sm_{arch}: {said.strip()[-2000:]}"
                )
            names = readable([one["name"] for one in found])
            kernels += [
                {"file": source.name, "arch": arch, **one, "name": name}
                for one, name in zip(found, names, strict=False)
            ]
    for one in kernels:
        if one["spill"]:
            faults.append(
                f"{one['file']}, sm_{one['arch']}: {one['name']} spills {one['spill']} bytes"
            )
        if one["registers"] > REGISTERS_MAX - 1:
            faults.append(
                f"{one['file']}, sm_{one['arch']}: "
                f"{one['name']} takes all {one['registers']} registers"
            )
    return kernels, faults


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--arch",
        action="append",
        help="compute capability without the dot; may be repeated (87 and 90)",
    )
    parser.add_argument(
        "--only", action="append", help="only this file, without .cu; may be repeated"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if nvcc() is None:
        sys.exit("nvcc is not installed: nothing was compiled")
    kernels, faults = report(options.arch or ["87", "90"], options.only)
    for one in sorted(kernels, key=lambda one: (one["file"], one["arch"], one["name"])):
        takes = (
            f"{one['registers']:4} registers {one['shared']:6} B shared {one['spill']:5} B spilled"
        )
        print(f"{one['file']:20} sm_{one['arch']} {takes}  {one['name']}")
    print(
        f"{len(kernels)} kernels; most registers "
        f"{max((one['registers'] for one in kernels), default=0)}"
    )
    if options.json:
        options.json.write_text(json.dumps(kernels, indent=1) + "\n")
    for fault in faults:
        print("error:", fault, file=sys.stderr)
    sys.exit(bool(faults) or not kernels)


if __name__ == "__main__":
    main()
