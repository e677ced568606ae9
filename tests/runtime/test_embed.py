"""Embeddings: the mean of a text's hidden rows, beside rows that are read one by one, and the same
bits however the text is cut."""

import numpy as np
import pytest
from device_models import needs, nmse, open_model
from patience import PATIENCE, in_thread, within
from goldens import SHAPES, model_path, prompt

TEXT = [97, 98, 120]


# ---- over the fake ----


@pytest.fixture
def context(fake, strings, toy_file):
    with fake.Model.open(toy_file()) as model, model.context(64) as context:
        yield context


def test_the_mean_and_its_length(context):
    mean = context.embed(TEXT, normalize=False)
    assert mean.dtype == np.float32 and mean.tolist() == [105 + j for j in range(32)]
    unit = context.embed(TEXT)
    assert unit.dtype == np.float32 and unit.shape == (32,)
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-6)
    assert unit == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_a_vector_of_zeros_stays_one(context):
    from importlib import import_module

    unit_vector = import_module(type(context).__module__).unit_vector
    assert unit_vector(np.zeros(3, dtype=np.float32)).tolist() == [0, 0, 0]


def test_the_context_holds_the_text_without_outputs(context, fake):
    context.prefill([65, 66, 67])
    changes = context.changes
    context.embed(TEXT)
    assert context.tokens == TEXT and context.changes > changes
    with pytest.raises(fake.UsageError, match="the last run left 0 rows"):
        context.hidden()
    context.decode(97)
    assert context.logits().argmax() == 98


def test_wrong_tokens_drop_nothing(context, fake):
    context.prefill([65, 66])
    with pytest.raises(fake.ContextFullError):
        context.embed([97] * 65)
    with pytest.raises(fake.UsageError):
        context.embed([])
    with pytest.raises(fake.UsageError, match="normalize"):
        context.embed(TEXT, normalize=2)
    assert context.tokens == [65, 66]


def test_cancel(context, strings, fake, under_way):
    thread, outcome = under_way(lambda: context.embed([97] * 60))
    with within(PATIENCE / 2):
        context.cancel()
        thread.join()
    assert isinstance(outcome[0], fake.Cancelled)
    strings.slow(0)
    assert len(context) < 60
    assert context.embed(TEXT, normalize=False)[0] == 105


# ---- over the library ----


def one_by_one(model, ids, **options):
    with model.context(n_ctx=512, **options) as context:
        total = np.zeros(model.n_embd)
        for token in ids:
            context.decode(token)
            total += context.hidden().astype(np.float64)
    return (total / len(ids)).astype(np.float32)


@pytest.mark.parametrize(
    "name, kv_type", [(name, "f16") for name in SHAPES] + [(SHAPES[0], "q8_0")]
)
def test_the_mean_of_the_rows_in_any_chunks(pillion, name, kv_type):
    with pillion.Model.open(model_path(name)) as model:
        ids = prompt(name)
        expected = one_by_one(model, ids, kv_type=kv_type, n_threads=1)
        assert expected.any()
        for n_batch, threads in [(512, 2), (40, 3), (16, 1), (7, 2), (299, 1)]:
            options = {"n_batch": n_batch, "n_threads": threads, "kv_type": kv_type}
            with model.context(n_ctx=512, **options) as context:
                context.prefill(ids[:20])  # what was there before is no part of it
                mean = context.embed(ids, normalize=False)
                assert mean.tobytes() == expected.tobytes(), options
                assert context.tokens == ids


def test_the_text_goes_on_after_it(pillion):
    """The cache that it leaves is the one a prompt leaves."""
    with pillion.Model.open(model_path(SHAPES[0])) as model:
        ids = prompt(SHAPES[0], 60)
        with model.context(n_ctx=128) as one, model.context(n_ctx=128) as other:
            one.prefill(ids)
            other.embed(ids)
            for context in (one, other):
                context.decode(5)
            assert one.logits().tobytes() == other.logits().tobytes()
            assert other.sync([*ids[:40], 9]) == 40


def test_one_token(pillion):
    with pillion.Model.open(model_path(SHAPES[0])) as model, model.context(n_ctx=64) as context:
        context.prefill([7])
        row = context.hidden()
        assert context.embed([7], normalize=False).tobytes() == row.tobytes()


@pytest.mark.parametrize("device", ["cuda:sim", "htp:sim"])
def test_on_a_device(pillion, device):
    """A graph without a head compiles and runs there too."""
    needs(pillion, device)
    ids = prompt("tiny-e2b", 70)
    with open_model(pillion, "tiny-e2b", "cpu") as cpu, cpu.context(128) as context:
        want = context.embed(ids)
    with open_model(pillion, "tiny-e2b", device) as model:
        for n_batch in (512, 40):
            with model.context(128, n_batch=n_batch) as context:
                assert nmse(context.embed(ids), want) < 1e-5


def test_on_two_devices(pillion):
    needs(pillion, "cuda:sim")
    ids = prompt("tiny-e2b", 70)
    with open_model(pillion, "tiny-e2b", "cpu") as cpu, cpu.context(128) as context:
        want = context.embed(ids)
    with (
        pillion.Model.open(model_path("tiny-e2b"), device="cuda:sim", n_gpu_layers=2) as model,
        model.context(128) as context,
    ):
        assert nmse(context.embed(ids), want) < 1e-5


# ---- LLM ----


def test_texts_bytes_and_ids(toy_llm):
    one = toy_llm.embed("ab")
    assert one.shape == (32,) and one.dtype == np.float32
    ids = toy_llm.tokenize("ab")
    for same in (b"ab", ids, np.array(ids)):
        assert toy_llm.embed(same).tobytes() == one.tobytes()
    several = toy_llm.embed(["ab", ids, "abc"])
    assert (
        several.shape == (3, 32) and several[0].tobytes() == several[1].tobytes() == one.tobytes()
    )
    assert toy_llm.embed(["ab"]).shape == (1, 32)
    raw = toy_llm.embed("ab", normalize=False)
    assert np.linalg.norm(raw) > 2 and raw / np.linalg.norm(raw) == pytest.approx(one, abs=1e-6)


def test_chats_keep_their_cache(toy_llm):
    stream = toy_llm.complete("xy", max_tokens=4, temperature=0, stream=True)
    text = next(stream)["choices"][0]["text"]
    toy_llm.embed("something else")
    text += "".join(chunk["choices"][0]["text"] for chunk in stream)
    assert text == "zabc"
    again = toy_llm.complete("xyzab", max_tokens=1, temperature=0)
    assert again["timings"]["cache_n"] >= 5


def test_openais_shape(toy_llm):
    ids = toy_llm.tokenize("abc")
    result = toy_llm.create_embedding(["abc", ids])
    assert result["object"] == "list" and result["model"] == toy_llm.name
    assert result["usage"] == {"prompt_tokens": 2 * len(ids), "total_tokens": 2 * len(ids)}
    first, second = result["data"]
    assert (first["object"], first["index"], second["index"]) == ("embedding", 0, 1)
    assert first["embedding"] == second["embedding"] == toy_llm.embed("abc").tolist()
    assert toy_llm.create_embedding("abc", model="m")["model"] == "m"


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (3, "text is 3; it must be a string"),
        ([], r"text is \[\]"),
        (["a", 3], r"text\[1\] is 3; it must be a string, UTF-8 bytes or a list of token ids"),
        ([["a"]], r"text\[0\]\[0\] is 'a'"),
        ({"a": 1}, "text is"),
        ("", None),
    ],
)
def test_wrong_texts(toy_llm, fake, wrong, sentence):
    if sentence is None:
        assert toy_llm.embed(wrong).shape == (32,)  # the token that texts begin with
        return
    with pytest.raises(fake.UsageError, match=sentence):
        toy_llm.embed(wrong)


def test_a_text_that_is_too_long(toy_llm, fake):
    with pytest.raises(fake.ContextFullError, match="the text has 300 tokens, .* holds 256"):
        toy_llm.embed([97] * 300)


def test_the_context_grows_with_the_texts(fake, strings, toy_file):
    with fake.LLM(toy_file(), n_ctx=2048) as llm:
        before = strings.live
        short = llm.embed("ab")
        assert llm.embedder._context.n_ctx == 512 and strings.live == before + 1
        assert llm.embed([97] * 1500).shape == (32,)
        assert llm.embedder._context.n_ctx == 2048 and strings.live == before + 1
        assert llm.embed("ab").tobytes() == short.tobytes()


def test_closing_frees_it(fake, strings, toy_file):
    llm = fake.LLM(toy_file())
    llm.embed("ab")
    llm.close()
    assert strings.live == 0


def test_similar_texts_are_near(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=256) as llm:
        a, b, c = llm.embed(["a ship on the sea", "the ship is at sea", "7 + 5 = 12"])
        assert a @ a == pytest.approx(1, abs=1e-5)
        assert a @ b > a @ c


def test_only_the_caller_is_cancelled(toy_llm, strings, fake, under_way):
    me, another = object(), object()
    thread, outcome = under_way(lambda: toy_llm.embedder.embed([97] * 60, caller=me))
    toy_llm.embedder.cancel(another)
    assert outcome == []
    with within(PATIENCE / 2):
        toy_llm.embedder.cancel(me)
        thread.join()
    assert isinstance(outcome[0], fake.Cancelled)
    toy_llm.embedder.cancel(me)
    strings.slow(0)
    assert toy_llm.embed("ab").shape == (32,)


def test_between_the_turns_of_a_stream(toy_llm):
    """The engine's thread does it while an answer is under way."""
    import threading

    stream = toy_llm.complete("xy", max_tokens=100, temperature=0, stream=True)
    next(stream)
    threads, engine = [], toy_llm.engine
    engine.between_turns(lambda: threads.append(threading.current_thread().name))
    assert threads == ["pillion-engine"]
    vectors = toy_llm.embed(["ab", "cd"])
    assert len(vectors) == 2 and len(list(stream)) > 90
    with pytest.raises(ZeroDivisionError):
        engine.between_turns(lambda: 1 // 0)
    assert toy_llm.complete("x", max_tokens=1)["choices"]


def test_closing_the_engine_ends_the_wait(fake, strings, toy_file, under_way):
    llm = fake.LLM(toy_file(), n_ctx=256)
    thread, outcome = under_way(lambda: llm.complete("x" * 20, max_tokens=100))
    waiting = in_thread(lambda: llm.embed("ab"))
    strings.slow(0)
    llm.close()
    with within(PATIENCE / 2):
        thread.join()
        waiting[0].join()
    (came,) = waiting[1]
    assert isinstance(came, fake.Closed) or len(came) == 32
    with pytest.raises(fake.Closed):
        llm.embed("ab")
    assert strings.live == 0
