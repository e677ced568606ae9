"""Images whose rows see one another, under the engine: each is read in one run, whatever runs
beside it."""

import hashlib

import numpy as np
import pytest

PLAIN = [2, 5, 9, 14, 3, 7]


@pytest.fixture(scope="module")
def model(pillion, pytestconfig):
    path = pytestconfig.rootpath / "tests" / "golden" / "tiny-dense.gguf"
    with pillion.Model.open(path, device="cpu") as model:
        yield model


@pytest.fixture(scope="module")
def cache(model):
    from pillion.media.cache import RowCache

    def add(rows, digest, sees_itself):
        return model.add_media(rows, digest, bidirectional=sees_itself)

    return RowCache(add, model.drop_media)


def request(pillion, cache, n, n_rows=0, seed=0):
    """Of n tokens, with an image of random rows."""
    lease, prompt = cache.lease(), list(PLAIN)
    if n_rows:
        key = hashlib.sha256(repr((n_rows, seed)).encode()).digest()
        rng = np.random.default_rng(seed)
        lease.add(key, lambda: rng.standard_normal((n_rows, 64)), sees_itself=True)
        prompt += [*lease.ids[0], 4, 8]
    greedy = pillion.SamplingParams(temperature=0)
    return pillion.Request(prompt=prompt, sampling=greedy, max_tokens=n, media=lease)


@pytest.mark.parametrize("parallel", [1, 3])
def test_as_large_as_a_run(pillion, model, cache, parallel):
    """Beside rounds there is never room for it: it has a turn of its own."""
    sizes = {"n_ctx": 4096, "n_batch": 64}

    def submit(engine):
        asked = [request(pillion, cache, 40, 64, seed) for seed in range(3)]
        return [engine.submit(one) for one in (request(pillion, cache, 3000), *asked)]

    with pillion.Engine(model, sizes=sizes) as engine:
        expected = [one.result().tokens for one in submit(engine)]
    with pillion.Engine(model, sizes=sizes, parallel=parallel) as engine:
        long, *others = submit(engine)
        assert [one.result().tokens for one in others] == expected[1:]
        assert parallel == 1 or long.state != "done"
        assert long.result().tokens == expected[0]
    assert all(0 <= token < model.n_vocab for tokens in expected for token in tokens)
