"""A batch on the Hexagon backend: the CPU's drafter reads the pool of pages in place, and each
sequence writes what it writes alone, prompts beside rounds."""

import pytest
from device_models import ids_of, open_model

DEVICE = "htp:sim"
ROUNDS, K = 3, 3


def written(context, one):
    rows = [context.logits(row).tobytes() for row in range(len(one.tokens))]
    return one.tokens, one.drafted, one.accepted, rows


@pytest.mark.parametrize("name, kv_type", [("tiny-e2b", "f16"), ("tiny-dense", "q8_0")])
def test_a_batch_writes_what_each_pair_writes_alone(pillion, name, kv_type):
    """Over a page's end and a window's."""
    ids, ends = (ids_of(name) * 8)[:260], (253, 60, 40)
    options = {"n_ctx": 512, "kv_type": kv_type}

    def chooser():
        return pillion.Sampler(pillion.SamplingParams(temperature=0))

    with (
        open_model(pillion, name, DEVICE) as model,
        open_model(pillion, f"{name}-assistant", "cpu") as drafter,
    ):
        with pillion.Batch(model, drafter, n_sequences=3, **options) as batch:
            assert batch.stats.batched
            entries, came = [], []
            for end in ends:  # the rounds of the earlier ones go on beside the prompt
                pair = batch.pair(batch.context())
                entries.append(pillion.BatchEntry(pair, chooser(), n_draft=K, n_max=K + 1))
                entries[-1].prompt = ids[260 - end :]
                came.append([])
                for _ in range(1 if len(entries) < 3 else ROUNDS):
                    batch.round(entries)
                    for entry, mine in zip(entries, came):
                        assert entry.error is None
                        mine.append(written(entry.pair.context, entry.round))
                    entries[-1].prompt = None
        for end, mine in zip(ends, came):
            with pillion.Pair(model.context(**options), drafter) as pair:
                pair.sync(ids[260 - end :])
                sampler = chooser()
                assert mine == [written(pair.context, pair.step(sampler, K, K + 1)) for _ in mine]
