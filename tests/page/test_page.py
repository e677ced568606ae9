"""The chat page in Chromium, on a server that does what the test says."""

import json
import re

import pytest

pytest.importorskip("fastapi", reason="the extra `server` is not installed")
pytest.importorskip("uvicorn", reason="the extra `server` is not installed")

import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from page_stub import DONE, Stub, delta, error_of, last, served, sse, whole
from patience import until

SPECULATION = {
    "drafted": 10,
    "accepted": 4,
    "acceptance": 0.4,
    "acceptance_by_position": [0.6, 0.25],
    "mean_tokens_per_round": 1.8,
}
TIMINGS = {"predicted_per_second": 412.4, "prompt_per_second": 900.0, "cache_n": 7}
USAGE = {"prompt_tokens": 20, "completion_tokens": 12, "total_tokens": 512}
MARKDOWN = """# Plan

It is **bold**, *light*, ~~gone~~ and `code`; see [a site](https://example.org/a_(b)).

1. one
2. two
   - nested *deep*

> quoted

```python
print("<b>")
```

| a | b |
|---|---|
| 1 | **2** |

---
"""


@pytest.fixture(scope="module")
def running():
    stub = Stub()
    with served(stub.app) as url:
        yield stub, url


@pytest.fixture
def stub(running):
    stub, url = running
    fresh = Stub()
    for name in ("answers", "bodies", "key", "health", "model", "left", "release"):
        setattr(stub, name, getattr(fresh, name))
    stub.url = url
    yield stub
    stub.release.set()
    until(lambda: stub.active == 0)


@pytest.fixture
def reader(stub, visit):
    return visit(stub.url)


# ---- how it is served ----


def test_headers_and_caching(stub):
    page = httpx.get(stub.url)
    policy = page.headers["content-security-policy"]
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    known = {"if-none-match": f'"x", W/{page.headers["etag"]}'}
    again = httpx.get(stub.url, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == policy
    assert httpx.get(stub.url, headers={"if-none-match": '"x"'}).status_code == 200
    head = httpx.head(stub.url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == page.headers["etag"]


def test_the_document_is_self_contained(stub):
    html = httpx.get(stub.url).text
    assert html.count("<script>") == html.count("<style>") == 1
    assert not re.search(r"<(link|img|iframe|script)\b[^>]*\b(src|href)=\"(?!data:)", html)
    assert not re.search(r"@import|url\((?!data:)", html)
    assert not re.search(r"\.(innerHTML|outerHTML)|insertAdjacentHTML|document\.write|eval\(", html)


def test_the_policy_stops_what_is_not_the_pages_own(reader):
    """The watch of these tests sees a breach, and markup can't be made from text."""
    reader.expected = ["policy: ", "Content Security Policy", "requires 'Trusted"]
    refused = reader.page.evaluate(
        """() => {
          const tried = [];
          try { document.body.insertAdjacentHTML("beforeend", "<b>x</b>"); }
          catch (error) { tried.push(error.name); }
          const script = document.createElement("script");
          try { script.textContent = "window.broken = true"; document.head.append(script); }
          catch (error) { tried.push(error.name); }
          return [tried, window.broken];
        }"""
    )
    assert refused[0][0] == "TypeError" and refused[1] is None
    reader.until(lambda: any("policy: " in fault for fault in reader.faults))


# ---- a conversation ----


def test_text_comes_while_it_is_written(stub, reader):
    begun = [delta("In the "), delta("beginning")]
    stub.answers = [[*begun, Stub.HOLD, delta(" was."), last(), DONE]]
    reader.ask("Go on")
    reader.sees("In the beginning")
    assert reader.page.locator("#send").get_attribute("aria-label") == "Stop"
    assert "Writing" in reader.text(".status")
    stub.release.set()
    reader.answered()
    assert reader.text() == "In the beginning was."
    body = stub.bodies[0]
    assert body["messages"] == [{"role": "user", "content": "Go on"}]
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
    assert body["pillion"]["pieces"] is True and body["model"] == "stub"


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_stop_leaves_the_server_and_keeps_the_text(stub, reader, way):
    stub.answers = [[delta("Some words"), Stub.HOLD], whole("more")]
    reader.ask("Go on")
    reader.sees("Some words")
    if way == "button":
        reader.page.locator("#send").click()
    else:
        reader.page.keyboard.press("Escape")
    reader.answered()
    until(lambda: stub.left == 1 and stub.active == 0)
    assert reader.text() == "Some words"
    reader.sees("Stopped.")
    reader.says("And then?")
    sent = [one["content"] for one in stub.bodies[1]["messages"]]
    assert sent == ["Go on", "Some words", "And then?"]


def test_drafted_pieces_are_tinted(stub, reader):
    pieces = [["In", False], [" the", True], [" **beg", True], ["in**ning", False]]
    pieces += [["\n\nNow", True]]
    stub.answers = [[delta("".join(text for text, _ in pieces), pieces), last(), DONE]]
    reader.says("Go on")
    spans = reader.page.locator(".said .d")
    assert spans.all_inner_texts() == ["the", " ", "beg", "Now"]
    assert len(set(spans.evaluate_all("all => all.map(one => one.dataset.token)"))) == 3
    style = """one => { const style = getComputedStyle(one);
      return [style.backgroundColor, style.textDecorationLine]; }"""
    tinted = spans.first.evaluate(style)
    assert tinted[0] != "rgba(0, 0, 0, 0)" and tinted[1] == "underline"
    reader.page.locator("#tint").click()
    assert spans.first.evaluate(style) == ["rgba(0, 0, 0, 0)", "none"]
    reader.page.reload()
    assert reader.page.locator("#tint").get_attribute("aria-pressed") == "false"
    assert spans.count() == 4


def test_figures_of_an_answer(stub, reader):
    figures = sse({"choices": [], "usage": USAGE})
    stub.answers = [[delta("Yes."), last(timings=TIMINGS, speculation=SPECULATION), figures, DONE]]
    reader.says("Is it?")
    assert reader.text(".stats summary") == "412 tokens/s · 4 of 10 drafts accepted"
    reader.page.locator(".stats summary").click()
    chart = reader.page.locator(".chart")
    said = "Accepted drafts: position 1: 60 %, position 2: 25 %"
    assert chart.get_attribute("aria-label") == said
    assert [one.get_attribute("height") for one in chart.locator(".bar").all()] == ["48", "20"]
    said = reader.text(".stats dl").split("\n")
    assert said[said.index("of which cached") + 1] == "7 tokens"
    assert said[said.index("Tokens a round") + 1] == "1.80"
    context = reader.page.locator("#context").get_attribute("aria-label")
    assert context == "512 of 2,048 tokens of context used"


def test_place_in_the_queue(stub, reader):
    stub.answers = [[sse({"choices": [], "pillion": {"place": 3}}), Stub.HOLD, *whole("Yes.")]]
    reader.ask("Is it?")
    reader.sees("Waiting: place 3 in the queue")
    stub.release.set()
    reader.answered()
    assert reader.text() == "Yes."


def test_thinking_is_folded(stub, reader):
    thought = delta(None, [["So", True], [" it is.", False]], reasoning_content="So it is.")
    stub.answers = [[thought, Stub.HOLD, *whole("Yes.")]]
    reader.settings(thinking="on")
    reader.ask("Is it?")
    reader.sees("Thinking…")
    stub.release.set()
    reader.answered()
    thoughts = reader.page.locator(".thinking .prose")
    assert not thoughts.is_visible()
    reader.page.locator(".thinking summary").click()
    assert thoughts.inner_text() == "So it is."
    assert thoughts.locator(".d").all_inner_texts() == ["So"]
    assert stub.bodies[0]["chat_template_kwargs"] == {"enable_thinking": True}
    reader.says("Sure?")
    assert stub.bodies[1]["messages"][1] == {"role": "assistant", "content": "Yes."}


def test_tool_calls_and_their_results(stub, reader):
    first = {"index": 0, "id": "c1", "function": {"name": "rain", "arguments": '{"pl'}}
    rest = {"index": 0, "function": {"arguments": 'ace": "Paris"}'}}
    call = [delta(None, None, tool_calls=[one]) for one in (first, rest)]
    stub.answers = [[*call, last("tool_calls"), DONE], whole("It rains.")]
    tools = [{"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}]
    reader.settings(tools=json.dumps(tools))
    reader.says("Does it rain?")
    assert "Calls rain" in reader.text("article.last .call >> nth=0")
    assert json.loads(reader.text("article.last .call pre")) == {"place": "Paris"}
    reader.page.get_by_label("Result of rain").fill("Yes, all day.")
    reader.page.get_by_role("button", name="Give to the model").click()
    reader.sees("It rains.")
    reader.answered()
    body = stub.bodies[1]
    assert body["tools"] == tools
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"place": "Paris"}'
    assert body["messages"][2] == {"role": "tool", "tool_call_id": "c1", "content": "Yes, all day."}


def test_edit_and_regenerate(stub, reader):
    stub.answers = [whole("One."), whole("Two."), whole("Three.")]
    reader.says("First")
    reader.page.get_by_label("Regenerate").click()
    reader.sees("Two.")
    reader.answered()
    assert stub.bodies[1] == stub.bodies[0]
    assert reader.page.locator("article").count() == 2
    reader.page.get_by_label("Edit", exact=True).click()
    reader.page.keyboard.press("Escape")
    focused = "one => one === document.activeElement"
    assert reader.page.get_by_label("Edit", exact=True).evaluate(focused)
    reader.page.keyboard.press("Enter")
    reader.page.get_by_label("Edit the message").fill("Second")
    reader.page.keyboard.press("Enter")
    reader.sees("Three.")
    reader.answered()
    assert stub.bodies[2]["messages"] == [{"role": "user", "content": "Second"}]
    assert reader.page.locator("article .text").all_inner_texts() == ["Second"]


def test_settings_reach_the_server(stub, reader):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    reader.settings(
        system="Be brief.", temperature="0.5", top_p="0.9", max_tokens="7", seed="3", draft="auto",
        thinking="off", schema=json.dumps(schema),
    )  # fmt: skip
    reader.page.reload()
    reader.says("Hi")
    body = stub.bodies[0]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    wanted = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "seed": 3, "draft": "auto"}
    assert {name: body[name] for name in wanted} == wanted
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["response_format"]["json_schema"]["schema"] == schema
    reader.settings(draft="0", schema="")
    reader.says("Hi again")
    assert stub.bodies[1]["draft"] == 0 and "response_format" not in stub.bodies[1]


def test_wrong_settings_are_named(stub, reader):
    page = reader.page
    reader.settings(temperature="hot", max_tokens="1.5", schema="{", tools="{}")
    assert page.locator("#settings").is_visible()
    said = page.locator("#settings .wrong").all_inner_texts()
    assert said[:2] == ["A number from 0 to 10.", "A whole number of at least 1."]
    assert said[2].startswith("This is not JSON: ") and "has to be a JSON list" in said[3]
    tops = (
        page.locator("#settings .grid")
        .first.locator("input")
        .evaluate_all("all => all.map(one => Math.round(one.getBoundingClientRect().top))")
    )
    assert len(set(tops)) == 1  # the sentences take no field's place
    field = page.locator("[name=temperature]")
    assert field.get_attribute("aria-describedby") == "wrong-temperature"
    assert field.evaluate("one => one === document.activeElement")
    page.get_by_role("button", name="Reset").click()
    page.locator("#settings").get_by_role("button", name="Save").click()
    assert not page.locator("#settings").is_visible()
    reader.says("Hi")
    assert "temperature" not in stub.bodies[0]


def test_conversations_are_kept(stub, reader):
    page = reader.page
    stub.answers = [whole("One."), whole("Two.")]
    reader.says("First question")
    page.locator("#new-chat").click()
    assert page.locator("#empty").is_visible()
    reader.says("Second question")
    page.reload()
    names = page.locator("#chats .open")
    assert names.all_inner_texts() == ["Second question", "First question"]
    assert reader.text() == "Two."
    names.nth(1).click()
    assert reader.text() == "One."
    page.get_by_label("Rename First question").click()
    page.keyboard.type("A new name")
    page.keyboard.press("Enter")
    assert reader.text("#title") == "A new name"
    page.get_by_label("Delete Second question").click()
    assert names.all_inner_texts() == ["A new name"]
    page.get_by_role("button", name="Undo").click()
    assert sorted(names.all_inner_texts()) == ["A new name", "Second question"]
    page.get_by_label("Delete Second question").click()
    page.reload()
    assert names.all_inner_texts() == ["A new name"]


def test_two_tabs_do_not_write_over_each_other(stub, reader):
    stub.answers = [whole("One."), whole("Two.")]
    reader.says("In the first tab")
    other = reader.new_tab()
    other.goto(stub.url)
    other.locator("#new-chat").click()
    other.locator("#input").fill("In the second tab")
    other.keyboard.press("Enter")
    other.locator(".said", has_text="Two.").wait_for()
    other.locator("#send[aria-label=Send]").wait_for()
    reader.page.locator("#chats .open", has_text="In the second tab").wait_for()
    assert reader.text("#title") == "In the first tab"
    reader.page.reload()
    assert reader.page.locator("#chats li").count() == 2


def test_an_answer_goes_on_beside_another_conversation(stub, reader):
    stub.answers = [[delta("Some"), Stub.HOLD, *whole(" more.")], whole("Short.")]
    reader.ask("A long one")
    reader.sees("Some")
    reader.page.locator("#new-chat").click()
    reader.says("A short one")
    assert reader.text() == "Short."
    reader.page.locator("#chats .open", has_text="A long one").click()
    assert reader.page.locator("#send").get_attribute("aria-label") == "Stop"
    stub.release.set()
    reader.answered()
    assert reader.text() == "Some more."


def test_reload_in_the_middle_keeps_what_had_come(stub, reader):
    stub.answers = [[*(delta(f"w{i} ") for i in range(9)), 1.2, delta("x "), Stub.HOLD]]
    reader.ask("Go on")
    kept = "Object.values(localStorage).some(text => text.includes('w8 x'))"
    reader.until(lambda: reader.page.evaluate(kept))
    reader.page.reload()
    reader.sees("The page was closed before the answer was complete.")
    assert reader.text().startswith("w0 w1")


def test_export(stub, reader):
    figures = {"timings": TIMINGS, "speculation": SPECULATION}
    stub.answers = [[delta("Yes.", [["Yes", True], [".", False]]), last(**figures), DONE]]
    reader.says("Is it?")
    reader.page.get_by_label("Export", exact=True).click()
    saved = {}
    for kind in ("Markdown", "JSON"):
        with reader.page.expect_download() as download:
            reader.page.get_by_role("button", name=kind, exact=True).click()
        saved[kind] = (download.value.suggested_filename, download.value.path().read_text())
    assert saved["Markdown"] == ("Is-it.md", "# Is it?\n\n## You\n\nIs it?\n\n## stub\n\nYes.\n")
    name, text = saved["JSON"]
    found = json.loads(text)
    assert (name, found["model"], found["title"]) == ("Is-it.json", "stub", "Is it?")
    assert found["messages"][1]["drafted"] == [0, 3]
    assert found["messages"][1]["figures"]["speculation"]["accepted"] == 4


def test_edit_while_an_answer_comes(stub, reader):
    stub.answers = [[delta("Old"), Stub.HOLD]]
    stub.answers += [[delta("New"), Stub.HOLD, delta("er."), last(), DONE]]
    reader.ask("First")
    reader.sees("Old")
    reader.page.get_by_label("Edit", exact=True).click()
    reader.page.get_by_label("Edit the message").fill("Second")
    reader.page.keyboard.press("Enter")
    reader.sees("New")
    until(lambda: stub.left == 1)
    assert reader.page.locator("#send").get_attribute("aria-label") == "Stop"
    stub.release.set()
    reader.answered()
    assert reader.text() == "Newer."


def test_what_others_wrote_into_the_storage(stub, reader):
    chats = [{"messages": 3}, {"messages": [None, {"role": "assistant", "content": "Kept."}]}, 7]
    for i, chat in enumerate(chats):
        store = "([name, text]) => localStorage.setItem(name, text)"
        reader.page.evaluate(store, [f"pillion.chat.{i}", json.dumps(chat)])
    reader.page.evaluate("localStorage.setItem('pillion.settings', '{')")
    reader.page.reload()
    assert reader.text() == "Kept."
    reader.says("And more")
    roles = [one["role"] for one in stub.bodies[0]["messages"]]
    assert roles == ["assistant", "user"]


def test_below_a_path(stub, visit):
    """A proxy may serve it below a path of its own."""
    outer = FastAPI()
    outer.mount("/below", stub.app)
    with served(outer) as url:
        reader = visit(f"{url}/below")
        reader.says("Hi")
        assert reader.text() == "Hello."
        assert reader.text("#model-name") == "stub"


# ---- text of the model ----

HOSTILE = """<script>window.broken = 1</script><img src=x onerror="window.broken = 2">

[a link](javascript:window.broken=3) [data](data:text/html,<script>1</script>)
[rel](/v1/models) <https://example.org/>; ![pic](https://example.org/x.png)

| <b>x</b> | <style>*{display:none}</style> |
|---|---|
| </td></table><svg onload=window.broken=4> | ok |

```html"onmouseover="window.broken=5
</code></pre><script>window.broken = 6</script>
```
"""


def test_hostile_text_stays_text(stub, reader):
    call = {"index": 0, "id": "<i>", "function": {"name": "<img src=x>", "arguments": "<script>"}}
    thought = delta(None, None, reasoning_content="<script>window.broken = 7</script>")
    calls = delta(None, None, tool_calls=[call])
    stub.model = {"id": "<img src=x onerror=alert(1)>", "meta": {"n_ctx": 100}}
    stub.answers = [[thought, *(delta(one) for one in HOSTILE), calls, *whole("")[1:]]]
    reader.page.reload()
    reader.says("<script>window.broken = 8</script>\n<img src=x>")
    kinds = "all => [...new Set(all.map(one => one.localName))].sort()"
    inside = reader.page.locator("article *:not(svg *)").evaluate_all(kinds)
    allowed = "a button code details div form h2 h3 label p pre span strong summary svg"
    allowed += " table tbody td textarea th thead tr"
    assert set(inside) <= set(allowed.split())
    links = reader.page.locator("article a")
    links = links.evaluate_all("all => all.map(one => [one.href, one.rel])")
    assert {link for link, _ in links} == {"https://example.org/", "https://example.org/x.png"}
    assert all("noopener" in rel for _, rel in links)
    said = reader.text()
    assert "<script>window.broken = 1</script><img src=x onerror=" in said
    assert "[a link](javascript:window.broken=3)" in said and "[rel](/v1/models)" in said
    assert reader.text("article.user .text").startswith("<script>window.broken = 8</script>")
    assert reader.page.evaluate("window.broken") is None


def test_markdown(stub, reader):
    stub.answers = [[*(delta(one) for one in MARKDOWN), *whole("")[1:]]]
    reader.says("A plan")
    shape = """node => (function tell(one) {
      const inside = [...one.children].map(tell).filter(Boolean).join("");
      const own = ["DIV", "BUTTON", "svg", "use", "SPAN"].includes(one.nodeName);
      return own ? inside : `${one.localName}(${inside})`;
    })(node)"""
    assert reader.page.locator(".said").last.evaluate(shape) == (
        "h3()p(strong()em()del()code()a())ol(li(p())li(p()ul(li(p(em())))))"
        "blockquote(p())pre(code())table(thead(tr(th()th()))tbody(tr(td()td(strong()))))hr()"
    )
    assert reader.text(".said pre") == 'print("<b>")'
    link = reader.page.locator(".said a")
    assert link.get_attribute("href") == "https://example.org/a_(b)"
    assert link.inner_text() == "a site"


def test_markdown_in_pieces_is_the_whole(stub, reader):
    """A streamed answer looks as it does after a reload, at every cut."""
    cases = MARKDOWN + "* a\n*b **c\n\n"
    cases += "__d__ snake_case_word 2*3*4 `` ` `` \\*e\\* **f*\n\n    g\n~~~\nh"
    stub.answers = [[*(delta(one) for one in cases), *whole("")[1:]]]
    reader.says("Go on")
    prose = reader.page.locator(".said").last
    streamed = prose.evaluate("one => one.outerHTML")
    reader.page.reload()
    assert prose.evaluate("one => one.outerHTML") == streamed
    wanted = "<strong>d</strong> snake_case_word 2<em>3</em>4 <code>`</code> *e* <em>*f</em>"
    assert wanted in streamed


def test_odd_text_takes_no_time(stub, reader):
    """20,000 characters that never close what they open; quadratic work would take minutes."""
    for mark in ["*a ", "[", "`a", "**a_", "> ", "- ", "|a\n", "((http://a", "  - a\n", "![](x"]:
        took = reader.page.evaluate(
            """text => {
              const begin = performance.now();
              const one = new Prose();
              one.show(text, []);
              return [one.node.childElementCount, performance.now() - begin];
            }""",
            mark * (20_000 // len(mark)),
        )
        assert took[0] > 0 and took[1] < 20_000


# ---- trouble ----


def test_a_key_is_asked_for_and_kept_for_the_tab(stub, visit):
    stub.key = "right"
    stub.answers = [whole("Open.")]
    reader = visit(stub.url)
    reader.expected = ["status of 401"]
    key = reader.page.locator("#key input")
    key.fill("wrong")
    reader.page.keyboard.press("Enter")
    reader.sees("The server doesn't know this key.")
    key.fill("right")
    reader.page.keyboard.press("Enter")
    reader.page.locator("#model-name", has_text="stub").wait_for()
    reader.says("Is it open?")
    assert reader.text() == "Open."
    stored = "JSON.stringify([{...localStorage}, {...sessionStorage}])"
    local, session = json.loads(reader.page.evaluate(stored))
    assert session == {"pillion.key": "right"} and "right" not in json.dumps(local)
    reader.page.reload()
    reader.says("Still?")
    assert not reader.page.locator("#key").is_visible()


def test_no_key_is_a_sentence(stub, reader):
    reader.page.locator("#model-name", has_text="stub").wait_for()
    stub.key = "right"
    reader.expected = ["status of 401"]
    reader.ask("Hi")
    reader.page.locator("#key").get_by_label("Close").click()
    reader.answered()
    reader.sees("The API key is missing or wrong.")
    assert reader.page.get_by_role("button", name="Try again").is_visible()


REFUSALS = [
    (JSONResponse(error_of("the queue is full"), 503, {"Retry-After": "7"}),
     "The queue is full. Try again in 7 seconds."),
    (JSONResponse(error_of("the prompt has 3000 tokens; 2048 fit"), 400),
     "The prompt has 3000 tokens; 2048 fit."),
    (Response("<html>Bad Gateway</html>", 502), "The server answered with status 502."),
    (Response("", 413), "The conversation is larger than the server takes."),
]  # fmt: skip


@pytest.mark.parametrize("answer, sentence", REFUSALS)
def test_refusals_are_sentences(stub, reader, answer, sentence):
    stub.answers = [answer, whole("Now.")]
    reader.expected = ["Failed to load resource"]
    reader.ask("Hi")
    reader.answered()
    assert reader.text(".trouble span") == sentence
    assert sentence in reader.page.locator("#log").text_content()
    reader.page.get_by_role("button", name="Try again").click()
    reader.sees("Now.")
    reader.answered()
    assert stub.bodies[1]["messages"] == [{"role": "user", "content": "Hi"}]
    assert reader.page.locator(".trouble").count() == 0


BROKEN = [
    ([delta("Half"), sse(error_of("the device was lost"))], "The device was lost."),
    ([delta("Half")], "The connection ended before the answer did."),
    ([delta("Half"), "data: {oops\n\n", Stub.HOLD],
     "The server sent something that can't be read."),
    ([delta("Half"), Stub.HOLD, Stub.BREAK], "The connection to the server broke off."),
]  # fmt: skip


@pytest.mark.parametrize("answer, sentence", BROKEN)
def test_a_stream_that_breaks(stub, reader, answer, sentence):
    stub.answers = [answer]
    reader.expected = ["Failed to load resource"]
    reader.ask("Hi")
    if Stub.BREAK in answer:
        reader.sees("Half")
        stub.release.set()
    reader.answered()
    assert reader.text(".trouble span") == sentence
    assert reader.text() == "Half"
    until(lambda: stub.active == 0)


def test_events_cut_anywhere_are_read(stub, reader):
    """Comments, CRLF, characters of several bytes, and cuts in the middle of them."""
    text = ": ping\r\n\r\n" + "".join(whole("Größe 🜚 東"))
    raw = text.replace("\n\n", "\r\n\r\n").encode().replace(b"\r\r", b"\r")
    raw = raw.replace(json.dumps("Größe 🜚 東")[1:-1].encode(), "Größe 🜚 東".encode())
    stub.answers = [[part for byte in raw for part in (bytes([byte]), 0.001)]]
    reader.says("Hi")
    assert reader.text() == "Größe 🜚 東"


def test_draining_and_coming_back(stub, reader):
    reader.expected = ["Failed to load resource"]
    stub.answers = [JSONResponse(error_of("the server is shutting down"), 503), whole("Back.")]
    stub.health = (503, {"status": "draining"})
    reader.ask("Hi")
    reader.sees("The server is about to stop")
    stub.health = (503, {"status": "loading"})
    reader.sees("The server is loading the model.")
    stub.model = {"id": "another", "meta": {"n_ctx": 99}}
    stub.health = (200, {"status": "ok"})
    reader.page.locator("#banner").wait_for(state="hidden")
    reader.page.locator("#model-name", has_text="another").wait_for()


def test_a_server_that_goes_and_comes_back(visit):
    stub = Stub()
    with served(stub.app) as url:
        reader = visit(url)
        reader.expected = ["Failed to load resource"]
        reader.says("Hi")
    reader.ask("Are you there?")
    reader.sees("The server can't be reached.")
    reader.sees("the page tries again by itself")
    with served(stub.app, int(url.rsplit(":", 1)[1])):
        reader.page.locator("#banner").wait_for(state="hidden")
        reader.page.get_by_role("button", name="Try again").click()
        reader.answered()
        assert reader.text() == "Hello."
