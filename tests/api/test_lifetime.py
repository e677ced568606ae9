"""Freed at once, freed once, in any order, and quiet at the end (field case 39)."""

import copy
import gc
import pickle
import subprocess
import sys

import pytest
from build import REPOSITORY


def test_close_frees_at_once(fake, strings, toy_file):
    llm = fake.LLM(toy_file())
    assert strings.live == 4  # model, tokenizer, context, pair
    llm.complete("ab", max_tokens=2)
    llm.close()
    assert strings.live == 0
    llm.close()
    assert llm.closed and "closed" in repr(llm)


def test_with_closes_also_on_errors(fake, strings, toy_file):
    with pytest.raises(RuntimeError), fake.LLM(toy_file()):
        raise RuntimeError
    assert strings.live == 0


def test_use_after_close(fake, strings, toy_file):
    model = fake.Model.open(toy_file())
    tokenizer, context, sampler = model.tokenizer, model.context(16), fake.Sampler()
    for thing in (model, tokenizer, context, sampler):
        thing.close()
        thing.close()
        assert thing.closed
    for use in (
        lambda: model.describe(),
        lambda: model.context(),
        lambda: tokenizer.encode("a"),
        lambda: context.decode(1),
        lambda: context.prefill([1] * 16),
        lambda: context.tokens,
        lambda: context.cancel(),
        lambda: sampler.accept(1),
        lambda: model.__enter__(),
    ):
        with pytest.raises(fake.Closed, match="closed"):
            use()
    assert "closed" in repr(model) and "closed" in repr(context)


def test_llm_after_close(fake, strings, toy_file):
    llm = fake.LLM(toy_file())
    llm.close()
    with pytest.raises(fake.Closed):
        llm.complete("a")
    with pytest.raises(fake.Closed):
        llm.tokenize("a")


def test_a_stream_whose_llm_is_closed(fake, strings, toy_file):
    llm = fake.LLM(toy_file())
    strings.slow(20_000)
    stream = llm.complete("ab", max_tokens=None, stream=True)
    next(stream)
    llm.close()
    with pytest.raises(fake.Closed):
        next(stream)
    assert list(stream) == []


def test_children_keep_working_after_the_model_is_closed(fake, strings, toy_file):
    model = fake.Model.open(toy_file())
    context, tokenizer = model.context(16), model.tokenizer
    model.close()
    context.prefill(tokenizer.encode("ab"))
    assert context.logits().argmax() == 99
    context.close()
    tokenizer.close()
    del model
    assert strings.live == 0


def test_dropped_objects_are_freed(fake, strings, toy_file):
    def use():
        model = fake.Model.open(toy_file())
        context = model.context(16)
        context.prefill([1, 2])
        fake.Sampler().sample(context)
        return context.logits(copy=False)

    assert use() is not None
    gc.collect()
    assert strings.live == 0


def test_a_failed_constructor_leaks_nothing(fake, strings, toy_file):
    strings.fail("pillion_context_new", 22, "no memory")
    with pytest.raises(MemoryError):
        fake.LLM(toy_file())
    gc.collect()
    assert strings.live == 0


def test_copies_are_refused(fake, strings, toy_file):
    """A copy would share the object's state, and another process has none of it."""
    llm = fake.LLM(toy_file())
    stream = llm.complete("ab", stream=True)
    ways = [copy.copy, copy.deepcopy, *(lambda t, p=p: pickle.dumps(t, p) for p in range(6))]
    things = (llm, llm.model, llm.context, llm.tokenizer, fake.Sampler(), stream)
    for thing in (*things, fake.TokenStream(llm.tokenizer), [llm]):
        for way in ways:
            with pytest.raises(fake.UsageError, match="cannot be copied or pickled"):
                way(thing) if thing != [llm] or way is not copy.copy else copy.copy(thing[0])
    llm.close()


def test_exit_with_everything_open_is_silent(toy_file):
    program = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "tests" / "fake")!r})
import build
fake = build.load()
llm = fake.LLM({str(toy_file())!r})
stream = llm.complete("abc", stream=True)
next(stream)
context = llm.model.context(16)
context.prefill([97])
view = context.logits(copy=False)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
