"""The `pillion` command over the stand-in library: what goes to stdout, what to stderr, and the exit codes."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from build import REPOSITORY

CLI = [sys.executable, str(REPOSITORY / "tests" / "fake" / "cli.py")]


@pytest.fixture
def pillion(fake, strings, monkeypatch):
    """Runs the command in this process, which is twenty times quicker than a new one."""
    from pillion_fake.cli.main import main

    def run(*arguments, stdin=""):
        out, errors = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["pillion", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as left:
            main()
        return subprocess.CompletedProcess(arguments, left.value.code or 0, out.getvalue(), errors.getvalue())

    return run


@pytest.fixture
def toy(toy_file):
    return toy_file({"general.name": '"Toy"', "fake.arch": '"gemma4"', "long.list": "[1, 2, 3]"})


def test_run_writes_the_text(pillion, toy):
    result = pillion("run", "-m", toy, "-p", "abc", "-n", 5, "--temp", 0)
    assert (result.returncode, result.stdout) == (0, "defgh\n")
    assert "prompt: 4 tokens" in result.stderr and "text: 5 tokens" in result.stderr


def test_run_json(pillion, toy):
    result = pillion("run", "-m", toy, "-p", "abc", "-n", 3, "--temp", 0, "--json")
    found = json.loads(result.stdout)
    assert result.stderr == ""
    assert set(found) == {"text", "tokens", "finish_reason", "timings"}
    assert (found["text"], found["tokens"], found["finish_reason"]) == ("def", [100, 101, 102], "length")
    assert {"prompt_n", "prompt_ms", "prompt_per_second", "predicted_n", "predicted_ms", "predicted_per_second", "cache_n"} == set(
        found["timings"]
    )


def test_every_option_of_run(pillion, toy):
    options = "-c 64 -t 1 -b 16 --top-k 4 --top-p 0.9 --min-p 0.1 --repeat-penalty 1.1 --seed 3 -fa on --kv-type q8_0 --no-mmap"
    result = pillion("run", "-m", toy, "-p", "abc", "--temp", 0.5, "--stop", "g", "--stop", "zz", *options.split())
    assert result.returncode == 0, result.stderr


def test_prompt_from_a_file_and_from_stdin(pillion, toy, tmp_path):
    (tmp_path / "prompt.txt").write_text("abc")
    for arguments, stdin in ((["-f", tmp_path / "prompt.txt"], ""), (["-f", "-"], "abc"), ([], "abc")):
        assert pillion("run", "-m", toy, *arguments, "-n", 2, "--temp", 0, stdin=stdin).stdout == "de\n"
    assert pillion("run", "-m", toy, "-p", "a", "-f", "-").returncode == 1


def test_stop_and_unicode(pillion, toy, strings):
    strings.script(4, "é🙂 END")
    result = pillion("run", "-m", toy, "-p", "abc", "--temp", 0, "--stop", "END")
    assert result.stdout == "é🙂 \n"


def test_chat(pillion, toy_file):
    source = '"{% for m in messages %}{{ m.role[0] }}:{{ m.content }}|{% endfor %}"'
    toy = toy_file({"tokenizer.chat_template": source})
    result = pillion("run", "-m", toy, "--chat", "--system", "S", "-p", "abc", "-n", 2, "--temp", 0, "--json")
    assert json.loads(result.stdout)["timings"]["prompt_n"] == len("s:S|u:abc|") + 1
    assert "no chat template" in pillion("run", "-m", toy_file(name="bare.gguf"), "--chat", "-p", "a").stderr


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["run", "-m", "none.gguf", "-p", "a"], "none.gguf: no such file"),
        (["run", "-m", "TOY", "-f", "none.txt"], "none.txt: No such file"),
        (["run", "-m", "TOY", "-p", "a", "--temp", "-1"], "temperature"),
        (["run", "-m", "TOY", "-p", "a", "-fa", "maybe"], "flash_attn"),
        (["run", "-m", "TOY", "-p", "abcdefgh", "-c", "4"], "9 tokens"),
        (["inspect", "none.gguf"], "no such file"),
        (["tokenize", "-m", "none.gguf", "a"], "no such file"),
        (["perplexity", "-m", "TOY", "-f", "none.txt"], "none.txt"),
    ],
)
def test_an_error_is_one_sentence_and_exit_code_1(pillion, toy, arguments, sentence):
    result = pillion(*[toy if argument == "TOY" else argument for argument in arguments])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ") and sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_wrong_usage_is_exit_code_2(pillion, toy):
    for arguments in (["run"], ["run", "-m", toy, "-n", "many"], ["nonsense"], ["tokenize", "-m", toy]):
        assert pillion(*arguments).returncode == 2


def test_inspect(pillion, toy):
    result = pillion("inspect", toy)
    assert result.returncode == 0
    for part in ("gemma4", "vocabulary", "261", "general.name", "tensor_types"):
        assert part in result.stdout
    assert json.loads(pillion("inspect", toy, "--json").stdout)["metadata"]["long.list"] == [1, 2, 3]


def test_tokenize(pillion, toy):
    assert json.loads(pillion("tokenize", "-m", toy, "aé", "--json").stdout) == [256, 97, 195, 169]
    assert json.loads(pillion("tokenize", "-m", toy, "a", "--json", "--no-special").stdout) == [97]
    assert json.loads(pillion("tokenize", "-m", toy, "<turn>", "--json", "--parse-special").stdout) == [256, 258]
    assert "97  '<0x61>'" in pillion("tokenize", "-m", toy, "a").stdout


def test_perplexity(pillion, toy, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("abcdefghijklmnopqrstuvwxyz" * 20)
    result = pillion("perplexity", "-m", toy, "-f", text, "-c", 64)
    assert result.returncode == 0 and result.stdout.startswith("PPL = 1.0")
    assert "(248 tokens judged, windows of 64)" in result.stdout  # 8 windows, 31 each
    text.write_text("a")
    assert "at least 4" in pillion("perplexity", "-m", toy, "-f", text).stderr


def test_doctor(pillion):
    result = pillion("doctor")
    assert result.returncode == 0
    for part in ("generic", "sse2", "1.0 GiB", "absent: no driver was found"):
        assert part in result.stdout
    assert json.loads(pillion("doctor", "--json").stdout)["cpu"]["table"] == "generic"


def test_python_dash_m():
    program = f"import sys; sys.path.insert(0, {CLI[1].rpartition('/')[0]!r}); import build; build.load(); sys.argv[1:] = ['doctor']"
    program += "; import runpy; runpy.run_module('pillion_fake', run_name='__main__', alter_sys=True)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "") and "generic" in result.stdout


def test_version_and_help(pillion):
    assert pillion("--version").stdout == "0.1.0+fake\n"
    assert "perplexity" in pillion("--help").stdout
    assert "--flash-attn" in pillion("run", "-h").stdout


@pytest.mark.parametrize("phase", ["prefill", "decode", "load"])
def test_ctrl_c(toy, phase):
    prompt, slow = {"prefill": ("x" * 2000, 5_000), "decode": ("abc", 20_000), "load": ("abc", 300_000)}[phase]
    environment = {**os.environ, "FAKE_SLOW": str(slow)}
    command = [*CLI, "run", "-m", str(toy), "-p", prompt, "--temp", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    if phase == "decode":
        process.stdout.read(1)
    else:
        time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - begin < 2
    assert errors.strip() == ""


def test_a_reader_that_goes_away(toy):
    environment = {**os.environ, "FAKE_SLOW": "2000"}
    command = [*CLI, "run", "-m", str(toy), "-p", "abc", "--temp", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert "Traceback" not in process.stderr.read()


def test_a_conversation(toy_file):
    """On a terminal of its own, because without one the prompt is read from stdin."""
    pty = pytest.importorskip("pty")
    source = '"{% for m in messages %}{{ m.content }}{% endfor %}"'
    toy = toy_file({"tokenizer.chat_template": source})
    master, slave = pty.openpty()
    command = [*CLI, "run", "-m", str(toy), "--chat", "-n", "3", "--temp", "0"]
    process = subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.close(slave)
    os.write(master, b"abc\n")
    assert process.stdout.readline() == "def\n"
    os.write(master, b"xyz\n")  # after "abcdef"
    assert process.stdout.readline() == "abc\n"
    os.write(master, b"\x04")
    assert process.wait(timeout=20) == 0
    os.close(master)
    assert "Traceback" not in process.stderr.read()
