"""The emulation that the CUDA kernels are tested in: its own tests, plainly and under sanitizers,
and the table of attention plans."""

import os
import re
import subprocess
from pathlib import Path

import cuda_runner
import pytest

ROOT = Path(__file__).resolve().parents[2]
CUDA = ROOT / "csrc" / "backends" / "cuda"
SOURCES = [
    ROOT / "tests/runners/cuda_sim_runner.cpp",
    *(
        CUDA / "kernels" / name
        for name in (
            "attention_plan.cpp",
            "attention_decode.cu",
            "attention_tile.cu",
            "attention_plain.cu",
        )
    ),
    CUDA / "device/runtime_sim.cpp",
    ROOT / "csrc/core/error.cpp",
]
FLAGS = (
    "-std=c++17 -DPILLION_SIM -fno-strict-aliasing -Wall -Wextra "
    f"-Werror -Wno-unknown-pragmas -pthread -I{ROOT / 'csrc'}"
).split()
# 4 sizes of shared memory x 6 head sizes x 32 ratios x 21 token counts x 6 lengths x 2 cache types
SHAPES = 193_536


@pytest.mark.parametrize(
    "flags",
    [
        "-O1",
        pytest.param(
            "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_the_emulation(flags, tmp_path):
    binary, compiler = tmp_path / "runner", os.environ.get("CXX", "g++")
    objects = []
    for source in SOURCES:
        ready = "sanitize" not in flags and cuda_runner.ready_object(source)
        objects.append(ready or tmp_path / f"{source.stem}.o")
        if not ready:
            subprocess.run(
                [compiler, *FLAGS, *flags.split(), "-x", "c++", "-c", source, "-o", objects[-1]],
                check=True,
            )
    subprocess.run([compiler, *FLAGS, *flags.split(), *objects, "-o", binary], check=True)
    done = subprocess.run([binary], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    plans, checks, failures = map(
        int, re.fullmatch(r"(\d+) plans, (\d+) checks, (\d+) failures\n", done.stdout).groups()
    )
    assert plans == SHAPES and checks > plans and failures == 0
