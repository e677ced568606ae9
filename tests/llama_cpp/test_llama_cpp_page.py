"""A script written for llama-cpp-python, and the page for its users."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
NAMES = json.loads((Path(__file__).parent / "names.json").read_text(encoding="utf-8"))
SCRIPT = TREE / "examples" / "llama_cpp_script.py"
PAGE = (TREE / "docs" / "from_llama_cpp_python.md").read_text(encoding="utf-8")


def run(*command, cwd=None):
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def shape(value):
    """The keys and types of a result; a list is like its first."""
    if isinstance(value, dict):
        return {key: shape(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def assert_like_theirs(found):
    """shapes.json: what the script's results are under llama-cpp-python 0.3.36 with the same model,
    and its greedy tokens."""
    theirs = json.loads((Path(__file__).parent / "shapes.json").read_text(encoding="utf-8"))
    text, by_hand, tokens = theirs.pop("greedy")
    assert found["completion"]["choices"][0]["text"] == text
    assert (found["by hand"], found["tokens"]) == (by_hand, tokens)
    for name, expected in theirs.items():
        value = found[name]
        if name.startswith("streamed"):
            assert [shape(value[at]) for at in (0, 1, -1)] == expected, name
            continue
        ours = shape(value)
        if name in ("log-probabilities", "echo"):  # its keys are tokens
            ours["choices"][0]["logprobs"]["top_logprobs"] = ["any"]
        assert ours == expected, name


def test_the_script(pillion, tiny_target):
    pytest.importorskip("llguidance", reason="the extra `structured` is not installed")
    source = SCRIPT.read_text(encoding="utf-8")
    assert len(re.findall(r"pillion", source.partition('"""\n\n')[2])) == 1  # its import
    found = {}
    for line in run(SCRIPT, tiny_target).splitlines():
        found.update(json.loads(line))
    assert_like_theirs(found)
    assert json.loads(found["JSON"]["choices"][0]["message"]["content"])["name"] in ("Adam", "Eve")
    call = found["tools"]["choices"][0]["message"]["tool_calls"][0]["function"]
    assert json.loads(call["arguments"])["name"] in ("Adam", "Eve")
    assert found["processors"]["completion_tokens"] == 5 and found["grammar"] == "stop"
    assert len(found["embedding"]["data"]) == 2 and len(found["by hand"]) == 8


def test_the_pages_code_runs(pillion, tiny_target, tmp_path):
    (tmp_path / "model.gguf").symlink_to(tiny_target)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 1
    assert run("-c", blocks[0], cwd=tmp_path).strip()


def test_the_chat_pages_begun_message(pillion, tiny_target, tmp_path):
    (tmp_path / "gemma-4-E2B-it-Q4_0.gguf").symlink_to(tiny_target)
    page = (TREE / "docs" / "chat.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"```python\n(.*?)```", page, re.S) if "begun" in one]
    assert run("-c", "import pillion\n" + block, cwd=tmp_path).strip()


def test_the_page_names_everything():
    words = set(re.findall(r"\w+", PAGE))
    arguments = {one[0] for one in NAMES["methods"]["__init__"]}
    methods = set(NAMES["methods"]) - {"__init__"}
    attributes = set(NAMES["properties"]) | {"n_tokens", "input_ids", "scores", "metadata"}
    assert arguments | methods | attributes <= words
