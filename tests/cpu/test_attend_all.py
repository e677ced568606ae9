"""attend_all over more rows than one split, block or tile holds; fewer are in op_cases.py."""

import itertools

import numpy as np
import pytest

import op_cases as oc
from testing_ops import REFERENCE, TABLES, device, run_op, same, testing

DIM = 8


def inputs(n, heads=2, score=3.0):
    r = oc.rng("attend all", n, heads)
    q, k, v = (r.standard_normal((n, heads * DIM), np.float32) for _ in range(3))
    return {"q": q * np.float32(score / np.sqrt(DIM)), "k": k, "v": v}


def softmax64(given, heads=2):
    """[n, heads * DIM] in float64."""
    q, k, v = (x.astype(np.float64).reshape(len(x), heads, DIM) for x in given.values())
    s = np.einsum("qhd,khd->hqk", q, k)
    w = np.exp(s - s.max(-1, keepdims=True))
    return np.einsum("hqk,khd->qhd", w / w.sum(-1, keepdims=True), v).reshape(len(q), -1)


def params(int8, heads=2):
    return {"n_heads": heads, "head_dim": DIM, "int8": int8}


@pytest.mark.parametrize("int8, bound", [(False, 1e-12), (True, 4e-4)])
@pytest.mark.parametrize("n", [1, 31, 33, 511, 512, 513, 1100])
def test_many_rows(n, int8, bound):
    given = inputs(n)
    want = run_op("attend_all", REFERENCE, given, params(int8))["y"]
    exact = softmax64(given)
    assert ((want - exact) ** 2).mean() <= bound * (exact**2).mean()
    for table, threads in itertools.product(TABLES, (1, 3)):
        got = run_op("attend_all", table, given, params(int8), threads=threads)["y"]
        assert same(got, want), (table, threads)


@pytest.mark.parametrize("int8", [False, True])
def test_a_plan_for_more_rows_runs_fewer(int8):
    """Scratch of a larger run must not show through."""
    large, small = inputs(700), inputs(45)
    on = device(TABLES[0])
    g = on.graph(700)
    values = {name: g.input(name, x.shape[1]) for name, x in large.items()}
    g.output(g.op("attend_all", values, params(int8))[0], "y")
    plan = g.compile(2)
    tokens = {"tokens": np.zeros((700, 1), np.int32)}
    plan.run({**large, **tokens}, 700)
    got = plan.run({**small, **tokens}, 45)["y"]
    assert same(got, run_op("attend_all", REFERENCE, small, params(int8))["y"])


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_a_nan_shows(name, int8):
    """In its own row of q; of k and v in every row, at least in its dimension."""
    given = inputs(70, heads=1)
    given[name][40, 3] = np.nan
    for table in TABLES:
        y = run_op("attend_all", table, given, params(int8, heads=1))["y"]
        nan = np.isnan(y)
        if name == "q":
            assert nan[40].all() and not nan[:40].any() and not nan[41:].any(), table
        else:
            assert nan[:, 3].all(), table


def test_heads_too_large():
    with pytest.raises(testing.Error, match="head size 1028, backend cpu supports up to 1024"):
        given = {name: np.zeros((2, 1028), np.float32) for name in "qkv"}
        run_op("attend_all", REFERENCE, given, {"n_heads": 1, "head_dim": 1028, "int8": True})
