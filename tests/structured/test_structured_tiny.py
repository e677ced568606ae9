"""Structured output of the tiny pair: what ends with "stop" is valid, and the drafter changes
nothing of it."""

import itertools
import json
import threading

import pytest

pytest.importorskip("llguidance")

from structured_walks import SCHEMAS, TOOL_SETS, response_format, validate  # noqa: E402

PROMPT = "Genesis 1\n\nIn the beginning"
ASK = [{"role": "user", "content": "In the beginning"}]
DRAFTS = [0, 1, 2, 3, 4, 5, 6, 7, 8, "auto"]
SAMPLE = [
    "weather report",
    "names with escapes",
    "tree",
    "enum of unicode",
    "anyOf of objects",
    "map by pattern",
]
SETS = ["weather", "nested", "patterns", "odd names"]
THINKS = (
    "{{ bos_token }}{% for m in messages %}<|turn>{{ m.role }}\n{{ m.content }}<turn|>\n{% "
    "endfor %}<|turn>model\n"
)
OPENS = THINKS + "{{ '<|channel>thought\\n' }}"


@pytest.fixture(scope="module")
def llm(pillion):
    from pillion.models import TINY_TARGET

    with pillion.LLM(TINY_TARGET, n_ctx=1024) as found:
        yield found


@pytest.fixture(scope="module")
def thinker(pillion):
    """One whose template begins the thinking."""
    from pillion.models import TINY_TARGET

    with pillion.LLM(TINY_TARGET, n_ctx=1024, chat_template=OPENS) as found:
        yield found


@pytest.fixture(scope="module")
def soon(llm):
    """A bias that ends the thinking, and texts, soon."""
    found = {}
    for marker, bias in (("<channel|>", 14.0), ('<|"|>', 12.0), ('"', 4.0), ("<tool_call|>", 4.0)):
        found[llm.tokenizer.encode(marker, add_special=False, parse_special=True)[0]] = bias
    return found


def written(choice):
    """All that a reply consists of, without the ids of its calls."""
    if "text" in choice:
        return choice["text"], choice["finish_reason"]
    message = json.loads(json.dumps(choice["message"]))
    for call in message.get("tool_calls", ()):
        call.pop("id")
    return message, choice["finish_reason"]


def check_schema(llm, thinker, soon, name, drafts, temperature, thinks, seed=11):
    """Returns whether the text ended."""
    options = {
        "response_format": response_format(SCHEMAS[name]),
        "max_tokens": 160,
        "temperature": temperature,
    }
    options |= {"seed": seed, "logit_bias": soon}
    call = (
        (lambda **more: thinker.chat(ASK, **more))
        if thinks
        else (lambda **more: llm.complete(PROMPT, **more))
    )
    plain = written(call(draft=0, **options)["choices"][0])
    for draft in drafts:
        assert written(call(draft=draft, **options)["choices"][0]) == plain, (
            name,
            draft,
            temperature,
            thinks,
        )
    text, reason = plain
    if reason == "stop":
        validate(json.loads(text["content"] if thinks else text), SCHEMAS[name])
    return reason == "stop"


def check_tools(llm, thinker, soon, name, drafts, temperature, thinks):
    tools = TOOL_SETS[name]
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in tools}
    options = {
        "tools": tools,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 200,
    }
    options |= {"temperature": temperature, "seed": 5, "logit_bias": soon}
    who = thinker if thinks else llm
    message, reason = plain = written(who.chat(ASK, draft=0, **options)["choices"][0])
    for draft in drafts:
        assert written(who.chat(ASK, draft=draft, **options)["choices"][0]) == plain, (
            name,
            draft,
            temperature,
        )
    if reason == "length":
        return False
    assert (
        reason == "tool_calls" and not message["content"] and "malformed_tool_calls" not in message
    )
    for call in message["tool_calls"]:
        validate(json.loads(call["function"]["arguments"]), schemas[call["function"]["name"]])
    return True


@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize("temperature", [0, 1])
def test_some_schemas(llm, thinker, soon, temperature, thinks):
    ended = [
        check_schema(llm, thinker, soon, name, [1, 4, 8, "auto"], temperature, thinks)
        for name in SAMPLE
    ]
    assert sum(ended) >= 3


@pytest.mark.nightly
@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("name", SCHEMAS)
def test_all_schemas(llm, thinker, soon, name, temperature, thinks):
    check_schema(llm, thinker, soon, name, DRAFTS[1:], temperature, thinks)


@pytest.mark.nightly
def test_most_schemas_end(llm, thinker, soon):
    ended = [
        check_schema(llm, thinker, soon, name, [], 1, False, seed)
        for name in SCHEMAS
        for seed in range(3)
    ]
    assert sum(ended) > len(ended) * 0.7


@pytest.mark.parametrize("temperature", [0, 1])
def test_some_tools(llm, thinker, soon, temperature):
    ended = [
        check_tools(llm, thinker, soon, name, [1, 4, 8, "auto"], temperature, False)
        for name in SETS
    ]
    ended.append(check_tools(llm, thinker, soon, "weather", [3], temperature, True))
    assert sum(ended) >= 3


@pytest.mark.nightly
@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("name", TOOL_SETS)
def test_all_tools(llm, thinker, soon, name, temperature, thinks):
    check_tools(llm, thinker, soon, name, DRAFTS[1:], temperature, thinks)


@pytest.mark.parametrize("draft", [0, 3, 8, "auto"])
def test_other_forms(llm, draft):
    for seed in range(3):
        options = {"draft": draft, "temperature": 1, "seed": seed, "max_tokens": 60}
        one = llm.complete(PROMPT, regex="(yes|no)", **options)
        assert (
            one["choices"][0]["text"] in ("yes", "no")
            and one["choices"][0]["finish_reason"] == "stop"
        )
        assert one["usage"]["completion_tokens"] <= 4
        one = llm.complete(PROMPT, choice=["light and dark", "light", "water"], **options)[
            "choices"
        ][0]
        assert (
            one["text"] in ("light and dark", "light", "water") and one["finish_reason"] == "stop"
        )
        one = llm.complete(PROMPT, grammar='start: "day " /[1-7]/ (" and " /[1-7]/)?', **options)[
            "choices"
        ][0]
        assert (
            one["text"][:4] == "day "
            and one["text"][4] in "1234567"
            and one["finish_reason"] == "stop"
        )
        one = llm.complete(PROMPT, grammar='root ::= ("ab" | "c"){2}', **options)["choices"][0]
        assert one["text"] in ("abab", "abc", "cab", "cc") and one["finish_reason"] == "stop"
        assert next(iter(llm.generate(PROMPT, choice=["x"], draft=draft))).text == "x"


def test_thinking_stays_free(llm, thinker):
    """Before the body, and only where the model may think. The tiny model does not by itself, so a
    processor has it."""
    begin, end = (
        llm.tokenizer.encode(one, add_special=False, parse_special=True)[0]
        for one in ("<|channel>", "<channel|>")
    )

    def thinks(n_prompt):
        def change(ids, scores):
            scores[begin] += 200
            scores[end] += 100 if len(ids) > n_prompt + 12 else -100
            return scores

        return change

    for who, draft in itertools.product((llm, thinker), (0, 4)):
        n_prompt = who.chat(ASK, max_tokens=1, temperature=0)["usage"]["prompt_tokens"]
        options = {
            "temperature": 0,
            "draft": draft,
            "max_tokens": 60,
            "logits_processor": thinks(n_prompt),
        }
        if who is llm:  # without, its grammar has no thinking
            unasked = who.chat(ASK, choice=["yes"], **options)["choices"][0]["message"]
            assert unasked == {"role": "assistant", "content": "yes"}
            options["chat_template_kwargs"] = {"enable_thinking": True}
        message = who.chat(ASK, choice=["yes"], **options)["choices"][0]["message"]
        assert message["content"] == "yes" and len(message["reasoning_content"]) > 5
    silent = llm.chat(ASK, choice=["yes"], temperature=0)["choices"][0]["message"]
    assert silent == {"role": "assistant", "content": "yes"}


def test_streams_under_a_grammar(llm, soon):
    options = {
        "response_format": response_format(SCHEMAS["weather report"]),
        "temperature": 1,
        "seed": 2,
        "max_tokens": 300,
    }
    options |= {"logit_bias": soon}
    whole = llm.complete(PROMPT, **options)["choices"][0]
    pieces = [chunk["choices"][0] for chunk in llm.complete(PROMPT, stream=True, **options)]
    assert "".join(piece["text"] for piece in pieces) == whole["text"]
    assert pieces[-1]["finish_reason"] == whole["finish_reason"]


def test_stop_strings_and_lengths_end_it_too(llm):
    one = llm.complete(PROMPT, grammar='start: "ab" "cd"{3}', stop=["cdcd"], temperature=0)[
        "choices"
    ][0]
    assert (one["text"], one["finish_reason"]) == ("ab", "stop")
    one = llm.complete(PROMPT, regex="a{40}", max_tokens=3, temperature=0)["choices"][0]
    assert one["finish_reason"] == "length" and set(one["text"]) == {"a"}


def test_logprobs_and_penalties_under_a_grammar(llm):
    """Penalties move choices among the allowed; log-probabilities are the model's own."""
    options = {"regex": "[ab]{12}", "temperature": 0, "max_tokens": 20, "repeat_penalty": 1.5}
    texts = {llm.complete(PROMPT, draft=draft, **options)["choices"][0]["text"] for draft in (0, 4)}
    assert len(texts) == 1
    one = llm.complete(PROMPT, logprobs=2, **options)["choices"][0]
    assert (
        len(one["logprobs"]["tokens"]) == len(one["logprobs"]["token_logprobs"])
        and one["text"] in texts
    )


def test_nothing_left_is_one_sentence(pillion, llm):
    banned = {
        token: float("-inf")
        for token in range(len(llm.tokenizer))
        if llm.tokenizer.token_bytes(token)[:1] == b"y"
    }
    for draft in (0, 4):
        with pytest.raises(
            pillion.UsageError,
            match="the choice allows only tokens after 0 tokens .* that logit_bias bans",
        ):
            llm.complete(PROMPT, choice=["yes"], logit_bias=banned, draft=draft)
        assert (
            llm.complete(PROMPT, choice=["yes", "no"], logit_bias=banned, draft=draft)["choices"][
                0
            ]["text"]
            == "no"
        )


def test_a_logits_processor_under_a_grammar(llm):
    def only(letter):
        wanted = [
            token
            for token in range(len(llm.tokenizer))
            if llm.tokenizer.token_bytes(token)[:1] == letter
        ]

        def raised(ids, scores):
            scores[wanted] += 100
            return scores

        return raised

    for draft in (0, 4):
        for letter, text in ((b"l", "light"), (b"w", "water")):
            options = {"temperature": 0, "draft": draft, "logits_processor": [only(letter)]}
            assert (
                llm.complete(PROMPT, choice=["light", "water"], **options)["choices"][0]["text"]
                == text
            )


def test_without_llguidance(pillion, llm, monkeypatch):
    import builtins

    real = builtins.__import__

    def missing(name, *rest):
        if name.partition(".")[0] == "llguidance":
            raise ImportError("No module named 'llguidance'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(pillion.UsageError, match=r"pip install 'pillion\[structured\]'"):
        llm.complete(PROMPT, regex="a")
    tools = [
        {
            "type": "function",
            "function": {"name": "f", "strict": True, "parameters": {"type": "object"}},
        }
    ]
    with pytest.raises(
        pillion.UsageError,
        match=r"parallel_tool_calls=False .* pip install 'pillion\[structured\]'",
    ):
        llm.chat(ASK, tools=tools, parallel_tool_calls=False)
    assert llm.chat(ASK, tools=tools, tool_choice="required", max_tokens=5, temperature=0)[
        "choices"
    ]


def test_importing_pillion_imports_no_llguidance():
    import subprocess
    import sys

    code = "import pillion, sys; assert 'llguidance' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_with_grammars_of_their_own(llm):
    found = {}

    def ask(letter):
        found[letter] = llm.complete(PROMPT, regex=f"{letter}{{6}}", temperature=0)["choices"][0][
            "text"
        ]

    threads = [threading.Thread(target=ask, args=(letter,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {letter: letter * 6 for letter in "abcdefgh"}
