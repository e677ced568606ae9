"""Stepping back: random accepts against recomputing from nothing, in full stores and in rings."""

import random

import numpy as np
import pytest
from goldens import model_path, prompt


@pytest.fixture(scope="module", params=["tiny-e2b", "tiny-gemma3", "tiny-llama"])
def model(request, pillion):
    with pillion.Model.open(model_path(request.param)) as model:
        model.test_name = request.param
        yield model


def fresh_logits(model, ids, **options):
    with model.context(n_ctx=1024, **options) as context:
        context.prefill(ids)
        return context.logits()


@pytest.mark.parametrize("kv", ["f16", "q8_0"])
@pytest.mark.parametrize("n_batch", [9, 64])
def test_verify_and_reject(model, kv, n_batch):
    """Rounds of up to 9 rows of which some are dropped, until rings of 256 slots have wrapped; the
    bits stay those of a fresh run."""
    rng = random.Random(f"{kv}{n_batch}")
    n_vocab = model.n_vocab
    with model.context(n_ctx=1024, n_batch=n_batch, n_outputs=9, kv_type=kv) as context:
        ids = prompt(model.test_name, 40)
        context.prefill(ids)
        while len(ids) < 600:
            draft = [rng.randrange(n_vocab) for _ in range(rng.randint(1, 9))]
            context.decode(draft)
            keep = rng.randint(0, len(draft))
            context.rewind(len(ids) + keep)
            ids += draft[:keep]
            assert context.n_past == len(ids) and context.tokens == ids
        context.decode([5])
        assert context.logits().tobytes() == fresh_logits(model, [*ids, 5], kv_type=kv).tobytes()


def test_every_rejection_after_the_window_is_full(model):
    ids = prompt(model.test_name, 530)
    expected = {}
    for reject in range(9):
        with model.context(n_ctx=1024, n_batch=16, n_outputs=9) as context:
            context.prefill(ids)
            context.decode([7, 8, 9, 10, 11, 12, 13, 14])
            context.rewind(len(ids) + 8 - reject)
            context.decode(3)
            kept = [7, 8, 9, 10, 11, 12, 13, 14][: 8 - reject]
            expected[reject] = fresh_logits(model, ids + kept + [3])
            assert context.logits().tobytes() == expected[reject].tobytes(), f"{reject} rejected"


@pytest.mark.parametrize("length", [0, 1, 17, 100, 299])
def test_a_long_way_back_runs_the_kept_tokens_again(model, length):
    ids = prompt(model.test_name, 600)
    with model.context(n_ctx=1024, n_batch=16) as context:
        context.prefill(ids)
        context.rewind(length)
        assert context.n_past == length and context.tokens == ids[:length]
        context.decode(4)
        assert context.logits().tobytes() == fresh_logits(model, [*ids[:length], 4]).tobytes()


def test_sync_reuses_what_it_can(model):
    ids = prompt(model.test_name, 200)
    with model.context(n_ctx=1024) as context:
        assert context.sync(ids) == 0
        assert context.sync([*ids, 5, 6]) == 200
        edited = [*ids[:150], 9, *ids[151:]]
        assert context.sync(edited) == 150  # one slot of the ring's margin is enough here
        assert context.logits().tobytes() == fresh_logits(model, edited).tobytes()
        # the last token runs again for its logits
        assert context.sync(edited) == len(edited) - 1
        assert context.logits().tobytes() == fresh_logits(model, edited).tobytes()


def test_swa_full_makes_any_way_back_a_counter(pillion):
    with (
        pillion.Model.open(model_path("tiny-e2b")) as model,
        model.context(n_ctx=1024, n_batch=16, swa_full=True) as context,
    ):
        ids = prompt("tiny-e2b", 600)
        context.prefill(ids)
        assert context.sync(ids[:100] + [3]) == 100
        assert {store["store"] for store in context.describe()["kv"]} == {"full"}
        assert np.array_equal(context.logits(), fresh_logits(model, ids[:100] + [3]))


def test_full_context_is_refused_before_anything_runs(pillion, model):
    with model.context(n_ctx=32) as context:
        context.prefill(list(range(5, 30)))
        before = context.tokens
        with pytest.raises(pillion.ContextFullError, match="n_ctx 32"):
            context.prefill(list(range(5, 20)))
        assert context.tokens == before
        context.prefill([5] * 7)
        assert context.n_past == 32
