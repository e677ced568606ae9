"""The sources for devices: compiled, since no emulator has their vector floats; and what sanitizers say of them on a PC."""

import subprocess

import numpy as np
import pytest

import dsp as d
import op_cases as oc
from conftest import REPOSITORY, built, hexagon_toolchain
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


COMPILER = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
while [ $# -gt 0 ]; do [ "$1" = -o ] && cc -c -x c /dev/null -o "$2"; shift; done
exit 0
"""


def test_the_sdk_makes_a_shared_library_for_each_architecture(tmp_path):
    """The branch of the toolchain for Qualcomm's compiler, with a compiler that only notes how it is called."""
    tools = tmp_path / "Tools" / "bin"
    tools.mkdir(parents=True)
    for name, text in {"clang": COMPILER, "ar": '#!/bin/sh\nexec ar "$@"\n', "ranlib": '#!/bin/sh\nexec ranlib "$@"\n'}.items():
        (tools / f"hexagon-{name}").write_text(text)
        (tools / f"hexagon-{name}").chmod(0o755)
    roots = [f"-DHEXAGON_SDK_ROOT={tmp_path}", f"-DHEXAGON_TOOLS_ROOT={tmp_path}"]
    source = REPOSITORY / "csrc" / "backends" / "htp" / "dsp"
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={REPOSITORY}/toolchains/hexagon.cmake"
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["cmake", "-S", source, "-B", tmp_path / "build", toolchain, *roots], **quiet)
    subprocess.run(["cmake", "--build", tmp_path / "build", "--target", "pillion_htp_v73", "pillion_htp_v81"], **quiet)
    assert {path.name for path in (tmp_path / "build").glob("*.so")} == {"libpillion_htp_v73.so", "libpillion_htp_v81.so"}
    calls = (tools / "calls").read_text().splitlines()
    links = [call for call in calls if "-shared" in call]
    assert len(links) == 2 and all("main_fastrpc" in link and "vtcm_device" in link and "vtcm_sim" not in link for link in links)
    assert sum("-mcpu=v73 -mhvx=v73" in call for call in calls) == sum("-mcpu=v81 -mhvx=v81" in call for call in calls) > 15


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
            for frequency in (1e30, np.inf, np.nan):  # of a damaged file: no angle, so no number
                dsp.reset()
                plan = OpPlan(dsp, packer, next(case for case in oc.op_cases() if case.op == "rope_table"))
                there = plan.record["in"][0]
                dsp.heap.bytes[there["offset"] :][: 4 * there["width"]].view(np.float32)[:] = frequency
                assert np.isnan(plan.run(start=1)["y"]).all(), frequency
        assert dsp.process.returncode == 0, program
