"""OpenAI's official client against a running server."""

import asyncio
import base64
import json
from typing import Literal

import numpy as np
import pytest

openai = pytest.importorskip("openai")
pydantic = pytest.importorskip("pydantic")

ASK = [{"role": "user", "content": "Read Genesis 1."}]
PLAIN = {"model": "m", "messages": ASK, "temperature": 0, "max_tokens": 12}
SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
CALL = '<|tool_call>call:look{at:<|"|>the "sky"<|"|>}<tool_call|>'


class Verse(pydantic.BaseModel):
    """Every answer of this form is short, whatever the model would like to say."""

    book: Literal["Genesis", "Exodus"]
    chapter: Literal[1, 2, 3]


def client_of(url, kind=openai.OpenAI, **options):
    return kind(base_url=f"{url}/v1", **{"api_key": "none", "max_retries": 0, **options})


@pytest.fixture
def client(embedded_server):
    with client_of(embedded_server) as client:
        yield client


@pytest.fixture
def toy(scripted):
    with client_of(scripted.url) as client:
        yield client


# ---- chat ----


def test_chat(client):
    done = client.chat.completions.create(**PLAIN)
    (choice,) = done.choices
    assert choice.message.content and choice.finish_reason == "length"
    assert done.usage.completion_tokens == 12 and done.object == "chat.completion"
    assert done.usage.completion_tokens_details.accepted_prediction_tokens >= 0
    again = client.chat.completions.create(**PLAIN)
    assert again.choices == done.choices
    assert again.usage.prompt_tokens_details.cached_tokens > 0


def test_a_stream(client):
    whole = client.chat.completions.create(**PLAIN).choices[0].message.content
    chunks = list(client.chat.completions.create(**PLAIN, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "length"]
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_with_usage(client):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = client.chat.completions.create(**PLAIN, **options)
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks)
    assert last.choices == [] and last.usage.completion_tokens == 12
    assert last.usage.total_tokens == last.usage.prompt_tokens + 12


def test_the_stream_helper(client):
    whole = client.chat.completions.create(**PLAIN)
    with client.chat.completions.stream(**PLAIN) as stream:
        kinds = {event.type for event in stream}
        final = stream.current_completion_snapshot  # asking for the final one refuses "length"
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == whole.choices[0].message.content


def test_several_answers(client):
    done = client.chat.completions.create(**{**PLAIN, "n": 2, "temperature": 1, "seed": 3})
    assert [choice.index for choice in done.choices] == [0, 1]
    assert done.usage.completion_tokens == 24


def test_logprobs(client):
    done = client.chat.completions.create(**PLAIN, logprobs=True, top_logprobs=2)
    content = done.choices[0].logprobs.content
    assert len(content) == 12 and all(len(one.top_logprobs) == 2 for one in content)
    assert "".join(one.token for one in content) == done.choices[0].message.content


def test_an_answer_that_is_parsed(client):
    options = {**PLAIN, "max_tokens": 200, "response_format": Verse}
    done = client.chat.completions.parse(**options)
    verse = done.choices[0].message.parsed
    assert isinstance(verse, Verse) and done.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_there_and_back(toy, scripted, streamed):
    def create(body):
        if not streamed:
            return toy.chat.completions.create(**body)
        with toy.chat.completions.stream(**body) as stream:
            for _ in stream:
                pass
            return stream.get_final_completion()

    body = {"model": "m", "messages": ASK, "tools": [TOOL]}
    scripted.says("/v1/chat/completions", body, CALL)
    (choice,) = create(body).choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and call.function.name == "look"
    assert json.loads(call.function.arguments) == {"at": 'the "sky"'}

    said = choice.message.to_dict(mode="json")
    result = {"role": "tool", "tool_call_id": call.id, "content": "blue"}
    body = {**body, "messages": [*ASK, said, result]}
    scripted.says("/v1/chat/completions", body, "It is blue.")
    (choice,) = create(body).choices
    assert choice.message.content == "It is blue." and choice.finish_reason == "stop"
    assert "response:look" in scripted.prompt


def test_thinking(toy, scripted):
    body = {"model": "m", "messages": ASK, "reasoning_effort": "high"}
    scripted.says("/v1/chat/completions", body, "hm\n<channel|>It is.")
    done = toy.chat.completions.create(**body)
    assert done.choices[0].message.reasoning_content == "hm"
    assert done.choices[0].message.content == "It is."
    assert done.usage.completion_tokens_details.reasoning_tokens > 0


def test_a_draft_of_ones_own(client):
    first, second = (
        client.chat.completions.create(**PLAIN, extra_body={"draft": draft}) for draft in (0, 4)
    )
    assert first.choices == second.choices
    assert first.model_extra["speculation"]["drafted"] == 0
    assert second.model_extra["speculation"]["drafted"] > 0


def test_the_async_client(client, embedded_server):
    async def run():
        async with client_of(embedded_server, openai.AsyncOpenAI) as other:
            both = [other.chat.completions.create(**PLAIN) for _ in range(2)]
            stream = await other.chat.completions.create(**PLAIN, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return [one.choices[0].message.content for one in await asyncio.gather(*both)], text

    texts, streamed = asyncio.run(run())
    expected = client.chat.completions.create(**PLAIN).choices[0].message.content
    assert texts == [expected] * 2 and streamed == expected


# ---- the other endpoints ----


def test_completions(client):
    options = {"model": "m", "prompt": "In the beginning", "max_tokens": 8, "temperature": 0}
    done = client.completions.create(**options)
    streamed = "".join(
        chunk.choices[0].text for chunk in client.completions.create(**options, stream=True)
    )
    assert done.choices[0].text == streamed != "" and done.usage.completion_tokens == 8
    echoed = client.completions.create(**options, echo=True)
    assert echoed.choices[0].text == "In the beginning" + done.choices[0].text


def test_models(client):
    (model,) = client.models.list()
    assert model.id == "tiny-target" and model.owned_by == "pillion"
    assert client.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
        client.models.retrieve("gpt")


def test_embeddings(client, pillion, tiny_target):
    """The client asks for base64 by itself."""
    texts = ["a ship", "the sea"]
    found = client.embeddings.create(model="m", input=texts)
    with pillion.LLM(tiny_target, n_ctx=256) as llm:
        expected = llm.embed(texts)
        tokens = [llm.tokenize(text) for text in texts]
    assert np.array_equal(np.array([one.embedding for one in found.data], np.float32), expected)
    assert [one.index for one in found.data] == [0, 1]
    assert found.usage.prompt_tokens == sum(map(len, tokens))
    floats = client.embeddings.create(model="m", input=texts, encoding_format="float")
    assert floats.data == found.data
    raw = client.embeddings.with_raw_response.create(
        model="m", input="a ship", encoding_format="base64"
    )
    text = json.loads(raw.text)["data"][0]["embedding"] if isinstance(raw.text, str) else None
    text = text or json.loads(raw.text())["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(text), "<f4"), expected[0])
    assert client.embeddings.create(model="m", input=tokens).data == found.data
    assert client.embeddings.create(model="m", input=tokens[0]).data == found.data[:1]


def test_embeddings_that_cannot_be(client):
    for options, sentence in [
        ({"dimensions": 64}, "dimensions is 64; this model's embeddings have 192"),
        ({"input": []}, r"input is \[\]"),
        ({"input": [[]]}, r"input\[0\] is empty"),
        ({"input": "word " * 3000}, r"input\[0\] has \d+ tokens, .* holds 1024"),
        ({"input": ["a"] * 2049}, "input has 2049 entries; at most 2048"),
        ({"input": [[1_000_000]]}, "token 0 is 1000000"),
        ({"encoding_format": "int8"}, "encoding_format is 'int8'"),
    ]:
        with pytest.raises(openai.BadRequestError, match=sentence):
            client.embeddings.create(**{"model": "m", "input": "a", **options})
    assert (
        len(client.embeddings.create(model="m", input="a", dimensions=192).data[0].embedding) == 192
    )


# ---- responses ----


def test_responses(client):
    options = {"model": "m", "input": "Read Genesis 1.", "temperature": 0, "max_output_tokens": 12}
    done = client.responses.create(**options)
    chat = client.chat.completions.create(**PLAIN).choices[0].message.content
    assert done.output_text == chat and done.status == "incomplete"
    assert done.incomplete_details.reason == "max_output_tokens" and done.usage.output_tokens == 12
    events = list(client.responses.create(**options, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == chat and events[-1].response.output_text == chat
    assert (events[0].type, events[-1].type) == ("response.created", "response.incomplete")


def test_the_stream_helper_of_responses(toy, scripted):
    thinking = {"reasoning": {"effort": "medium"}}
    body = {"model": "m", "input": "What?", **thinking}
    scripted.says("/v1/responses", body, "hm\n<channel|>It is.")
    with toy.responses.stream(**body) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.reasoning_text.delta" in kinds and final.output_text == "It is."
    reasoning, message = final.output
    assert reasoning.content[0].text == "hm" and message.status == "completed"
    assert final.usage.output_tokens_details.reasoning_tokens > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_of_responses(toy, scripted, streamed):
    def create(body):
        if not streamed:
            return toy.responses.create(**body)
        with toy.responses.stream(**body) as stream:
            return stream.get_final_response()

    tool = {"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}
    body = {"model": "m", "input": [{"role": "user", "content": "What?"}], "tools": [tool]}
    scripted.says("/v1/responses", body, f"Looking.{CALL}")
    done = create(body)
    message, call = done.output
    assert done.output_text == "Looking." and call.name == "look"
    assert json.loads(call.arguments) == {"at": 'the "sky"'}

    made = [item.to_dict(mode="json") for item in done.output]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "blue"}
    body = {**body, "input": [*body["input"], *made, output]}
    scripted.says("/v1/responses", body, "It is blue.")
    assert create(body).output_text == "It is blue."
    assert "response:look" in scripted.prompt


def test_a_response_that_is_parsed(client):
    options = {"model": "m", "input": "Which?", "temperature": 0, "max_output_tokens": 200}
    done = client.responses.parse(**options, text_format=Verse)
    assert isinstance(done.output_parsed, Verse)


def test_responses_are_not_stored(client):
    with pytest.raises(
        openai.BadRequestError, match="previous_response_id is 'resp_1'.*stores nothing"
    ):
        client.responses.create(model="m", input="hi", previous_response_id="resp_1")
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")


# ---- errors ----


def test_errors(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{**PLAIN, "temperature": -1})
    assert raised.value.param == "temperature" and raised.value.type == "invalid_request_error"
    assert "temperature is -1" in raised.value.message
    with pytest.raises(openai.BadRequestError) as raised:
        long = [{"role": "user", "content": "word " * 3000}]
        client.chat.completions.create(**{**PLAIN, "messages": long})
    assert raised.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{**PLAIN, "messages": []})
    assert raised.value.param == "messages"


def test_keys(fake, strings, toy_file):
    from served import served

    with fake.LLM(toy_file(), chat_template="{{ messages[0].content }}") as llm:
        with served(fake, llm, keys=("secret",)) as (url, _):
            for key in ("wrong", "none"):
                with pytest.raises(openai.AuthenticationError):
                    client_of(url, api_key=key).models.list()
            assert client_of(url, api_key="secret").chat.completions.create(**PLAIN).choices


def test_it_tries_again_after_503(fake, strings, toy_file):
    """A full queue says when to come back, and the client does."""
    from served import served

    with fake.LLM(toy_file(), chat_template="{{ messages[0].content }}") as llm:
        with served(fake, llm, retry_after=1) as (url, app):
            serving, refused = app.state.serving, []
            begin = serving.begin

            def full_once(prepared):
                if not refused:
                    refused.append(serving.refusal("the queue is full", "queue_full"))
                    raise refused[0]
                return begin(prepared)

            serving.begin = full_once
            with pytest.raises(openai.InternalServerError) as raised:
                client_of(url).chat.completions.create(**PLAIN)
            assert raised.value.response.headers["retry-after"] == "1"
            assert raised.value.status_code == 503 and raised.value.code == "queue_full"
            refused.clear()
            assert client_of(url, max_retries=2).chat.completions.create(**PLAIN).choices
            assert len(refused) == 1


def test_the_raw_response(client):
    raw = client.chat.completions.with_raw_response.create(**PLAIN, extra_body={"nonsense": 1})
    assert raw.headers["x-pillion-ignored"] == "nonsense"
    assert raw.request_id and raw.parse().choices
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{**PLAIN, "max_tokens": "x"})
    assert raised.value.request_id
