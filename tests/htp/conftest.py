"""Builds the simulators of the DSP's own project for this PC; the Hexagon program is the fixture
hexagon_sim of all tests."""

import shutil

import dsp as d
import op_plans
import pytest
from dsp_builds import native_programs


@pytest.fixture(scope="session")
def native():
    """{name: path} of pillion_htp_sim, pillion_htp_sim_qf32 and pillion_htp_pack for this PC."""
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed")
    return native_programs()


@pytest.fixture(scope="session")
def hexagon(hexagon_sim):
    """Command of the simulator as a Hexagon program."""
    return hexagon_sim.split()


@pytest.fixture(scope="session")
def packer(native):
    return op_plans.Packer(native["pillion_htp_pack"])


def served(command, **settings):
    with d.Dsp(command, **settings) as dsp:
        yield dsp


@pytest.fixture(scope="session")
def native_dsp(native):
    yield from served([native["pillion_htp_sim"]], heap_bytes=128 << 20, threads=2)


@pytest.fixture(scope="session")
def qf32_dsp(native):
    yield from served([native["pillion_htp_sim_qf32"]], heap_bytes=128 << 20, threads=2)


@pytest.fixture(scope="session")
def hexagon_dsp(hexagon):
    yield from served(hexagon, heap_bytes=128 << 20, threads=1)
