"""What the tests of ops on a device share."""

import numpy as np


def compare(got, texts, what):
    """texts: {result: (float64 values, bound)}."""
    assert set(got) == set(texts)
    for name, (want, bound) in texts.items():
        assert got[name].shape == want.shape, (what, name)
        error = np.abs(got[name].astype(np.float64) - want)
        bad = ~(error <= bound)
        assert not bad.any(), (
            f"{what}: {name}: {bad.sum()} of {bad.size}, first at {np.argwhere(bad)[0]}: "
            f"{got[name][bad][0]} instead of {want[bad][0]}, "
            f"{(error[bad] / np.maximum(bound[bad], 1e-300)).max():.3g} bounds"
        )


def attend_plan(on, cache, params, rows):
    g = on.graph(rows)
    q = g.input("q", params["n_heads"] * params["head_dim"])
    g.output(g.op("attend", {"cache": g.kv(cache), "q": q}, params)[0], "y")
    return g.compile(1)


def attend(plan, q, pos):
    return plan.run({"q": q, "tokens": np.zeros((len(q), 1), np.int32)}, len(q), 0, pos)["y"]
