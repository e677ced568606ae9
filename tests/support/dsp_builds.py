"""Builds of the DSP's own project."""

import importlib.util
import sys

import pytest
from locked import cmake_build, toolchain


def built(folder, targets, *defines):
    """Targets of the DSP's own project, in build/FOLDER."""
    return cmake_build(folder, *defines, source="csrc/backends/htp/dsp", targets=targets)


def hexagon_toolchain():
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed: no compiler for Hexagon")
    return toolchain("hexagon"), f"-DZIG_PYTHON={sys.executable}"
