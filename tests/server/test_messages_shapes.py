"""Anthropic's Messages API as pure functions: requests read, answers written. The official
package's own types reference what is written."""

import json

import pytest

pytest.importorskip("pydantic")
anthropic = pytest.importorskip("anthropic")

from pydantic import TypeAdapter  # noqa: E402

from chunks import call_chunks, end_chunk, whole  # noqa: E402
from pillion import UsageError  # noqa: E402
from pillion.server.messages_events import (  # noqa: E402
    MessageEvents,
    error_body,
    message_of,
)
from pillion.server.messages_request import read_request  # noqa: E402

EVENT = TypeAdapter(anthropic.types.RawMessageStreamEvent)
ASK = [{"role": "user", "content": "hi"}]


def read(**fields):
    return read_request({"model": "m", "max_tokens": 10, "messages": ASK, **fields})


def messages_of(*messages, **fields):
    return read(messages=list(messages), **fields).messages


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def text(words):
    return {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}


# ---- requests ----


def test_a_plain_request():
    call = read(temperature=0.5, top_k=3, stop_sequences=["END"], stream=True)
    assert call.model == "m" and call.max_tokens == 10 and call.stream
    assert call.messages == [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    assert call.options == {"temperature": 0.5, "top_k": 3, "stop": ["END"]}
    assert call.ignored == []


@pytest.mark.parametrize(
    "form", [{"regex": "a+"}, {"grammar": "start: /a/"}, {"choice": ["a", "b"]}]
)
def test_every_form_of_a_text(form):
    call = read(**form)
    assert call.options == form and call.ignored == []


@pytest.mark.parametrize(
    "system, expected",
    [
        ("be brief", "be brief"),
        ([text("be"), text("brief")], "be\nbrief"),
        ([text("x-anthropic-billing-header: cch=1f;"), text("be brief")], "be brief"),
        ([], None),
        ("", None),
    ],
)
def test_system(system, expected):
    first = read(system=system).messages[0]
    assert first == ({"role": "system", "content": expected} if expected else read().messages[0])


def test_a_system_message_in_the_middle():
    told = messages_of(*ASK, {"role": "system", "content": "be brief"}, *ASK)
    assert [one["role"] for one in told] == ["user", "system", "user"]


def test_calls_and_results():
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": [1, 2]}}
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    done = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("a"), text("b")]}
    failed = {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no", "is_error": True}
    empty = {"type": "tool_result", "tool_use_id": "toolu_3"}
    asked, said, *rest = messages_of(
        user(text("look")),
        assistant(thought, text("now"), use),
        user(done, failed, text("so?"), empty),
    )
    function = {"name": "look", "arguments": {"at": [1, 2]}}
    assert said == {
        "role": "assistant",
        "content": "now",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "toolu_1", "type": "function", "function": function}],
    }
    assert rest == [
        {"role": "tool", "tool_call_id": "toolu_1", "content": "a\nb"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "Error: no"},
        {"role": "user", "content": [{"type": "text", "text": "so?"}]},
        {"role": "tool", "tool_call_id": "toolu_3", "content": ""},
    ]


def test_what_only_anthropics_servers_made_is_left_out_of_the_history():
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    hidden = {"type": "redacted_thinking", "data": "xx"}
    told = messages_of(*ASK, assistant(hidden, search, found, text("well")), *ASK)
    assert told[1] == {"role": "assistant", "content": "well"}


def test_documents_of_text():
    source = {"type": "text", "media_type": "text/plain", "data": "words"}
    found = {"type": "search_result", "source": "x", "title": "T", "content": [text("b")]}
    told = messages_of(user({"type": "document", "source": source, "title": "Title"}, found))
    assert [part["text"] for part in told[0]["content"]] == ["Title\nwords", "T\nb"]


def test_tools():
    schema = {"type": "object", "properties": {}}
    tools = [
        {"name": "a", "description": "does", "input_schema": schema, "cache_control": {}},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        {"type": "custom", "name": "b", "input_schema": schema, "strict": True},
    ]
    call = read(tools=tools)
    a, b = (tool["function"] for tool in call.options["tools"])
    assert a == {"name": "a", "description": "does", "parameters": schema}
    assert b == {"name": "b", "parameters": schema, "strict": True}
    assert call.ignored == ["tools[1] (web_search_20250305)"]
    assert "tools" not in read(tools=tools[1:2]).options


@pytest.mark.parametrize(
    "choice, expected",
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "a"}, {"type": "function", "function": {"name": "a"}}),
    ],
)
def test_tool_choice(choice, expected):
    tools = [{"name": "a", "input_schema": {"type": "object"}}]
    options = read(tools=tools, tool_choice=choice).options
    assert options["tool_choice"] == expected and "parallel_tool_calls" not in options
    alone = read(tools=tools, tool_choice={**choice, "disable_parallel_tool_use": True}).options
    assert alone["parallel_tool_calls"] is False


def test_thinking():
    for kind, thinks in [("adaptive", True), ("disabled", False)]:
        options = read(thinking={"type": kind}).options
        assert options["chat_template_kwargs"] == {"enable_thinking": thinks}
    assert "chat_template_kwargs" not in read().options
    call = read(thinking={"type": "enabled", "budget_tokens": 2048})
    assert call.options["chat_template_kwargs"] == {"enable_thinking": True}
    assert call.ignored == ["thinking.budget_tokens"]


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_schema_for_the_answer(field):
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    given = {"format": wanted, "effort": "low"} if field == "output_config" else wanted
    call = read(**{field: given})
    made = call.options["response_format"]
    assert made["type"] == "json_schema" and made["json_schema"]["schema"] == {"type": "object"}
    assert call.ignored == (["output_config.effort"] if field == "output_config" else [])


def test_unknown_fields_are_named():
    call = read(metadata={"user_id": "u"}, service_tier="auto", mcp_servers=None, draft=2)
    assert call.ignored == ["metadata", "service_tier"] and call.options == {"draft": 2}


def test_counting_needs_no_length():
    assert read_request({"model": "m", "messages": ASK}, counting=True).max_tokens is None


IMAGE = {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}}


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"model": None}, "model is None; it must be a string"),
        ({"max_tokens": None}, "max_tokens is None; it must be a whole number, at least 0"),
        ({"max_tokens": "3"}, "max_tokens is '3'"),
        ({"messages": []}, "messages is empty; at least one message"),
        ({"messages": "hi"}, "messages is 'hi'; it must be a list"),
        ({"messages": ["hi"]}, r"messages\[0\] is 'hi'"),
        ({"messages": [{"role": "cat", "content": "hi"}]}, r"messages\[0\].role is 'cat'"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\].content is None"),
        ({"messages": [user("hi")]}, r"messages\[0\].content\[0\] is 'hi'"),
        ({"messages": [user({"type": "text"})]}, r"messages\[0\].content\[0\].text is None"),
        ({"messages": [user(IMAGE)]}, r"content\[0\].source.url is 'http.*fetches nothing"),
        ({"messages": [*ASK, assistant(text("The"))]}, "must end with a user message"),
        ({"messages": [user({"type": "tool_result"})]}, "tool_use_id is None"),
        ({"messages": [*ASK, assistant({"type": "tool_use"}), *ASK]}, "name is None"),
        ({"system": 3}, "system is 3"),
        ({"system": [IMAGE]}, r"system\[0\] is a block of type 'image'"),
        ({"stream": "yes"}, "stream is 'yes'; it must be True or False"),
        ({"tools": {"name": "a"}}, "tools is"),
        ({"tools": [{"name": "a"}]}, r"tools\[0\].input_schema is None"),
        ({"tools": [{"input_schema": {}}]}, r"tools\[0\].name is None"),
        ({"tool_choice": {"type": "must"}}, "tool_choice is"),
        ({"thinking": True}, "thinking is True"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format is"),
        ({"output_config": 1}, "output_config is 1"),
    ],
)
def test_refused(fields, sentence):
    with pytest.raises(UsageError, match=sentence):
        read(**fields)


# ---- answers ----

ANSWERS = {
    "text": ([("text", "Hel"), ("text", "lo")], "stop"),
    "thinking": ([("thinking", "h"), ("thinking", "m"), ("text", "yes")], "stop"),
    "a call": ([("thinking", "hm"), ("call", '{"at": [1, 2]}')], "tool_calls"),
    "calls and text": ([("text", "now"), ("call", "{}"), ("call", '{"x": "ü"}')], "tool_calls"),
    "nothing": ([], "stop"),
    "cut off": ([("text", "on and")], "length"),
    "a broken call": ([("text", "now"), ("broken", "the reply ended inside it")], "length"),
}


def events_of(parts, reason, pieces=1, **more):
    """All events of an answer; pieces: into how many the arguments of calls are cut."""
    events = MessageEvents(read(), n_prompt=7)
    out = events.start()
    for one in call_chunks(parts, pieces):
        out += events.feed(one)
    out += events.feed(end_chunk(reason, **more))
    return out + events.finish()


def accumulated(events):
    """What the official client makes of them."""
    from anthropic.lib.streaming._messages import accumulate_event

    snapshot, buffers = None, {}
    for event in events:
        typed = EVENT.validate_python(event) if event["type"] != "ping" else None
        if typed is not None:
            snapshot = accumulate_event(event=typed, current_snapshot=snapshot, json_bufs=buffers)
    return snapshot


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("pieces", [1, 3])
def test_streamed_and_whole_are_the_same_message(name, pieces):
    parts, reason = ANSWERS[name]
    streamed = accumulated(events_of(parts, reason, pieces)).to_dict()
    message = message_of(whole(parts, reason), read())
    assert anthropic.types.Message.model_validate(message)
    for one in (streamed, message):
        del one["id"]
        one.pop("diagnostics", None), one.pop("container", None), one.pop("stop_details", None)
    assert streamed == message
    assert message["usage"]["input_tokens"] == 4 and message["usage"]["output_tokens"] == 5
    assert message["usage"]["cache_read_input_tokens"] == 3


def test_the_order_of_events():
    events = events_of(ANSWERS["a call"][0], "tool_calls")
    assert [event["type"] for event in events] == [
        "message_start", "ping",
        "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert events[0]["message"]["usage"]["input_tokens"] == 7
    assert [event["index"] for event in events if "index" in event] == [0, 0, 0, 0, 1, 1, 1]
    assert events[4]["delta"] == {"type": "signature_delta", "signature": "unsigned"}
    use = events[6]["content_block"]
    assert use["type"] == "tool_use" and use["input"] == {} and use["name"] == "f0"
    assert json.loads(events[7]["delta"]["partial_json"]) == {"at": [1, 2]}


@pytest.mark.parametrize(
    "reason, more, expected",
    [
        ("stop", {}, ("end_turn", None)),
        ("stop", {"stop": "END"}, ("stop_sequence", "END")),
        ("tool_calls", {}, ("tool_use", None)),
        ("malformed_tool_call", {}, ("end_turn", None)),
        ("length", {"written": 10}, ("max_tokens", None)),
        ("length", {"written": 9}, ("model_context_window_exceeded", None)),
    ],
)
def test_why_it_ended(reason, more, expected):
    delta = events_of([("text", "a")], reason, **more)[-2]["delta"]
    assert (delta["stop_reason"], delta["stop_sequence"]) == expected


def test_a_broken_call_is_said():
    parts, reason = ANSWERS["a broken call"]
    blocks = message_of(whole(parts, reason), read())["content"]
    said = "".join(block["text"] for block in blocks)
    assert said == "now[a tool call that cannot be read: the reply ended inside it]"


def test_errors():
    expected = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
    expected |= {
        413: "request_too_large",
        503: "overloaded_error",
        500: "api_error",
        502: "api_error",
    }
    for status, kind in expected.items():
        body = error_body(status, "no", "req_1")
        assert body["error"] == {"type": kind, "message": "no"} and body["type"] == "error"


PNG = {"type": "base64", "media_type": "image/png", "data": "aGk="}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


def test_images():
    """Among texts, and in the results of tools, where agents put screenshots."""
    image = {"type": "image", "source": PNG}
    found = messages_of(user(text("a"), image, text("b")))
    plain = [{"type": "text", "text": "a"}, PICTURE, {"type": "text", "text": "b"}]
    assert found == [{"role": "user", "content": plain}]
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text("seen"), image]}
    (found,) = messages_of(user(result))
    assert found["content"] == [{"type": "text", "text": "seen"}, PICTURE]
    for source in (None, {"type": "file", "file_id": "f"}, {"type": "base64"}, "x"):
        with pytest.raises(UsageError, match=r"content\[0\].source"):
            messages_of(user({"type": "image", "source": source}))
