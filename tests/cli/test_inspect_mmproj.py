"""`pillion inspect` of mmproj files, alone and beside a model."""

import json
import subprocess
import sys

import media_files
import numpy as np
import pytest
from made_files import remade


@pytest.fixture
def inspect(pillion):
    from pillion.inspection import inspect_file

    return inspect_file


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pillion", "inspect", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "name, vision, audio",
    [
        ("tiny-mm-e2b", "gemma4v", "gemma4a"),
        ("tiny-mm-31b", "gemma4v", None),
        ("tiny-mm-12b", "gemma4uv", "gemma4ua"),
    ],
)
def test_the_towers(inspect, name, vision, audio):
    path = media_files.mmproj(name)
    facts = inspect(path)
    assert facts["runnable"] and facts["reason"] is None and facts["warnings"] == []
    assert facts["model"] is None and facts["memory"] == []
    towers = facts["mmproj"]
    assert (towers["fits"], towers["n_embd"]) == (None, 64)
    assert towers["file_bytes"] == path.stat().st_size == facts["file"]["file_bytes"]
    assert towers["vision"]["projector"] == vision
    assert (towers["audio"] or {}).get("projector") == audio


def test_the_memory_counts_them(inspect, tiny_target):
    from pillion.models import TINY_MMPROJ

    alone, both = inspect(tiny_target), inspect(tiny_target, mmproj=TINY_MMPROJ)
    n_bytes = TINY_MMPROJ.stat().st_size
    assert both["mmproj"]["fits"] and both["warnings"] == []
    assert both["memory"][0]["mmproj"] == n_bytes
    assert both["memory"][0]["total"] == alone["memory"][0]["total"] + n_bytes
    assert alone["mmproj"] is None and "mmproj" not in alone["memory"][0]


def test_those_of_another_model(inspect, tiny_target):
    facts = inspect(tiny_target, mmproj=media_files.mmproj("tiny-mm-e2b"))
    sentence = "it is for models of width 64, this one has width 192"
    assert facts["mmproj"]["fits"] is False and facts["mmproj"]["reason"] == sentence
    assert any(sentence in warning for warning in facts["warnings"])
    assert "mmproj" not in facts["memory"][0]


def test_unknown_projectors(inspect, tmp_path, tiny_target):
    source = media_files.mmproj("tiny-mm-31b")
    path = tmp_path / "gemma3.gguf"
    remade(source, path, {"clip.vision.projector_type": "gemma3"})
    facts = inspect(path)
    assert not facts["runnable"] and '"gemma3" is not supported' in facts["reason"]
    assert inspect(tiny_target, mmproj=path)["mmproj"]["fits"] is False
    printed = command(path)
    assert printed.returncode == 0 and "cannot be run: " in printed.stdout


def test_what_llama_cpp_stops_at(inspect, tmp_path):
    name, path = "a.blk.0.conv_dw.weight", tmp_path / "half.gguf"
    values = np.zeros((48, 5), np.float32)
    remade(media_files.mmproj("tiny-mm-e2b"), path, tensors={name: (values, "F16")})
    assert any(f"tensor {name} is not F32" in one for one in inspect(path)["warnings"])


def test_the_command(tiny_target):
    from pillion.models import TINY_MMPROJ

    alone = command(TINY_MMPROJ).stdout
    assert "clip, an mmproj file" in alone and "fits targets of  width 192" in alone
    assert "gemma4v, 3 layers of 64, 4 heads, ff 128, patches of 16, pooling 3 x 3" in alone
    both = command(tiny_target, "--mmproj", TINY_MMPROJ)
    assert "once an image or a sound comes" in both.stdout and "fits             yes" in both.stdout
    found = json.loads(command(tiny_target, "-mm", TINY_MMPROJ, "--json").stdout)
    assert found["mmproj"]["audio"]["projector"] == "gemma4a"
