"""A header's values of every wrong type and size, at every key that is read: the right reading, or
a sentence that names the key."""

import random
import struct
import subprocess

import header_values
import pytest
from build import REPOSITORY
from gguf_bytes import text
from header_values import ASSISTANT, BASES, GENERAL, MODEL, TOKENIZER, VALUES, Base, keys_of

GOLDEN = REPOSITORY / "tests" / "golden"
CASES = [
    (base, key, name) for base, arch in BASES.items() for key in keys_of(arch) for name in VALUES
]
SAMPLE = 250
ALIGNMENTS = {"1": 1, "true": 1, "4 in 8 bits": 4, "one whole": 4}
"""Values that move the tensors' data."""


@pytest.fixture(scope="module")
def bases():
    return {name: Base(GOLDEN / f"{name}.gguf") for name in BASES}


def uses(pillion, path, is_drafter):
    """Everything that reads a header, one by one."""
    from pillion.inspection import inspect_file

    yield "inspect", lambda: inspect_file(path)
    yield "quantize", lambda: pillion.quantize(path, None, "Q8_0", allow_requantize=True)
    yield "find_drafter", lambda: pillion.find_drafter(path)
    if is_drafter:
        yield "load", lambda: pillion.Model.open(path).close()
    else:
        yield "run", lambda: run(pillion, path)


def run(pillion, path):
    with pillion.LLM(path, n_ctx=64, n_threads=1, drafter=None) as llm:
        llm.complete([2, 5, 6], max_tokens=2, seed=1)
        try:
            llm.render_chat([{"role": "user", "content": "a"}])
        except pillion.UsageError:  # there is none, or an empty one
            assert llm.metadata.get("tokenizer.chat_template", "") == ""


def check(pillion, bases, path, case):
    """What went wrong with one case, as texts."""
    base, key, name = case
    entry, kind = VALUES[name]
    alignment = ALIGNMENTS.get(name, 32) if key == "general.alignment" else 32
    path.write_bytes(bases[base].with_value(key, entry, alignment))
    fits = header_values.fits(*case)
    wrong, refused = [], False
    for use, call in uses(pillion, path, base.endswith("assistant")):
        try:
            call()
        except pillion.ModelFileError as error:
            refused = True
            sentence = error.sentence
            if key not in sentence and not fits and kind != "nested":
                wrong.append(f"{case} {use}: does not name the key: {sentence}")
            if str(path) not in sentence and path.name not in sentence:
                wrong.append(f"{case} {use}: does not name the file: {sentence}")
        except pillion.PillionError as error:
            wrong.append(f"{case} {use}: {type(error).__name__}: {error}")
        except Exception as error:
            wrong.append(f"{case} {use}: {type(error).__name__}: {error}")
    if not refused and not fits and not wrong and header_values.is_read(base, key):
        wrong.append(f"{case}: read without a word")
    return wrong


def test_a_sample(pillion, bases, tmp_path):
    cases = random.Random(14).sample(CASES, SAMPLE)
    wrong = [one for case in cases for one in check(pillion, bases, tmp_path / "a.gguf", case)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.nightly
@pytest.mark.parametrize("base", BASES)
def test_all(pillion, bases, tmp_path, base):
    cases = [case for case in CASES if case[0] == base]
    wrong = [one for case in cases for one in check(pillion, bases, tmp_path / "a.gguf", case)]
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong)


def test_the_list_of_keys_is_whole():
    """A key that the sources read and the list lacks would not be tried."""
    known = {*GENERAL, *TOKENIZER, *MODEL, *ASSISTANT}
    found = header_values.keys_in_the_sources()
    assert len(found) > 50 and found - known == set()


def test_the_base_files_are_written_as_they_are(bases):
    for name, base in bases.items():
        key, entry = base.entries[3]
        assert base.with_value(key, entry[8 + len(key) :]) == (GOLDEN / f"{name}.gguf").read_bytes()


# ---- readers beside the model's ----


def test_what_a_file_recommends(pillion, bases, tmp_path):
    """The right reading of numbers in other clothes."""
    path = tmp_path / "a.gguf"
    for key, name, setting, value in [
        ("general.sampling.temp", "1", "temperature", 1),
        ("general.sampling.temp", "0.5", "temperature", 0.5),
        ("general.sampling.top_k", "-1", "top_k", 0),
        ("general.sampling.top_k", "4.0", "top_k", 4),
        ("general.sampling.penalty_last_n", "-300", "penalty_last_n", -1),
    ]:
        path.write_bytes(bases["tiny-e2b"].with_value(key, VALUES[name][0]))
        with pillion.LLM(path, n_ctx=64, drafter=None) as llm:
            assert getattr(llm.requests.defaults, setting) == value
    for name, words in {
        "text": 'is the string "abc"; it must be a finite number',
        "nan": "is not finite; it must be a finite number",
        "three wholes": "is the array [1, 2, 3]; it must be",
        "true": "is the bool true; it must be",
        "-1": "temperature is -1; it must be 0 or more",
    }.items():
        path.write_bytes(bases["tiny-e2b"].with_value("general.sampling.temp", VALUES[name][0]))
        with pytest.raises(pillion.ModelFileError) as caught:
            pillion.LLM(path, drafter=None)
        assert f"{path}: key general.sampling.temp" in str(caught.value) and words in str(
            caught.value
        )
        from pillion.inspection import inspect_file

        assert str(caught.value) in inspect_file(path)["warnings"]


SETTINGS = [key for key in GENERAL if key.startswith("general.sampling.")]


def test_pillion_run_reads_them_too(bases, libpillion, tmp_path):
    program, path = libpillion.parent / "pillion-run", tmp_path / "a.gguf"
    for number, key in enumerate(SETTINGS):
        for name in list(VALUES)[number % 3 :: 3]:
            path.write_bytes(bases["tiny-e2b"].with_value(key, VALUES[name][0]))
            command = [
                program,
                "-m",
                path,
                "-p",
                "a",
                "-n",
                "1",
                "-t",
                "1",
                "-c",
                "32",
                "-md",
                "none",
            ]
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=120
            )
            assert done.returncode in (0, 1) and "Sanitizer" not in done.stderr, (key, name, done)
            if done.returncode == 1:
                assert done.stderr.startswith("error: ") and str(path) in done.stderr
                assert key in done.stderr or name == "nested", done.stderr
            else:
                assert header_values.fits("tiny-e2b", key, name) or name in (
                    "4.0",
                    "number as text",
                ), (key, name)


@pytest.mark.parametrize("name", ASSISTANT)
def test_the_centroid_heads_keys(pillion, tmp_path, name):
    """Pieces of it that can't be used are told, and the dense head drafts."""
    from pillion.inspection import inspect_file
    from pillion.models import TINY_ASSISTANT

    base, path, key = Base(TINY_ASSISTANT), tmp_path / "a.gguf", f"gemma4-assistant.{name}"
    for value, (entry, kind) in VALUES.items():
        path.write_bytes(base.with_value(key, entry))
        try:
            facts = inspect_file(path)
        except pillion.ModelFileError as error:
            assert kind == "nested" and key in error.sentence
            continue
        said = [facts["reason"], *facts["warnings"]]
        fits = facts["drafter"] is not None and facts["drafter"]["head"] == "centroid"
        assert fits or any(name in (one or "") for one in said), (value, said)
        assert not fits or header_values.ASSISTANT[name] == "whole", value


@pytest.mark.parametrize("name", VALUES)
def test_an_importance_matrix(pillion, tmp_path, name):
    matrix = tmp_path / "m.gguf"
    raw = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + text("general.type") + VALUES[name][0]
    matrix.write_bytes(raw)
    with pytest.raises(pillion.PillionError) as caught:
        pillion.quantize(
            GOLDEN / "tiny-e2b.gguf", None, "Q8_0", imatrix=matrix, allow_requantize=True
        )
    assert (
        isinstance(caught.value, pillion.ModelFileError)
        and "general.type" in str(caught.value)
        and str(matrix) in str(caught.value)
    )
