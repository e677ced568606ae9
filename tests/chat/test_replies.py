"""Replies with odd markers: they never reach the content, and a streamed reply is the whole one
however it was cut."""

import importlib
import math
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Q = '<|"|>'


@pytest.fixture(scope="session")
def replies(fake):
    return importlib.import_module("pillion_fake.chat.replies")


def parts(reply):
    calls = [(one.name, one.arguments) for one in reply.calls]
    return reply.content, reply.reasoning, calls, [one.text for one in reply.broken]


def streamed(replies, pieces, **options):
    """pieces: (text, [(position, marker)])."""
    parser = replies.ReplyParser(**options)
    reply = replies.Reply()
    for text, at in pieces:
        reply.add(parser.feed(text, at))
    return parts(reply.add(parser.finish()))


# reply, content, thinking
ODD = [
    ("<channel|>Yes.", "Yes.", ""),
    ("<channel|><channel|>Yes.", "Yes.", ""),
    ("thought\n<channel|>Yes.", "Yes.", ""),
    ("thought<channel|>Yes.", "Yes.", ""),
    ("\nthought\nhm\n<channel|>Yes.", "Yes.", "hm"),
    ("thought\nhm, no marker", "thought\nhm, no marker", ""),
    ("thoughtful <channel|>Yes.", "thoughtful Yes.", ""),
    ("A thought\n<channel|>Yes.", "A thought\nYes.", ""),
    ("t", "t", ""),
    ("thought", "thought", ""),
    ("<|channel>analysis\nhm<channel|>Yes.", "Yes.", "hm"),
    ("<|channel>analysis\nhm<|channel>final\nYes.", "Yes.", "hm"),
    ("<|channel>final\nYes.<channel|>", "Yes.", ""),
    ("<|channel>final Yes.", "Yes.", ""),
    ("<|channel>final<channel|>Yes.", "Yes.", ""),
    ("<|channel>plan_b\nhm<channel|>Yes.", "Yes.", "hm"),
    ("<|channel>\nThe user asks.\n<channel|>4", "4", "The user asks."),
    ("<|channel>The user asks.<channel|>4", "4", "The user asks."),
    ("<|channel>thought The user asks.<channel|>4", "4", "The user asks."),
    ("<|channel>thought\r\nhm<channel|>4", "4", "hm"),
    ("<|channel>thought<channel|>4", "4", ""),
    ("<|channel><channel|>4", "4", ""),
    ("<|channel><|channel>thought\n<|channel>thought\nhm\n<channel|><channel|>4", "4", "hm"),
    ("<|channel>thought\nhm", "", "hm"),
    ("<|channel>thought", "", ""),
    ("<|channel> ", "", ""),
    ("4<|channel>", "4", ""),
    ("4<turn|>", "4", ""),
    ("4<turn|>\n<|turn>user\nMore?", "4\nMore?", ""),
    ("<|turn>model\n4", "4", ""),
    ("<|turn>model<turn|>4", "model4", ""),
    ("<|channel>thought\nhm<turn|><|turn>model\n4", "4", "hm"),
    (
        "<|tool_response>response:f{a:" + Q + "b" + Q + "}<tool_response|>4",
        'response:f{a:"b"}4',
        "",
    ),
    ("4<tool_call|>", "4", ""),
    ("<|think|>4", "4", ""),
    (f"say {Q}hi{Q}", 'say "hi"', ""),
    ("<|channel>thought\n<|tool>x<tool|> " + Q + "\n<channel|>4", "4", 'x "'),
]


@pytest.mark.parametrize("text, content, reasoning", ODD, ids=range(len(ODD)))
def test_odd_replies(replies, text, content, reasoning):
    assert parts(replies.parse_reply(text)) == (content, reasoning, [], [])
    for at in range(len(text) + 1):
        assert streamed(replies, [(text[:at], ()), (text[at:], ())]) == (content, reasoning, [], [])
    assert streamed(replies, [(character, ()) for character in text]) == (
        content,
        reasoning,
        [],
        [],
    )


def test_a_prompt_that_began_the_thinking(replies):
    """Its first line may be the channel's name once more."""
    for text, reasoning in (
        ("hm\n<channel|>4", "hm"),
        ("thought\nhm<channel|>4", "hm"),
        ("final\nhm<channel|>4", "final\nhm"),
    ):
        for pieces in ([text], list(text)):
            parser = replies.ReplyParser()
            parser.begin_thinking()
            reply = replies.Reply()
            for piece in pieces:
                reply.add(parser.feed(piece))
            assert parts(reply.add(parser.finish())) == ("4", reasoning, [], [])


def test_models_without_the_markers(replies):
    for text, content, reasoning in ODD:
        assert parts(replies.parse_reply(text, known=())) == (text, "", [], [])


WORDS = [
    "thought",
    "thought\n",
    "final\n",
    "\n",
    " ",
    "call:",
    "f",
    "{",
    "}",
    "a:",
    "1",
    ",",
    '"',
    "user\n",
    "model\n",
    "<",
    "<|",
    "|>",
    "<|chan",
    "x",
    "é🙂",
    "Yes.",
]


@st.composite
def soups(draw):
    """[(text, is a token that is a marker)]"""
    marker = st.sampled_from(MARKERS)
    return draw(
        st.lists(
            marker.map(lambda one: (one, True))
            | (st.sampled_from(WORDS) | marker).map(lambda one: (one, False)),
            max_size=25,
        )
    )


MARKERS = [
    "<|channel>",
    "<channel|>",
    "<|tool_call>",
    "<tool_call|>",
    Q,
    "<|turn>",
    "<turn|>",
    "<|tool_response>",
    "<tool_response|>",
    "<|tool>",
    "<tool|>",
    "<|think|>",
]
MARKER = re.compile("|".join(map(re.escape, MARKERS)))


def test_all_markers_are_here(replies):
    assert set(MARKERS) == set(replies.MARKERS)


def cut(text, at, cuts):
    """The text in pieces, each with the markers that begin in it."""
    edges = sorted({0, len(text), *(one % (len(text) + 1) for one in cuts)})
    return [
        (text[a:b], [(place - a, marker) for place, marker in at if a <= place < b])
        for a, b in zip(edges, edges[1:])
    ]


@given(soups(), st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
@settings(max_examples=500, deadline=None)
def test_spelled_markers_never_reach_the_text(replies, soup, cuts, calls):
    """Where the vocabulary has no tokens for them, every spelling is a marker."""
    text = "".join(one for one, _ in soup)
    whole = streamed(replies, [(text, ())], calls=calls)
    assert streamed(replies, cut(text, (), cuts), calls=calls) == whole
    assert streamed(replies, [(character, ()) for character in text], calls=calls) == whole
    parser = replies.ReplyParser(calls=calls)
    deltas = parser.feed(text) + parser.finish()
    for delta in deltas:
        assert not MARKER.search(delta.content) and not MARKER.search(delta.reasoning)
    assert calls or not whole[2] + whole[3]


@given(soups(), st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
@settings(max_examples=500, deadline=None)
def test_tokens_are_markers_and_their_spelling_is_text(replies, soup, cuts, calls):
    text, at = "", []
    for one, is_token in soup:
        if is_token:
            at.append((len(text), one))
        text += one
    options = {"tokens": MARKERS, "calls": calls}
    whole = streamed(replies, [(text, at)], **options)
    assert streamed(replies, cut(text, at, cuts), **options) == whole
    assert streamed(replies, cut(text, at, range(len(text))), **options) == whole
    # the same by spelling, where ordinary text has another sign in the place of each "<"
    other = "".join(one if is_token else one.replace("<", "\u2039") for one, is_token in soup)
    spelled = streamed(replies, [(other, ())], calls=calls)
    assert whole == eval(repr(spelled).replace("\u2039", "<"))


def test_a_quoted_marker_is_text(replies):
    """A model that explains its own markers writes their names by ordinary tokens."""
    text = (
        "<|channel>thought\nThe end is <channel|>.\n<channel|>It is <channel|>, or "
        "`<|tool_call>call:f{}<tool_call|>`."
    )
    at = [(0, "<|channel>"), (text.index("\n<channel|>It") + 1, "<channel|>")]
    expected = (
        "It is <channel|>, or `<|tool_call>call:f{}<tool_call|>`.",
        "The end is <channel|>.",
        [],
        [],
    )
    assert streamed(replies, [(text, at)], tokens=replies.MARKERS) == expected
    body = f"<|tool_call>call:f{{a:{Q}x {Q} y <tool_call|>{Q}}}<tool_call|>"
    at = [
        (0, "<|tool_call>"),
        (body.index(Q), Q),
        (body.rindex(Q), Q),
        (body.rindex("<tool_call|>"), "<tool_call|>"),
    ]
    _, _, calls, broken = streamed(replies, [(body, at)], tokens=replies.MARKERS)
    assert broken == [] and calls == [("f", '{"a": "x <|\\"|> y <tool_call|>"}')]


# ---- in a chat ----

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|turn>{{ m.role }}\n{{ m.content }}<turn|>\n{% "
    "endfor %}<|turn>model\n"
)
ASK = [{"role": "user", "content": "?"}]


def test_control_tokens_that_are_markers(pillion, tiny_target, monkeypatch):
    """Tokens of type control print nothing; as markers they count all the same, and logprobs list
    them."""
    with pillion.LLM(tiny_target, n_ctx=128, drafter=None) as llm:
        kinds = {marker: token for token, marker in llm._chat.marker_tokens.items()}
        assert len(kinds) >= 8
        ids = [kinds["<|channel>"]]
        for word in (
            "thought",
            "\n",
            "hm",
            "\n",
            "<channel|>",
            "It ends with ",
            "<",
            "channel",
            "|",
            ">",
        ):
            ids += llm.tokenizer.encode(word, add_special=False)
        ids.append(min(llm.tokenizer.end_tokens))
        n_prompt = len(llm.chat_tokens(llm.render_chat(ASK)))

        def dictate(tokens, scores):
            scores[:] = -math.inf
            scores[ids[len(tokens) - n_prompt]] = 0
            return scores

        options = {"temperature": 0, "logits_processor": dictate}
        hidden = llm.tokenizer.token_bytes
        control = set(kinds.values())

        def bytes_of(token, special=False):
            return b"" if token in control and not special else hidden(token, True)

        monkeypatch.setattr(llm.tokenizer, "token_bytes", bytes_of)
        whole = llm.chat(ASK, **options)["choices"][0]
        assert whole["message"] == {
            "role": "assistant",
            "content": "It ends with <channel|>",
            "reasoning_content": "hm",
        }
        chunks = [chunk["choices"][0]["delta"] for chunk in llm.chat(ASK, stream=True, **options)]
        assert "".join(one.get("content", "") for one in chunks) == "It ends with <channel|>"
        assert "".join(one.get("reasoning_content", "") for one in chunks) == "hm"


@pytest.mark.parametrize("seed", range(3))
def test_a_stop_string_may_cut_a_marker(fake, strings, toy_file, seed):
    """Text that the stop filter holds back, in a chat with random markers: streamed is whole."""
    random.seed(seed)
    with fake.LLM(
        toy_file(), chat_template=TEMPLATE.replace("model", "model<|channel><channel|>"), n_ctx=512
    ) as llm:
        base = len(llm.chat_tokens(llm.render_chat(ASK)))
        for _ in range(20):
            text = "".join(
                random.choice(["<|channel>", "<channel|>", "thought\n", "a", "|>", "nel", "\n"])
                for _ in range(12)
            )
            strings.script(base, [*text.encode(), 257])
            options = {"temperature": 0, "stop": ["nel|>a", "a|"]}
            message = llm.chat(ASK, **options)["choices"][0]["message"]
            deltas = [
                chunk["choices"][0]["delta"] for chunk in llm.chat(ASK, **options, stream=True)
            ]
            assert "".join(one.get("content", "") for one in deltas) == message["content"]
            assert "".join(one.get("reasoning_content", "") for one in deltas) == message.get(
                "reasoning_content", ""
            )
            assert not re.search(r"<\|channel>|<channel\|>", message["content"]), text
