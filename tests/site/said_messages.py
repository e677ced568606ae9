"""Every sentence that the sources can say, with `…` where a value goes in."""

import ast
import re
from functools import lru_cache

from site_pages import TREE

# A value in a format of printf's, or `{}` and `{name}` in a text for str.format.
VALUE = re.compile(r"%[-+ 0#]*\d*(?:\.\d+)?(?:hh|h|ll|l|z|j|t)?[diouxXeEfgGcsp]|\{\w*\}")
LITERAL = r'"((?:[^"\\]|\\.)*)"'


def of_python(text):
    """Strings of a Python file; what an f-string inserts becomes `…`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            parts = (one.value if isinstance(one, ast.Constant) else "…" for one in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield VALUE.sub("…", node.value)


def of_c(text):
    """Neighbouring literals of a C++ file are one."""
    for run in re.finditer(rf"{LITERAL}(?:\s*{LITERAL})*", text):
        joined = "".join(re.findall(LITERAL, run[0]))
        yield VALUE.sub("…", joined.replace('\\"', '"').replace("%%", "%"))


@lru_cache(maxsize=1)
def all_sentences():
    found = set()
    for path in (TREE / "python" / "pillion").rglob("*.py"):
        found.update(of_python(path.read_text(encoding="utf-8")))
    for path in (TREE / "csrc").rglob("*"):
        if path.suffix in (".cpp", ".h", ".inc", ".def"):
            found.update(of_c(path.read_text(encoding="utf-8")))
    return frozenset(one for one in found if len(one) > 6)


def pieces(message):
    """The words of a message that do not change, in order."""
    parts = (part.strip(" ;:,()'\"") for part in message.split("…"))
    return [one for one in parts if re.search(r"\w{3}", one)]


def is_said(message):
    """True if the sources have all words of a message: each piece between two values, or the two or
    three strings that a piece is put together from."""
    wanted = pieces(message)
    return bool(wanted) and all(_has(one.split()) for one in wanted)


def _has(words, n_strings=3):
    """Longest beginnings first; a beginning of one word proves nothing."""
    if not words:
        return True
    if n_strings == 0:
        return False
    for n in range(len(words), min(2, len(words)) - 1, -1):
        begin = " ".join(words[:n]).rstrip(",;:")
        if any(begin in said for said in all_sentences()):
            return _has(words[n:], n_strings - 1)
    return False


def pattern(message):
    """What matches a sentence that was really raised."""
    return re.compile(".*".join(map(re.escape, message.split("…"))), re.S)
