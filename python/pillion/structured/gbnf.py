"""Translates GBNF, the grammars of llama.cpp, to Lark, with llguidance's converter."""

from __future__ import annotations

import re

from ..errors import UsageError
from .bridge import llguidance

_RULE = re.compile(r"(?m)^\s*[\w-]+\s*::=")
_QUOTED = re.compile(r'"(?:\\.|[^"\\\n])*"|\[(?:\\.|[^\]\\\n])*\]|#[^\n]*')
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|(.))")
_META = '"\\[]^-/'


def is_gbnf(text: str) -> bool:
    """True for GBNF: it defines rules with "::=", Lark with a colon."""
    return _RULE.search(text) is not None


def lark_source(grammar: str) -> str:
    """Returns the grammar in Lark, translated if it is GBNF. Raises UsageError for a grammar that
    cannot be translated."""
    if not is_gbnf(grammar):
        return grammar
    try:
        return from_gbnf(grammar)
    except UsageError:
        raise
    except RecursionError:
        raise UsageError("the grammar has too many groups inside one another") from None
    except Exception as error:  # the converter raises its own and plain ones
        said = " ".join(str(error).split())
        raise UsageError(f"the grammar is not valid GBNF: {said[:200]}") from None


def from_gbnf(text: str) -> str:
    """The same grammar in Lark."""
    llguidance()
    from llguidance.gbnf_to_lark import gbnf_to_lark

    if not re.search(r"(?m)^\s*root\s*::=", text):
        raise UsageError("the grammar is GBNF without a rule named 'root', where it would begin")
    return str(gbnf_to_lark(_QUOTED.sub(_plain, text)))


def _plain(quoted: re.Match[str]) -> str:
    """A literal or a class with its escaped code points as characters. The converter's form for
    them differs from Lark's."""
    return quoted[0] if quoted[0].startswith("#") else _ESCAPE.sub(_character, quoted[0])


def _character(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2] or escape[3]
    if digits is None:
        return escape[0]
    code = int(digits, 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise UsageError(f"the grammar has the escape {escape[0]}, which is no character")
    if code < 0x20 or code == 0x7F:
        return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code, f"\\x{code:02x}")
    return f"\\{chr(code)}" if chr(code) in '"\\[]' else chr(code)
