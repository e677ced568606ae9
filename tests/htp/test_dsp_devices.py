"""The sources for devices: compiled, since no emulator has their vector floats; and what sanitizers say of them on a PC."""

import pytest

import dsp as d
import op_cases as oc
from conftest import built, hexagon_toolchain
from op_plans import OpPlan, fill_cache


@pytest.mark.parametrize(
    "target",
    [
        "pillion_dsp_v73",
        *(pytest.param(f"pillion_dsp_v{a}", marks=pytest.mark.slow) for a in ("68", "69", "75", "79", "81", "73_ieee")),
    ],
)
def test_compiles_for(target):
    built("htp-hexagon", [target], *hexagon_toolchain())


@pytest.mark.slow
def test_nothing_undefined(packer):
    """Every op of the case list under the address and undefined behaviour sanitizers; they end the process at the first finding."""
    flags = "-g1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    programs = ["pillion_htp_sim", "pillion_htp_sim_qf32"]
    plain = ["-DPILLION_HTP_SIM_OPTIMIZE=-O1", "-DPILLION_HTP_SIM_THIS_MACHINE=OFF"]
    build = built("htp-sanitized", programs, f"-DCMAKE_C_FLAGS={flags}", *plain)
    for program in programs:
        with d.Dsp([build / program], heap_bytes=128 << 20, threads=2) as dsp:
            for case in oc.op_cases():
                dsp.reset()
                plan = OpPlan(dsp, packer, case, threads=2, gap=3, fetch_groups=2 if case.op == "matmul" else 0)
                if case.op == "attend":
                    fill_cache(plan, packer)
                plan.run(), plan.run(2, 5)
        assert dsp.process.returncode == 0, program
