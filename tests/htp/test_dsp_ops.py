"""Every op of the common case list on the DSP's code: the PC's build against the CPU backend's
reference, bit for bit; the Hexagon program under qemu against the same on a part of the list; the
device's float path, qf32 kept as ordinary floats, against float64."""

import numpy as np
import pytest

import op_cases as oc
import op_plans
import op_texts as double
from testing_ops import REFERENCE, Bench, same
from op_plans import OpPlan, fill_cache

CASES = op_plans.CASES


def reference(case, rows=oc.MAX_ROWS, start=0):
    return Bench(case, REFERENCE).run(rows, start)


def plan_of(dsp, packer, case, **how):
    dsp.reset()
    plan = OpPlan(dsp, packer, case, **how)
    if case.op == "attend":
        fill_cache(plan, packer)
    return plan


def check(got, want, what):
    for name, w in want.items():
        assert same(got[name], w), (
            f"{what}: {name}: first at {np.argwhere(got[name] != w)[0]}, max "
            f"{np.nanmax(np.abs(got[name] - w))}"
        )


def test_the_list_holds_every_op():
    assert {c.op for c in CASES} == set(op_plans.INPUTS)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_native_equals_the_cpu(native_dsp, packer, case):
    plan = plan_of(native_dsp, packer, case, threads=3, gap=5)
    if case.op == "kv_store":
        return check_store(plan, case)
    check(plan.run(), reference(case), "all rows")
    starts = [(1, 0), (9, 0)] if case.in_order else [(1, 0), (2, 3), (9, 4)]
    for rows, start in starts:  # alone, or among others: the same bits
        check(plan.run(rows, start), reference(case, rows, start), f"{rows} rows from {start}")


def check_store(plan, case):
    """The bytes of the cache mean what the CPU's cache holds, in every slot."""
    bench = Bench(case, REFERENCE)
    bench.run()
    plan.run()
    for got, want in zip(
        op_plans.decode_cache(case.inputs["cache"], plan.cache), bench.cache.read()
    ):
        np.testing.assert_array_equal(got, want)


OUTS = [c for c in CASES if not c.only_run and c.op != "softcap"]


@pytest.mark.parametrize("case", OUTS[::3], ids=repr)
def test_out_rows(native_dsp, packer, case):
    """Only the last rows of a run: positions and rope rows are those of the run."""
    plan = plan_of(native_dsp, packer, case, outs=True)
    check(plan.run(4, 5, before=3), reference(case, 4, 5), "4 of 7 rows")


# --- the Hexagon program ---


def small(case):
    """What the emulator does in a fraction of a second."""
    if case.op == "attend":
        return (
            len(case.inputs["cache"].k) * case.params["head_dim"] * case.params["n_heads"] <= 40000
        )
    matrices = [x for x in case.inputs.values() if isinstance(x, oc.Weight) and x.use == "matrix"]
    return all(x.width * x.rows <= 40000 for x in matrices)


@pytest.mark.parametrize("op", list(op_plans.INPUTS))
def test_hexagon_equals_native(hexagon_dsp, native_dsp, packer, op):
    cases = [c for c in CASES if c.op == op and small(c)]
    assert cases
    for case in cases:
        plans = [plan_of(dsp, packer, case) for dsp in (hexagon_dsp, native_dsp)]
        got, want = (plan.run(3) for plan in plans)
        check(got, want, case)
        if case.op == "kv_store":
            assert bytes(plans[0].cache) == bytes(plans[1].cache)


# --- chunks through VTCM, tiles of rows, threads ---

MATRICES = [c for c in CASES if c.op in ("matmul", "moe_matmul")]


@pytest.mark.parametrize("case", MATRICES, ids=repr)
@pytest.mark.parametrize("fetch_groups, rows_at_once, threads", [(1, 5, 1), (2, 1, 4), (3, 33, 2)])
def test_pieces_change_nothing(native_dsp, packer, case, fetch_groups, rows_at_once, threads):
    dtype = next(x.dtype for x in case.inputs.values() if isinstance(x, oc.Weight))
    plan = plan_of(
        native_dsp,
        packer,
        case,
        fetch_groups=fetch_groups,
        rows_at_once=rows_at_once,
        threads=threads,
    )
    assert plan.record["tiling"]["fetch_bytes"] == fetch_groups * op_plans.GROUPS[dtype][1] * 128
    check(plan.run(), reference(case), "pieces")


def test_pieces_on_hexagon(hexagon_dsp, packer):
    case = next(c for c in MATRICES if repr(c) == "matmul-q4_k-75x768")
    check(plan_of(hexagon_dsp, packer, case, fetch_groups=2).run(4), reference(case, 4), "pieces")


LONG = [c for c in CASES if c.op == "attend" and c.pos > 900]


@pytest.mark.parametrize("threads", [1, 2, 5, 16])
@pytest.mark.parametrize("case", LONG, ids=repr)
def test_threads_change_nothing_in_attention(native_dsp, packer, case, threads):
    """Positions go to threads in partitions of 1024 when there are fewer heads than threads; with
    too little scratch they do not."""
    want = reference(case)
    plan = plan_of(native_dsp, packer, case, threads=threads)
    check(plan.run(), want, "all rows")
    for rows, start in ((1, 0), (9, 20)):
        check(
            plan.run(rows, start),
            {"y": want["y"][start : start + rows]},
            f"{rows} rows from {start}",
        )


# --- the device's float path ---


@pytest.mark.parametrize("op", [op for op in op_plans.INPUTS if op in double.TEXTS])
def test_qf32_path(qf32_dsp, packer, op):
    for case in (c for c in CASES if c.op == op):
        got = plan_of(qf32_dsp, packer, case, threads=2).run()
        for name, (want, bound) in double.TEXTS[op](case).items():
            if name in got:
                error = np.abs(got[name].astype(np.float64) - want)
                assert not (~(error <= bound)).any(), (
                    f"{case}: {name}: {np.nanmax(error)} at most "
                    f"{bound[np.unravel_index(np.nanargmax(error), error.shape)]}"
                )


def test_every_count_of_rows_has_its_kernel(qf32_dsp, packer):
    """1 to 9 rows share one reading of the weights; none may tell how many there are."""
    for dtype in op_plans.GROUPS:
        case = next(
            c
            for c in MATRICES
            if c.op == "matmul"
            and c.inputs["weight"].dtype == dtype
            and c.inputs["weight"].rows == 75
        )
        plan = plan_of(qf32_dsp, packer, case)
        alone = [plan.run(1, row)["y"][0] for row in range(9)]
        for rows in range(1, 10):
            np.testing.assert_array_equal(plan.run(rows)["y"], alone[:rows])


# --- packing ---


@pytest.mark.parametrize("dtype", op_plans.GROUPS)
def test_packed_rows_are_the_file_s(packer, dtype):
    block = oc.QUANTS[dtype][0] if dtype in oc.QUANTS else 1
    weight = oc.Weight(dtype, 3 * block if block > 1 else 37, 70)
    packed, want = packer.pack(weight)[0], weight.dequantized()[0]
    for row in (0, 1, 31, 32, 63, 69):
        for got in packer.row(weight, packed, row):
            np.testing.assert_array_equal(got, want[row].astype(np.float32))
    order = np.random.default_rng(1).permutation(70)
    moved = packer.pack(weight, order)[0]
    for row in (0, 40, 69):
        np.testing.assert_array_equal(
            packer.row(weight, moved, row)[0], want[order[row]].astype(np.float32)
        )
