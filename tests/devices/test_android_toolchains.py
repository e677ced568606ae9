"""What CMake says to a phone's builder who has not set what it needs: a sentence with the variable,
not a compiler test that fails."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def configured(folder, source, *arguments, **env):
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed")
    variables = {
        k: v
        for k, v in os.environ.items()
        if k not in ("ANDROID_NDK", "HEXAGON_SDK_ROOT", "HEXAGON_TOOLS_ROOT")
    }
    command = ["cmake", "-S", REPOSITORY / source, "-B", folder, *arguments]
    done = subprocess.run(command, env={**variables, **env}, capture_output=True, text=True)
    return done.returncode, " ".join(done.stderr.split())


def test_the_npu_without_the_ndk(tmp_path):
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={REPOSITORY}/toolchains/android-arm64.cmake"
    code, words = configured(
        tmp_path, ".", toolchain, "-DPILLION_HTP=ON", f"-DZIG_PYTHON={sys.executable}"
    )
    assert code != 0 and "set ANDROID_NDK (docs/android.md)" in words


def test_an_ndk_that_is_none(tmp_path):
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={REPOSITORY}/toolchains/android-arm64.cmake"
    code, words = configured(tmp_path, ".", toolchain, ANDROID_NDK="/nowhere")
    assert (
        code != 0
        and "ANDROID_NDK is /nowhere, which has no build/cmake/android.toolchain.cmake" in words
    )


def test_an_sdk_without_its_tools(tmp_path):
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={REPOSITORY}/toolchains/hexagon.cmake"
    code, words = configured(
        tmp_path, "csrc/backends/htp/dsp", toolchain, HEXAGON_SDK_ROOT="/nowhere"
    )
    assert code != 0 and "source the SDK's setup_sdk_env.source, or set HEXAGON_TOOLS_ROOT" in words
