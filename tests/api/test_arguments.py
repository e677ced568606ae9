"""Checks of arguments: what counts as a number, and sentences that name the argument, the value and
what is allowed."""

import decimal
import fractions
import importlib
import math
import pathlib

import numpy as np
import pytest


@pytest.fixture(scope="module")
def arguments(fake):
    return importlib.import_module("pillion_fake.arguments")


def refused(fake, check, *args, **kwargs):
    with pytest.raises(fake.UsageError) as caught:
        check(*args, **kwargs)
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3), np.int64(3)])
def test_whole_numbers(arguments, value):
    found = arguments.check_int("n", value, 0, 8)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize(
    "value", ["3", 3.0, True, np.True_, None, [3], math.nan, b"3", object(), 9, -1, 10**30]
)
def test_what_is_no_such_whole_number(arguments, fake, value):
    sentence = refused(fake, arguments.check_int, "n", value, 0, 8)
    assert sentence.startswith("n is ") and sentence.endswith(
        "; it must be a whole number from 0 to 8"
    )


@pytest.mark.parametrize(
    "value",
    [1, 1.0, np.float32(1), np.float64(1), np.int8(1), fractions.Fraction(1), decimal.Decimal(1)],
)
def test_numbers(arguments, value):
    found = arguments.check_number("x", value, 0, 1)
    assert found == 1 and type(found) is float


@pytest.mark.parametrize(
    "value",
    ["1", b"1", True, np.True_, None, [1], math.nan, math.inf, -0.1, 1.1, 10**400, object()],
)
def test_what_is_no_such_number(arguments, fake, value):
    assert "x is " in refused(fake, arguments.check_number, "x", value, 0, 1)
    assert (
        refused(fake, arguments.check_number, "x", 0, above=0)
        == "x is 0; it must be a number, above 0"
    )


def test_the_rest(arguments, fake):
    assert arguments.check_bool("b", np.bool_(True)) is True
    assert "True or False" in refused(fake, arguments.check_bool, "b", 1)
    assert arguments.check_text("t", "x") == "x" and "t is 5" in refused(
        fake, arguments.check_text, "t", 5
    )
    assert (
        arguments.check_choice("c", "a", ("a", None)) == "a"
        and arguments.check_choice("c", None, ("a", None)) is None
    )
    assert (
        refused(fake, arguments.check_choice, "c", 1, ("a", "b", True))
        == "c is 1; it must be 'a', 'b' or True"
    )
    assert (
        arguments.check_path("p", pathlib.Path("a/b")) == "a/b"
        and arguments.check_path("p", b"a") == "a"
    )
    for value in ("", "a\0b", 5, None):
        assert "p is " in refused(fake, arguments.check_path, "p", value)
    assert "m is [1]" in refused(fake, arguments.check_mapping, "m", [1])
    assert "f is 1" in refused(fake, arguments.check_callable, "f", 1)


def test_unknown_names_name_the_closest(arguments, fake):
    known = ("temperature", "top_k", "max_tokens")
    arguments.unknown_names("chat()", known, known)
    assert refused(fake, arguments.unknown_names, "chat()", ["temprature"], known) == (
        "chat() has no argument 'temprature'; did you mean temperature?"
    )
    assert "did you mean max_tokens?" in refused(
        fake, arguments.unknown_names, "f()", ["max-token"], known
    )
    assert refused(fake, arguments.unknown_names, "f()", ["zzz"], known).endswith(
        "it takes max_tokens, temperature, top_k"
    )


def test_a_value_is_shown_short_and_never_fails(arguments):
    class Bad:
        def __repr__(self):
            raise RuntimeError

    assert arguments.shown("a\nb" * 1000).endswith("…") and len(arguments.shown("x" * 1000)) == 60
    assert "Bad" in arguments.shown(Bad())
