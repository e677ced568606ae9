"""The right mmproj file, the wrong one, several, none: the reason is told, and texts go on."""

import shutil

import media_files
import pytest
from made_files import remade

from pillion.models import SEVEN_PNG, TINY_MMPROJ

ASKED = [{"role": "user", "content": [{"type": "image", "image": str(SEVEN_PNG)}]}]
TEXT = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def folder(tmp_path, tiny_target):
    shutil.copy(tiny_target, tmp_path / "model.gguf")
    return tmp_path


def refused(pillion, folder, kind, words, mmproj="auto"):
    with pillion.LLM(folder / "model.gguf", n_ctx=256, drafter=None, mmproj=mmproj) as llm:
        with pytest.raises(kind, match=words):
            llm.chat(ASKED)
        assert llm.chat(TEXT, max_tokens=2)["choices"]
        with pytest.raises(kind, match=words):  # the same the next time
            llm.chat(ASKED)
        return llm.media.towers.kinds


def test_the_one_beside_the_model(pillion, folder):
    shutil.copy(TINY_MMPROJ, folder / "mmproj-BF16.gguf")
    with pillion.LLM(folder / "model.gguf", n_ctx=256, drafter=None, image_tokens=70) as llm:
        assert llm.media.towers.kinds == {"image", "audio"}
        found = llm.chat(ASKED, temperature=0, max_tokens=4)
        assert found["choices"][0]["message"]["content"] == "seven"


def test_none(pillion, folder):
    assert not refused(pillion, folder, pillion.MediaError, "no mmproj file beside model.gguf")


def test_several(pillion, folder):
    for name in ("mmproj-a.gguf", "mmproj-b.gguf"):
        shutil.copy(TINY_MMPROJ, folder / name)
    words = r"more than one mmproj file beside it: .*mmproj-a.gguf, .*mmproj-b.gguf; name the one"
    assert not refused(pillion, folder, pillion.PairingError, words)
    named = folder / "mmproj-b.gguf"
    with pillion.LLM(folder / "model.gguf", n_ctx=256, mmproj=named, image_tokens=70) as llm:
        assert llm.chat(ASKED, max_tokens=1)["choices"]


@pytest.mark.parametrize("beside", [True, False])
def test_of_another_model(pillion, folder, beside):
    path = folder / "mmproj-other.gguf" if beside else folder.parent / "elsewhere.gguf"
    shutil.copy(media_files.mmproj("tiny-mm-e2b"), path)
    mmproj = "auto" if beside else path
    refused(pillion, folder, pillion.PairingError, "width 64.*192|width 192.*64", mmproj)


def test_of_a_projector_that_does_not_run(pillion, folder):
    path = folder / "mmproj-gemma3.gguf"
    remade(TINY_MMPROJ, path, {"clip.vision.projector_type": "gemma3"})
    refused(pillion, folder, pillion.PairingError, "gemma3")
    refused(pillion, folder, pillion.ModelFileError, "gemma3", path)


def test_what_is_no_mmproj_file(pillion, folder):
    refused(pillion, folder, pillion.ModelFileError, "model.gguf", folder / "model.gguf")
    broken = folder.parent / "broken.gguf"
    broken.write_bytes(TINY_MMPROJ.read_bytes()[:50_000])
    refused(pillion, folder, pillion.ModelFileError, "broken.gguf", broken)


def test_a_file_for_images_alone(pillion, folder):
    path = folder / "mmproj-eyes.gguf"
    shutil.copy(media_files.mmproj("tiny-mm-31b"), path)  # no audio, and another width
    assert pillion.Mmproj(path).has_vision and not pillion.Mmproj(path).has_audio
    refused(pillion, folder, pillion.PairingError, "width")
