"""`pillion convert --mmproj`: the towers of the tiny multimodal checkpoints become the files that
llama.cpp's converter makes of them, and what does not fit into such a file is one sentence."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import gguf
import media_files
import numpy as np
import pytest
from media_files import MEDIA, NAMES

TINY_PAIR = MEDIA.parents[1] / "tiny-pair"
TOWERS = "model-00002-of-00002.safetensors"
CONVERTER = json.loads((MEDIA / "converter.json").read_text("utf-8"))


@pytest.fixture
def convert_mmproj(pillion):
    from pillion.convert import convert_mmproj

    return convert_mmproj


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of a checkpoint that a test may spoil."""

    def copy(name="tiny-mm-e2b"):
        return Path(shutil.copytree(MEDIA / name, tmp_path / "checkpoint"))

    return copy


def keys_of(path):
    return {
        name: [field.types[0].name, field.contents()]
        for name, field in gguf.GGUFReader(path).fields.items()
        if not name.startswith(("GGUF.", "general.name"))
    }


# ---- what comes out ----


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "q8_0"])
def test_files_of_llama_cpps_converter(pillion, name, outtype):
    """Every key, and every tensor's type, shape and bits. One key is our own: these checkpoints
    have 70 tokens a picture."""
    path, golden = media_files.mmproj(name, outtype), CONVERTER[name][outtype]
    own = {"clip.vision.image_tokens": ["UINT32", 70]}
    assert keys_of(path) == golden["keys"] | own
    there = {t.name: t for t in gguf.GGUFReader(path).tensors}
    assert set(there) == set(golden["tensors"])
    for tensor, (kind, shape, digest) in golden["tensors"].items():
        found = there[tensor]
        assert (found.tensor_type.name, [int(n) for n in found.shape]) == (kind, shape), tensor
        if isinstance(digest, list):
            np.testing.assert_allclose(found.data, digest, rtol=2e-7)
        else:
            assert hashlib.sha256(found.data.tobytes()).hexdigest()[:16] == digest, tensor


def test_auto_is_the_towers_type(convert_mmproj, tmp_path):
    report = convert_mmproj(MEDIA / "tiny-mm-31b", tmp_path / "a.gguf")
    assert (report.architecture, report.outtype, report.tensors) == ("clip", "bf16", 31)
    assert report.skipped == {"text": 84} and report.bytes == report.out.stat().st_size
    assert keys_of(report.out)["general.type"] == ["STRING", "mmproj"]


def test_the_embedded_towers_are_made_by_this_command(pillion, tmp_path):
    from pillion import models

    out = tmp_path / "out.gguf"
    command = [sys.executable, "-m", "pillion", "convert", TINY_PAIR / "target", "--mmproj"]
    command += ["-o", out, "--name", "pillion tiny mmproj"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert "clip, 258 tensors, bf16" in result.stdout and "129 tensors (text)" in result.stdout
    assert out.read_bytes() == models.TINY_MMPROJ.read_bytes()


@pytest.mark.parametrize(
    "name, sees_ahead", [("tiny-mm-e2b", False), ("tiny-mm-31b", True), ("tiny-mm-12b", True)]
)
def test_targets_say_how_images_are_read(pillion, name, sees_ahead):
    path = media_files.target(name)
    key = "gemma4.attention.image_bidirectional"
    assert keys_of(path)[key] == ["BOOL", sees_ahead]


@pytest.mark.parametrize("name, sees_ahead", [("tiny-mm-e2b", False), ("tiny-mm-31b", True)])
def test_without_a_word_per_layer_embeddings_decide(
    pillion, checkpoint, tmp_path, name, sees_ahead
):
    from pillion.convert import convert

    folder = checkpoint(name)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    del config["text_config"]["use_bidirectional_attention"]
    (folder / "config.json").write_text(json.dumps(config))
    convert(folder, tmp_path / "out.gguf")
    key = "gemma4.attention.image_bidirectional"
    assert keys_of(tmp_path / "out.gguf")[key] == ["BOOL", sees_ahead]


def test_bounds_that_were_never_set_stay_infinite(convert_mmproj, checkpoint, tmp_path):
    folder = checkpoint()
    name = "model.vision_tower.encoder.layers.0.mlp.up_proj.input_min"
    change_tensor(folder, name, lambda bits: np.array([0xFF80], "<u2"))
    convert_mmproj(folder, tmp_path / "out.gguf")
    there = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert there["v.blk.0.ffn_up.input_min"].tolist() == [-np.inf]


# ---- what does not fit ----


def change_tensor(folder, name, change):
    """Of its bits."""
    path = folder / TOWERS
    raw = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(raw[:8], "little")
    low, high = json.loads(raw[8:begin])[name]["data_offsets"]
    bits = np.frombuffer(bytes(raw[begin + low : begin + high]), "<u2")
    raw[begin + low : begin + high] = change(bits).astype("<u2").tobytes()
    path.write_bytes(raw)


def rename_tensor(folder, old, new):
    path = folder / TOWERS
    raw = path.read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    header = raw[8:begin].replace(f'"{old}"'.encode(), f'"{new}"'.encode())
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw[begin:])
    (folder / "model.safetensors.index.json").unlink()


def with_config(**changes):
    def spoil(folder):
        path = folder / "config.json"
        config = json.loads(path.read_text("utf-8"))
        for key, value in changes.items():
            part, _, name = key.rpartition("__")
            (config[part] if part else config)[name] = value
        path.write_text(json.dumps(config))

    return spoil


def with_processor(**changes):
    def spoil(folder):
        path = folder / "processor_config.json"
        found = json.loads(path.read_text("utf-8"))
        found["feature_extractor"].update(changes)
        path.write_text(json.dumps(found))

    return spoil


UP = "model.vision_tower.encoder.layers.0.mlp.up_proj"


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (with_config(model_type="gemma3"), "model_type 'gemma3' has no towers"),
        (
            with_config(vision_config=None, audio_config=None),
            "neither vision_config nor audio_config",
        ),
        (with_config(vision_config__hidden_activation="gelu"), "hidden_activation of the vision"),
        (with_config(vision_config__num_key_value_heads=2), "num_key_value_heads of the vision"),
        (with_config(vision_config__rope_parameters={"rope_theta": 1e4}), "readers .* take 100"),
        (with_config(vision_config__num_hidden_layers=3), "encoder.layers.2.* is missing"),
        (with_config(vision_config__num_hidden_layers=1), "encoder.layers.1.* has no place in the"),
        (with_config(vision_config__intermediate_size=128), r"config.json makes it \[128, 64\]"),
        (with_config(vision_config__patch_size=0), "patch_size the value 0"),
        (with_config(audio_config__attention_context_left=12), "attention_context_left of the aud"),
        (with_config(audio_config__num_attention_heads=5), "5 heads, which do not divide"),
        (with_config(audio_config__subsampling_conv_channels=[8]), "two numbers are needed"),
        (with_processor(hop_length=80), "hop_length the value 80, readers .* take 160"),
        (with_processor(per_bin_mean=[1.0]), "per_bin_mean the value"),
        (lambda f: rename_tensor(f, f"{UP}.input_min", f"{UP}.floor"), "input_min is missing"),
        (
            lambda f: change_tensor(f, f"{UP}.input_min", lambda bits: np.array([0x7F80], "<u2")),
            "input_min is inf, its upper bound",
        ),
        (
            lambda f: change_tensor(f, f"{UP}.input_max", lambda bits: np.array([0x7FC0], "<u2")),
            "nothing lies between",
        ),
        (
            lambda f: change_tensor(f, f"{UP}.linear.weight", lambda bits: bits * 0 + 0x7F80),
            "up_proj.linear.weight, row 0, column 0 is inf",
        ),
    ],
)
def test_refusals(pillion, convert_mmproj, checkpoint, tmp_path, spoil, sentence):
    folder = checkpoint()
    spoil(folder)
    with pytest.raises(pillion.PillionError, match=sentence):
        convert_mmproj(folder, tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_tower_that_config_json_leaves_out_is_named(convert_mmproj, checkpoint, tmp_path):
    folder = checkpoint()
    with_config(audio_config=None)(folder)
    report = convert_mmproj(folder, tmp_path / "out.gguf")
    assert report.skipped == {"audio, which config.json does not describe": 132, "text": 98}
    assert "clip.has_audio_encoder" not in keys_of(report.out)


def test_arguments(pillion, convert_mmproj, tmp_path):
    with pytest.raises(pillion.UsageError, match="outtype is 'q4_0'"):
        convert_mmproj(MEDIA / "tiny-mm-e2b", tmp_path / "out.gguf", outtype="q4_0")
    with pytest.raises(pillion.UsageError, match="is a file of the checkpoint"):
        convert_mmproj(MEDIA / "tiny-mm-e2b", MEDIA / "tiny-mm-e2b" / "config.json")
    command = [sys.executable, "-m", "pillion", "convert", MEDIA / "tiny-mm-e2b", "--mmproj"]
    command += ["--no-masked-embedding", "-o", tmp_path / "out.gguf"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and "--mmproj about towers" in result.stderr
