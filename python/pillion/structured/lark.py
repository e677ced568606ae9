"""Pieces of Lark for llguidance: literals, regexes, tokens."""

from __future__ import annotations

import json
import re

TEXT = r"/(.|\n)+/"
"""Text of one character or more, without special tokens."""


def literal(text: str) -> str:
    """A literal that matches the text. Lark's strings have no escape for most control
    characters."""
    if any(_is_control(one) for one in text):
        return f"/{escaped(text)}/"
    return json.dumps(text, ensure_ascii=False)


def token(number: int) -> str:
    """A token by its id, whatever its spelling."""
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
    """A regular expression that matches the text and nothing else."""
    plain = re.sub(r"([\\.+*?()|\[\]{}^$#&~/-])", r"\\\1", text)
    return "".join(f"\\x{ord(one):02x}" if ord(one) < 32 or one == "\x7f" else one for one in plain)


def _is_control(character: str) -> bool:
    return (ord(character) < 32 and character not in "\n\r\t") or character == "\x7f"


_PART = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d*)[^}]*\}|[?*+|]|.", re.DOTALL)


def shortest(pattern: str) -> int:
    """An upper bound of the characters in the shortest text of a regular expression."""
    sums, last = [0], 0
    for part in _PART.finditer(pattern):
        text = part[0]
        if text == "(":
            sums.append(0)
        elif text == ")" and len(sums) > 1:
            last = sums.pop()
            sums[-1] += last
        elif part[1] is not None:
            sums[-1] += last * max(int(part[1][:9] or 0) - 1, 0)
        elif text not in "?*+|":
            last = 1
            sums[-1] += 1
    return sum(sums)
