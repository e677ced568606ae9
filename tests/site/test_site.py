"""The site of docs/: it builds with --strict, everything in it leads somewhere, and everybody can
read it: axe finds nothing in either scheme that is ours to mend."""

import json
import re
import shutil
from pathlib import Path

import pytest
from site_pages import Page, dead_ends, is_outside, read
from site_pages import TREE, build

import pillion as package

BEYOND = re.compile(r"^https?://")
READ_BY_AXE = ("index", "memory", "pairing", "api/pairs", "troubleshooting")
# What Material's own markup and script do.
THE_THEMES_OWN = ("landmark-unique", "scrollable-region-focusable")


@pytest.fixture(scope="module")
def pages(site):
    return read(site)


def test_every_page_of_docs_is_there(pages, site):
    sources = {page.relative_to(TREE / "docs") for page in (TREE / "docs").rglob("*.md")}
    made = {path.relative_to(site.resolve()).with_suffix(".md") for path in pages}
    assert len(sources) > 40
    assert sources <= made
    assert made - sources == {Path(name) for name in ("404.md", "contributing.md", "changelog.md")}


def test_no_link_or_anchor_leads_nowhere(pages, site):
    assert sum(len(page.links) for page in pages.values()) > 2000
    assert dead_ends(pages, site) == []


def test_a_dead_end_is_seen(tmp_path):
    """The check of the test above can fail."""
    page = tmp_path / "page.html"
    page.write_text('<a href="#here">a</a><a href="#there">b</a><a href="no.html">c</a><p id=here>')
    found = dead_ends({page: Page(page)}, tmp_path)
    assert found == [("page.html", "#there"), ("page.html", "no.html")]


def test_nothing_is_loaded_from_elsewhere(pages, site):
    assert [(path.name, one) for path, page in pages.items() for one in page.loads
            if is_outside(one) and not one.startswith("data:")] == []  # fmt: skip
    for sheet in (site / "assets").rglob("*.css"):
        loaded = re.findall(r"url\(['\"]?([^'\")]+)", sheet.read_text(encoding="utf-8"))
        assert [one for one in loaded if BEYOND.match(one)] == [], sheet.name


def test_images_have_words_and_pages_one_title(pages):
    images = [image for page in pages.values() for image in page.images]
    assert len(images) > 5
    assert [source for source, words in images if not words] == []
    assert [path.name for path, page in pages.items() if page.n_titles != 1] == []


def test_the_reference_has_every_public_name(pages):
    ids = {one for path, page in pages.items() if path.parent.name == "api" for one in page.ids}
    assert {f"pillion.{name}" for name in package.__all__} - ids == set()
    assert {"pillion.LLM.chat", "pillion.Pair.step", "pillion.EngineStats.queue"} <= ids


def test_docstrings_become_lists_of_parameters(pages, site):
    text = (site / "api" / "models.html").read_text(encoding="utf-8")
    context = text[text.index('id="pillion.Context"') : text.index('id="pillion.Context.closed"')]
    assert "Parameters:" in context
    listed = re.findall(r"<code>(\w+)</code>", context[context.index("Parameters:") :])
    assert {"n_ctx", "n_batch", "kv_type", "n_snapshots", "collect_activations"} <= set(listed)


def test_the_search_finds_pages_and_names(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"] for entry in index["docs"]}
    assert {"pairing.html", "api/llm.html#pillion.LLM", "changelog.html"} <= found


@pytest.mark.parametrize("wrong", ["[a](no_such_page.md)", "[a](chat.md#no-such-heading)"])
def test_strict_refuses(wrong, tmp_path):
    """A page with a dead link, or a dead anchor, does not build."""
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    docs = tmp_path / "docs"
    docs.mkdir()
    shutil.copy(TREE / "docs" / "chat.md", docs)
    (docs / "index.md").write_text(f"# Front\n\n{wrong}\n")
    validation = (TREE / "mkdocs.yml").read_text().split("\nvalidation:")[1].split("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x\nvalidation:{validation}")
    done = build(tmp_path / "site", "--config-file", tmp_path / "mkdocs.yml")
    assert done.returncode != 0
    assert "no_such_page" in done.stderr or "no-such-heading" in done.stderr, done.stderr


# ---- in a browser ----


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed: tools/system_packages.sh browser")
    with sync_api.sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = play.chromium.launch(executable_path=path, args=flags, headless=True)
        yield browser
        browser.close()


@pytest.mark.parametrize(
    "scheme, pages",
    [
        ("light", ["pairing"]),
        ("dark", ["api/pairs"]),
        pytest.param("light", READ_BY_AXE, marks=pytest.mark.nightly),
        pytest.param("dark", READ_BY_AXE, marks=pytest.mark.nightly),
    ],
)
def test_axe_finds_nothing(site, chromium, scheme, pages):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe").Axe()
    page = chromium.new_page(color_scheme=scheme, viewport={"width": 1300, "height": 900})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    told, rules = [], {name: {"enabled": False} for name in THE_THEMES_OWN}
    for name in pages:
        page.goto((site / f"{name}.html").as_uri())
        found = axe.run(page, options={"resultTypes": ["violations"], "rules": rules}).response
        assert len(found["passes"]) > 10
        told += [
            f"{name}: {one['id']} {node['html'][:200]} {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"]
        ]
    page.close()
    assert told == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
