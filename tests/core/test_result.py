"""core/result.h: a value or a failure. Compiled by itself, in two seconds."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'csrc'}"]

IGNORES_IT = """
#include "core/result.h"
pillion::Result<{type}> call();
void test() {{ {use}; }}
"""


def compile_cpp(*arguments):
    compiler = os.environ.get("CXX", "g++")
    return subprocess.run(
        [compiler, *FLAGS, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def test_values_failures_and_the_way_to_exceptions_and_back(tmp_path):
    runner = tmp_path / "result_runner"
    sources = [ROOT / "tests/runners/result_runner.cpp", ROOT / "csrc/core/error.cpp"]
    made = compile_cpp(*sources, "-o", runner)
    assert made.returncode == 0, made.stderr
    done = subprocess.run([runner], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("type", ["void", "int"])
def test_a_result_must_be_used(tmp_path, type):
    for use, passes in (("(void)call()", True), ("call()", False)):
        source = tmp_path / "use.cpp"
        source.write_text(IGNORES_IT.format(type=type, use=use))
        made = compile_cpp("-fsyntax-only", source)
        assert (made.returncode == 0) == passes, made.stderr
        assert passes or "nodiscard" in made.stderr
