"""Hooks of MkDocs. CONTRIBUTING.md and CHANGELOG.md, which lie beside docs/, become pages too; the
programs of examples/ are printed on the page of examples."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_files(files: Files, config: Any) -> Files:
    for name, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=for_the_site(text)))
    return files


def for_the_site(text: str) -> str:
    """Links of these pages start at the root of the repository, those of the site at docs/. What is
    not on the site is named instead."""

    def link(match: re.Match[str]) -> str:
        words, target = match.groups()
        if target.startswith(("#", "https://")):
            return match[0]
        for name, source in PAGES.items():
            target = target.replace(source, f"docs/{name}")
        if target.startswith("docs/"):
            return f"[{words}]({target.removeprefix('docs/')})"
        return f"{words} (`{target}`)"

    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", link, text)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Behind the page of examples come the programs that it names."""
    if page.file.src_uri != "examples.md":
        return markdown
    for name in re.findall(r"^\| `(examples/\S+\.py)`", markdown, re.M):
        code = (ROOT / name).read_text(encoding="utf-8")
        markdown += f"\n## {Path(name).name}\n\n```python\n{code}```\n"
    return markdown
