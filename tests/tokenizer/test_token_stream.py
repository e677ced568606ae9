"""The tokenizer's Python side: arguments, bytes and characters (field case 41). What tokens a text
has is tested elsewhere."""

import pytest

EMOJI = "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪👍🏽❤️각한국어漢字éñ"


@pytest.fixture
def tokenizer(fake, strings, toy_file):
    with fake.Model.open(toy_file({"tokenizer.ggml.suppress_tokens": "[260]"})) as model:
        yield model.tokenizer


def test_encode_decode(tokenizer):
    assert tokenizer.encode("ab") == [256, 97, 98]
    assert tokenizer.encode("ab", add_special=False) == [97, 98]
    assert tokenizer.encode("<turn>a", parse_special=True) == [256, 258, 97]
    assert tokenizer.encode("<turn>")[1] == ord("<")
    assert tokenizer.decode([256, 97, 98]) == "ab"
    assert tokenizer.decode([256, 97], special=True) == "<bos>a"
    assert tokenizer.decode([]) == "" and tokenizer.encode("") == [256]
    long = EMOJI * 500
    assert tokenizer.decode(tokenizer.encode(long)) == long


def test_text_that_utf8_cannot_hold(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude42")) == "🙂"
    assert tokenizer.decode(tokenizer.encode("a\x00b")) == "a\x00b"


def test_special_tokens(tokenizer):
    assert (tokenizer.bos, tokenizer.eos, tokenizer.unk, tokenizer.pad) == (256, 257, 260, None)
    assert tokenizer.end_tokens == {257, 259}
    assert tokenizer.suppressed_tokens == [260]
    assert tokenizer.adds_bos and not tokenizer.adds_eos
    assert tokenizer.model == "llama" and len(tokenizer) == 261


def test_single_tokens(tokenizer, fake):
    assert tokenizer.token_text(10) == "<0x0A>" and tokenizer.token_type(10) == "byte"
    assert tokenizer.token_text(258) == "<turn>" and tokenizer.token_type(258) == "control"
    assert tokenizer.token_bytes(0xF0) == b"\xf0"
    assert (
        tokenizer.token_bytes(258) == b"" and tokenizer.token_bytes(258, special=True) == b"<turn>"
    )
    with pytest.raises(fake.UsageError):
        tokenizer.token_text(261)
    with pytest.raises(fake.UsageError):
        tokenizer.decode([-1])


def test_a_stream_never_gives_half_a_character(tokenizer):
    stream = tokenizer.stream()
    pieces = [stream.feed(token) for token in EMOJI.encode()]
    assert "\ufffd" not in "".join(pieces)
    for piece in pieces:
        piece.encode("utf-8")
        assert len(piece) <= 1
    assert "".join(pieces) + stream.flush() == EMOJI


@pytest.mark.parametrize(
    "raw",
    [b"\xf0\x9f", b"a\xffb\xc3", b"\xe2\x82", b"\xed\xa0\x80x", b"\x80\x80", b"\xf0\x9f\x99a"],
)
def test_bytes_that_are_no_characters(tokenizer, raw):
    stream = tokenizer.stream()
    text = "".join(stream.feed(byte) for byte in raw) + stream.flush()
    assert text == raw.decode("utf-8", "replace") == tokenizer.decode(list(raw))


def test_an_unfinished_tail_is_one_sign(tokenizer):
    stream = tokenizer.stream()
    assert [stream.feed(byte) for byte in "🙂".encode()[:3]] == ["", "", ""]
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""
