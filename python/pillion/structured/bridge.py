"""A model's vocabulary for llguidance: the bytes of each token, and which tokens are not text.

Building it takes about ten microseconds (2 s for 262,144 tokens) and 400 bytes per token. It is
done once per model, at the first grammar.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .._locks import ForkLock
from ..errors import PillionError, UsageError
from ..tokenizer import Tokenizer
from .ending import inside

_SPECIAL = b"\xff"  # llguidance's mark of a token that no text spells
_KNOWN, _SHORT = 4_096, 256  # forced texts whose tokens are kept, and their characters
_NO_TEXT = ("control", "unknown", "unused")


def llguidance() -> Any:
    """The library. It is imported when the first grammar needs it."""
    try:
        import llguidance as found
    except ImportError as error:
        raise UsageError(
            "response_format, regex, grammar, choice and strict tools need llguidance: "
            f"pip install 'pillion[structured]' ({error})"
        ) from None
    return found


def is_installed() -> bool:
    """True if llguidance is installed."""
    try:
        llguidance()
    except UsageError:
        return False
    return True


class Vocabulary:
    """The tokens of one model, for all its grammars.

    n_vocab: logits of the model, which may be more than the tokenizer has tokens. markers: tokens
    that structure a reply (chat/format.py): never text, whatever their type.
    """

    def __init__(self, tokenizer: Tokenizer, n_vocab: int, markers: Collection[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.n_vocab = n_vocab
        self.n_words = (n_vocab + 31) // 32
        """32-bit words of a mask."""
        self.end_tokens = frozenset(one for one in tokenizer.end_tokens if 0 <= one < n_vocab)
        self._markers = frozenset(markers)
        self._gate = ForkLock()
        self._built: Any = None
        self._special: frozenset[int] | None = None

    def llg(self) -> Any:
        """The LLTokenizer. The first call builds it, others wait for that."""
        if self._built is None:
            with self._gate.here():
                if self._built is None:
                    with inside():
                        self._built = self._build()
        return self._built

    def _build(self) -> Any:
        library = llguidance()
        if not self.end_tokens:
            raise UsageError("the model has no token that ends a text, so a grammar has no end")
        end = min(self.end_tokens)
        spelled = _Spelled(self.tokenizer, end, self.spellings(), self.special())
        wrapped = library.TokenizerWrapper(spelled)
        built = library.LLTokenizer(wrapped, eos_token=sorted(self.end_tokens))
        spelled.tokens = wrapped.tokens = []  # it has them now, and keeps the wrapper
        return built

    def spellings(self) -> list[bytes]:
        """Bytes of each token. Special tokens begin with a byte that no text has. Tokens that must
        never be written have no bytes."""
        tokenizer = self.tokenizer
        never = set(tokenizer.suppressed_tokens) - self.end_tokens
        special = self.special()
        found = []
        for token in range(min(len(tokenizer), self.n_vocab)):
            if token in special:
                found.append(_SPECIAL + _name(tokenizer, token))
            else:
                found.append(b"" if token in never else tokenizer.token_bytes(token))
        return found + [b""] * (self.n_vocab - len(found))

    def special(self) -> frozenset[int]:
        """Tokens that are not text."""
        if self._special is None:
            self._special = self._found_special()
        return self._special

    def _found_special(self) -> frozenset[int]:
        kind = self.tokenizer.token_type
        n_tokens = min(len(self.tokenizer), self.n_vocab)
        typed = {token for token in range(n_tokens) if kind(token) in _NO_TEXT}
        return frozenset(typed | self._markers | self.end_tokens)


def _name(tokenizer: Tokenizer, token: int) -> bytes:
    return tokenizer.token_bytes(token, special=True) or f"<[{token}]>".encode()


class _Spelled:
    """What llguidance's TokenizerWrapper asks for. The LLTokenizer keeps it alive where Python sees
    no cycle, so it knows the tokenizer only."""

    def __init__(
        self, tokenizer: Tokenizer, end: int, tokens: list[bytes], special: frozenset[int]
    ) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = end
        self.bos_token_id = tokenizer.bos
        self.tokens = tokens
        self._special = special
        self._known: dict[Any, list[int]] = {}
        self._bytes = {one[0]: token for token, one in enumerate(tokens) if len(one) == 1}
        self.special_token_ids: list[int] = []  # they have their mark already

    def __call__(self, text: Any) -> list[int]:
        """Tokens of a text that continues another one. They must spell exactly this text. An
        exception here would be a panic in Rust."""
        found = self._known.get(text)
        if found is None:
            found = self._spelled_by(text)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            if len(text) <= _SHORT:
                self._known[text] = found
        return found

    def _spelled_by(self, text: Any) -> list[int]:
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
        try:
            found = self._encode(raw.decode("utf-8", "replace"))
            # A text may spell a marker, and some of those are tokens wherever they are spelled.
            spelled = b"".join(map(self._tokenizer.token_bytes, found))
            if spelled == raw and not self._special.intersection(found):
                return found
        except PillionError:
            pass
        return [self._bytes[byte] for byte in raw if byte in self._bytes]

    def _encode(self, text: str) -> list[int]:
        """Some vocabularies put a space before a text that begins."""
        line = self._tokenizer.encode("\n", add_special=False)
        found = self._tokenizer.encode("\n" + text, add_special=False)
        if found[: len(line)] == line:
            return found[len(line) :]
        return self._tokenizer.encode(text, add_special=False)
