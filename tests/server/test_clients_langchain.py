"""LangChain's ChatOpenAI and OpenAIEmbeddings against a running server."""

from typing import Literal

import numpy as np
import pytest

langchain_openai = pytest.importorskip("langchain_openai")
pydantic = pytest.importorskip("pydantic")

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage  # noqa: E402

CALL = '<|tool_call>call:look{at:<|"|>the "sky"<|"|>}<tool_call|>'


class Verse(pydantic.BaseModel):
    """Every answer of this form is short, whatever the model would like to say."""

    book: Literal["Genesis", "Exodus"]
    chapter: Literal[1, 2, 3]


def chat_of(url, **options):
    settings = {"model": "m", "temperature": 0, "max_tokens": 12, "max_retries": 0}
    settings |= {"base_url": f"{url}/v1", "api_key": "none", "stream_usage": True}
    return langchain_openai.ChatOpenAI(**{**settings, **options})


@pytest.fixture
def chat(embedded_server):
    return chat_of(embedded_server)


def test_invoke(chat):
    answer = chat.invoke("Read Genesis 1.")
    assert isinstance(answer, AIMessage) and answer.content
    assert answer.usage_metadata["output_tokens"] == 12
    assert answer.response_metadata["finish_reason"] == "length"
    assert answer.response_metadata["model_name"] == "tiny-target"


def test_stream(chat):
    chunks = list(chat.stream("Read Genesis 1."))
    assert len(chunks) > 3
    assert "".join(chunk.content for chunk in chunks) == chat.invoke("Read Genesis 1.").content
    usage = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert len(usage) == 1 and usage[0]["output_tokens"] == 12


def test_through_the_responses_api(chat, embedded_server):
    other = chat_of(embedded_server, use_responses_api=True)
    answer = other.invoke("Read Genesis 1.")
    assert answer.text == chat.invoke("Read Genesis 1.").content
    assert "".join(chunk.text for chunk in other.stream("Read Genesis 1.")) == answer.text


def test_structured_output(embedded_server):
    chat = chat_of(embedded_server, max_tokens=200)
    assert isinstance(chat.with_structured_output(Verse).invoke("Which?"), Verse)
    streamed = list(chat.with_structured_output(Verse).stream("Which?"))
    assert isinstance(streamed[-1], Verse)


def test_tools(scripted):
    def look(at: str) -> str:
        """Looks.

        Args:
            at: Where.
        """
        return "blue"

    chat = chat_of(scripted.url, max_tokens=200).bind_tools([look])
    history = [HumanMessage("What is it?")]
    scripted.next_says(CALL)
    answer = chat.invoke(history)
    (call,) = answer.tool_calls
    assert call["name"] == "look" and call["args"] == {"at": 'the "sky"'}

    history += [answer, ToolMessage("blue", tool_call_id=call["id"])]
    scripted.next_says("It is blue.")
    assert chat.invoke(history).content == "It is blue."
    assert "response:look" in scripted.prompt

    scripted.next_says(CALL)
    merged = None
    for chunk in chat.stream([HumanMessage("What is it?")]):
        merged = chunk if merged is None else merged + chunk
    assert merged.tool_calls[0]["args"] == {"at": 'the "sky"'}


def test_embeddings(embedded_server, pillion, tiny_target):
    settings = {"model": "m", "base_url": f"{embedded_server}/v1", "api_key": "none"}
    embeddings = langchain_openai.OpenAIEmbeddings(**settings, check_embedding_ctx_length=False)
    texts = ["a ship", "the sea"]
    with pillion.LLM(tiny_target, n_ctx=256) as llm:
        assert np.array_equal(np.float32(embeddings.embed_documents(texts)), llm.embed(texts))
        assert np.array_equal(np.float32(embeddings.embed_query("a ship")), llm.embed("a ship"))
