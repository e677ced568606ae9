"""The rules of the tree: who includes whom, what the library shows, what the cdef holds, what the
wheel's build may use."""

import ast
import json
import os
import platform
import re
import shlex
import subprocess
import sys

import pytest
from build import HEADER, PACKAGE, REPOSITORY

TOOLS = REPOSITORY / "tools"


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)


def test_includes_follow_the_table():
    result = run(TOOLS / "check_includes.py")
    assert result.returncode == 0, result.stdout


def test_the_check_of_includes_checks():
    import check_includes as check

    def reason(path, kind, name):
        return check.offence(check.CSRC / path, kind, name)

    assert reason("core/graph.cpp", '"', "core/op.h") is None
    assert reason("model/model.cpp", "<", "vector") is None
    assert "may include only" in reason("core/graph.cpp", '"', "model/model.h")
    assert "may include only" in reason("runtime/context.cpp", '"', "tokenizer/tokenizer.h")
    assert "no such file" in reason("core/graph.cpp", '"', "core/none.h")
    assert "kernels" in reason("backends/cpu/x86_avx2/matmul.cpp", "<", "vector")
    assert "kernels" in reason("backends/cpu/x86_avx2/matmul.cpp", '"', "core/error.h")
    assert "not in the table" in reason("elsewhere/a.cpp", "<", "vector")


# Made by tools, or somebody else's text. The pages of docs/ have rules of their own.
GENERATED = ("tests/golden/", "tests/tiny-pair/", "docs/images/", "third_party/")
TEXTS = ("tests/data/text-en.txt", "python/pillion/models/genesis.txt")
TABLES = ("csrc/tokenizer/unicode_tables.inc",)


def test_no_line_is_longer_than_100_columns():
    files = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if files.returncode != 0:
        pytest.skip("not a git repository")
    long = []
    for name in files.stdout.split():
        made = name.startswith(GENERATED) and not name.endswith(".py")
        path = REPOSITORY / name
        if made or name in (*TEXTS, *TABLES) or name.endswith(".md") or not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:  # no text
            continue
        long += [f"{name}:{n}" for n, line in enumerate(lines, 1) if len(line) > 100]
    assert not long


def test_exports(libpillion):
    result = run(TOOLS / "check_exports.py", libpillion, libpillion.parent)
    assert result.returncode == 0, result.stdout


def test_no_flag_of_the_build_machine(libpillion):
    """Only the ISA folders get instructions beyond the baseline. The DSP's simulator, a test's
    tool, is for the machine that builds it."""
    for entry in json.loads((libpillion.parent / "compile_commands.json").read_text()):
        command = entry["command"]
        if "pillion_htp_sim.dir" in command or "pillion_htp_sim_qf32.dir" in command:
            continue
        assert "-march=native" not in command and "-mtune=native" not in command
        if re.search(r" -m(avx|fma|f16c|sse4)", command):
            assert "/x86_avx" in command, command


def test_no_flag_of_the_environment(tmp_path):
    """CXXFLAGS that ask for the machine's own processor change no instruction set."""
    environment = {**os.environ, "CFLAGS": "-march=native", "CXXFLAGS": "-march=native"}
    call = ["cmake", "-S", REPOSITORY, "-B", tmp_path, "-DPILLION_WERROR=OFF"]
    subprocess.run(call, check=True, env=environment, capture_output=True)
    entries = json.loads((tmp_path / "compile_commands.json").read_text())
    flags = {flags_of(entry["command"]) for entry in entries}
    assert len(flags) > 2 and all("-march=native" in one for one in flags)
    for one in flags:
        assert macros(one) == macros([flag for flag in one if flag != "-march=native"])
    assert macros(["-march=native"]) != macros(["-march=x86-64"]) or platform.machine() != "x86_64"


def flags_of(command):
    """Compiler and machine flags."""
    words = shlex.split(command)
    while not words[0].endswith(("cc", "c++", "gcc", "g++", "clang", "clang++")):
        del words[0]  # a launcher
    return tuple(word for word in words if word == words[0] or re.match(r"-(m|std=|O)", word))


def macros(command):
    """What the compiler predefines under these flags; without a compiler: c++."""
    command = list(command) if not command[0].startswith("-") else ["c++", *command]
    call = [*command, "-dM", "-E", "-x", "c++", os.devnull]
    if any("std=c" in word and "++" not in word for word in command):
        call[-2] = "c"
    text = subprocess.run(call, check=True, capture_output=True, text=True).stdout
    return set(text.splitlines())


def test_the_cdef_holds_every_function_of_the_header(fake):
    import check_exports

    names = check_exports._cdef.functions(HEADER.read_text())
    assert len(names) > 30 and "pillion_model_open" in names and "pillion_log_callback" not in names
    for name in names:
        assert hasattr(fake._native.lib, name)


def test_the_fake_and_the_library_keep_apart(fake, pillion):
    assert hasattr(fake._native.lib, "fake_script")
    assert not hasattr(pillion._native.lib, "fake_script")
    assert fake._native.lib is not pillion._native.lib


def test_the_headers_markers_are_needed():
    import check_exports

    with pytest.raises(SystemExit, match="CDEF"):
        check_exports._cdef.declarations("int f(void);")


def test_the_package_prints_nothing_outside_the_command_line():
    for path in PACKAGE.rglob("*.py"):
        if "cli" not in path.parts and "server" not in path.parts:
            calls = [
                node.func
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call)
            ]
            assert "print" not in [call.id for call in calls if isinstance(call, ast.Name)], path


def test_file_names_are_unique():
    """A name says where you are. A file of cli/ has the name of its command, which may be that of
    the module it calls (the ISA folders hold the same names on purpose too)."""
    names = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
        and path.parent.name not in ("cli", "llama_cpp")
    ]
    assert len(names) == len(set(names))


def test_the_rooms_of_tests():
    """A room's tests import one another at most; what two rooms share is in tests/support."""
    tests = {path.stem: path for path in (REPOSITORY / "tests").rglob("test_*.py")}
    rooms = list((REPOSITORY / "tests").rglob("test_*.py"))
    assert len(tests) == len(rooms) > 100
    assert all(path.parent.parent == REPOSITORY / "tests" for path in rooms)
    for path in (REPOSITORY / "tests").rglob("*.py"):
        for name in re.findall(r"^ *(?:from|import) (test_\w+)", path.read_text(), re.M):
            assert tests[name].parent == path.parent, path


def test_the_long_files_exist():
    from file_order import LONG

    names = {path.stem for path in (REPOSITORY / "tests").rglob("test_*.py")}
    assert set(LONG) <= names


@pytest.mark.parametrize("tool", [["mypy"], ["ruff", "check", "."]], ids=["mypy", "ruff"])
def test_linters_are_content(tool):
    pytest.importorskip(tool[0])
    result = subprocess.run(
        [sys.executable, "-m", *tool], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
