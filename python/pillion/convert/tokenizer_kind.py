"""The kinds of tokenizer that files describe, by what a file of the kind holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenizerKind:
    """A value of tokenizer.ggml.model, and what comes with it."""

    model: str
    """tokenizer.ggml.model"""
    by_score: bool = False
    """Pieces merge by their scores; the file has no merges."""
    has_scores: bool = True
    has_pre: bool = True
    """The file says how text is cut before merging (tokenizer.ggml.pre)."""
    visible: frozenset[str] = frozenset()
    """Control tokens of the chat form that users want to see printed."""
    known_ends: frozenset[str] = frozenset()
    """Ends of a generation that readers know by their text."""


GEMMA4 = TokenizerKind(
    "gemma4",
    has_pre=False,
    visible=frozenset(
        (
            "<|channel>",
            "<channel|>",
            "<|tool_call>",
            "<tool_call|>",
            "<|tool_response>",
            "<tool_response|>",
            '<|"|>',
        )
    ),
    known_ends=frozenset(("<eos>", "<turn|>", "<|tool_response>")),
)
"""Merges over characters, with ▁ for blanks."""
SENTENCEPIECE = TokenizerKind("llama", by_score=True)
"""Scores in place of merges, with ▁ for blanks."""
BYTE_LEVEL = TokenizerKind("gpt2", has_scores=False)
"""Merges over bytes."""
