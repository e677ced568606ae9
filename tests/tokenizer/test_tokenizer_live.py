"""pillion's ids beside those of Hugging Face `tokenizers` and `sentencepiece`, made here and now,
on more texts than the goldens."""

from __future__ import annotations

import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("sentencepiece")

import tokenizer_reference as reference  # noqa: E402
from tokenizer_cases import CASES, SPM  # noqa: E402
from tokenizer_corpus import CORPUS, random_strings  # noqa: E402
from tokenizer_support import (  # noqa: E402
    NORMAL,
    UNUSED,
    find_model,
    gemma4_from_sentencepiece,
    load_gguf_vocab,
    load_json_vocab,
    tokenizer_runner,
)

__all__ = ["tokenizer_runner"]  # a fixture


def compare(runner, vocab, texts, parse_special):
    encode = reference.reference(vocab, parse_special)
    for text in texts:
        assert runner.encode(text, parse_special=parse_special) == encode(text), repr(text)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_random_texts(case, tokenizer_runner):
    vocab = case.load()
    if vocab is None:
        pytest.skip(f"{case.vocab} is not in models-cache/")
    texts = [t for t in random_strings(1000, seed=21) if case.covers(t)]
    compare(tokenizer_runner(vocab), vocab, texts, case.parse_special)


@pytest.mark.parametrize("rule", ["gpt-2", "default", "llama-bpe", "qwen2"])
def test_rules_on_a_real_byte_level_vocabulary(rule, tokenizer_runner):
    path = find_model("SmolLM2*.gguf")
    if path is None:
        pytest.skip("no SmolLM2 in models-cache/")
    vocab = load_gguf_vocab(path)
    vocab.pre = rule
    compare(tokenizer_runner(vocab), vocab, CORPUS + random_strings(1000, seed=22), False)


def test_gemma4_of_real_size(tokenizer_runner):
    path = find_model("gemma-3-270m*.gguf")
    if path is None:
        pytest.skip("no gemma-3-270m in models-cache/")
    vocab = gemma4_from_sentencepiece(load_gguf_vocab(path))
    runner = tokenizer_runner(vocab)
    for parse_special in (False, True):
        compare(runner, vocab, CORPUS + random_strings(1000, seed=23), parse_special)
    bpe = reference.gemma4_bpe(vocab)
    for n in range(1, 100):  # here taking a newline run whole is no exception from BPE
        assert runner.encode("\n" * n) == bpe("\n" * n)


def test_unused_pieces(tokenizer_runner):
    vocab = load_json_vocab(SPM)
    for i, t in enumerate(vocab.types):
        if t == NORMAL and len(vocab.tokens[i].decode()) > 1 and i % 3 == 0:
            vocab.types[i] = UNUSED
    compare(tokenizer_runner(vocab), vocab, CORPUS + random_strings(1000, seed=24), False)


def test_character_classes(tokenizer_runner):
    """Every code point is a letter, a number, punctuation or blank exactly where the reference's
    regular expressions say so."""
    from tokenizers import Regex, pre_tokenizers

    flags = tokenizer_runner(load_json_vocab(SPM)).flags()
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for pattern, bit in ((r"\p{L}", 1), (r"\p{N}", 4), (r"\p{P}", 8), (r"\s", 128)):
        split = pre_tokenizers.Split(Regex(pattern), "removed")
        for i in range(0, len(points), 20000):
            block = points[i : i + 20000]
            left = {
                ord(c)
                for piece, _ in split.pre_tokenize_str("".join(map(chr, block)))
                for c in piece
            }
            differ = [hex(c) for c in block if (c not in left) != bool(flags[c] & bit)]
            assert not differ, (pattern, differ)
