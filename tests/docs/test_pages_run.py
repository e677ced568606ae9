"""The Python examples of the pages that a newcomer reads first, as they stand there, one behind the
other, on the embedded pair. And the README's picture."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llguidance", reason="the extra `structured` is not installed")
pytest.importorskip("pydantic", reason="pydantic is not installed")

TREE = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": 1,
    "docs/index.md": 1,
    "docs/quickstart.md": 3,
    "docs/mmproj.md": 1,
    "docs/towers.md": 1,
    "docs/structured_output.md": 3,
    "docs/saved_state.md": 3,
    "docs/langchain.md": 3,
}
MODELS = ("model.gguf", "gemma-4-E2B-it-Q4_0.gguf")


def examples(page):
    text = (TREE / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.S)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of(page, tiny_target, tmp_path):
    for name in MODELS:
        (tmp_path / name).symlink_to(tiny_target)
    found = examples(page)
    assert len(found) == PAGES[page]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(found)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_the_picture_is_what_the_pair_writes(pillion):
    check = [sys.executable, TREE / "tools" / "demo_picture.py", "--check"]
    assert subprocess.run(check, timeout=300).returncode == 0
