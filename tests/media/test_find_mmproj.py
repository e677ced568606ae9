"""`find_mmproj`: the mmproj file beside a model, and what is said of those that do not fit."""

import os
import shutil

import media_files
import pytest
from made_files import remade

NAME = "tiny-mm-e2b"


@pytest.fixture
def folder(pillion, tmp_path):
    """A folder with a model of width 64 and its drafter."""
    shutil.copy(media_files.target(NAME), tmp_path / "model.gguf")
    shutil.copy(media_files.assistant(NAME), tmp_path / "assistant.gguf")
    return tmp_path


def put(folder, name="mmproj-F32.gguf", outtype="f32"):
    return shutil.copy(media_files.mmproj(NAME, outtype), folder / name)


def other(folder, name="mmproj-other.gguf", **keys):
    """An mmproj file with other keys: `vision__projector_type` for clip.vision.projector_type."""
    changed = {f"clip.{key.replace('__', '.')}": value for key, value in keys.items()}
    remade(media_files.mmproj(NAME), folder / name, changed)
    return folder / name


def test_none_is_there(pillion, folder):
    (folder / "mmproj-not.gguf").write_bytes(b"no model")
    assert pillion.find_mmproj(folder / "model.gguf") is None


def test_the_one_beside_the_model(pillion, folder):
    path = put(folder, "towers.gguf", "q8_0")
    assert pillion.find_mmproj(folder / "model.gguf") == path
    assert pillion.find_drafter(folder / "model.gguf") == folder / "assistant.gguf"
    with pillion.Model.open(folder / "model.gguf") as model:
        assert pillion.find_mmproj(model) == path


def test_beside_what_a_link_points_to(pillion, folder, tmp_path_factory):
    path = put(folder)
    elsewhere = tmp_path_factory.mktemp("links")
    os.symlink(folder / "model.gguf", elsewhere / "link.gguf")
    assert pillion.find_mmproj(elsewhere / "link.gguf") == path
    os.symlink(path, elsewhere / "mmproj.gguf")  # the same file
    assert pillion.find_mmproj(elsewhere / "link.gguf").samefile(path)


def test_two_that_fit(pillion, folder):
    names = put(folder, "mmproj-A.gguf"), put(folder, "mmproj-B.gguf", "f16")
    with pytest.raises(pillion.PairingError) as error:
        pillion.find_mmproj(folder / "model.gguf")
    assert all(str(name) in str(error.value) for name in names)
    assert "name the one to use" in str(error.value)


def test_one_that_fits_among_others(pillion, folder):
    from pillion import models

    path = put(folder)
    shutil.copy(models.TINY_MMPROJ, folder / "mmproj-tiny.gguf")
    assert pillion.find_mmproj(folder / "model.gguf") == path


def test_of_another_model(pillion, folder):
    from pillion import models

    shutil.copy(models.TINY_MMPROJ, folder / "mmproj-tiny.gguf")
    sentence = "mmproj-tiny.gguf is for models of width 192, this one has width 64"
    with pytest.raises(pillion.PairingError, match=sentence):
        pillion.find_mmproj(folder / "model.gguf")


@pytest.mark.parametrize(
    "keys, sentence",
    [
        ({"vision__projector_type": "gemma3"}, 'vision projector "gemma3" is not supported'),
        ({"audio__projector_type": "ultravox"}, 'audio projector "ultravox" is not supported'),
        ({"vision__projection_dim": 128}, "128"),
    ],
)
def test_unknown_projectors(pillion, folder, keys, sentence):
    path = other(folder, **keys)
    with pytest.raises(pillion.PairingError, match=sentence) as error:
        pillion.find_mmproj(folder / "model.gguf")
    assert path.name in str(error.value)


def test_an_older_key(pillion, folder):
    """One projector_type for the whole file, as converters once wrote it."""
    path = folder / "mmproj-old.gguf"
    keys = {"clip.vision.projector_type": None, "clip.projector_type": "gemma4v"}
    remade(media_files.mmproj("tiny-mm-31b"), path, keys)
    assert pillion.find_mmproj(folder / "model.gguf") == path


def test_given_as_a_model_or_a_drafter(pillion):
    path = media_files.mmproj(NAME)
    with pytest.raises(pillion.UnsupportedModelError, match="it is an mmproj file, the towers"):
        pillion.LLM(path)
    with pytest.raises(pillion.PillionError, match="it is an mmproj file, the towers"):
        pillion.LLM(media_files.target(NAME), drafter=path, n_ctx=64)


def test_a_model_given_as_mmproj(pillion):
    with pytest.raises(pillion.UnsupportedModelError, match='"gemma4", an mmproj file has "clip"'):
        pillion.Mmproj(media_files.target(NAME))


def test_wrong_arguments(pillion, folder):
    with pytest.raises(pillion.UsageError, match="model"):
        pillion.find_mmproj(7)
    with pytest.raises(pillion.ModelNotFoundError):
        pillion.find_mmproj(folder / "none.gguf")
