"""The programs of examples/ on the embedded pair, as docs/examples.md says that they run."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from site_pages import TREE
from serve_process import serving

EXAMPLES = TREE / "examples"
PAGE = (TREE / "docs" / "examples.md").read_text(encoding="utf-8")

pytest.importorskip("llguidance", reason="the extra `structured` is not installed")
pytest.importorskip("pydantic", reason="pydantic is not installed")


def run(name, *arguments, said=""):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        input=said,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_the_page_has_every_program():
    named = set(re.findall(r"`examples/(\S+\.py)`", PAGE))
    there = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")}
    assert named == there


def test_chat(pillion):
    """The second answer is that of a conversation, of which the first is a part."""
    said = run("chat.py", said="Read Genesis 1.\nRead Psalms 23.\n\n")
    assert said.count("> ") == 3
    assert all(len(answer) > 20 for answer in said.split("> ")[1:3])


def test_stream(pillion):
    said = run("stream.py")
    counts = re.search(r"drafter on: (\d+) of (\d+) drafts accepted", said)
    assert 0 < int(counts[1]) < int(counts[2])
    assert re.search(r"^80 tokens at \d+ a second$", said, re.M)


def test_stream_takes_a_model(pillion, tiny_target, tmp_path):
    shutil.copy(tiny_target, tmp_path / "model.gguf")
    assert "drafter off: 0 of 0" in run("stream.py", tmp_path / "model.gguf")
    shutil.copy(tiny_target.with_name("tiny-assistant.gguf"), tmp_path)
    assert "drafter on: " in run("stream.py", tmp_path / "model.gguf")


def test_see_and_hear(pillion):
    pytest.importorskip("soundfile", reason="the extra `media` is not installed")
    lines = run("see_and_hear.py").splitlines()
    assert lines[0] == "seven.png (64 tokens): seven"
    assert re.fullmatch(r"seven\.wav \(\d\d tokens\): seven", lines[1]) and len(lines) == 2


def test_tools(pillion):
    first, answer = run("tools.py").split("\n", 1)
    book, chapters = re.fullmatch(
        r"count_chapters\(\{'book': '(\w+)'\}\) = \{'chapters': (\d+)\}", first
    ).groups()
    assert {"Genesis": "50", "Exodus": "40", "Psalms": "150"}[book] == chapters
    assert answer.strip()


def test_structured(pillion):
    verse, place, choice = run("structured.py").splitlines()
    assert re.match(r"book='(Genesis|Exodus|Psalms)' chapter=[123] words=\[", verse)
    assert re.fullmatch(r"[A-Z][a-z]{2,12} \d{1,3}:\d{1,2}", place)
    assert choice in ("yes", "no")


def test_batch(pillion):
    """One object a prompt, in their order, and the same alone as among others."""
    prompts = ["Genesis 1", "Psalms 23", "Exodus 2", "Ruth 1", "Job 3"]
    lines = [json.loads(line) for line in run("batch.py", said="\n".join(prompts)).splitlines()]
    assert [line["prompt"] for line in lines] == prompts
    assert all(line["tokens"] == 32 for line in lines)
    assert json.loads(run("batch.py", said="Job 3")) == lines[-1]


def test_async_chat(pillion):
    *answers, end = run("async_chat.py").strip().splitlines()
    assert len("".join(answers)) > 40
    assert end == "too late: the work has ended with the task"


def test_embeddings(pillion):
    scores = [float(line.split()[0]) for line in run("embeddings.py").splitlines()]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


def test_pair(pillion):
    said = run("pair.py")
    assert re.search(r"acceptance 0\.\d\d, the same text: True", said)
    assert re.search(r"^[123] of 3 drafts: ", said, re.M)


def test_serve_client(pillion):
    pytest.importorskip("fastapi", reason="the extra `server` is not installed")
    with serving() as address:
        model, answer = run("serve_client.py", address).split("\n", 1)
    assert model.startswith("model: ")
    assert len(answer.strip()) > 40
