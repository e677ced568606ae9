"""The reference kernel against each op's text in float64: graphs of one node on the plain kernels,
one thread (op_texts.py)."""

import numpy as np
import pytest

import op_cases as oc
from testing_ops import REFERENCE, Bench, testing
from op_texts import TEXTS, stored_rows

CASES = oc.op_cases()


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_op(case):
    bench = Bench(case, REFERENCE)
    got = bench.run()
    if case.op == "kv_store":
        got = stored_rows(case, bench)
    texts = TEXTS[case.op](case)
    assert set(got) == set(texts)
    for name, (want, bound) in texts.items():
        assert got[name].shape == want.shape
        error = np.abs(got[name].astype(np.float64) - want)
        bad = ~(error <= bound)
        assert not bad.any(), (
            f"{name}: {bad.sum()} of {bad.size}, first at {np.argwhere(bad)[0]}: "
            f"{got[name][bad][0]} instead of {want[bad][0]}, "
            f"{(error[bad] / np.maximum(bound[bad], 1e-300)).max():.3g} bounds"
        )


def test_every_op_has_text_and_cases():
    assert set(TEXTS) == set(testing.ops()) == {case.op for case in CASES}
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", [c for c in CASES if c.op == "kv_store"], ids=repr)
def test_a_store_touches_its_slots_alone(case):
    bench = Bench(case, REFERENCE)
    before = bench.cache.read()
    bench.run()
    capacity = case.inputs["cache"].capacity
    written = np.isin(np.arange(capacity), (case.pos + np.arange(oc.MAX_ROWS)) % capacity)
    assert 0 < written.sum() == oc.MAX_ROWS < capacity
    for a, b in zip(before, bench.cache.read()):
        assert np.array_equal(a[:, ~written], b[:, ~written])
        assert not np.array_equal(a[:, written], b[:, written])
