"""pillion_log_mel beside the same formulas in NumPy's float64."""

import math

import media_files
import numpy as np
import pytest


def log_mel(pillion, samples, capacity=None):
    native = pillion._native
    samples = np.ascontiguousarray(samples, np.float32)
    needed = native.ffi.new("size_t*")
    given = native.ffi.from_buffer("float[]", samples) if len(samples) else native.ffi.NULL
    code = native.lib.pillion_log_mel(given, len(samples), native.ffi.NULL, 0, needed)
    assert code == (native.lib.PILLION_ERROR_BUFFER_TOO_SMALL if needed[0] else 0)
    out = np.empty(needed[0] if capacity is None else capacity, np.float32)
    view = native.ffi.from_buffer("float[]", out) if out.size else native.ffi.NULL
    native.check(native.lib.pillion_log_mel(given, len(samples), view, out.size, needed))
    return out.reshape(-1, 128)


def filters():
    mel = np.linspace(0, 2595 * math.log10(1 + 8000 / 700), 130)
    hertz = 700 * (10 ** (mel / 2595) - 1)
    bins = np.linspace(0, 8000, 257)[:, None]
    up = (bins - hertz[:-2]) / (hertz[1:-1] - hertz[:-2])
    down = (hertz[2:] - bins) / (hertz[2:] - hertz[1:-1])
    return np.maximum(0, np.minimum(up, down))


def in_float64(samples):
    x = np.concatenate([np.zeros(160), np.asarray(samples, np.float64)])
    starts = range(0, len(x) - 320, 160)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(320) / 320)
    frames = np.stack([x[at : at + 320] for at in starts]) * window
    return np.log(np.abs(np.fft.rfft(frames, 512)) @ filters() + 0.001)


def sound(n, seed=3):
    r = np.random.default_rng(seed)
    t = np.arange(n) / 16000
    tones = sum(np.sin(2 * np.pi * f * t + f) / (1 + f / 500) for f in (97, 440, 1234, 7900))
    return (0.3 * tones + 0.05 * r.standard_normal(n)).astype(np.float32)


# A floor under the logarithm in place of the sum, or squares in place of magnitudes, shows most
# where the sound is quiet.
@pytest.mark.parametrize("loudness", [1.0, 0.002, 1e-6])
@pytest.mark.parametrize("n", [161, 320, 321, 1000, 16000, 48123])
def test_equals_the_formulas(pillion, n, loudness):
    samples = sound(n) * np.float32(loudness)
    got = log_mel(pillion, samples)
    np.testing.assert_allclose(got, in_float64(samples), rtol=0, atol=1e-6)
    assert np.unique(got[:, 0]).tolist() == [np.float32(math.log(0.001))]  # catches no bin


@pytest.mark.parametrize("name", ["short", "long"])
def test_equals_the_reference(pillion, name):
    golden = media_files.golden("tiny-mm-e2b")
    got = log_mel(pillion, golden[f"aud.{name}.wave"])
    np.testing.assert_allclose(got, golden[f"aud.{name}.mel"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["spoken-00", "spoken-03", "spoken-07"])
def test_equals_the_reference_of_speech(pillion, name):
    got = log_mel(pillion, media_files.sound(f"{name}.wav"))
    np.testing.assert_allclose(got, media_files.golden("trained")[f"{name}.mel"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "n, frames", [(0, 0), (160, 0), (161, 1), (320, 1), (321, 2), (480000, 2999)]
)
def test_frames(pillion, n, frames):
    assert log_mel(pillion, np.zeros(n)).shape == (frames, 128)


def test_silence_is_the_floor(pillion):
    assert (log_mel(pillion, np.zeros(1000)) == np.float32(math.log(0.001))).all()


@pytest.mark.parametrize("value, word", [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_a_sample_that_is_no_number_is_refused(pillion, value, word):
    samples = np.zeros(500, np.float32)
    samples[417] = value
    native = pillion._native
    with pytest.raises(pillion.UsageError, match=f"sample 417 of the sound is {word}: "):
        given = native.ffi.from_buffer("float[]", samples)
        native.check(native.lib.pillion_log_mel(given, 500, native.ffi.NULL, 0, native.ffi.NULL))


def test_a_small_buffer_is_told(pillion):
    sentence = "480 samples give 256 floats, the buffer has 200"
    with pytest.raises(pillion.PillionError, match=sentence):
        log_mel(pillion, np.zeros(480), capacity=200)
