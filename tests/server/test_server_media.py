"""Pictures and sounds over HTTP: all three APIs, refusals with their reasons, large bodies."""

import base64
import io

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("PIL.Image")

import soundfile  # noqa: E402
from PIL import Image  # noqa: E402
from server_support import error_of, events, served  # noqa: E402
from stand_in_towers import StandIn  # noqa: E402

GREEDY = {"temperature": 0, "max_tokens": 8}


def png(shade=1, side=96, form="PNG"):
    out = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), shade, np.uint8)).save(out, form)
    return base64.b64encode(out.getvalue()).decode()


def wav(seconds=0.4):
    out = io.BytesIO()
    soundfile.write(out, np.full(int(16_000 * seconds), 0.25, "f4"), 16_000, format="WAV")
    return base64.b64encode(out.getvalue()).decode()


@pytest.fixture(scope="module")
def llm(pillion, tiny_target, tmp_path_factory):
    path = tmp_path_factory.mktemp("towers") / "mmproj.gguf"
    path.write_bytes(b"GGUF and no more")
    towers = StandIn(path, 192)
    options = {"n_ctx": 1024, "drafter": None, "parallel": 2, "image_tokens": 70}
    with pillion.LLM(tiny_target, mmproj=towers, **options) as llm:
        yield llm


@pytest.fixture(scope="module")
def server(pillion, llm):
    with served(pillion, lambda check: llm) as server:
        yield server


def image(data):
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def chat(server, *parts, **fields):
    asked = [*parts, {"type": "text", "text": "What is it?"}]
    body = {"messages": [{"role": "user", "content": asked}], **GREEDY, **fields}
    return server.post("/v1/chat/completions", body)


def test_chat_completions(server, llm):
    sound = {"type": "input_audio", "input_audio": {"data": wav(), "format": "wav"}}
    whole = chat(server, image(png()), sound).json()
    asked = [image(png()), sound, {"type": "text", "text": "What is it?"}]
    local = llm.chat([{"role": "user", "content": asked}], **GREEDY)
    assert whole["choices"] == local["choices"]
    details = whole["usage"]["prompt_tokens_details"]
    assert (details["image_tokens"], details["audio_tokens"], details["audio_pieces"]) == (
        64,
        10,
        1,
    )
    told = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last, done = events(chat(server, image(png()), sound, **told))
    words = "".join(one["choices"][0]["delta"].get("content", "") for one in chunks)
    assert words == whole["choices"][0]["message"]["content"] and done == "[DONE]"
    assert last["usage"]["prompt_tokens_details"]["image_tokens"] == 64
    two = chat(server, image(png()), n=2).json()
    assert len(two["choices"]) == 2 and two["usage"]["prompt_tokens_details"]["image_tokens"] == 64


def test_counting_and_templates(server):
    asked = [image(png()), {"type": "text", "text": "Hi"}]
    body = {"messages": [{"role": "user", "content": asked}]}
    counted = server.post("/v1/chat/completions/input_tokens", body).json()["input_tokens"]
    assert counted > 66
    assert "<|image|>Hi" in server.post("/apply-template", body).json()["prompt"]


def test_responses(server):
    parts = [
        {"type": "input_image", "image_url": f"data:image/png;base64,{png()}", "detail": "low"},
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_audio", "input_audio": {"data": wav(), "format": "wav"}},
    ]
    body = {"model": "m", "input": [{"role": "user", "content": parts}], "temperature": 0}
    found = server.post("/v1/responses", {**body, "max_output_tokens": 8})
    assert found.status_code == 200 and found.json()["usage"]["input_tokens"] > 64 + 10
    http = {"type": "input_image", "image_url": "http://127.0.0.1:9/a.png"}
    refused = server.post("/v1/responses", {**body, "input": [{"role": "user", "content": [http]}]})
    assert "this server fetches nothing" in error_of(refused, 400)["message"]


def test_messages(server):
    def post(source):
        content = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
        body = {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": content}]}
        return server.post("/v1/messages", body)

    good = {"type": "base64", "media_type": "image/png", "data": png()}
    found = post(good)
    assert found.status_code == 200
    usage = found.json()["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] > 64
    for source, words in (
        ({"type": "url", "url": "https://example.com/a.png"}, "fetches nothing"),
        ({**good, "data": png()[:200]}, "cannot be decoded"),
        ({**good, "data": "?"}, "is not base64"),
    ):
        refused = post(source)
        assert refused.status_code == 400 and words in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    "part, words",
    [
        (image(base64.b64encode(b"no picture").decode()), "no image that can be read"),
        (image(png()[:300]), "cannot be decoded|not base64"),
        ({"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a.png"}}, "data URLs only"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "data URLs only"),
        ({"type": "image_url", "image_url": {"url": "/etc/passwd"}}, "data URLs only"),
        ({"type": "image", "image": "/etc/passwd"}, "data URLs only"),
        ({"type": "image", "path": "/etc/passwd"}, "data URLs only"),
        ({"type": "image", "image": {"array": [1]}}, "without 'image'|must be a data URL"),
        (
            {"type": "audio", "audio": {"array": [0.5], "sampling_rate": 16000}},
            "must be a data URL",
        ),
        ({"type": "input_audio", "input_audio": {"data": wav(0.005)}}, "too short to hear"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA"}}, "no sound that can be read"),
        ({"type": "image_url", "image_url": {"url": 7}}, "must be a data URL"),
        ({**image(png()), "image_tokens": 71}, "it must be 70, 140"),
        (
            {"type": "image_url", "image_url": {"url": image(png()), "detail": "ultra"}},
            "detail|data",
        ),
    ],
)
def test_a_bad_medium_is_a_400_with_its_reason(server, part, words):
    import re

    message = error_of(chat(server, part), 400)["message"]
    assert re.search(words, message), message


def test_too_many_media(server):
    assert "more than 16" in error_of(chat(server, *[image(png(0))] * 17), 400)["message"]


def test_what_the_model_sees_and_hears_is_told(server, llm, pillion, tiny_target):
    assert server.get("/props").json()["modalities"] == {"vision": True, "audio": True}
    card = server.get("/v1/models").json()["data"][0]
    assert card["capabilities"] == ["completion", "multimodal"]
    assert card["meta"]["modalities"] == {"vision": True, "audio": True}
    with (
        pillion.LLM(tiny_target, n_ctx=256, drafter=None, mmproj=None) as blind,
        served(pillion, lambda check: blind) as other,
    ):
        assert other.get("/props").json()["modalities"] == {"vision": False, "audio": False}
        assert other.get("/v1/models").json()["data"][0]["capabilities"] == ["completion"]
        refused = error_of(chat(other, image(png())), 400)["message"]
        assert "was opened without an mmproj file" in refused and "--mmproj PATH" in refused


def test_bodies_have_room_for_pictures(server, llm, pillion, tiny_target):
    noise = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG", compress_level=0)
    large = image(base64.b64encode(out.getvalue()).decode())
    assert len(large["image_url"]["url"]) > 9 << 20
    found = chat(server, large)
    assert found.status_code == 200, found.text
    with (
        pillion.LLM(tiny_target, n_ctx=256, drafter=None, mmproj=None) as blind,
        served(pillion, lambda check: blind) as other,
    ):
        error_of(chat(other, large), 413, "body_too_large")
