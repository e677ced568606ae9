"""`pillion quantize` on mmproj files: the types that `pillion convert` gives, and what stays
exact."""

import subprocess
import sys

import gguf
import media_files
import numpy as np
import pytest
from made_files import remade
from media_files import NAMES


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0"])
def test_the_same_file_as_from_the_checkpoint(pillion, tmp_path, name, kind):
    out = tmp_path / "out.gguf"
    pillion.quantize(media_files.mmproj(name), out, kind)
    converted = media_files.mmproj(name, kind)
    found, golden = tensors(out), tensors(converted)
    assert list(found) == list(golden)
    for tensor, t in found.items():
        assert t.tensor_type == golden[tensor].tensor_type, tensor
        assert t.data.tobytes() == golden[tensor].data.tobytes(), tensor
    keys = [
        gguf.GGUFReader(path).fields["general.file_type"].contents() for path in (out, converted)
    ]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q6_K", "Q4_K_M"])
def test_smaller_types(pillion, tmp_path, kind):
    """Matrices get them where their rows allow it; such files open."""
    out = tmp_path / "out.gguf"
    report = pillion.quantize(media_files.mmproj("tiny-mm-e2b"), out, kind)
    of = {tensor.name: tensor for tensor in report.tensors}
    if kind == "Q4_0":
        assert of["v.blk.0.ffn_up.weight"].target_type == "Q4_0"
    assert of["mm.a.input_projection.weight"].target_type == "F16"  # rows of 80
    assert "rows of 80 are no whole blocks" in of["mm.a.input_projection.weight"].reason
    reasons = {
        "v.position_embd.weight": "position table",
        "v.patch_embd.weight": "patch embedding",
        "a.conv1d.1.weight": "convolution",
        "a.blk.0.conv_dw.weight": "convolution",
        "a.input_projection.weight": "projection of a convolution",
        "v.blk.0.ffn_up.input_max": "vector",
    }
    for tensor, reason in reasons.items():
        assert (of[tensor].target_type, of[tensor].reason) == ("F32", reason)
    with pillion.Mmproj(out) as towers:
        assert towers.has_vision and towers.has_audio


def test_what_must_be_f32_becomes_f32(pillion, tmp_path):
    """Files of other programs hold depthwise convolutions in F16, which llama.cpp dies of."""
    source = media_files.mmproj("tiny-mm-e2b", "f16")
    name = "a.blk.0.conv_dw.weight"
    halves = tensors(source)[name].data.astype(np.float16)
    spoiled = remade(source, tmp_path / "in.gguf", tensors={name: (halves.astype("f4"), "F16")})
    assert tensors(spoiled)[name].tensor_type.name == "F16"
    pillion.quantize(spoiled, tmp_path / "out.gguf", "Q8_0")
    found = tensors(tmp_path / "out.gguf")[name]
    assert found.tensor_type.name == "F32" and np.array_equal(found.data, halves.astype("f4"))


def test_overrides(pillion, tmp_path):
    source = media_files.mmproj("tiny-mm-e2b")
    with pytest.raises(pillion.UsageError, match="stays as it is .position table"):
        pillion.quantize(source, None, "Q8_0", tensor_types={"v.position_embd.weight": "F16"})
    report = pillion.quantize(
        source, None, "Q4_0", tensor_types={"v.blk.1": "Q8_0", "a.blk.*attn": "F16"}
    )
    assert {t.target_type for t in report.tensors if "v.blk.0.attn_q.w" in t.name} == {"Q4_0"}
    assert {t.target_type for t in report.tensors if "a.blk.0.attn_q.w" in t.name} == {"F16"}


def test_the_command_tells_what_falls_back(pillion, tmp_path):
    command = [sys.executable, "-m", "pillion", "quantize", media_files.mmproj("tiny-mm-31b")]
    result = subprocess.run(
        [*command, tmp_path / "out.gguf", "Q8_0"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "2 tensors are F16: rows of 112 are no whole blocks of Q8_0" in result.stdout
