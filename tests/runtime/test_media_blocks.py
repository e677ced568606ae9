"""Images whose rows see one another: read in one run, never cut, never rewound into."""

import hashlib

import numpy as np
import pytest

PLAIN = [2, 5, 9, 14, 3, 7]
N_CTX = 512
WINDOW = 16  # of tiny-dense


@pytest.fixture(scope="module")
def model(pillion, pytestconfig):
    path = pytestconfig.rootpath / "tests" / "golden" / "tiny-dense.gguf"
    with pillion.Model.open(path, device="cpu") as model:
        assert model.image_bidirectional
        yield model


def image(model, n, seed=1, sees_itself=True):
    """The ids of an image of random rows."""
    key = hashlib.sha256(repr((n, seed, sees_itself)).encode()).digest()
    rows = np.random.default_rng(seed).standard_normal((n, model.n_embd)).astype(np.float32)
    first = model.add_media(rows, key, bidirectional=sees_itself)
    return list(range(first, first - n, -1))


def logits_after(context, text):
    context.sync(text)
    return context.logits().copy()


def test_rows_see_ahead(model):
    """The same rows, seen forwards only, give other logits; in the bidirectional image the last row
    moves what the first one is."""
    with model.context(N_CTX) as context:
        both = logits_after(context, [*PLAIN, *image(model, 12), 4])
        forwards = logits_after(context, [*PLAIN, *image(model, 12, sees_itself=False), 4])
    assert not np.array_equal(both, forwards)


@pytest.mark.parametrize("n_batch", [40, 64, 200])
@pytest.mark.parametrize("n", [1, 12, 40])
def test_never_cut(model, n, n_batch):
    """Images longer and shorter than the window, wherever a run would end."""
    ids, other = image(model, n), image(model, 30, seed=2)
    for before in (0, 1, 25, 39):
        text = [*PLAIN, *[8] * before, *ids, 6, *other, *PLAIN]
        with model.context(N_CTX, n_batch=256) as one:
            expected = logits_after(one, text)
        with model.context(N_CTX, n_batch=n_batch) as context:
            assert np.array_equal(expected, logits_after(context, text))


def test_larger_than_a_run(pillion, model):
    ids = image(model, 65)
    with model.context(N_CTX, n_batch=64) as context:
        context.sync(PLAIN)
        with pytest.raises(pillion.UsageError, match="image of 65 rows .* n_batch 64"):
            context.sync([*PLAIN, *ids, 1])
        assert context.tokens == PLAIN


def test_whole_or_not_at_all(pillion, model):
    ids = image(model, 6)
    with model.context(N_CTX) as context:
        for part in (ids[1:], ids[:-1], ids[::-1], [*ids[:3], 5, *ids[3:]]):
            with pytest.raises(pillion.UsageError, match="see one another"):
                context.sync([*PLAIN, *part, 1])
        with pytest.raises(pillion.UsageError, match="only tokens behind it have outputs"):
            context.sync([*PLAIN, *ids])
        text = [*PLAIN, *ids, 3, 4]
        context.sync(text)
        with pytest.raises(pillion.UsageError, match="inside an image .* begins at 6"):
            context.rewind(9)
        assert context.tokens == text
        context.rewind(6)
        assert context.tokens == PLAIN


def test_a_common_beginning_ends_before_an_image(model):
    """Another text may share an image's ids only in whole; what is kept never ends inside."""
    ids = image(model, 60)
    long = [*PLAIN, *ids, *[9] * 30]
    with model.context(N_CTX, n_batch=128) as context, model.context(N_CTX) as fresh:
        context.sync([*long, *[11] * 300])
        text = [*long, 5]
        reused = context.sync(text)
        assert reused <= len(PLAIN) or reused >= len(PLAIN) + 60
        assert np.array_equal(context.logits(), logits_after(fresh, text))


def test_read_in_parts(pillion, model):
    """A batch reads a part of a prompt at a time: an image is one part, whatever is asked."""
    text = [*PLAIN, *image(model, 50), *PLAIN]
    greedy = pillion.SamplingParams(temperature=0)
    with model.context(N_CTX) as alone:
        expected = logits_after(alone, text)
    with pillion.Batch(model, n_sequences=2, n_ctx=N_CTX) as batch:
        pair = batch.pair(batch.context())
        entry = pillion.BatchEntry(pair, pillion.Sampler(greedy), prompt=text, n_rows=10)
        lengths = []
        while not lengths or entry.left:
            batch.round([entry])
            assert entry.error is None
            lengths.append(len(pair.context))
        assert lengths == [6, 56, 62]
        assert np.array_equal(expected, pair.context.logits())


def test_text_beside_an_image_is_text(pillion, model):
    """Rows of text have the same bits in a run that has an image, of another user too."""
    text, other = [*PLAIN, *image(model, 30), 4, 5], [*PLAIN, *[8] * 40, 9]
    greedy = pillion.SamplingParams(temperature=0)
    with pillion.Batch(model, n_sequences=2, n_ctx=N_CTX) as batch:
        entries = [
            pillion.BatchEntry(batch.pair(batch.context()), pillion.Sampler(greedy), prompt=prompt)
            for prompt in (text, other)
        ]
        batch.round(entries)
        for entry, prompt in zip(entries, (text, other), strict=True):
            with model.context(N_CTX) as alone:
                assert np.array_equal(logits_after(alone, prompt), entry.pair.context.logits())


@pytest.mark.parametrize("k", range(5))
def test_texts_with_drafts_are_those_without(pillion, pytestconfig, model, k):
    drafter = pytestconfig.rootpath / "tests" / "golden" / "tiny-dense-assistant.gguf"
    text = [*PLAIN, *image(model, 33), 5, 9, 14]
    greedy = pillion.SamplingParams(temperature=0)
    texts = []
    for n_draft in (0, k):
        with (
            pillion.Model.open(drafter, device="cpu") as assistant,
            model.context(N_CTX) as context,
            pillion.Pair(context, assistant) as pair,
        ):
            pair.sync(text)
            chooser, tokens = pillion.Sampler(greedy), []
            while len(tokens) < 20:
                tokens += pair.step(chooser, n_draft).tokens
            texts.append(tokens[:20])
    assert texts[0] == texts[1]
