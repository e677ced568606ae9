"""The facts in the first bytes of a file."""

import hub_standin
import pytest


@pytest.fixture(scope="module")
def heads(pillion):
    from pillion.hub import gguf_head

    return gguf_head


def test_the_tiny_pair(pillion, heads, tiny_target):
    from pillion.models import TINY_ASSISTANT

    target, drafter = heads.head_of(tiny_target), heads.head_of(TINY_ASSISTANT)
    assert (target.kind, target.architecture) == ("target", "gemma4")
    assert (drafter.kind, drafter.architecture) == ("drafter", "gemma4-assistant")
    with pillion.Model.open(tiny_target, metadata_only=True) as model:
        assert target.width == drafter.width == model.n_embd


@pytest.mark.parametrize(
    "metadata, kind",
    [
        ({"general.architecture": "clip"}, "mmproj"),
        ({"general.architecture": "llama", "general.type": "adapter"}, "adapter"),
        ({"general.type": "imatrix"}, "other"),
        ({"general.architecture": "llama"}, "target"),
        ({"general.architecture": "gemma4_assistant"}, "drafter"),
        ({"some.key": "x"}, None),
    ],
)
def test_kinds(heads, metadata, kind):
    assert heads.read_head(hub_standin.gguf(**metadata)).kind == kind


def test_the_type_in_the_header(heads):
    data = hub_standin.gguf(**{"general.architecture": "llama", "general.file_type": 15})
    assert heads.read_head(data).quantization == "Q4_K_M"


@pytest.mark.parametrize("data", [b"", b"GG", b"<html>", b"version https://git-lfs"])
def test_what_is_not_gguf(heads, data):
    assert heads.read_head(data) is None


def test_every_cut_of_a_header_is_read_as_far_as_it_goes(heads, tiny_target):
    data = tiny_target.read_bytes()[:3000]
    found = [heads.read_head(data[:n]) for n in range(4, len(data))]
    assert found[0].architecture is None and found[-1].width is not None
    known = [one.architecture for one in found]
    assert set(known) == {None, "gemma4"} and known == sorted(known, key=lambda one: one or "")


def test_lengths_that_lie(heads):
    data = bytearray(hub_standin.gguf(**{"general.architecture": "llama", "x": "y"}))
    for at in range(8, len(data)):
        broken = bytes(data[:at]) + b"\xff" + bytes(data[at + 1 :])
        heads.read_head(broken)  # says less, raises nothing


def test_a_file_that_is_not_there(heads, tmp_path):
    assert heads.head_of(tmp_path / "none.gguf") is None
