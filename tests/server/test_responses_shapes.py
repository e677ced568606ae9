"""OpenAI's Responses API as pure functions: requests read, answers written. The official package's
own types reference what is written."""

import json

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("openai")

from chunks import call_chunks, chunk, end_chunk, whole  # noqa: E402
from openai.lib.streaming.responses._responses import ResponseStreamState  # noqa: E402
from openai.types.responses import Response, ResponseStreamEvent  # noqa: E402
from pydantic import TypeAdapter  # noqa: E402
from test_messages_shapes import ANSWERS  # noqa: E402

from pillion import UsageError  # noqa: E402
from pillion.server.responses_events import ResponseEvents, response_of  # noqa: E402
from pillion.server.responses_request import read_request  # noqa: E402

EVENT = TypeAdapter(ResponseStreamEvent)


def read(given="hi", **fields):
    return read_request({"model": "m", "input": given, **fields})


def message(role, *texts, kind="input_text"):
    return {"role": role, "content": [{"type": kind, "text": text} for text in texts]}


# ---- requests ----


@pytest.mark.parametrize(
    "form", [{"regex": "a+"}, {"grammar": "start: /a/"}, {"choice": ["a", "b"]}]
)
def test_every_form_of_a_text(form):
    call = read(**form)
    assert call.options == form and call.ignored == []


def test_a_text():
    call = read(instructions="be brief", temperature=0, max_output_tokens=5, stream=True)
    assert call.messages == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]
    assert call.options == {"temperature": 0} and call.max_tokens == 5 and call.stream
    assert call.ignored == []


def test_what_the_system_says_first_is_one_message():
    told = read(
        [message("developer", "a", "b"), message("system", "c"), message("user", "hi")],
        instructions="first",
    ).messages
    assert told[0] == {"role": "system", "content": "first\n\na\nb\n\nc"} and len(told) == 2


def test_a_turn_of_the_assistant_is_one_message():
    def call(number):
        identity = f"call_{number}"
        return {"type": "function_call", "call_id": identity, "name": "f", "arguments": "{}"}

    def output(number, value):
        return {"type": "function_call_output", "call_id": f"call_{number}", "output": value}

    thought = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": None}
    thought["content"] = [{"type": "reasoning_text", "text": "hm"}]
    told = read(
        [
            message("user", "go"),
            thought,
            message("assistant", "now", kind="output_text"),
            call(1),
            call(2),
            output(1, "one"),
            output(2, [{"type": "input_text", "text": "two"}]),
            call(3),
            output(3, ""),
            message("assistant", "done", kind="output_text"),
            message("user", "ta"),
        ]
    ).messages
    assert [one["role"] for one in told] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    turn = told[1]
    assert turn["content"] == "now" and turn["reasoning_content"] == "hm"
    assert [one["id"] for one in turn["tool_calls"]] == ["call_1", "call_2"]
    assert turn["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert told[2] == {"role": "tool", "tool_call_id": "call_1", "content": "one"}
    assert told[3]["content"] == "two"


def test_thinking_begins_a_turn():
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "short"}]}
    told = read(
        [
            message("user", "a"),
            message("assistant", "b", kind="output_text"),
            thought,
            message("assistant", "c", kind="output_text"),
            message("user", "d"),
        ]
    ).messages
    assert [one.get("reasoning_content") for one in told] == [None, None, "short", None]
    assert told[2]["content"] == "c"


def test_custom_calls_and_hosted_ones():
    custom = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin"}
    done = {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}
    hosted = {"type": "web_search_call", "id": "ws", "status": "completed"}
    call = read([message("user", "a"), hosted, custom, done])
    assert call.messages[1]["tool_calls"][0]["function"]["arguments"] == {"input": "*** Begin"}
    assert call.ignored == ["input[1] (web_search_call)"]


TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}


def test_tools():
    call = read(
        tools=[
            {**TOOL, "description": "does"},
            {"type": "web_search"},
            {"type": "custom", "name": "apply_patch"},
            {"type": "namespace", "name": "n", "tools": [{**TOOL, "name": "g"}, {"type": "mcp"}]},
        ]
    )
    f, g = (tool["function"] for tool in call.options["tools"])
    assert f == {
        "name": "f",
        "description": "does",
        "parameters": {"type": "object"},
        "strict": True,
    }
    assert g["name"] == "g"
    skipped = ["tools[1] (web_search)", "tools[2] (custom)", "tools[3].tools[1] (mcp)"]
    assert call.ignored == skipped


@pytest.mark.parametrize(
    "choice, expected, names",
    [
        ("auto", "auto", ["f", "g"]),
        ("none", "none", ["f", "g"]),
        ("required", "required", ["f", "g"]),
        (
            {"type": "function", "name": "f"},
            {"type": "function", "function": {"name": "f"}},
            ["f", "g"],
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "g"}],
            },
            "required",
            ["g"],
        ),
    ],
)
def test_tool_choice(choice, expected, names):
    options = read(
        tools=[TOOL, {**TOOL, "name": "g"}], tool_choice=choice, parallel_tool_calls=False
    ).options
    assert options["tool_choice"] == expected and options["parallel_tool_calls"] is False
    assert [tool["function"]["name"] for tool in options["tools"]] == names


def test_reasoning_and_format():
    assert read(reasoning={"effort": "none"}).options["chat_template_kwargs"] == {
        "enable_thinking": False
    }
    call = read(reasoning={"effort": "high", "summary": "auto"}, text={"verbosity": "low"})
    assert call.options == {"chat_template_kwargs": {"enable_thinking": True}}
    assert call.ignored == ["text.verbosity"]
    assert read(reasoning={"effort": None, "summary": "auto"}).options == {}
    schema = {"type": "json_schema", "name": "n", "strict": True, "schema": {"type": "object"}}
    made = read(text={"format": schema}).options["response_format"]
    assert made.pop("type") == "json_schema"
    assert made["json_schema"] == {"name": "n", "strict": True, "schema": {"type": "object"}}
    assert read(text={"format": {"type": "json_object"}}).options["response_format"] == {
        "type": "json_object"
    }
    assert read(text={"format": {"type": "text"}}).options == {}


def test_what_has_no_effect():
    silent = {"include": ["reasoning.encrypted_content"], "store": True, "metadata": {"a": "b"}}
    silent |= {"user": "u", "prompt_cache_key": "k", "safety_identifier": "s"}
    call = read(**silent, truncation="auto", service_tier="flex")
    assert call.ignored == ["truncation", "service_tier"] and call.options == {}


IMAGE = {"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y.png"}]}


@pytest.mark.parametrize(
    "given, fields, sentence",
    [
        (
            "hi",
            {"previous_response_id": "resp_1"},
            "previous_response_id is 'resp_1'.*stores nothing",
        ),
        ("hi", {"conversation": "conv"}, "conversation is 'conv'"),
        ("hi", {"prompt": {"id": "p"}}, "prompt is"),
        ("hi", {"background": True}, "background is True"),
        ("hi", {"model": 3}, "model is 3"),
        (None, {}, "input is None; it must be a string or a list of items"),
        ([], {}, "input is empty"),
        ([message("system", "x")], {}, "input is empty"),
        (["hi"], {}, r"input\[0\] is 'hi'"),
        (
            [{"type": "item_reference", "id": "x"}],
            {},
            r"input\[0\] is an item of type 'item_reference'",
        ),
        ([{"role": "cat", "content": "x"}], {}, r"input\[0\].role is 'cat'"),
        ([IMAGE], {}, r"content\[0\].image_url is 'http.*: send the data itself"),
        ([{"role": "user"}], {}, r"input\[0\].content is None"),
        ([{"type": "function_call", "name": "f"}], {}, r"input\[0\].arguments is None"),
        ([{"type": "function_call_output", "output": "x"}], {}, r"input\[0\].call_id is None"),
        ("hi", {"tools": "f"}, "tools is 'f'"),
        ("hi", {"tools": [{"name": "f"}]}, r"tools\[0\] is"),
        ("hi", {"tools": [{"type": "function"}]}, r"tools\[0\].name is None"),
        ("hi", {"tool_choice": "must"}, "tool_choice is 'must'"),
        ("hi", {"text": {"format": {"type": "xml"}}}, "text.format is"),
        ("hi", {"text": "x"}, "text is 'x'"),
        ("hi", {"reasoning": "high"}, "reasoning is 'high'"),
        ("hi", {"max_output_tokens": 0}, "max_output_tokens is 0"),
        ("hi", {"instructions": 3}, "instructions is 3"),
    ],
)
def test_refused(given, fields, sentence):
    with pytest.raises(UsageError, match=sentence):
        read(given, **fields)


# ---- answers ----


def events_of(parts, reason, pieces=1, call=None):
    events = ResponseEvents(call or read())
    out = events.start()
    for one in call_chunks(parts, pieces):
        out += events.feed(one)
    out += events.feed(end_chunk(reason))
    return out + events.finish()


def plain(output):
    """Items without what is new each time."""
    return [{key: value for key, value in item.items() if key != "id"} for item in output]


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("pieces", [1, 3])
def test_streamed_and_whole_are_the_same_response(name, pieces):
    parts, reason = ANSWERS[name]
    from openai import omit

    state = ResponseStreamState(text_format=omit, input_tools=omit)
    events = events_of(parts, reason, pieces)
    for event in events:
        state.handle_event(EVENT.validate_python(event))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    last = events[-1]["response"]
    response = response_of(whole(parts, reason), read())
    assert plain(last["output"]) == plain(response["output"])
    for one in (last, response):
        made = Response.model_validate(one)
        assert made.usage.total_tokens == 12 and made.usage.input_tokens_details.cached_tokens == 3
        assert made.usage.output_tokens_details.reasoning_tokens == 2
    if reason != "length":
        assert last["status"] == "completed"
        assert len(state._completed_response.output) == len(last["output"])
    else:
        assert last["status"] == "incomplete"
        assert last["incomplete_details"] == {"reason": "max_output_tokens"}
    deltas = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    assert deltas == Response.model_validate(last).output_text


def test_the_order_of_events():
    events = events_of([("thinking", "hm"), ("text", "yes"), ("call", '{"a":1}')], "tool_calls", 2)
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert (
        events[0]["response"]["status"] == "in_progress" and events[0]["response"]["output"] == []
    )
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert events[-1]["response"]["output"] == done
    assert [item["type"] for item in done] == ["reasoning", "message", "function_call"]
    assert done[2]["call_id"] == "call_0" and json.loads(done[2]["arguments"]) == {"a": 1}
    added = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    assert [item["status"] for item in added] == ["in_progress"] * 3
    assert added[2]["arguments"] == ""


def test_a_response_repeats_its_request():
    call = read(
        instructions="be brief", tools=[TOOL], temperature=0.5, metadata={"a": "b"}, user="u"
    )
    response = events_of([("text", "a")], "stop", call=call)[0]["response"]
    assert response["instructions"] == "be brief" and response["tools"] == [TOOL]
    assert response["temperature"] == 0.5 and response["metadata"] == {"a": "b"}
    assert response["previous_response_id"] is None and response["store"] is False


def test_an_answer_that_breaks_off():
    events = ResponseEvents(read())
    before = events.start() + events.feed(chunk({"content": "He"}))
    failed, error = events.fail("timeout", "it took too long")
    assert failed["type"] == "response.failed" and failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "timeout", "message": "it took too long"}
    assert failed["response"]["output"][0]["content"][0]["text"] == "He"
    assert error["message"] == "it took too long"
    assert error["sequence_number"] == len(before) + 1


def test_images_and_sounds():
    image = {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "low"}
    sound = {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}
    asked = {"type": "input_text", "text": "What?"}
    (found,) = read([{"role": "user", "content": [image, asked, sound]}]).messages
    assert found["content"] == [image, {"type": "text", "text": "What?"}, sound]
    result = {"type": "function_call_output", "call_id": "c", "output": [asked, image]}
    (found,) = read([result]).messages
    assert found["content"] == [{"type": "text", "text": "What?"}, image]
    uploaded = {"type": "input_image", "file_id": "f"}
    with pytest.raises(UsageError, match=r"input\[0\].content\[0\].image_url is None"):
        read([{"role": "user", "content": [uploaded]}])
