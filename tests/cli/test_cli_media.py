"""`pillion run` with pictures and sounds, on the embedded pair and its trained towers."""

import importlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

SAMPLES = Path(__file__).resolve().parents[1] / "golden" / "media" / "samples"
LABELS = json.loads((SAMPLES / "labels.json").read_text())
DIGIT, SPOKEN = SAMPLES / "digit-10.png", SAMPLES / "spoken-03.wav"
SEEN, HEARD = (LABELS[path.name]["label"] for path in (DIGIT, SPOKEN))


@pytest.fixture(scope="module")
def run(pillion, tiny_target):
    app = importlib.import_module("pillion.cli.main").app

    def call(*arguments, code=0, model=tiny_target):
        given = ["run", "-m", str(model), *map(str, arguments), "--temp", "0", "-n", "8"]
        found = CliRunner().invoke(app, given)
        assert found.exit_code == code, found.stderr
        return found

    return call


def test_a_picture_and_a_sound(run):
    assert run("--image", DIGIT, "-p", "What do you see?").stdout == f"{SEEN}\n"
    assert run("--audio", SPOKEN, "-p", "What do you hear?").stdout == f"{HEARD}\n"
    both = json.loads(run("--image", DIGIT, "--image", DIGIT, "--audio", SPOKEN, "-p", "What?",
                          "--json").stdout)  # fmt: skip
    one = json.loads(run("--image", DIGIT, "-p", "What?", "--json").stdout)
    n = [found["timings"]["prompt_n"] + found["timings"]["cache_n"] for found in (both, one)]
    assert n[0] > n[1] + 66


def test_options(run, tmp_path):
    from pillion.models import TINY_MMPROJ

    counts = []
    for tokens in ("70", "140", "auto"):
        found = run("--image", DIGIT, "-p", "What?", "--json", "--image-tokens", tokens)
        counts.append(json.loads(found.stdout)["timings"]["prompt_n"])
    assert counts[1] == counts[0] - 64 + 121 and counts[2] == counts[0]
    mine = tmp_path / "eyes.gguf"
    mine.write_bytes(TINY_MMPROJ.read_bytes())
    assert run("--image", DIGIT, "-p", "What do you see?", "--mmproj", mine).stdout == f"{SEEN}\n"


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("--image", "no.png", "-p", "x"), "no.png: No such file"),
        (("--image", SAMPLES / "labels.json", "-p", "x"), "is no image that can be read"),
        (("--audio", DIGIT, "-p", "x"), "is no sound that can be read"),
        (("--image", DIGIT, "-p", "x", "--mmproj", "none"), "was opened without an mmproj file"),
        (("--image", DIGIT, "-p", "x", "--mmproj", "no.gguf"), "there is no file no.gguf"),
        (("--image", DIGIT, "-p", "x", "--image-tokens", "71"), "--image-tokens is 71; it can be"),
    ],
)
def test_what_is_wrong_is_told(run, arguments, sentence):
    assert sentence in run(*arguments, code=1).stderr


def test_in_a_conversation(pillion, tiny_target, monkeypatch, capsys):
    from pillion.cli import run as command
    from pillion.cli.attaching import Attached

    lines = iter([f"/image {DIGIT}", "What do you see?", "/image no.png", "/image",
                  f'/audio "{SPOKEN}"', "What do you hear?", f"/audio {DIGIT}"])  # fmt: skip

    def said(*_):
        line = next(lines, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", said)
    with pillion.LLM(tiny_target, n_ctx=512) as llm:
        messages = []
        options = {"temperature": 0, "max_tokens": 8}
        command._converse(llm, messages, options, Attached(llm, ()))
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == SEEN and len(out.splitlines()) == 2
    assert "/image PATH or /audio PATH adds a file" in err and f"{DIGIT} goes with the next" in err
    for words in ("no.png cannot be read", "/image needs a path", "is no sound that can be read"):
        assert words in err
    first, _, second, _ = messages
    assert [one["type"] for one in first["content"]] == ["image", "text"]
    assert isinstance(first["content"][0]["image"], bytes)  # read once, whatever becomes of it
    assert [one["type"] for one in second["content"]] == ["audio", "text"]


def test_serve_says_what_it_takes(pillion, tiny_target):
    from pillion.cli.serve import _senses

    with pillion.LLM(tiny_target, n_ctx=64) as llm:
        assert _senses(llm) == ", takes images and audio"
    with pillion.LLM(tiny_target, n_ctx=64, mmproj=None) as llm:
        assert _senses(llm) == ""
