"""What the compilers make of the kernels: inner loops within their budgets; and the packets an
emulator counts."""

import shutil
import sys
from pathlib import Path

import pytest

import dsp as d
import htp_report
from dsp_builds import built, hexagon_toolchain
from locked import REPOSITORY
from locked import locked

SAID = """
q4_0_rows1:                             // @q4_0_rows1
// %bb.0:
	{
		allocframe(#24)
	}
.LBB1_2:                                // =>This Inner Loop Header: Depth=1
	{
		v4.w += vrmpy(v1.ub,r2.b)
		v4.w += vrmpy(v2.ub,r3.b)
		v1.cur = vmem(r0+#1)
	}
	{
		v5 = vmem(r29+#3)
		r2 = memw(r29+#4)
	} :endloop0
// %bb.3:                               //   in Loop: Header=BB1_2 Depth=1
	{
		call memcpy
	}
.LBB1_4:
	{
		vmem(r0+#0) = v4
	}
score_blocks_f16:
.LBB2_1:                                // =>This Loop Header: Depth=1
	{
		v1.qf32 = vmpy(v1.sf,v2.sf)
	}
.LBB2_2:                                // =>  This Inner Loop Header: Depth=2
	{
		r1 = add(r1,#1)
	} :endloop0
"""


def test_reading_what_the_compiler_says():
    loops = htp_report.read_loops(SAID)
    assert loops == [
        {
            "kernel": "q4_0_rows1",
            "packets": 3,
            "instructions": 6,
            "vector": 4,
            "loads": 2,
            "multiplies": 2,
            "products": 2,
            "stack_vectors": 1,
            "stack": 1,
            "calls": 1,
        },
        {
            "kernel": "score_blocks_f16",
            "packets": 1,
            "instructions": 1,
            "vector": 0,
            "loads": 0,
            "multiplies": 0,
            "products": 0,
            "stack_vectors": 0,
            "stack": 0,
            "calls": 0,
        },
    ]


def test_a_loop_beyond_its_budget_is_a_fault():
    loop = htp_report.measured(
        {"file": "matmul_blocks.c", "arch": "73", **htp_report.read_loops(SAID)[0]}
    )
    assert (loop["format"], loop["rows"], loop["blocks"], loop["packets_per_block"]) == (
        "q4_0",
        1,
        0.25,
        12.0,
    )
    faults = list(htp_report.faults_of(loop | {"packets_per_block": 99.0}))
    assert [text.split("q4_0_rows1 ")[1].split(" ")[0] for text in faults] == [
        "calls",
        "moves",
        "takes",
    ]
    assert not list(htp_report.faults_of(loop | {"calls": 0, "stack_vectors": 0}))


@pytest.mark.parametrize(
    "arch, files",
    [
        ("73", ["matmul_blocks", "attention", "norm", "elementwise"]),
        *(
            pytest.param(arch, list(htp_report.SOURCES), marks=pytest.mark.nightly)
            for arch in ("68", "79")
        ),
    ],
)
def test_every_inner_loop_is_within_its_budget(arch, files):
    hexagon_toolchain()
    with locked("htp-report"):  # one build folder
        loops, faults = htp_report.report([arch], files)
    assert not faults, "\n".join(faults)
    names = {loop["kernel"] for loop in loops}
    assert {f"{name}_rows{rows}" for name in ("q4_0", "q8_0") for rows in range(1, 10)} <= names
    assert {"score_blocks_f16", "score_blocks_q8_0", "add_values_f16", "add_values_q8_0"} <= names


@pytest.mark.nightly
def test_packets_are_counted(packer):
    if not shutil.which("qemu-hexagon"):
        pytest.skip("qemu-hexagon is not installed")
    sys.path.insert(0, str(Path(REPOSITORY) / "benchmarks"))
    import htp_packets

    program = (
        built("htp-hexagon", ["pillion_htp_sim_counts"], *hexagon_toolchain())
        / "pillion_htp_sim_counts"
    )
    with d.Dsp(["qemu-hexagon", "-cpu", "v67", program]) as dsp:
        counter = htp_packets.Counter(dsp, packer)
        one, four = (counter.packets(htp_packets.matmul_case("q4_0", 2), rows) for rows in (1, 4))
        assert counter.packets(htp_packets.matmul_case("q4_0", 2), 4) == four
        # two panels; two of a block's eight products a packet
        least = 2 * htp_packets.WIDTH // 32 * 4
        assert one > least and four > 4 * least
        instructions, vector = (
            counter.packets(htp_packets.matmul_case("q4_0", 2), 4, kind)
            for kind in (d.INSTRUCTIONS, d.HVX)
        )
        assert vector < instructions < 4 * four


def test_nobody_counts_on_a_pc(native_dsp):
    native_dsp.reset()
    record = d.op_record(
        "scale",
        params=b"\0\0\0\0",
        inputs=[d.tensor(native_dsp, native_dsp.alloc((1, 64)), d.RUN_ROWS)],
    )
    record["out"][0] = record["in"][0]
    native_dsp.prepare(d.plan_bytes(native_dsp, [record], 1, 0))
    profile = native_dsp.alloc((1,), "uint32")
    try:
        for kind in (d.PACKETS, d.INSTRUCTIONS, d.HVX):
            native_dsp.control["counter"], profile[0] = kind, 77
            native_dsp.run(0, 1, profile=profile)
            assert profile[0] == 0
    finally:
        native_dsp.control["counter"] = d.USECS
