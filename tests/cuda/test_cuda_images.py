"""Which cards a build has code for: the default list of CMakeLists.txt, what nvcc makes of it, and
the sentence where a card finds none."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import cuda_images
import cuda_report
import pytest
from goldens import model_path

ROOT = Path(__file__).resolve().parents[2]
# A100; RTX 30, A10, A40; Jetson Orin; RTX 40, L4; H100, H200; B200, B300, Thor, RTX 50
CARDS = [80, 86, 87, 89, 90, 100, 103, 110, 120]


def default_list():
    text = (ROOT / "CMakeLists.txt").read_text()
    return re.search(r'CMAKE_CUDA_ARCHITECTURES "([^"]+)"', text)[1].split(";")


def made_of(architectures):
    """What CMake has nvcc make: "80-real" machine code, "90" that and PTX."""
    held = set()
    for one in architectures:
        arch, _, kind = one.partition("-")
        held |= {f"sm_{arch}"} if kind != "virtual" else set()
        held |= {f"compute_{arch}"} if kind != "real" else set()
    return held


def test_the_default_list_serves_every_card():
    held = made_of(default_list())
    assert [card for card in CARDS if not cuda_images.serves(held, card)] == []
    assert {"sm_80", "sm_86"} <= held


def test_who_is_served_by_what():
    serves = cuda_images.serves
    assert serves({"sm_80"}, 86) and not serves({"sm_86"}, 80)
    assert not serves({"sm_89"}, 90) and not serves({"compute_90"}, 86)
    assert serves({"compute_90"}, 120)
    assert serves({"sm_87"}, 87) and not serves({"sm_80"}, 87) and not serves({"sm_87"}, 89)
    assert not serves(made_of(["87-real", "89-real", "90"]), 86)  # an RTX 30 once met this list


def fat_binary(*entries):
    body = b""
    for kind, arch in entries:
        body += struct.pack("<HHIQ", kind, 257, 64, 8) + bytes(12) + struct.pack("<I", arch)
        body += bytes(32) + b"x" * 8
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_reading_a_file(tmp_path):
    file = tmp_path / "module.so"
    both = fat_binary((cuda_images.CODE, 80), (cuda_images.PTX, 90))
    file.write_bytes(b"head" * 9 + both + b"between" + both)
    assert cuda_images.images(file) == {"sm_80", "compute_90"}
    # A kernel that lacks an image cannot run there, whatever the others have.
    file.write_bytes(both + fat_binary((cuda_images.CODE, 80)))
    assert cuda_images.images(file) == {"sm_80"}
    file.write_bytes(b"no fat binary")
    assert cuda_images.images(file) == set()


def test_the_command(tmp_path):
    file = tmp_path / "module.so"
    file.write_bytes(fat_binary((cuda_images.CODE, 80), (cuda_images.CODE, 87)))
    for card, status in ((["--for", "8.6"], 0), (["--for", "9.0"], 1), ([], 0)):
        done = subprocess.run(
            [sys.executable, ROOT / "tools/cuda_images.py", file, *card],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (status, "sm_80 sm_87\n")
        assert ("has no code for compute capability 9.0" in done.stderr) == bool(status)


def test_what_nvcc_makes_of_the_default_list(tmp_path):
    """One small file of kernels, with the flags that CMake gives for the list."""
    if cuda_report.nvcc() is None:
        pytest.skip("nvcc is not installed")
    flags = []
    for one in default_list():
        arch, _, kind = one.partition("-")
        code = f"sm_{arch}" if kind == "real" else f"[compute_{arch},sm_{arch}]"
        flags += ["-gencode", f"arch=compute_{arch},code={code}"]
    out = tmp_path / "limits.o"
    source = ROOT / "csrc/backends/cuda/kernels/limits.cu"
    include = [f"-I{ROOT / 'csrc'}", "-std=c++17", "-fmad=false", "-x", "cu"]
    subprocess.run([cuda_report.nvcc(), *flags, *include, "-c", source, "-o", out], check=True)
    assert cuda_images.images(out) == made_of(default_list())


OPEN = """
import sys
import pillion
try:
    pillion.Model.open(sys.argv[1], device="cuda:sim").close()
    print("opened")
except pillion.NoBackendError as error:
    print(error)
"""


@pytest.mark.parametrize("faults", ["", "code=1"])
def test_a_card_without_code(pillion, faults):
    """One sentence when the device is asked for, before anything is loaded."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(model_path("tiny-e2b"))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PILLION_SIM_FAULTS": faults},
    )
    said = done.stdout.strip()
    if "is not installed" in said:
        pytest.skip(f"no cuda:sim: {said} (make build makes it)")
    if not faults:
        assert said == "opened"
        return
    assert said.startswith(
        'device "cuda:sim": this module has no code for SIMT emulation (compute capability 0.0): '
        "build it with -C cmake.define.CMAKE_CUDA_ARCHITECTURES="
    )
    assert "\n" not in said
