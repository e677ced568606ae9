"""`pillion run --chat`: templates, thinking, and errors in the words of the command line."""

import importlib
import json
import re
import subprocess
import sys

import pytest
from build import REPOSITORY
from test_cli import pillion, toy  # noqa: F401 - fixtures

THINKER = (
    "{{ '<|think|>' if enable_thinking }}{% for m in messages %}<|turn>{{ m.role }}\n{{ m.content "
    "}}<turn|>\n{% endfor %}"
    "<|turn>model\n{# <|channel> <channel|> #}"
)


@pytest.fixture
def words(fake):
    return importlib.import_module("pillion_fake.cli.words")


def keys(source):
    return {"tokenizer.chat_template": json.dumps(source)}


def prompt_length(result):
    return json.loads(result.stdout)["timings"]["prompt_n"] - 1  # but for BOS


def test_thinking_goes_to_stderr(pillion, toy_file, strings):  # noqa: F811
    file = toy_file(keys(THINKER))
    prompt = "<|turn>system\nS<turn|>\n<|turn>user\nabc<turn|>\n<|turn>model\n"
    strings.script(len(prompt) + 1, [*b"<|channel>thought\nhm\n<channel|>Yes.<channel|>", 257])
    run = ("run", "-m", file, "--chat", "-sys", "S", "-p", "abc", "--temp", 0)
    result = pillion(*run)
    assert result.stdout == "Yes.\n" and result.stderr.startswith("hm\nprompt: ")
    found = json.loads(pillion(*run, "--json").stdout)
    assert (found["text"], found["reasoning_content"], found["finish_reason"]) == (
        "Yes.",
        "hm",
        "stop",
    )


def test_switches_of_the_template(pillion, toy_file, tmp_path):  # noqa: F811
    file = toy_file(
        {**keys(THINKER), "tokenizer.chat_template.short": '"{{ messages[0].content }}"'}
    )
    run = ("run", "-m", file, "--chat", "-p", "abc", "-n", 1, "--temp", 0, "--json")
    plain = prompt_length(pillion(*run))
    assert prompt_length(pillion(*run, "--think")) == plain + len("<|think|>")
    assert prompt_length(pillion(*run, "--no-think")) == plain
    assert prompt_length(
        pillion(*run, "--chat-template-kwargs", '{"enable_thinking": true}')
    ) == plain + len("<|think|>")
    assert prompt_length(pillion(*run, "--chat-template", "short")) == 3
    assert prompt_length(pillion(*run, "--chat-template", "[{{ messages[0].content }}]")) == 5
    jinja = tmp_path / "template.jinja"
    jinja.write_bytes("\ufeff<{{ messages[0].content }}>\r\n".encode())
    assert prompt_length(pillion(*run, "--chat-template-file", jinja)) == 5


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (
            ["--chat"],
            "bare.gguf has no chat template: leave --chat out, or give the template of "
            "its makers with --chat-template-file",
        ),
        (
            ["--chat", "--chat-template", "x", "--chat-template-file", "y"],
            "--chat-template or with --chat-template-file, not both",
        ),
        (["--chat", "--chat-template-file", "none.jinja"], "none.jinja: No such file"),
        (["--chat", "--chat-template", "{% if %}"], "not valid Jinja"),
        (
            ["--chat", "--chat-template-kwargs", "[1]"],
            "--chat-template-kwargs is [1]; it must be a JSON object",
        ),
        (["--chat", "--chat-template-kwargs", "{"], "--chat-template-kwargs is not JSON"),
        (["--think"], "need --chat"),
        (["-sys", "S"], "need --chat"),
        (["--temp", "-1"], "--temp is -1.0"),
        (["-n", "-5"], "--n-predict is -5; it must be 0 or more, or -1 for as many as fit"),
    ],
)
def test_errors_in_command_line_words(pillion, toy_file, arguments, sentence):  # noqa: F811
    result = pillion("run", "-m", toy_file(name="bare.gguf"), "-p", "a", *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert (
        result.stderr.startswith("error: ")
        and sentence in result.stderr
        and result.stderr.count("\n") == 1
    )


PYTHON = re.compile(
    r"\b(?:LLM\(|complete\(|chat\(|generate\(|None\b|True\b|[a-z]+_[a-z_]+ (?:is|must)\b)"
)
WRONG = [
    {"n_ctx": -1},
    {"n_batch": -1},
    {"n_threads": -1},
    {"n_gpu_layers": -2},
    {"kv_type": "f99"},
    {"flash_attn": "maybe"},
    {"device": "tpu"},
    {"draft": 99},
    {"draft_p_min": 2, "drafter": "lookup"},
    {"draft_sampling": "odd", "drafter": "lookup"},
    {"drafter": "none.gguf"},
    {"chat_template": "nope"},
]
WRONG_CALLS = [
    {"max_tokens": -5},
    {"temperature": -1},
    {"top_k": -2},
    {"top_p": 2},
    {"min_p": 2},
    {"repeat_penalty": 0},
    {"seed": -5},
    {"stop": [""]},
    {"draft": 3},
]


def test_no_python_names_reach_the_user(fake, words, strings, toy_file):
    """Every value that an option of `pillion run` hands on, wrong; the sentence names the
    option."""
    import typer.main

    main = importlib.import_module("pillion_fake.cli.main")
    commands = typer.main.get_command(main.app).commands
    of = {
        command: {name for one in found.params for name in one.opts}
        for command, found in commands.items()
    }
    assert set(words.OPTIONS.values()) - set().union(*of.values()) == set()
    known = of["run"]
    sentences = []
    template = {"tokenizer.chat_template": '"{{ messages }}"'}
    for options in WRONG:
        with pytest.raises(fake.PillionError) as caught:
            with fake.LLM(toy_file(template), **options) as llm:
                llm.render_chat([{"role": "user", "content": "a"}])
        sentences.append(caught.value.sentence)
    with fake.LLM(toy_file(), n_ctx=64) as llm:
        for options in WRONG_CALLS:
            with pytest.raises(fake.PillionError) as caught:
                llm.generate("a", **options)
            sentences.append(caught.value.sentence)
        with pytest.raises(fake.PillionError) as caught:
            llm.chat([{"role": "user", "content": "a"}])
        sentences.append(caught.value.sentence)
    for sentence in sentences:
        said = words.in_options(sentence, known)
        assert not PYTHON.search(said), said


@pytest.mark.parametrize(
    "arguments, option",
    [
        ("bench -m TOY --kv-type f99", "--kv-type"),
        ("bench -m TOY -t -1", "--threads"),
        ("bench -m TOY -md lookup --spec-draft-p-min 3", "--spec-draft-p-min"),
        ("perplexity -m TOY -f TEXT -t -1", "--threads"),
        ("perplexity -m TOY -f TEXT --kv-type f99", "--kv-type"),
        ("inspect TOY --kv-type f99", "--kv-type"),
        ("imatrix -m TOY -f TEXT -o OUT -t -1", "--threads"),
        ("imatrix -m TOY -f TEXT -o OUT --chunk 0", "--chunk"),
        ("imatrix -m TOY -f TEXT -o OUT --chunks -1", "--chunks"),
        ("perplexity -m TOY -f TEXT -c 2", "--ctx-size"),
        ("perplexity -m TOY -f TEXT -c 0", "--ctx-size"),
        ("inspect TOY --ctx -5", "--ctx"),
        ("split TOY OUT --max-size 2GB", "--max-size"),
    ],
)
def test_other_commands(pillion, toy, tmp_path, arguments, option):  # noqa: F811
    text = tmp_path / "text.txt"
    text.write_text("abcdefgh" * 100)
    places = {"TOY": toy, "TEXT": text, "OUT": tmp_path / "out.gguf"}
    result = pillion(*[places.get(one, one) for one in arguments.split()])
    assert (
        result.returncode == 1
        and result.stderr.startswith(f"error: {option} is ")
        and not PYTHON.search(result.stderr)
    )


def test_quantize_names_its_options(tmp_path):
    tiny_target = REPOSITORY / "python" / "pillion" / "models" / "tiny-target.gguf"
    once, twice = tmp_path / "once.gguf", tmp_path / "twice.gguf"
    command = [sys.executable, "-m", "pillion", "quantize"]
    subprocess.run([*command, str(tiny_target), str(once), "Q8_0"], check=True, capture_output=True)
    result = subprocess.run(
        [*command, str(once), str(twice), "Q4_0"], capture_output=True, text=True
    )
    assert result.returncode == 1 and "or pass --allow-requantize" in result.stderr
    again = [*command, str(once), str(twice), "Q4_0", "--allow-requantize"]
    assert subprocess.run(again, capture_output=True).returncode == 0


def test_only_options_of_the_command_are_named(words):
    sentence = "top_k is -1; it must be 0 (off) or more"
    assert words.in_options(sentence, {"--top-k"}) == "--top-k is -1; it must be 0 (off) or more"
    assert words.in_options(sentence, {"--temp"}) == sentence
    assert (
        words.in_options("/tmp/top_k/n_ctx.gguf: draft is here", {"--top-k", "--ctx-size"})
        == "/tmp/top_k/n_ctx.gguf: draft is here"
    )
