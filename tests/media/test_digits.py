"""The trained towers of the package on held-out pictures and sounds, through all of `LLM`: decoded,
encoded, put into the prompt, answered."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from pillion.media import read_sound

SAMPLES = Path(__file__).resolve().parents[1] / "golden" / "media" / "samples"
LABELS = json.loads((SAMPLES / "labels.json").read_text())
ASKED = {"image": "What do you see?", "audio": "What do you hear?"}
SOME = ("digit-10.png", "spoken-03.wav")


@pytest.fixture(scope="module")
def llm(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=512) as llm:
        assert llm.pair is not None and not llm.media.towers.loaded
        llm.chat([{"role": "user", "content": "Hi"}], max_tokens=1)
        assert not llm.media.towers.loaded  # texts alone never open the file
        assert llm.media.towers.kinds == {"image", "audio"} and not llm.media.towers.loaded
        yield llm


def part(source, name="x.png"):
    kind = "image" if str(name).endswith("png") else "audio"
    return {"type": kind, kind: source}


def tokens(llm, *parts, asked="What do you see?", **options):
    content = [*parts, {"type": "text", "text": asked}]
    request, _ = llm.requests.chat(
        [{"role": "user", "content": content}], temperature=0, max_tokens=8, **options
    )
    return llm.engine.submit(request).result()


def check(llm, names, **options):
    for name in names:
        given = part(SAMPLES / name, name)
        found = tokens(llm, given, asked=ASKED[given["type"]], **options)
        assert found.text == LABELS[name]["label"] and found.finish_reason == "stop", name
        assert found.tokens == [one for one in LABELS[name]["answer_ids"] if one != 6]


@pytest.mark.parametrize("draft", [0, 4])
def test_all_samples(llm, draft):
    check(llm, LABELS, draft=draft)


@pytest.mark.parametrize("device", [pytest.param("cuda:sim", marks=pytest.mark.nightly), "htp:sim"])
def test_targets_on_other_devices(pillion, tiny_target, device):
    """The towers stay on the CPU; only rows cross."""
    with pillion.LLM(tiny_target, n_ctx=256, device=device) as llm:
        check(llm, SOME)


def test_a_picture_is_the_same_in_every_file(llm):
    name = "digit-04.png"
    upright = Image.open(SAMPLES / name).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(out, "PNG", exif=exif)
    clear = np.dstack([np.asarray(upright), np.full(upright.size[::-1], 255, "u1")])
    n = len(llm.media.cache)
    for source in (SAMPLES / name, upright, np.asarray(upright), out.getvalue(), clear):
        assert tokens(llm, part(source)).text == LABELS[name]["label"]
    assert len(llm.media.cache) <= n + 1  # all have the same pixels, so the same rows


def counted(llm, name):
    return llm.media.towers.open().audio_tokens(len(read_sound(SAMPLES / name)))


def test_two_pictures_and_a_sound_have_rows_of_their_own(llm):
    names = ("digit-04.png", "digit-10.png", "spoken-00.wav")
    parts = [part(SAMPLES / name, name) for name in names]
    both = tokens(llm, *parts)
    assert sum(one < 0 for one in both.prompt) == 64 + 64 + counted(llm, names[2])
    (first, second) = (tokens(llm, one).text for one in parts[:2])
    assert (first, second) == tuple(LABELS[name]["label"] for name in names[:2])


def test_over_turns(llm):
    first = {"role": "user", "content": [part(SAMPLES / "digit-04.png"), text("What do you see?")]}
    one = llm.chat([first], temperature=0, max_tokens=8)
    answer = {"role": "assistant", "content": one["choices"][0]["message"]["content"]}
    asked = {"role": "user", "content": [part(SAMPLES / "digit-10.png"), text("What do you see?")]}
    two = llm.chat([first, answer, asked], temperature=0, max_tokens=8)
    assert two["timings"]["cache_n"] >= one["usage"]["prompt_tokens"] - 1
    assert two["usage"]["prompt_tokens_details"]["image_tokens"] == 128


def text(words):
    return {"type": "text", "text": words}


def test_counts_of_the_tower(llm):
    """As many tokens as the encoder makes rows: 25 a second at any rate, in any form."""
    mmproj = llm.media.towers.open()
    for rate, channels, subtype in (
        (44_100, 2, "PCM_16"), (8_000, 1, "PCM_24"), (48_000, 6, "FLOAT"), (16_000, 1, "PCM_U8"),
    ):  # fmt: skip
        noise = np.random.default_rng(rate).standard_normal((3 * rate, channels)) / 8
        out = io.BytesIO()
        soundfile.write(out, noise, rate, format="WAV", subtype=subtype)
        samples = read_sound(out.getvalue())
        assert abs(mmproj.audio_tokens(len(samples)) - 75) <= 1
        assert len(mmproj.encode_audio(samples)) == mmproj.audio_tokens(len(samples))


def test_a_minute_in_pieces(pillion, tiny_target):
    minute = np.random.default_rng(0).standard_normal(61 * 16_000).astype("f4") / 8
    with pillion.LLM(tiny_target, n_ctx=2048, drafter=None) as llm:
        result = llm.chat([{"role": "user", "content": [part(minute, "x.wav")]}], max_tokens=1)
    details = result["usage"]["prompt_tokens_details"]
    assert (details["audio_tokens"], details["audio_pieces"]) == (750 + 750 + 25, 3)


def test_every_budget(llm):
    """What was trained with 70 tokens may write anything with more; the counts are those of the
    specification."""
    wanted = {70: 63, 140: 130, 280: 266, 560: 540, 1120: 1064}
    picture = np.zeros((480, 640, 3), np.uint8)
    mmproj = llm.media.towers.open()
    for budget, n in wanted.items():
        rows, cols = mmproj.image_grid(480, 640, budget)
        assert rows * cols == n
    given = {**part(picture), "image_tokens": "auto"}
    assert sum(one < 0 for one in tokens(llm, given).prompt) == 130
