"""The chat page on the real server with the tiny pair.

PILLION_SCREENSHOTS=docs/images makes the pictures of docs/chat_page.md.
"""

import json
import os
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra `server` is not installed")
pytest.importorskip("uvicorn", reason="the extra `server` is not installed")

from page_stub import served
from patience import until

PICTURES = os.environ.get("PILLION_SCREENSHOTS")


@pytest.fixture(scope="module")
def url(pillion):
    from pillion.models import TINY_ASSISTANT, TINY_TARGET
    from pillion.server import create_app

    with pillion.LLM(TINY_TARGET, drafter=TINY_ASSISTANT) as llm:
        with served(create_app(llm)) as address:
            yield address


@pytest.fixture(scope="module")
def ends(pillion):
    from pillion.models import TINY_TARGET

    with pillion.Model.open(TINY_TARGET) as model:
        return list(model.tokenizer.end_tokens)


@pytest.fixture
def reader(url, visit):
    return visit(url)


def message(reader, at=-1):
    """One as the page keeps it."""
    return reader.page.evaluate("at => state.chat.messages.at(at)", at)


def never(reader, tokens):
    """The model writes none of the tokens in the answers to this page."""
    bias = {str(token): -100 for token in tokens}

    def send(route):
        body = {**route.request.post_data_json, "logit_bias": bias}
        route.continue_(post_data=json.dumps(body))

    reader.page.route("**/v1/chat/completions", send)


def busy(url):
    return [one for one in httpx.get(f"{url}/slots").json() if one["is_processing"]]


def test_as_many_tokens_are_tinted_as_were_accepted(url, reader):
    reader.settings(temperature="0", max_tokens="64", draft="3")
    reader.says("And it came to pass")
    answer = message(reader)
    done = answer["figures"]["speculation"]
    assert answer["finish"] == "length" and done["accepted"] > 10
    tokens = reader.page.locator(".said .d").evaluate_all(
        "all => [...new Set(all.map(one => one.dataset.token))].length"
    )
    assert tokens == len(answer["drafted"]) // 2 == done["accepted"]
    said = f"{done['accepted']} of {done['drafted']} drafts accepted"
    assert said in reader.text(".stats summary")
    body = {"messages": [{"role": "user", "content": "And it came to pass"}]}
    body = {**body, "temperature": 0, "max_tokens": 64, "draft": 0}
    plain = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    assert answer["content"] == plain["choices"][0]["message"]["content"] == reader.text()


def test_stop_frees_the_slot(pillion, ends, visit):
    from pillion.models import TINY_TARGET
    from pillion.server import create_app

    with pillion.LLM(TINY_TARGET, n_ctx=65536) as llm, served(create_app(llm)) as url:
        reader = visit(url)
        never(reader, ends)  # so it writes for minutes
        reader.ask("Write all you know.")
        reader.page.locator(".status", has_text="Writing").wait_for()
        assert len(busy(url)) == 1
        reader.page.keyboard.press("Escape")
        reader.answered()
        until(lambda: not busy(url))
        assert message(reader)["finish"] == "stopped"
        reader.settings(max_tokens="8")
        reader.says("Hello")
        assert message(reader)["finish"] == "length"


def test_an_answer_that_follows_a_schema(url, reader):
    pytest.importorskip("llguidance", reason="the extra `structured` is not installed")
    number = {"type": "integer", "minimum": 1, "maximum": 9}
    schema = {"type": "object", "properties": {"n": number}, "required": ["n"]}
    schema["additionalProperties"] = False
    reader.settings(schema=json.dumps(schema), temperature="0", max_tokens="60")
    reader.says("How many?")
    answer = message(reader)
    assert answer["finish"] == "stop" and 1 <= json.loads(answer["content"])["n"] <= 9
    assert reader.text() == f"JSON\nCopy\n{answer['content']}".rstrip()
    reader.page.locator(".stats summary").last.click()
    said = reader.text(".stats dl").splitlines()
    forced = answer["figures"]["speculation"]["forced"]
    assert forced > 1 and said[said.index("Forced by the form") + 1] == f"{forced} tokens"


def test_what_comes_with_the_end_is_in_sight(url, visit):
    reader = visit(url, viewport={"width": 480, "height": 480})
    reader.settings(max_tokens="150", temperature="0")
    for words in ("And it came to pass", "And again"):
        reader.says(words)
        box = "({scrollHeight, scrollTop, clientHeight}) => scrollHeight - scrollTop - clientHeight"
        reader.until(lambda: reader.page.locator("#scroll").evaluate(box) < 2)
    assert reader.page.locator("#jump").is_hidden()


def test_a_long_first_line_is_cut_between_characters(reader):
    reader.settings(max_tokens="1")
    reader.says("🌈" * 70 + "\nmore")
    assert reader.text("#title") == "🌈" * 59 + "…"


def test_the_servers_own_sentences(reader):
    reader.expected = ["status of 400"]
    reader.ask("word " * 3000)
    reader.answered()
    assert "2048" in reader.text(".trouble span")
    assert message(reader)["finish"] == "failed"


def test_context_and_name(url, reader):
    reader.settings(max_tokens="4")
    reader.says("Hello")
    card = httpx.get(f"{url}/v1/models").json()["data"][0]
    assert reader.text("#model-name") == card["id"]
    used = message(reader)["figures"]["usage"]["total_tokens"]
    context = reader.page.locator("#context").get_attribute("aria-label")
    assert context == f"{used} of {card['meta']['n_ctx']:,} tokens of context used"


def test_a_key(pillion, visit):
    from pillion.models import TINY_TARGET
    from pillion.server import ServerSettings, create_app

    with pillion.LLM(TINY_TARGET) as llm:
        with served(create_app(llm, ServerSettings(keys=["sesame"]))) as url:
            reader = visit(url)
            reader.expected = ["status of 401"]
            reader.page.locator("#key input").fill("sesame")
            reader.page.keyboard.press("Enter")
            reader.settings(max_tokens="4", temperature="0")
            reader.says("Hello")
            assert message(reader)["figures"]["usage"]["completion_tokens"] == 4


def test_the_queue_is_shown(url, ends, visit):
    reader = visit(url)
    reader.settings(max_tokens="4")
    bias = {str(token): -100 for token in ends}
    body = {"messages": [{"role": "user", "content": "Write."}], "max_tokens": 1900, "n": 32}
    body = {**body, "logit_bias": bias, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60):
        until(lambda: busy(url))
        reader.ask("Hello")
        reader.page.locator(".status", has_text="Waiting: place ").wait_for()
    reader.answered()
    assert message(reader)["finish"] in ("stop", "length")


if PICTURES:  # no check: it makes the pictures of the documentation

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_pictures(url, visit, scheme):
        """A real conversation, at twice the size; for looking at, other sizes and empty pages."""
        more = Path(PICTURES) / "more"
        more.mkdir(exist_ok=True, parents=True)
        sizes = {"wide": (1280, 880), "middle": (768, 900), "narrow": (320, 640)}
        for name, (width, height) in sizes.items():
            viewport = {"width": width, "height": height}
            reader = visit(url, viewport=viewport, device_scale_factor=2, color_scheme=scheme)
            reader.page.locator("#model-name", has_text="tiny").wait_for(state="attached")
            reader.page.screenshot(path=more / f"empty_{name}_{scheme}.png")
            reader.settings(temperature="0.6", draft="4", seed="29")
            for text in ("And it came to pass", "Hear, O heavens", "Read Psalms 23."):
                if name == "wide":
                    reader.page.locator("#new-chat").click()
                reader.says(text)
            reader.says("And what did the people say?")
            reader.page.locator(".stats summary").last.click()
            reader.page.locator("#scroll").evaluate("one => one.scrollTop = one.scrollHeight")
            reader.page.locator("#input").focus()
            folder, suffix = (Path(PICTURES), "") if name == "wide" else (more, f"_{name}")
            reader.page.screenshot(path=folder / f"chat_page{suffix}_{scheme}.png")
            reader.page.get_by_label("Settings").first.click()
            reader.page.screenshot(path=more / f"settings_{name}_{scheme}.png")


def test_it_names_a_digit_that_it_sees(reader):
    pytest.importorskip("PIL.Image", reason="the extra `media` is not installed")
    reader.page.locator("#examples .pictured").click()
    reader.page.locator("article").last.wait_for()
    reader.answered()
    assert reader.text().strip() == "seven"
    assert reader.page.locator("article.user img").get_attribute("alt") == "A handwritten digit"
    assert message(reader)["figures"]["usage"]["prompt_tokens_details"]["image_tokens"] == 64
