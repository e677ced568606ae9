"""The audio tower of an mmproj file: rows beside those of transformers, counts, bad sounds."""

import threading

import media_files
import numpy as np
import pytest
from device_models import nmse

# NMSE of the rows. Products by float weights take float activations, which leaves the differences
# of float32 sums; quantized weights take int8 activations. f16 and bf16: what the rounding of the
# weights costs (the stored ones are bf16).
BOUNDS = {"f32": 1e-8, "bf16": 1e-8, "f16": 1e-6, "q8_0": 5e-4}
RANDOM = [
    (model, outtype, sound)
    for model in ("tiny-mm-e2b", "tiny-mm-12b")
    for outtype in BOUNDS
    for sound in ("short", "long")
]


def wave(name="long"):
    return media_files.golden("tiny-mm-e2b")[f"aud.{name}.wave"]


@pytest.mark.parametrize("model, outtype, sound", RANDOM)
def test_rows_equal_the_reference(opened, model, outtype, sound):
    golden = media_files.golden(model)
    rows = opened(model, outtype).encode_audio(golden[f"aud.{sound}.wave"])
    want = golden[f"aud.{sound}.embed"]
    assert rows.shape == want.shape and rows.dtype == np.float32
    assert nmse(rows, want) <= BOUNDS[outtype]


@pytest.mark.parametrize("sound", ["spoken-00", "spoken-03", "spoken-07"])
def test_rows_of_the_trained_tower(pillion, sound):
    from pillion.models import TINY_MMPROJ

    with pillion.Mmproj(TINY_MMPROJ) as mmproj:
        rows = mmproj.encode_audio(media_files.sound(f"{sound}.wav"))
    assert nmse(rows, media_files.golden("trained")[f"{sound}.embed"]) <= 1e-8


def test_threads_do_not_change_a_bit(opened):
    rows = [opened("tiny-mm-e2b", "q8_0", n).encode_audio(wave()) for n in (1, 2, 3)]
    assert (rows[0] == rows[1]).all() and (rows[0] == rows[2]).all()


@pytest.mark.parametrize("n, frames", [(20000, 124), (19700, 123), (19400, 121)])
def test_a_row_does_not_see_later_frames(opened, n, frames):
    """It stands for four frames: the last row changes when the sound ends within its four."""
    mmproj = opened("tiny-mm-e2b")
    whole, part = mmproj.encode_audio(wave()), mmproj.encode_audio(wave()[:n])
    assert len(part) == (frames + 3) // 4
    same = (whole[: len(part)] == part).all(1)
    assert same[:-1].all() and same[-1] == (frames % 4 == 0)


def test_a_longer_sound_and_a_shorter_one_again(opened):
    mmproj = opened("tiny-mm-e2b", "q8_0")
    first = mmproj.encode_audio(wave("short"))
    r = np.random.default_rng(3)
    half_a_minute = r.uniform(-0.5, 0.5, 480000).astype(np.float32)
    rows = mmproj.encode_audio(half_a_minute)
    assert rows.shape == (750, 64) and np.isfinite(rows).all()
    assert (mmproj.encode_audio(wave("short")) == first).all()


def test_frames_of_the_encoder_free_model_do_not_see_each_other(opened):
    mmproj = opened("tiny-mm-12b")
    sound = np.tile(wave(), 12)  # more than one run has
    rows = mmproj.encode_audio(sound)
    assert rows.shape == (602, 64)
    assert (rows[600:601] == mmproj.encode_audio(sound[600 * 640 : 601 * 640])).all()
    # the last frame is filled with zeros
    rest = sound[601 * 640 :]
    assert 0 < len(rest) < 640
    filled = np.concatenate([rest, np.zeros(640 - len(rest), np.float32)])
    assert (rows[601:] == mmproj.encode_audio(filled)).all()


@pytest.mark.parametrize(
    "n, tokens",
    [(0, 0), (160, 0), (161, 1), (320, 1), (800, 1), (801, 2), (16000, 25), (480000, 750)],
)
def test_counts(opened, n, tokens):
    mmproj = opened("tiny-mm-e2b")
    assert mmproj.audio_tokens(n) == tokens
    if tokens:
        assert mmproj.encode_audio(np.zeros(n, np.float32)).shape == (tokens, 64)


@pytest.mark.parametrize("n, tokens", [(0, 0), (1, 1), (640, 1), (641, 2), (960000, 1500)])
def test_counts_of_the_encoder_free_model(opened, n, tokens):
    assert opened("tiny-mm-12b").audio_tokens(n) == tokens


@pytest.mark.parametrize(
    "model, n, sentence",
    [
        ("tiny-mm-e2b", 0, "a sound of 0 samples is too short: gemma4a needs 161, at 16 kHz"),
        ("tiny-mm-e2b", 160, "a sound of 160 samples is too short: gemma4a needs 161"),
        ("tiny-mm-e2b", 480001, "of 480001 samples: gemma4a hears at most 480000, .* 30 seconds"),
        ("tiny-mm-12b", 0, "a sound of 0 samples is too short: gemma4ua needs 1,"),
    ],
)
def test_sounds_of_a_wrong_length(pillion, opened, model, n, sentence):
    with pytest.raises(pillion.UsageError, match=sentence):
        opened(model).encode_audio(np.zeros(n, np.float32))


@pytest.mark.parametrize("model", ["tiny-mm-e2b", "tiny-mm-12b"])
def test_a_sample_that_is_no_number(pillion, opened, model):
    sound = np.zeros(2000, np.float32)
    sound[1999] = np.nan
    with pytest.raises(pillion.UsageError, match="sample 1999 of the sound is nan"):
        opened(model).encode_audio(sound)
    sound[1999] = 0
    assert np.isfinite(opened(model).encode_audio(sound)).all()


def test_a_file_without_an_audio_tower(pillion, opened):
    mmproj = opened("tiny-mm-31b")
    assert not mmproj.has_audio and mmproj.describe()["audio"] is None
    for call in (lambda: mmproj.audio_tokens(1000), lambda: mmproj.encode_audio(np.zeros(1000))):
        with pytest.raises(pillion.UsageError, match="has no audio tower: it hears no sound"):
            call()


def test_many_threads_at_once(opened):
    mmproj = opened("tiny-mm-e2b", "q8_0")
    sounds = [wave()[: 3000 + 700 * n] for n in range(8)]
    want = [mmproj.encode_audio(sound) for sound in sounds]
    got = [None] * 8

    def encode(n):
        got[n] = mmproj.encode_audio(sounds[n])

    threads = [threading.Thread(target=encode, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((a == b).all() for a, b in zip(got, want, strict=True))


def test_what_it_says(opened):
    audio = opened("tiny-mm-e2b").describe()["audio"]
    assert audio["projector"] == "gemma4a" and audio["n_mel"] == 128
    assert (audio["n_embd"], audio["n_layers"], audio["n_heads"]) == (48, 2, 4)
    assert 0 < audio["file_bytes"] < opened("tiny-mm-e2b").file_bytes
    assert opened("tiny-mm-12b").describe()["audio"]["projector"] == "gemma4ua"
