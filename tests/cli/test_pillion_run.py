"""pillion-run, the command line without Python: the texts of `pillion run`, its errors, Ctrl-C, and
the same on arm64."""

import inspect
import re
import signal
import subprocess

import pytest
from patience import PATIENCE, signals, until

PROMPT = "In the beginning"


@pytest.fixture(scope="module")
def program(libpillion):
    path = libpillion.parent / "pillion-run"
    assert path.exists(), "pillion-run is built beside libpillion"
    return [path]


@pytest.fixture(scope="module")
def tiny_assistant(pillion):
    from pillion.models import TINY_ASSISTANT

    return TINY_ASSISTANT


def run(program, *arguments, stdin=""):
    return subprocess.run(
        [*program, *map(str, arguments)], capture_output=True, text=True, input=stdin, timeout=300
    )


def text_of(done):
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n")
    return done.stdout[:-1]


@pytest.fixture(scope="module")
def llm(pillion, tiny_target):
    with pillion.LLM(tiny_target, drafter=None) as llm:
        yield llm


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--temp", "0"], {"temperature": 0}),
        (["-s", "3"], {"seed": 3}),
        (
            ["-s", "0", "--temp=1.2", "--top-k", "0", "--top-p", "1", "--min-p", "0"],
            {"seed": 0, "temperature": 1.2, "top_k": 0, "top_p": 1.0, "min_p": 0},
        ),
        (["-s", "5", "--repeat-penalty", "1.3"], {"seed": 5, "repeat_penalty": 1.3}),
    ],
    ids=["greedy", "seed", "hot", "penalty"],
)
def test_the_text_is_that_of_the_package(
    program, llm, tiny_target, tiny_assistant, arguments, options
):
    expected = llm.generate(PROMPT, max_tokens=30, **options).run().text
    for drafter in (
        [],
        ["-md", "lookup"],
        ["-md", tiny_assistant],
        ["-md", tiny_assistant, "--draft-dense-head", "--spec-draft-n-max", "3"],
    ):
        assert (
            text_of(run(program, "-m", tiny_target, "-p", PROMPT, "-n", 30, *arguments, *drafter))
            == expected
        )


def test_prompts_come_from_files_and_stdin(program, tiny_target, tmp_path):
    (tmp_path / "prompt.txt").write_text(PROMPT)
    expected = text_of(run(program, "-m", tiny_target, "-p", PROMPT, "-n", 8, "--temp", 0))
    assert (
        text_of(
            run(program, "-m", tiny_target, "-f", tmp_path / "prompt.txt", "-n", 8, "--temp", 0)
        )
        == expected
    )
    assert (
        text_of(run(program, "-m", tiny_target, "-f", "-", "-n", 8, "--temp", 0, stdin=PROMPT))
        == expected
    )


def test_timings_and_drafts_go_to_stderr(program, tiny_target, tiny_assistant):
    done = run(
        program,
        "-m",
        tiny_target,
        "-md",
        tiny_assistant,
        "-p",
        PROMPT,
        "-n",
        20,
        "--temp",
        0,
        "--spec-draft-n-max",
        3,
    )
    assert re.search(r"^prompt: 5 tokens, [\d.]+/s; text: 20 tokens, [\d.]+/s$", done.stderr, re.M)
    accepted, drafted, rate = re.search(
        r"^drafts: (\d+) of (\d+) accepted \(\d+ %\), ([\d.]+) tokens a round; on$",
        done.stderr,
        re.M,
    ).groups()
    assert 0 < int(accepted) <= int(drafted)
    assert 1 <= float(rate) <= 4


def test_a_full_context_ends_the_text(program, tiny_target):
    done = run(program, "-m", tiny_target, "-p", PROMPT, "-c", 16, "--temp", 0)
    assert done.returncode == 0, done.stderr
    by_itself = run(program, tiny_target, "-p", PROMPT, "-c", 16, "--temp", 0)
    assert (by_itself.returncode, by_itself.stdout) == (0, done.stdout)
    # 16 positions, 5 of them the prompt's, and a last token that needs none
    assert "text: 12 tokens" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ([], 2, "no model: give a GGUF file, by itself or with -m FILE"),
        (["x.gguf"], 2, "no prompt: give one with -p TEXT or -f FILE"),
        (
            ["-m", "x.gguf", "y.gguf"],
            2,
            "the model is x.gguf, so y.gguf is one too many: give one model, and the prompt by -p",
        ),
        (["-m", "x.gguf"], 2, "no prompt: give one with -p TEXT or -f FILE"),
        (["-m", "x.gguf", "-p", "a", "-f", "b"], 2, "give the prompt with -p or with -f, not both"),
        (["-m", "x.gguf", "-p"], 2, "-p needs a value, TEXT"),
        (
            ["-m", "x.gguf", "-p", "a", "--chat"],
            2,
            "--chat is an option of `pillion run` only: it needs Python",
        ),
        (
            ["-m", "x.gguf", "-p", "a", "--chat-template=x"],
            2,
            "--chat-template is an option of `pillion run` only: it needs Python",
        ),
        (
            ["-m", "x.gguf", "-p", "a", "--chatter"],
            2,
            "there is no option --chatter; --help lists them",
        ),
        (
            ["-m", "x.gguf", "-p", "a", "-n", "many"],
            2,
            "--n-predict is many; it can be -1 to 2147483647",
        ),
        (["-m", "x.gguf", "-p", "a", "--temp", "nan"], 2, "--temp is nan; it can be 0 to 100"),
        (
            ["-m", "x.gguf", "-p", "a", "--kv-type", "q4_0"],
            2,
            "--kv-type is q4_0; it can be f16, q8_0",
        ),
        (["-m", "x.gguf", "-p", "a", "--no-mmap=1"], 2, "--no-mmap takes no value"),
        (
            ["-m", "x.gguf", "-p", "a", "--spec-draft-n-max", "9"],
            2,
            "--spec-draft-n-max is 9; it can be 0 to 8",
        ),
        (
            ["-m", "x.gguf", "-f", "/nowhere"],
            2,
            "the prompt's file /nowhere can't be read: No such file or directory",
        ),
        (["-m", "x.gguf", "-f", "/tmp"], 2, "the prompt's file /tmp can't be read: Is a directory"),
        (
            ["-m", "x.gguf", "-f", "/dev/zero"],
            2,
            "the prompt's file /dev/zero is longer than 64 MB",
        ),
        (["-m", "", "-p", "a"], 2, "--model is empty"),
        (["-m", "x.gguf", "-p", "a", "-md", ""], 2, "--model-draft is empty"),
        (
            ["-m", "x.gguf", "-p", "a", "-md", "auto"],
            2,
            "--model-draft is auto, which only `pillion run` knows",
        ),
        (["-m", "x.gguf", "-p", "a", "--device="], 2, "--device is empty"),
        (
            ["-m", "x.gguf", "-p", "a", "-n", "99999999999999999999"],
            2,
            "--n-predict is 99999999999999999999; it can be",
        ),
        (["-m", "x.gguf", "-p", "a", "--temp", "1e400"], 2, "--temp is 1e400; it can be 0 to 100"),
        (
            ["-m", "x.gguf", "-p", "a", "-s", "-2"],
            2,
            "--seed is -2; it can be -1 to 9223372036854775807",
        ),
        (["-m", "x.gguf", ""], 2, 'the model is x.gguf, so "" is one too many'),
        (["-m", "/", "-p", "a"], 1, "cannot open '/': it is a directory"),
        (["-m", "/dev/zero", "-p", "a"], 1, "cannot open '/dev/zero': it is not a regular file"),
        (
            ["-m", "TARGET", "-p", "a", "-c", "2147483647"],
            1,
            "n_ctx 2147483647, allowed are 1 to 16777216",
        ),
        (["-m", "TARGET", "-p", "a", "-md", "/nowhere"], 1, "cannot open '/nowhere'"),
        (["-m", "TARGET", "-p", "a", "-ngl", "99"], 1, "n_gpu_layers 99 asked, but device"),
        (["-m", "/nowhere/x.gguf", "-p", "a"], 1, "/nowhere/x.gguf"),
        (["-m", "TARGET", "-p", "a", "--device", "cuda:7"], 1, "cuda"),
        (["-m", "TARGET", "-p", "a", "-md", "TARGET", "--device", "quantum"], 1, "quantum"),
        (["-m", "ASSISTANT", "-p", "a"], 1, "target"),
        (["-m", "TARGET", "-p", "word " * 600, "-c", "64"], 1, "64"),
    ],
)
def test_errors_are_one_sentence(program, tiny_target, tiny_assistant, arguments, status, sentence):
    files = {"TARGET": tiny_target, "ASSISTANT": tiny_assistant}
    done = run(program, *(files.get(a, a) for a in arguments))
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert sentence in done.stderr
    assert done.stdout == ""


def test_help_lists_every_option_and_version_says_it(program, pillion):
    shown = run(program, "--help")
    assert (
        shown.returncode == 0
        and "--spec-draft-n-max N" in shown.stdout
        and "--model FILE" in shown.stdout
    )
    assert run(program, "--version").stdout == f"pillion {pillion.__version__}\n"


def test_the_flags_are_those_of_the_package(program):
    """All but those that need Python: chat templates, JSON, stop strings, models by name."""
    from pillion.cli.run import run as command

    shown = run(program, "--help").stdout
    ours = set(re.findall(r"--[a-z][a-z-]*", shown)) - {"--version"}
    options = [
        parameter.default.param_decls or ()  # MODEL has none
        for parameter in inspect.signature(command).parameters.values()
    ]
    theirs = {word for words in options for word in words if word.startswith("--")} | {"--help"}
    chat = {one for one in theirs if one.startswith(("--chat", "--system", "--think"))}
    python = {"--stop", "--json", "--hf", "--hf-repo", "--state"}
    assert "--chat" in chat and theirs - ours == python | chat and ours <= theirs


@pytest.mark.parametrize(
    "arguments", [["-p", PROMPT, "-n", 3], ["-p", PROMPT, "-n", 0], ["--help"], ["--version"]]
)
def test_text_that_does_not_arrive_is_an_error(program, tiny_target, arguments):
    command = [*program, "-m", str(tiny_target), *map(str, arguments)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        1,
        "error: the text can't be written to stdout: No space left on device\n",
    )
    closed = subprocess.run(
        ["sh", "-c", '"$@" >&-', "-", *command], stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert (closed.returncode, closed.stderr) == (
        1,
        "error: the text can't be written to stdout: Bad file descriptor\n",
    )


def test_other_standard_files_that_are_closed(program, tiny_target):
    command = [*program, "-m", str(tiny_target), "-n", "3", "--temp", "0"]
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "-", *command, "-f", "-"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "error: the prompt's file - can't be read: Bad file descriptor\n",
    )
    silent = subprocess.run(
        ["sh", "-c", '"$@" 2>&-', "-", *command, "-p", PROMPT],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert silent.returncode == 0 and len(silent.stdout) > 3


def test_nobody_reads_the_text_any_more(program, tiny_target):
    command = [
        *program,
        "-m",
        str(tiny_target),
        "-p",
        PROMPT,
        "-c",
        "1000000",
        "-t",
        "1",
        "--temp",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout.read(1)
        child.stdout.close()
        assert child.wait(timeout=60) == -signal.SIGPIPE


def test_bytes_that_are_no_text(program, tiny_target, tmp_path):
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    assert run(program, "-m", tiny_target, "-f", tmp_path / "bytes", "-n", 2).returncode == 0


def stopped(child, number):
    child.send_signal(number)
    _, error = child.communicate(timeout=PATIENCE)
    return child.returncode, error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_text(program, tiny_target, number):
    """Greedy, the tiny model repeats itself for ever; the context has room for minutes of it."""
    command = [
        *program,
        "-m",
        str(tiny_target),
        "-p",
        PROMPT,
        "-c",
        "1000000",
        "-t",
        "1",
        "--temp",
        "0",
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.read(1)
    assert stopped(child, number) == (130, "\nstopped\n")


def test_a_signal_stops_the_wait_for_a_prompt(program, tiny_target):
    command = [*program, "-m", str(tiny_target), "-f", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        # a thread waits for it
        until(lambda: signals(child.pid, "SigBlk") >> (signal.SIGINT - 1) & 1)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=PATIENCE) == 130
        assert child.stderr.read() == "\nstopped\n"


# ---- arm64 ----


@pytest.mark.parametrize("cpu", ["cortex-a53", "neoverse-n1", "max"])
def test_arm64_is_one_static_file_with_the_same_text(
    arm64_build, program, tiny_target, tiny_assistant, cpu
):
    """A plain core, one with dot products, and one with everything; no library folder is given."""
    arguments = ["-m", tiny_target, "-md", tiny_assistant, "-p", PROMPT, "-n", 20, "--temp", 0]
    expected = text_of(run(program, *arguments))
    assert (
        text_of(run(["qemu-aarch64", "-cpu", cpu, arm64_build / "pillion-run"], *arguments))
        == expected
    )


@pytest.mark.nightly
@pytest.mark.parametrize("cpu", ["cortex-a53", "max"])
def test_the_android_build_says_the_same(android_build, program, tiny_target, tiny_assistant, cpu):
    arguments = ["-m", tiny_target, "-md", tiny_assistant, "-p", PROMPT, "-n", 20, "--temp", 0]
    expected = text_of(run(program, *arguments))
    assert (
        text_of(run(["qemu-aarch64", "-cpu", cpu, android_build / "pillion-run"], *arguments))
        == expected
    )
