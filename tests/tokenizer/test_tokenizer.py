"""The tokenizers against goldens of Hugging Face `tokenizers` and `sentencepiece`, and their
behaviour on bad files and bad text.

Live comparisons and property tests are in files of their own here. The code under test is
csrc/tokenizer, through the runner."""

from __future__ import annotations

import json
import random
import unicodedata
from dataclasses import replace

import pytest

from tokenizer_cases import BYTE_RULES, BYTES, CASES, GEMMA4, GOLDEN_FILE, SPM
from tokenizer_corpus import CORPUS, random_strings
from tokenizer_support import (
    BYTE,
    CONTROL,
    GOLDEN,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    RunnerError,
    Vocab,
    load_json_vocab,
    tokenizer_runner,
)

__all__ = ["tokenizer_runner"]  # a fixture

INVALID_ARGUMENT, FILE_CORRUPT, UNSUPPORTED_MODEL = 1, 11, 12
BYTE_TOKENS = [f"<0x{b:02X}>".encode() for b in range(256)]
BYTES_AT = 20  # in small()
SMALL = BYTES_AT + 256

BAD_TEXTS = [
    b"\xff",
    b"\x80",
    b"a\xc3",
    b"\xc3(",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98",
    b"\xf0\x9f\x98\x80\x80",
    b"\xe2\x96",
    b"\xe2\x96 \x81",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b" \xff a\xfe ",
    b"\x00\xff\x00",
    b"ab\xe2\x82cd",
    bytes(range(256)),
]


@pytest.fixture(scope="module")
def goldens() -> dict:
    return json.loads((GOLDEN / GOLDEN_FILE).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def gemma4(tokenizer_runner):
    return tokenizer_runner(load_json_vocab(GEMMA4))


@pytest.fixture(scope="module")
def spm(tokenizer_runner):
    return tokenizer_runner(load_json_vocab(SPM))


@pytest.fixture(scope="module")
def byte_level(tokenizer_runner):
    return tokenizer_runner(load_json_vocab(BYTES, pre="llama-bpe"))


def small(**changes) -> Vocab:
    """A gemma4 vocabulary of a few pieces, then the byte tokens."""
    control, piece = (
        [b"<pad>", b"<eos>", b"<bos>", b"<unk>"],
        ["▁".encode(), b"a", b"b", b"ab", b"</s>"],
    )
    turns, more = (
        [b"<turn|>", b"<|tool_response>", b"<|turn>"],
        [b"<", b"/", b"s", b">", b"</", b"s>", b"\n", b"\n\n"],
    )
    vocab = Vocab(
        "gemma4",
        [*control, *piece, *turns, *more, *BYTE_TOKENS],
        merges=[b"a b", b"< /", b"s >", b"</ s>"],
        types=[CONTROL] * 4 + [NORMAL] * 5 + [CONTROL] * 3 + [NORMAL] * 8 + [BYTE] * 256,
        settings={"bos": 2, "eos": 1},
    )
    assert len(vocab.tokens) == len(vocab.types) == SMALL
    return replace(vocab, **changes)


def fails(tokenizer_runner, vocab: Vocab, code: int, *words: str) -> None:
    with pytest.raises(RunnerError) as caught:
        tokenizer_runner(vocab).ask("info")
    assert caught.value.code == code, caught.value
    for word in words:
        assert word in caught.value.sentence


# ---- goldens


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_ids_equal_the_golden(case, goldens, tokenizer_runner):
    vocab = case.load()
    if vocab is None:
        pytest.skip(f"{case.vocab} is not in models-cache/")
    runner = tokenizer_runner(vocab)
    assert len(goldens["texts"]) == len(CORPUS) == len(goldens[case.name])
    for text, ids in zip(goldens["texts"], goldens[case.name]):
        if not case.covers(text):
            continue
        assert runner.encode(text, parse_special=case.parse_special) == [
            int(i) for i in ids.split()
        ], repr(text)


def test_every_byte_rule_has_a_golden():
    assert {f"bytes-{r}" for r in BYTE_RULES} <= {c.name for c in CASES}


@pytest.mark.parametrize(
    "vocab_file, pre", [(GEMMA4, ""), (SPM, ""), *((BYTES, rule) for rule in BYTE_RULES)]
)
def test_decode_gives_the_text_back(tokenizer_runner, vocab_file, pre):
    runner = tokenizer_runner(load_json_vocab(vocab_file, pre=pre))
    for text in CORPUS + random_strings(200, seed=11):
        if vocab_file != BYTES and "▁" in text:
            continue  # there a ▁ of the text is a blank
        assert runner.decode(runner.encode(text)) == text.encode(), repr(text)


# ---- gemma4


def test_gemma4_always_adds_bos(tokenizer_runner):
    runner = tokenizer_runner(
        small(settings={"bos": 2, "eos": 1, "add_bos": 0, "add_space_prefix": 1})
    )
    assert runner.encode("a", add_special=True) == [2, 5]
    assert runner.encode("a") == [5]  # and no blank in front
    assert runner.info()["adds_bos"] == "1" and runner.info()["strips"] == "0"


def test_gemma4_takes_a_newline_run_that_is_a_token_whole(gemma4):
    vocab = load_json_vocab(GEMMA4)
    for n in range(1, 9):
        assert gemma4.encode("\n" * n) == [vocab.id_of("\n" * n)]
        assert gemma4.encode("x" + "\n" * n + "y")[1] == vocab.id_of("\n" * n)
    assert b"\n" * 9 not in vocab.tokens and len(gemma4.encode("\n" * 9)) > 1


@pytest.mark.parametrize("strike_type", [NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED])
def test_gemma4_strike_end_is_an_ordinary_token(tokenizer_runner, strike_type):
    vocab = small(lists=[("eos_id", 8), ("eos_id", 9)])
    vocab.types[8] = strike_type
    runner = tokenizer_runner(vocab)
    assert runner.ends() == [1, 9, 10]
    assert runner.type_of(8)[1:] == (False, False)
    for parse in (False, True):
        assert runner.decode(runner.encode("a</s>b", parse_special=parse)) == b"a</s>b"
    assert runner.encode("</s>") == [8]
    assert runner.pieces([8]) == [b"</s>"]


def test_gemma4_types_go_by_text(tokenizer_runner):
    vocab = small()
    vocab.types = [NORMAL] * BYTES_AT + [BYTE] * 256
    runner = tokenizer_runner(vocab)
    assert [runner.type_of(i)[1] for i in (0, 1, 2, 9, 10, 11)] == [
        True,
        True,
        True,
        True,
        False,
        True,
    ]
    assert runner.ends() == [1, 9, 10]
    # printed ones are always cut out
    assert runner.encode("<eos><|tool_response>", parse_special=False)[-1] == 10
    assert 1 not in runner.encode("<eos>", parse_special=False)
    assert runner.encode("<eos>", parse_special=True) == [1]
    no_types = tokenizer_runner(small(types=None))
    assert no_types.ends() == [1, 9, 10] and no_types.encode("é") == [
        BYTES_AT + 0xC3,
        BYTES_AT + 0xA9,
    ]


def test_gemma4_end_of_generation_takes_the_file_too(tokenizer_runner):
    runner = tokenizer_runner(
        small(
            settings={"bos": 2, "eos": 1, "eot": 11},
            lists=[("eos_id", 7), ("suppress", 5), ("suppress", 6)],
        )
    )
    assert runner.ends() == [1, 7, 9, 10, 11]
    assert runner.info()["suppress"] == "5,6"
    real = tokenizer_runner(load_json_vocab(GEMMA4))
    vocab = load_json_vocab(GEMMA4)
    assert real.ends() == sorted(vocab.id_of(t) for t in ("<eos>", "<turn|>", "<|tool_response>"))


# Of other chat formats than the vocabulary's first.
KNOWN_ENDS = [
    b"<|im_end|>",
    b"<end_of_turn>",
    b"<|eot_id|>",
    b"<|eom_id|>",
    b"<|endoftext|>",
    b"<|end|>",
    b"<|end_of_text|>",
]


@pytest.mark.parametrize("family", ["gemma4", "llama", "gpt2"])
@pytest.mark.parametrize("kind", [NORMAL, CONTROL, USER_DEFINED, UNUSED])
def test_known_end_texts_count_for_every_tokenizer(tokenizer_runner, family, kind):
    """As special tokens; as ordinary text they end nothing."""
    tokens = [*small().tokens, *KNOWN_ENDS]
    scores = [0.0] * len(tokens) if family == "llama" else None
    vocab = small(
        model=family,
        tokens=tokens,
        types=[*small().types, *[kind] * len(KNOWN_ENDS)],
        scores=scores,
    )
    if family == "gpt2":
        vocab = replace(vocab, pre="gpt-2")
    known = list(range(SMALL, len(tokens)))
    assert tokenizer_runner(vocab).ends() == [1, 9, 10] + ([] if kind == NORMAL else known)


def test_an_end_of_a_part_is_none_of_the_answer(tokenizer_runner):
    """<|end|> ends an answer, but where a vocabulary has the pair that ends answers and calls, only
    one of their parts."""
    tokens = [*small().tokens, b"<|end|>", b"<|return|>", b"<|call|>"]
    vocab = small(tokens=tokens, types=[*small().types, CONTROL, CONTROL, CONTROL])
    assert tokenizer_runner(vocab).ends() == [1, 9, 10, SMALL + 1, SMALL + 2]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", [NORMAL, CONTROL, USER_DEFINED])
def test_strike_end_is_an_end_as_a_control_token_only(tokenizer_runner, family, kind):
    """Gemma's vocabularies have it as a tag of HTML."""
    types = list(small().types)
    types[8] = kind
    scores = [0.0] * SMALL if family == "llama" else None
    vocab = small(model=family, types=types, scores=scores)
    if family == "gpt2":
        vocab = replace(vocab, pre="gpt-2")
    assert tokenizer_runner(vocab).ends() == ([1, 8, 9, 10] if kind == CONTROL else [1, 9, 10])


@pytest.mark.parametrize("family", ["gemma4", "llama", "gpt2"])
def test_end_of_message_is_an_end(tokenizer_runner, family):
    vocab = small(
        model=family, settings={"bos": 2, "eos": 1, "eot": 11, "eom": 7}, scores=[0.0] * SMALL
    )
    if family == "gpt2":
        vocab = replace(vocab, pre="gpt-2", scores=None)
    assert tokenizer_runner(vocab).ends() == [1, 7, 9, 10, 11]


@pytest.mark.parametrize(
    "pre, good", [("", True), ("gemma4", True), ("default", True), ("qwen2", False)]
)
def test_gemma4_pre(tokenizer_runner, pre, good):
    if good:
        assert tokenizer_runner(small(pre=pre)).info()["pre"] == "gemma4"
    else:
        fails(tokenizer_runner, small(pre=pre), UNSUPPORTED_MODEL, pre, "gemma4")


# ---- the other families


def test_end_of_generation_of_other_families(tokenizer_runner):
    ends = [
        b"<|im_end|>",
        b"<|endoftext|>",
        b"<|eot_id|>",
        b"<|eom_id|>",
        b"<|end_of_text|>",
        b"<end_of_turn>",
        b"<eos>",
    ]
    letters = [b"a", b"b"]
    vocab = Vocab(
        "gpt2",
        letters + ends,
        types=[NORMAL] * 2 + [CONTROL, UNUSED, CONTROL, USER_DEFINED, CONTROL, CONTROL, NORMAL],
        settings={"eos": 1},
        pre="qwen2",
        merges=[b"a zz"],
    )
    assert tokenizer_runner(vocab).ends() == [1, 2, 3, 4, 5, 6, 7]  # <eos> is plain text here


def test_space_prefix(tokenizer_runner):
    vocab = load_json_vocab(SPM)
    assert tokenizer_runner(vocab).info()["strips"] == "1"
    vocab.settings.pop("add_space_prefix")
    runner = tokenizer_runner(vocab)
    assert runner.info()["strips"] == "1"  # what SentencePiece does where nothing is said
    assert (
        runner.pieces(runner.encode("a"))[0] == b" a" and runner.decode(runner.encode("a")) == b"a"
    )
    assert runner.encode("") == []
    vocab.settings["add_space_prefix"] = 0
    runner = tokenizer_runner(vocab)
    assert runner.info()["strips"] == "0" and runner.decode(runner.encode(" a")) == b" a"


def test_bos_and_eos(tokenizer_runner):
    vocab = load_json_vocab(SPM)
    ids = tokenizer_runner(vocab).encode("a", add_special=True)
    assert ids[0] == 1 and ids[-1] != 2
    vocab.settings |= {"add_bos": 0, "add_eos": 1}
    ids = tokenizer_runner(vocab).encode("a", add_special=True)
    assert ids[0] != 1 and ids[-1] == 2
    rules = {
        rule: tokenizer_runner(load_json_vocab(BYTES, pre=rule, settings={"bos": 1})).info()
        for rule in BYTE_RULES
    }
    assert {rule for rule, info in rules.items() if info["adds_bos"] == "1"} == {"llama-bpe"}


@pytest.mark.parametrize(
    "name, same_as",
    [
        ("llama3", "llama-bpe"),
        ("llama-v3", "llama-bpe"),
        ("deepseek-r1-qwen", "qwen2"),
        ("starcoder", "smollm"),
        ("refact", "smollm"),
        ("phi-2", "gpt-2"),
        ("", "default"),
    ],
)
def test_names_of_one_rule(tokenizer_runner, name, same_as):
    a, b = (tokenizer_runner(load_json_vocab(BYTES, pre=pre)) for pre in (name, same_as))
    for text in CORPUS[:150]:
        assert a.encode(text) == b.encode(text)


def test_a_byte_level_file_without_a_byte_drops_it(tokenizer_runner):
    runner = tokenizer_runner(
        Vocab("gpt2", [b"a", b"b", b"ab"], types=[NORMAL] * 3, merges=[b"a b"], pre="gpt-2")
    )
    # as Hugging Face: the neighbours meet
    assert runner.encode("abcab") == [2, 2] and runner.encode("acb") == [2]


def test_unknown_characters_become_one_unknown_token(tokenizer_runner):
    vocab = Vocab(
        "llama",
        ["<unk>".encode(), "▁".encode(), b"a"],
        types=[UNKNOWN, NORMAL, NORMAL],
        scores=[0.0, -1.0, -2.0],
        settings={"add_space_prefix": 0},
    )
    runner = tokenizer_runner(vocab)
    assert runner.encode("aéüa z") == [2, 0, 2, 1, 0]
    assert runner.pieces([0]) == [b""] and runner.pieces([0], print_special=True) == [b"<unk>"]


def test_unused_pieces_are_split_again(tokenizer_runner):
    tokens = [b"<unk>", b"a", b"b", b"ab", b"abab", b"c", b"abc"]
    vocab = Vocab(
        "llama",
        tokens,
        types=[UNKNOWN, NORMAL, NORMAL, UNUSED, UNUSED, NORMAL, UNUSED],
        scores=[0.0, -3.0, -3.0, -1.0, -2.0, -3.0, -2.5],
        settings={"add_space_prefix": 0},
    )
    assert tokenizer_runner(vocab).encode("ababc") == [1, 2, 1, 2, 5]


# ---- special tokens


@pytest.mark.parametrize("vocab_file, pre", [(GEMMA4, ""), (SPM, ""), (BYTES, "llama-bpe")])
def test_plain_text_forges_no_control_token(tokenizer_runner, vocab_file, pre):
    vocab = load_json_vocab(vocab_file, pre=pre)
    runner = tokenizer_runner(vocab)
    controls = vocab.specials(CONTROL, UNKNOWN)
    assert controls
    for text, token in controls.items():
        assert not set(runner.encode(f"x{text}y", parse_special=False)) & set(controls.values())
        assert runner.decode(runner.encode(f"x{text}y")) == f"x{text}y".encode()
        ids = runner.encode(f"x{text}y", parse_special=True)
        assert token in ids and runner.decode(ids, print_special=False).replace(b" ", b"") == b"xy"
        assert runner.decode(ids, print_special=True).replace(b" ", b"") == f"x{text}y".encode()


def test_a_control_token_is_not_the_end_of_a_merge(tokenizer_runner):
    vocab = small(merges=[b"a b"])
    vocab.types[7] = CONTROL  # "ab"
    assert tokenizer_runner(vocab).encode("ab") == [5, 6]


def test_the_longest_special_wins(tokenizer_runner):
    vocab = small()
    vocab.tokens += [b"[x", b"[x]", b"[x]]", b"x]]y"]
    vocab.types += [USER_DEFINED] * 4
    n = len(vocab.tokens)
    runner = tokenizer_runner(vocab)
    assert runner.encode("a[x]]ya[x]a[x") == [5, n - 2, *runner.encode("ya"), n - 3, 5, n - 4]


# ---- bad files


def test_unknown_model_and_rule_are_named(tokenizer_runner):
    for model in ("t5", "bert", "", "rwkv"):
        fails(
            tokenizer_runner,
            small(model=model),
            UNSUPPORTED_MODEL,
            f'"{model}"',
            "gemma4, llama, gpt2",
        )
    fails(
        tokenizer_runner,
        load_json_vocab(BYTES, pre="superbpe"),
        UNSUPPORTED_MODEL,
        "superbpe",
        "llama-bpe",
        "qwen2",
    )


def test_counts_must_agree(tokenizer_runner):
    short = small()
    short.types = short.types[:100]
    fails(tokenizer_runner, short, FILE_CORRUPT, "token_type", "100", str(SMALL))
    fails(tokenizer_runner, small(scores=[0.0] * 5), FILE_CORRUPT, "scores", "5", str(SMALL))
    fails(tokenizer_runner, small(scores=[0.0] * 500), FILE_CORRUPT, "scores", "500")
    spm = load_json_vocab(SPM)
    fails(tokenizer_runner, replace(spm, scores=None), FILE_CORRUPT, "scores", "0")
    fails(
        tokenizer_runner,
        replace(spm, scores=[*spm.scores[:-1], float("nan")]),
        FILE_CORRUPT,
        "scores",
        "not a number",
    )
    fails(tokenizer_runner, small(tokens=[], types=None), FILE_CORRUPT, "tokens")


@pytest.mark.parametrize(
    "key, name",
    [
        ("bos", "bos_token_id"),
        ("eos", "eos_token_id"),
        ("eot", "eot_token_id"),
        ("eom", "eom_token_id"),
        ("unk", "unknown_token_id"),
        ("pad", "padding_token_id"),
        ("mask", "mask_token_id"),
    ],
)
def test_ids_must_be_inside(tokenizer_runner, key, name):
    for bad in (SMALL, 2**31 - 1, -2, -(2**31)):
        fails(
            tokenizer_runner,
            small(settings={"bos": 2, key: bad}),
            FILE_CORRUPT,
            name,
            str(bad),
            str(SMALL),
        )
    fails(
        tokenizer_runner,
        small(lists=[("eos_id", SMALL)]),
        FILE_CORRUPT,
        "eos_token_ids",
        str(SMALL),
    )
    fails(tokenizer_runner, small(lists=[("suppress", -7)]), FILE_CORRUPT, "suppress_tokens", "-7")


def test_a_bos_that_must_be_added_must_exist(tokenizer_runner):
    nameless = small(settings={})
    nameless.tokens[2] = b"<none>"
    fails(tokenizer_runner, nameless, FILE_CORRUPT, "BOS")
    fails(
        tokenizer_runner,
        load_json_vocab(BYTES, pre="gpt-2", settings={"add_bos": 1}),
        FILE_CORRUPT,
        "BOS",
    )
    fails(
        tokenizer_runner,
        load_json_vocab(BYTES, pre="gpt-2", settings={"add_eos": 1}),
        FILE_CORRUPT,
        "EOS",
    )


def test_missing_merges(tokenizer_runner):
    fails(tokenizer_runner, small(merges=[]), FILE_CORRUPT, "merges", "ab")
    single = Vocab("gpt2", [b"a", b"b"], types=[NORMAL] * 2, pre="gpt-2")
    assert tokenizer_runner(single).encode("ab") == [0, 1]


def test_bytes_or_unknown_are_needed(tokenizer_runner):
    vocab = Vocab(
        "llama", [b"a", *BYTE_TOKENS[:-1]], types=[NORMAL] + [BYTE] * 255, scores=[0.0] * 256
    )
    fails(tokenizer_runner, vocab, FILE_CORRUPT, "<0xFF>")


@pytest.mark.parametrize(
    "text",
    [b"<0x-1>", b"<0xZZ>", b"<0x1FF>", b"<0x>", b"<0x0", b"", b"<0x1 >", b"\xff\xfe", b"0x41"],
)
def test_a_malformed_byte_token_is_an_ordinary_one(tokenizer_runner, text):
    vocab = small()
    vocab.tokens.append(text)
    vocab.types.append(BYTE)
    runner = tokenizer_runner(vocab)
    assert runner.type_of(SMALL)[0] == NORMAL and runner.pieces([SMALL]) == [text]
    assert runner.encode("aé") == [5, BYTES_AT + 0xC3, BYTES_AT + 0xA9]


def test_strange_tokens(tokenizer_runner):
    vocab = small()
    vocab.tokens += [b"", b"", b"a", b"x" * 2**20, b"y" * 2**20, b"a\x00b", b"<bos>", b"\xe2\x96"]
    vocab.types += [NORMAL, CONTROL, NORMAL, NORMAL, USER_DEFINED, USER_DEFINED, 0, 99]
    runner = tokenizer_runner(vocab)
    assert (
        runner.find("a") == 5
        and runner.find("<bos>") == 2
        and runner.find("") == -1
        and runner.find("nothing") == -1
    )
    assert runner.find(b"x" * 2**20) == SMALL + 3 and runner.pieces([SMALL + 3]) == [b"x" * 2**20]
    assert runner.encode("a\x00b") == [SMALL + 5]
    assert runner.encode("y" * 2**20)[0] != SMALL + 4  # too long to be looked for
    assert runner.type_of(SMALL + 6)[0] == runner.type_of(SMALL + 7)[0] == NORMAL


def test_bad_merges_are_left_out(tokenizer_runner):
    merges = [
        b"",
        b" ",
        b"a",
        b" a",
        b"a ",
        b"a zz",
        b"zz b",
        b"b a",
        b"a  b",
        b"\xff \xfe",
        b"a b",
        b"a b",
        b"x" * 2**20 + b" a",
    ]
    assert tokenizer_runner(small(merges=merges)).encode("abba") == [7, 6, 5]


def test_ids_to_decode_must_be_inside(gemma4):
    for bad in (-1, 2048, 2**31 - 1):
        with pytest.raises(RunnerError) as caught:
            gemma4.decode([5, bad])
        assert caught.value.code == INVALID_ARGUMENT and str(bad) in caught.value.sentence
    assert gemma4.decode([]) == b""


# ---- bad text


@pytest.mark.parametrize("name", ["gemma4", "spm", "byte_level"])
def test_invalid_utf8_goes_through(name, request):
    runner = request.getfixturevalue(name)
    rng = random.Random(3)
    texts = BAD_TEXTS + [
        bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40))) for _ in range(300)
    ]
    for text in texts:
        for parse in (False, True):
            assert (
                runner.decode(runner.encode(text, parse_special=parse), print_special=True) == text
            ), text


@pytest.mark.parametrize("name", ["gemma4", "spm", "byte_level"])
@pytest.mark.parametrize("unit", ["a", " ", "\n", "é", "9", "'", "<", "ab "])
def test_long_runs_are_not_quadratic(name, unit, request):
    n, seconds = request.getfixturevalue(name).repeat(unit, 1_000_000)
    assert n > 0 and seconds < 20  # about a second; quadratic would be hours


# ---- streaming and Unicode


@pytest.mark.parametrize("name", ["gemma4", "spm", "byte_level"])
def test_streamed_pieces_are_whole_characters(name, request):
    runner = request.getfixturevalue(name)
    rng = random.Random(5)
    text = "".join(
        rng.choice("🙂👍🏽❤👩🇩🧿") + chr(rng.randrange(0xAC00, 0xD7A4)) for _ in range(200)
    )
    ids = runner.encode(text)
    chunks = runner.stream(ids)
    assert any(c == b"" for c in chunks)  # characters do come in pieces
    for chunk in chunks:
        chunk.decode()
    whole = b"".join(chunks).decode()
    assert (whole[1:] if runner.info()["strips"] == "1" else whole) == text
    cut = runner.stream(ids[:-1])
    assert cut[-1].decode() == "\N{REPLACEMENT CHARACTER}"


def test_utf8_stream_is_pythons_replace(gemma4):
    rng = random.Random(9)
    likely = [
        0x41,
        0x80,
        0x8F,
        0x90,
        0x9F,
        0xA0,
        0xBF,
        0xC0,
        0xC2,
        0xDF,
        0xE0,
        0xE1,
        0xED,
        0xEF,
        0xF0,
        0xF1,
        0xF4,
        0xF5,
        0xFF,
    ]
    for _ in range(4000):
        raw = bytes(rng.choice(likely) for _ in range(rng.randrange(1, 10)))
        cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(3))
        pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)])]
        chunks = gemma4.utf8(pieces)
        assert b"".join(chunks).decode() == raw.decode("utf-8", "replace"), raw
        for chunk in chunks:
            chunk.decode()


def test_unicode_flags(gemma4):
    flags = gemma4.flags()
    assert len(flags) == 0x110000
    classes = {"L": 1, "M": 2, "N": 4, "P": 8, "S": 16, "Z": 32, "C": 64}
    newer = unicodedata.unidata_version >= "16"
    wrong = []
    for code_point, found in enumerate(flags):
        category = unicodedata.category(chr(code_point))
        if category == "Cn":
            continue  # this Python may not know it yet
        expected = (
            classes[category[0]]
            | (256 if category in ("Lu", "Lt") else 0)
            | (512 if category == "Ll" else 0)
        )
        if found & ~128 != expected and not (newer and found & 64):
            wrong.append(hex(code_point))
    # General categories of existing characters change now and then; between Unicode 14 and 16 in a
    # handful.
    assert len(wrong) < 20, wrong
    white = {c for c, f in enumerate(flags) if f & 128}
    assert white == {
        *range(9, 14),
        32,
        0x85,
        0xA0,
        0x1680,
        *range(0x2000, 0x200B),
        0x2028,
        0x2029,
        0x202F,
        0x205F,
        0x3000,
    }
