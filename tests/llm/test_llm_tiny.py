"""The Python layer over the real library and the embedded tiny model."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from patience import over_and_over

PROMPT = "Genesis 1\n\nIn the beginning"


@pytest.fixture(scope="module")
def llm(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=1024) as llm:
        yield llm


def text_of(result):
    return result["choices"][0]["text"]


def test_greedy_text_is_the_same_every_time(llm, pillion, tiny_target):
    first = llm.complete(PROMPT, temperature=0, max_tokens=40)
    assert len(text_of(first)) > 40 and text_of(first).isascii()
    again = llm.complete(PROMPT, temperature=0, max_tokens=40)
    assert text_of(again) == text_of(first)
    assert again["timings"]["cache_n"] == first["usage"]["prompt_tokens"] - 1
    for options in ({"n_batch": 3}, {"n_threads": 1}, {"flash_attn": "off"}, {"use_mmap": False}):
        with pillion.LLM(tiny_target, n_ctx=256, **options) as other:
            assert text_of(other.complete(PROMPT, temperature=0, max_tokens=40)) == text_of(
                first
            ), options


def test_streaming_stops_and_logprobs(llm):
    whole = text_of(llm.complete(PROMPT, temperature=0, max_tokens=40))
    assert (
        "".join(
            text_of(chunk)
            for chunk in llm.complete(PROMPT, temperature=0, max_tokens=40, stream=True)
        )
        == whole
    )
    stop = whole[20:24]
    stopped = llm.complete(PROMPT, temperature=0, max_tokens=40, stop=stop)
    assert (
        text_of(stopped) == whole[: whole.index(stop)]
        and stopped["choices"][0]["finish_reason"] == "stop"
    )
    found = llm.complete(PROMPT, temperature=0, max_tokens=5, logprobs=3)["choices"][0]["logprobs"]
    assert all(
        max(top.values()) == value
        for top, value in zip(found["top_logprobs"], found["token_logprobs"])
    )


def test_chat_through_the_files_template(llm, tiny_target):
    messages = [{"role": "user", "content": "Read Psalms 23."}]
    rendered = llm.render_chat(messages)
    assert "Read Psalms 23." in rendered
    tokens = llm.chat_tokens(rendered)
    assert tokens.count(llm.token_bos()) == 1 and tokens[0] == llm.token_bos()
    answer = llm.chat(messages, temperature=0, max_tokens=60)
    assert len(answer["choices"][0]["message"]["content"]) > 30


def test_seeds(llm):
    one, same, other = (
        text_of(llm.complete(PROMPT, seed=seed, temperature=1.0, max_tokens=30))
        for seed in (0, 0, 1)
    )
    assert one == same != other


def test_score_and_logprobs_agree(llm, pillion):
    tokens = llm.tokenize(PROMPT)
    with llm.model.context(64) as context:
        scores = context.score(tokens)
        context.sync(tokens[:-1])
        assert context.logprobs(token=tokens[-1]).token == pytest.approx(
            float(scores[-1]), abs=1e-4
        )
        logits = context.logits().astype(np.float64)
        expected = logits[tokens[-1]] - np.log(np.exp(logits).sum())
        assert scores[-1] == pytest.approx(expected, abs=1e-3)


def test_the_end_of_the_context(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=16) as llm:
        n_prompt = len(llm.tokenize(PROMPT))
        result = llm.complete(
            PROMPT,
            temperature=0,
            max_tokens=None,
            logit_bias=dict.fromkeys(llm.tokenizer.end_tokens, -1e9),
        )
        assert result["choices"][0]["finish_reason"] == "length"
        assert result["usage"]["completion_tokens"] == 16 - n_prompt
        with pytest.raises(pillion.ContextFullError, match="16"):
            llm.complete(PROMPT * 3)


def test_cancel_a_long_prefill(pillion, tiny_target):
    with (
        pillion.Model.open(tiny_target) as model,
        model.context(model.n_ctx_train, n_threads=1) as context,
    ):
        tokens = [5 + i % 2000 for i in range(model.n_ctx_train)]
        with over_and_over(context.cancel), pytest.raises(pillion.Cancelled):
            context.prefill(tokens)
        assert len(context) == 0
        context.prefill(tokens[:20])
        assert len(context) == 20


def test_memory_is_given_back(pillion, tiny_target):
    """Field case 39: 30 times open, write, close."""

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for round_number in range(30):
        with pillion.LLM(tiny_target, n_ctx=256) as llm:
            llm.complete(PROMPT, max_tokens=4)
        if round_number == 3:
            before = resident()
    assert resident() - before < 5 << 20


def test_a_corrupt_file(pillion, tiny_target, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(tiny_target.read_bytes()[:5000])
    with pytest.raises(pillion.ModelFileError) as caught:
        pillion.Model.open(damaged)
    assert "damaged.gguf" in str(caught.value)


def test_metadata_and_description(llm):
    metadata = llm.metadata
    assert metadata["general.architecture"] == "gemma4" == llm.model.arch
    assert len(metadata["tokenizer.ggml.tokens"]) == llm.model.n_vocab
    assert "{%" in metadata["tokenizer.chat_template"]
    assert llm.model.describe()["n_layers"] == llm.model.n_layers == 8
    assert "layer" in json.dumps(llm.context.describe())


def command(*arguments, **environment):
    call = [sys.executable, "-m", "pillion", *map(str, arguments)]
    return subprocess.run(
        call, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


def test_the_command_line(pillion, tiny_target, tmp_path):
    result = command("run", "-m", tiny_target, "-p", PROMPT, "-n", "12", "--temp", "0", "--json")
    assert result.returncode == 0 and len(json.loads(result.stdout)["tokens"]) == 12
    assert "gemma4" in command("inspect", tiny_target).stdout
    ids = json.loads(command("tokenize", "-m", tiny_target, PROMPT, "--json").stdout)
    with pillion.Model.open(tiny_target, metadata_only=True) as model:
        assert ids == model.tokenizer.encode(PROMPT)
    (tmp_path / "text.txt").write_text(
        "In the beginning God created the heaven and the earth. " * 40
    )
    assert command(
        "perplexity", "-m", tiny_target, "-f", tmp_path / "text.txt", "-c", "128"
    ).stdout.startswith("PPL = ")
    assert "And it came to pass" in command("demo", "-n", "8").stdout
    doctor = command("doctor")
    assert (
        doctor.returncode == 0 and "kernel table" in doctor.stdout and "absent: " in doctor.stdout
    )
    forced = command("doctor", PILLION_CPU_ISA="quantum")
    assert (
        forced.returncode == 1
        and forced.stderr.startswith("error: ")
        and "quantum" in forced.stderr
    )
