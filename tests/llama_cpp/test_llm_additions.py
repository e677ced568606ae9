"""What users of other libraries look for in `pillion.LLM` itself."""

import importlib
import logging
from types import SimpleNamespace

import pytest

PROMPT = "Genesis 1\n\nIn the beginning"
BEGUN = [
    {"role": "user", "content": "Who made the heaven?"},
    {"role": "assistant", "content": "And the LORD  said <turn|>x "},
]


@pytest.fixture(scope="module")
def llm(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=512) as llm:
        yield llm


def content(result):
    return result["choices"][0]["message"]["content"]


def test_a_begun_message_goes_on(pillion, llm):
    prompt = llm.render_chat(BEGUN)
    before = llm.render_chat(BEGUN[:1])
    assert prompt == before + BEGUN[1]["content"]
    found = llm.chat(BEGUN, max_tokens=8, temperature=0)
    wanted = llm.complete(llm.chat_tokens(prompt), max_tokens=8, temperature=0)
    assert content(found) == wanted["choices"][0]["text"]
    chunks = llm.chat(BEGUN, max_tokens=8, temperature=0, stream=True)
    deltas = [one["choices"][0]["delta"] for one in chunks]
    assert "".join(one.get("content", "") for one in deltas) == content(found)
    new = llm.render_chat(BEGUN, continue_final_message=False)
    assert new.endswith("<turn|>\n<|turn>model\n") and new != prompt
    asked = llm.chat(BEGUN, continue_final_message=False, max_tokens=1)["usage"]["prompt_tokens"]
    assert asked == len(llm.chat_tokens(new))
    for last in ({"role": "assistant", "content": ""}, {"role": "user", "content": "And?"}):
        assert llm.render_chat([*BEGUN, last]).endswith("<|turn>model\n")
        with pytest.raises(pillion.UsageError, match="continue_final_message is True, but the las"):
            llm.chat([*BEGUN, last], continue_final_message=True)
    with pytest.raises(pillion.UsageError, match="continue_final_message is 1"):
        llm.chat(BEGUN, continue_final_message=1)


def test_who_says_how_the_prompt_ends(llm):
    """add_generation_prompt is a template's own variable; the server hands fields on."""
    new = llm.render_chat(BEGUN, continue_final_message=False)
    assert llm.render_chat(BEGUN, add_generation_prompt=True) == new
    assert new.startswith(llm.render_chat(BEGUN, add_generation_prompt=False))
    pytest.importorskip("starlette")
    from pillion.server.openai_routes import chat_fields
    from pillion.server.preparing import prepared_chat
    from pillion.server.schemas import ChatRequest

    settings = SimpleNamespace(max_messages=9, max_tools=9, default_variables=None)
    for said, rendered in ((None, llm.render_chat(BEGUN)), (False, new)):
        given = ChatRequest(messages=BEGUN, continue_final_message=said)
        fields = chat_fields(SimpleNamespace(settings=settings), given)
        assert prepared_chat(llm, fields)[0].request.prompt == llm.chat_tokens(rendered)


def test_what_cannot_be_begun(pillion, llm, tiny_target):
    with pytest.raises(pillion.UsageError, match="and choice holds for whole replies; continue_"):
        llm.chat(BEGUN, choice=["a", "b"])
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(pillion.UsageError, match="and tool_choice holds for whole replies"):
        llm.chat(BEGUN, tools=[tool], tool_choice="required")
    deaf = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pillion.LLM(tiny_target, n_ctx=64, chat_template=deaf, drafter=None) as other:
        with pytest.raises(pillion.UsageError, match="the chat template drops the last message"):
            other.chat(BEGUN)


def test_a_message_behind_a_tools_result_goes_on(llm):
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        BEGUN[0],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "light"},
        {"role": "assistant", "content": "I see"},
    ]
    assert llm.render_chat(messages).endswith("I see")
    assert not llm.render_chat(messages[:2]).endswith("I see")


def test_thinking_is_an_argument(pillion, llm, tiny_target):
    source = "{{ bos_token }}{% if enable_thinking %}think{% endif %}{{ messages[0].content }}"
    with pillion.LLM(tiny_target, n_ctx=64, chat_template=source, drafter=None) as other:
        counts = [
            other.chat(BEGUN[:1], enable_thinking=value, max_tokens=1)["usage"]["prompt_tokens"]
            for value in (None, False, True)
        ]
        assert counts[0] == counts[1] < counts[2]
        given = other.chat(BEGUN[:1], chat_template_kwargs={"enable_thinking": True}, max_tokens=1)
        assert given["usage"]["prompt_tokens"] == counts[2]
    with pytest.raises(pillion.UsageError, match="enable_thinking is 'yes'"):
        llm.chat(BEGUN[:1], enable_thinking="yes")


def test_criteria_end_a_text(pillion, llm, tiny_target):
    n_prompt = len(llm.tokenize(PROMPT))
    seen = []

    def is_long(ids, logits):
        seen.append((len(ids), int(logits.argmax())))
        return len(ids) == n_prompt + 7

    whole = llm.complete(PROMPT, temperature=0, max_tokens=40)["choices"][0]["text"]
    found = llm.complete(PROMPT, temperature=0, max_tokens=40, stopping_criteria=is_long)
    assert found["usage"]["completion_tokens"] == 7
    assert found["choices"][0]["finish_reason"] == "stop"
    assert whole.startswith(found["choices"][0]["text"])
    assert [n for n, _ in seen] == [n_prompt + at for at in range(8)]
    # each criterion sees each text, whatever the others say
    asked = [0, 0]

    def never(ids, logits):
        asked[0] += 1
        return False

    def at_once(ids, logits):
        asked[1] += 1
        return True

    assert llm.complete(PROMPT, stopping_criteria=[at_once, never])["choices"][0]["text"] == ""
    assert asked == [1, 1]
    assert (
        llm.complete(PROMPT, stopping_criteria=[], max_tokens=2)["usage"]["completion_tokens"] == 2
    )
    for wrong, sentence in ((3, "stopping_criteria is 3"), ([3], r"stopping_criteria\[0\] is 3")):
        with pytest.raises(pillion.UsageError, match=sentence):
            llm.complete(PROMPT, stopping_criteria=wrong)

    def fails(ids, logits):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        llm.complete(PROMPT, stopping_criteria=fails)
    assert llm.complete(PROMPT, temperature=0, max_tokens=40)["choices"][0]["text"] == whole
    with pytest.raises(pillion.UsageError, match="criteria need an end_token"):
        pillion.LogitsProcessors([], [1], criteria=is_long)


def test_values_that_others_write(pillion, llm, tiny_target, caplog):
    texts = {llm.complete(PROMPT, seed=-1, top_k=-1)["choices"][0]["text"] for _ in range(4)}
    assert len(texts) > 1
    assert pillion.SamplingParams(top_k=-1, seed=-1) == pillion.SamplingParams(top_k=0, seed=None)
    caplog.set_level(logging.WARNING, "pillion")
    if pillion.device("auto")["is_host"]:
        with pillion.LLM(tiny_target, n_ctx=64, n_gpu_layers=99, drafter=False) as other:
            assert other.pair is None
        assert "n_gpu_layers is 99, but the only device is the CPU" in caplog.text
        with pytest.raises(pillion.NoBackendError, match="n_gpu_layers 99 asked"):
            pillion.LLM(tiny_target, n_ctx=64, n_gpu_layers=99, strict=True)
    caplog.clear()
    with pillion.LLM(tiny_target, n_ctx=4096, drafter=None):
        assert "n_ctx is 4096, but" in caplog.text and "texts of 2048 tokens" in caplog.text
    caplog.clear()
    with pillion.LLM(tiny_target, n_ctx=2048, drafter=None):
        assert not caplog.text


def test_the_sentences_name_what_exists(pillion):
    """Each name of pillion's that a sentence offers is there."""
    names = importlib.import_module("pillion.foreign_names")
    offered = " ".join([*names.LLM.values(), *names.CALLS.values(), *names.METHODS.values()])
    for word in ("seed", "reset", "render_chat", "speculation", "pair", "name"):
        assert f"LLM.{word}" in offered and hasattr(pillion.LLM, word) or word == "name"
    offers = ("LLM.save", "LLM.load", "Context.match", "Context.logprobs")
    for owner, word in (one.split(".") for one in offers):
        assert f"{owner}.{word}" in offered and hasattr(getattr(pillion, owner), word)
