"""Chromium for the page's tests: a fresh profile a test, and nothing overlooked in it.

A test fails if the page logs an error, throws, breaks its policy, or asks another server.
"""

import shutil
from urllib.parse import urlsplit

import pytest
from patience import PATIENCE, until

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",
]
WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


def chromium():
    """Path of Debian's Chromium; skips where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed: tools/system_packages.sh browser")
    return path


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium()
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=FLAGS, headless=True)
        yield browser
        browser.close()


class Visit:
    """One reader of a page, with what went wrong there.

    expected: words of messages that a test provokes.
    """

    def __init__(self, browser, url, **options):
        self.url = url
        self.faults = []
        self.foreign = []
        self.expected = []
        self.context = browser.new_context(**options)
        self.context.add_init_script(WATCH)
        self.page = self.new_tab()

    def new_tab(self):
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self.faults.append(f"thrown: {error}"))
        page.on("request", self._asked)
        return page

    def _logged(self, message):
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _asked(self, request):
        if urlsplit(request.url).scheme in ("data", "blob"):
            return
        if not request.url.startswith(self.url + "/"):
            self.foreign.append(request.url)

    def unexpected(self):
        return [
            fault for fault in self.faults if not any(words in fault for words in self.expected)
        ]

    def open(self):
        self.page.goto(self.url + "/")
        return self

    # ---- what a reader does and sees ----

    def ask(self, text):
        """Types a message and sends it; the answer may still be under way."""
        self.page.locator("#input").fill(text)
        self.page.keyboard.press("Enter")

    def answered(self):
        """Waits for the end of the answer."""
        self.page.locator("#send[aria-label=Send]").wait_for()

    def says(self, text):
        self.ask(text)
        self.page.locator("article").last.wait_for()
        self.answered()

    def until(self, condition):
        """`patience.until`; the browser's events come in meanwhile."""
        until(lambda: self.page.wait_for_timeout(5) or condition())

    def text(self, selector=".said"):
        """Of the last such element; by default the last answer."""
        return self.page.locator(selector).last.inner_text()

    def sees(self, words):
        """Waits until the words are on the page."""
        self.page.get_by_text(words).first.wait_for()

    def settings(self, **values):
        """Fills in the settings and saves them."""
        self.page.get_by_label("Settings").first.click()
        for name, value in values.items():
            field = self.page.locator(f"#settings [name={name}]")
            if name in ("draft", "thinking"):
                field.select_option(value)
            else:
                field.fill(value)
        self.page.locator("#settings").get_by_role("button", name="Save").click()


@pytest.fixture
def visit(browser):
    """Opens a page: visit(url, **options of the context). Checked at the end of the test."""
    visits = []

    def begin(url, **options):
        visits.append(Visit(browser, url, **options))
        return visits[-1].open()

    yield begin
    for one in visits:
        faults, foreign = one.unexpected(), one.foreign
        one.context.close()
        assert (faults, foreign) == ([], [])
