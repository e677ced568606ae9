"""What a script may get wrong with `Llama`: states of another model, functions of its own that
raise or answer anything, and arguments of any type."""

import copy
import importlib
import itertools

import numpy as np
import pytest

ANY = [3, 2.5, "x", b"x", [1], {"a": 1}, True, 10**30]


@pytest.fixture(scope="module")
def of_llama(pillion):
    return importlib.import_module("pillion.llama_cpp")


@pytest.fixture(scope="module")
def llama(of_llama, tiny_target):
    with of_llama.Llama(str(tiny_target), n_ctx=128, verbose=False) as llama:
        yield llama


@pytest.mark.parametrize(
    "wrong",
    [
        {"llama_state": b"abc"},
        {"llama_state": None},
        {"llama_state": np.array([10**9], np.int32).tobytes()},
        {"llama_state": np.full(1000, 5, np.int32).tobytes()},
        {"seed": "x"},
        {"seed": 10**30},
        {"scores": None},
        {"scores": np.zeros((3, 7), np.single)},
        {"scores": np.zeros((129, 2048), np.single)},
        {"scores": np.full((3, 2048), "x")},
    ],
)
def test_states_of_another_model(llama, pillion, wrong):
    llama.reset()
    llama.eval([5, 6, 7])
    state = copy.copy(llama.save_state())
    for name, value in wrong.items():
        setattr(state, name, value)
    with pytest.raises(pillion.UsageError):
        llama.load_state(state)
    assert list(llama.eval_tokens) == [5, 6, 7]  # nothing of it was taken


def test_a_processor_that_returns_a_row_of_another_length(llama, pillion):
    llama.reset()
    llama.eval([5, 6])
    with pytest.raises(pillion.UsageError, match="has 5 logits, the vocabulary 2048"):
        llama.sample(logits_processor=[lambda ids, scores: scores[:5]])


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, ValueError])
def test_a_function_that_raises_does_not_stop_the_engine(llama, kind):
    """`sample` runs it between two turns, in the engine's thread."""

    def raises(ids, scores):
        raise kind("mine")

    llama("a", max_tokens=1)  # there is a thread now
    llama.reset()
    llama.eval([5, 6])
    with pytest.raises(kind, match="mine"):
        llama.sample(logits_processor=[raises])
    with pytest.raises(kind, match="mine"):
        list(llama.generate([5, 6], stopping_criteria=[raises]))
    assert llama("a", max_tokens=1)["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("guess", [None, "abc", np.array([np.nan])], ids=repr)
def test_guesses_that_are_no_tokens(of_llama, tiny_target, pillion, guess):
    class Guesses(of_llama.LlamaDraftModel):
        def __call__(self, input_ids, /, **kwargs):
            return guess

    with of_llama.Llama(str(tiny_target), n_ctx=64, draft_model=Guesses()) as llama:
        with pytest.raises(pillion.UsageError, match="what draft_model guessed"):
            llama("a", max_tokens=4)


@pytest.mark.parametrize("value", ANY, ids=repr)
def test_arguments_of_any_type(llama, pillion, value):
    with pytest.raises(pillion.UsageError):
        next(llama.generate([5, 6], stopping_criteria=value))
    with pytest.raises(pillion.UsageError):
        llama.create_chat_completion([{"role": "user", "content": "a"}], functions=value)
    if value is not True:
        with pytest.raises(pillion.UsageError):
            next(itertools.islice(llama.generate([5, 6], reset=value), 1))
