"""Rows of media in a text: they stand where tokens have embeddings, and ids below 0 name them."""

import gc
import hashlib

import numpy as np
import pytest

PLAIN = [2, 5, 9, 14, 3, 7]
N_CTX = 512


@pytest.fixture(scope="module")
def golden(pytestconfig):
    return pytestconfig.rootpath / "tests" / "golden"


@pytest.fixture(scope="module")
def path(golden):
    return golden / "tiny-e2b.gguf"


@pytest.fixture
def model(pillion, path):
    with pillion.Model.open(path, device="cpu") as model:
        yield model


@pytest.fixture(scope="module")
def table(path):
    """Scaled embeddings of all tokens, as the model makes them."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    tensors = {t.name: t for t in GGUFReader(str(path)).tensors}
    one = tensors["token_embd.weight"]
    rows = dequantize(one.data, one.tensor_type)
    return (rows * np.float32(np.sqrt(np.float32(rows.shape[1])))).astype(np.float32)


def digest(of):
    return hashlib.sha256(repr(of).encode()).digest()


def noise(model, n, seed=1):
    return np.random.default_rng(seed).standard_normal((n, model.n_embd)).astype(np.float32)


def add(model, n, seed=1):
    """A medium of random rows; its ids."""
    first = model.add_media(noise(model, n, seed), digest((n, seed)))
    return list(range(first, first - n, -1))


def logits_after(context, text):
    context.sync(text)
    return context.logits().copy()


def test_a_row_stands_for_an_embedding(model, table):
    """The embedding of token 0, given as a row, is token 0 to the last bit: the per-layer table
    gives row 0 to every row of a medium, and nothing scales it again."""
    first = model.add_media(table[[0, 0]], digest("zeros"))
    with model.context(N_CTX) as one, model.context(N_CTX) as other:
        of_tokens = logits_after(one, [*PLAIN, 0, 0, 8])
        of_rows = logits_after(other, [*PLAIN, first, first - 1, 8])
        assert np.array_equal(of_tokens, of_rows)
        assert other.tokens == [*PLAIN, first, first - 1, 8]
    scaled_again = model.add_media(table[[0, 0]] * 2, digest("twice"))
    with model.context(N_CTX) as third:
        assert not np.array_equal(
            of_tokens, logits_after(third, [*PLAIN, scaled_again, scaled_again - 1, 8])
        )


@pytest.mark.parametrize("n_batch", [1, 3, 16, 64])
def test_rows_may_be_cut_anywhere(model, n_batch):
    text = [*PLAIN, *add(model, 40), *PLAIN, *add(model, 5, seed=2), 4]
    with model.context(N_CTX) as one, model.context(N_CTX, n_batch=n_batch) as other:
        assert np.array_equal(logits_after(one, text), logits_after(other, text))


def test_beside_texts_of_others(pillion, model):
    """A batch: the rows of one user's picture change no bit of another's text."""
    text, other = [*PLAIN, *add(model, 30), 4, 5], [*PLAIN, 8, 9]
    greedy = pillion.SamplingParams(temperature=0)
    with pillion.Batch(model, n_sequences=2, n_ctx=N_CTX) as batch:
        pairs = [batch.pair(batch.context()) for _ in range(2)]
        entries = [
            pillion.BatchEntry(pair, pillion.Sampler(greedy), prompt=prompt)
            for pair, prompt in zip(pairs, (text, other), strict=True)
        ]
        batch.round(entries)
        for entry, prompt in zip(entries, (text, other), strict=True):
            assert entry.error is None
            with model.context(N_CTX) as alone:
                assert np.array_equal(logits_after(alone, prompt), entry.pair.context.logits())


def test_the_same_medium_has_the_same_ids(model):
    rows = noise(model, 4)
    first = model.add_media(rows, digest("a"))
    assert model.add_media(rows, digest("b")) == first - 4
    assert model.add_media(rows, digest("a")) == first
    with model.context(N_CTX) as context:
        text = [*PLAIN, *range(first, first - 4, -1), 3, 4]
        before = logits_after(context, text)
        model.drop_media(first)
        assert context.sync(text[:-1] + [9]) == len(text) - 1  # the cache still holds the rows
        again = model.add_media(rows, digest("a"))
        assert again == first
        with model.context(N_CTX) as fresh:
            assert np.array_equal(before, logits_after(fresh, text))


def test_what_is_refused(pillion, golden, model):
    rows = noise(model, 4)
    first = model.add_media(rows, digest("a"))
    with pytest.raises(pillion.UsageError, match="has 4 rows, not 3"):
        model.add_media(rows[:3], digest("a"))
    with pytest.raises(pillion.UsageError, match="at least one row"):
        model.add_media(rows[:0], digest("none"))
    with pytest.raises(pillion.UsageError, match=f"width 7, this model's n_embd is {model.n_embd}"):
        model.add_media(rows[:, :7], digest("narrow"))
    for wrong in (rows[0], "text", None):
        with pytest.raises((pillion.UsageError, ValueError, TypeError)):
            model.add_media(wrong, digest("wrong"))
    with pytest.raises(pillion.UsageError, match="32 bytes"):
        model.add_media(rows, b"short")
    with pytest.raises(pillion.UsageError, match="no medium"):
        model.drop_media(first - 1)
    with model.context(N_CTX) as context:
        context.sync(PLAIN)
        for bad in (first - 4, -(2**31)):
            with pytest.raises(pillion.UsageError, match="no row of a medium"):
                context.sync([*PLAIN, bad, 1])
        model.drop_media(first)
        with pytest.raises(pillion.UsageError, match="dropped"):
            context.sync([*PLAIN, first, 1])
        with pytest.raises(pillion.UsageError, match="vocabulary"):
            context.score([*PLAIN, first, 1])
        assert context.tokens == PLAIN
    with (
        pillion.Model.open(golden / "tiny-llama.gguf", device="cpu") as llama,
        pytest.raises(pillion.UnsupportedModelError, match="no images or sounds"),
    ):
        llama.add_media(noise(llama, 1), digest("a"))


@pytest.mark.parametrize("drafter", ["assistant", "lookup", "model"])
def test_texts_with_drafts_are_those_without(pillion, golden, model, path, drafter):
    ids = add(model, 12)
    text = [*PLAIN, *ids, *PLAIN, *ids[:6], 5, 9, 14]
    drafters = {
        "assistant": lambda: pillion.Model.open(golden / "tiny-e2b-assistant.gguf", device="cpu"),
        "lookup": lambda: "lookup",
        "model": lambda: pillion.Model.open(path, device="cpu"),
    }
    expected = None
    for k in range(5):
        with model.context(N_CTX) as context, pillion.Pair(context, drafters[drafter]()) as pair:
            pair.sync(text)
            chooser = pillion.Sampler(pillion.SamplingParams(temperature=0))
            tokens = []
            while len(tokens) < 24:
                tokens += pair.step(chooser, k).tokens
            expected = expected or tokens[:24]
            assert tokens[:24] == expected and min(tokens) >= 0


def test_a_saved_text_keeps_its_media(pillion, path, model, tmp_path):
    """Another process gives other ids to the same medium."""
    text = [*PLAIN, *add(model, 9), 4, 5]
    saved = tmp_path / "state"
    with model.context(N_CTX) as context:
        context.sync(text)
        context.save(saved)
        context.decode(6)
        expected = context.logits().copy()
    with pillion.Model.open(path, device="cpu") as other:
        assert add(other, 3, seed=7) == [-1, -2, -3]
        with other.context(N_CTX) as context:
            context.load(saved)
            assert context.tokens == [*PLAIN, *range(-4, -13, -1), 4, 5]
            context.decode(6)
            assert np.array_equal(expected, context.logits())
        first = other.add_media(noise(other, 9), digest((9, 1)))
        assert first == -4


def test_text_sessions_pay_nothing(model):
    with model.context(N_CTX) as context:
        context.sync(PLAIN)
        before = context.describe()["output_bytes"]
        context.sync([*PLAIN, *add(model, 2), 1])
        gc.collect()
        rows = context.describe()["n_batch"] * model.n_embd * 4
        assert context.describe()["output_bytes"] == before + rows
