"""Pieces of Lark as llguidance reads it: literals, regexes, tokens."""

from __future__ import annotations

import json
import re

TEXT = r"/(.|\n)+/"
"""Text of any length but none, in which no special token stands."""


def literal(text: str) -> str:
    """The text itself."""
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
    return re.sub(r"([\\.+*?()|\[\]{}^$#&~/-])", r"\\\1", text).replace("\n", "\\n")
