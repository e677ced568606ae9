"""What core/contract/ops.def declares holds: the builders refuse other operands, a backend says no
to an op that it has no kernel for, and docs/ops.md is current."""

import sys
from pathlib import Path

import numpy as np
import pytest

import op_cases as oc
from op_table import OPS, TABLE, runs
from testing_ops import Bench, device, testing

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import make_ops_page  # noqa: E402

WIDTH = 64
# Any value that the builders take; the operands are refused before the shapes are looked at.
PARAMS = {
    **dict.fromkeys(["n_heads", "n_kv_heads", "n_layers", "n_used", "n_centroids", "n_active"], 1),
    **dict.fromkeys(["width", "dims", "head_dim", "rope_dims"], WIDTH),
    **dict.fromkeys(["eps", "base", "scale", "cap", "factor"], 1.0),
    "n_experts": 2,
    **dict.fromkeys(["window", "softcap", "taps", "channels_1", "channels_2"], 1),
}


def value_of(g, operand):
    """A value of the operand's kind."""
    on, kind, name = device("generic"), operand["kind"], operand["name"]
    if kind == "token":
        return g.tokens
    if kind == "cache":
        return g.kv(on.cache("f16", 1, WIDTH, 256))
    if kind in ("vector", "table", "matrix", "stack"):
        use = kind if kind in ("vector", "table") else "matrix"
        rows, depth = (1 if kind == "vector" else 32), (2 if kind == "stack" else 1)
        data = np.zeros(rows * depth * WIDTH, np.float32).tobytes()
        return g.weight(on.weight(data, "f32", WIDTH, rows, depth, use))
    return g.input(f"in {name}", WIDTH, "i32" if kind in ("ids", "score_ids", "order") else "f32")


def operands(g, op):
    return {operand["name"]: value_of(g, operand) for operand in TABLE[op]["inputs"]}


REQUIRED = [(op, x["name"]) for op in OPS for x in TABLE[op]["inputs"] if not x["optional"]]


@pytest.mark.parametrize("op, name", REQUIRED)
def test_a_missing_operand_is_refused(op, name):
    g = device("generic").graph(2)
    given = operands(g, op)
    del given[name]
    with pytest.raises(testing.Error, match=f"op {op} was given no {name}"):
        g.op(op, given, PARAMS)


@pytest.mark.parametrize("op, name", REQUIRED)
def test_another_kind_of_value_is_refused(op, name):
    g = device("generic").graph(2)
    given = operands(g, op)
    kind = next(x["kind"] for x in TABLE[op]["inputs"] if x["name"] == name)
    other = "matrix" if kind == "cache" else "cache"
    given[name] = value_of(g, {"kind": other, "name": "other"})
    with pytest.raises(testing.Error, match=f"{name} of op {op} is another kind of value"):
        g.op(op, given, PARAMS)


@pytest.mark.parametrize("op", ["add", "norm_add", "moe_sum", "concat"])
def test_other_rows_are_refused(op):
    g = device("generic").graph(2)
    given = operands(g, op)
    last = TABLE[op]["inputs"][-1]["name"]
    given[last] = g.op("gather_rows", {"x": given[last]})[0]
    with pytest.raises(testing.Error, match=f"{last} of op {op} has other rows than the op"):
        g.op(op, given, PARAMS)


def test_a_value_of_no_graph_is_refused():
    g = device("generic").graph(2)
    for value in (-2, 99):
        with pytest.raises(testing.Error, match="of op softcap is value"):
            g.op("softcap", {"x": value}, PARAMS)


def test_a_surplus_operand_is_refused():
    g = device("generic").graph(2)
    with pytest.raises(testing.Error, match="nobody asked for weight"):
        g.op("softcap", {"x": g.input("x", WIDTH), "weight": g.tokens}, PARAMS)


@pytest.mark.parametrize("name", ["generic", "cuda:sim", "htp:sim"])
def test_a_backend_says_no_to_an_op_without_a_kernel(name):
    """So that a new op in ops.def breaks neither a build nor a compile."""
    try:
        on = device(name)
    except testing.Error as error:
        pytest.skip(f"no {name}: {error} (make build makes it)")
    yes, reason = on.supports_unknown_op()
    assert not yes and "no kernel for op unknown" in reason


@pytest.mark.parametrize("name", ["cuda:sim", "htp:sim"])
def test_the_ops_without_a_kernel_are_refused_by_name(name):
    for case in oc.op_cases():
        if not runs(name, case):
            with pytest.raises(testing.Error, match=f"has no kernel for op {case.op}"):
                Bench(case, name)


def test_the_page_of_ops_is_current():
    text = make_ops_page.OPS.read_text(encoding="utf-8")
    assert make_ops_page.PAGE.read_text(encoding="utf-8") == make_ops_page.page(text), (
        "run tools/make_ops_page.py"
    )


def test_the_page_reads_the_table_as_the_compiler_does():
    ops = {op["name"]: op for op in make_ops_page.read_ops(make_ops_page.OPS.read_text("utf-8"))}
    assert list(ops) == OPS
    for name, op in ops.items():
        for side in ("inputs", "outputs"):
            assert op[side] == [
                (x["name"], x["kind"], x["optional"], x["in_place"]) for x in TABLE[name][side]
            ]
        assert (op["params"], op["scratch"]) == (TABLE[name]["params"], TABLE[name]["scratch"])
