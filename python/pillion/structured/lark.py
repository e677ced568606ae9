"""Pieces of Lark as llguidance reads it: literals, regexes, tokens."""

from __future__ import annotations

import json
import re

TEXT = r"/(.|\n)+/"
"""Text of any length but none, in which no special token stands."""


def literal(text: str) -> str:
    """The text itself. Lark's strings have no escape for most control characters."""
    if any(_is_control(one) for one in text):
        return f"/{escaped(text)}/"
    return json.dumps(text, ensure_ascii=False)


def token(number: int) -> str:
    """One token, whatever its spelling."""
    return f"<[{number}]>"


def regex(pattern: str) -> str:
    """A regular expression between slashes."""
    out, at = [], 0
    while at < len(pattern):
        step = 2 if pattern[at] == "\\" else 1
        part = pattern[at : at + step]
        out.append({"/": "\\/", "\n": "\\n", "\r": "\\r"}.get(part, part))
        at += step
    return f"/{''.join(out)}/"


def escaped(text: str) -> str:
    """The text as a regular expression that matches nothing else."""
    plain = re.sub(r"([\\.+*?()|\[\]{}^$#&~/-])", r"\\\1", text)
    return "".join(f"\\x{ord(one):02x}" if ord(one) < 32 or one == "\x7f" else one for one in plain)


def _is_control(character: str) -> bool:
    return (ord(character) < 32 and character not in "\n\r\t") or character == "\x7f"
