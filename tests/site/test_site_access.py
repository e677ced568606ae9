"""The site can be read by everybody: axe finds nothing in either scheme that is ours to mend, and
no page asks another server for anything."""

import shutil

import pytest

PAGES = ("index", "memory", "pairing", "api/pairs", "troubleshooting")
# What Material's own markup and script do.
THE_THEMES_OWN = ("landmark-unique", "scrollable-region-focusable")


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
        pytest.param("light", PAGES, marks=pytest.mark.nightly),
        pytest.param("dark", PAGES, marks=pytest.mark.nightly),
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
