"""`StopFilter`: cut before the first stop string, and no part of it ever leaves (field case 24)."""

import itertools
import random

import pytest


def run(fake, stops, pieces):
    """(text that left, whether it stopped)."""
    stop_filter = fake.engine.stops.StopFilter(stops)
    out = "".join(stop_filter.feed(piece) for piece in pieces)
    if not stop_filter.stopped:
        out += stop_filter.flush()
    return out, stop_filter.stopped


@pytest.mark.parametrize(
    "stops, text, expected",
    [
        ([], "anything", ("anything", False)),
        (["END"], "one END two", ("one ", True)),
        (["END"], "one EN", ("one EN", False)),
        (["END"], "EEND", ("E", True)),
        (["aab"], "aaab", ("a", True)),
        (["\n\n"], "a\nb\n\nc", ("a\nb", True)),
        (["x", "END"], "an END x", ("an ", True)),
        (["🙂"], "a🙂b", ("a", True)),
        (["END"], "END", ("", True)),
    ],
)
def test_any_way_of_cutting_the_text_gives_the_same(fake, stops, text, expected):
    for n_cuts in range(min(len(text), 4)):
        for cuts in itertools.combinations(range(1, len(text)), n_cuts):
            edges = [0, *cuts, len(text)]
            pieces = [text[a:b] for a, b in zip(edges, edges[1:])]
            assert run(fake, stops, pieces) == expected, pieces


def test_nothing_of_a_stop_string_leaks_and_nothing_is_held_without_need(fake):
    stop_filter = fake.engine.stops.StopFilter(["STOP"])
    assert [stop_filter.feed(c) for c in "aSTxSTOP!"] == ["a", "", "", "STx", "", "", "", "", ""]
    assert stop_filter.stopped and stop_filter.flush() == ""


def test_random_texts_against_plain_search(fake):
    random.seed(1)
    for _ in range(500):
        stops = [
            "".join(random.choices("ab", k=random.randint(1, 4)))
            for _ in range(random.randint(1, 3))
        ]
        text = "".join(random.choices("abc", k=12))
        # character by character: the first stop to be complete wins
        out, stopped = run(fake, stops, text)
        ends = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
        if ends:
            end, minus = min(ends)
            assert (out, stopped) == (text[: end + minus], True)
        else:
            assert (out, stopped) == (text, False)


@pytest.mark.parametrize(
    "stops, texts, expected",
    [
        (["END", "STOP"], ["one ST", "OP END"], "STOP"),
        (["b", "ab"], ["ab"], "ab"),
        (["STOP", "ST"], ["STOP"], "STOP"),
        (["END"], ["EN"], None),
        ([], ["x"], None),
    ],
)
def test_which_stop_string_it_was(fake, stops, texts, expected):
    stop_filter = fake.engine.stops.StopFilter(stops)
    for text in texts:
        stop_filter.feed(text)
    assert stop_filter.stop == expected
