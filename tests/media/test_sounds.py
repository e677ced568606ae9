"""Sounds of all kinds become mono samples at 16 kHz, or an error that says why not."""

import base64
import io
import struct

import numpy as np
import pytest
import soundfile

from pillion import MediaError, UsageError
from pillion.media import read_sound
from pillion.media.sounds import pieces_of, seconds_of


def tone(seconds=0.5, rate=16_000, hertz=440.0, loud=0.5):
    return (loud * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("f4")


def saved(samples, rate, form="WAV", subtype=None):
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=form, subtype=subtype)
    return out.getvalue()


TONE = tone()


def test_every_way_to_hand_a_sound_over(tmp_path):
    data = saved(TONE, 16_000, subtype="FLOAT")
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    url = "data:audio/wav;base64," + base64.b64encode(data).decode()
    dataset = {"array": TONE.tolist(), "sampling_rate": 16_000, "path": None}
    for source in (path, str(path), path.as_uri(), data, url, TONE, (TONE, 16_000), dataset):
        found = read_sound(source)
        assert found.dtype == np.float32 and found.shape == TONE.shape
        assert np.allclose(found, TONE, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_rates_become_16_khz(rate):
    """The tone keeps its pitch, its loudness and its length."""
    found = read_sound(saved(tone(1.0, rate), rate, subtype="FLOAT"))
    assert abs(len(found) - 16_000) <= 1
    assert np.abs(found[500:-500] - tone(1.0)[500 : len(found) - 500]).max() < 2e-3


def test_resampling_is_that_of_soxr_at_once():
    import soxr

    noise = np.random.default_rng(0).standard_normal(150_001).astype("f4") / 4
    found = read_sound(saved(noise, 44_100, subtype="FLOAT"))
    assert np.allclose(found, soxr.resample(noise, 44_100, 16_000, quality="HQ"), atol=1e-6)


@pytest.mark.parametrize(
    "form, subtype, error",
    [
        ("WAV", "PCM_16", 1e-4), ("WAV", "PCM_24", 1e-6), ("WAV", "PCM_U8", 1e-2),
        ("WAV", "FLOAT", 1e-6), ("WAV", "DOUBLE", 1e-6), ("WAV", "ULAW", 3e-2),
        ("FLAC", "PCM_16", 1e-4), ("FLAC", "PCM_24", 1e-6), ("AIFF", "PCM_16", 1e-4),
    ],
)  # fmt: skip
def test_formats_without_loss(form, subtype, error):
    found = read_sound(saved(TONE, 16_000, form, subtype))
    assert found.shape == TONE.shape and np.abs(found - TONE).max() < error


@pytest.mark.parametrize("form, subtype", [("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_formats_with_loss(form, subtype):
    found = read_sound(saved(tone(1.0, 48_000), 48_000, form, subtype))
    assert abs(len(found) - 16_000) < 800
    spectrum = np.abs(np.fft.rfft(found[:16_000]))
    assert abs(int(spectrum.argmax()) * 16_000 / min(len(found), 16_000) - 440) < 3


def test_channels_are_averaged():
    other = tone(hertz=1000.0)
    stereo = np.stack([TONE, other], axis=1)
    expected = (TONE + other) / 2
    assert np.allclose(read_sound(saved(stereo, 16_000, subtype="FLOAT")), expected, atol=1e-6)
    assert np.allclose(read_sound((stereo, 16_000)), expected, atol=1e-6)
    many = np.repeat(TONE[:, None], 6, axis=1)
    assert np.allclose(read_sound(saved(many, 16_000, subtype="FLOAT")), TONE, atol=1e-6)


def test_arrays_of_whole_numbers():
    for kind, most in (("int16", 32768), ("int32", 2**31)):
        whole = np.round(TONE.astype("f8") * (most - 1)).astype(kind)
        assert np.allclose(read_sound(whole), TONE, atol=1e-4)
    assert np.allclose(read_sound(np.round(TONE * 127 + 128).astype("u1")), TONE, atol=2e-2)
    assert len(read_sound(TONE, rate=8_000)) == 2 * len(TONE)


NO_SOUNDS = [
    (b"", "it is empty"),
    (b"No sound at all, but a text.", "no sound that can be read: it begins with b'No sound"),
    (b"\x1aE\xdf\xa3\x01\0\0\0", "it is WebM or Matroska; WAV, FLAC, OGG and MP3 are read"),
    (b"\0\0\0\x20ftypM4A ", "it is MP4 or M4A"),
    (saved(TONE, 16_000)[:30], "no sound that can be read|is empty"),
    (saved(TONE, 16_000, "CAF")[:3], "begins with"),
    (saved(TONE[:0], 16_000), "is empty: it has no samples"),
    (saved(np.float32([0, np.nan]), 16_000, subtype="FLOAT"), "no numbers"),
    (np.float32([0, np.inf]), "no numbers"),
    (np.zeros((2, 2, 2), "f4"), r"it must be \[n\] or \[n, channels\]"),
    (np.zeros(9, bool), "must be float, int16 or int32"),
    (saved(TONE, 16_000, "VOC"), "is a VOC file; WAV, FLAC, OGG and MP3 are read"),
    ("http://example.com/a.wav", "nothing is fetched from the net"),
    ("/no/such/file.wav", "No such file"),
    ("data:audio/wav;base64,***", "is not base64"),
]


@pytest.mark.parametrize("source, reason", NO_SOUNDS, ids=range(len(NO_SOUNDS)))
def test_what_is_no_sound_is_told(source, reason):
    with pytest.raises(MediaError, match=reason):
        read_sound(source)


def test_wrong_rates():
    for rate in (0, 999, 400_000, "16000", 16e3):
        with pytest.raises(UsageError, match="the sample rate of the sound is"):
            read_sound(TONE, rate=rate)


def long_flac(seconds, rate):
    return saved(np.zeros(seconds * rate, np.int16), rate, "FLAC")


def claims(data, n):
    """A WAV whose head claims n bytes of samples."""
    return data[:40] + struct.pack("<I", n) + data[44:]


def test_limits_hold_before_anything_is_decoded():
    with pytest.raises(MediaError, match=r"lasts 30\.\d minutes; at most 30 are read"):
        read_sound(long_flac(1801, 2000))
    with pytest.raises(MediaError, match="at most 30"):
        read_sound(np.zeros(1801 * 1000, "f4"), rate=1000)
    assert len(read_sound(claims(saved(TONE, 16_000), 0x7FFFFFF0))) == len(TONE)  # the head lies
    with pytest.raises(MediaError, match="50,000,001 bytes"):
        read_sound(b"\0" * 50_000_001)


def test_strangers_name_no_files(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(saved(TONE, 16_000))
    for source in (str(path), path, path.as_uri(), "http://localhost/a.wav"):
        with pytest.raises(MediaError, match="data URL"):
            read_sound(source, files=False)


def test_pieces():
    """transformers cuts what is longer than 30 seconds off without a word."""

    def lengths(n, most=480_000):
        return list(map(len, pieces_of(np.zeros(n, "f4"), most)))

    assert lengths(61 * 16_000) == [480_000, 480_000, 16_000]
    assert lengths(480_000) == [480_000] and lengths(480_001) == [480_000, 1]
    assert lengths(0) == [0] and lengths(1_000_000, None) == [1_000_000]
    assert seconds_of(np.zeros(16_159, "f4")) == 1.0


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UsageError, match=r"needs soundfile: pip install 'pillion\[media\]'"):
        read_sound(b"RIFF")
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(UsageError, match=r"needs soxr: pip install 'pillion\[media\]'"):
        read_sound(TONE, rate=8_000)
