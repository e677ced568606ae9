"""The tables of docs/memory.md are what the library counts."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from site_pages import TREE

from pillion.models import TINY_ASSISTANT, TINY_TARGET

pytest.importorskip("gguf", reason="the extra `convert` is not installed")


def check(*models):
    command = [sys.executable, TREE / "tools" / "make_memory_page.py", "--check", *models]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


def test_a_dense_and_a_routed_model(pillion):
    assert check("E2B", "26B-A4B") == (0, "")


def test_the_command_of_the_page(pillion, tmp_path):
    """On the embedded pair, under the names of the page."""
    page = (TREE / "docs" / "memory.md").read_text(encoding="utf-8")
    command = shlex.split(re.search(r"```sh\n(.*?)```", page, re.S)[1])
    target, assistant = (one for one in command if one.endswith(".gguf"))
    shutil.copy(TINY_TARGET, tmp_path / target)
    shutil.copy(TINY_ASSISTANT, tmp_path / assistant)
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [program, *command[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "memory, context of 8192, f16 cache" in done.stdout
    assert "fits     yes" in done.stdout


@pytest.mark.nightly
def test_all(pillion):
    assert check() == (0, "")


def test_the_shapes_are_those_of_the_specification():
    import gemma4_shapes

    shapes = {one.name: one for one in gemma4_shapes.shapes()}
    assert list(shapes) == ["E2B", "E4B", "12B", "26B-A4B", "31B"]
    e2b = shapes["E2B"]
    assert (e2b.ff[14], e2b.ff[15], e2b.sliding[4], sum(e2b.sliding)) == (6144, 12288, False, 28)
    assert shapes["26B-A4B"].experts == (128, 8, 704)
    for shape in shapes.values():
        assert not shape.sliding[-1]  # the last layer is always full


def test_a_shape_is_the_models_own(pillion, tmp_path):
    """The number of weights is that of the model's name, within what a name rounds."""
    import gemma4_shapes

    for shape, billions in zip(gemma4_shapes.shapes(), (4.63, 7.46, 11.9, 25.2, 30.7), strict=True):
        _, _, tensors = gemma4_shapes.target(shape)
        n = 0
        for _, dims, _ in tensors:
            size = 1
            for one in dims:
                size *= one
            n += size
        assert n / 1e9 == pytest.approx(billions, rel=0.01), shape.name


def test_a_change_is_seen(pillion, monkeypatch):
    import make_memory_page

    page = make_memory_page.PAGE.read_text(encoding="utf-8")
    made = {"all": ["E2B | Q4_0 | 0.0"]}
    assert make_memory_page.filled(page, made) != page
    with pytest.raises(AssertionError):
        make_memory_page.filled(page, {"no such table": []})
