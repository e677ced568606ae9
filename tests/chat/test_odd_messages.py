"""Messages and templates that no program should send: a sentence each, no bare Python error."""

import pytest

USER = {"role": "user", "content": "q"}


def nested(depth):
    value = "deep"
    for _ in range(depth):
        value = [value]
    return value


def endless():
    value = []
    value.append(value)
    return value


def called(**call):
    function = {"name": "w", "arguments": call.pop("arguments", {})}
    return [USER, {"role": "assistant", "tool_calls": [{"id": "1", "function": function, **call}]}]


SIMPLE = """{% for m in messages %}{{ m.role }}:{{ m.content }}
{{- m.tool_calls | tojson if m.tool_calls }}{% endfor %}"""
JSON_CALLS = """{% for m in messages %}{{ m.content }}
{%- for c in m.tool_calls or [] %}{{ '' + c.function.arguments }}{% endfor %}{% endfor %}"""
NO_CALLS = "{{ messages[0].content }}{{ messages[1].content }}"


@pytest.fixture(params=["simple", "JSON calls", "Gemma 4's calls"])
def llm(request, pillion, tiny_target):
    """The last one's template knows no calls, so that they are written by the package."""
    source = {"simple": SIMPLE, "JSON calls": JSON_CALLS}.get(request.param, NO_CALLS)
    with pillion.LLM(tiny_target, n_ctx=256, drafter=None, chat_template=source) as one:
        yield one


@pytest.mark.parametrize(
    "messages, words",
    [
        (called(arguments={"a": nested(500)}), "arguments of more than 64 objects"),
        (called(arguments={"a": nested(100_000)}), "arguments of more than 64 objects"),
        (called(arguments={"a": endless()}), "arguments of more than 64 objects"),
        (
            called(arguments='{"a": ' + "[" * 500 + "]" * 500 + "}"),
            "arguments of more than 64 objects",
        ),
        (called(id=["1"]), "id "),
        (called(id={}), "id "),
        ([USER, {"role": "tool", "tool_call_id": ["1"], "content": "r"}], "tool_call_id "),
        ([USER, {"role": "tool", "content": {"a": endless()}}], "content of more than 64 objects"),
        (
            [USER, {"role": "tool", "content": {"a": nested(500)}}],
            "content of more than 64 objects",
        ),
    ],
    ids=range(9),
)
def test_what_cannot_be_written(llm, messages, words):
    import pillion

    with pytest.raises(pillion.UsageError, match="message 1") as caught:
        llm.chat(messages, max_tokens=1)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "value, text",
    [
        ({1: 2}, "1"),
        ({("a", "b"): 1}, "('a', 'b')"),
        ({"a": {3}}, "{3}"),
        ({"a": b"x"}, "b'x'"),
        ({"a": nested(60)}, "deep"),
    ],
)
def test_values_that_json_has_no_words_for_become_texts(llm, value, text):
    result = {"role": "tool", "tool_call_id": "1", "content": {"v": value}}
    prompt = llm.render_chat([*called(arguments=value), result])
    assert text in prompt


@pytest.mark.parametrize(
    "source",
    ["{% break %}", "{% continue %}", "{" * 100_000, "{% if 1 %}" * 2000],
)
def test_templates_that_do_not_compile(fake, source):
    with pytest.raises(fake.UsageError, match="is not valid Jinja"):
        fake.ChatTemplate(source)
