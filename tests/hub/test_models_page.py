"""The examples of docs/models.md, as they stand there, against the stand-in: shell lines and
Python."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hub_standin import PAIR, SISTER

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
TEXT = PAGE.read_text(encoding="utf-8")
REPOSITORY = "unsloth/gemma-4-E2B-it-GGUF"
DRAFTER = "friend/gemma-4-E2B-it-assistant-GGUF"


@pytest.fixture
def repositories(standin):
    """The page's repositories, in the stand-in."""
    for name, source in ((REPOSITORY, PAIR), (DRAFTER, SISTER)):
        (standin.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (standin.folder / name).symlink_to(standin.folder / source)


def test_the_shell_lines(pillion_says, repositories):
    lines = re.findall(r"^(pillion .*?)(?: +#.*)?$", TEXT, re.M)
    assert len(lines) == 7
    for line in lines:
        words = re.findall(r'"([^"]*)"|(\S+)', line)
        code, out, err = pillion_says(*[quoted or plain for quoted, plain in words[1:]])
        assert code == 0 and out, err


def test_the_python_examples(environment, repositories):
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert len(examples) == 2
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(examples)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "kind='mtp'" in done.stdout and "assistant-Q4_0.gguf" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("has no quantization Q5_K_M; it has Q4_0")


def test_every_error_of_the_page_is_one(pillion):
    names = re.findall(r"^\| `(\w+Error)`", TEXT, re.M)
    assert len(names) == 8
    kinds = [getattr(pillion, name) for name in names]
    assert all(issubclass(kind, pillion.HubError) for kind in kinds[:-2])
    assert {one.__name__ for one in pillion.HubError.__subclasses__()} == set(names[:-2])
