"""The Python examples of docs/threads.md, as they stand there, on the embedded pair."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "threads.md"
ALL = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
# tests/package/test_notebook.py runs the cells of a notebook
EXAMPLES = [one for one in ALL if "# In [1]" not in one]


def test_there_are_four():
    assert len(EXAMPLES) == 4 == len(ALL) - 1


@pytest.mark.parametrize("number", range(4))
def test_an_example(tiny_target, tmp_path, number):
    (tmp_path / "model.gguf").symlink_to(tiny_target)
    code = EXAMPLES[number]
    if "def app" in code:
        code += "\nassert app({}, lambda status, headers: print(status))[0]\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    for said in re.findall(r"print\(error\) +# (.*)", code):
        assert said in done.stdout
