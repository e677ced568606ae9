"""Wrong values of what the integrations take, each one sentence; and copies of a `ChatPillion`."""

import copy

import pytest


@pytest.fixture(scope="module")
def langchain(pillion):
    pytest.importorskip("langchain_core", reason="the extra `langchain` is not installed")
    from pillion.integrations import langchain

    return langchain


@pytest.fixture(scope="module")
def llm(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=64) as llm:
        yield llm


@pytest.mark.parametrize(
    "options, begin",
    [
        ({"temperature": "x"}, "temperature is 'x': "),
        ({"max_tokens": 2.5}, "max_tokens is 2.5: "),
        ({"stop": 3}, "stop is 3: "),
        ({"model_kwargs": 3}, "model_kwargs is 3: "),
        ({"llm_options": [1]}, "llm_options is [1]; "),
    ],
)
def test_fields_of_a_chat_model(langchain, llm, pillion, options, begin):
    with pytest.raises(pillion.UsageError) as caught:
        langchain.ChatPillion(llm=llm, **options)
    assert str(caught.value).startswith(begin) and "\n" not in str(caught.value)
    assert not llm.closed


@pytest.mark.parametrize("make", [copy.copy, lambda chat: chat.model_copy()])
def test_a_copys_close_leaves_the_model_open(langchain, tiny_target, make):
    with langchain.ChatPillion(tiny_target, n_ctx=64, max_tokens=1) as chat:
        make(chat).close()
        assert chat.invoke("a").content


@pytest.mark.parametrize("texts", [3, "abc", b"abc", [3], ["a", None]])
def test_texts_to_embed(langchain, llm, pillion, texts):
    with pytest.raises(pillion.UsageError, match="texts"):
        langchain.PillionEmbeddings(llm=llm).embed_documents(texts)


@pytest.mark.parametrize(
    "options, part",
    [
        ({"columns": {"finish_reason": "text"}}, "name 'text' twice"),
        ({"columns": [["a"]]}, "a name in columns is ['a']"),
    ],
)
def test_columns_of_a_predictor(pillion, tiny_target, options, part):
    from pillion.integrations.ray import Predictor

    with pytest.raises(pillion.UsageError) as caught:
        Predictor(tiny_target, prompt="p", **options)
    assert part in str(caught.value)


def test_a_column_that_is_none(pillion):
    from pillion.integrations.ray.batches import values_of

    with pytest.raises(pillion.UsageError, match="the batch's column 'p' is 3"):
        values_of({"p": 3}, "p")
