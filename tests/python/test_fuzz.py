"""The programs of tests/fuzz on seeded inputs: for some seconds what tools/fuzz.sh does at length with libFuzzer and the sanitizers.

fuzz_gguf runs in test_gguf.py; what fuzz_htp does is also tests/htp/test_dsp_wire.py.
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
    "fuzz_quantize": ("--runs", "150"),
    "fuzz_tokenizer": ("400",),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_seeded_inputs(libpillion, tmp_path, program):
    core = libpillion.parent / "libpillion_core.a"
    source, built = ROOT / "tests/fuzz" / f"{program}.cpp", tmp_path / program
    flags = ["-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror", "-DPILLION_FUZZ_MAIN", f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/include'}"]
    subprocess.run([os.environ.get("CXX", "g++"), *flags, source, core, "-pthread", "-ldl", "-o", built], check=True)
    done = subprocess.run([built, *PROGRAMS[program]], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert " inputs" in done.stdout
