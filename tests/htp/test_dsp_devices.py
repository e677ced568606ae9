"""The sources for devices: compiled, since no emulator has their vector floats; and what sanitizers
say of them on a PC."""

import json
import subprocess
import sys

import numpy as np
import pytest

import dsp as d
import op_cases as oc
from dsp_builds import built, hexagon_toolchain
from locked import REPOSITORY
from op_plans import CASES, OpPlan, fill_cache


COMMANDS = ["-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]


@pytest.mark.parametrize(
    "target",
    [
        "pillion_dsp_v73",
        *(
            pytest.param(f"pillion_dsp_v{a}", marks=pytest.mark.nightly)
            for a in ("68", "69", "75", "79", "81", "73_ieee")
        ),
    ],
)
def test_compiles_for(target):
    built("htp-hexagon", [target], *hexagon_toolchain(), *COMMANDS)


COMPILER = """#!/bin/sh
echo "$@" > "$(dirname "$0")/call.$$"
while [ $# -gt 0 ]; do [ "$1" = -o ] && cc -c -x c /dev/null -o "$2"; shift; done
exit 0
"""


def test_the_sdk_makes_a_shared_library_for_each_architecture(tmp_path):
    """The branch of the toolchain for Qualcomm's compiler, with a compiler that only notes how it
    is called."""
    tools = tmp_path / "Tools" / "bin"
    tools.mkdir(parents=True)
    for name, text in {
        "clang": COMPILER,
        "ar": '#!/bin/sh\nexec ar "$@"\n',
        "ranlib": '#!/bin/sh\nexec ranlib "$@"\n',
    }.items():
        (tools / f"hexagon-{name}").write_text(text)
        (tools / f"hexagon-{name}").chmod(0o755)
    # a ccache would skip calls
    roots = [
        f"-DHEXAGON_SDK_ROOT={tmp_path}",
        f"-DHEXAGON_TOOLS_ROOT={tmp_path}",
        "-DCMAKE_C_COMPILER_LAUNCHER=",
    ]
    source = REPOSITORY / "csrc" / "backends" / "htp" / "dsp"
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={REPOSITORY}/toolchains/hexagon.cmake"
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["cmake", "-S", source, "-B", tmp_path / "build", toolchain, *roots], **quiet)
    subprocess.run(
        ["cmake", "--build", tmp_path / "build", "--target", "pillion_htp_v73", "pillion_htp_v81"],
        **quiet,
    )
    assert {path.name for path in (tmp_path / "build").glob("*.so")} == {
        "libpillion_htp_v73.so",
        "libpillion_htp_v81.so",
    }
    # a file each: lines of parallel calls could mix
    calls = [path.read_text().strip() for path in tools.glob("call.*")]
    links = [call for call in calls if "-shared" in call]
    assert len(links) == 2 and all(
        "main_fastrpc" in link and "vtcm_device" in link and "vtcm_sim" not in link
        for link in links
    )
    assert all(
        "-Wl,--wrap=malloc" in link and link.endswith("-Wl,--end-group -lc") for link in links
    )
    assert all(
        "-DHTP_HAS_SDK" in call
        for call in calls
        if "main_fastrpc.c" in call and "-shared" not in call
    )
    assert (
        sum("-mcpu=v73 -mhvx=v73" in call for call in calls)
        == sum("-mcpu=v81 -mhvx=v81" in call for call in calls)
        > 15
    )


@pytest.mark.parametrize("source", ["main_fastrpc", "vtcm_device"])
def test_the_sdk_branch_compiles(source, tmp_path):
    """Against declarations by the SDK's names and types (tests/htp/sdk): the SDK itself can't be
    had here."""
    hexagon_toolchain()
    target = ["-target", "hexagon-linux-musl", "-mcpu=hexagonv73+hvxv73+hvx_length128b+hvx_qfloat"]
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-DHTP_HAS_SDK"]
    include = [f"-I{REPOSITORY / 'csrc'}", f"-I{REPOSITORY / 'tests' / 'htp' / 'sdk'}"]
    path = REPOSITORY / "csrc" / "backends" / "htp" / "dsp" / "device" / f"{source}.c"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            *target,
            *flags,
            *include,
            "-c",
            path,
            "-o",
            tmp_path / "x.o",
        ],
        check=True,
    )


# The deepest chain of frames on a worker's stack: an op's own, panel_range's and a format's kernel.
FRAMES = [
    ("matmul_panels.c", 10240),
    ("matmul_k.c", 3072),
    ("matmul_blocks.c", 3072),
    ("matmul_expanded.c", 3072),
    ("matmul_float.c", 3072),
    ("attention.c", 3072),
    ("elementwise.c", 4096),
]


@pytest.mark.parametrize(("source", "most"), FRAMES)
def test_frames_fit_a_worker_s_stack(source, most):
    """workers.h asks for 128 KB; QuRT's default has been 8, which these would overrun silently. The
    build for v73 (above) fails at a larger frame."""
    build = built("htp-hexagon", ["pillion_dsp_v73"], *hexagon_toolchain(), *COMMANDS)
    at = f"CMakeFiles/pillion_dsp_v73.dir/ops/{source}"
    (command,) = (
        entry["command"]
        for entry in json.loads((build / "compile_commands.json").read_text())
        if at in entry["command"]
    )
    assert f"-Wframe-larger-than={most} " in command and "-Werror=frame-larger-than" in command
    assert (build / f"{at}.obj").exists()


def test_a_larger_frame_is_an_error(tmp_path):
    hexagon_toolchain()
    source = tmp_path / "large.c"
    source.write_text("void use(char *); void f(void) { char large[4000]; use(large); }\n")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "hexagon-linux-musl", "-O2"]
    command += ["-mcpu=hexagonv73+hvxv73", "-c", source, "-o", tmp_path / "x.o"]
    limits = "-Wframe-larger-than=%d -Werror=frame-larger-than"
    for most, wrong in ((4096, False), (3072, True)):
        done = subprocess.run([*command, *(limits % most).split()], capture_output=True, text=True)
        assert (done.returncode != 0) == wrong == ("frame-larger-than" in done.stderr), done.stderr


@pytest.mark.nightly
def test_nothing_undefined(packer):
    """Every op of the case list under the address and undefined behaviour sanitizers; they end the
    process at the first finding."""
    flags = "-g1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    programs = ["pillion_htp_sim", "pillion_htp_sim_qf32"]
    plain = ["-DPILLION_HTP_SIM_OPTIMIZE=-O1", "-DPILLION_HTP_SIM_THIS_MACHINE=OFF"]
    build = built("htp-sanitized", programs, f"-DCMAKE_C_FLAGS={flags}", *plain)
    for program in programs:
        with d.Dsp([build / program], heap_bytes=128 << 20, threads=2) as dsp:
            for case in CASES:
                dsp.reset()
                plan = OpPlan(
                    dsp,
                    packer,
                    case,
                    threads=2,
                    gap=3,
                    fetch_groups=2 if case.op == "matmul" else 0,
                )
                if case.op == "attend":
                    fill_cache(plan, packer)
                plan.run(), plan.run(2, 5)
            for frequency in (1e30, np.inf, np.nan):  # of a damaged file: no angle, so no number
                dsp.reset()
                plan = OpPlan(
                    dsp, packer, next(case for case in oc.op_cases() if case.op == "rope_table")
                )
                there = plan.record["in"][0]
                dsp.heap.bytes[there["offset"] :][: 4 * there["width"]].view(np.float32)[:] = (
                    frequency
                )
                assert np.isnan(plan.run(start=1)["y"]).all(), frequency
        assert dsp.process.returncode == 0, program
