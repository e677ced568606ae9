"""The cases of the tokenizer goldens: which vocabulary, which rule, specials parsed or not."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizer_support import Vocab, find_model, load_gguf_vocab, load_json_vocab

GOLDEN_FILE = "tokenizer_golden.json"


@dataclass(frozen=True)
class Case:
    name: str
    vocab: str  # a file of tests/golden, or a pattern of models-cache/
    parse_special: bool
    pre: str = ""
    setting: tuple[str, int] | None = None

    def covers(self, text: str) -> bool:
        """Not covered: a literal ▁ where blanks are to be collapsed; there SentencePiece treats it
        neither as a blank nor as text."""
        return "▁" not in text or self.setting != ("remove_extra_whitespaces", 1)

    def load(self) -> Vocab | None:
        """None: the model file isn't here."""
        if self.vocab.endswith(".json"):
            vocab = load_json_vocab(self.vocab)
        else:
            path = find_model(self.vocab)
            if path is None:
                return None
            vocab = load_gguf_vocab(path)
        if self.pre:
            vocab.pre = self.pre
        if self.setting:
            vocab.settings[self.setting[0]] = self.setting[1]
        return vocab


GEMMA4, SPM, BYTES = (
    "tokenizer_gemma4_vocab.json",
    "tokenizer_spm_vocab.json",
    "tokenizer_bytes_vocab.json",
)
GEMMA3_GGUF, SMOLLM_GGUF = "gemma-3-270m*.gguf", "SmolLM2*.gguf"
BYTE_RULES = ("gpt-2", "default", "smollm", "llama-bpe", "qwen2")

CASES = [
    Case("gemma4", GEMMA4, False),
    Case("gemma4-parse", GEMMA4, True),
    Case("spm", SPM, False),
    Case("spm-parse", SPM, True),
    Case("spm-no-prefix", SPM, False, setting=("add_space_prefix", 0)),
    Case("spm-remove-extra", SPM, False, setting=("remove_extra_whitespaces", 1)),
    *(Case(f"bytes-{rule}", BYTES, False, pre=rule) for rule in BYTE_RULES),
    Case("bytes-llama-bpe-parse", BYTES, True, pre="llama-bpe"),
    Case("gemma3-gguf", GEMMA3_GGUF, False),
    Case("gemma3-gguf-parse", GEMMA3_GGUF, True),
    Case("smollm-gguf", SMOLLM_GGUF, False),
    Case("smollm-gguf-parse", SMOLLM_GGUF, True),
]
