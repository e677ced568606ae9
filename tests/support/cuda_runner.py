"""How the C++ runners of the CUDA kernels are compiled and started: for the emulation on the CPU,
or with PILLION_TEST_CUDA=cuda by nvcc for the GPU of this machine. PILLION_CUDA_WRAP is put before
a started program ("compute-sanitizer --tool memcheck --error-exitcode 9"); PILLION_CUDA_ARCH names
another architecture than the machine's ("sm_87")."""

import os
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from locked import built

ROOT = Path(__file__).resolve().parents[2]
CUDA = ROOT / "csrc" / "backends" / "cuda"
DEVICE = os.environ.get("PILLION_TEST_CUDA", "cuda:sim")
ON_GPU = DEVICE != "cuda:sim"
RUNTIME = [
    CUDA / "device" / ("runtime_cuda.cpp" if ON_GPU else "runtime_sim.cpp"),
    ROOT / "csrc/core/error.cpp",
]
INCLUDE = [f"-I{ROOT / 'csrc'}"]
SIM_FLAGS = (
    "-std=c++17 -DPILLION_SIM -ffp-contract=off -fno-strict-aliasing -Wall -Wextra -Werror "
    "-Wno-unknown-pragmas -pthread"
).split()
GPU_FLAGS = ["-std=c++17", "-fmad=false", f"-arch={os.environ.get('PILLION_CUDA_ARCH', 'native')}"]
SANITIZE = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compiler(flags=("-O2",)):
    """Compiler and flags; sanitizers are the emulation's."""
    if ON_GPU:
        nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
        return [nvcc, *GPU_FLAGS, *INCLUDE, *[flag for flag in flags if flag.startswith("-O")]]
    return [os.environ.get("CXX", "g++"), *SIM_FLAGS, *INCLUDE, *flags]


def compile_object(source, out, flags=("-O2",)):
    subprocess.run(
        [*compiler(flags), "-x", "cu" if ON_GPU else "c++", "-c", str(source), "-o", str(out)],
        check=True,
    )
    return str(out)


def link(objects, binary, flags=("-O2",)):
    subprocess.run([*compiler(flags), *map(str, objects), "-o", str(binary)], check=True)


def ready_object(source):
    """The emulation's object of the library's own build, where that is as new as its sources."""
    at = f"CMakeFiles/pillion_cuda_sim.dir/{source.relative_to(ROOT)}.o"
    return None if ON_GPU else built(at, of=("core", "backends/cuda"))


def objects(sources, folder, flags=("-O2",), ready=True):
    """Objects of the sources, two compilers at a time, the long ones first. ready: the plain ones
    of the library's own build are good."""

    def one(source):
        found = ready and ready_object(source)
        return str(found or compile_object(source, folder / f"{source.stem}.o", flags))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, sources))


def build(sources, folder, flags=("-O2",)):
    objects = [compile_object(source, folder / f"{source.stem}.o", flags) for source in sources]
    link(objects, folder / "runner", flags)
    return folder / "runner"


def run(binary, *arguments, **environment):
    command = [
        *shlex.split(os.environ.get("PILLION_CUDA_WRAP", "")),
        str(binary),
        *map(str, arguments),
    ]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )
