"""docs/first_hour.md as a new user follows it: its blocks, in order, in a fresh folder, with
nothing but the stand-in of the hub. All names are the page's own; the server's port is one that is
free here."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from serve_process import serving
from site_pages import TREE

sys.path.insert(0, str(TREE / "tests" / "hub"))

from hub_standin import Standin  # noqa: E402

from pillion.models import TINY_ASSISTANT, TINY_TARGET  # noqa: E402

for extra, module in {"hub": "huggingface_hub", "server": "fastapi", "ray": "ray"}.items():
    pytest.importorskip(module, reason=f"the extra `{extra}` is not installed")
pytest.importorskip("openai", reason="openai is not installed (Python 3.11 or later)")

PAGE = (TREE / "docs" / "first_hour.md").read_text(encoding="utf-8")
REPOSITORY, PORT = "unsloth/gemma-4-E2B-it-GGUF", "8080"


@dataclass
class Block:
    """A block of the page. name: of the file that the text before it makes of it."""

    section: str
    language: str
    name: str
    code: str


def blocks():
    found = []
    for section in re.split(r"^## ", PAGE, flags=re.M)[1:]:
        title, _, text = section.partition("\n")
        for before, language, code in re.findall(r"(.*?)```(\w*)\n(.*?)```", text, re.S):
            names = re.findall(r"`(\w+\.py)`", before)
            found.append(Block(title, language, names[-1] if names else "", code))
    return found


BLOCKS = blocks()


class Newcomer:
    """A folder, the programs of this environment, and the hub that is a stand-in."""

    def __init__(self, folder, hub):
        self.folder = folder
        self.environment = {
            **os.environ,
            "HF_ENDPOINT": hub,
            "HF_HOME": str(folder / "hub"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a worker's warning is no silence
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "PYTHONPATH"):
            self.environment.pop(name, None)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])

    def code(self, block):
        return block.code.replace(PORT, self.port)

    def save(self, block):
        assert block.language == "python" and block.name
        (self.folder / block.name).write_text(self.code(block), encoding="utf-8")

    def run(self, block):
        """Runs the lines of a shell block. Returns what they print, and what they say besides."""
        assert block.language == "sh"
        done = subprocess.run(
            ["bash", "-ec", self.code(block)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, done.stderr


def of(number):
    return [block for block in BLOCKS if block.section.startswith(f"{number}. ")]


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("newcomer")
    shelf = tmp_path_factory.mktemp("shelf") / REPOSITORY
    shelf.mkdir(parents=True)
    shutil.copy(TINY_TARGET, shelf / "gemma-4-E2B-it-Q4_0.gguf")
    shutil.copy(TINY_ASSISTANT, shelf / "gemma-4-E2B-it-assistant-Q4_0.gguf")
    with Standin(shelf.parents[1]) as hub:
        yield Newcomer(folder, hub.url)


def test_the_page_has_these_steps():
    kinds = [(block.section[0], block.language, block.name) for block in BLOCKS]
    assert kinds == [
        ("1", "sh", ""),
        ("2", "sh", ""),
        ("3", "sh", ""),
        ("4", "sh", ""),
        ("4", "python", "ask.py"),
        ("4", "sh", ""),
        ("5", "python", "planets.py"),
        ("5", "sh", ""),
        ("6", "python", "questions.py"),
        ("6", "sh", ""),
    ]


def test_1_the_extras_exist():
    """The command itself is what made this environment."""
    (install,) = of(1)
    named = re.search(r"\.\[([\w,]+)\]", install.code)[1].split(",")
    listed = (TREE / "pyproject.toml").read_text(encoding="utf-8")
    assert [name for name in named if f"\n{name} = [" not in listed] == []


def test_2_pull(pillion, newcomer):
    said, _ = newcomer.run(of(2)[0])
    paths = [Path(one) for one in re.findall(r"/\S+\.gguf", said)]
    assert sorted(path.name for path in paths) == [
        "gemma-4-E2B-it-Q4_0.gguf",
        "gemma-4-E2B-it-assistant-Q4_0.gguf",
    ]
    assert all(path.exists() and newcomer.folder in path.parents for path in paths)
    rows = [line.split() for line in said.splitlines() if line.startswith(REPOSITORY)]
    (target,) = [row for row in rows if "target" in row]
    assert target[-1] == "gemma-4-E2B-it-assistant-Q4_0.gguf", said


def test_3_chat(pillion, newcomer):
    text, said = newcomer.run(of(3)[0])
    assert len(text) > 60
    assert re.search(r"text: \d+ tokens, [\d.]+/s\n", said)
    assert re.search(r"drafts: \d+ of \d+ accepted ", said), said


def test_4_serve(pillion, newcomer):
    start, program, ask = of(4)
    newcomer.save(program)
    command = shlex.split(newcomer.code(start))
    assert command[:2] == ["pillion", "serve"]
    with serving(*command[2:], cwd=newcomer.folder, env=newcomer.environment) as address:
        assert address == f"http://127.0.0.1:{newcomer.port}"
        text, _ = newcomer.run(ask)
    assert re.search(r"\n\d+ tokens\n$", text)
    assert len(text) > 60


def test_5_one_import(pillion, newcomer):
    program, change = of(5)
    newcomer.save(program)
    before = newcomer.code(program)
    text, said = newcomer.run(change)
    after = (newcomer.folder / program.name).read_text(encoding="utf-8")
    different = [pair for pair in zip(before.split("\n"), after.split("\n")) if pair[0] != pair[1]]
    assert different == [("from llama_cpp import Llama", "from pillion.llama_cpp import Llama")]
    assert text.startswith("Q: Name the planets in the solar system? A: ")
    assert len(text.splitlines()[-1]) > 10
    assert said == ""


def test_6_a_batch_on_ray(pillion, newcomer):
    program, start = of(6)
    newcomer.save(program)
    text, _ = newcomer.run(start)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("How many legs")]
    assert len(rows) == 4
    assert {row[0] for row in rows} == {
        f"How many legs has a {animal}?" for animal in ("spider", "crab", "snake", "bird")
    }
    assert all(row[-1].isdigit() for row in rows)
