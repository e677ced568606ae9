"""The same vocabularies in Hugging Face `tokenizers` and `sentencepiece`: what pillion's ids are
compared with."""

from __future__ import annotations

import re
from collections.abc import Callable

from tokenizer_support import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, Vocab

# As published in the tokenizer.json files of the models (GPT-2; Llama 3; Qwen 2), and llama.cpp's
# "default" in its four steps.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| "
    r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
DEFAULT = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]

Encode = Callable[[str], list[int]]


def cut_specials(text: str, specials: dict[str, int], encode: Encode) -> list[int]:
    """Leftmost, longest specials; what lies between goes to `encode`."""
    if not specials:
        return encode(text) if text else []
    pattern = (
        "(" + "|".join(re.escape(s) for s in sorted(specials, key=lambda s: -len(s.encode()))) + ")"
    )
    ids: list[int] = []
    for i, part in enumerate(re.split(pattern, text)):
        if part:
            ids += [specials[part]] if i % 2 else encode(part)
    return ids


def specials_of(vocab: Vocab, parse_special: bool) -> dict[str, int]:
    return (
        vocab.specials(USER_DEFINED, CONTROL, UNKNOWN)
        if parse_special
        else vocab.specials(USER_DEFINED)
    )


def _merges(vocab: Vocab) -> list[tuple[str, str]]:
    out = []
    for m in vocab.merges:
        text = m.decode()
        blank = text.index(" ", 1)
        out.append((text[:blank], text[blank + 1 :]))
    return out


def _ids(vocab: Vocab) -> dict[str, int]:
    out: dict[str, int] = {}
    for i, t in enumerate(vocab.tokens):
        out.setdefault(t.decode(), i)
    return out


def gemma4_bpe(vocab: Vocab) -> Encode:
    """Hugging Face BPE with Gemma's normalizer, no specials."""
    from tokenizers import Tokenizer, models, normalizers

    tok = Tokenizer(
        models.BPE(
            _ids(vocab), _merges(vocab), unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    tok.normalizer = normalizers.Replace(" ", "▁")
    return lambda text: tok.encode(text, add_special_tokens=False).ids


def gemma4(vocab: Vocab, parse_special: bool) -> Encode:
    """Section 6 of the specification: specials, newline runs that are tokens, BPE."""
    bpe, ids = gemma4_bpe(vocab), _ids(vocab)

    def runs(text: str) -> list[int]:
        out: list[int] = []
        for run in re.findall(r"\n+|[^\n]+", text):
            out += [ids[run]] if run[0] == "\n" and run in ids else bpe(run)
        return out

    specials = specials_of(vocab, parse_special)
    return lambda text: cut_specials(text, specials, runs)


def pre_tokenizer(rule: str):
    from tokenizers import Regex, pre_tokenizers as pre

    def split(pattern: str):
        return pre.Split(Regex(pattern), "isolated")

    tail = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = pre.ByteLevel(add_prefix_space=False, use_regex=True)
    return {
        "gpt-2": gpt2,
        "smollm": pre.Sequence([pre.Digits(individual_digits=True), gpt2]),
        "llama-bpe": pre.Sequence([split(LLAMA3), tail]),
        "qwen2": pre.Sequence([split(QWEN2), tail]),
        "default": pre.Sequence([*map(split, DEFAULT), tail]),
    }[rule]


def byte_level(vocab: Vocab, rule: str, parse_special: bool) -> Encode:
    from tokenizers import Tokenizer, models

    tok = Tokenizer(models.BPE(_ids(vocab), _merges(vocab), ignore_merges=rule == "llama-bpe"))
    tok.pre_tokenizer = pre_tokenizer(rule)
    specials = specials_of(vocab, parse_special)
    return lambda text: cut_specials(
        text, specials, lambda part: tok.encode(part, add_special_tokens=False).ids
    )


def sentencepiece_model(vocab: Vocab):
    """A SentencePieceProcessor made of the vocabulary. GGUF writes user-defined blanks as blanks;
    there they are ▁."""
    from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2 as pb

    kinds = {NORMAL: 1, UNKNOWN: 2, CONTROL: 3, USER_DEFINED: 4, UNUSED: 5, BYTE: 6}
    proto = pb.ModelProto()
    for i, text in enumerate(vocab.tokens):
        kind = UNKNOWN if i == vocab.settings["unk"] else vocab.types[i]
        piece = text.decode().replace(" ", "▁") if kind == USER_DEFINED else text.decode()
        proto.pieces.add(piece=piece, score=vocab.scores[i], type=kinds[kind])
    spec = proto.trainer_spec
    spec.model_type = pb.TrainerSpec.BPE
    spec.byte_fallback = BYTE in vocab.types
    spec.unk_id, spec.bos_id, spec.eos_id = (vocab.settings[k] for k in ("unk", "bos", "eos"))
    spec.pad_id = vocab.settings.get("pad", -1)
    norm = proto.normalizer_spec
    norm.name = "identity"
    norm.add_dummy_prefix = bool(vocab.settings.get("add_space_prefix", 1))
    norm.remove_extra_whitespaces = bool(vocab.settings.get("remove_extra_whitespaces", 0))
    norm.escape_whitespaces = True
    return SentencePieceProcessor(model_proto=proto.SerializeToString())


def sentencepiece(vocab: Vocab, parse_special: bool) -> Encode:
    """Control tokens are cut out first when they are parsed; user-defined ones are SentencePiece's
    own affair."""
    sp = sentencepiece_model(vocab)
    specials = vocab.specials(CONTROL, UNKNOWN) if parse_special else {}
    return lambda text: cut_specials(text, specials, lambda part: sp.encode(part))


def reference(vocab: Vocab, parse_special: bool) -> Encode:
    if vocab.model == "gemma4":
        return gemma4(vocab, parse_special)
    if vocab.model == "llama":
        return sentencepiece(vocab, parse_special)
    return byte_level(vocab, vocab.pre, parse_special)
