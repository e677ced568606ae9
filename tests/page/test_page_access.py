"""The chat page for everybody: keyboard, screen reader, small screens, zoom, dark, axe-core."""

import pytest

pytest.importorskip("fastapi", reason="the extra `server` is not installed")
pytest.importorskip("uvicorn", reason="the extra `server` is not installed")

from fastapi.responses import JSONResponse
from page_stub import DONE, Stub, delta, error_of, last, served, whole
from test_page import MARKDOWN, SPECULATION, TIMINGS

FOCUS = """() => {
  const one = document.activeElement;
  const style = getComputedStyle(one);
  const ring = one.id === "input" ? getComputedStyle(one.closest("form")) : style;
  return [one.getAttribute("aria-label") || one.innerText.trim() || one.id,
    style.outlineStyle !== "none" || ring.boxShadow !== "none"];
}"""


@pytest.fixture(scope="module")
def url():
    stub = Stub()
    thought = delta(None, None, reasoning_content="Let me **see**.")
    call = {"index": 0, "id": "c", "function": {"name": "rain", "arguments": "{}"}}
    words = [[word + " ", i % 2 == 0] for i, word in enumerate(MARKDOWN.split(" "))]
    text = "".join(word for word, _ in words)
    figures = {"timings": TIMINGS, "speculation": SPECULATION}
    stub.answers = [
        [thought, delta(text, words), delta(tool_calls=[call])],
        whole("One sentence. Two sentences! And a rest", "length"),
        JSONResponse(error_of("the queue is full"), 503),
        whole("Back."),
    ]
    stub.answers[0] += [last("tool_calls", **figures), DONE]
    first = list(stub.answers)
    with served(stub.app) as url:
        stub.again = lambda: stub.answers.__setitem__(slice(None), list(first))
        yield stub, url


@pytest.fixture
def begin(url, visit):
    stub, address = url
    stub.again()

    def begin(**options):
        return visit(address, **options)

    return begin


def conversation(reader):
    """All kinds of messages, everything unfolded."""
    reader.expected = ["Failed to load resource"]
    for text in ("A long answer", "A short one", "A refused one"):
        reader.says(text)
    for summary in reader.page.locator("summary").all():
        if summary.is_visible():
            summary.click()


# ---- keyboard ----


def test_a_conversation_by_keyboard_alone(begin):
    reader = begin()
    page = reader.page

    def tab_to(name, back=False):
        seen = []
        for _ in range(60):
            page.keyboard.press("Shift+Tab" if back else "Tab")
            label, has_ring = page.evaluate(FOCUS)
            assert has_ring or not label, label
            seen.append(label)
            if label == name:
                return
        raise AssertionError(f"{name} is not reached: {seen}")

    assert page.evaluate(FOCUS) == ["input", True]
    page.keyboard.type("Line one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("line two")
    page.keyboard.press("Enter")
    reader.page.locator("article").nth(1).wait_for()
    reader.answered()
    assert reader.text("article.user .text") == "Line one\nline two"
    assert page.evaluate(FOCUS) == ["input", True]
    tab_to("Regenerate", back=True)
    page.keyboard.press("Enter")
    reader.sees("One sentence.")
    reader.answered()
    assert page.evaluate(FOCUS) == ["input", True]
    tab_to("Edit", back=True)
    page.keyboard.press("Enter")
    page.keyboard.type(", and more")
    page.keyboard.press("Escape")
    assert page.evaluate(FOCUS)[0] == "Edit"
    tab_to("Settings", back=True)
    page.keyboard.press("Enter")
    page.keyboard.type("Be brief.")
    for _ in range(30):  # stays inside the dialog
        page.keyboard.press("Tab")
        inside = "document.querySelector('#settings').contains(document.activeElement)"
        assert page.evaluate(f"{inside} || document.activeElement === document.body")
    page.keyboard.press("Escape")
    assert page.evaluate(FOCUS)[0] == "Settings"
    tab_to("Delete Line one", back=True)
    page.keyboard.press("Enter")
    assert page.evaluate(FOCUS)[0] == "New conversation"
    assert page.locator("#chats li").count() == 0


def test_the_skip_link_comes_first(begin):
    reader = begin()
    skip = reader.page.locator("a, button, input, textarea").first
    assert skip.bounding_box()["y"] < 0
    skip.focus()
    assert reader.page.evaluate(FOCUS)[0] == "Skip to the message box"
    assert skip.bounding_box()["y"] > 0
    reader.page.keyboard.press("Enter")
    reader.page.keyboard.type("x")
    assert reader.page.locator("#input").input_value() == "x"


def test_the_drawer_of_a_narrow_screen(begin):
    reader = begin(viewport={"width": 320, "height": 640})
    page = reader.page
    menu = page.locator("#menu")
    assert not page.locator("#new-chat").is_visible()
    menu.press("Enter")
    assert menu.get_attribute("aria-expanded") == "true"
    page.locator("#new-chat").wait_for()
    assert page.evaluate(FOCUS)[0] == "New conversation"
    page.keyboard.press("Escape")
    assert menu.get_attribute("aria-expanded") == "false"
    assert menu.evaluate("one => one === document.activeElement")


# ---- screen readers ----


def test_answers_are_announced_by_the_sentence(begin):
    reader = begin()
    reader.says("A long answer")
    reader.says("A short one")
    log = reader.page.get_by_role("log")
    assert log.get_attribute("aria-live") == "polite"
    said = log.locator("p").all_text_contents()
    assert " ".join(said) == "One sentence. Two sentences! And a rest"
    assert reader.page.locator("#messages[aria-live]").count() == 0


def test_everything_has_a_name(begin):
    reader = begin()
    conversation(reader)
    unnamed = """() => [...document.querySelectorAll("button, a, input, textarea, select, summary")]
      .filter(one => one.checkVisibility() && !one.labels?.length && !one.textContent.trim()
        && !one.getAttribute("aria-label")).map(one => one.outerHTML)"""
    assert reader.page.evaluate(unnamed) == []


# ---- screens ----

WIDE = """() => {
  const most = document.documentElement.clientWidth;
  const inside = (one) => one.closest("pre, .table, nav, .sr, [hidden], .skip");
  const wide = [...document.querySelectorAll("body *")].filter((one) => !inside(one)
    && one.getBoundingClientRect().right > most + 1
    && getComputedStyle(one).visibility === "visible");
  return [document.documentElement.scrollWidth - most,
    document.querySelector("#scroll").scrollWidth - document.querySelector("#scroll").clientWidth,
    ...wide.map((one) => one.outerHTML.slice(0, 200))];
}"""


@pytest.mark.parametrize("width, zoom", [(320, 1), (640, 2), (768, 1)])
def test_nothing_scrolls_sideways(begin, width, zoom):
    """At 200 % zoom a screen of 640 pixels is 320 wide."""
    viewport = {"width": width // zoom, "height": 640 // zoom}
    reader = begin(viewport=viewport, device_scale_factor=zoom)
    assert reader.page.evaluate(WIDE) == [0, 0]
    conversation(reader)
    assert reader.page.evaluate(WIDE) == [0, 0]
    reader.page.get_by_label("Settings").first.click()
    body = reader.page.locator("#settings .dialog-body")
    assert body.evaluate("one => one.scrollWidth - one.clientWidth") == 0
    assert reader.page.locator("#settings").get_by_role("button", name="Save").is_visible()


def test_dark_and_light(begin):
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    assert max(begin(color_scheme="dark").page.evaluate(ground)) < 60
    assert min(begin(color_scheme="light").page.evaluate(ground)) > 230


def test_reduced_motion(begin):
    moves = """() => [...document.querySelectorAll("*")].filter((one) =>
      parseFloat(getComputedStyle(one).transitionDuration) > 0).length"""
    assert begin(viewport={"width": 400, "height": 600}).page.evaluate(moves) > 0
    reader = begin(viewport={"width": 400, "height": 600}, reduced_motion="reduce")
    assert reader.page.evaluate(moves) == 0


def test_forced_colours_keep_the_underline(begin):
    reader = begin(forced_colors="active")
    reader.says("A long answer")
    style = "one => getComputedStyle(one).textDecorationLine"
    assert reader.page.locator(".said .d").first.evaluate(style) == "underline"


@pytest.mark.parametrize(
    "scheme, width",
    [
        ("light", 1280),
        ("dark", 320),
        pytest.param("light", 320, marks=pytest.mark.slow),
        pytest.param("dark", 1280, marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing(begin, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe")
    reader = begin(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = reader.page

    def check(what):
        options = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
        found = axe.Axe().run(page, options=options)
        told = [f"{what}: {one['id']} {node['html'][:200]} {node['failureSummary']}"
                for one in found.response["violations"] for node in one["nodes"]]  # fmt: skip
        assert told == []
        assert len(found.response["passes"]) > 10

    check("empty")
    conversation(reader)
    check("conversation")
    page.get_by_label("Edit", exact=True).first.evaluate("one => one.click()")
    check("editing")
    page.keyboard.press("Escape")
    page.get_by_label("Settings").first.click()
    page.locator("[name=temperature]").fill("hot")
    page.keyboard.press("Enter")
    check("settings")
    page.keyboard.press("Escape")
    if width == 320:
        page.locator("#menu").click()
        page.locator("#new-chat").wait_for()
        check("drawer")
    page.get_by_label("Delete A long answer").evaluate("one => one.click()")
    check("deleted")
