"""Compiles every CUDA kernel with nvcc and says what each takes: registers, static shared memory, spilled bytes.

    python tools/cuda_report.py [--arch 87 90] [--jobs 1] [--json FILE] [--brief]

Exits with 1 when a kernel spills, when it takes more registers than its block size allows on the architecture, or when a file does not
compile; with 2 when there is no nvcc.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CSRC = REPOSITORY / "csrc"
CUDA = CSRC / "backends" / "cuda"
# What CMakeLists.txt gives the kernels of the module.
FLAGS = ["-std=c++17", "-O3", "-fmad=false", f"-I{CSRC}", "-x", "cu", "-Xptxas", "-v"]
REGISTERS = 65536  # of a multiprocessor, all architectures from 8.0 on
STATIC_SHARED = 48 * 1024

COMPILING = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


def find_nvcc():
    """Path of nvcc, or None: $CUDACXX, the search path, the usual place."""
    for name in (os.environ.get("CUDACXX"), "nvcc", "/usr/local/cuda/bin/nvcc"):
        found = name and shutil.which(name)
        if found:
            return found
    return None


def sources():
    return sorted(CUDA.rglob("*.cu"))


def parse(output):
    """The kernels of ptxas's report: dicts with name (mangled), arch, registers, shared, spill."""
    kernels, name, arch, spill = [], None, None, 0
    for line in output.splitlines():
        if match := COMPILING.search(line):
            name, arch, spill = *match.groups(), 0
        elif match := SPILLS.search(line):
            spill = int(match[2]) + int(match[3])
        elif name and (match := USED.search(line)):
            kernels.append({"name": name, "arch": arch, "registers": int(match[1]), "shared": int(match[2] or 0), "spill": spill})
            name = None
    return kernels


def demangle(kernels):
    names = subprocess.run(["c++filt"], input="\n".join(k["name"] for k in kernels), capture_output=True, text=True, check=True).stdout.split("\n")
    for kernel, name in zip(kernels, names):
        name = re.sub(r"pillion::cuda::|\(anonymous namespace\)::|pillion::|^void ", "", name)
        kernel["name"] = re.sub(r"\((?:KvType|DType)\)", "", name.split(">(")[0] + ">" if ">(" in name else name.split("(")[0])


def compile_one(nvcc, arch, source, folder):
    command = [nvcc, *FLAGS, f"-arch=sm_{arch}", "-c", str(source), "-o", str(Path(folder) / f"{source.stem}.{arch}.o")]
    done = subprocess.run(command, capture_output=True, text=True)
    output = done.stdout + done.stderr
    return source, parse(output), output if done.returncode else ""


def report(nvcc, archs, jobs=1, files=None):
    """(kernels, faults): what every kernel takes, and sentences about what must not be."""
    kernels, faults = [], []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        work = [(nvcc, arch, source, folder) for arch in archs for source in (files or sources())]
        for source, found, errors in pool.map(lambda w: compile_one(*w), work):
            if errors:
                faults.append(f"{source.name} does not compile: {errors.strip().splitlines()[0]}")
            for kernel in found:
                kernel["file"] = source.name
            kernels += found
    demangle(kernels)
    for kernel in kernels:
        what = f"{kernel['file']}: {kernel['name']} ({kernel['arch']})"
        if kernel["spill"]:
            faults.append(f"{what} spills {kernel['spill']} bytes")
        if kernel["registers"] > REGISTERS // 256:  # the largest block of these sizes that must be resident
            faults.append(f"{what} takes {kernel['registers']} registers, a block of 256 threads has {REGISTERS // 256} each")
        if kernel["shared"] > STATIC_SHARED:
            faults.append(f"{what} takes {kernel['shared']} bytes of static shared memory, the limit is {STATIC_SHARED}")
    if not kernels and not faults:
        faults.append("no kernel was found")
    return kernels, faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", nargs="+", default=["87", "90"])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="the whole report as JSON")
    parser.add_argument("--brief", action="store_true", help="one line a file")
    args = parser.parse_args()
    nvcc = find_nvcc()
    if not nvcc:
        print("cuda_report: there is no nvcc on this machine; the CUDA kernels were NOT compiled for a GPU")
        return 2
    kernels, faults = report(nvcc, args.arch, args.jobs)
    if args.json:
        args.json.write_text(json.dumps(kernels, indent=1) + "\n", encoding="utf-8")
    if args.brief:
        for name in sorted({k["file"] for k in kernels}):
            of = [k for k in kernels if k["file"] == name]
            print(f"{name:22} {len(of):4} kernels, at most {max(k['registers'] for k in of):3} registers, {max(k['shared'] for k in of):6} bytes shared")
    else:
        for k in sorted(kernels, key=lambda k: (k["arch"], k["file"], k["name"])):
            print(f"{k['arch']} {k['registers']:4} registers {k['shared']:6} shared {k['spill']:4} spilled  {k['file']}: {k['name']}")
    print("\n".join(faults) or f"{len(kernels)} kernels for sm_{', sm_'.join(args.arch)}: no spills")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
