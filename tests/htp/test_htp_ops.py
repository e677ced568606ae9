"""Every op of the case list on the Hexagon backend, its DSP played by a child process (device
"htp:sim"): the DSP's own C, built for the PC here, and chosen cases as Hexagon code under an
emulator. Against float64 with the reference kernel's bounds; rows keep their bits whatever runs
beside them. With a phone: PILLION_TEST_HTP=htp."""

import os
import subprocess
import sys

import numpy as np
import pytest
from device_ops import attend, attend_plan, compare

import op_cases as oc
import op_texts as double
from op_table import OPS, has_kernel, runs
from testing_ops import Bench, device, filled_cache, testing, same

DEVICE = os.environ.get("PILLION_TEST_HTP", "htp:sim")
CASES = [case for case in oc.op_cases() if runs(DEVICE, case)]

try:
    device(DEVICE)
except testing.Error as error:
    pytest.skip(f"no {DEVICE}: {error} (make build makes it)", allow_module_level=True)


def weights_of(case):
    return [x for x in case.inputs.values() if isinstance(x, oc.Weight)]


@pytest.mark.parametrize("case", [c for c in CASES if c.op != "kv_store"], ids=repr)
def test_op(case):
    bench = Bench(case, DEVICE)
    all_rows = bench.run()
    texts = double.TEXTS[case.op](case)
    compare(
        all_rows,
        {
            name: (want[: oc.MAX_ROWS], bound[: oc.MAX_ROWS])
            for name, (want, bound) in texts.items()
        },
        "all rows",
    )
    # alone, or among others: the same bits
    starts = [(1, 0), (1, 7), (2, 3), (9, 4), (17, 30)]
    for rows, start in [(1, 0), (9, 0)] if case.in_order else starts:
        for name, x in bench.run(rows, start).items():
            assert same(x, all_rows[name][start : start + rows]), (
                f"{name}, {rows} rows from {start}"
            )
    for name, x in Bench(case, DEVICE, mode="scratch").run(9).items():
        assert same(x, all_rows[name][:9]), f"{name}, in scratch"
    for mode in [] if case.only_run else ["out", "gathered"] if "rope" in case.inputs else ["out"]:
        for rows, out in ((16, 9), (5, 5)):
            for name, x in Bench(case, DEVICE, mode=mode).run(rows, 0, out).items():
                assert same(x, all_rows[name][rows - out : rows]), (
                    f"{name}, the last {out} of {rows} rows"
                )


@pytest.mark.parametrize("case", [c for c in CASES if c.op == "kv_store"], ids=repr)
def test_kv_store(case):
    """The CPU's cache byte for byte, in one run, in pieces, row by row, and nothing beside it: a
    drafter there reads it in place."""
    bench, reference = Bench(case, DEVICE), Bench(case, "generic")
    bench.run(), reference.run()
    after = bench.cache.read()
    for a, b in zip(after, reference.cache.read()):
        assert same(a, b)
    for step in (1, 9):
        again = Bench(case, DEVICE)
        for start in range(0, oc.MAX_ROWS, step):
            again.run(min(step, oc.MAX_ROWS - start), start)
        assert all(same(a, b) for a, b in zip(after, again.cache.read())), step


def test_every_op_has_cases():
    assert {op for op in OPS if has_kernel(DEVICE, op)} == {case.op for case in CASES}


@pytest.mark.parametrize("use", ["matrix", "table", "vector"])
def test_types_that_are_no_weights(use):
    types = (
        "F32, F16, BF16, Q4_0 to Q8_0, Q2_K to Q6_K, IQ1_S to IQ4_XS, TQ1_0, TQ2_0, MXFP4, NVFP4"
    )
    sentence = f"^tensor w: type I16 is not a weight format of device {DEVICE} .it has {types}.$"
    with pytest.raises(testing.Error, match=sentence):
        device(DEVICE).weight(bytes(2 * 64), "i16", 64, use=use)


# ---- attention ----


@pytest.mark.parametrize("kind", oc.FORMATS)
@pytest.mark.parametrize(
    "dim, gqa, kv, window, past",
    [(64, 1, 2, 0, 0), (80, 2, 2, 100, 0), (96, 3, 1, 0, 1), (256, 8, 1, 60, 1), (512, 2, 2, 0, 0)],
)
def test_attention(dim, kind, gqa, kv, window, past):
    """Head sizes, ratios, windows and rings past a split of positions, beside the CPU on the same
    cache; the same bits for a row alone."""
    length, rows = 290, 33
    capacity = 512 if not window else (window - 1 + rows + 255) // 256 * 256
    store = oc.Store(kind, kv, dim, capacity, length)
    q = oc.rng("htp attend", dim, gqa).standard_normal(
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
    y = {}
    for name in (DEVICE, "generic"):
        on = device(name)
        cache = filled_cache(on, store, rows)
        plan = attend_plan(on, cache, params, rows)
        y[name] = attend(plan, q[first:], first)
        for at, n in ((9, 1), (17, 1), (10, 5)):
            assert same(
                attend(plan, q[first + at : first + at + n], first + at), y[name][at : at + n]
            ), (name, at, n)
    assert np.allclose(y[DEVICE], y["generic"], rtol=0, atol=2e-5)


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


# ---- weights, plans ----


@pytest.mark.parametrize("dtype", oc.DTYPES)
def test_packed_rows_come_back(dtype):
    """Embedding from a matrix reads the packed rows: the file's values, to the bit, for odd counts
    of rows and in a permuted stack."""
    width, rows = 256 if oc.QUANTS.get(dtype, [0])[0] == 256 else 192, 75
    w = oc.Weight(dtype, width, rows)
    tokens = np.arange(rows, dtype=np.int32)[::-1, None].copy()
    on = device(DEVICE)
    g = on.graph(rows)
    g.output(
        g.op(
            "embed",
            {"table": g.weight(on.weight(w.data, dtype, width, rows)), "tokens": g.tokens},
            {"scale": 1.0},
        )[0],
        "y",
    )
    y = g.compile(1).run({"tokens": tokens}, rows)["y"]
    assert same(y, w.dequantized()[0][::-1].copy())


def test_many_plans_come_and_go():
    """More than the DSP keeps at a time, and more blocks of memory than it knows: both are given
    back."""
    on = device(DEVICE)
    x = np.ones((1, 4), np.float32)
    kept = []
    for n in range(300):
        g = on.graph(1)
        g.output(g.op("scale", {"x": g.input("x", 4)}, {"scale": float(n)})[0], "y")
        plan = g.compile(1)
        assert plan.run({"x": x, "tokens": np.zeros((1, 1), np.int32)}, 1)["y"][0, 0] == n
        kept = [*kept[-20:], plan]
    table = bytes(4 * 1024 * 4500)  # a block of its own
    for _ in range(80):
        on.weight(table, "f32", 1024, 4500, use="table")


def test_too_many_plans_are_refused():
    on, kept = device(DEVICE), []
    with pytest.raises(testing.Error, match="plans are in use on session 0"):
        for _ in range(100):
            g = on.graph(1)
            g.output(g.op("scale", {"x": g.input("x", 4)}, {"scale": 2.0})[0], "y")
            kept.append(g.compile(1))


def test_a_token_outside_the_table():
    on = device(DEVICE)
    w = oc.Weight("f32", 8, 10, use="table")
    g = on.graph(4)
    g.output(
        g.op(
            "embed",
            {"table": g.weight(on.weight(w.data, "f32", 8, 10, use="table")), "tokens": g.tokens},
        )[0],
        "y",
    )
    plan = g.compile(1)
    for token in (10, -1, 2**31 - 1):
        with pytest.raises(
            testing.Error,
            match=r"op embed of layer -1 .node 0. failed on device .*: token id outside the table",
        ):
            plan.run({"tokens": np.array([[1], [token], [2], [3]], np.int32)}, 4)
    assert same(plan.run({"tokens": np.array([[3]], np.int32)}, 1)["y"], w.dequantized()[0][3:4])


# ---- as Hexagon code ----

CHILD = """
import sys; sys.path.insert(0, sys.argv[1])
import hashlib, op_cases as oc
from testing_ops import Bench
for case in oc.op_cases():
    if case.name in sys.argv[3:]:
        bench, digest = Bench(case, sys.argv[2]), hashlib.sha256()
        for rows in (9, 1):
            got = bench.run(rows)
            for name in sorted(got):
                digest.update(got[name].tobytes())
        if case.op == "kv_store":
            digest.update(b"".join(x.tobytes() for x in bench.cache.read()))
        print(case.name, digest.hexdigest())
"""


@pytest.mark.skipif(DEVICE != "htp:sim", reason="there is no emulator in this")
def test_hexagon_code_gives_the_same_bits(hexagon_sim):
    """Every case of the list whose weights an emulator reads in reasonable time: the same library,
    the same wire, a real Hexagon program."""
    sizes = {
        case.name: max([w.width * w.rows * w.depth for w in weights_of(case)], default=0)
        for case in CASES
    }
    names = [name for name, size in sizes.items() if size < 100_000]
    assert len(names) > 200

    def digests(**env):
        command = [sys.executable, "-c", CHILD, os.path.dirname(oc.__file__), DEVICE, *names]
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return dict(line.split() for line in done.stdout.splitlines())

    native, emulated = digests(), digests(PILLION_HTP_SIM=hexagon_sim)
    assert set(native) == set(names)
    assert [name for name in names if native[name] != emulated.get(name)] == []
