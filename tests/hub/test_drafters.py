"""The assistant of a model on the hub: where it is looked for, and that the header decides."""

import logging

import hub_standin
import pytest
from hub_standin import ALONE, PAIR, SISTER

KEY = b"gemma4-assistant.embedding_length_out"


@pytest.fixture(scope="module")
def models(pillion, tiny_target):
    from pillion.models import TINY_ASSISTANT

    assistant = TINY_ASSISTANT.read_bytes()
    at = assistant.index(KEY) + len(KEY) + 4
    wide = assistant[:at] + (256).to_bytes(4, "little") + assistant[at + 4 :]
    return {"target": tiny_target.read_bytes(), "assistant": assistant, "wide": wide}


@pytest.fixture
def make(standin, models):
    """Makes a repository; the values are names in `models`."""

    def call(repo, **files):
        for name, which in files.items():
            path = standin.folder / repo / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(models.get(which) or which)

    return call


def test_in_the_repository(pull):
    found = pull(PAIR)
    assert found.drafter.name == "gemma-4-tiny-it-assistant-Q4_0.gguf"
    assert found.drafter_repo == PAIR and found.drafter.parent == found.path.parent


def test_in_the_sister_repository(pull):
    found = pull(ALONE)
    assert found.drafter_repo == SISTER and found.drafter.is_file()


def test_in_a_repository_of_the_owner_of_the_base_model(pull, make, standin):
    make("me/my-gemma-GGUF", **{"my-Q8_0.gguf": "target"})
    (standin.folder / "me/my-gemma-GGUF/_repo.json").write_text(
        '{"base_model": "maker/gemma-9-it"}'
    )
    make("maker/gemma-9-it-assistant-GGUF", **{"g-assistant-F16.gguf": "assistant"})
    make("maker/gemma-9-it-GGUF", **{"g-Q8_0.gguf": "target"})
    assert pull("me/my-gemma-GGUF").drafter_repo == "maker/gemma-9-it-assistant-GGUF"


def test_strangers_are_not_asked(pull, make):
    make("me/gemma-9-it-GGUF", **{"g-Q8_0.gguf": "target"})
    make("stranger/gemma-9-it-assistant-GGUF", **{"g-assistant-F16.gguf": "assistant"})
    found = pull("me/gemma-9-it-GGUF")
    assert found.drafter is None
    assert found.no_drafter == (
        "neither me/gemma-9-it-GGUF nor a sister repository has an assistant that fits"
    )


def test_the_best_of_several(pull, make):
    """Near the root, then of the model's quantization, then in Q8_0."""
    drafters = {f"MTP__g-MTP-{q}.gguf": "assistant" for q in ("F16", "Q8_0", "Q4_0")}
    make("o/g-GGUF", **{"g-Q4_0.gguf": "target", "g-Q5_K_M.gguf": "target", **drafters})
    assert pull("o/g-GGUF:Q4_0").drafter.name == "g-MTP-Q4_0.gguf"
    assert pull("o/g-GGUF:Q5_K_M").drafter.name == "g-MTP-Q8_0.gguf"
    make("o/g-GGUF", **{"mtp-g.gguf": "assistant"})
    assert pull("o/g-GGUF:Q4_0").drafter.name == "mtp-g.gguf"


def test_the_header_decides(pull, make, standin):
    """A target, an assistant of wider targets and something else, all under fitting names: only
    their beginnings are fetched."""
    names = {
        "a-assistant-Q8_0.gguf": "target",
        "b-assistant-Q8_0.gguf": "wide",
        "c-assistant-Q8_0.gguf": b"no model",
        "d-assistant-Q8_0.gguf": "assistant",
    }
    make("o/g-GGUF", **{"g-Q4_0.gguf": "target", **names})
    assert pull("o/g-GGUF").drafter.name == "d-assistant-Q8_0.gguf"
    for name in "abc":
        assert standin.served("GET", f"cdn/o/g-GGUF/{name}-assistant") == ["bytes=0-65535"]


def test_none_fits(pull, make):
    make("o/g-GGUF", **{"g-Q4_0.gguf": "target", "g-assistant-Q8_0.gguf": "wide"})
    found = pull("o/g-GGUF")
    assert found.drafter is None and "has an assistant that fits" in found.no_drafter


def test_other_models_have_none(pull, make, standin):
    make("o/llama-GGUF", **{"l-Q8_0.gguf": hub_standin.gguf(**{"general.architecture": "llama"})})
    found = pull("o/llama-GGUF")
    assert found.no_drafter == "there are assistants for Gemma 4, and this is llama"
    assert standin.served("GET", "search=") == []


def test_a_drafter_alone_has_none(pull):
    found = pull(SISTER)
    assert found.kind == "drafter" and found.drafter is None


def test_a_sister_that_cannot_be_had_is_no_error(pull, standin):
    (standin.folder / SISTER / "_repo.json").write_text('{"gated": true}')
    found = pull(ALONE)
    assert found.drafter is None and f"{SISTER} is gated" in found.no_drafter


def test_by_name(pull):
    found = pull(ALONE, drafter=f"{PAIR}:Q4_0")
    assert found.drafter_repo == PAIR
    assert found.drafter.name == "gemma-4-tiny-it-assistant-Q4_0.gguf"
    assert pull(ALONE, drafter=SISTER).drafter_repo == SISTER
    assert pull(PAIR, drafter=f"{PAIR}:*assistant*").drafter.name.endswith("assistant-Q4_0.gguf")


def test_by_name_that_is_not_there(pull, pillion, refused):
    sentence = refused(pillion.NotOnHubError, pull, ALONE, drafter="o/none")
    assert "shows no model repository o/none" in sentence


def test_a_path_and_none(pull, tiny_target):
    assert pull(ALONE, drafter=tiny_target).drafter == tiny_target
    assert pull(ALONE, drafter=str(tiny_target)).drafter == tiny_target
    found = pull(ALONE, drafter=None)
    assert (found.drafter, found.no_drafter) == (None, "none was asked for")


# ---- LLM.from_pretrained ----


@pytest.fixture
def of_hub(standin, cache):
    return {"endpoint": standin.url, "cache_dir": cache, "n_ctx": 128}


def test_an_llm_by_name(pillion, of_hub, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=128) as llm:
        text = llm.generate("In the", max_tokens=12, temperature=0).run().text
    steps = []
    options = {**of_hub, "download_progress": lambda *step: steps.append(step)}
    for repo in (ALONE, PAIR):
        with pillion.LLM.from_pretrained(repo, "*Q4_0.gguf", **options) as llm:
            assert llm.generate("In the", max_tokens=12, temperature=0).run().text == text
            assert llm.speculation.kind == "mtp" and llm.n_ctx() == 128
    assert {name for name, _, _ in steps} == {
        "gemma-4-alone-it-Q4_0.gguf",
        "gemma-4-alone-it-assistant-Q8_0.gguf",
        "gemma-4-tiny-it-Q4_0.gguf",
        "gemma-4-tiny-it-assistant-Q4_0.gguf",
    }


def test_an_llm_with_another_drafter(pillion, of_hub):
    from pillion.models import TINY_ASSISTANT

    for drafter, kind in ((None, ""), ("lookup", "lookup"), (f"{PAIR}:Q4_0", "mtp")):
        with pillion.LLM.from_pretrained(ALONE, drafter=drafter, **of_hub) as llm:
            assert llm.speculation.kind == kind
    with pillion.Model.open(TINY_ASSISTANT) as drafter:
        with pillion.LLM.from_pretrained(ALONE, drafter=drafter, **of_hub) as llm:
            assert llm.speculation.kind == "mtp"


def test_a_drafter_that_fits_by_width_alone(pillion, of_hub, monkeypatch, caplog):
    """The pair refuses it: found, it is left out with a warning; asked for, it is an error."""
    from pillion.llm import opening

    make_slots = opening._make_slots

    def refuse(opened, parts, found):
        if parts.drafter is not None:
            raise pillion.PairingError("the vocabularies differ")
        make_slots(opened, parts, found)

    monkeypatch.setattr(opening, "_make_slots", refuse)
    with caplog.at_level(logging.WARNING, "pillion"):
        with pillion.LLM.from_pretrained(ALONE, **of_hub) as llm:
            assert llm.pair is None
    assert "does not fit: the vocabularies differ" in caplog.text
    with pytest.raises(pillion.PairingError):
        pillion.LLM.from_pretrained(ALONE, drafter=SISTER, **of_hub)


def test_wrong_options_of_an_llm_by_name(pillion, of_hub, refused):
    of_pillion = pillion.LLM.from_pretrained
    sentence = refused(pillion.UsageError, of_pillion, PAIR, local_dir="x", **of_hub)
    assert "stay in the cache of huggingface_hub, which cache_dir or HF_HOME moves" in sentence
    sentence = refused(pillion.UsageError, of_pillion, PAIR, n_ctxx=5, **of_hub)
    assert "did you mean n_ctx?" in sentence
    sentence = refused(pillion.UsageError, of_pillion)
    assert sentence.startswith("LLM.from_pretrained() cannot be called like this")
