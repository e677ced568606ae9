"""Codes of the C library and exceptions."""

import pickle
import re

import pytest
from build import HEADER


def header_codes():
    return {
        name: int(value)
        for name, value in re.findall(r"(PILLION_ERROR_\w+) = (\d+)", HEADER.read_text())
    }


def test_every_code_of_the_header_has_its_class(fake):
    for name, code in header_codes().items():
        error = fake.errors.error_for(code, "a sentence")
        assert type(error) is not fake.PillionError, name
        assert (error.code, error.sentence, str(error)) == (code, "a sentence", "a sentence")


def test_class_codes_are_those_of_the_header(fake):
    codes = set(header_codes().values())
    for kind in fake.errors._BY_CODE.values():
        assert kind.code in codes
        assert kind.__doc__


def test_families(fake):
    assert issubclass(fake.UsageError, ValueError)
    assert issubclass(fake.ModelNotFoundError, FileNotFoundError)
    assert issubclass(fake.OutOfMemoryError, MemoryError)
    for kind in (fake.Busy, fake.Closed, fake.ContextFullError):
        assert issubclass(kind, fake.UsageError)
    for kind in (fake.UnsupportedModelError, fake.PairingError):
        assert issubclass(kind, fake.ModelFileError)
    for kind in (fake.NoBackendError, fake.DeviceLostError, fake.UnsupportedOpError):
        assert issubclass(kind, fake.BackendError)


def test_unknown_code_and_missing_sentence(fake):
    error = fake.errors.error_for(99, "")
    assert type(error) is fake.PillionError
    assert "99" in str(error)


def test_errors_travel_between_processes(fake):
    error = pickle.loads(pickle.dumps(fake.ModelNotFoundError("gone")))
    assert (str(error), error.code) == ("gone", 10)


@pytest.mark.parametrize(
    "code, name", [(12, "UnsupportedModelError"), (22, "OutOfMemoryError"), (23, "DeviceLostError")]
)
def test_a_failing_call_raises_with_the_librarys_sentence(fake, strings, toy_file, code, name):
    strings.fail("pillion_model_open", code, "layer 7 is no good")
    with pytest.raises(getattr(fake, name), match="layer 7 is no good") as caught:
        fake.Model.open(toy_file())
    assert caught.value.code == code
