"""docs/images/pair.svg shows a round that the tiny pair runs, in words too."""

import re
import subprocess
import sys

from site_pages import TREE

PICTURE = (TREE / "docs" / "images" / "pair.svg").read_text(encoding="utf-8")


def test_it_is_what_the_pair_runs(pillion):
    check = [sys.executable, TREE / "tools" / "pair_picture.py", "--check"]
    assert subprocess.run(check, timeout=300).returncode == 0


def test_its_words_are_those_beside_it():
    """Whoever does not see the picture reads the same tokens in its text and on the page."""
    tokens = re.findall(r"“(.*?)”", re.search(r"<desc.*?>(.*)</desc>", PICTURE)[1])
    page = (TREE / "docs" / "pairing.md").read_text(encoding="utf-8")
    words = re.search(r"!\[(.*?)\]\(images/pair\.svg\)", page, re.S)[1]
    assert len(tokens) == 3
    assert re.findall(r'"(.*?)"', words) == tokens


def test_both_schemes_name_every_color():
    light, dark = PICTURE.split("prefers-color-scheme: dark")
    for kind in ("page", "note", "box", "kept", "wrong", "cache", "line", "tip"):
        assert f".{kind} {{" in light and f".{kind} {{" in dark, kind
