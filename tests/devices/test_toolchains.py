"""Each toolchain file and preset configures with the oldest CMake that the project asks for, and
with Debian's own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from locked import locked, toolchain

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import cuda_report

DSP = "csrc/backends/htp/dsp"
PROJECTS = [".", DSP, "examples/android"]
MADE_ELSEWHERE = {
    "android-htp": "needs the NDK, which is no package",
    "fuzz": "needs clang-14; tests/api/test_fuzz.py configures the same option",
}
CUDART = """
#define NOTHING(name) void* name(void) { return 0; }
NOTHING(__cudaRegisterFatBinary) NOTHING(__cudaRegisterFatBinaryEnd)
NOTHING(__cudaUnregisterFatBinary) NOTHING(__cudaRegisterLinkedBinary) NOTHING(__cudaInitModule)
"""


def stated():
    """The version that pyproject.toml asks for, as "3.21"."""
    return re.search(
        r'^cmake\.version = ">=([0-9.]+)"', (ROOT / "pyproject.toml").read_text(), re.M
    ).group(1)


def presets():
    """{name: its toolchain file or None} of those that are not hidden."""
    found = json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]
    return {one["name"]: one.get("toolchainFile") for one in found if not one.get("hidden")}


@pytest.mark.parametrize("project", PROJECTS)
def test_every_project_asks_for_the_same_cmake(project):
    text = (ROOT / project / "CMakeLists.txt").read_text()
    assert (
        re.search(r"^cmake_minimum_required\(VERSION ([0-9.]+)\)", text, re.M).group(1) == stated()
    )


@pytest.fixture(scope="module")
def oldest(tmp_path_factory):
    """The oldest CMake, from PyPI."""
    folder = ROOT / "build" / f"cmake-{stated()}"
    program = folder / "bin" / "cmake"
    with locked("oldest-cmake"):
        if not program.exists():
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--target",
                folder,
                f"cmake=={stated()}.*",
            ]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            if done.returncode:
                pytest.skip(
                    f"cmake {stated()} cannot be had from PyPI: "
                    f"{done.stderr.strip().splitlines()[-1]}"
                )
    return [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(folder)!r}); from cmake import cmake; cmake()",
    ]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A Jetson's folder for the toolchain: nvcc's own headers, and a runtime of nothing, compiled
    for the board."""
    nvcc, cross = cuda_report.nvcc(), shutil.which("aarch64-linux-gnu-gcc")
    if nvcc is None or cross is None:
        pytest.skip("nvcc and aarch64-linux-gnu-g++ are needed, one of them is not installed")
    headers = next(Path("/usr/local").glob("cuda*/targets/*/include/cuda_runtime.h"), None)
    if headers is None:
        pytest.skip("CUDA's headers are not below /usr/local")
    root = tmp_path_factory.mktemp("board")
    cuda = root / "usr/local/cuda/targets/aarch64-linux"
    (cuda / "lib").mkdir(parents=True)
    (cuda / "include").symlink_to(headers.parent)
    for name, source in (("cudart_static", CUDART), ("cudadevrt", "int pillion_nothing;\n")):
        (root / "x.c").write_text(source)
        subprocess.run([cross, "-c", root / "x.c", "-o", root / f"{name}.o"], check=True)
        archive = cuda / "lib" / f"lib{name}.a"
        subprocess.run(["aarch64-linux-gnu-ar", "rcs", archive, root / f"{name}.o"], check=True)
    return root


def configured(cmake, folder, *arguments, **variables):
    ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
    command = [*cmake, *ninja, *arguments, "-B", folder, f"-DZIG_PYTHON={sys.executable}"]
    environment = {
        k: v for k, v in os.environ.items() if k not in ("ANDROID_NDK", "HEXAGON_SDK_ROOT")
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        list(map(str, command)),
        env={**environment, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert (folder / "CMakeCache.txt").exists()
    return done.stdout


def test_jetson_with_the_system_s_cmake(tmp_path, board):
    """Debian 12's is 3.25, where the CUDA compiler's test has no ranlib."""
    cmake = shutil.which("cmake", path="/usr/local/bin:/usr/bin") or pytest.skip(
        "the system has no cmake"
    )
    said = configured([cmake], tmp_path, "--preset", "jetson", PILLION_JETSON_SYSROOT=str(board))
    assert "CUDA compiler identification is NVIDIA" in said


def test_every_preset_is_tried():
    assert {"dev", "release", "linux-arm64", "android-arm64", "jetson"} <= set(presets()) - set(
        MADE_ELSEWHERE
    )
    assert set(MADE_ELSEWHERE) <= set(presets())


@pytest.mark.nightly
@pytest.mark.parametrize("preset", [name for name in presets() if name not in MADE_ELSEWHERE])
def test_a_preset_with_the_oldest_cmake(tmp_path, oldest, preset, request):
    variables = {}
    if preset == "jetson":
        variables["PILLION_JETSON_SYSROOT"] = str(request.getfixturevalue("board"))
    if preset == "linux-arm64" and not shutil.which("aarch64-linux-gnu-g++"):
        pytest.skip("aarch64-linux-gnu-g++ is not installed")
    if preset == "android-arm64":
        pytest.importorskip("ziglang")
    configured(oldest, tmp_path, "--preset", preset, **variables)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["native", "hexagon"])
def test_the_dsp_s_project_with_the_oldest_cmake(tmp_path, oldest, name):
    pytest.importorskip("ziglang")
    extra = [toolchain("hexagon")] if name == "hexagon" else []
    configured(oldest, tmp_path, "-S", DSP, *extra)


@pytest.mark.nightly
def test_all_that_the_tests_build_with_the_oldest_cmake(tmp_path, oldest):
    options = [f"-DPILLION_{name}=ON" for name in ("PYTHON", "LAB", "HTP")]
    configured(oldest, tmp_path, "-S", ".", *options, "-DPILLION_CUDA=SIM")
    # Building a part shows that what was generated can be built.
    subprocess.run(
        [*oldest, "--build", tmp_path, "--target", "part_core"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
