"""The mmproj file of a model, from its repository."""

import hub_standin
import pytest
from hub_standin import ALONE, PAIR

import pillion as pillion_package


def projector(standin, repo, name, **more):
    path = standin.folder / repo / name
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"general.architecture": "clip", "general.type": "mmproj", **more}
    path.write_bytes(hub_standin.gguf(**about))


def test_it_comes_when_it_is_asked_for(pull):
    assert pull(PAIR).mmproj is None and pull(PAIR).no_mmproj == "none was asked for"
    found = pull(PAIR, mmproj="auto")
    assert found.mmproj.name == "mmproj-F16.gguf" and found.no_mmproj == ""
    assert found.mmproj.parent == found.path.parent  # where LLM(path) looks for it
    assert found.as_dict()["mmproj"] == str(found.mmproj)


def test_a_repository_without_one(pull):
    found = pull(ALONE, mmproj="auto", drafter=None)
    assert found.mmproj is None and found.no_mmproj == f"{ALONE} has no mmproj file that fits"


def test_the_type_and_the_width_decide(pull, standin):
    for name in ("mmproj-F32.gguf", "mmproj-Q8_0.gguf", "deep/mmproj-BF16.gguf"):
        projector(standin, PAIR, name, **{"clip.vision.projection_dim": 192})
    projector(standin, PAIR, "mmproj-BF16.gguf", **{"clip.vision.projection_dim": 1536})
    projector(standin, PAIR, "mmproj-F16.gguf", **{"clip.audio.projection_dim": 192})
    options = {"drafter": None}
    assert pull(PAIR, mmproj="auto", **options).mmproj.name == "mmproj-F16.gguf"
    (standin.folder / PAIR / "mmproj-F16.gguf").unlink()
    assert pull(PAIR, mmproj="auto", revision="main", **options).mmproj.name == "mmproj-Q8_0.gguf"


def test_one_by_name(pull, standin, tmp_path):
    projector(standin, PAIR, "mmproj-Q8_0.gguf")
    options = {"drafter": None}
    for wanted in ("mmproj-Q8_0.gguf", "*Q8_0.gguf"):
        assert pull(PAIR, mmproj=wanted, **options).mmproj.name == "mmproj-Q8_0.gguf"
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"GGUF")
    assert pull(PAIR, mmproj=mine, **options).mmproj == mine
    assert pull(PAIR, mmproj=str(mine), **options).mmproj == mine
    with pytest.raises(pillion_package.NotOnHubError, match="has no GGUF file mmproj-Q2_K.gguf"):
        pull(PAIR, mmproj="mmproj-Q2_K.gguf", **options)
    with pytest.raises(pillion_package.NotOnHubError, match="is no mmproj file"):
        pull(PAIR, mmproj="gemma-4-tiny-it-Q4_0.gguf", **options)
    with pytest.raises(pillion_package.UsageError, match="mmproj is 5"):
        pull(PAIR, mmproj=5, **options)


def test_an_llm_that_wants_none(pillion, standin, cache):
    options = {"endpoint": standin.url, "cache_dir": cache, "n_ctx": 64}
    with pillion.LLM.from_pretrained(PAIR, mmproj=None, **options) as llm:
        assert llm.media.towers.path is None
    assert not list(cache.rglob("mmproj*"))
    with pillion.LLM.from_pretrained(PAIR, **options) as llm:
        assert llm.media.towers.path.name == "mmproj-F16.gguf" and not llm.media.towers.loaded
