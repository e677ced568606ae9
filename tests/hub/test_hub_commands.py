"""The commands: pull, list, rm, and -hf in place of a file. And the stand-in as a program."""

import json
import os
import signal
import subprocess
import sys

import pytest
from hub_standin import ALONE, PAIR, SISTER
from patience import until

TARGET = "gemma-4-tiny-it-Q4_0.gguf"
ASSISTANT = "gemma-4-tiny-it-assistant-Q4_0.gguf"


def test_pull(pillion_says, cache):
    code, out, err = pillion_says("pull", PAIR)
    model, drafter = out.splitlines()
    assert (code, err) == (0, "")
    assert model.startswith(f"model: {cache}") and model.endswith("(9.9 MiB, Q4_0, the only one)")
    assert drafter.startswith(f"drafter: {cache}") and drafter.endswith(ASSISTANT)


def test_bars_on_a_terminal(pillion_says, monkeypatch):
    """And a path alone on stdout."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, out, err = pillion_says("pull", PAIR)
    assert code == 0 and len(out.splitlines()) == 2
    assert TARGET[:20] in err and ASSISTANT[:20] in err and "MB" in err


def test_pull_as_json(pillion_says):
    code, out, _ = pillion_says("pull", f"{ALONE}:q4_0", "--json")
    found = json.loads(out)
    assert code == 0 and found["drafter_repo"] == SISTER and os.path.exists(found["path"])
    code, out, _ = pillion_says("pull", PAIR, "-md", "none", "--revision", "main", "--json")
    assert code == 0 and json.loads(out)["drafter"] is None


def test_pull_without_a_drafter_says_why(pillion_says, standin):
    (standin.folder / SISTER / "_repo.json").write_text('{"gated": true}')
    code, out, _ = pillion_says("pull", ALONE)
    assert code == 0 and f"no drafter: neither {ALONE} nor a sister" in out.splitlines()[1]
    code, out, _ = pillion_says("pull", f"{PAIR}:mmproj-F16.gguf")
    assert code == 0 and out.startswith("mmproj: ") and len(out.splitlines()) == 1


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["pull", "o/none"], "shows no model repository o/none"),
        (["pull", f"{PAIR}:Q9_9"], f"{PAIR} has no quantization Q9_9; it has Q4_0"),
        (["pull", "x"], "the model's name is 'x'; it must be OWNER/NAME"),
        (["pull", PAIR, "--revision", "../x"], "--revision is '../x'; it must be a branch"),
        (["rm", "x"], "the model's name is 'x'; it must be OWNER/NAME"),
        (["run", "-hf", "x", "-p", "a"], "the model's name is 'x'; it must be OWNER/NAME"),
        (["rm", "o/none"], "has no o/none; it has no model"),
        (["run", "-hf", f"{PAIR}:mmproj-F16.gguf", "-p", "x"], "is a projector (mmproj), no model"),
        (["run", "-m", PAIR, "-p", "x"], f"there is no file {PAIR}; a repository of"),
        (["serve", PAIR], f"goes behind -hf: -hf {PAIR}"),
        (
            ["pull", PAIR, "-md", f"{PAIR}:Q8_0"],
            "has no drafter in Q8_0; it has gemma-4-tiny-it-as",
        ),
        (["run", "-hf", PAIR, "-m", "x.gguf", "-p", "x"], "as a file or with -hf, not both"),
    ],
)
def test_one_sentence(pillion_says, words, sentence):
    code, out, err = pillion_says(*words)
    assert (code, out) == (1, "") and err.startswith("error: ") and sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["run", "-p", "x"], ["bench"], ["tokenize", "x"], ["inspect"]], ids=str
)
def test_no_model_at_all(pillion_says, words):
    code, out, err = pillion_says(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: no model: name a GGUF file, or a repository of huggingface.co")


def test_run(pillion_says, tiny_target):
    words = ["-p", "In the beginning", "-n", "12", "--temp", "0", "--json"]
    code, out, _ = pillion_says("run", "-hf", ALONE, *words)
    by_name = json.loads(out)
    assert code == 0 and by_name["speculation"]["kind"] == "mtp"
    by_path = json.loads(pillion_says("run", "-m", str(tiny_target), *words)[1])
    assert by_name["text"] == by_path["text"]
    found = json.loads(pillion_says("run", "-hf", ALONE, "-md", "none", *words)[1])
    assert "speculation" not in found and found["text"] == by_name["text"]
    found = json.loads(pillion_says("run", "--hf", ALONE, "-md", PAIR, *words)[1])
    assert found["speculation"]["kind"] == "mtp"
    found = json.loads(pillion_says("run", "--hf-repo", ALONE, "-md", "lookup", *words)[1])
    assert found["speculation"]["kind"] == "lookup"


def test_run_says_which_file_it_took(pillion_says, standin):
    (standin.folder / ALONE / "gemma-4-alone-it-Q8_0.gguf").write_bytes(b"GGUF")
    words = ["run", "-hf", ALONE, "-p", "x", "-n", "1"]
    said = f"{ALONE}: gemma-4-alone-it-Q4_0.gguf (Q4_0, as there is no Q4_K_M)\n"
    assert said in pillion_says(*words)[2]
    assert said not in pillion_says(*words)[2]  # it is there now


def test_the_other_commands(pillion_says, tmp_path, tiny_target):
    (tmp_path / "text").write_text("In the beginning God created the heaven and the earth. " * 20)
    text, out = str(tmp_path / "text"), str(tmp_path / "im.gguf")
    commands = (
        ["tokenize", "In the", "--json"],
        ["perplexity", "-f", text, "-c", "64"],
        ["imatrix", "-f", text, "-o", out, "-c", "64", "--chunks", "1"],
        ["doctor", "--json"],
        ["bench", "-p", "16", "-n", "8", "-r", "1", "--json"],
        ["inspect", "--json"],
    )
    for words in commands:
        code, out, err = pillion_says(*words, "-hf", PAIR)
        assert code == 0 and out, (words, err)
    tests = {one["test"] for one in json.loads(pillion_says(*commands[4], "-hf", PAIR)[1])}
    assert "draft_step" in tests


def test_serve_takes_a_name(pillion_says, monkeypatch):
    pytest.importorskip("fastapi", reason="the extra `server` is not installed")
    from pillion.cli import serve

    started = []
    monkeypatch.setattr(serve, "_run", lambda *given: started.append(given))
    assert pillion_says("serve", "-hf", PAIR)[0] == 0
    (_, _, path, options) = started[0]
    assert path.name == TARGET and options["drafter"].name == ASSISTANT
    code, _, err = pillion_says("serve", "x.gguf", "-hf", PAIR)
    assert code == 1 and "not both" in err


def test_list_and_rm(pillion_says):
    assert pillion_says("list") == (0, "no model yet: pillion pull OWNER/NAME[:QUANT]\n", "")
    pillion_says("pull", ALONE)
    code, out, _ = pillion_says("list")
    title, *rows = out.splitlines()
    assert title.split() == ["repository", "file", "size", "kind", "type", "pairs", "with"]
    assert [row.split()[0] for row in rows] == [ALONE, SISTER] and "drafter" in rows[1]
    found = json.loads(pillion_says("list", "--json")[1])
    assert [one["kind"] for one in found] == ["target", "drafter"]
    assert found[0]["pairs_with"] == [f"{SISTER}:gemma-4-alone-it-assistant-Q8_0.gguf"]
    assert pillion_says("rm", ALONE)[:2] == (0, "9.9 MiB freed\n")
    assert len(json.loads(pillion_says("list", "--json")[1])) == 1


def test_ctrl_c_leaves_what_came(standin, cache, environment, tiny_target):
    standin.faults.stall_after = {TARGET: 5_000_000}
    command = [sys.executable, "-m", "pillion", "pull", PAIR]
    pulling = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def kept():
        return sum(path.stat().st_size for path in cache.rglob("*.incomplete"))

    until(lambda: kept() > 4_000_000)
    pulling.send_signal(signal.SIGINT)
    said = pulling.communicate(timeout=60)[1]
    assert pulling.returncode == 130 and "what came is kept" in said and "Traceback" not in said
    standin.faults.go_on.set()
    before = kept()
    standin.requests.clear()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert standin.served("GET", f"/cdn/{PAIR}/{TARGET}") == [f"bytes={before}-"]
    offline = {**environment, "HF_HUB_OFFLINE": "1"}
    listed = subprocess.run(
        [sys.executable, "-m", "pillion", "list", "--json"],
        env=offline,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert [one["file"] for one in json.loads(listed.stdout)] == [TARGET, ASSISTANT]


def test_the_standin_is_a_program(pillion, tmp_path):
    import hub_standin

    command = [sys.executable, hub_standin.__file__, "--port", "0", "--fill"]
    running = subprocess.Popen(
        [*command, "--folder", str(tmp_path / "hub")], stdout=subprocess.PIPE, text=True
    )
    try:
        url = running.stdout.readline().strip()
        found = pillion.hub.pull(PAIR, endpoint=url, cache_dir=tmp_path / "cache")
        assert found.drafter is not None
    finally:
        running.terminate()
        running.wait(timeout=60)
