"""OpenAI's shapes for who runs the generation: chunks, tokens of thinking, and what was drafted."""

import random
from types import SimpleNamespace

import pytest

CHANNEL, END, CALL, CALL_END = 1, 2, 3, 4
MARKERS = {CHANNEL: "<|channel>", END: "<channel|>", CALL: "<|tool_call>", CALL_END: "<tool_call|>"}
# (text, drafted); what stands for a marker is its token
THOUGHT = [
    (CHANNEL, False),
    ("thought", True),
    ("\n", True),
    ("I see", False),
    (".", True),
    ("\n", False),
    (END, True),
]
REPLY = [*THOUGHT, ("The", False), (" answer", True), (" is", True), ("", True), (" 42é", False)]
CALLED = [*THOUGHT, (CALL, False), ("call:f{", True), ("a:1", True), ("}", False), (CALL_END, True)]


def made(said, finish="stop", paired=True):
    """A generation that has ended, and its tokens."""
    from pillion.engine.generation import Timings, TokenInfo
    from pillion.pair import PairStats

    infos, offset = [], 0
    for at, (what, drafted) in enumerate(said):
        text = MARKERS.get(what, what)
        number = what if what in MARKERS else 100 + at
        infos.append(TokenInfo(number, text, offset, drafted=drafted))
        offset += len(text)
    generation = SimpleNamespace(
        prompt=[0] * 9,
        tokens=[one.id for one in infos],
        text="".join(one.text for one in infos),
        finish_reason=finish,
        paired=paired,
        timings=Timings(cache_n=4),
        speculation=PairStats(drafted=12, accepted=sum(drafted for _, drafted in said)),
        prompt_scores=None,
        stop=None,
    )
    return generation, infos


def chat(generation):
    from pillion.llm.openai_format import ChatCompletion
    from pillion.chat.replies import ReplyParser

    parser = ReplyParser(tokens=set(MARKERS.values()), names=["f"])
    return ChatCompletion(generation, SimpleNamespace(), "m", False, parser, MARKERS)


def pieces(generation, infos, seed):
    """The text cut anywhere, each piece with the tokens that begin in it."""
    from pillion.engine.generation import Piece

    dice, sent, waiting = random.Random(seed), 0, list(infos)
    found = []
    while sent < len(generation.text):
        end = min(len(generation.text), sent + dice.randint(1, 30))
        tokens = []
        while waiting and waiting[0].offset < end:
            tokens.append(waiting.pop(0))
        found.append(Piece(generation.text[sent:end], tuple(tokens)))
        sent = end
    return [*found, Piece("", tuple(waiting))]


@pytest.mark.parametrize("said", [REPLY, CALLED, REPLY[7:]])
def test_tokens_of_thinking_are_counted_however_the_text_is_cut(pillion, said):
    generation, infos = made(said)
    wanted = 7 if said[0][0] == CHANNEL else 0  # both markers and what stands between them
    answer = chat(generation)
    whole = answer.whole_of(infos)
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == wanted
    for seed in range(60):
        answer = chat(generation)
        for piece in pieces(generation, infos, seed):
            answer.piece_chunks(piece)
        answer.closing_chunks()
        assert answer.usage() == whole["usage"], seed


@pytest.mark.parametrize("said", [REPLY, CALLED])
def test_pieces_are_the_text_of_their_chunk(pillion, said):
    generation, infos = made(said)
    for seed in range(60):
        answer = chat(generation)
        answer.shows_pieces = True
        chunks = answer.opening_chunks()
        for piece in pieces(generation, infos, seed):
            chunks += answer.piece_chunks(piece)
        chunks += answer.closing_chunks()
        for chunk in chunks:
            delta = chunk["choices"][0]["delta"]
            text = delta.get("content") or delta.get("reasoning_content") or ""
            shown = chunk.get("pillion", {}).get("pieces", [])
            assert "".join(part for part, _ in shown) == text
        if said is REPLY:
            flat = [
                (part, was)
                for one in chunks
                for part, was in one.get("pillion", {}).get("pieces", [])
            ]
            drafted = {part: was for part, was in flat if part in (" answer", " is", "The")}
            assert all(drafted[part] == (part != "The") for part in drafted)


def test_the_deltas_of_a_call(pillion):
    generation, infos = made(CALLED)
    answer = chat(generation)
    chunks = answer.opening_chunks()
    for piece in pieces(generation, infos, 1):
        chunks += answer.piece_chunks(piece)
    chunks += answer.closing_chunks()
    (delta,) = [
        one["choices"][0]["delta"] for one in chunks if "tool_calls" in one["choices"][0]["delta"]
    ]
    (call,) = delta["tool_calls"]
    assert set(delta) == {"tool_calls"} and set(call) == {"index", "id", "type", "function"}
    assert call["index"] == 0 and call["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_the_three_ways_to_tell_the_usage(pillion):
    generation, infos = made(REPLY)
    for include, in_chunks, in_last in (
        (None, False, True),
        (True, True, True),
        (False, False, False),
    ):
        answer = chat(generation)
        answer.include_usage = include
        chunks = answer.opening_chunks()
        for piece in pieces(generation, infos, 2):
            chunks += answer.piece_chunks(piece)
        *chunks, last = chunks + answer.closing_chunks()
        assert all(("usage" in one) == in_chunks for one in chunks)
        assert ("usage" in last) == in_last
        assert include is None or not last.get("usage")
        assert last["timings"]["cache_n"] == 4 and last["speculation"]["drafted"] == 12
    usage = answer.usage()
    assert usage["prompt_tokens_details"] == {"cached_tokens": 4}
    details = usage["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] + details["rejected_prediction_tokens"] == 12
    own = answer.usage_chunk(usage)
    assert own["choices"] == [] and own["usage"] == usage and own["id"] == last["id"]


def test_without_a_drafter_and_without_thinking(pillion):
    from pillion.llm.openai_format import Completion

    generation, infos = made([("a", False), ("b", False)], paired=False)
    answer = Completion(generation, SimpleNamespace(), "m", False)
    assert "completion_tokens_details" not in answer.whole_of(infos)["usage"]
