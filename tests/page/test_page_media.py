"""Pictures and sounds on the chat page, on a server that does what the test says."""

import base64
import io
import json

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `server` is not installed")
pytest.importorskip("PIL.Image", reason="the extra `media` is not installed")

import soundfile
from page_stub import Stub, served, whole
from patience import until
from PIL import Image

SENSES = {"id": "stub", "meta": {"n_ctx": 2048, "modalities": {"vision": True, "audio": True}}}

GIVE = """([how, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const given = new DataTransfer();
  given.items.add(new File([bytes], name, { type }));
  const options = { bubbles: true, cancelable: true };
  const event = how === "paste" ? new ClipboardEvent(how, { ...options, clipboardData: given })
    : new DragEvent(how, { ...options, dataTransfer: given });
  document.getElementById("input").dispatchEvent(event);
}"""


def png(width=40, height=30, form="PNG"):
    out = io.BytesIO()
    x = np.arange(width, dtype=np.uint8)
    shades = np.broadcast_to(x[None, :, None], (height, width, 3))
    Image.fromarray(np.ascontiguousarray(shades)).save(out, form)
    return out.getvalue()


def wav(rate=16_000):
    out = io.BytesIO()
    soundfile.write(out, np.zeros(rate // 4, "f4"), rate, format="WAV")
    return out.getvalue()


@pytest.fixture(scope="module")
def running():
    stub = Stub()
    stub.model = SENSES
    with served(stub.app) as url:
        yield stub, url


@pytest.fixture
def stub(running):
    stub, url = running
    stub.answers, stub.bodies, stub.model = [whole("Seven.")], [], SENSES
    stub.url = url
    yield stub
    until(lambda: stub.active == 0)


@pytest.fixture
def reader(stub, visit):
    reader = visit(stub.url)
    reader.page.locator("#attach").wait_for()
    return reader


def give(reader, how, name, kind, data):
    reader.page.evaluate(GIVE, [how, name, kind, base64.b64encode(data).decode()])


def chips(reader, n):
    """Waits for so many media beside the message."""
    reader.until(lambda: reader.page.locator("#attached .medium").count() == n)


def parts(stub, at=-1):
    """The content of the last request's message."""
    return stub.bodies[-1]["messages"][at]["content"]


def bytes_of(part):
    data = part["input_audio"]["data"] if "input_audio" in part else part["image_url"]["url"]
    return base64.b64decode(data.partition(",")[2] or data)


def test_files_go_with_the_message_and_stay_in_the_conversation(stub, reader):
    files = [{"name": "a.png", "mimeType": "image/png", "buffer": png()},
             {"name": "b.wav", "mimeType": "audio/wav", "buffer": wav()}]  # fmt: skip
    reader.page.locator("#files").set_input_files(files)
    chips(reader, 2)
    reader.says("What is it?")
    image, sound, text = parts(stub)
    assert (image["type"], sound["type"]) == ("image_url", "input_audio")
    assert text == {"type": "text", "text": "What is it?"} and "image_tokens" not in image
    assert bytes_of(image) == png() and bytes_of(sound) == wav()
    assert sound["input_audio"]["format"] == "wav"
    assert reader.page.locator("#attached").is_hidden() and reader.text() == "Seven."
    shown = reader.page.locator("article.user .media")
    assert shown.locator("img").get_attribute("alt") == "a.png"
    assert shown.locator("audio").get_attribute("src").startswith("data:audio/wav")
    reader.until(lambda: shown.locator("img").evaluate("one => one.naturalWidth") == 40)
    # another turn, and a page that was loaded anew, still show them to the model
    reader.open()
    reader.until(lambda: shown.locator("img").evaluate("one => one.naturalWidth") == 40)
    reader.says("And now?")
    assert bytes_of(parts(stub, 0)[0]) == png() and parts(stub) == "And now?"


@pytest.mark.parametrize("how", ["paste", "drop"])
def test_pasted_and_dropped(stub, reader, how):
    give(reader, how, "one.png", "image/png", png())
    chips(reader, 1)
    reader.page.get_by_label("Send", exact=True).click()  # a picture alone will do
    reader.answered()
    (image,) = parts(stub)
    assert bytes_of(image) == png() and reader.text("#title") == "one.png"


def test_large_pictures_are_made_as_small_as_the_model_sees_them(stub, reader):
    give(reader, "drop", "photo.png", "image/png", png(2500, 2000))
    chips(reader, 1)
    reader.says("What?")
    found = Image.open(io.BytesIO(bytes_of(parts(stub)[0])))
    width, height = found.size
    assert found.format == "JPEG" and 2_500_000 < width * height <= 1120 * 48 * 48
    assert abs(width / height - 1.25) < 0.01


def test_a_recording_is_a_wav_of_16_khz(stub, reader):
    record = reader.page.locator("#record")
    record.click()
    reader.page.locator("#record[aria-label='Stop recording']").wait_for()
    reader.page.wait_for_timeout(300)
    record.click()
    chips(reader, 1)
    reader.says("What do you hear?")
    samples, rate = soundfile.read(io.BytesIO(bytes_of(parts(stub)[0])))
    assert rate == 16_000 and samples.ndim == 1 and len(samples) > 1000
    assert record.get_attribute("aria-pressed") == "false"


def test_they_can_be_taken_back_and_stay_when_a_text_is_edited(stub, reader):
    for name in ("one.png", "two.png"):
        give(reader, "paste", name, "image/png", png())
    chips(reader, 2)
    reader.page.get_by_label("Remove one.png").click()
    chips(reader, 1)
    reader.says("What?")
    reader.page.locator("article.user").hover()
    reader.page.get_by_label("Edit").first.click()
    reader.page.get_by_label("Edit the message").fill("Which number?")
    reader.page.keyboard.press("Enter")
    reader.until(lambda: len(stub.bodies) == 2)
    reader.answered()
    image, text = parts(stub)
    assert bytes_of(image) == png() and text["text"] == "Which number?"
    check_budget(stub, reader)
    check_export(reader)


def check_budget(stub, reader):
    reader.page.get_by_label("Settings").first.click()
    reader.page.locator("#settings [name=image_tokens]").select_option("560")
    reader.page.locator("#settings").get_by_role("button", name="Save").click()
    reader.says("And now?")
    assert parts(stub, 0)[0]["image_tokens"] == 560


def check_export(reader):
    reader.page.locator("#export").click()
    with reader.page.expect_download() as download:
        reader.page.locator("#export-json").click()
    with open(download.value.path(), encoding="utf-8") as file:
        found = json.load(file)
    assert found["messages"][0]["media"][0]["url"].startswith("data:image/png;base64,")
    with reader.page.expect_download() as download:
        reader.page.locator("#export-markdown").click()
    assert "*two.png*" in download.value.path().read_text(encoding="utf-8")


def test_what_is_no_picture_is_told(stub, reader):
    give(reader, "drop", "broken.png", "image/png", b"no picture")
    reader.sees("broken.png can't be read.")
    give(reader, "drop", "a.pdf", "application/pdf", b"%PDF")
    reader.sees("a.pdf is no picture or sound.")
    assert reader.page.locator("#attached").is_hidden()


def test_a_model_without_senses(stub, visit):
    stub.model = {"id": "stub", "meta": {"n_ctx": 2048}}
    reader = visit(stub.url)
    reader.sees("stub")
    assert reader.page.locator("#attach").is_hidden() and reader.page.locator("#record").is_hidden()
    give(reader, "drop", "one.png", "image/png", png())
    reader.sees("This model doesn't see pictures.")


def test_a_picture_that_is_gone_is_no_picture_left_out(stub, reader):
    give(reader, "paste", "one.png", "image/png", png())
    chips(reader, 1)
    reader.says("What?")
    reader.page.evaluate("() => new Promise((done) => { stored('readwrite', (store) => "
                         "store.clear()).then(done); })")  # fmt: skip
    reader.open()
    n = len(stub.bodies)
    reader.ask("And now?")
    reader.sees("This browser no longer has “one.png”")
    assert len(stub.bodies) == n
    reader.sees("one.png (gone)")
