#!/usr/bin/env python3
"""Write the tokenizer vocabularies and goldens of this folder.

    python tests/golden/make_tokenizer_golden.py [--tiny TINY_PAIR/target/tokenizer.json]

Needs `tokenizers` and `sentencepiece`, and the GGUF files of models-cache/ (gemma-3-270m,
SmolLM2-135M). The ids come from those two libraries, never from pillion. Without --tiny the
committed vocabularies stay as they are and only the ids are made anew; with it all three are made:
Gemma style from the tiny pair's tokenizer.json, SentencePiece and byte-level trained on the corpus.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

import tokenizer_reference as reference  # noqa: E402
from tokenizer_cases import BYTES, CASES, GEMMA4, GOLDEN_FILE, SPM  # noqa: E402
from tokenizer_corpus import CODE, CORPUS, PROSE, WORLD, random_strings  # noqa: E402
from tokenizer_support import (  # noqa: E402
    BYTE,
    CONTROL,
    NORMAL,
    USER_DEFINED,
    Vocab,
    save_json_vocab,
)

PRINTED = {
    "<|channel>",
    "<channel|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    '<|"|>',
}
CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER = ["[user]", "<SP>"]


def training_text() -> list[str]:
    return [PROSE, CODE, *WORLD] * 3 + random_strings(300, seed=7)


def gemma4_vocab(tokenizer_json: Path) -> Vocab:
    raw = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    ids = raw["model"]["vocab"]
    texts = sorted(ids, key=ids.get)
    special = {t["content"] for t in raw["added_tokens"]}

    def kind(text: str) -> int:
        if text in PRINTED:
            return USER_DEFINED
        if text in special:
            return CONTROL
        return BYTE if len(text) == 6 and text.startswith("<0x") else NORMAL

    return Vocab(
        "gemma4",
        [t.encode() for t in texts],
        types=[kind(t) for t in texts],
        merges=[" ".join(m).encode() for m in raw["model"]["merges"]],
        settings={
            "bos": 2,
            "eos": 1,
            "unk": 3,
            "pad": 0,
            "mask": 4,
            "add_bos": 0,
            "add_space_prefix": 0,
        },
    )


def byte_vocab() -> Vocab:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = reference.pre_tokenizer("llama-bpe")
    tok.train_from_iterator(
        training_text(),
        trainers.BpeTrainer(
            vocab_size=1024,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=CHAT + USER,
            show_progress=False,
        ),
    )
    raw = json.loads(tok.to_str())["model"]
    texts = sorted(raw["vocab"], key=raw["vocab"].get)
    types = [CONTROL if t in CHAT else USER_DEFINED if t in USER else NORMAL for t in texts]
    merges = [m if isinstance(m, str) else " ".join(m) for m in raw["merges"]]
    return Vocab(
        "gpt2",
        [t.encode() for t in texts],
        types=types,
        merges=[m.encode() for m in merges],
        settings={"bos": 1, "eos": 2, "add_bos": 0},
    )


def spm_vocab() -> Vocab:
    import sentencepiece as spm
    from sentencepiece import sentencepiece_model_pb2 as pb

    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([line for t in training_text() for line in t.split("\n") if line]),
        model_writer=out,
        model_type="bpe",
        vocab_size=1200,
        character_coverage=0.99,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        control_symbols=["<|im_start|>", "<|im_end|>"],
        user_defined_symbols=USER,
        hard_vocab_limit=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    proto = pb.ModelProto.FromString(out.getvalue())
    kinds = {1: NORMAL, 2: 2, 3: CONTROL, 4: USER_DEFINED, 5: 5, 6: BYTE}
    return Vocab(
        "llama",
        [p.piece.encode() for p in proto.pieces],
        types=[kinds[p.type] for p in proto.pieces],
        scores=[p.score for p in proto.pieces],
        settings={"bos": 1, "eos": 2, "unk": 0, "add_space_prefix": 1},
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", type=Path)
    tiny = parser.parse_args().tiny
    if tiny:
        save_json_vocab(GEMMA4, gemma4_vocab(tiny))
        save_json_vocab(BYTES, byte_vocab())
        save_json_vocab(SPM, spm_vocab())

    golden: dict[str, object] = {"texts": CORPUS}
    for case in CASES:
        vocab = case.load()
        if vocab is None:
            sys.exit(f"{case.name}: no file {case.vocab} in models-cache/")
        encode = reference.reference(vocab, case.parse_special)
        golden[case.name] = [" ".join(map(str, encode(text))) for text in CORPUS]
        print(case.name, len(vocab.tokens), sum(len(x.split()) for x in golden[case.name]))
    lines = [f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in golden.items()]
    (HERE / GOLDEN_FILE).write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
