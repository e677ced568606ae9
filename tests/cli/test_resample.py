"""Rates of sound in pillion-run, beside soxr's."""

import subprocess

import numpy as np
import pytest
from locked import REPOSITORY


@pytest.fixture(scope="module")
def resample(tmp_path_factory):
    program = tmp_path_factory.mktemp("resample") / "resample_runner"
    sources = ["tests/runners/resample_runner.cpp", "csrc/run/resample.cpp"]
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Icsrc", *sources]
    subprocess.run([*command, "-o", program], check=True, cwd=REPOSITORY)

    def call(samples, rate_in, rate_out=16000):
        given = np.asarray(samples, np.float32).tobytes()
        done = subprocess.run(
            [program, str(rate_in), str(rate_out)], input=given, capture_output=True, check=True
        )
        return np.frombuffer(done.stdout, np.float32)

    return call


def tones(rate, n, frequencies):
    t = np.arange(n) / rate
    return sum(np.sin(2 * np.pi * f * t + f) / len(frequencies) for f in frequencies)


RATES = [8000, 11025, 16000, 22050, 24000, 44100, 48000, 96000, 44099]


@pytest.mark.parametrize("rate", RATES)
def test_what_both_rates_carry_stays(resample, rate):
    """Tones up to 0.9 of the lower rate's half, away from the ends."""
    most = 0.9 * min(rate, 16000) / 2
    frequencies = [50, 440, 0.5 * most, 0.9 * most, most]
    out = resample(tones(rate, rate // 2, frequencies), rate)
    assert len(out) == -(-(rate // 2) * 16000 // rate)
    want = tones(16000, len(out), frequencies)
    assert np.abs(out - want)[400:-400].max() < 2e-4


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_what_the_lower_rate_cannot_carry_is_gone(resample, rate):
    out = resample(tones(rate, rate // 2, [8100, 9000, 0.49 * rate]), rate)
    assert np.abs(out)[400:-400].max() < 2e-4


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_beside_soxr(resample, rate):
    soxr = pytest.importorskip("soxr", reason="the extra `media` is not installed")
    sound = tones(rate, rate, [100, 333, 1234, 3000]).astype(np.float32)
    got, want = resample(sound, rate), soxr.resample(sound, rate, 16000)
    n = min(len(got), len(want))
    assert abs(len(got) - len(want)) <= 1
    assert np.abs(got[:n] - want[:n])[400:-400].max() < 1e-3


def test_short_sounds(resample):
    assert len(resample([], 44100)) == 0
    assert len(resample([1.0], 44100)) == 1
    assert len(resample([1.0], 8000)) == 2
    assert (resample([0.5, 0.25], 16000) == [0.5, 0.25]).all()
