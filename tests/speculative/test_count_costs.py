"""Times by count: what is measured, between, and beyond."""

import random

import pytest
from testing_ops import testing


def costs(times, guess=0.05):
    known = testing.CountCosts(guess)
    for count, ms in times.items():
        for _ in range(5):
            known.add(count, ms)
    return known


def test_between_and_beyond():
    known = costs({2: 10.0, 4: 12.0, 8: 20.0})
    ms = known.curve(12)
    assert ms[1:9] == pytest.approx([10, 10, 11, 12, 14, 16, 18, 20])
    # beyond: by the slope of the upper half
    assert ms[9:] == pytest.approx([22, 24, 26, 28])


def test_the_first_guess():
    assert testing.CountCosts(0.05).curve(3)[1:] == pytest.approx([1, 1.05, 1.1])
    assert costs({1: 20.0}).curve(3)[1:] == pytest.approx([20, 21, 22])
    # of many, a further one costs at most half of their mean
    assert costs({64: 64.0}).curve(66)[64:] == pytest.approx([64, 64.5, 65])


def test_hope_takes_unmeasured_counts_as_cheap():
    known = costs({1: 10.0, 5: 30.0})
    assert known.curve(6, hopeful=True)[1:] == pytest.approx([10, 11, 12, 13, 30, 31])
    known.add(3, 100.0)  # once: perhaps an error
    assert known.curve(6, hopeful=True)[3] == pytest.approx(12)
    assert known.curve(6)[3] == pytest.approx(100)


def test_cold_runs_are_forgotten():
    known = testing.CountCosts(0.05)
    for ms in (80.0, 60.0, 10.0, 10.2):
        known.add(1, ms)
    assert known.curve(1)[1] == pytest.approx(10.1)


def test_outliers_count_little_and_changes_are_followed():
    known = testing.CountCosts(0.05)
    for i in range(200):
        known.add(4, 400.0 if i % 40 == 7 else 10.0)
    assert known.curve(4)[4] == pytest.approx(10, rel=0.02)
    for _ in range(200):
        known.add(4, 20.0)
    assert known.curve(4)[4] == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize("per_position", [0.0, 0.001, 0.01])
def test_positions_are_learnt(per_position):
    known, chance = testing.CountCosts(0.05), random.Random(3)
    positions = 0
    for i in range(600):
        positions = (positions + 13) % 6000
        noise = 1 + 0.1 * (2 * chance.random() - 1)
        known.add(2 + i % 3, (30 + per_position * positions) * noise, positions)
    assert known.per_position() == pytest.approx(per_position, rel=0.25, abs=0.0002)
    expected = 30 + per_position * 12000
    assert known.curve(3, positions=12000)[3] == pytest.approx(expected, rel=0.15)


def test_a_time_that_falls_with_positions_gives_no_negative_slope():
    known = testing.CountCosts(0.05)
    for i in range(200):
        known.add(1, 30 - 0.05 * i, 10 * i)
    assert known.per_position() == 0


def test_a_time_above_that_of_a_greater_count_is_an_error():
    known = costs({2: 10.0, 6: 14.0})
    known.add(4, 60.0)
    assert known.curve(6)[4] == pytest.approx(60)  # 6 was measured five times only
    for _ in range(5):
        known.add(6, 14.0)
    assert known.curve(6)[4] == pytest.approx(12)
