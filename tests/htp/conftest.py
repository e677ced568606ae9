"""Builds the simulators of the DSP's own project for this PC; the Hexagon program is the fixture
hexagon_sim of all tests."""

import importlib.util
import shutil
import sys
from pathlib import Path

import dsp as d
import op_plans
import pytest
from locked import cmake_build, toolchain

REPOSITORY = Path(__file__).resolve().parents[2]


def built(folder, targets, *defines):
    """Targets of the DSP's own project, in build/FOLDER."""
    return cmake_build(folder, *defines, source="csrc/backends/htp/dsp", targets=targets)


@pytest.fixture(scope="session")
def native():
    """Folder of pillion_htp_sim, pillion_htp_sim_qf32 and libpillion_htp_pack.so for this PC."""
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed")
    return built(
        "htp-native",
        ["pillion_htp_sim", "pillion_htp_sim_qf32", "pillion_htp_pack"],
        "-DPILLION_HTP_SIM_THIS_MACHINE=ON",
    )


def hexagon_toolchain():
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed: no compiler for Hexagon")
    return toolchain("hexagon"), f"-DZIG_PYTHON={sys.executable}"


@pytest.fixture(scope="session")
def hexagon(hexagon_sim):
    """Command of the simulator as a Hexagon program."""
    return hexagon_sim.split()


@pytest.fixture(scope="session")
def packer(native):
    return op_plans.Packer(native / "libpillion_htp_pack.so")


def served(command, **settings):
    with d.Dsp(command, **settings) as dsp:
        yield dsp


@pytest.fixture(scope="session")
def native_dsp(native):
    yield from served([native / "pillion_htp_sim"], heap_bytes=128 << 20, threads=2)


@pytest.fixture(scope="session")
def qf32_dsp(native):
    yield from served([native / "pillion_htp_sim_qf32"], heap_bytes=128 << 20, threads=2)


@pytest.fixture(scope="session")
def hexagon_dsp(hexagon):
    yield from served(hexagon, heap_bytes=128 << 20, threads=1)
