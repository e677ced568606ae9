"""Anthropic's official client against a running server."""

import asyncio
import json

import pytest

anthropic = pytest.importorskip("anthropic")

ASK = [{"role": "user", "content": "Read Genesis 1."}]
TOOL = {
    "name": "look",
    "description": "Looks.",
    "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}},
}
# version 2 of the client has no word for the temperature
PLAIN = {"model": "m", "max_tokens": 12, "messages": ASK, "extra_body": {"temperature": 0}}
CALL = 'Looking.<|tool_call>call:look{at:<|"|>the "sky"<|"|>}<tool_call|>'


def client_of(url, **options):
    return anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, **options)


@pytest.fixture
def client(embedded_server):
    with client_of(embedded_server) as client:
        yield client


@pytest.fixture
def toy(scripted):
    with client_of(scripted.url) as client:
        yield client


def ask(client, **more):
    return client.messages.create(**{**PLAIN, **more})


def test_create(client):
    message = ask(client, system="Be brief.")
    assert message.type == "message" and message.role == "assistant"
    assert message.stop_reason == "max_tokens" and message.stop_sequence is None
    assert [block.type for block in message.content] == ["text"] and message.content[0].text
    usage = message.usage
    assert usage.output_tokens == 12 and usage.input_tokens + usage.cache_read_input_tokens > 5
    again = ask(client, system="Be brief.")
    assert again.content == message.content and again.usage.cache_read_input_tokens > 0
    assert again._request_id


def test_the_stream_helper(client):
    whole = ask(client)
    texts, kinds = [], []
    with client.messages.stream(**PLAIN) as stream:
        for event in stream:
            kinds.append(event.type)
            if event.type == "text":
                texts.append(event.text)
        final = stream.get_final_message()
    assert "".join(texts) == whole.content[0].text == final.content[0].text
    assert final.stop_reason == whole.stop_reason and len(texts) > 1
    assert final.usage.output_tokens == 12
    total = final.usage.input_tokens + final.usage.cache_read_input_tokens
    assert total == whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"


def test_raw_events(client):
    with ask(client, stream=True) as stream:
        kinds = [event.type for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_the_async_client(client, embedded_server):
    async def run():
        async with anthropic.AsyncAnthropic(base_url=embedded_server, api_key="none") as other:
            async with other.messages.stream(**PLAIN) as stream:
                return await stream.get_final_text()

    assert asyncio.run(run()) == ask(client).content[0].text


def test_count_tokens(client):
    n = client.messages.count_tokens(model="m", messages=ASK).input_tokens
    message = ask(client, max_tokens=1)
    assert n == message.usage.input_tokens + message.usage.cache_read_input_tokens
    assert client.messages.count_tokens(model="m", messages=ASK, system="x y z").input_tokens > n


def test_models(client):
    (model,) = client.models.list()
    assert (model.id, model.type) == ("tiny-target", "model") and model.display_name
    assert model.created_at.year >= 2026
    assert client.models.retrieve("tiny-target").id == "tiny-target"


def test_stop_sequences(toy, scripted):
    body = {"model": "m", "messages": ASK}
    scripted.says("/v1/messages", body, "one STOP two")
    message = toy.messages.create(max_tokens=50, stop_sequences=["END", "STOP"], **body)
    assert message.content[0].text == "one " and message.stop_reason == "stop_sequence"
    assert message.stop_sequence == "STOP"
    with toy.messages.stream(max_tokens=50, stop_sequences=["END", "STOP"], **body) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", "STOP")


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_there_and_back(toy, scripted, streamed):
    def create(body):
        if not streamed:
            return toy.messages.create(max_tokens=100, **body)
        with toy.messages.stream(max_tokens=100, **body) as stream:
            return stream.get_final_message()

    body = {"model": "m", "messages": ASK, "tools": [TOOL]}
    scripted.says("/v1/messages", body, CALL)
    message = create(body)
    assert message.stop_reason == "tool_use"
    text, use = message.content
    assert text.text == "Looking." and use.name == "look" and use.input == {"at": 'the "sky"'}

    result = {"type": "tool_result", "tool_use_id": use.id, "content": "blue"}
    said = {"role": "assistant", "content": message.to_dict(mode="json")["content"]}
    history = [*ASK, said, {"role": "user", "content": [result]}]
    body = {**body, "messages": history}
    scripted.says("/v1/messages", body, "It is blue.")
    message = create(body)
    assert message.content[0].text == "It is blue." and message.stop_reason == "end_turn"
    assert '<|tool_call>call:look{at:<|"|>the "sky"<|"|>}<tool_call|>' in scripted.prompt
    assert "response:look" in scripted.prompt and "blue" in scripted.prompt


@pytest.mark.parametrize("streamed", [False, True])
def test_thinking(toy, scripted, streamed):
    body = {"model": "m", "messages": ASK, "thinking": {"type": "adaptive"}}
    scripted.says("/v1/messages", body, "hm, yes\n<channel|>It is.")
    if streamed:
        with toy.messages.stream(max_tokens=100, **body) as stream:
            kinds = {event.type for event in stream}
            message = stream.get_final_message()
        assert {"thinking", "signature", "text"} <= kinds
    else:
        message = toy.messages.create(max_tokens=100, **body)
    thinking, text = message.content
    assert thinking.thinking == "hm, yes" and thinking.signature == "unsigned"
    assert text.text == "It is."
    assert message.usage.output_tokens_details.thinking_tokens > 0


def test_errors(client, toy):
    with pytest.raises(anthropic.BadRequestError) as raised:
        ask(client, messages=[*ASK, {"role": "assistant", "content": "The"}])
    body = raised.value.body
    assert body["type"] == "error" and body["error"]["type"] == "invalid_request_error"
    assert "must end with a user message" in body["error"]["message"]
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long: .* holds 1024"):
        ask(client, messages=[{"role": "user", "content": "word " * 3000}])
    with pytest.raises(anthropic.BadRequestError, match="fetches nothing"):
        image = {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}}
        ask(client, messages=[{"role": "user", "content": [image]}])


def test_keys(fake, strings, toy_file):
    from served import served

    with fake.LLM(toy_file(), chat_template="{{ messages[0].content }}") as llm:
        with served(fake, llm, keys=("secret",)) as (url, _):
            with pytest.raises(anthropic.AuthenticationError, match="API key is wrong"):
                ask(client_of(url))
            good = anthropic.Anthropic(base_url=url, api_key="secret", max_retries=0)
            assert ask(good).content
            bearer = anthropic.Anthropic(base_url=url, auth_token="secret", max_retries=0)
            assert ask(bearer).content


def test_what_has_no_effect_is_named(client):
    raw = client.messages.with_raw_response.create(
        model="m",
        max_tokens=2,
        messages=ASK,
        metadata={"user_id": "u"},
        thinking={"type": "enabled", "budget_tokens": 1024},
        tools=[{"type": "web_search_20250305", "name": "web_search"}],
    )
    named = raw.headers["x-pillion-ignored"].split(", ")
    assert set(named) == {"metadata", "thinking.budget_tokens", "tools[0] (web_search_20250305)"}
    assert raw.parse().content is not None
    assert json.loads(raw.text())["model"] == "tiny-target"
