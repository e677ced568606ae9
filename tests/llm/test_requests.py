"""Wrong arguments of complete, chat, generate and their kin: a `PillionError` with one sentence,
before anything runs."""

import inspect
import math

import numpy as np
import pytest

ASK = [{"role": "user", "content": "ab"}]
NAN, INF = math.nan, math.inf


@pytest.fixture
def llm(fake, strings, toy_file):
    with fake.LLM(toy_file(), chat_template="{{ messages[0].content }}", n_ctx=64) as llm:
        yield llm


def sentence_of(fake, call, /, *args, **kwargs):
    with pytest.raises(fake.UsageError) as caught:
        call(*args, **kwargs)
    sentence = str(caught.value)
    assert (
        isinstance(caught.value, fake.PillionError) and "\n" not in sentence and len(sentence) < 500
    )
    return sentence


SETTINGS = [
    ("seed", ["42", -2, 2**64, 1.5, True, NAN, [1]]),
    ("temperature", ["hot", -1, NAN, INF, True, [1], 1j]),
    ("top_k", ["4", -2, 1.5, True, 2**40]),
    ("top_p", ["x", 0, 1.1, NAN, False]),
    ("min_p", ["x", -0.1, 2, NAN]),
    ("repeat_penalty", ["x", 0, INF]),
    ("frequency_penalty", ["x", NAN, INF]),
    ("presence_penalty", ["x", NAN, INF]),
    ("penalty_last_n", ["x", -2, 1.5]),
    ("max_tokens", ["5", -2, 1.5, NAN, True, [5]]),
    ("stop", [5, b"x", [5], "", ["a", ""], {"a": 1}, [b"x"]]),
    (
        "logit_bias",
        [
            5,
            "x",
            [1],
            {"x": 1},
            {1.5: 1},
            {1: "x"},
            {1: NAN},
            {1: INF},
            {999: 1},
            {-1: 1},
            {1: True},
        ],
    ),
    ("draft", ["x", -1, 9, 1.5, True, 3]),
]


@pytest.mark.parametrize("name, values", SETTINGS, ids=[name for name, _ in SETTINGS])
@pytest.mark.parametrize("how", ["complete", "chat", "generate"])
def test_wrong_settings(fake, llm, how, name, values):
    call, first = getattr(llm, how), ASK if how == "chat" else "ab"
    for value in values:
        sentence = sentence_of(fake, call, first, **{name: value})
        assert name in sentence or (name == "draft" and "draft length" in sentence), sentence


@pytest.mark.parametrize(
    "how, name, values",
    [
        ("complete", "logprobs", ["2", -1, 1000, True, 1.5]),
        ("complete", "stream", [1, "yes", None]),
        ("complete", "echo", ["yes"]),
        ("complete", "suffix", ["x"]),
        ("chat", "stream", [1, "yes"]),
        ("chat", "logprobs", [2, "yes"]),
        ("chat", "top_logprobs", ["2", -1, 1000, True]),
        ("chat", "tool_choice", ["always", 5, [1], b"auto"]),
        ("chat", "tools", ["x", 5, [5]]),
        ("chat", "chat_template_kwargs", [5, "x", [1], {1: 2}, {"messages": []}, {"tools": []}]),
        (
            "chat",
            "response_format",
            [{"type": "jsonobject"}, {"type": "json_schema", "json_schema": {}}, "json", 5, {}],
        ),
        (
            "complete",
            "response_format",
            [{"type": "json"}, {"type": "json_schema", "json_schema": {"schema": 5}}, []],
        ),
        ("complete", "regex", ["", 5, b"a", "(", "\ud800"]),
        ("chat", "grammar", ["", 5, "start: x", "foo ::= bar"]),
        ("generate", "choice", ["yes", [], [""], [5], {"a": 1}, 5]),
        ("chat", "parallel_tool_calls", [1, "no"]),
        ("generate", "logprobs", ["2", -1]),
    ],
)
def test_wrong_arguments_of_one_call(fake, llm, how, name, values):
    for value in values:
        sentence = sentence_of(
            fake, getattr(llm, how), ASK if how == "chat" else "ab", **{name: value}
        )
        assert name in sentence, sentence


@pytest.mark.parametrize(
    "prompt", [5, None, 1.5, {"a": 1}, ["a"], [1.5], [[1]], [True], [None], object()]
)
def test_wrong_prompts(fake, llm, prompt):
    for call in (llm.complete, llm.generate):
        assert "prompt" in sentence_of(fake, call, prompt)


@pytest.mark.parametrize(
    "messages",
    [
        None,
        5,
        "ab",
        b"ab",
        {},
        [],
        [5],
        [None],
        ["ab"],
        [{}],
        [{"role": 5}],
        [{"role": ""}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": {"a": 1}}],
        [{"role": "user", "content": [5]}],
        [{"role": "user", "content": [{"type": "text", "text": 5}]}],
        [{"role": "user", "content": [{"type": "input_audio"}]}],
        [{"role": "assistant", "reasoning_content": 5}],
        [{"role": "assistant", "tool_calls": "x"}],
        [{"role": "assistant", "tool_calls": [5]}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": 5}}]}],
        ASK[0],
    ],
)
def test_wrong_messages(fake, llm, messages):
    for call in (llm.chat, llm.render_chat):
        assert "message" in sentence_of(fake, call, messages)


def test_unknown_names(fake, llm):
    for call, first in ((llm.complete, "ab"), (llm.chat, ASK), (llm.generate, "ab")):
        for value in (1, None):
            assert "did you mean temperature?" in sentence_of(fake, call, first, temprature=value)
            assert "did you mean max_tokens?" in sentence_of(fake, call, first, max_token=value)
            assert "did you mean grammar?" in sentence_of(fake, call, first, gramar=value)
        for name in ("prompts", "call", "caller", "options", "shown"):
            assert f"has no argument {name!r}" in sentence_of(fake, call, first, **{name: 1})
    assert "did you mean tools?" in sentence_of(fake, llm.chat, ASK, tool=[])
    assert "did you mean add_bos?" in sentence_of(fake, llm.tokenize, "a", add_bo=True)
    assert "detokenize() has no argument" in sentence_of(fake, llm.detokenize, [97], specials=True)


def test_what_is_known_is_what_the_calls_take(fake):
    """The names in sentences are those of the signatures."""
    import importlib

    requests = importlib.import_module("pillion_fake.llm.requests")
    shared = set(requests._SAMPLING + requests._OTHERS)
    for how, known in requests._OF_A_CALL.items():
        taken = set(inspect.signature(getattr(fake.LLM, how[:-2])).parameters) - {
            "self",
            "options",
            "settings",
        }
        assert taken - shared == set(known), how


def test_bytes_are_utf8(fake, llm):
    assert llm.complete("aé".encode(), max_tokens=1, temperature=0)["usage"]["prompt_tokens"] == 4
    assert (
        llm.complete(bytearray(b"ab"), max_tokens=1, temperature=0, echo=True)["choices"][0]["text"]
        == "abc"
    )
    assert llm.tokenize(b"ab") == [256, 97, 98]
    for call in (llm.complete, llm.generate, llm.tokenize):
        assert "bytes that are not UTF-8: byte 1 is 0xFF" in sentence_of(fake, call, b"a\xff")


def test_texts_and_ids(fake, llm):
    for value in (5, None, [97]):
        assert "text is" in sentence_of(fake, llm.tokenize, value)
        assert "rendered is" in sentence_of(fake, llm.chat_tokens, value)
    assert "add_bos is 1" in sentence_of(fake, llm.tokenize, "a", 1)
    assert "special is 'x'" in sentence_of(fake, llm.tokenize, "a", special="x")
    for value in (5, "a", b"a", ["a"], [1.5], {"a": 1}):
        assert "tokens" in sentence_of(fake, llm.detokenize, value)


def test_numbers_of_numpy(llm):
    options = {
        "temperature": np.float32(0),
        "top_k": np.int64(4),
        "seed": np.uint8(3),
        "max_tokens": np.int32(2),
    }
    assert (
        llm.complete(np.array([256, 97]), **options, logit_bias={np.int64(5): np.float32(0)})[
            "choices"
        ][0]["text"]
        == "bc"
    )
    assert llm.detokenize(np.array([97, 98])) == "ab" and llm.detokenize(iter([97])) == "a"


def test_what_says_nothing_is_fine(llm):
    for response_format in (None, {"type": "text"}):
        assert llm.chat(
            ASK,
            max_tokens=1,
            temperature=0,
            response_format=response_format,
            tools=None,
            tool_choice=None,
            stop=None,
        )
    nothing = dict.fromkeys(
        ("top_k", "top_p", "min_p", "seed", "logit_bias", "stop", "draft", "repeat_penalty")
    )
    assert llm.complete("ab", max_tokens=1, **nothing)


def test_nothing_ran(fake, llm, strings):
    before = strings.evaluated
    for options in ({"temperature": "hot"}, {"stop": 5}, {"grammar": "x"}):
        sentence_of(fake, llm.chat, ASK, **options)
        sentence_of(fake, llm.complete, "ab", stream=True, **options)
    assert strings.evaluated == before


def test_a_closed_llm_says_so(pillion, tiny_target):
    llm = pillion.LLM(tiny_target, n_ctx=64, drafter=None)
    llm.close()
    messages = [{"role": "user", "content": "x"}]
    for call in (
        lambda: llm.complete("x"),
        lambda: llm.chat(messages),
        lambda: llm.embed("x"),
        lambda: next(llm.generate("x")),
    ):
        with pytest.raises(pillion.Closed, match="this LLM is closed"):
            call()
