"""Tool calls: out of the model's text, and back through a template (field case 38). What else
replies hold: test_replies.py."""

import json
import random
import re

import pytest
from gemma4_templates import CALLING
from hypothesis import given, settings
from hypothesis import strategies as st

Q = '<|"|>'


@pytest.fixture(scope="session")
def tool_calls(fake):
    import importlib

    return importlib.import_module("pillion_fake.chat.replies")


def call(body):
    return f"<|tool_call>call:{body}<tool_call|>"


# name, output, content, reasoning, calls
RECORDED = [
    (
        "one string",
        call(f"get_weather{{location:{Q}Paris{Q}}}"),
        "",
        "",
        [("get_weather", {"location": "Paris"})],
    ),
    ("no arguments", call("now{}"), "", "", [("now", {})]),
    (
        "nested objects and arrays",
        call(
            f"book{{guests:[{{age:7,name:{Q}Ann{Q}}},{{age:9,name:{Q}Bo{Q}}}],"
            f"when:{{from:{Q}a{Q},to:[[1,2],[]],x:{{}}}}}}"
        ),
        "",
        "",
        [
            (
                "book",
                {
                    "guests": [{"age": 7, "name": "Ann"}, {"age": 9, "name": "Bo"}],
                    "when": {"from": "a", "to": [[1, 2], []], "x": {}},
                },
            )
        ],
    ),
    (
        "numbers",
        call("f{a:0,b:-3,c:2.50,d:1e-05,e:6.02E+23,g:12345678901234567890}"),
        "",
        "",
        [("f", {"a": 0, "b": -3, "c": 2.5, "d": 1e-05, "e": 6.02e23, "g": 12345678901234567890})],
    ),
    (
        "booleans and null, also as the older templates print them",
        call("f{a:true,b:false,c:null,d:None,e:[True,False]}"),
        "",
        "",
        [("f", {"a": True, "b": False, "c": None, "d": None, "e": [True, False]})],
    ),
    (
        "keys with dot, @ and minus",
        call(
            f"search-web{{filter.date.from:{Q}2026-01-01{Q},@type:{Q}Query{Q},"
            f"max-results:5,{Q}a:b{Q}:1}}"
        ),
        "",
        "",
        [
            (
                "search-web",
                {"filter.date.from": "2026-01-01", "@type": "Query", "max-results": 5, "a:b": 1},
            )
        ],
    ),
    (
        "braces, quotes and commas in a string",
        call(f"run{{cmd:{Q}if (a) {{ echo \"x, y: [1]\" 'z' \\n }}\n{Q},n:1}}"),
        "",
        "",
        [("run", {"cmd": "if (a) { echo \"x, y: [1]\" 'z' \\n }\n", "n": 1})],
    ),
    (
        "two calls",
        call(f"a{{x:{Q}1{Q}}}") + call("b{y:2}"),
        "",
        "",
        [("a", {"x": "1"}), ("b", {"y": 2})],
    ),
    (
        "text before",
        "Let me look.\n" + call("look{at:1}"),
        "Let me look.\n",
        "",
        [("look", {"at": 1})],
    ),
    (
        "thinking before",
        "<|channel>thought\nThey want 7 {really}.\nSo look.\n<channel|>" + call("look{at:7}"),
        "",
        "They want 7 {really}.\nSo look.",
        [("look", {"at": 7})],
    ),
    (
        "blanks, JSON's quotes, a marker inside a string",
        call(
            f' mcp:fs.write {{ path : "a\\"b.txt" ,\n body: {Q}use <tool_call|> and '
            f"<|tool_call>call:rm{{}}<tool_call|>{Q} }} "
        ),
        "",
        "",
        [
            (
                "mcp:fs.write",
                {
                    "path": 'a"b.txt',
                    "body": "use <tool_call|> and <|tool_call>call:rm{}<tool_call|>",
                },
            )
        ],
    ),
]

# No calls, and not text either.
BROKEN = [
    call("f"),
    call("f{"),
    call("f{a}"),
    call("f{a:}"),
    call("f{a:1,}"),
    call("f{a:1 b:2}"),
    call("f{:1}"),
    call("{a:1}"),
    call("f{a:Paris}"),
    call("f{a:007}"),
    call("f{a:1e999}"),
    call("f{a:" + "9" * 5000 + "}"),
    call("f{a:1}}"),
    call("f{a:[1}"),
    call("f{a:" + "[" * 100 + "]" * 100 + "}"),
    call("f{a:" + "[" * 100_000 + "}"),
    call('f{a:"\n}'),
    call(""),
    "<|tool_call>calm:f{}<tool_call|>",
    "<|tool_call>" + " " * 100 + "calm:f{}<tool_call|>",
    call(f"f{{a:{Q}see " + call("rm{}") + f"{Q},}}"),  # a call quoted in a faulty call does not run
]

# They end with the reply.
BROKEN_OFF = [
    "<|tool_call>",
    "<|tool_call>call:f",
    "<|tool_call>call:f{}",
    call(f"f{{a:{Q}x}}"),
    f"<|tool_call>call:write{{path:{Q}a.txt{Q},body:{Q}half of",
    # a call quoted in one that was broken off does not run
    f"<|tool_call>call:f{{a:{Q}see " + call("rm{}"),
    "<|tool_call>call:f{}<tool_ca",
]


def taken_apart(tool_calls, text, pieces=None, **options):
    parser = tool_calls.ReplyParser(**options)
    deltas = [delta for piece in pieces or [text] for delta in parser.feed(piece)] + parser.finish()
    for delta in deltas:
        assert (delta.content != "") + (delta.reasoning != "") + (delta.call is not None) + (
            delta.broken is not None
        ) == 1
    reply = tool_calls.Reply().add(deltas)
    calls = [(one.name, json.loads(one.arguments)) for one in reply.calls]
    return reply.content, reply.reasoning, calls, [one.text for one in reply.broken]


@pytest.mark.parametrize(
    "name, text, content, reasoning, calls", RECORDED, ids=[case[0] for case in RECORDED]
)
def test_recorded_outputs(tool_calls, name, text, content, reasoning, calls):
    assert taken_apart(tool_calls, text) == (content, reasoning, calls, [])
    reply = tool_calls.parse_reply(text)
    ids = [one.id for one in reply.calls]
    assert len(set(ids)) == len(ids) and all(re.fullmatch("call_[0-9a-f]{24}", one) for one in ids)


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_call_is_neither_text_nor_call(tool_calls, text):
    assert taken_apart(tool_calls, text) == ("", "", [], [text])
    assert taken_apart(tool_calls, f"before {text} after") == ("before  after", "", [], [text])
    (one,) = tool_calls.parse_reply(text).broken
    assert one.as_dict() == {"text": text, "reason": "it does not keep to the syntax of calls"}


@pytest.mark.parametrize("text", BROKEN_OFF, ids=range(len(BROKEN_OFF)))
def test_a_call_that_is_broken_off(tool_calls, text):
    assert taken_apart(tool_calls, f"before {text}") == ("before ", "", [], [text])
    assert tool_calls.parse_reply(text).broken[0].reason == "the reply ended inside it"


def test_a_new_call_shows_that_the_one_before_broke_off(tool_calls):
    text = "<|tool_call>call:a{x:1," + call("b{y:2}") + "."
    assert taken_apart(tool_calls, text) == (
        ".",
        "",
        [("b", {"y": 2})],
        ["<|tool_call>call:a{x:1,"],
    )


def test_a_call_that_lacks_only_its_end(tool_calls):
    """The marker that follows ends it; so does the model's own end, but not a limit of length."""
    assert taken_apart(tool_calls, "<|tool_call>call:a{}" + call("b{}"))[2:] == (
        [("a", {}), ("b", {})],
        [],
    )
    for complete in (False, True):
        parser = tool_calls.ReplyParser()
        parser.feed("<|tool_call>call:a{}")
        (delta,) = parser.finish(complete=complete)
        assert (delta.call is not None) == complete and (delta.broken is not None) != complete


def test_a_call_of_a_tool_that_is_not_there(tool_calls):
    reply = tool_calls.parse_reply(call("rm{}") + call("ls{}"), names=["ls", "cat"])
    assert [one.name for one in reply.calls] == ["ls"]
    assert [one.as_dict() for one in reply.broken] == [
        {"text": call("rm{}"), "reason": "there is no tool 'rm'; the tools are 'ls', 'cat'"}
    ]


def test_thinking(tool_calls):
    def parts(text, **options):
        return taken_apart(tool_calls, text, **options)[:3]

    assert parts("<|channel>thought\nhm\n<channel|>Yes.") == ("Yes.", "hm", [])
    assert parts("<|channel>thought\nhm<channel|>Yes.") == ("Yes.", "hm", [])
    assert parts("<|channel>thought\n<channel|>Yes.") == ("Yes.", "", [])
    assert parts("<|channel>thought\nstill at it") == ("", "still at it", [])
    assert parts("<|channel>thought\na\n<channel|>b<|channel>thought\nc\n<channel|>d") == (
        "bd",
        "ac",
        [],
    )
    assert parts("<|channel>thought\na" + call("f{}") + "b\n<channel|>c") == (
        "c",
        "ab",
        [("f", {})],
    )


def test_switched_off(tool_calls):
    text = "<|channel>thought\nhm\n<channel|>Yes." + call(f"f{{a:{Q}b{Q}}}")
    assert taken_apart(tool_calls, text, calls=False) == ('Yes.call:f{a:"b"}', "hm", [], [])
    assert taken_apart(tool_calls, text, known=()) == (text, "", [], [])


def test_half_a_surrogate_is_no_text(tool_calls):
    (one,) = tool_calls.parse_reply(call('f{a:"\\ud83d\\ude42 \\ud83d"}')).calls
    assert json.loads(one.arguments) == {"a": "🙂 \ufffd"} and one.arguments.encode()


# ---- streaming ----

STREAMED = [case[1] for case in RECORDED] + [
    text for text in BROKEN + BROKEN_OFF if len(text) < 200
]


@pytest.mark.parametrize("text", STREAMED, ids=range(len(STREAMED)))
def test_any_way_of_cutting_gives_the_same(tool_calls, text):
    text = f"x{text}\ny"
    whole = taken_apart(tool_calls, text)
    for at in range(len(text) + 1):
        assert taken_apart(tool_calls, text, [text[:at], text[at:]]) == whole, at
    assert taken_apart(tool_calls, text, list(text)) == whole
    random.seed(1)
    for _ in range(30):
        cuts = sorted(random.choices(range(len(text) + 1), k=5))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
        assert taken_apart(tool_calls, text, pieces) == whole, pieces


@given(
    st.lists(
        st.sampled_from(
            [
                "<|tool_call>",
                "<tool_call|>",
                "call:",
                "f",
                "{",
                "}",
                "a:",
                "1",
                ",",
                Q,
                '"',
                "\n",
                " ",
                "<|channel>thought\n",
                "<channel|>",
                "<|",
                "|>",
                "<",
            ]
        ),
        max_size=25,
    )
)
@settings(max_examples=300, deadline=None)
def test_soup(tool_calls, parts):
    text = "".join(parts)
    whole = taken_apart(tool_calls, text)
    assert taken_apart(tool_calls, text, list(text)) == whole
    assert taken_apart(tool_calls, text, parts) == whole


def test_nothing_leaks_and_nothing_is_held_without_need(tool_calls):
    parser = tool_calls.ReplyParser()
    said = []
    for (
        character
    ) in "a < b <|channel>thought\nhm\nyes\n<channel|>c<|tool_call>call:f{}<tool_call|>d<tool":
        said.append(
            [
                delta.content or delta.reasoning or delta.call.name
                for delta in parser.feed(character)
            ]
        )
    flat = [text for texts in said for text in texts]
    assert flat == [
        "a",
        " ",
        "< ",
        "b",
        " ",
        "h",
        "m",
        "\ny",
        "e",
        "s",
        "c",
        "f",
        "d",
    ]
    assert said[0] == ["a"] and [delta.content for delta in parser.finish()] == ["<tool"]


def test_long_replies_are_not_quadratic(tool_calls):
    import time

    for text in (
        "word " * 40_000,
        "<|tool_call>call:f{a:" + Q + "text \n" * 40_000 + Q + "}<tool_call|>",
        "<|tool_call>call:" * 10_000,
        ("<|tool_call>call:f{a:" + Q) * 10_000,
        "<" * 100_000,
        "<|channel>thought\n" + "\n" * 50_000,
    ):
        parser = tool_calls.ReplyParser()
        begin = time.process_time()
        for at in range(0, len(text), 4):
            parser.feed(text[at : at + 4])
        parser.finish()
        assert time.process_time() - begin < 10, text[:30]


# ---- round trip ----

TEXTS = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: Q not in text)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def written(value):
    """A value in the syntax, as the models' templates write it; keys that cannot stand bare are
    quoted."""
    if isinstance(value, str):
        return Q + value + Q
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{written_key(key)}:{written(inner)}" for key, inner in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def written_key(key):
    return (
        key
        if re.fullmatch(r"[A-Za-z0-9_@.$/-]([A-Za-z0-9_@.$/ -]*[A-Za-z0-9_@.$/-])?", key)
        else Q + key + Q
    )


@given(st.dictionaries(TEXTS, VALUES, max_size=5), st.integers(0, 10_000))
@settings(max_examples=300, deadline=None)
def test_json_there_and_back(tool_calls, arguments, at):
    text = "<|tool_call>call:some_tool" + written(arguments) + "<tool_call|>"
    cut = at % len(text)
    assert taken_apart(tool_calls, text, [text[:cut], text[cut:]]) == (
        "",
        "",
        [("some_tool", arguments)],
        [],
    )


# ---- back through a template ----

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("look", "add")
]
ASK = [{"role": "user", "content": "What is it?"}]


def balanced(prompt):
    """Turn, channel, call and response markers open and close one another; the model's turn stays
    open at the end."""
    marks = re.findall(
        r"<\|(turn|channel|tool_call|tool_response)>|<(turn|channel|tool_call|tool_response)\|>",
        prompt,
    )
    open_marks = []
    for begin, end in marks:
        if begin:
            open_marks.append(begin)
        else:
            assert open_marks and open_marks.pop() == end, prompt
    return open_marks == ["turn"] and "None" not in prompt


ARGUMENTS = {"at": [1, {"deep.er": "a, {b}"}], "ok": True}


@pytest.mark.parametrize("arguments", [ARGUMENTS, json.dumps(ARGUMENTS)], ids=["dict", "JSON"])
@pytest.mark.parametrize("content", ["", None, "Looking.", [{"type": "text", "text": "Looking."}]])
@pytest.mark.parametrize("reasoning", ["hm", None])
def test_a_call_goes_back_through_the_template(fake, tool_calls, arguments, content, reasoning):
    messages = [
        *ASK,
        {
            "role": "assistant",
            "content": content,
            "reasoning_content": reasoning,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "look", "arguments": arguments},
                }
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "call_1",
            "name": "look",
            "content": '{"seen": "a {cat}"}',
        },
        {
            "role": "assistant",
            "content": "A cat.",
            "tool_calls": None,
            "reasoning_content": None,
            "refusal": None,
        },
        {"role": "user", "content": "Sure?"},
    ]
    template = fake.ChatTemplate(CALLING, bos_token="<bos>")
    for n in (1, 3, 4, 5):
        prompt = template.render(messages[:n], tools=TOOLS)
        assert balanced(prompt), prompt
    assert ("<|channel>thought\nhm\n<channel|>" in prompt) == (reasoning is not None)
    assert call(f"look{{at:[1,{{deep.er:{Q}a, {{b}}{Q}}}],ok:true}}") in prompt
    said = prompt.split("<|turn>model\n")[1].split("<|tool_response>")[0]
    assert taken_apart(tool_calls, said)[1:3] == (reasoning or "", [("look", ARGUMENTS)])
    # the caller's messages are not touched
    assert messages[1]["tool_calls"][0]["function"]["arguments"] is arguments


def test_a_message_without_content_key(fake):
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": ""}}]}
    prompt = fake.ChatTemplate(CALLING).render([*ASK, message], add_generation_prompt=False)
    assert prompt.endswith("<|turn>model\n<|tool_call>call:look{}<tool_call|>")


@pytest.mark.parametrize(
    "calls, sentence",
    [
        ("look", "list"),
        (["look"], "call 0 of message 1"),
        ([{"function": {"arguments": "{}"}}], "call 0 of message 1"),
        (
            [{"function": {"name": "look", "arguments": "{a:1}"}}],
            r"call 0 of message 1 \(look\).*JSON",
        ),
        ([{"function": {"name": "look", "arguments": "[1]"}}], "list.*object"),
        ([{"function": {"name": "look", "arguments": 3}}], "int.*object"),
        ([{"function": {"name": "look", "arguments": "[" * 100_000}}], "JSON"),
    ],
)
def test_wrong_calls_in_messages(fake, calls, sentence):
    with pytest.raises(fake.UsageError, match=sentence):
        fake.ChatTemplate("x").render([*ASK, {"role": "assistant", "tool_calls": calls}])


# ---- LLM.chat ----


@pytest.fixture
def llm(fake, strings, toy_file):
    with fake.LLM(toy_file(), chat_template=CALLING, n_ctx=1024) as llm:
        yield llm


def says(llm, strings, text, then=(257,), **options):
    """The chat's result, whole, when the model says `text`; streamed is checked to be the same."""
    ask = {"messages": ASK, "temperature": 0, **options}
    kwargs = options.get("chat_template_kwargs", {})
    tools = None if options.get("tool_choice") == "none" else options.get("tools")
    prompt = llm.render_chat(ASK, tools=tools, **kwargs) + options.pop("forced", "")
    ask.pop("forced", None)
    strings.script(len(llm.chat_tokens(prompt)), [*text.encode(), *then])
    whole = llm.chat(**ask)
    chunks = [chunk["choices"][0] for chunk in llm.chat(**ask, stream=True)]
    choice = whole["choices"][0]
    message = choice["message"]
    deltas = [chunk["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == (message["content"] or "")
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message.get(
        "reasoning_content", ""
    )
    streamed = [one for delta in deltas for one in delta.get("tool_calls", [])]
    assert [one.pop("index") for one in streamed] == list(range(len(streamed)))
    assert [one["function"] for one in streamed] == [
        one["function"] for one in message.get("tool_calls", [])
    ]
    broken = [one for delta in deltas for one in delta.get("malformed_tool_calls", [])]
    assert [one.pop("index") for one in broken] == list(range(len(broken)))
    assert broken == message.get("malformed_tool_calls", [])
    assert [chunk["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["finish_reason"] == choice["finish_reason"] and deltas[-1] == {}
    return choice


SPOKEN = (
    "<|channel>thought\nhm\n<channel|>Let me. " + call(f"look{{at:{Q}🙂{Q}}}") + call("add{a:1}")
)


def test_chat_gives_tool_calls(llm, strings):
    choice = says(llm, strings, SPOKEN, tools=TOOLS)
    message = choice["message"]
    assert choice["finish_reason"] == "tool_calls"
    assert (message["role"], message["content"], message["reasoning_content"]) == (
        "assistant",
        "Let me. ",
        "hm",
    )
    first, second = message["tool_calls"]
    assert (
        first["type"] == "function"
        and first["id"].startswith("call_")
        and first["id"] != second["id"]
    )
    assert first["function"] == {"name": "look", "arguments": '{"at": "🙂"}'}
    assert second["function"] == {"name": "add", "arguments": '{"a": 1}'}
    answer = llm.render_chat(
        [
            *ASK,
            message,
            {"role": "tool", "tool_call_id": first["id"], "name": "look", "content": "a cat"},
        ]
    )
    assert balanced(answer)


def test_only_a_call_has_no_content(llm, strings):
    assert says(llm, strings, call("look{}"), tools=TOOLS)["message"]["content"] is None


def test_without_tools_the_words_of_calls_stay_text(llm, strings):
    for options in ({}, {"tools": []}, {"tools": TOOLS, "tool_choice": "none"}):
        choice = says(llm, strings, SPOKEN, **options)
        assert choice["finish_reason"] == "stop" and "tool_calls" not in choice["message"]
        assert choice["message"]["content"] == 'Let me. call:look{at:"🙂"}call:add{a:1}'
        assert choice["message"]["reasoning_content"] == "hm"


def test_a_broken_call_in_a_chat(llm, strings):
    text = f"<|tool_call>call:look{{at:{Q}the"
    choice = says(llm, strings, "So: " + text, tools=TOOLS)
    broken = {"text": text, "reason": "the reply ended inside it"}
    assert choice["message"] == {
        "role": "assistant",
        "content": "So: ",
        "malformed_tool_calls": [broken],
    }
    assert choice["finish_reason"] == "malformed_tool_call"
    choice = says(
        llm, strings, call("look{}") + "more", tools=TOOLS, max_tokens=len(call("look{}")) - 3
    )
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "length")
    assert choice["message"]["malformed_tool_calls"][0]["text"] == call("look{}")[:-3]


def test_one_call_is_broken_and_one_is_not(llm, strings):
    choice = says(llm, strings, call("look{") + call("add{a:1}") + call("rm{}"), tools=TOOLS)
    assert choice["finish_reason"] == "tool_calls" and len(choice["message"]["tool_calls"]) == 1
    assert [one["text"] for one in choice["message"]["malformed_tool_calls"]] == [
        call("look{"),
        call("rm{}"),
    ]


@pytest.mark.parametrize(
    "said, then, finish, reason",
    [
        ("lo", (257,), "malformed_tool_call", "ended inside"),  # the model ends at once
        ("", (257,), "malformed_tool_call", "ended inside"),
        ("look{at:}<tool_call|>", (257,), "malformed_tool_call", "syntax"),
        ("look{at:1", (257,), "malformed_tool_call", "ended inside"),
        ("look{at:1}<tool_call|>", (), "length", "ended inside"),  # cut off by max_tokens
        ("rm{}<tool_call|>", (257,), "malformed_tool_call", "no tool 'rm'"),
        ("look{<|channel>thought\nhm<channel|>No.", (257,), "malformed_tool_call", "stands inside"),
    ],
)
def test_a_demanded_call_that_breaks(llm, strings, said, then, finish, reason):
    options = {"max_tokens": 12} if finish == "length" else {}
    choice = says(
        llm,
        strings,
        said,
        then,
        tools=TOOLS,
        tool_choice="required",
        forced="<|tool_call>call:",
        **options,
    )
    assert choice["finish_reason"] == finish and "tool_calls" not in choice["message"]
    (broken,) = choice["message"]["malformed_tool_calls"]
    assert reason in broken["reason"] and broken["text"].startswith("<|tool_call>call:")
    assert choice["message"]["content"] in (None, "No.")


def test_a_template_that_begins_the_thinking(llm, strings):
    choice = says(
        llm, strings, "hm\n<channel|>Yes.", chat_template_kwargs={"enable_thinking": True}
    )
    assert (choice["message"]["content"], choice["message"]["reasoning_content"]) == ("Yes.", "hm")


@pytest.mark.parametrize("thinking", [False, True])
def test_a_demanded_call(llm, strings, thinking):
    closing = "<channel|>" if thinking else ""
    options = {"tools": TOOLS, "chat_template_kwargs": {"enable_thinking": thinking}}
    forced = closing + "<|tool_call>call:"
    choice = says(
        llm, strings, "add{a:1}<tool_call|>", **options, tool_choice="required", forced=forced
    )
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {
        "name": "add",
        "arguments": '{"a": 1}',
    }
    named = {"type": "function", "function": {"name": "look"}}
    choice = says(
        llm, strings, "a:1}<tool_call|>", **options, tool_choice=named, forced=forced + "look{"
    )
    assert choice["message"]["tool_calls"][0]["function"] == {
        "name": "look",
        "arguments": '{"a": 1}',
    }
    assert "reasoning_content" not in choice["message"]


def test_wrong_choices(llm, fake, strings, toy_file):
    named = {"type": "function", "function": {"name": "nothing"}}
    for choice, tools, sentence in (
        ("always", TOOLS, "'always'"),
        ("required", None, "no tools"),
        (named, TOOLS, "'nothing'; the tools are 'look', 'add'"),
        ({}, TOOLS, "None"),
    ):
        with pytest.raises(fake.UsageError, match=sentence):
            llm.chat(ASK, tools=tools, tool_choice=choice)
    with fake.LLM(toy_file(), chat_template="{{ messages[0].content }}", n_ctx=64) as plain:
        with pytest.raises(fake.UsageError, match="syntax"):
            plain.chat(ASK, tools=TOOLS, tool_choice="required")


def test_a_model_that_does_not_know_the_markers(fake, strings, toy_file):
    with fake.LLM(toy_file(), chat_template="{{ messages[0].content }}", n_ctx=512) as llm:
        choice = says(llm, strings, SPOKEN, tools=TOOLS)
        assert (choice["message"], choice["finish_reason"]) == (
            {"role": "assistant", "content": SPOKEN},
            "stop",
        )


def test_logprobs_list_every_token(llm, strings):
    choice = says(llm, strings, call("look{}"), tools=TOOLS, logprobs=True)
    n = len(choice["logprobs"]["content"])
    assert n == len(call("look{}"))
    streamed = [
        chunk["choices"][0]["logprobs"]
        for chunk in llm.chat(ASK, temperature=0, tools=TOOLS, logprobs=True, stream=True)
    ]
    assert sum(len(one["content"]) for one in streamed if one) == n


def test_the_markers_of_the_real_vocabulary(pillion, tiny_target):
    """They print, are one token each, and so the parser is on although this model's template does
    not mention them."""
    with pillion.LLM(tiny_target, n_ctx=64) as llm:
        text = "<|channel>thought\nhm\n<channel|>Yes." + call(f"f{{a:{Q}b{Q}}}")
        ids = llm.tokenizer.encode(text, add_special=False, parse_special=True)
        assert llm.detokenize(ids) == text
        chat = llm._chat
        assert chat.knows("<|channel>") and chat.knows("<|tool_call>") and not chat.knows("<think>")
