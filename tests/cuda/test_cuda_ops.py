"""Every op of the case list on the CUDA backend under its SIMT emulation, against float64, through
Backend::compile and Plan::run.

The bounds are those of the reference kernel (op_texts.py): sums of positive numbers
in 256 chains are no worse than in 16. Where tensor cores take halves the bound says so. With a GPU:
PILLION_TEST_CUDA=cuda."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from device_ops import attend, attend_plan, compare

import op_cases as oc
import op_texts as double
from op_table import OPS, has_kernel, runs
from testing_ops import Bench, device, filled_cache, testing, same, store_plan

DEVICE = os.environ.get("PILLION_TEST_CUDA", "cuda:sim")
FEW = 16  # rows up to which a row keeps its bits whatever runs beside it
FLASH_DIMS = (64, 80, 96, 128, 256, 512)
CASES = [case for case in oc.op_cases() if runs(DEVICE, case)]

try:
    device(DEVICE)
except testing.Error as error:
    pytest.skip(f"no {DEVICE}: {error} (make build makes it)", allow_module_level=True)


def texts_of(case, rows):
    """{result: (float64 values, bound)} of the first rows, run together."""
    flash = case.op == "attend" and case.params["head_dim"] in FLASH_DIMS
    texts = (
        double.attend(case, halves=True)
        if flash and (rows > FEW or "until" in case.inputs)
        else double.TEXTS[case.op](case)
    )
    weight = case.inputs.get("weight", case.inputs.get("weights"))
    unit = {"f16": 2.0**-11, "bf16": 2.0**-17}.get(getattr(weight, "dtype", None), 0.0)
    if case.op in ("matmul", "moe_matmul") and rows > FEW and unit:
        # f16 inputs keep 11 bits, bf16 ones are the sum of two of 8 bits: relative to the sizes of
        # the terms, which the bound holds times (width + 6) roundings.
        texts = {
            name: (want, bound * (1 + unit / ((weight.width + 6) * oc.EPS)))
            for name, (want, bound) in texts.items()
        }
    return {name: (want[:rows], bound[:rows]) for name, (want, bound) in texts.items()}


@pytest.mark.parametrize("case", [c for c in CASES if c.op != "kv_store"], ids=repr)
def test_op(case):
    bench = Bench(case, DEVICE)
    compare(bench.run(), texts_of(case, oc.MAX_ROWS), "all rows")
    few = bench.run(FEW)
    compare(few, texts_of(case, FEW), f"{FEW} rows")
    if "until" in case.inputs:  # runs of all sizes are tiled, and the tile follows their size
        return compare(bench.run(3), texts_of(case, 3), "3 rows")
    starts = ((1, 0), (9, 0)) if case.in_order else ((1, 0), (1, 7), (2, 3), (9, 4))
    for rows, start in starts:  # alone, or among others: the same bits
        for name, x in bench.run(rows, start).items():
            assert same(x, few[name][start : start + rows]), f"{name}, {rows} rows from {start}"
    for name, x in Bench(case, DEVICE, mode="scratch").run(9).items():
        assert same(x, few[name][:9]), f"{name}, in scratch"
    for mode in [] if case.only_run else ["out", "gathered"] if "rope" in case.inputs else ["out"]:
        for rows, out in ((FEW, 9), (5, 5)):
            for name, x in Bench(case, DEVICE, mode=mode).run(rows, 0, out).items():
                assert same(x, few[name][rows - out : rows]), (
                    f"{name}, the last {out} of {rows} rows"
                )


@pytest.mark.parametrize("case", [c for c in CASES if c.op == "kv_store"], ids=repr)
def test_kv_store(case):
    """In one run, in pieces, row by row: the same cache, within half a step of its format, and
    nothing beside it."""
    bench = Bench(case, DEVICE)
    before = bench.cache.read()
    bench.run()
    after = bench.cache.read()
    for name, (want, bound) in double.kv_store(case).items():
        got = double.stored_rows(case, bench)[name]
        assert (np.abs(got.astype(np.float64) - want) <= bound).all(), name
    written = np.isin(
        np.arange(case.inputs["cache"].capacity),
        (case.pos + np.arange(oc.MAX_ROWS)) % case.inputs["cache"].capacity,
    )
    for a, b in zip(before, after):
        assert np.array_equal(a[:, ~written], b[:, ~written])
    for step in (1, 9):
        again = Bench(case, DEVICE)
        for start in range(0, oc.MAX_ROWS, step):
            again.run(min(step, oc.MAX_ROWS - start), start)
        assert all(same(a, b) for a, b in zip(after, again.cache.read())), step


def test_every_op_has_cases():
    assert {op for op in OPS if has_kernel(DEVICE, op)} == {case.op for case in CASES}


# ---- attention: every shape has a kernel ----


SHAPES = [
    (dim, kind, gqa, kv, window, past)
    for n, (dim, kind) in enumerate((d, k) for d in FLASH_DIMS for k in oc.FORMATS)
    for gqa, kv, window, past in [
        ((1, 2, 0, 0), (2, 2, 100, 0), (3, 1, 0, 1), (4, 2, 0, 0)),
        ((5, 1, 0, 0), (8, 1, 60, 1), (1, 1, 130, 1), (2, 2, 0, 1)),
        ((16, 1, 0, 0), (2, 1, 0, 0), (4, 1, 33, 0), (1, 3, 0, 0)),
    ][n % 3]
]


@pytest.mark.parametrize("dim, kind, gqa, kv, window, past", SHAPES)
def test_attention(dim, kind, gqa, kv, window, past):
    """Head sizes, ratios, windows and rings at lengths past a split, against float64; rows of a
    verification as rows alone."""
    on, length, rows = device(DEVICE), 290, 33
    capacity = 512 if not window else (window - 1 + rows + 255) // 256 * 256
    store = oc.Store(kind, kv, dim, capacity, length)
    cache = filled_cache(on, store, rows)
    q = oc.rng("cuda attend", dim, gqa).standard_normal(
        (length, gqa * kv * dim), np.float32
    ) * np.float32(2 / np.sqrt(dim))
    params = {
        "n_heads": gqa * kv,
        "n_kv_heads": kv,
        "head_dim": dim,
        "window": window,
        "past_only": past,
    }
    first = length - rows
    keys, values = (x.astype(np.float64) for x in cache.read())
    few, many = attend_plan(on, cache, params, FEW), attend_plan(on, cache, params, rows)
    compare(
        {"y": attend(many, q[first:], first)},
        {"y": reference(keys, values, q[first:], first, params, capacity, True)},
        "many",
    )
    nine = attend(few, q[first + 9 : first + 18], first + 9)
    want, bound = reference(keys, values, q[first:], first, params, capacity, False)
    compare({"y": nine}, {"y": (want[9:18], bound[9:18])}, "nine")
    for at, n in ((9, 1), (13, 1), (17, 1), (10, 5)):
        assert same(
            attend(few, q[first + at : first + at + n], first + at), nine[at - 9 : at - 9 + n]
        ), (at, n)


def reference(keys, values, q, first, p, capacity, halves):
    group, dim = p["n_heads"] // p["n_kv_heads"], p["head_dim"]
    q = q.astype(np.float64).reshape(len(q), p["n_heads"], dim)
    want, bound = np.empty(q.shape), np.empty(q.shape)
    for row in range(len(q)):
        at = first + row
        slots = (
            np.arange(max(0, at - p["window"] + 1) if p["window"] else 0, at + 1 - p["past_only"])
            % capacity
        )
        for head in range(p["n_heads"]):
            k, v = keys[head // group, slots], values[head // group, slots]
            s = k @ q[row, head]
            w = np.exp(s - s.max())
            want[row, head] = w @ v / w.sum()
            size = (np.abs(k) @ np.abs(q[row, head])).max()
            bound[row, head] = oc.attention_tolerance(dim, size, np.abs(v).max(), halves)
    return want.reshape(len(q), -1), bound.reshape(len(q), -1)


@pytest.mark.parametrize("kind", oc.FORMATS)
@pytest.mark.parametrize("dim", [2, 40, 64, 192, 512, 1024])
def test_a_row_that_sees_nothing_and_slots_that_nobody_wrote(dim, kind):
    on, params = device(DEVICE), {"n_heads": 2, "n_kv_heads": 1, "head_dim": dim, "past_only": 1}
    # NaN, or scales of NaN, in the other slots
    cache = filled_cache(on, oc.Store(kind, 1, dim, 256, 20, fill=0x7F))
    for rows in (1, 9, 20):
        y = attend(attend_plan(on, cache, params, rows), np.ones((rows, 2 * dim), np.float32), 0)
        assert np.array_equal(y[0], np.zeros(2 * dim)) and np.isfinite(y).all(), rows


def test_attention_that_is_not_supported():
    on = device(DEVICE)
    for dim, heads, kv, sentence in (
        (3, 2, 1, "head size 3"),
        (1026, 1, 1, "head size 1026"),
        (8, 3, 2, "3 query heads and 2 KV heads"),
    ):
        with pytest.raises(testing.Error, match=sentence):
            attend_plan(
                on,
                on.cache("f16", kv, dim, 256),
                {"n_heads": heads, "n_kv_heads": kv, "head_dim": dim},
                1,
            )


# ---- plans, weights ----


def test_plans_refuse_other_rows_and_say_when_cancelled():
    case = next(c for c in CASES if c.name == "norm-257")
    bench = Bench(case, DEVICE, rows_max=7)
    for rows, out in ((8, 1), (0, 0), (7, 8), (3, 4)):
        with pytest.raises(
            testing.Error, match=f"plan for 7 rows and 7 outputs was given {rows} and {out}"
        ):
            bench.plan.run(
                {"x": case.inputs["x"], "tokens": np.zeros((oc.MAX_ROWS, 1), np.int32)}, rows, out
            )
    want = bench.run(7)
    bench.device.cancel(1, True)
    try:
        with pytest.raises(testing.Error, match="cancelled"):
            bench.run(7)
        with pytest.raises(testing.Error, match="cancelled"):
            bench.device.weight(oc.Weight("q4_0", 512, 97).data, "q4_0", 512, 97)
    finally:
        bench.device.cancel(1, False)
    assert same(bench.run(7)["y"], want["y"])


def test_vectors_become_f32():
    for dtype in oc.DTYPES:
        w = oc.Weight(dtype, 512, 2, use="vector")
        got = np.frombuffer(
            device(DEVICE).weight(w.data, dtype, 512, 2, use="vector").bytes[: 2 * 512 * 4],
            np.float32,
        )
        assert same(got.reshape(1, 2, 512), w.dequantized())


@pytest.mark.parametrize("dtype", oc.DTYPES)
def test_the_device_reads_blocks_as_the_contract_says(dtype):
    """kernels/dequantize.h, which reads any address with the device's own conversions, against
    core/contract/block_values.h. A GPU may fuse the product and the minimum: one rounding less."""
    on, n, width = device(DEVICE), 3, 512
    w = oc.Weight(dtype, width, n, use="table")
    g = on.graph(n)
    table = g.weight(on.weight(w.data, dtype, width, n, use="table"))
    g.output(g.op("embed", {"table": table, "tokens": g.tokens}, {"scale": 1.0})[0], "y")
    got = g.compile(1).run({"tokens": np.arange(n, dtype=np.int32)[:, None]}, n)["y"]
    rows = np.frombuffer(w.data, np.uint8).reshape(n, -1)
    want = np.stack([testing.dequantize_row(dtype, row.tobytes(), width) for row in rows])
    if DEVICE == "cuda:sim":
        assert same(got, want)
    else:
        assert np.all(np.abs(got - want) <= 2.0**-22 * np.abs(want).max())


@pytest.mark.parametrize("use", ["matrix", "table", "vector"])
def test_types_that_are_no_weights(use):
    with pytest.raises(
        testing.Error, match="^tensor w: type I16 is not a weight format of the cuda backend"
    ):
        device(DEVICE).weight(bytes(2 * 64), "i16", 64, use=use)


def test_a_captured_run_serves_other_positions_and_rows():
    """One plan, run at lengths of two buckets and back, with few and many rows in between."""
    on, dim = device(DEVICE), 64
    cache = on.cache("f16", 1, dim, 1024)
    r = oc.rng("capture")
    k, v, q = (r.standard_normal((600, dim), np.float32) for _ in range(3))
    store_plan(on, cache, dim, 600).run(
        {"k": k, "v": v, "tokens": np.zeros((600, 1), np.int32)}, 600
    )
    params = {"n_heads": 1, "n_kv_heads": 1, "head_dim": dim}
    plan = attend_plan(on, cache, params, 40)
    fresh = [
        attend(attend_plan(on, cache, params, 40), q[at : at + n], at)
        for at, n in ((100, 1), (500, 3), (100, 1), (101, 1))
    ]
    for again, (at, n) in zip(fresh, ((100, 1), (500, 3), (100, 1), (101, 1))):
        attend(plan, q[200:240], 200)
        assert same(attend(plan, q[at : at + n], at), again)


# ---- the order of threads ----

CHILD = """
import sys; sys.path.insert(0, sys.argv[1])
import hashlib, op_cases as oc
from testing_ops import Bench
digest = hashlib.sha256()
for case in oc.op_cases():
    if case.name in sys.argv[3:]:
        bench = Bench(case, sys.argv[2])
        for rows in (65, 9):
            got = bench.run(rows)
            for name in sorted(got):
                digest.update(got[name].tobytes())
        if case.op == "kv_store":
            digest.update(b"".join(x.tobytes() for x in bench.cache.read()))
print(digest.hexdigest())
"""


@pytest.mark.skipif(DEVICE != "cuda:sim", reason="an order can be asked of the emulation only")
def test_the_order_of_threads_changes_nothing():
    """One case an op, those with the most to share: a missing barrier shows as another result."""
    chosen = {}
    for case in CASES:
        chosen.setdefault(case.op, []).append(case.name)
    names = [name for cases in chosen.values() for name in (cases[len(cases) // 2], cases[-1])]
    outcomes = {}
    for order in ("forward", "reverse", "greedy"):
        command = [sys.executable, "-c", CHILD, os.path.dirname(oc.__file__), DEVICE, *names]
        done = subprocess.run(
            command, env={**os.environ, "PILLION_SIM_ORDER": order}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        outcomes[order] = done.stdout
    assert len(set(outcomes.values())) == 1, json.dumps(outcomes)
