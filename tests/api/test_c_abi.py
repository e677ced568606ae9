"""C programs over the ABI: tests/runners/abi_test.c over the library and over the fake,
tests/runners/generate.c per kernel table."""

import os
import shutil
import subprocess

import pytest
from build import HEADER, REPOSITORY, backend_and_core

C = REPOSITORY / "tests" / "runners"
WARNINGS = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{HEADER.parent}"]


def compiled(out, source, *arguments, compiler="cc"):
    """Compiles a C11 program."""
    subprocess.run([compiler, *WARNINGS, C / source, *arguments, "-o", out], check=True)
    return out


def over(library):
    """Arguments to link with libpillion and find it again."""
    return [f"-L{library.parent}", "-lpillion", f"-Wl,-rpath,{library.parent}"]


def test_the_abi_of_the_library(libpillion, tiny_target, tmp_path):
    program = compiled(tmp_path / "abi_test", "abi_test.c", *over(libpillion))
    result = subprocess.run([program, tiny_target], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert ", 0 failed" in result.stdout and result.stderr == ""


def test_the_fake_keeps_to_the_same_abi(toy_file, tmp_path):
    program = compiled(tmp_path / "abi_test", "abi_test.c", *backend_and_core(), "-lstdc++", "-lm")
    result = subprocess.run([program, toy_file()], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_header_is_c_and_cpp(tmp_path):
    for name, command in {
        "a.c": ["cc", "-std=c11", "-pedantic"],
        "a.cpp": ["c++", "-std=c++17"],
    }.items():
        (tmp_path / name).write_text(
            '#include "pillion.h"\nint main(void) { return PILLION_OK; }\n'
        )
        flags = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{HEADER.parent}"]
        subprocess.run([*command, *flags, tmp_path / name], check=True)


# ---- the same tokens from every kernel table and on every processor ----

PROMPT = ["20", "2", "5", "600", "7", "1024"]


def generate(command, model, table=None):
    """(table in use, line of ids)."""
    environment = {**os.environ, **({"PILLION_CPU_ISA": table} if table else {})}
    command = [*map(str, command), str(model), *PROMPT]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr
    # qemu has warnings of its own
    (used,) = [line[7:] for line in result.stderr.splitlines() if line.startswith("table: ")]
    return used, result.stdout.strip()


@pytest.fixture(scope="module")
def program(libpillion, tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("c") / "generate", "generate.c", *over(libpillion))


@pytest.fixture(scope="module")
def expected(program, tiny_target):
    table, ids = generate([program], tiny_target, "generic")
    assert table == "generic" and len(ids.split()) == 20
    return ids


def test_every_table_of_this_machine(pillion, program, tiny_target, expected):
    for table in pillion.system()["cpu"]["tables"]:
        assert generate([program], tiny_target, table) == (table, expected)


def test_a_table_this_machine_cannot_run(program, tiny_target):
    environment = {**os.environ, "PILLION_CPU_ISA": "quantum"}
    result = subprocess.run(
        [program, tiny_target, *PROMPT], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 1 and "quantum" in result.stderr


@pytest.mark.parametrize("cpu, table", [("Nehalem", "generic"), ("Haswell", "x86_avx2")])
def test_an_older_x86(program, tiny_target, expected, cpu, table):
    """Field case 34: one build for all x86-64. An instruction too many would end it with SIGILL."""
    qemu = shutil.which("qemu-x86_64") or pytest.skip("qemu-x86_64 is not installed")
    assert generate([qemu, "-cpu", cpu, program], tiny_target) == (table, expected)


@pytest.fixture(scope="module")
def arm64_library(arm64_build):
    return arm64_build / "libpillion.so"


def arm64(library, folder, source):
    return compiled(folder / "program", source, *over(library), compiler="aarch64-linux-gnu-gcc")


ARM64 = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu"]


@pytest.mark.parametrize(
    "cpu, table", [("cortex-a53", "generic"), ("neoverse-n1", "arm_dotprod"), ("max", "arm_i8mm")]
)
def test_arm64(arm64_library, tmp_path, tiny_target, expected, cpu, table):
    assert generate([*ARM64, cpu, arm64(arm64_library, tmp_path, "generate.c")], tiny_target) == (
        table,
        expected,
    )


# ---- the same quantized bytes on every processor ----


@pytest.fixture(scope="module")
def quantized(pillion, tiny_target, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantized")
    for kind in ("Q4_K_M", "Q5_K_S", "Q6_K", "Q4_0", "Q8_0"):
        pillion.quantize(tiny_target, folder / kind, kind)
    return folder


def check_quantized(command, tiny_target, quantized, folder):
    for kind in quantized.iterdir():
        subprocess.run(
            [*map(str, command), tiny_target, folder / "out.gguf", kind.name],
            check=True,
            timeout=300,
        )
        assert (folder / "out.gguf").read_bytes() == kind.read_bytes(), kind.name


@pytest.mark.parametrize("cpu", ["Nehalem", pytest.param("Haswell", marks=pytest.mark.nightly)])
def test_quantizing_on_an_older_x86(libpillion, tiny_target, quantized, tmp_path, cpu):
    """The encoders are compiled twice, for AVX2 and for all."""
    qemu = shutil.which("qemu-x86_64") or pytest.skip("qemu-x86_64 is not installed")
    program = compiled(tmp_path / "quantize", "quantize.c", *over(libpillion))
    check_quantized([qemu, "-cpu", cpu, program], tiny_target, quantized, tmp_path)


def test_quantizing_on_arm64(arm64_library, tiny_target, quantized, tmp_path):
    check_quantized(
        [*ARM64, "cortex-a53", arm64(arm64_library, tmp_path, "quantize.c")],
        tiny_target,
        quantized,
        tmp_path,
    )
