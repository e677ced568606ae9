"""`Tokenizer` turns text into token ids and back. `TokenStream` turns token ids into text piece by
piece and never returns half a character."""

from __future__ import annotations

import codecs
from typing import Any

from ._native import (
    Handle,
    Tokens,
    as_bytes,
    as_str,
    check,
    ffi,
    lib,
    read_bytes,
    read_tokens,
    token_array,
)
from .arguments import check_bool, check_int, check_text, wrong
from .calling import checked_class
from .held import Held


@checked_class
class Tokenizer(Handle):
    """The tokenizer of a model file, from `Model.tokenizer`. It is immutable; threads may share
    it."""

    _kind = "tokenizer"
    _made_by = "Model.tokenizer is one"

    def __init__(self, pointer: Any) -> None:
        super().__init__(pointer, lib.pillion_tokenizer_free)
        info = ffi.new("pillion_tokenizer_info*")
        info.struct_size = ffi.sizeof("pillion_tokenizer_info")
        check(lib.pillion_tokenizer_get_info(self._c, info, ffi.sizeof("pillion_tokenizer_info")))
        self._info = info
        self._end = frozenset(info.end[0 : min(info.n_end, 16)])

    # ---- both ways ----

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Returns the token ids of a text.

        add_special: adds BOS (and EOS) if the file says so.
        parse_special: reads control tokens spelled out in the text ("<start_of_turn>") as those
        tokens. Never do this with text from strangers.

        Raises `UsageError` for what is no text.
        """
        raw = as_bytes(check_text("text", text))
        add_special, parse_special = (
            check_bool("add_special", add_special),
            check_bool("parse_special", parse_special),
        )
        return read_tokens(
            lambda out, capacity, needed: lib.pillion_tokenizer_encode(
                self._c, raw, len(raw), add_special, parse_special, out, capacity, needed
            ),
            len(raw) + 2,
        )

    def decode_bytes(self, ids: Tokens, special: bool = False) -> bytes:
        """Returns the bytes of a whole text. ids: its tokens. special: control tokens are spelled
        out; else they are left out.

        Raises `UsageError` for ids outside the vocabulary.
        """
        array, n = token_array(ids)
        special = check_bool("special", special)
        return read_bytes(
            lambda out, capacity, needed: lib.pillion_tokenizer_decode(
                self._c, array, n, special, out, capacity, needed
            ),
            8 * n + 64,
        )

    def decode(self, ids: Tokens, special: bool = False) -> str:
        """Returns the text of token ids. Control tokens are left out unless `special`. Bytes that
        are not UTF-8 become U+FFFD.

        Raises `UsageError` for ids outside the vocabulary.
        """
        return as_str(self.decode_bytes(ids, special))

    def stream(self, special: bool = False) -> TokenStream:
        """Returns a decoder for a text that grows token by token. special: as in `decode`."""
        return TokenStream(self, special)

    # ---- single tokens ----

    def token_bytes(self, token: int, special: bool = False) -> bytes:
        """Returns the bytes that a token adds to a running text; they may be part of a character.
        special: those of a control token are its spelling; else it has none.

        Raises `UsageError` for an id outside the vocabulary.
        """
        token, special = _id(token), check_bool("special", special)
        return read_bytes(
            lambda out, capacity, needed: lib.pillion_tokenizer_token_bytes(
                self._c, token, special, out, capacity, needed
            ),
            128,
        )

    def token_text(self, token: int) -> str:
        """Returns the vocabulary's own spelling of a token ("▁the", "<0x0A>").

        Raises `UsageError` for an id outside the vocabulary.
        """
        token = _id(token)
        return as_str(
            read_bytes(
                lambda out, capacity, needed: lib.pillion_tokenizer_token_text(
                    self._c, token, out, capacity, needed, ffi.NULL
                ),
                128,
            )
        )

    def token_type(self, token: int) -> str:
        """Returns the kind of a token: "normal", "unknown", "control", "user_defined", "unused" or
        "byte".

        Raises `UsageError` for an id outside the vocabulary.
        """
        token, kind = _id(token), ffi.new("int32_t*")
        read_bytes(
            lambda out, capacity, needed: lib.pillion_tokenizer_token_text(
                self._c, token, out, capacity, needed, kind
            ),
            128,
        )
        return _TYPE_NAMES.get(kind[0], "unknown")

    # ---- special tokens; None where the file names none ----

    @property
    def n_tokens(self) -> int:
        """Tokens of the vocabulary."""
        return int(self._info.n_tokens)

    @property
    def model(self) -> str:
        """The kind of tokenizer: "llama", "gemma4", "gpt2"."""
        return as_str(ffi.string(self._info.model))

    @property
    def bos(self) -> int | None:
        """The token that texts begin with; None: the file names none."""
        return _known(self._info.bos)

    @property
    def eos(self) -> int | None:
        """The token that ends a text; None: the file names none."""
        return _known(self._info.eos)

    @property
    def unk(self) -> int | None:
        """The token for unknown text; None: the file names none."""
        return _known(self._info.unk)

    @property
    def pad(self) -> int | None:
        """The token that pads a batch; None: the file names none."""
        return _known(self._info.pad)

    @property
    def adds_bos(self) -> bool:
        """True if `encode` puts BOS first."""
        return bool(self._info.adds_bos)

    @property
    def adds_eos(self) -> bool:
        """True if `encode` puts EOS last."""
        return bool(self._info.adds_eos)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a generation."""
        return self._end

    @property
    def suppressed_tokens(self) -> list[int]:
        """Tokens that, according to the file, must never be generated."""
        return read_tokens(
            lambda out, capacity, needed: lib.pillion_tokenizer_suppressed(
                self._c, out, capacity, needed
            )
        )

    def __len__(self) -> int:
        return self.n_tokens


@checked_class
class TokenStream(Held):
    """Turns tokens into text as they come.

    tokenizer: of the model that wrote them.
    special: control tokens are spelled out; else they are left out.

    Each piece is valid text: the bytes of an unfinished character wait for the next token, bytes
    that cannot become one turn into U+FFFD. All pieces together, with flush(), equal the decoding
    of all bytes at once.
    """

    def __init__(self, tokenizer: Tokenizer, special: bool = False) -> None:
        if not isinstance(tokenizer, Tokenizer):
            wrong("tokenizer", tokenizer, "a Tokenizer")
        self._tokenizer = tokenizer
        self._special = check_bool("special", special)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int, special: bool = False) -> str:
        """Returns the text that this token completes; "" inside a character.

        special: spells a control token out instead of leaving it out.
        """
        return self._decoder.decode(self._tokenizer.token_bytes(token, self._special or special))

    def flush(self) -> str:
        """Ends the text: an unfinished character becomes one U+FFFD."""
        return self._decoder.decode(b"", final=True)


_TYPE_NAMES = {
    lib.PILLION_TOKEN_NORMAL: "normal",
    lib.PILLION_TOKEN_UNKNOWN: "unknown",
    lib.PILLION_TOKEN_CONTROL: "control",
    lib.PILLION_TOKEN_USER_DEFINED: "user_defined",
    lib.PILLION_TOKEN_UNUSED: "unused",
    lib.PILLION_TOKEN_BYTE: "byte",
}


def _id(token: Any) -> int:
    return check_int("token", token, -(2**31), 2**31 - 1, "a token id")


def _known(token: int) -> int | None:
    return int(token) if token >= 0 else None
