"""The example for apps (examples/android): its C compiled by this machine's compiler and run by a
JVM, and compiled for a phone by zig."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "android"
PROMPT = "In the beginning — ünïcode"

MAIN = """
import java.nio.charset.StandardCharsets;
import pillion.Pillion;

public class Main {
    public static void main(String[] words) throws Exception {
        Pillion closed = null;
        String drafter = words[1].equals("none") ? null : words[1];
        try (Pillion text = new Pillion(words[0], drafter, words[2], 128, 1)) {
            closed = text;
            for (int i = 0; i < 2; i++) {
                text.prompt(words[3]);
                java.io.ByteArrayOutputStream out = new java.io.ByteArrayOutputStream();
                for (byte[] piece; out.size() < 60 && (piece = text.step()) != null; ) {
                    out.write(piece);
                }
                StringBuilder hex = new StringBuilder("text ");
                for (byte b : out.toByteArray()) hex.append(String.format("%02x", b));
                System.out.println(hex);
            }
            text.cancel();
        } catch (RuntimeException e) {
            System.out.println("failed: " + e.getMessage());
        }
        if (closed == null) return;
        closed.cancel();
        closed.close();
        try {
            closed.step();
        } catch (IllegalStateException e) {
            System.out.println(e.getMessage());
        }
    }
}
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory, pillion):
    """Command that runs the example's class with the native library beside it."""
    for tool in ("javac", "java", "cmake"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("app")
    (folder / "Main.java").write_text(MAIN)
    java_home = Path(shutil.which("javac")).resolve().parents[1]
    include = java_home / "include"
    if not (include / "jni.h").exists():
        pytest.skip(f"{include} has no jni.h")
    library = Path(pillion._capi.__file__).parent
    built = next(
        p for p in (REPOSITORY / "build" / "python", library) if (p / "libpillion.so").exists()
    )
    flags = [
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        f"-I{include}",
        f"-I{include / 'linux'}",
    ]
    source = [
        EXAMPLE / "pillion_jni.c",
        f"-I{REPOSITORY / 'csrc' / 'include'}",
        f"-L{built}",
        "-lpillion",
        f"-Wl,-rpath,{built}",
    ]
    subprocess.run(["cc", *flags, *source, "-o", folder / "libpillion_jni.so"], check=True)
    classes = [EXAMPLE / "java" / "pillion" / "Pillion.java", folder / "Main.java"]
    subprocess.run(["javac", "-encoding", "UTF-8", "-d", folder, *classes], check=True)
    return [
        "java",
        "-Xcheck:jni",
        "-Dfile.encoding=UTF-8",
        f"-Djava.library.path={folder}",
        "-cp",
        folder,
        "Main",
    ]


def lines(app, *words):
    done = subprocess.run([*app, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "WARNING in native method" not in done.stdout, (
        done.stdout + done.stderr
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("with_drafter", [False, True])
def test_the_text_is_that_of_the_package(app, pillion, tiny_target, with_drafter):
    from pillion.models import TINY_ASSISTANT

    first, second, closed = lines(
        app, tiny_target, TINY_ASSISTANT if with_drafter else "none", "cpu", PROMPT
    )
    assert closed == "this Pillion is closed"
    with pillion.LLM(tiny_target, drafter=None) as llm:
        wanted = llm.generate(PROMPT, max_tokens=100, temperature=0).run().text.encode()
    # a round may bring more
    texts = [bytes.fromhex(line.removeprefix("text "))[:60] for line in (first, second)]
    assert texts == [wanted[:60]] * 2 and len(texts[0]) == 60


def test_failures_are_exceptions_with_the_sentence(app, tiny_target):
    assert (
        lines(app, "/nowhere.gguf", "none", "cpu", "x")[0]
        == "failed: cannot open '/nowhere.gguf': No such file or directory"
    )
    assert "quantum" in lines(app, tiny_target, "none", "quantum", "x")[0]
    assert lines(app, tiny_target, "none", "cpu", "word " * 400)[0].startswith("failed: ")


def test_it_compiles_for_a_phone(tmp_path):
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    java = shutil.which("javac") or pytest.skip("javac is not installed: no jni.h")
    include = Path(java).resolve().parents[1] / "include"
    flags = [
        "-target",
        "aarch64-linux-musl",
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{include}",
        f"-I{include / 'linux'}",
    ]
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        *flags,
        f"-I{REPOSITORY / 'csrc' / 'include'}",
    ]
    subprocess.run([*command, "-c", EXAMPLE / "pillion_jni.c", "-o", tmp_path / "x.o"], check=True)


@pytest.mark.nightly
def test_its_cmake_project_builds(tmp_path):
    """As Gradle builds it, for this machine."""
    java = shutil.which("javac") or pytest.skip("javac is not installed: no jni.h")
    include = f"-DJDK_INCLUDE={Path(java).resolve().parents[1] / 'include'}"
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(
        ["cmake", "-S", EXAMPLE, "-B", tmp_path, "-DCMAKE_BUILD_TYPE=Release", include], **quiet
    )
    subprocess.run(["cmake", "--build", tmp_path, "--target", "pillion_jni"], **quiet)
    assert (tmp_path / "libpillion_jni.so").exists() and (
        tmp_path / "pillion" / "libpillion.so"
    ).exists()
