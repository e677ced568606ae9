"""The cross build for Jetson, as far as it goes without a board: what the toolchain asks for, and
objects for aarch64 by nvcc."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import cuda_report

CROSS = shutil.which("aarch64-linux-gnu-g++")
CMAKE = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
EM_AARCH64 = 183


def configure(tmp_path, *options):
    """With a project of no language: the toolchain file alone speaks."""
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.21)\nproject(nothing NONE)\n"
        'message(STATUS "architectures ${CMAKE_CUDA_ARCHITECTURES} cudart ${PILLION_CUDART}")\n'
    )
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'toolchains/jetson-aarch64.cmake'}"
    command = [CMAKE, "-S", tmp_path, "-B", tmp_path / "build", toolchain, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def sysroot(tmp_path):
    cuda = tmp_path / "sysroot/usr/local/cuda/targets/aarch64-linux"
    for name in ("include/cuda_runtime.h", "lib/libcudart_static.a"):
        (cuda / name).parent.mkdir(parents=True)
        (cuda / name).touch()
    return tmp_path / "sysroot"


needs_cmake = pytest.mark.skipif(CMAKE is None, reason="cmake is not installed")


@needs_cmake
def test_without_the_board_s_libraries(tmp_path, monkeypatch):
    monkeypatch.delenv("PILLION_JETSON_SYSROOT", raising=False)
    status, said = configure(tmp_path)
    assert status != 0
    assert (
        'PILLION_JETSON_SYSROOT is ""; it must name a folder with the board\'s CUDA' in said
        and "rsync -aL" in said
    )
    status, said = configure(tmp_path, f"-DPILLION_JETSON_SYSROOT={tmp_path}")
    assert status != 0 and f'PILLION_JETSON_SYSROOT is "{tmp_path}"' in said


@needs_cmake
@pytest.mark.parametrize("jetpack, architectures", [(6, "87-real"), (7, "87-real;110-real")])
def test_each_jetpack(tmp_path, sysroot, jetpack, architectures):
    status, said = configure(
        tmp_path,
        f"-DPILLION_JETSON_SYSROOT={sysroot}",
        f"-DPILLION_JETPACK={jetpack}",
        "-DCMAKE_MAKE_PROGRAM=true",
    )
    assert status == 0, said
    assert (
        f"architectures {architectures} cudart "
        f"{sysroot}/usr/local/cuda/targets/aarch64-linux/lib/libcudart_static.a" in said
    )


@needs_cmake
def test_another_jetpack(tmp_path, sysroot):
    status, said = configure(tmp_path, f"-DPILLION_JETSON_SYSROOT={sysroot}", "-DPILLION_JETPACK=5")
    assert status != 0 and 'PILLION_JETPACK is "5"; 6 and 7 are known' in said


@pytest.mark.parametrize("arch", ["87", "110"])
@pytest.mark.parametrize("name", ["kernels/norm.cu", "device/runtime_cuda.cpp"])
def test_an_object_for_the_board(tmp_path, name, arch):
    nvcc = cuda_report.nvcc()
    if nvcc is None or CROSS is None:
        pytest.skip("nvcc and aarch64-linux-gnu-g++ are needed, one of them is not installed")
    include = next(Path(nvcc).resolve().parents[1].glob("targets/*/include"), None) or Path(
        "/usr/local/cuda/include"
    )
    if not (include / "cuda_runtime.h").exists():
        include = Path("/usr/local/cuda/include")  # nvcc is a script elsewhere
    out = tmp_path / "object.o"
    flags = [
        "-std=c++17",
        "-fmad=false",
        "-ccbin",
        CROSS,
        f"-arch=sm_{arch}",
        f"-I{include}",
        f"-I{ROOT / 'csrc'}",
    ]
    done = subprocess.run(
        [nvcc, *flags, "-x", "cu", "-c", ROOT / "csrc/backends/cuda" / name, "-o", out],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    head = out.read_bytes()[:20]
    assert head[:4] == b"\x7fELF" and struct.unpack_from("<H", head, 18)[0] == EM_AARCH64
