"""What must hold for any text: decoding gives it back, streams equal wholes, cutting special tokens
out loses nothing."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings, strategies as st  # noqa: E402

from tokenizer_cases import BYTE_RULES, BYTES, GEMMA4, SPM  # noqa: E402
from tokenizer_support import load_json_vocab, tokenizer_runner  # noqa: E402

__all__ = ["tokenizer_runner"]  # a fixture

QUICK = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = st.sampled_from(
    [
        "<bos>",
        "<|turn>",
        "<turn|>",
        "</s>",
        "<|im_end|>",
        "[user]",
        "<SP>",
        "  ",
        "\n\n",
        "'s",
        "123",
        "ﬁ",
        "👩‍👩‍👧",
        "▁",
    ]
)
TEXTS = st.lists(st.one_of(st.text(max_size=12), WORDS), max_size=10).map("".join)


@pytest.fixture(scope="module")
def runners(tokenizer_runner):
    files = [(GEMMA4, ""), (SPM, ""), *((BYTES, rule) for rule in BYTE_RULES)]
    return [tokenizer_runner(load_json_vocab(file, pre=pre)) for file, pre in files]


@QUICK
@given(text=TEXTS)
def test_decode_of_encode_is_the_text(runners, text):
    for i, runner in enumerate(runners):
        expected = text.replace("▁", " ") if i < 2 else text
        assert runner.decode(runner.encode(text)).decode() == expected


@QUICK
@given(raw=st.binary(max_size=60))
def test_any_bytes_come_back(runners, raw):
    for runner in runners:
        expected = raw.replace("▁".encode(), b" ") if runner in runners[:2] else raw
        assert runner.decode(runner.encode(raw)) == expected


@QUICK
@given(text=TEXTS, print_special=st.booleans())
def test_a_stream_equals_the_whole(runners, text, print_special):
    for runner in runners:
        ids = runner.encode(text, add_special=True, parse_special=True)
        chunks = runner.stream(ids, print_special)
        for chunk in chunks:
            chunk.decode()
        streamed = b"".join(chunks).decode()
        if runner is runners[1] and streamed.startswith(" "):
            streamed = streamed[1:]
        assert streamed == runner.decode(ids, print_special).decode("utf-8", "replace")


@QUICK
@given(pieces=st.lists(st.binary(max_size=5), max_size=12))
def test_utf8_stream_is_pythons_replace(runners, pieces):
    chunks = runners[0].utf8(pieces)
    assert b"".join(chunks).decode() == b"".join(pieces).decode("utf-8", "replace")
