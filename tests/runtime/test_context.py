"""`Context`: running, outputs, stepping back, one caller at a time."""

import inspect
import numpy as np
import pytest

from patience import PATIENCE, within


@pytest.fixture
def model(fake, strings, toy_file):
    with fake.Model.open(toy_file()) as model:
        yield model


@pytest.fixture
def context(model):
    with model.context(64) as context:
        yield context


def test_prefill_decode_logits(context):
    context.prefill([97, 98], outputs=2)
    assert (len(context), context.n_past, context.n_ctx, context.tokens) == (2, 2, 64, [97, 98])
    assert context.logits(0).argmax() == 98
    assert (
        context.logits(1).argmax() == context.logits().argmax() == context.logits(-1).argmax() == 99
    )
    context.decode(99)
    assert context.logits().argmax() == 100
    context.decode([100, 101, 102])
    assert [int(context.logits(row).argmax()) for row in range(3)] == [101, 102, 103]
    logits = context.logits()
    assert logits.dtype == np.float32 and logits.shape == (261,)
    assert context.hidden().shape == (32,)


def test_tokens_of_any_kind(context, fake):
    context.prefill((97, 98))
    context.prefill(np.array([97, 98], dtype=np.int64))
    context.prefill(np.array([97, 98, 99], dtype=np.int32)[::2])
    context.prefill(iter([97]))
    assert context.tokens == [97, 98, 97, 98, 97, 99, 97]
    for wrong in ([1.5], [[1, 2]], ["a"], [True]):
        with pytest.raises(fake.UsageError, match="token ids"):
            context.prefill(wrong)
    with pytest.raises(fake.UsageError, match="32 bits"):
        context.prefill([2**40])
    with pytest.raises(fake.UsageError, match="vocabulary"):
        context.prefill([300])
    with pytest.raises(fake.UsageError):
        context.prefill([])


def test_rows_that_do_not_exist(context, fake):
    with pytest.raises(fake.UsageError, match="left 0 rows"):
        context.logits()
    context.prefill([97, 98, 99], outputs=2)
    for row in (2, -3):
        with pytest.raises(fake.UsageError, match="left 2 rows"):
            context.logits(row)
    context.rewind(1)
    with pytest.raises(fake.UsageError, match="left 0 rows"):
        context.logits()
    context.prefill([97], outputs=0)
    with pytest.raises(fake.UsageError):
        context.hidden()


def test_a_view_is_read_only_and_outlives_the_context(context, strings):
    context.prefill([97])
    copy, view = context.logits(), context.logits(copy=False)
    assert np.array_equal(copy, view)
    with pytest.raises(ValueError):
        view[0] = 1
    context.decode(98)
    assert view.argmax() == 99 and copy.argmax() == 98
    before = strings.live
    context.close()
    assert strings.live == before
    assert view.argmax() == 99
    del view
    assert strings.live == before - 1


def test_sync_reuses_the_common_prefix(context, strings):
    assert context.sync([97, 98, 99]) == 0
    assert context.sync([97, 98, 100, 101]) == 2
    assert context.tokens == [97, 98, 100, 101]
    assert context.sync([97, 98, 100, 101]) == 3
    assert strings.evaluated == 3 + 2 + 1
    assert context.logits().argmax() == 102


def test_rewind_and_clear(context, fake):
    context.prefill([97, 98, 99])
    context.rewind(1)
    assert context.tokens == [97]
    context.clear()
    assert context.tokens == [] and len(context) == 0
    with pytest.raises(fake.UsageError):
        context.rewind(-1)
    with pytest.raises(fake.UsageError):
        context.rewind(5)


def test_full(context, fake):
    context.prefill([97] * 60)
    with pytest.raises(fake.ContextFullError):
        context.prefill([97] * 5)
    assert len(context) == 60
    context.prefill([97] * 4)
    with pytest.raises(fake.ContextFullError):
        context.decode(97)


def test_logprobs_and_score(context, fake):
    context.prefill([97])
    found = context.logprobs(k=3, token=100)
    logits = context.logits().astype(float)
    expected = logits - np.log(np.exp(logits).sum())
    assert [token for token, _ in found.top] == [98, 97, 99]
    assert found.top[0][1] == pytest.approx(expected[98], abs=1e-5)
    assert found.token == pytest.approx(expected[100], abs=1e-5)
    assert context.logprobs().top == [] and context.logprobs().token is None
    with pytest.raises(fake.UsageError):
        context.logprobs(k=262)
    scores = context.score([97, 98, 99, 97])
    assert scores.shape == (3,)
    assert scores[0] > -0.1 and scores[1] > -0.1 and scores[2] < -7
    with pytest.raises(fake.UsageError, match="two tokens"):
        context.score([97])


def test_arguments_are_checked(model, fake):
    with pytest.raises(fake.UsageError, match="'q4'.*'f16' or 'q8_0'"):
        model.context(kv_type="q4")
    with pytest.raises(fake.UsageError, match="flash_attn"):
        model.context(flash_attn="maybe")
    with pytest.raises(fake.UsageError, match="n_ctx"):
        model.context(-1)
    with pytest.raises(
        fake.UsageError, match="n_snapshots is 257; it must be 0 .none. to 256, or None"
    ):
        model.context(16, n_snapshots=257)
    model.context(16, n_snapshots=0).close()
    for flash_attn in ("auto", "on", "off", True, False):
        model.context(
            16,
            flash_attn=flash_attn,
            kv_type="q8_0",
            swa_full=True,
            n_batch=4,
            n_threads=1,
            n_outputs=2,
        ).close()
    assert model.context().n_ctx == 4096


def test_describe(context):
    described = context.describe()
    assert described["n_ctx"] == 64 and described["scratch_bytes"] > 0
    assert "64 positions" in repr(context)


def test_a_failed_run_leaves_the_context_usable(context, strings, fake):
    context.prefill([97, 98])
    strings.fail("pillion_context_eval", 22, "no memory for 3 GiB")
    with pytest.raises(MemoryError, match="3 GiB"):
        context.decode(99)
    assert context.tokens == [97, 98]
    context.decode(99)
    assert context.logits().argmax() == 100


def test_a_second_caller_gets_busy(context, strings, fake, under_way):
    thread, outcome = under_way(lambda: context.prefill([97] * 40))
    with pytest.raises(fake.Busy):
        context.decode(97)
    with pytest.raises(fake.Busy):
        len(context)
    strings.slow(0)
    thread.join()
    assert outcome == [None]
    assert len(context) == 40


def test_cancel_from_another_thread(context, strings, fake, under_way):
    context.prefill([97])
    thread, outcome = under_way(lambda: context.prefill([97] * 60))
    with within(PATIENCE / 2):
        context.cancel()
        thread.join()
    assert isinstance(outcome[0], fake.Cancelled)
    strings.slow(0)
    assert context.tokens == [97]
    context.decode(98)


def test_cancel_with_nothing_running(context):
    context.cancel()
    context.prefill([97])


def test_two_contexts_run_in_parallel(model, strings, fake, under_way):
    """One begins and ends while the other is inside: the GIL was released."""
    with model.context(64) as first, model.context(64) as second:
        thread, outcome = under_way(lambda: first.prefill([97] * 60))
        second.prefill([97])
        with pytest.raises(fake.Busy):
            len(first)
        strings.slow(0)
        thread.join()
    assert outcome == [None]


def test_closing_during_a_run_frees_nothing_under_its_feet(model, strings, under_way):
    context = model.context(64)
    before = strings.live
    thread, outcome = under_way(lambda: context.prefill([97] * 60))
    context.close()
    assert strings.live == before
    strings.slow(0)
    thread.join()
    assert outcome == [None]
    del thread
    assert strings.live == before - 1


def test_work_and_limits(context, fake):
    row, one, three = (context.work(*how) for how in ((1, 0), (1, 1), (3, 2)))
    head = one.multiply_adds - row.multiply_adds
    # The last layer's query, output and FFN run only for rows with outputs.
    assert head == 32 * 261 + 5 * 32 * 32
    assert three.multiply_adds == 3 * row.multiply_adds + 2 * head
    assert three.weight_bytes == one.weight_bytes == row.weight_bytes + 4 * head
    n = len(context)
    assert three.kv_bytes * (n + 1) == one.kv_bytes * (n + 3) > 0
    assert context.limits() == fake.Limits(read_bytes_per_second=1e9, multiply_adds_per_second=1e10)
    with pytest.raises(fake.UsageError):
        context.work(1, 2)


def test_keywords_are_the_fields_of_the_options(pillion):
    """What type checkers see is what the dataclasses declare."""
    from dataclasses import fields

    from pillion import options

    types = {one.name: one.type for one in fields(options.ContextOptions)}
    sizes = {one.name for one in fields(options.ContextSizes)}
    keywords = {}
    for kind in (options._Keywords, options.SizeKeywords, options.ContextKeywords):
        keywords |= {name: hint.__forward_arg__ for name, hint in kind.__annotations__.items()}
    assert keywords == {name: hint for name, hint in types.items() if name != "n_ctx"}
    assert set(options.SizeKeywords.__annotations__) == sizes - {"n_ctx"}
    of_llm = set(options.LLMContextKeywords.__annotations__)
    assert of_llm == set(types) - {"n_outputs", "collect_activations"}
    parameters = inspect.signature(pillion.LLM.__init__).parameters
    assert of_llm <= set(parameters) and not {"n_outputs", "options"} & set(parameters)
    assert set(types) <= set(inspect.signature(pillion.Context.__init__).parameters)
