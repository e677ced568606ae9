"""The facts in the first bytes of a file."""

from random import Random

import hub_standin
import pytest


@pytest.fixture(scope="module")
def heads(pillion):
    from pillion import gguf_head

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


def of_key(kind, *fields):
    """A file with one key of this kind, and pairs without end announced."""
    numbers = b"".join(value.to_bytes(n, "little") for value, n in fields)
    head = b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + (2**64 - 1).to_bytes(8, "little")
    return head + (1).to_bytes(8, "little") + b"k" + kind.to_bytes(4, "little") + numbers


@pytest.mark.parametrize("count", [2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_counts_beyond_any_file(heads, count):
    empty = heads.read_head(b"GGUF")
    assert heads.read_head(of_key(8, (count, 8))) == empty
    for inner in (0, 4, 6, 8, 9, 10, 12, 13, 2**32 - 1):
        assert heads.read_head(of_key(9, (inner, 4), (count, 8)) + bytes(1000)) == empty


def test_changed_bytes(heads, tiny_target):
    """Whatever a file says, its head is read or is none."""
    random = Random(1)
    begin = tiny_target.read_bytes()[:4000]
    for _ in range(1000):
        data = bytearray(begin[: random.randrange(4, 4000)])
        for _ in range(random.randrange(1, 8)):
            data[random.randrange(4, 4000) % len(data)] = random.choice([0, 127, 255])
        head = heads.read_head(bytes(data))
        assert head is None or isinstance(head.width, (int, type(None)))
