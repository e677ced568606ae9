"""Where the values of a plan lie: two that are needed at once never share a byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import op_cases as oc
from testing_ops import REFERENCE, TABLES, device, testing, same


def rounded(n):
    return (n + 63) // 64 * 64


lifetimes = st.tuples(st.integers(0, 30), st.integers(0, 12)).map(lambda t: (t[0], t[0] + t[1]))
sizes = st.one_of(
    st.integers(0, 5000), st.integers(1, 40).map(lambda n: 64 * n), st.integers(1, 1 << 40)
)
values = st.lists(
    st.tuples(sizes, st.one_of(lifetimes, st.just((-1, -1)))).map(lambda v: (v[0], *v[1])),
    max_size=40,
)


def check(requests, offsets, total):
    assert total % 64 == 0
    used = [(o, o + b, f, t) for (b, f, t), o in zip(requests, offsets) if f >= 0]
    for (_, first, _), offset in zip(requests, offsets):
        assert (offset is None) == (first < 0)  # what is never used has no place
    for begin, end, *_ in used:
        assert begin % 64 == 0 and end <= total
    for i, (begin, end, first, last) in enumerate(used):
        for other_begin, other_end, other_first, other_last in used[:i]:
            if first <= other_last and other_first <= last:
                assert end <= other_begin or other_end <= begin
    assert total <= sum(rounded(b) for b, f, _ in requests if f >= 0)
    at_once = [sum(b for b, f, t in requests if f <= node <= t and f >= 0) for node in range(50)]
    assert total >= max(at_once)


@settings(max_examples=400, deadline=None)
@given(values)
def test_random_lifetimes(requests):
    check(requests, *testing.plan_memory(requests))


def test_bytes_are_used_again():
    chain = [(640, i, i + 1) for i in range(100)]  # each value dies when the next but one is born
    offsets, total = testing.plan_memory(chain)
    check(chain, offsets, total)
    assert total == 2 * 640
    assert testing.plan_memory([(100, 0, 3)] * 4) == ([0, 128, 256, 384], 512)
    assert testing.plan_memory([(100, 0, 3), (100, 4, 5), (100, -1, -1)]) == ([0, 0, None], 128)
    assert testing.plan_memory([]) == ([], 0)


def random_graph(r, n_nodes, widths=(5, 16, 64, 100)):
    """Nodes over earlier values, some read late, some never: [(op, inputs, parameter)], the width
    of each value."""
    width, nodes = [int(r.choice(widths))], []
    for _ in range(n_nodes):
        a = int(r.integers(max(0, len(width) - 6), len(width)))
        alike = [v for v in range(len(width)) if width[v] == width[a]]
        kind = r.choice(["scale", "add", "norm", "norm_add", "glu", "matmul", "matmul"])
        b = int(r.choice(alike))
        if kind == "matmul":
            nodes.append((kind, (a,), int(r.choice(widths))))
            width.append(nodes[-1][2])
        else:
            nodes.append(
                (
                    kind,
                    (a, b) if kind in ("add", "norm_add", "glu") else (a,),
                    float(r.uniform(0.5, 2)),
                )
            )
            width.append(width[a])
    return nodes, width


def add_node(g, on, node, width, v):
    kind, inputs, parameter = node
    x = [v[i] for i in inputs]
    if kind == "matmul":
        w = oc.Weight("f32", width[inputs[0]], parameter, key=parameter)
        return g.op(
            "matmul", {"weight": g.weight(on.weight(w.data, "f32", w.width, w.rows)), "x": x[0]}
        )[0]
    if kind == "scale":
        return g.op("scale", {"x": x[0]}, {"scale": parameter})[0]
    if kind == "norm":
        return g.op("norm", {"x": x[0]}, {"eps": 1e-6})[0]
    if kind == "norm_add":
        return g.op(
            "norm_add", {"branch": x[0], "residual": x[1]}, {"eps": 1e-6, "scale": parameter}
        )[0]
    return g.op(kind, dict(zip(("a", "b") if kind == "add" else ("gate", "up"), x)))[0]


@pytest.mark.parametrize("seed", range(30))
def test_graphs_in_scratch(seed):
    """A graph whose values share scratch gives the bits of the same graph with a buffer for each
    value."""
    r = oc.rng("graph", seed)
    nodes, width = random_graph(r, 25)
    n, read = 11, set(r.integers(1, len(width), 3).tolist()) | {len(width) - 1}
    inputs = {
        "x": r.standard_normal((n, width[0]), np.float32),
        "tokens": np.zeros((n, 1), np.int32),
    }
    results = {}
    for table, threads, all_out in (
        (REFERENCE, 1, True),
        (REFERENCE, 3, False),
        (TABLES[0], 2, False),
    ):
        on = device(table)
        g = on.graph(n)
        v = [g.op("scale", {"x": g.input("x", width[0])}, {"scale": 1.0})[0]]
        for node in nodes:
            v.append(add_node(g, on, node, width, v))
            if all_out or len(v) - 1 in read:
                g.output(v[-1], f"v{len(v) - 1}")
        plan = g.compile(threads)
        results[all_out] = plan.run(inputs, n)
        if not all_out:
            for i in read:
                assert same(results[False][f"v{i}"], results[True][f"v{i}"]), (table, i)
