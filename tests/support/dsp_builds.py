"""Builds of the DSP's own project."""

import importlib.util
import sys

import pytest
from locked import built as library_build
from locked import cmake_build, toolchain


def built(folder, targets, *defines):
    """Targets of the DSP's own project, in build/FOLDER."""
    return cmake_build(folder, *defines, source="csrc/backends/htp/dsp", targets=targets)


def native_programs():
    """{name: path} of the simulators and the packer for this PC. The first simulator is that of the
    library's own build, where it is as new as its sources: it takes half a minute."""
    there = library_build("pillion_htp_sim", of=("core", "backends/htp"))
    names = ["pillion_htp_sim_qf32", "pillion_htp_pack", *([] if there else ["pillion_htp_sim"])]
    folder = built("htp-native", names, "-DPILLION_HTP_SIM_THIS_MACHINE=ON")
    return {
        "pillion_htp_sim": there or folder / "pillion_htp_sim",
        "pillion_htp_sim_qf32": folder / "pillion_htp_sim_qf32",
        "pillion_htp_pack": folder / "libpillion_htp_pack.so",
    }


def hexagon_toolchain():
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed: no compiler for Hexagon")
    return toolchain("hexagon"), f"-DZIG_PYTHON={sys.executable}"
