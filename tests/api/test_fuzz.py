"""The programs of tests/fuzz on seeded inputs: for some seconds what tools/fuzz.sh does at length
with libFuzzer and the sanitizers.

fuzz_gguf runs in test_gguf.py. fuzz_htp wants the DSP's sources, which take a compiler minutes:
here it is only seen to fit them; tests/htp/test_dsp_wire.py does what it does.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "fuzz_model": ("--runs", "80"),
    "fuzz_abi": ("--runs", "400"),
    "fuzz_kv_rewind": ("--runs", "60"),
    "fuzz_mmproj": ("--runs", "300"),
    "fuzz_quantize": ("--runs", "150"),
    "fuzz_state": ("--runs", "600"),
    "fuzz_split": ("--runs", "100"),
    "fuzz_tokenizer": ("400",),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_seeded_inputs(libpillion, tmp_path, program):
    core = libpillion.parent / "libpillion_core.a"
    source, built = ROOT / "tests/fuzz" / f"{program}.cpp", tmp_path / program
    flags = [
        "-std=c++17",
        "-O0",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-DPILLION_FUZZ_MAIN",
        f"-I{ROOT / 'csrc'}",
        f"-I{ROOT / 'csrc/include'}",
    ]
    subprocess.run(
        [os.environ.get("CXX", "g++"), *flags, source, core, "-pthread", "-ldl", "-o", built],
        check=True,
    )
    done = subprocess.run([built, *PROGRAMS[program]], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert " inputs" in done.stdout


def test_the_dsp_s_program_fits_its_sources():
    flags = [
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Wno-psabi",
        "-Werror",
        "-DPILLION_FUZZ_MAIN",
        f"-I{ROOT / 'csrc'}",
    ]
    subprocess.run(
        [os.environ.get("CXX", "g++"), *flags, "-fsyntax-only", ROOT / "tests/fuzz/fuzz_htp.cpp"],
        check=True,
    )
