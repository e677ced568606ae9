"""`LLM.fit`: what of a model fits a memory, counted from headers."""

import media_files
import pytest
from pillion import models


@pytest.fixture
def fit(pillion):
    def call(memory_bytes=None, **options):
        return pillion.LLM.fit(models.TINY_TARGET, memory_bytes, **options)

    return call


def test_all_of_it(pillion, fit):
    found = fit()
    assert (found.n_ctx, found.kv_type, found.left_out) == (2048, "f16", ())
    assert (found.drafter, found.mmproj) == (models.TINY_ASSISTANT, models.TINY_MMPROJ)
    assert found.parts["mmproj"] == models.TINY_MMPROJ.stat().st_size
    with (
        pillion.Model.open(models.TINY_TARGET, metadata_only=True) as target,
        pillion.Model.open(models.TINY_ASSISTANT, metadata_only=True) as drafter,
    ):
        counted = target.memory(2048, drafter=drafter)
    assert found.total == counted["total"] + found.parts["mmproj"]
    assert found.mapped == counted["mapped"]
    assert "drafter tiny-assistant.gguf, mmproj tiny-mmproj.gguf" in str(found)


def test_less_and_less_memory(pillion, fit):
    """The drafter goes before the mmproj file, and both after a smaller cache."""
    left_out, total = [], 1 << 40
    for _ in range(8):
        try:
            found = fit(total - 1)
        except pillion.OutOfMemoryError as error:
            assert "MiB with the smallest context" in str(error)
            break
        assert found.total < total and found.memory_bytes == total - 1
        total = found.total
        left_out.append(found.left_out)
    assert left_out[0] == () and left_out[1] == ("f16 cache",)
    assert ("drafter",) in left_out and left_out[-1] == ("f16 cache", "drafter", "mmproj")
    with_towers = [lost for lost in left_out if "mmproj" not in lost]
    assert left_out[: len(with_towers)] == with_towers
    assert "left out: f16 cache, drafter, mmproj" in str(found)


def test_exactly_what_is_asked(fit):
    found = fit(n_ctx=300, kv_type="q8_0", drafter=None, mmproj=None)
    assert (found.n_ctx, found.kv_type, found.left_out) == (300, "q8_0", ())
    assert (found.drafter, found.mmproj, found.parts["mmproj"]) == (None, None, 0)


def test_smaller_contexts_come_first(pillion, tmp_path, fit):
    from made_files import remade

    large = tmp_path / "large.gguf"
    remade(models.TINY_TARGET, large, {"gemma4.context_length": 32768})
    full = pillion.LLM.fit(large, mmproj=models.TINY_MMPROJ)
    assert (full.n_ctx, full.drafter) == (32768, None)
    half = pillion.LLM.fit(large, n_ctx=16384, kv_type="q8_0", mmproj=models.TINY_MMPROJ).total
    found = pillion.LLM.fit(large, half, mmproj=models.TINY_MMPROJ)
    assert (found.n_ctx, found.kv_type, found.mmproj) == (16384, "q8_0", models.TINY_MMPROJ)
    assert found.left_out == ("context of 32768", "f16 cache")


def test_files_of_other_models(pillion, fit):
    with pytest.raises(pillion.PairingError, match="width 64, .*tiny-target.gguf has width 192"):
        fit(mmproj=media_files.mmproj("tiny-mm-e2b"))
    with pytest.raises(pillion.PairingError):
        fit(drafter=media_files.assistant("tiny-mm-31b"), mmproj=None)


@pytest.mark.parametrize(
    "options", [{"memory_bytes": 0}, {"n_ctx": 0}, {"kv_type": "q4_0"}, {"mmproj": 7}]
)
def test_wrong_arguments(pillion, fit, options):
    with pytest.raises(pillion.UsageError, match=next(iter(options))):
        fit(**options)
