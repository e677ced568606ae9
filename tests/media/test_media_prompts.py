"""Prompts with media: the markers of the template become begin mark, ids and end mark; literals in
texts stay texts."""

import base64
import io

import gemma4_templates
import numpy as np
import pytest
from PIL import Image

from pillion import MediaError, UsageError

NAMES = {"image": ("<|image>", "<image|>"), "audio": ("<|audio>", "<audio|>")}
WORDS = [*NAMES["image"], *NAMES["audio"], "<|image|>", "<|audio|>", "<|video|>"]


def picture(shade, width=96, height=96):
    return np.full((height, width, 3), shade, np.uint8)


def url(shade, form="PNG", **size):
    out = io.BytesIO()
    Image.fromarray(picture(shade, **size)).save(out, form)
    return f"data:image/{form.lower()};base64," + base64.b64encode(out.getvalue()).decode()


def image(shade, **more):
    return {"type": "image_url", "image_url": {"url": url(shade), **more}}


def sound(seconds=0.4):
    return {"type": "audio", "audio": np.full(int(16_000 * seconds), 0.25, np.float32)}


def text(words):
    return {"type": "text", "text": words}


def user(*content):
    return {"role": "user", "content": list(content)}


@pytest.fixture
def eyes(stand_in):
    return stand_in()


@pytest.fixture
def llm(pillion, tiny_target, eyes):
    with pillion.LLM(tiny_target, n_ctx=2048, drafter=None, mmproj=eyes, image_tokens=70) as llm:
        yield llm


def prompt(llm, *messages, **options):
    return llm.requests.chat(list(messages), **options)[0].prompt


def spelled(llm, tokens):
    """The prompt as a text; a run of ids below 0 is its length."""
    out, at = "", 0
    while at < len(tokens):
        n = at
        while n < len(tokens) and tokens[n] < 0:
            n += 1
        if n > at:
            assert tokens[at:n] == list(range(tokens[at], tokens[at] - (n - at), -1))
            out += f"[{n - at}]"
        out += llm.tokenizer.decode([tokens[n]], special=True) if n < len(tokens) else ""
        at = n + 1
    return out


def test_a_picture_between_texts(llm, eyes):
    found = spelled(llm, prompt(llm, user(text("Look: "), image(9), text(" What is it?"))))
    asked = "Look:<|image>[64]<image|>What is it?"
    assert found == f"<bos><|turn>user\n{asked}<turn|>\n<|turn>model\n"
    assert eyes.encoded == [("image", (96, 96, 3), 70)]


def test_pictures_and_sounds_in_any_order_and_over_turns(llm):
    first = user(image(1), sound(), image(2), text("One."), text("Two."))
    answer = {"role": "assistant", "content": "Yes."}
    found = spelled(llm, prompt(llm, first, answer, user(text("And"), image(3))))
    assert found == (
        "<bos><|turn>user\n<|image>[64]<image|><|audio>[10]<audio|><|image>[64]<image|>One.\nTwo."
        "<turn|>\n<|turn>model\nYes.<turn|>\n"
        "<|turn>user\nAnd<|image>[64]<image|><turn|>\n<|turn>model\n"
    )


def test_equal_pictures_have_equal_ids_and_others_have_others(llm, eyes):
    """The second of two pictures of equal size is not the first again (llama.cpp #27313)."""
    tokens = prompt(llm, user(image(1), image(2), image(1)))
    one, two, three = np.array([one for one in tokens if one < 0]).reshape(3, 64).tolist()
    assert one == three and not set(one) & set(two)
    again = prompt(llm, user(image(1), image(2), image(1)), {"role": "assistant", "content": "a"},
                   user(image(4)))  # fmt: skip
    assert again[: tokens.index(two[0])] == tokens[: tokens.index(two[0])]
    assert len(eyes.encoded) == 3  # each picture once
    before = set(again)
    other = prompt(llm, user({**image(1), "image_tokens": 140}))
    assert not {one for one in other if one < 0} & before  # another budget is another medium
    jpeg = {"type": "image", "image": url(1, "BMP")}
    assert [one for one in prompt(llm, user(jpeg)) if one < 0] == one  # the same pixels


def test_literal_markers_stay_text(llm):
    for word in WORDS:
        words = f"Is {word} a token?"
        plain = {"role": "user", "content": words}
        found = prompt(
            llm, {"role": "system", "content": words}, user(text(words), image(5)), plain
        )
        inside = llm.tokenizer.encode(words, add_special=False, parse_special=False)
        assert sum(one < 0 for one in found) == 64
        controls = [llm.tokenizer.token_text(one) for one in found
                    if one >= 0 and llm.tokenizer.token_type(one) == "control"]  # fmt: skip
        assert controls.count("<|image>") == 1 and controls.count("<image|>") == 1
        assert not set(controls) & {"<|image|>", "<|audio|>", "<|video|>", *NAMES["audio"]}
        shown = spelled(llm, found)
        assert shown.count(words) == 3 and llm.tokenizer.decode(inside) == words
    tools = [{"type": "function", "function": {"name": "f", "description": "<|image|>"}}]
    with_tools = prompt(llm, user(image(6), text("<|image|>")), tools=tools)
    assert sum(one < 0 for one in with_tools) == 64


@pytest.mark.parametrize("name", ["FIRST", "LATER"])
def test_templates_that_know_no_media_get_the_markers_all_the_same(
    pillion, tiny_target, eyes, name
):
    source = getattr(gemma4_templates, name)
    options = {"n_ctx": 2048, "drafter": None, "mmproj": eyes, "chat_template": source}
    with pillion.LLM(tiny_target, image_tokens=70, **options) as llm:
        assert not llm._chat.template().media
        call = {"id": "1", "type": "function", "function": {"name": "see", "arguments": "{}"}}
        messages = [
            user(text("Look"), image(7), text("here")),
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": [text("a"), image(8), text("b")]},
        ]
        found = spelled(llm, prompt(llm, *messages))
        assert "Look<|image>[64]<image|>here" in found and "a<|image>[64]<image|>b" in found


def test_a_template_that_drops_a_picture_is_an_error(pillion, tiny_target, eyes):
    source = "{{ bos_token }}{% for m in messages %}{{ m.role }}{% endfor %}"
    options = {"n_ctx": 256, "drafter": None, "mmproj": eyes, "chat_template": source}
    with pillion.LLM(tiny_target, **options) as llm:
        sentence = "the messages have 1 image, but the chat template wrote markers of nothing"
        with pytest.raises(MediaError, match=sentence):
            llm.chat([user(image(1))])
        prompt(llm, user(text("Hi")))


def test_media_are_never_sampled(llm):
    request = llm.requests.chat([user(image(1))])[0]
    banned = {llm.tokenizer.token_text(one) for one in request.sampling.logit_bias}
    assert banned >= set(WORDS) and set(request.sampling.logit_bias.values()) == {-np.inf}
    assert not llm.requests.chat([user(text("Hi"))])[0].sampling.logit_bias


def test_budgets_of_parts(llm, eyes):
    parts = [
        image(1, detail="low"), image(2, detail="high"), image(3, detail="auto"),
        {**image(4), "image_tokens": 560}, {**image(5), "image_tokens": "auto"},
        image(6, image_tokens=140),
        {"type": "input_image", "image_url": url(7), "detail": "high"},
        {"type": "image", "image": Image.fromarray(picture(8)), "image_tokens": 280},
    ]  # fmt: skip
    prompt(llm, user(*parts))
    assert [budget for _, _, budget in eyes.encoded] == [70, 1120, 70, 560, 70, 140, 1120, 280]
    llm.media.image_tokens = "auto"
    prompt(llm, user({"type": "image", "image": picture(9, width=640, height=480)}))
    assert eyes.encoded[-1] == ("image", (480, 640, 3), 140)
    for wrong in ({**image(1), "image_tokens": 71}, image(1, detail="best")):
        with pytest.raises(UsageError, match="of the image of message 0 is"):
            prompt(llm, user(wrong))


def test_wrong_budgets_of_an_llm(pillion, tiny_target):
    for wrong in (100, "all"):
        with pytest.raises(UsageError, match="image_tokens is .*; it must be 70, 140"):
            pillion.LLM(tiny_target, image_tokens=wrong)


def test_long_sounds_are_heard_in_pieces_and_the_result_says_so(llm, eyes):
    request, make = llm.requests.chat([user(sound(61), sound(0.4), image(1))])
    assert eyes.encoded[:3] == [("audio", 480_000), ("audio", 480_000), ("audio", 16_000)]
    assert spelled(llm, request.prompt).count("<|audio>[1525]<audio|>") == 1
    assert llm.media.read([], False).counts() == {}
    counts = {"image_tokens": 64, "audio_tokens": 1535, "audio_pieces": 4}
    assert make(None).media_counts == counts
    with pytest.raises(
        MediaError, match="lasts 61 s.*in 3 pieces of 30 s, and its part says strict"
    ):
        prompt(llm, user({**sound(61), "strict": True}))
    prompt(llm, user({**sound(30), "strict": True}))


def test_a_tower_without_a_limit_hears_all_at_once(pillion, tiny_target, stand_in):
    ears = stand_in(audio="gemma4ua")
    with pillion.LLM(tiny_target, n_ctx=2048, drafter=None, mmproj=ears) as llm:
        prompt(llm, user(sound(61)))
    assert ears.encoded == [("audio", 61 * 16_000)] and not ears.is_closed


def test_sounds_too_short_to_hear(llm):
    def samples(n):
        return user({"type": "audio", "audio": np.full(n, 0.1, np.float32)})

    for n, reason in ((0, "it has no samples"), (160, "160 samples at 16 kHz, 10.0 ms")):
        with pytest.raises(MediaError, match=f"the sound of message 0 .*{reason}"):
            prompt(llm, samples(n))
    for n in (161, 320):
        assert sum(one < 0 for one in prompt(llm, samples(n))) == 1


def test_what_clients_call_media(llm, tmp_path):
    out = io.BytesIO()
    Image.fromarray(picture(1)).save(out, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(out.getvalue())
    plain = base64.b64encode(out.getvalue()).decode()
    parts = [
        image(1), {"type": "image_url", "image_url": url(1)},
        {"type": "input_image", "image_url": url(1)},
        {"type": "image", "image": out.getvalue()}, {"type": "image", "image": str(path)},
        {"type": "image", "url": url(1)}, {"type": "image", "path": path},
        {"type": "image", "base64": plain}, {"type": "image", "image": picture(1)},
    ]  # fmt: skip
    ids = [[one for one in prompt(llm, user(part)) if one < 0] for part in parts]
    assert all(one == ids[0] and len(one) == 64 for one in ids)


def test_what_clients_call_sounds(llm, tmp_path):
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.full(6400, 0.25, "f4"), 16_000, format="WAV", subtype="FLOAT")
    plain = base64.b64encode(out.getvalue()).decode()
    wav = {"data": plain, "format": "wav"}
    parts = [
        sound(), {"type": "input_audio", "input_audio": wav},
        {"type": "input_audio", "input_audio": {**wav, "data": "data:audio/wav;base64," + plain}},
        {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64," + plain}},
        {"type": "audio", "audio": out.getvalue()}, {"type": "audio", "base64": plain},
        {"type": "audio", "audio": (np.full(6400, 0.25, "f4"), 16_000)},
        {"type": "audio", "audio": {"array": [0.25] * 6400, "sampling_rate": 16_000}},
    ]  # fmt: skip
    ids = [[one for one in prompt(llm, user(part)) if one < 0] for part in parts]
    assert all(one == ids[0] and len(one) == 10 for one in ids)


@pytest.mark.parametrize(
    "part, reason",
    [
        ({"type": "image_url"}, "the image of message 0 is missing: .*without 'image_url'"),
        ({"type": "image_url", "image_url": {}}, "without 'image_url'"),
        ({"type": "image"}, "without 'image'"),
        ({"type": "input_audio", "input_audio": {"format": "wav"}}, "part has no 'data'"),
        ({"type": "input_audio", "input_audio": {"data": 5}}, "must be a data URL|base64"),
        ({"type": "input_audio", "input_audio": {"data": "a_b"}}, "is not base64"),
        ({"type": "image", "image": "/no/such.png"}, "No such file"),
        ({"type": "video", "video": "a.mp4"}, "has a part of type 'video'; texts, images"),
        ({"type": "audio", "audio": np.zeros(9), "strict": 1}, "strict of the sound of message 0"),
    ],
)
def test_parts_that_are_not_complete(llm, part, reason):
    with pytest.raises(UsageError, match=reason):
        prompt(llm, user(part))


def test_too_many_media(llm):
    prompt(llm, user(*[image(1)] * 16))
    with pytest.raises(MediaError, match="more than 16 images and sounds"):
        prompt(llm, user(*[image(1)] * 9), user(*[image(1)] * 8))


def test_files_of_strangers(llm, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(picture(1)).save(path)
    for part in (
        {"type": "image", "image": str(path)}, {"type": "image", "path": str(path)},
        {"type": "image_url", "image_url": {"url": path.as_uri()}},
        {"type": "image_url", "image_url": "http://localhost:1/a.png"},
        {"type": "audio", "audio": str(path)}, {"type": "audio", "audio": {"array": [0.5]}},
    ):  # fmt: skip
        with pytest.raises(MediaError, match="must be a data URL|reads data URLs only"):
            prompt(llm, user(part), media_files=False)
    assert sum(one < 0 for one in prompt(llm, user(image(1)), media_files=False)) == 64


def test_without_towers_there_is_no_answer(pillion, tiny_target, stand_in, tmp_path):
    target = tmp_path / "alone.gguf"
    target.write_bytes(tiny_target.read_bytes())
    for given, words in (
        (None, "was opened without an mmproj file"),
        ("auto", "no mmproj file beside"),
    ):
        with pillion.LLM(target, n_ctx=64, drafter=None, mmproj=given) as llm:
            with pytest.raises(MediaError, match=rf"{words}.*LLM\(…, mmproj=PATH\), --mmproj PATH"):
                llm.chat([user(image(1))])
            assert llm.media.towers.kinds == frozenset()
            llm.chat([user(text("Hi"))], max_tokens=2)  # texts still work
    blind, deaf = stand_in(vision=False), stand_in(audio=None)
    for towers, part, words in (
        (blind, image(1), "no vision tower, the model takes sounds only"),
        (deaf, sound(), "no audio tower, the model takes images only"),
    ):
        with pillion.LLM(target, n_ctx=64, drafter=None, mmproj=towers) as llm:
            with pytest.raises(MediaError, match=words):
                llm.chat([user(part)])


def test_towers_of_another_model(pillion, tiny_target, stand_in):
    sentence = "for a model of width 256, but .* has width 192: it belongs to another model"
    with pytest.raises(pillion.PairingError, match=sentence):
        pillion.LLM(tiny_target, mmproj=stand_in(256))
    with pytest.raises(pillion.ModelNotFoundError, match="there is no file /no/such.gguf"):
        pillion.LLM(tiny_target, mmproj="/no/such.gguf")
    with pytest.raises(UsageError, match="mmproj is 5; it must be 'auto', a path"):
        pillion.LLM(tiny_target, mmproj=5)


def test_rows_of_an_unfinished_request_stay(llm):
    cache = llm.media.cache
    cache.limit = 0
    request, _ = llm.requests.chat([user(image(1))])
    assert len(cache) == 1
    request.media.release()
    assert len(cache) == 0
    with pytest.raises(UsageError, match="the media of this request are gone"):
        llm.engine.submit(request)
    llm.requests.chat([user(image(1))])  # nobody submits it
    cache.sweep()
    assert len(cache) == 0


def test_an_id_that_no_medium_has(llm):
    request, _ = llm.requests.chat([user(image(1))])
    for prompt_ids in ([1, -100_000], [*request.prompt, min(request.prompt) - 1]):
        request.prompt = prompt_ids
        with pytest.raises(UsageError, match=r"token -\d+ of the prompt|of the prompt is -"):
            llm.engine.submit(request)
