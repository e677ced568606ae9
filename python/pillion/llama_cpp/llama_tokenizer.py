"""Tokenizers of a `Llama`."""

from __future__ import annotations

import abc
import os
from typing import TYPE_CHECKING, Any

from ..errors import NoSuchName
from ..model import Model
from ..tokenizer import Tokenizer

if TYPE_CHECKING:
    from .llama import Llama


class BaseLlamaTokenizer(abc.ABC):
    """Turns bytes into token ids and back."""

    @abc.abstractmethod
    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]: ...

    @abc.abstractmethod
    def detokenize(
        self, tokens: list[int], prev_tokens: list[int] | None = None, special: bool = False
    ) -> bytes: ...


class LlamaTokenizer(BaseLlamaTokenizer):
    """The tokenizer of a file. llama: a `Llama`, or a `pillion.Tokenizer`."""

    def __init__(self, llama: Llama | Tokenizer) -> None:
        self._tokenizer = llama if isinstance(llama, Tokenizer) else llama._tokenizer

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """Token ids of UTF-8 bytes, or of a text."""
        from ..llm.requests import checked_text

        return self._tokenizer.encode(checked_text("text", text), add_bos, special)

    def detokenize(
        self, tokens: list[int], prev_tokens: list[int] | None = None, special: bool = False
    ) -> bytes:
        """The bytes of token ids. prev_tokens: those before, which here change nothing: a token's
        bytes do not depend on them."""
        return self._tokenizer.decode_bytes(tokens, special)

    def encode(self, text: str, add_bos: bool = True, special: bool = True) -> list[int]:
        """Token ids of a text."""
        return self.tokenize(text.encode("utf-8"), add_bos, special)

    def decode(self, tokens: list[int]) -> str:
        """The text of token ids. Bytes that are not UTF-8 are left out."""
        return self.detokenize(tokens).decode("utf-8", errors="ignore")

    @classmethod
    def from_ggml_file(cls, path: str | os.PathLike[str]) -> LlamaTokenizer:
        """The tokenizer of a file, without its weights."""
        with Model.open(path, metadata_only=True) as model:
            return cls(model.tokenizer)


class LlamaHFTokenizer:
    """Is not here: the file's tokenizer is used."""

    _WHY = (
        "pillion.llama_cpp has no LlamaHFTokenizer: the file's own tokenizer is used, and calls "
        "take token ids of any other"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NoSuchName(self._WHY)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> LlamaHFTokenizer:
        """Raises `NoSuchName`."""
        raise NoSuchName(cls._WHY)
