"""`ChatPillion` and `PillionEmbeddings`: LangChain over an `LLM` of this process."""

import asyncio
import base64
import importlib
import subprocess
import sys
from typing import Literal, TypedDict

import numpy as np
import pytest

pytest.importorskip("langchain_core", reason="the extra `langchain` is not installed")

import pydantic  # noqa: E402
from gemma4_templates import LATER  # noqa: E402
from langchain_core.caches import InMemoryCache  # noqa: E402
from langchain_core.callbacks import BaseCallbackHandler  # noqa: E402
from langchain_core.exceptions import OutputParserException  # noqa: E402
from langchain_core.messages import (  # noqa: E402
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.output_parsers import StrOutputParser  # noqa: E402
from langchain_core.prompts import ChatPromptTemplate  # noqa: E402
from langchain_core.runnables import ConfigurableField  # noqa: E402
from patience import until  # noqa: E402
from served import Scripted  # noqa: E402

QUESTION = "Read Genesis 1."
GREEDY = {"temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def llm(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=512, n_threads=1, parallel=2, draft=2) as one:
        yield one


@pytest.fixture(scope="module")
def make(pillion, llm):
    from pillion.integrations.langchain import ChatPillion

    return lambda **options: ChatPillion(llm=llm, **{**GREEDY, **options})


@pytest.fixture(scope="module")
def said(llm):
    return llm.chat([{"role": "user", "content": QUESTION}], **GREEDY)["choices"][0]["message"][
        "content"
    ]


def merged(chunks):
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    return whole


# ---- text ----


def test_invoke(make, said, llm):
    answer = make().invoke(QUESTION)
    assert isinstance(answer, AIMessage) and answer.content == said
    assert answer.usage_metadata["output_tokens"] == 12
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + 12
    assert usage["output_token_details"] == {"reasoning": 0}
    metadata = answer.response_metadata
    assert metadata["finish_reason"] == "length"
    assert metadata["model_name"] == llm.name and metadata["model_provider"] == "pillion"
    assert metadata["timings"]["predicted_n"] == 12
    assert metadata["speculation"]["state"] == "on"
    again = make().invoke(QUESTION)
    assert again.usage_metadata["input_token_details"]["cache_read"] > 0


def test_stream(make, said):
    chunks = list(make().stream(QUESTION))
    assert len(chunks) > 3
    whole = merged(chunks)
    assert whole.content == said
    assert whole.usage_metadata["output_tokens"] == 12
    assert whole.response_metadata["finish_reason"] == "length"
    assert len([one for one in chunks if one.usage_metadata]) == 1
    assert chunks[-1].chunk_position == "last"


def test_asyncio(make, said):
    async def all_of():
        chat = make()
        whole, batch = await chat.ainvoke(QUESTION), await chat.abatch([QUESTION] * 3)
        return whole, batch, [one async for one in chat.astream(QUESTION)]

    whole, batch, chunks = asyncio.run(all_of())
    assert whole.content == said
    assert [one.content for one in batch] == [said] * 3
    assert len(chunks) > 3 and merged(chunks).content == said


def test_batch(make, said):
    assert [one.content for one in make().batch([QUESTION] * 3)] == [said] * 3


def test_callbacks_hear_each_chunk(make, said):
    class Heard(BaseCallbackHandler):
        def __init__(self):
            self.texts = []

        def on_llm_new_token(self, token, **_):
            self.texts.append(token)

    heard = Heard()
    list(make().stream(QUESTION, config={"callbacks": [heard]}))
    assert "".join(heard.texts) == said and len(heard.texts) > 3


def test_a_stream_that_is_left_ends_its_answer(make, llm):
    stream = make(max_tokens=None, stop=None).stream(QUESTION)
    next(stream)
    stream.close()
    until(lambda: all(one.state == "idle" for one in llm.engine.slots()))


def test_options_of_the_model_and_of_a_call(make, said):
    assert make(max_tokens=1).invoke(QUESTION).usage_metadata["output_tokens"] == 1
    assert make().invoke(QUESTION, max_tokens=2).usage_metadata["output_tokens"] == 2
    at = said.split()[2]
    cut = make().invoke(QUESTION, stop=[at])
    assert cut.content == said[: said.index(at)]
    assert cut.response_metadata["finish_reason"] == "stop"
    assert cut.response_metadata["stop_reason"] == at
    assert make(stop=[at]).invoke(QUESTION).content == cut.content
    warm = {"temperature": 1.5, "max_tokens": 16}
    texts = {make(**warm, seed=seed).invoke(QUESTION).content for seed in (1, 2, 3)}
    assert len(texts) == 3
    assert make(**warm, seed=1).invoke(QUESTION).content in texts
    assert make(draft=0).invoke(QUESTION).content == said
    assert make(model_kwargs={"choice": ["yes"]}).invoke(QUESTION).content == "yes"
    assert make().bind(choice=["no"]).invoke(QUESTION).content == "no"


def test_logprobs(make):
    options = {"logprobs": True, "top_logprobs": 2}
    whole = make(**options).invoke(QUESTION).response_metadata["logprobs"]["content"]
    assert len(whole) == 12 and all(len(one["top_logprobs"]) == 2 for one in whole)
    streamed = merged(make(**options).stream(QUESTION)).response_metadata["logprobs"]["content"]
    assert [one["token"] for one in streamed] == [one["token"] for one in whole]


def test_turns(make, llm):
    told = [
        SystemMessage("Be brief."),
        HumanMessage([{"type": "text", "text": "Who is it?"}]),
        AIMessage("Moses."),
        ChatMessage("And who else?", role="user"),
    ]
    plain = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who is it?"},
        {"role": "assistant", "content": "Moses."},
        {"role": "user", "content": "And who else?"},
    ]
    wanted = llm.chat(plain, **GREEDY)
    answer = make().invoke(told)
    assert answer.content == wanted["choices"][0]["message"]["content"]
    assert answer.usage_metadata["input_tokens"] == wanted["usage"]["prompt_tokens"]
    assert make().get_num_tokens_from_messages(told) == wanted["usage"]["prompt_tokens"]
    assert make().get_num_tokens("In the beginning") == len(
        llm.tokenize("In the beginning", add_bos=False)
    )


# ---- schemas ----


class Verse(pydantic.BaseModel):
    """Every answer of this form is short, whatever the model would like to say."""

    book: Literal["Genesis", "Exodus"]
    chapter: Literal[1, 2, 3]


class VerseDict(TypedDict):
    """A verse."""

    book: Literal["Genesis", "Exodus"]
    chapter: Literal[1, 2, 3]


def test_structured_output(make):
    pytest.importorskip("llguidance", reason="the extra `structured` is not installed")
    chat = make(max_tokens=100)
    for method in ("json_schema", "function_calling"):
        assert isinstance(
            chat.with_structured_output(Verse, method=method).invoke("Which?"), Verse
        ), method
    assert set(chat.with_structured_output(VerseDict).invoke("Which?")) == {"book", "chapter"}
    schema = Verse.model_json_schema()
    found = list(chat.with_structured_output(schema).stream("Which?"))
    assert Verse(**found[-1]) and len(found) > 1
    raw = chat.with_structured_output(Verse, include_raw=True).invoke("Which?")
    assert isinstance(raw["parsed"], Verse) and raw["parsing_error"] is None
    assert raw["raw"].usage_metadata["output_tokens"] > 0


def test_a_cut_answer_is_no_structured_output(make):
    pytest.importorskip("llguidance", reason="the extra `structured` is not installed")
    for schema in (Verse, Verse.model_json_schema()):
        chain = make(max_tokens=4).with_structured_output(schema)
        with pytest.raises(OutputParserException, match="reached max_tokens"):
            chain.invoke("Which?")
        with pytest.raises(OutputParserException, match="reached max_tokens"):
            list(chain.stream("Which?"))
    raw = make(max_tokens=4).with_structured_output(Verse, include_raw=True).invoke("Which?")
    assert raw["parsed"] is None and "max_tokens" in str(raw["parsing_error"])


# ---- thinking and tools, by a model that says what the test wants ----

CALL = '<|tool_call>call:look{at:<|"|>the "sky"<|"|>}<tool_call|>'


class Speaker(Scripted):
    """A ChatPillion over the fake, whose model says what it is told to."""

    def __init__(self, chat, llm, strings):
        super().__init__("", llm, strings)
        self.chat = chat


@pytest.fixture
def speaker(fake, strings, toy_file):
    module = importlib.import_module(f"{fake.__name__}.integrations.langchain")
    greedy = toy_file({"general.sampling.temp": "0"})
    with fake.LLM(greedy, chat_template=LATER, n_ctx=1 << 14) as llm:
        yield Speaker(module.ChatPillion(llm=llm, max_tokens=200), llm, strings)


def look(at: str) -> str:
    """Looks.

    Args:
        at: Where.
    """
    return "blue"


def test_tools(speaker):
    chat = speaker.chat.bind_tools([look])
    history = [HumanMessage("What is it?")]
    speaker.next_says(CALL)
    answer = chat.invoke(history)
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("look", {"at": 'the "sky"'})
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    assert "Looks." in speaker.prompt  # the template lists the tools

    history += [answer, ToolMessage("blue", tool_call_id=call["id"])]
    speaker.next_says("It is blue.")
    assert chat.invoke(history).content == "It is blue."
    assert "response:look" in speaker.prompt

    speaker.next_says(CALL)
    streamed = merged(chat.stream([HumanMessage("What is it?")]))
    assert streamed.tool_calls[0]["args"] == {"at": 'the "sky"'}
    assert streamed.content == ""


def test_a_broken_call(speaker):
    chat = speaker.chat.bind_tools([look])
    speaker.next_says('<|tool_call>call:look{at:<|"|>the')
    answer = chat.invoke("What is it?")
    assert answer.tool_calls == []
    (broken,) = answer.invalid_tool_calls
    assert "call:look" in broken["args"] and broken["error"]
    assert answer.response_metadata["finish_reason"] == "malformed_tool_call"
    speaker.next_says('<|tool_call>call:look{at:<|"|>the')
    streamed = merged(chat.stream("What is it?"))
    (kept,) = streamed.additional_kwargs["malformed_tool_calls"]
    assert "call:look" in kept["text"]


THINKING = "<|channel>thought\nIt is noon.<channel|>Blue."


def test_thinking(speaker):
    chat = type(speaker.chat)(llm=speaker.llm, thinking=True)
    speaker.next_says(THINKING)
    answer = chat.invoke("What is it?")
    assert answer.content == "Blue."
    assert answer.additional_kwargs["reasoning_content"] == "It is noon."
    kinds = [block["type"] for block in answer.content_blocks]
    assert kinds == ["reasoning", "text"]
    assert answer.content_blocks[0]["reasoning"] == "It is noon."
    assert answer.usage_metadata["output_token_details"]["reasoning"] > 0

    speaker.next_says(THINKING)
    streamed = merged(chat.stream("What is it?"))
    assert streamed.content == "Blue."
    assert streamed.additional_kwargs["reasoning_content"] == "It is noon."


def test_thinking_goes_back_as_it_came(pillion):
    from pillion.integrations.langchain.langchain_messages import plain_messages

    kept = AIMessage("Blue.", additional_kwargs={"reasoning_content": "It is noon."})
    blocks = AIMessage(
        [{"type": "reasoning", "reasoning": "It is noon."}, {"type": "text", "text": "Blue."}]
    )
    for message in (kept, blocks):
        (plain,) = plain_messages([message])
        assert plain["reasoning_content"] == "It is noon."
        assert plain["content"] in ("Blue.", [{"type": "text", "text": "Blue."}])


def test_tool_choice(make):
    pytest.importorskip("llguidance", reason="the extra `structured` is not installed")
    chat = make(max_tokens=60)
    for choice in ("any", "look", "required", True):
        bound = chat.bind_tools([look], tool_choice=choice, parallel_tool_calls=False)
        found = bound.invoke("Look!")
        names = [one["name"] for one in found.tool_calls]
        assert names == ["look"] or found.response_metadata["finish_reason"] == "length"
        assert found.content == ""
    assert chat.bind_tools([look], tool_choice="none").invoke("Look!").tool_calls == []


def test_standard_blocks(speaker):
    """output_version="v1" keeps blocks in the content; they go back as they came."""
    chat = type(speaker.chat)(llm=speaker.llm, output_version="v1")
    speaker.next_says(THINKING)
    answer = chat.invoke("What is it?")
    assert [one["type"] for one in answer.content] == ["reasoning", "text"]
    speaker.next_says("Yes.")
    assert chat.invoke([HumanMessage("What is it?"), answer, HumanMessage("Sure?")]).text == "Yes."
    assert "Blue." in speaker.prompt


def test_chains_and_caches(make, said):
    chain = ChatPromptTemplate.from_messages([("human", "{what}")]) | make() | StrOutputParser()
    assert chain.invoke({"what": QUESTION}) == said
    assert "".join(chain.stream({"what": QUESTION})) == said
    cached = make(cache=InMemoryCache(), temperature=1.5, seed=None)
    assert cached.invoke(QUESTION).content == cached.invoke(QUESTION).content
    field = ConfigurableField(id="length")
    short = make().configurable_fields(max_tokens=field).with_config(configurable={"length": 2})
    assert short.invoke(QUESTION).usage_metadata["output_tokens"] == 2


# ---- errors and life ----


def test_errors_are_typed(pillion, make, llm):
    from pillion.integrations.langchain import ChatPillion

    picture = HumanMessage([{"type": "image_url", "image_url": {"url": "data:x"}}])
    cases = [
        (lambda: make(temprature=1), pillion.UsageError, "did you mean temperature?"),
        (lambda: ChatPillion(), pillion.UsageError, "give a model"),
        (lambda: ChatPillion(llm="a.gguf"), pillion.UsageError, "it must be an open pillion.LLM"),
        (lambda: ChatPillion("no.gguf"), pillion.ModelNotFoundError, "no.gguf"),
        (lambda: make().invoke("x " * 900), pillion.ContextFullError, "512 (n_ctx)"),
        (lambda: make(top_p=2).invoke("x"), pillion.UsageError, "top_p is 2"),
        (lambda: make().invoke("x", wow=1), pillion.UsageError, "no argument 'wow'"),
        (lambda: list(make().stream("x", wow=1)), pillion.UsageError, "no argument 'wow'"),
        (lambda: make().invoke([picture]), pillion.MediaError, "image"),
        (lambda: make().invoke([FunctionMessage("x", name="f")]), pillion.UsageError, "no role"),
        (lambda: make().with_structured_output(Verse, method="xml"), pillion.UsageError, "method"),
        (lambda: make(timeout=1e-9).invoke("x"), pillion.TimedOut, ""),
    ]
    for work, kind, words in cases:
        with pytest.raises(kind) as error:
            work()
        assert words in str(error.value)


def test_it_opens_and_closes_a_model_of_its_own(pillion, tiny_target, said, llm):
    from pillion.integrations.langchain import ChatPillion

    with ChatPillion(tiny_target, n_ctx=256, n_threads=1, **GREEDY) as chat:
        assert chat.invoke(QUESTION).content == said
        assert chat.llm.n_ctx() == 256 and chat.model == str(tiny_target)
    assert chat.llm.closed
    ChatPillion(llm=llm).close()
    assert not llm.closed


def test_embeddings(pillion, llm, tiny_target):
    from pillion.integrations.langchain import PillionEmbeddings

    texts = ["a ship", "the sea"]
    embeddings = PillionEmbeddings(llm=llm)
    assert np.array_equal(np.float32(embeddings.embed_documents(texts)), llm.embed(texts))
    assert np.array_equal(np.float32(embeddings.embed_query("a ship")), llm.embed("a ship"))
    assert embeddings.embed_documents([]) == []
    assert asyncio.run(embeddings.aembed_query("a ship")) == embeddings.embed_query("a ship")
    with pytest.raises(pillion.UsageError, match="PillionEmbeddings"):
        PillionEmbeddings(tiny_target, n_cxt=1)


def test_a_missing_extra_is_one_sentence():
    code = (
        "import sys\nsys.modules['langchain_core'] = None\n"
        "try:\n    import pillion.integrations.langchain\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pillion.integrations.langchain needs langchain_core")
    assert done.stdout.endswith("pip install 'pillion[langchain]'\n")


def test_pictures_and_sounds(pillion):
    """LangChain's own blocks, and OpenAI's."""
    pytest.importorskip("soundfile", reason="the extra `media` is not installed")
    from pillion.integrations.langchain import ChatPillion
    from pillion.models import SEVEN_PNG, SEVEN_WAV, TINY_TARGET

    data = {one: base64.b64encode(one.read_bytes()).decode() for one in (SEVEN_PNG, SEVEN_WAV)}
    url = {"url": f"data:image/png;base64,{data[SEVEN_PNG]}"}
    parts = [
        {"type": "image", "base64": data[SEVEN_PNG], "mime_type": "image/png"},
        {"type": "image_url", "image_url": url},
        {"type": "audio", "base64": data[SEVEN_WAV], "mime_type": "audio/wav"},
    ]
    with pillion.LLM(TINY_TARGET, n_ctx=512) as llm:
        chat = ChatPillion(llm=llm, temperature=0, max_tokens=8)
        for part in parts:
            assert chat.invoke([HumanMessage([part])]).content == "seven"
