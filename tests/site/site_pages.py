"""Builds the site, and reads it as its tests see it: links, ids and images of every page."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

TREE = Path(__file__).resolve().parents[2]

LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a page links to, loads and can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.ids, self.links, self.loads, self.images = set(), [], [], []
        self.n_titles = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        self.n_titles += tag == "h1"
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "img":
            self.images.append((found.get("src", ""), found.get("alt", "")))
        if tag in LOADS and found.get(LOADS[tag]) and found.get("rel") != "canonical":
            self.loads.append(found[LOADS[tag]])


def is_outside(target):
    return "://" in target or target.startswith(("//", "mailto:", "data:"))


def dead_ends(pages, root):
    """Each (page, link) inside the site that leads to no file, or to no id of its page."""
    found = []
    for path, page in pages.items():
        for target in page.links + page.loads:
            if is_outside(target):
                continue
            name, _, anchor = unquote(target).partition("#")
            base = root if name.startswith("/") else path.parent
            there = (base / name.partition("?")[0].lstrip("/")).resolve() if name else path
            if there.is_dir():
                there /= "index.html"
            known = there.exists() and (
                not anchor or there not in pages or anchor in pages[there].ids
            )
            if not known:
                found.append((path.name, target))
    return found


def read(folder):
    return {path: Page(path) for path in sorted(Path(folder).resolve().rglob("*.html"))}


def build(folder, *more):
    """Builds the site with --strict, without a network. Returns the finished process."""
    nowhere = "http://127.0.0.1:9"
    environment = os.environ | {
        "NO_MKDOCS_2_WARNING": "1",
        "http_proxy": nowhere,
        "https_proxy": nowhere,
    }
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder, *more],
        cwd=TREE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
