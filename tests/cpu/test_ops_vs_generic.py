"""Every op on every kernel table of this machine, any rows, any threads: the bits of the reference
kernel on one thread.

Through Backend::compile and Plan::run, so that slicing, strides, the memory plan and the thread
pool are part of it. One comparison says it all: rows start .. start + n of a case, run by
themselves on any table and number of threads, equal those rows of the reference kernel's run over
all of them."""

import itertools
import json

import numpy as np
import pytest

import op_cases as oc
from testing_ops import (
    REFERENCE,
    TABLES,
    Bench,
    device,
    filled_cache,
    testing,
    run_op,
    same,
    store_plan,
)

CASES = oc.op_cases()
N = oc.MAX_ROWS


def compare(got, want, rows, what):
    assert set(got) == set(want)
    for name, x in got.items():
        if not same(x, want[name][rows]):
            bits, wanted = x.view(np.uint32), want[name][rows].view(np.uint32)
            differ = sorted(set(np.argwhere(bits != wanted)[:, 0]))
            raise AssertionError(f"{what}: {name} differs in rows {differ}")


@pytest.mark.parametrize("case", [c for c in CASES if c.whole], ids=repr)
def test_whole(case):
    """Rows that depend on each other: all of them, on every table, in buffers and in scratch."""
    want = Bench(case, REFERENCE).run()
    for table, threads in itertools.product(TABLES, oc.THREADS):
        for mode in ("direct", "scratch"):
            got = Bench(case, table, threads, mode).run()
            compare(got, want, slice(N), f"{table}, {threads} threads, {mode}")


@pytest.mark.parametrize("case", [c for c in CASES if c.in_order], ids=repr)
def test_op_in_order(case):
    for rows, out in ((1, 1), (2, 1), (9, 3), (17, 17), (64, 16), (N, 17), (N, N)):
        for mode in ["direct", "scratch"] if case.only_run else ["direct", "scratch", "out"]:
            out_rows = rows if mode != "out" and not case.only_run else out
            want = Bench(case, REFERENCE, 1, mode).run(rows, 0, out_rows)
            for table, threads in itertools.product(TABLES, oc.THREADS):
                got = Bench(case, table, threads, mode).run(rows, 0, out_rows)
                what = f"{table}, {threads} threads, {mode}, {out_rows} of {rows} rows"
                compare(got, want, slice(None), what)


@pytest.mark.parametrize("case", [c for c in CASES if c.in_order and c.op != "subsample"], ids=repr)
def test_a_row_sees_no_later_one(case):
    bench = Bench(case, TABLES[0])
    want = bench.run()
    for rows in (1, 5, 30):
        compare(bench.run(rows), want, slice(rows), f"{rows} rows")


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.op != "kv_store" and not c.in_order and not c.whole],
    ids=repr,
)
def test_op(case):
    want = Bench(case, REFERENCE).run()
    for table, threads in itertools.product(TABLES, oc.THREADS):
        what = f"{table}, {threads} threads"
        bench = Bench(case, table, threads)
        for rows in oc.ROWS:
            compare(bench.run(rows), want, slice(rows), f"{what}, {rows} rows")
        for start in (1, 30, 64):  # a row alone
            compare(
                bench.run(1, start), want, slice(start, start + 1), f"{what}, row {start} alone"
            )
        compare(
            Bench(case, table, threads, rows_max=7).run(7, 31),
            want,
            slice(31, 38),
            f"{what}, a plan for 7 rows",
        )
        bench = Bench(case, table, threads, "scratch")
        for rows in (65, 3):
            compare(bench.run(rows), want, slice(rows), f"{what}, {rows} rows in scratch")
        for mode in (
            [] if case.only_run else ["out", "gathered"] if "rope" in case.inputs else ["out"]
        ):
            bench = Bench(case, table, threads, mode)
            for rows, out in ((65, 9), (65, 65), (17, 16), (3, 1), (1, 1)):
                got = bench.run(rows, 0, out)
                compare(
                    got, want, slice(rows - out, rows), f"{what}, the last {out} of {rows} rows"
                )


@pytest.mark.parametrize("case", [c for c in CASES if c.op == "kv_store"], ids=repr)
def test_kv_store(case):
    """In one run, in pieces, row by row: the same cache."""
    reference = Bench(case, REFERENCE)
    reference.run()
    want = [x.tobytes() for x in reference.cache.read()]
    for table, threads, step in itertools.product(TABLES, oc.THREADS, (1, 9, 17, N)):
        bench = Bench(case, table, threads, "scratch" if step == 9 else "direct")
        for start in range(0, N, step):
            bench.run(min(step, N - start), start)
        assert [x.tobytes() for x in bench.cache.read()] == want, (
            f"{table}, {threads} threads, {step} rows a run"
        )


@pytest.mark.parametrize("case", [c for c in CASES if c.op == "gather_rows"], ids=repr)
@pytest.mark.parametrize("rows, out", [(65, 1), (65, 9), (17, 17), (3, 2), (1, 1)])
def test_gather_rows(case, rows, out):
    """The one op whose node has other rows than its input."""
    for threads in oc.THREADS:
        g = device(REFERENCE).graph(N)
        g.output(g.op("gather_rows", {"x": g.input("x", case.inputs["x"].shape[1])})[0], "y")
        inputs = {"x": case.inputs["x"], "tokens": np.zeros((N, 1), np.int32)}
        assert same(
            g.compile(threads).run(inputs, rows, out)["y"], case.inputs["x"][rows - out : rows]
        )


@pytest.mark.parametrize("out", [False, True])
def test_picks_are_embedded(out):
    """A drafter's way: tokens that an earlier node picked, in scratch, of the run's rows or the out
    rows."""
    table, r = oc.Weight("q8_0", 64, 100), oc.rng("picked")
    logits = r.standard_normal((N, 100), np.float32)
    want = run_op(
        "embed",
        REFERENCE,
        {"table": table, "tokens": logits.argmax(1).astype(np.int32)[:, None]},
        {"scale": 2.0},
    )["y"]
    for name, threads in itertools.product(TABLES, oc.THREADS):
        on = device(name)
        g = on.graph(N)
        x = g.input("logits", 100)
        picked = g.op("argmax", {"logits": g.op("gather_rows", {"x": x})[0] if out else x})[0]
        w = g.weight(on.weight(table.data, "q8_0", 64, 100))
        g.output(g.op("embed", {"table": w, "tokens": picked}, {"scale": 2.0})[0], "y")
        plan = g.compile(threads)
        for rows, out_rows in ((N, 9), (17, 17), (3, 1)):
            got = plan.run(
                {"logits": logits[:rows], "tokens": np.zeros((rows, 1), np.int32)}, rows, out_rows
            )["y"]
            assert same(got, want[rows - out_rows : rows] if out else want[:rows]), (
                name,
                threads,
                rows,
            )


@pytest.mark.parametrize("dtype, out, inputs", [("q8_0", 100, 64), ("f32", 33, 20)])
def test_a_product_of_more_rows_than_a_text_has(dtype, out, inputs):
    """An image's: panels and columns are cut in another way. The bits of runs of few rows."""
    r, n = oc.rng("many rows", dtype), 1000
    w = oc.Weight(dtype, inputs, out)
    x = r.standard_normal((n, inputs), np.float32)
    pieces = [
        run_op("matmul", REFERENCE, {"weight": w, "x": x[i : i + 50]}) for i in range(0, n, 50)
    ]
    want = np.concatenate([piece["y"] for piece in pieces])
    for table, threads, rows in itertools.product(TABLES, oc.THREADS, (513, n)):
        got = run_op("matmul", table, {"weight": w, "x": x[:rows]}, threads=threads)["y"]
        assert same(got, want[:rows]), (table, threads, rows)


# ---- several matmuls ----


def group_graph(table, weights, x_width, names, threads, read=None):
    """x in scratch, then the named products in a row; only those in `read` reach a buffer."""
    g = device(table).graph(N)
    x = g.op("scale", {"x": g.input("x", x_width)}, {"scale": 1.0})[0]
    for name, y in [
        (n, g.op("matmul", {"weight": g.weight(weights[n]), "x": x})[0]) for n in names
    ]:
        if read is None or name in read:
            g.output(g.op("scale", {"x": y}, {"scale": 1.0})[0], name)
    return g.compile(threads)


GROUP = {
    "q4": oc.Weight("q4_0", 512, 97),
    "f32": oc.Weight("f32", 512, 33),
    "q8": oc.Weight("q8_0", 512, 31),
    "q6": oc.Weight("q6_k", 512, 130),
    "f16": oc.Weight("f16", 512, 65),
}


@pytest.mark.parametrize("names", ["q4", "q4 q8 q6", "f32 f16", "q4 f32 q8 q6 f16", "f16 q6"])
@pytest.mark.parametrize("table", TABLES)
def test_matmul_group(table, names):
    """Products of one input share its quantization and a step; each has the bits that it has
    alone."""
    x = oc.rng("group").standard_normal((N, 512), np.float32)
    inputs = {"x": x, "tokens": np.zeros((N, 1), np.int32)}
    want = {
        n: run_op("matmul", REFERENCE, {"weight": GROUP[n], "x": x})["y"] for n in names.split()
    }
    w = {
        n: device(table).weight(GROUP[n].data, GROUP[n].dtype, 512, GROUP[n].rows)
        for n in names.split()
    }
    for threads in oc.THREADS:
        plan = group_graph(table, w, 512, names.split(), threads)
        assert json.loads(plan.json).count(
            {"op": "matmul", "layer": -1, "backend": "cpu", "kernel": "quantize_q8"}
        ) == ("q" in names)
        for rows in (1, 9, N):
            got = plan.run(inputs, rows)
            for n in want:
                assert same(got[n], want[n][:rows]), (n, threads, rows)


@pytest.mark.parametrize("names", ["q6 f32", "q4 q6 f16 f32", "f16 f32", "q6 q4"])
def test_matmul_group_with_a_product_that_nobody_reads(names):
    """A group is one step: what it writes must not share memory, be it read or not."""
    x = oc.rng("group").standard_normal((N, 512), np.float32)
    last = names.split()[-1]
    want = run_op("matmul", REFERENCE, {"weight": GROUP[last], "x": x})["y"]
    w = {
        n: device(REFERENCE).weight(GROUP[n].data, GROUP[n].dtype, 512, GROUP[n].rows)
        for n in names.split()
    }
    for threads in oc.THREADS:
        plan = group_graph(REFERENCE, w, 512, names.split(), threads, read=[last])
        assert same(plan.run({"x": x, "tokens": np.zeros((N, 1), np.int32)}, N)[last], want), (
            threads
        )


# ---- experts ----


@pytest.mark.parametrize("dtype", ["f32", "q4_0"])
@pytest.mark.parametrize("n_experts, n_used", [(4, 1), (8, 2), (16, 5)])
def test_experts_together(dtype, n_experts, n_used):
    """route, two products and the sum, the ids in scratch: as its parts alone, and any row as
    alone."""
    width, ff = 64, 96
    r = oc.rng("experts", dtype, n_experts)
    x = r.standard_normal((N, width), np.float32)
    logits = r.standard_normal((N, n_experts), np.float32)
    up, down = oc.Weight(dtype, width, ff, n_experts), oc.Weight(dtype, ff, width, n_experts, key=1)
    p = {"n_experts": n_experts, "n_used": n_used}
    routed = run_op("moe_route", REFERENCE, {"logits": logits, "expert_scale": None}, p)
    hidden = run_op("moe_matmul", REFERENCE, {"weights": up, "x": x, "ids": routed["ids"]}, p)["y"]
    p2 = {**p, "per_row": n_used}
    parts = run_op(
        "moe_matmul", REFERENCE, {"weights": down, "x": hidden, "ids": routed["ids"]}, p2
    )["y"]
    want = run_op(
        "moe_sum", REFERENCE, {"x": parts, "gates": routed["gates"]}, {**p, "width": width}
    )["y"]
    for table, threads in itertools.product(TABLES, oc.THREADS):
        on = device(table)
        g = on.graph(N)
        ids, gates = g.op("moe_route", {"logits": g.input("logits", n_experts)}, p)
        w = [g.weight(on.weight(m.data, m.dtype, m.width, m.rows, m.depth)) for m in (up, down)]
        h = g.op("moe_matmul", {"weights": w[0], "x": g.input("x", width), "ids": ids}, p)[0]
        y = g.op("moe_matmul", {"weights": w[1], "x": h, "ids": ids}, p2)[0]
        g.output(g.op("moe_sum", {"x": y, "gates": gates}, {**p, "width": width})[0], "y")
        plan = g.compile(threads)
        for start, rows in ((0, N), (0, 9), (13, 1), (40, 17)):
            cut = slice(start, start + rows)
            got = plan.run(
                {"x": x[cut], "logits": logits[cut], "tokens": np.zeros((rows, 1), np.int32)}, rows
            )
            assert same(got["y"], want[cut]), (table, threads, start, rows)


# ---- attention ----


def attend_plan(on, cache, params, rows_max, threads):
    g = on.graph(rows_max)
    q = g.input("q", params["n_heads"] * params["head_dim"])
    g.output(g.op("attend", {"cache": g.kv(cache), "q": q}, params)[0], "y")
    return g.compile(threads)


def attend(plan, q, pos):
    return plan.run({"q": q, "tokens": np.zeros((len(q), 1), np.int32)}, len(q), 0, pos)["y"]


# heads, KV heads, head size, positions, window, cache; with four threads all but the first are cut
# into supers or into few vectors
SPLIT = [
    (16, 1, 16, 256, 0, "f16"),
    (4, 2, 32, 1024, 0, "q8_0"),
    (2, 1, 64, 1065, 0, "f16"),
    (8, 1, 16, 3000, 0, "q8_0"),
    (3, 1, 30, 3000, 0, "f16"),
    (1, 1, 8, 3000, 0, "f16"),
    (2, 1, 32, 3000, 1024, "f16"),
    (4, 1, 16, 3000, 1500, "q8_0"),
    (2, 2, 16, 5000, 0, "f16"),
]


@pytest.mark.parametrize("heads, kv, dim, length, window, kind", SPLIT)
@pytest.mark.parametrize("table", TABLES)
def test_split_and_direct_attention(table, heads, kv, dim, length, window, kind):
    """Rows alone on four threads (cut into supers and joined) have the bits of rows among 40 on one
    thread (walked)."""
    on, params = (
        device(table),
        {"n_heads": heads, "n_kv_heads": kv, "head_dim": dim, "window": window},
    )
    capacity = ((window + 39 if window else length) + 255) // 256 * 256
    cache = filled_cache(on, oc.Store(kind, kv, dim, capacity, length), 500 if not window else 39)
    q = oc.rng("split", heads, dim).standard_normal((40, heads * dim), np.float32) / np.float32(
        np.sqrt(dim) / 3
    )
    want = attend(attend_plan(on, cache, params, 40, 1), q, length - 40)
    for threads in (4, 7):
        plan = attend_plan(on, cache, params, 40, threads)
        for start, rows in ((0, 1), (17, 1), (39, 1), (10, 2), (20, 9), (0, 40)):
            assert same(
                attend(plan, q[start : start + rows], length - 40 + start),
                want[start : start + rows],
            ), (
                threads,
                start,
                rows,
            )


@pytest.mark.parametrize("table", TABLES)
def test_attention_that_ends_in_negative_zero(table):
    """A sum may underflow to -0. Pieces of the context that a row doesn't see must not turn it into
    +0."""
    on, params = device(table), {"n_heads": 1, "n_kv_heads": 1, "head_dim": 2, "window": 0}
    length, row = 2600, 2040  # the row sees two supers, the run's later rows a third
    store = oc.Store("f16", 1, 2, 2816, length)
    # a weight of exp(-100), times next to the smallest of halves
    store.k[:], store.v[:] = -25, -1e-7
    store.k[0], store.v[0] = 25, 0
    cache = filled_cache(on, store, 1300)
    q = np.ones((500, 2), np.float32)
    alone = attend(attend_plan(on, cache, params, 1, 1), q[:1], row)
    assert np.array_equal(alone, [[0, 0]]) and np.signbit(alone).all()
    for threads in (1, 2, 8):
        plan = attend_plan(on, cache, params, 500, threads)
        for rows in (1, 2, 9, 17, 500):
            assert same(attend(plan, q[:rows], row)[:1], alone), (threads, rows)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", oc.FORMATS)
def test_store_and_attend_in_a_ring(table, kind):
    """A prompt in runs of 40, 9 and 1 rows through a ring of 256 positions: the bits of the cache
    that holds everything."""
    on, dim, heads, length = device(table), 16, 4, 700
    params = {"n_heads": heads, "n_kv_heads": 2, "head_dim": dim, "window": 200}
    store = oc.Store(kind, 2, dim, 768, length)
    q = oc.rng("ring").standard_normal((length, heads * dim), np.float32)
    want = attend(attend_plan(on, filled_cache(on, store, length), params, length, 1), q, 0)
    for step, threads in ((40, 2), (9, 3), (1, 2)):
        ring = on.cache(kind, 2, dim, 256, 0x3C)
        g = on.graph(step)
        cache = g.kv(ring)
        g.op("kv_store", {"cache": cache, "k": g.input("k", 2 * dim), "v": g.input("v", 2 * dim)})
        g.output(g.op("attend", {"cache": cache, "q": g.input("q", heads * dim)}, params)[0], "y")
        plan = g.compile(threads)
        for begin in range(0, length, step):
            n = min(step, length - begin)
            cut = slice(begin, begin + n)
            inputs = {
                "k": store.k[cut],
                "v": store.v[cut],
                "q": q[cut],
                "tokens": np.zeros((n, 1), np.int32),
            }
            assert same(plan.run(inputs, n, 0, begin)["y"], want[cut]), (step, begin)


# ---- plans, weights ----


def test_plans_refuse_other_rows():
    bench = Bench(next(c for c in CASES if c.op == "add"), REFERENCE, rows_max=7)
    for rows, out in ((8, 1), (0, 0), (7, 8), (3, 4), (3, -1)):
        with pytest.raises(
            testing.Error, match=f"plan for 7 rows and 7 outputs was given {rows} and {out}"
        ):
            bench.plan.run(
                {name: x for name, x in bench.case.inputs.items()}
                | {"tokens": np.zeros((N, 1), np.int32)},
                rows,
                out,
            )


def test_a_cancelled_run_says_so():
    for threads in (1, 3):
        bench = Bench(next(c for c in CASES if c.name == "norm-257"), REFERENCE, threads)
        want = bench.run()
        bench.device.cancel(threads, True)
        try:
            with pytest.raises(testing.Error, match="cancelled"):
                bench.run()
            with pytest.raises(testing.Error, match="cancelled"):
                bench.device.weight(GROUP["q4"].data, "q4_0", 512, 97, threads=threads)
        finally:
            bench.device.cancel(threads, False)
        assert same(bench.run()["y"], want["y"])


def test_attention_that_is_not_supported():
    for dim, heads, kv, sentence in (
        (3, 2, 1, "head size 3"),
        (1026, 1, 1, "head size 1026"),
        (8, 3, 2, "3 query heads are no multiple"),
    ):
        on = device(REFERENCE)
        with pytest.raises(testing.Error, match=sentence):
            attend_plan(
                on,
                on.cache("f16", kv, dim, 256),
                {"n_heads": heads, "n_kv_heads": kv, "head_dim": dim},
                1,
                1,
            )


def test_tables_by_name():
    assert TABLES[-1] == REFERENCE and len(set(TABLES)) == len(TABLES)
    for table in TABLES:
        assert json.loads(device(table).info)["table"] == table
    with pytest.raises(testing.Error, match="no kernels are named 'sse9'"):
        testing.Device("cpu", "sse9")


@pytest.mark.parametrize("dtype", oc.DTYPES)
def test_import_packs_in_pieces(dtype):
    """Threads, pieces of about 1 MB and several matrices: the bytes of packing each matrix at once;
    and back, byte for byte."""
    width, rows, depth = 1024, 1300 if dtype in ("q4_0", "f16") else 75, 3
    w = oc.Weight(dtype, width, rows, depth)
    size = len(w.data) // depth
    pieces = [
        testing.pack(dtype, w.data[i * size : (i + 1) * size], rows, width) for i in range(depth)
    ]
    for threads in oc.THREADS:
        assert device(REFERENCE).weight(
            w.data, dtype, width, rows, depth, threads=threads
        ).bytes == b"".join(pieces)
    values, row_size = w.dequantized(), size // rows
    for d, row in ((0, 0), (1, 31), (2, rows - 1)):
        file_row = w.data[d * size + row * row_size :][:row_size]
        unpacked, data = testing.unpack_row(dtype, pieces[d], rows, width, row)
        assert (
            data == testing.expand(dtype, file_row)
            and same(unpacked, values[d, row])
            and same(testing.dequantize_row(dtype, file_row, width), unpacked)
        )


def test_vectors_become_f32():
    for dtype in oc.DTYPES:
        w = oc.Weight(dtype, 512, 2, use="vector")
        got = np.frombuffer(
            device(REFERENCE).weight(w.data, dtype, 512, 2, use="vector").bytes, np.float32
        )
        assert same(got.reshape(1, 2, 512), w.dequantized())


@pytest.mark.parametrize("use", ["matrix", "table", "vector"])
def test_types_that_are_no_weights(use):
    with pytest.raises(
        testing.Error, match="^tensor w: type I16 is not a weight format of the cpu backend"
    ):
        device(REFERENCE).weight(bytes(2 * 64), "i16", 64, use=use)


def test_a_plan_for_few_rows_stores_within_them():
    """The bindings' own watch: rows beyond a run stay as they were, which every test above relies
    on."""
    on = device(REFERENCE)
    cache = on.cache("f16", 1, 2, 256)
    plan = store_plan(on, cache, 2, 4)
    ones = np.ones((4, 2), np.float32)
    plan.run({"k": ones, "v": ones, "tokens": np.zeros((4, 1), np.int32)}, 2, 0, 5)
    keys, _ = cache.read()
    assert np.array_equal(np.nonzero(keys[0, :, 0])[0], [5, 6])
