"""The `pillion` command over the fake library: what goes to stdout, what to stderr, and the
exit codes."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys

import pytest
from build import REPOSITORY

from patience import PATIENCE, until, within

CLI = [sys.executable, str(REPOSITORY / "tests" / "fake" / "cli.py")]


@pytest.fixture
def pillion(fake, strings, monkeypatch):
    """Runs the command in this process, which is twenty times quicker than a new one."""
    from pillion_fake.cli.main import main

    def run(*arguments, stdin=""):
        out, errors = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["pillion", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(errors),
            pytest.raises(SystemExit) as left,
        ):
            main()
        return subprocess.CompletedProcess(
            arguments, left.value.code or 0, out.getvalue(), errors.getvalue()
        )

    return run


@pytest.fixture
def toy(toy_file):
    return toy_file({"general.name": '"Toy"', "long.list": "[1, 2, 3]"})


def test_run_writes_the_text(pillion, toy):
    result = pillion("run", "-m", toy, "-p", "abc", "-n", 5, "--temp", 0)
    assert (result.returncode, result.stdout) == (0, "defgh\n")
    assert "prompt: 4 tokens" in result.stderr and "text: 5 tokens" in result.stderr


def test_the_model_may_come_without_an_option(pillion, toy):
    """As `serve` and `inspect` take it."""
    run = ("-p", "abc", "-n", 5, "--temp", 0)
    assert pillion("run", toy, *run).stdout == pillion("run", "-m", toy, *run).stdout
    bench = ("-p", 4, "-n", 2, "-r", 1, "-md", "none", "--json")
    assert pillion("bench", toy, *bench).returncode == 0
    for command in (("run", *run), ("bench", *bench)):
        both = pillion(*command, "-m", toy, toy)
        assert (both.returncode, both.stdout) == (1, "")
        assert "as MODEL or with -m, not both" in both.stderr


def test_run_json(pillion, toy):
    result = pillion("run", "-m", toy, "-p", "abc", "-n", 3, "--temp", 0, "--json")
    found = json.loads(result.stdout)
    assert result.stderr == ""
    assert set(found) == {"text", "tokens", "finish_reason", "timings"}
    assert (found["text"], found["tokens"], found["finish_reason"]) == (
        "def",
        [100, 101, 102],
        "length",
    )
    assert {
        "prompt_n",
        "prompt_ms",
        "prompt_per_second",
        "predicted_n",
        "predicted_ms",
        "predicted_per_second",
        "cache_n",
    } == set(found["timings"])


def test_every_option_of_run(pillion, toy):
    options = (
        "-c 64 -t 1 -b 16 --top-k 4 --top-p 0.9 --min-p 0.1 --repeat-penalty 1.1 --seed 3 "
        "-fa on --kv-type q8_0 --swa-full --no-mmap"
    )
    result = pillion(
        "run",
        "-m",
        toy,
        "-p",
        "abc",
        "--temp",
        0.5,
        "--stop",
        "g",
        "--stop",
        "zz",
        *options.split(),
    )
    assert result.returncode == 0, result.stderr


def test_a_state_is_kept_for_the_next_time(pillion, toy, tmp_path):
    def kept(prompt, *more):
        result = pillion(
            "run", "-m", toy, "-p", prompt, "-n", 3, "--temp", 0, "--json", "--state", state, *more
        )
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout)
        return found["text"], found["timings"]["cache_n"], found["timings"]["prompt_n"]

    state = tmp_path / "talk.state"
    assert kept("abc") == ("def", 0, 4)
    assert kept("abcdexyz") == ("abc", 6, 3)  # "abcde" and the token that texts begin with
    state.write_bytes(b"something else")
    result = pillion("run", "-m", toy, "-p", "a", "--state", state)
    assert result.returncode == 1 and "no saved state" in result.stderr
    assert state.read_bytes() == b"something else"


def test_prompt_from_a_file_and_from_stdin(pillion, toy, tmp_path):
    (tmp_path / "prompt.txt").write_text("abc")
    for arguments, stdin in (
        (["-f", tmp_path / "prompt.txt"], ""),
        (["-f", "-"], "abc"),
        ([], "abc"),
    ):
        assert (
            pillion("run", "-m", toy, *arguments, "-n", 2, "--temp", 0, stdin=stdin).stdout
            == "de\n"
        )
    assert pillion("run", "-m", toy, "-p", "a", "-f", "-").returncode == 1


def test_stop_and_unicode(pillion, toy, strings):
    strings.script(4, "é🙂 END")
    result = pillion("run", "-m", toy, "-p", "abc", "--temp", 0, "--stop", "END")
    assert result.stdout == "é🙂 \n"


def test_chat(pillion, toy_file):
    source = '"{% for m in messages %}{{ m.role[0] }}:{{ m.content }}|{% endfor %}"'
    toy = toy_file({"tokenizer.chat_template": source})
    result = pillion(
        "run", "-m", toy, "--chat", "--system", "S", "-p", "abc", "-n", 2, "--temp", 0, "--json"
    )
    assert json.loads(result.stdout)["timings"]["prompt_n"] == len("s:S|u:abc|") + 1
    assert (
        "no chat template"
        in pillion("run", "-m", toy_file(name="bare.gguf"), "--chat", "-p", "a").stderr
    )


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["run", "-m", "none.gguf", "-p", "a"], "cannot open 'none.gguf': No such file"),
        (["run", "-m", "TOY", "-f", "none.txt"], "none.txt: No such file"),
        (["run", "-m", "TOY", "-p", "a", "--temp", "-1"], "--temp is -1"),
        (["run", "-m", "TOY", "-p", "a", "-fa", "maybe"], "--flash-attn is 'maybe'"),
        (["run", "-m", "TOY", "-p", "abcdefgh", "-c", "4"], "9 tokens"),
        (["inspect", "none.gguf"], "No such file"),
        (["tokenize", "-m", "none.gguf", "a"], "No such file"),
        (["perplexity", "-m", "TOY", "-f", "none.txt"], "none.txt"),
    ],
)
def test_an_error_is_one_sentence_and_exit_code_1(pillion, toy, arguments, sentence):
    result = pillion(*[toy if argument == "TOY" else argument for argument in arguments])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ") and sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_wrong_usage_is_exit_code_2(pillion, toy):
    for arguments in (
        ["run"],
        ["run", "-m", toy, "-n", "many"],
        ["nonsense"],
        ["tokenize", "-m", toy],
    ):
        assert pillion(*arguments).returncode == 2


def test_inspect(pillion, toy):
    result = pillion("inspect", toy)
    assert result.returncode == 0
    for part in ("gemma4", "vocabulary", "261", "general.name", "F32", "memory"):
        assert part in result.stdout
    assert json.loads(pillion("inspect", toy, "--json").stdout)["metadata"]["long.list"] == [
        1,
        2,
        3,
    ]


def test_tokenize(pillion, toy):
    assert json.loads(pillion("tokenize", "-m", toy, "aé", "--json").stdout) == [256, 97, 195, 169]
    assert json.loads(pillion("tokenize", "-m", toy, "a", "--json", "--no-special").stdout) == [97]
    assert json.loads(
        pillion("tokenize", "-m", toy, "<turn>", "--json", "--parse-special").stdout
    ) == [256, 258]
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
    found = json.loads(pillion("doctor", "--json").stdout)
    threads = f"{len(os.sched_getaffinity(0))} (the CPUs of the affinity mask)"
    absent = "absent: its module libpillion_cuda.so is not installed"
    parts = (found["cpu"]["table"], *found["cpu"]["features"], " GiB", threads, absent)
    assert all(part in result.stdout for part in parts) and "generic" in found["cpu"]["tables"]


def test_python_dash_m():
    program = (
        f"import sys; sys.path.insert(0, {CLI[1].rpartition('/')[0]!r}); "
        "import build; build.load(); sys.argv[1:] = ['doctor']; "
        "import runpy; runpy.run_module('pillion_fake', run_name='__main__', alter_sys=True)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "") and "generic" in result.stdout


# ---- the drafter ----


def test_run_with_a_drafter(pillion, toy, toy_drafter):
    for arguments in (
        ("-md", toy_drafter),
        ("-md", "auto"),
        (),
        ("--model-draft", toy_drafter, "--draft-dense-head"),
    ):
        more = ("--spec-draft-n-max", 3, *arguments)  # "auto" may pause on a busy machine
        result = pillion("run", "-m", toy, "-p", "abc", "-n", 9, "--temp", 0, *more)
        assert (result.returncode, result.stdout) == (0, "defghijkl\n")
        assert "drafts: 6 of 6 accepted (100 %), 4.00 tokens a round; on" in result.stderr
    result = pillion(
        "run",
        "-m",
        toy,
        "-p",
        "abc",
        "-n",
        9,
        "--temp",
        0,
        "--spec-draft-n-max",
        4,
        "--spec-draft-p-min",
        0.5,
        "--json",
    )
    found = json.loads(result.stdout)
    assert (
        found["text"] == "defghijkl"
        and found["speculation"]["drafted"] == found["timings"]["draft_n"] == 6
    )
    for arguments in (("-md", "none"), ("-md", "lookup", "--spec-draft-n-max", 0)):
        result = pillion("run", "-m", toy, "-p", "abc", "-n", 3, "--temp", 0, *arguments)
        assert result.stdout == "def\n" and ("off" in result.stderr) == ("lookup" in arguments)


def test_wrong_drafters(pillion, toy, toy_drafter, toy_file):
    for arguments, said in [
        (("--spec-draft-n-max", "9"), "0 to 8, or auto"),
        (("--spec-draft-n-max", "x"), "0 to 8, or auto"),
        (("--spec-draft-p-min", "2"), "--spec-draft-p-min is 2"),
        (("-md", "nowhere.gguf"), "nowhere.gguf"),
        (
            (
                "-md",
                toy_file(name="w.gguf", assistant=True, target_width=64),
            ),
            "width",
        ),
    ]:
        result = pillion("run", "-m", toy, "-p", "abc", *arguments)
        assert (
            result.returncode == 1 and said in result.stderr and result.stderr.startswith("error: ")
        )
    toy_file(name="second.gguf", assistant=True)
    for command in (
        ("run", "-p", "abc", "-n", 3, "--temp", 0),
        ("bench", "-p", 40, "-n", 3, "-r", 1),
    ):
        result = pillion(*command, "-m", toy, "-md", "auto")
        assert (
            result.returncode == 1
            and "toy-assistant.gguf" in result.stderr
            and "second.gguf" in result.stderr
        )


def test_several_drafters_that_nobody_asked_for(pillion, toy, toy_drafter, toy_file, caplog):
    """`run` and `bench` go on without, and say so once."""
    toy_file(name="second.gguf", assistant=True)
    result = pillion("run", "-m", toy, "-p", "abc", "-n", 3, "--temp", 0)
    assert (result.returncode, result.stdout) == (0, "def\n") and "drafts:" not in result.stderr
    found = json.loads(pillion("bench", "-m", toy, "-p", 40, "-n", 12, "-r", 1, "--json").stdout)
    assert {one["test"] for one in found} == {"prefill", "decode", "verify"}
    said = [
        record.getMessage()
        for record in caplog.records
        if "more than one drafter" in record.getMessage()
    ]
    assert len(said) == 2 and all(
        "toy-assistant.gguf" in one and "second.gguf" in one for one in said
    )


def test_bench_json(pillion, toy, toy_drafter):
    found = json.loads(
        pillion(
            "bench", "-m", toy, "-p", 40, "-n", 12, "-r", 2, "--spec-draft-n-max", 3, "--json"
        ).stdout
    )
    tests = [one["test"] for one in found]
    assert tests == [
        "prefill",
        "decode",
        "decode_draft",
        *["verify"] * 9,
        *["draft_step"] * 2,
        *["break_even"] * 8,
    ]
    for one in found[:14]:
        assert {"rows", "n", "ctx", "median_ms", "min_ms", "tokens_per_second"} <= set(one)
        assert 0 < one["min_ms"] <= one["median_ms"]
    assert [one["rows"] for one in found[3:12]] == [*range(1, 10)]
    assert [one["head"] for one in found[12:14]] == ["centroid", "dense"]
    drafted = found[2]
    assert drafted["acceptance"] == 1 and drafted["texts_equal"] and drafted["speedup"] > 0
    assert [one["n_draft"] for one in found[14:]] == [*range(1, 9)]


def test_bench_for_people(pillion, toy, toy_drafter, tmp_path):
    result = pillion("bench", "-m", toy, "-p", 10, "-n", 6, "-r", 1, "--roofline")
    assert (
        result.returncode == 0
        and "break-even" in result.stdout
        and "of the bandwidth" in result.stdout
        and "machine, " in result.stdout
    )
    result = pillion("bench", "-m", toy, "-md", "none", "-p", 10, "-n", 6, "-r", 1)
    assert result.returncode == 0 and "draft" not in result.stdout
    result = pillion("bench", "-m", toy, "-md", "lookup", "-p", 10, "-n", 6, "-r", 1, "--json")
    assert "draft_step" not in result.stdout and json.loads(result.stdout)[2]["kind"] == "lookup"
    (tmp_path / "short.txt").write_text("short")
    result = pillion("bench", "-m", toy, "-f", tmp_path / "short.txt", "-p", 10)
    assert result.returncode == 1 and "6 tokens" in result.stderr
    for model in (toy, toy_drafter):
        result = pillion("bench", "-m", model, "-p", 4096)
        assert result.returncode == 1 and "4096" in result.stderr


def test_bench_with_made_up_acceptance(pillion, toy, toy_drafter, strings):
    command = (
        "bench",
        "-m",
        toy,
        "-p",
        20,
        "-n",
        600,
        "-r",
        2,
        "--spec-draft-n-max",
        4,
        "--json",
        "--synthetic-accept",
    )
    for wanted in (1, 2.5, 5):
        one = json.loads(pillion(*command, wanted).stdout)[2]
        assert one["synthetic"] and one["mean_tokens_per_round"] == pytest.approx(wanted, abs=0.3)
    result = pillion(*command, 5.5)
    assert result.returncode == 1 and "1 to 5" in result.stderr


def test_bench_with_a_chance_and_the_pairs_own_lengths(pillion, toy, toy_drafter):
    command = ("bench", "-m", toy, "-md", toy_drafter, "-p", 20, "-n", 300, "-r", 1, "--json")
    one = json.loads(pillion(*command, "--synthetic-accept", 0.7).stdout)[2]
    assert one["synthetic"] and one["n_draft"] == "auto" and len(one["speedups"]) == 1
    by_position = one["acceptance_by_position"]
    assert not by_position or by_position[0] == pytest.approx(0.7, abs=0.35)


def test_bench_without_matplotlib(pillion, toy, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = pillion("bench", "-m", toy, "--plot", tmp_path / "out.png")
    assert (
        result.returncode == 1
        and 'pip install "pillion[plot]"' in result.stderr
        and result.stdout == ""
    )


def test_the_chance_of_a_draft(fake):
    from pillion_fake.benchmark.measure import break_even, chance_for

    assert chance_for(1, 3) == pytest.approx(0, abs=1e-9) and chance_for(4, 3) == pytest.approx(1)
    assert chance_for(1.5, 1) == pytest.approx(0.5) and chance_for(1.75, 2) == pytest.approx(0.5)
    found = break_even([{"median_ms": 10}, {"median_ms": 12}, {"median_ms": 40}], 3)
    assert found[0]["tokens_per_round"] == pytest.approx(1.5) and found[0][
        "acceptance"
    ] == pytest.approx(0.5)
    assert found[1]["acceptance"] is None  # 4.6 tokens of 3


def test_demo(pillion, toy, toy_drafter, monkeypatch):
    from pillion_fake.cli import demo

    monkeypatch.setattr(demo, "TINY_TARGET", toy)
    monkeypatch.setattr(demo, "TINY_ASSISTANT", toy_drafter)
    result = pillion("demo", "-n", 9)
    assert result.returncode == 0 and result.stdout.endswith("after thistuvwxyzab\n"), result.stdout
    assert "texts equal: yes" in result.stderr and "6 of 6 accepted" in result.stderr
    monkeypatch.setattr(demo, "TINY_ASSISTANT", toy.with_name("none.gguf"))
    assert "none.gguf is missing" in pillion("demo").stderr


def test_version_and_help(pillion):
    assert pillion("--version").stdout == "0.1.0\n"
    assert "perplexity" in pillion("--help").stdout
    assert "--flash-attn" in pillion("run", "-h").stdout


@pytest.mark.parametrize("phase", ["prefill", "decode", "load"])
def test_ctrl_c(toy, tmp_path, phase):
    """Each phase would last minutes, but for the load: that is ten times two seconds."""
    prompt, slow = {
        "prefill": ("x" * 4000, 50_000),
        "decode": ("abc", 50_000),
        "load": ("abc", 2_000_000),
    }[phase]
    environment = {**os.environ, "FAKE_SLOW": str(slow), "FAKE_MARKS": str(tmp_path)}
    command = [*CLI, "run", "-m", str(toy), "-p", prompt, "--temp", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    if phase == "decode":
        process.stdout.read(1)
    else:
        until((tmp_path / {"prefill": "eval", "load": "load"}[phase]).exists)
    process.send_signal(signal.SIGINT)
    with within(PATIENCE if phase != "load" else 15):
        _, errors = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 130
    assert errors.strip() == ""


def test_a_reader_that_goes_away(toy):
    environment = {**os.environ, "FAKE_SLOW": "2000"}
    command = [*CLI, "run", "-m", str(toy), "-p", "abc", "--temp", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(timeout=PATIENCE) == 141
    assert "Traceback" not in process.stderr.read()


def test_a_conversation(toy_file):
    """On a terminal of its own, because without one the prompt is read from stdin."""
    pty = pytest.importorskip("pty")
    source = '"{% for m in messages %}{{ m.content }}{% endfor %}"'
    toy = toy_file({"tokenizer.chat_template": source})
    master, slave = pty.openpty()
    command = [*CLI, "run", "-m", str(toy), "--chat", "-n", "3", "--temp", "0"]
    process = subprocess.Popen(
        command, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    os.close(slave)
    os.write(master, b"abc\n")
    assert process.stdout.readline() == "def\n"
    os.write(master, b"xyz\n")  # after "abcdef"
    assert process.stdout.readline() == "abc\n"
    os.write(master, b"\x04")
    assert process.wait(timeout=PATIENCE) == 0
    os.close(master)
    assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    "arguments", [["run", "-n", "2", "-m"], ["inspect"], ["tokenize", "x", "-m"]]
)
def test_closed_streams(toy, arguments, closed):
    """A service manager may start a program without them."""
    command = [*CLI, *arguments, str(toy)]
    result = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command], input="", capture_output=True, text=True
    )
    assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr
    assert bool(result.stdout) == (">&-" not in closed.replace("2>&-", "")), result
