"""Models of the hub behind Ray and LangChain: the arguments of `LLM.from_pretrained` reach it."""

import numpy as np
import pytest

REPOSITORY = "somebody/gemma-4-GGUF"
OF_HUB = {"filename": "*Q4_0.gguf", "revision": "main"}
SIZES = {"n_ctx": 256, "n_threads": 1}


@pytest.fixture
def asked(pillion, tiny_target, monkeypatch):
    """What `LLM.from_pretrained` was called with, each time."""
    calls = []

    def opened(cls, repo_id, filename=None, revision=None, **options):
        calls.append((repo_id, filename, revision, options))
        return cls(tiny_target, **options)

    monkeypatch.setattr(pillion.LLM, "from_pretrained", classmethod(opened))
    return calls


def test_predictor(asked):
    from pillion.integrations.ray import Predictor

    options = {"max_tokens": 4, "temperature": 0, **SIZES}
    predict = Predictor(REPOSITORY, prompt="q", from_pretrained=OF_HUB, **options)
    assert predict({"q": np.array(["In the"])})["text"][0]
    predict.close()
    assert asked == [(REPOSITORY, "*Q4_0.gguf", "main", {"parallel": 4, **SIZES})]


def test_chat_model_and_embeddings(asked):
    pytest.importorskip("langchain_core", reason="the extra `langchain` is not installed")
    from pillion.integrations.langchain import ChatPillion, PillionEmbeddings

    with ChatPillion(REPOSITORY, from_pretrained={}, drafter=None, max_tokens=4, **SIZES) as chat:
        assert chat.model == REPOSITORY and chat.invoke("Who?").content
    embeddings = PillionEmbeddings(REPOSITORY, from_pretrained=OF_HUB, **SIZES)
    embeddings.close()
    assert asked == [
        (REPOSITORY, None, None, {"drafter": None, **SIZES}),
        (REPOSITORY, "*Q4_0.gguf", "main", SIZES),
    ]


def test_deployment(pillion):
    pytest.importorskip("ray.serve", reason="the extra `ray` is not installed")
    from pillion.integrations.ray import deployment

    found = deployment(REPOSITORY, from_pretrained=OF_HUB)._bound_deployment
    assert found.init_args[0] == REPOSITORY
    assert found.init_args[2] == {"from_pretrained": OF_HUB, "parallel": 4}


def test_wrong_arguments(pillion, tiny_target):
    from pillion.integrations.ray import Predictor

    for model, of_hub, said in (
        (tiny_target, {}, "it must be a repository of the hub"),
        (REPOSITORY, "*Q4_0.gguf", "it must be a mapping of arguments of LLM.from_pretrained"),
    ):
        with pytest.raises(pillion.UsageError, match=said):
            Predictor(model, prompt="q", from_pretrained=of_hub)


def test_a_name_where_a_file_is_expected(pillion):
    from pillion.integrations.ray import Predictor

    with pytest.raises(pillion.UsageError, match="also needs from_pretrained={}, or"):
        Predictor(REPOSITORY, prompt="q")
