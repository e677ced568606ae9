"""Claude Code and Codex: their requests against a running server, a call of a tool and the turn
behind it."""

import json

import pytest

pytest.importorskip("anthropic")
pytest.importorskip("openai")

from agent_requests import (  # noqa: E402
    CLAUDE_HEADERS,
    CODEX_HEADERS,
    claude_code,
    claude_turn,
    codex,
)
from test_clients_anthropic import client_of as anthropic_client  # noqa: E402
from test_messages_shapes import accumulated  # noqa: E402


def events_of(response):
    """The events of a stream, which have a name each."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for part in response.text.strip().split("\n\n"):
        name, data = part.split("\n", 1)
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def call_of(name):
    q = '<|"|>'
    return f"<|tool_call>call:{name}{{command:{q}ls{q}}}<tool_call|>"


def test_claude_code(scripted):
    def ask(body, said):
        body = {**body, "temperature": 0}  # so that the model says what it is told to
        scripted.says("/v1/messages", body, said)
        response = scripted.post("/v1/messages?beta=true", body, headers=CLAUDE_HEADERS)
        return response, accumulated(events_of(response))

    response, message = ask(claude_code(), f"hm\n<channel|>I look.{call_of('Bash')}")
    thinking, text, use = message.content
    assert (thinking.thinking, text.text, use.name, use.input) == (
        "hm",
        "I look.",
        "Bash",
        {"command": "ls"},
    )
    assert message.stop_reason == "tool_use"
    ignored = set(response.headers["x-pillion-ignored"].split(", "))
    assert ignored == {
        "metadata", "context_management", "thinking.budget_tokens", "output_config.effort",
        "tools[18] (web_search_20250305)",
    }  # fmt: skip
    assert (
        "billing" not in scripted.prompt
        and "declaration:mcp__github__search_code" in scripted.prompt
    )

    content = [block.to_dict(mode="json") for block in message.content]
    body = claude_code(*claude_turn(content, use.id))
    _, message = ask(body, "so\n<channel|>Two files.")
    assert message.content[-1].text == "Two files." and message.stop_reason == "end_turn"
    assert "README.md" in scripted.prompt and "call:Bash" in scripted.prompt
    assert message.usage.cache_read_input_tokens > 1000  # the tools and the system's words


def test_what_else_claude_code_asks(scripted):
    probe = {"model": "claude-haiku-4-5", "max_tokens": 1, "metadata": {"user_id": "u"}}
    probe["messages"] = [{"role": "user", "content": "quota"}]
    assert scripted.post("/v1/messages?beta=true", probe, headers=CLAUDE_HEADERS).status_code == 200
    counted = {key: claude_code()[key] for key in ("model", "messages", "tools", "system")}
    response = scripted.post("/v1/messages/count_tokens?beta=true", counted, headers=CLAUDE_HEADERS)
    assert response.json()["input_tokens"] > 1000
    title = {
        **probe,
        "max_tokens": 50,
        "output_config": {
            "format": {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {"title": {"type": "string", "maxLength": 8}},
                    "required": ["title"],
                    "additionalProperties": False,
                },
            }
        },
    }
    client = anthropic_client(scripted.url)
    message = client.messages.create(**title)
    assert list(json.loads(message.content[0].text)) == ["title"]


def test_codex(scripted):
    def ask(body, said):
        scripted.says("/v1/responses", body, said)
        response = scripted.post("/v1/responses", body, headers=CODEX_HEADERS)
        events = events_of(response)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        return response, events

    response, events = ask(codex(), f"hm\n<channel|>I look.{call_of('exec_command')}")
    assert events[-1]["type"] == "response.completed"
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in done] == ["reasoning", "message", "function_call"]
    assert done[2]["name"] == "exec_command" and json.loads(done[2]["arguments"]) == {
        "command": "ls"
    }
    ignored = response.headers["x-pillion-ignored"].split(", ")
    assert ignored == [
        "client_metadata",
        "tools[4] (custom)",
        "tools[5] (web_search)",
        "parallel_tool_calls",  # the fake's markers are no tokens
    ]

    output = {"type": "function_call_output", "call_id": done[2]["call_id"], "output": "README.md"}
    _, events = ask(codex(*done, output), "so\n<channel|>One file.")
    assert events[-1]["response"]["output"][-1]["content"][0]["text"] == "One file."
    assert "README.md" in scripted.prompt and "call:exec_command" in scripted.prompt
    assert events[-1]["response"]["usage"]["input_tokens_details"]["cached_tokens"] > 1000


def test_too_much_for_the_context(embedded_server):
    """Agents shorten a conversation when they are told in these words."""
    import httpx

    response = httpx.post(
        f"{embedded_server}/v1/messages?beta=true", json=claude_code(), headers=CLAUDE_HEADERS
    )
    error = response.json()["error"]
    assert response.status_code == 400 and error["type"] == "invalid_request_error"
    assert error["message"].startswith("prompt is too long: ") and "1024" in error["message"]
    response = httpx.post(f"{embedded_server}/v1/responses", json=codex(), headers=CODEX_HEADERS)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
