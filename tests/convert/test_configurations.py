"""Checkpoints of every configuration that transformers reads: what pillion computes from the
converted file is what transformers computes. A sample with its logits is committed
(tests/configurations/make_goldens.py); random ones need torch and transformers, the extra
`reference`, which `make nightly` installs:

    .venv/bin/python -m pytest tests/convert/test_configurations.py -m nightly
"""

import collections
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path.append(str(TESTS / "configurations"))

import checkpoint_folder as folders  # noqa: E402
from random_configurations import KINDS, Case  # noqa: E402

GOLDEN = TESTS / "golden"
CASES = json.loads((GOLDEN / "configurations.json").read_text("utf-8"))
SINGLES = [name for name in CASES if not name.startswith("pair")]
PAIRS = [name for name in CASES if name.startswith("pair")]
N_RANDOM = 150  # of each kind


@pytest.fixture(scope="module")
def goldens():
    return np.load(GOLDEN / "configurations.npz")


@pytest.fixture(scope="module")
def convert(pillion):
    from pillion.convert import convert

    return convert


@pytest.fixture(scope="module")
def comparison():
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            pytest.skip("random configurations need the extra `reference`: torch and transformers")
    import comparison

    return comparison


# ---- the committed sample ----


def test_every_architecture_has_a_linear_one():
    assert len(SINGLES) == 5 * len(KINDS) and len(PAIRS) == 4
    for kind in KINDS:
        linear = [
            name
            for name in SINGLES
            if name.rsplit("-", 1)[0] == kind and '"linear"' in json.dumps(CASES[name][0]["config"])
        ]
        assert linear, kind


@pytest.mark.parametrize("name", SINGLES)
def test_logits_are_those_of_transformers(pillion, convert, goldens, tmp_path, name):
    case = Case(**CASES[name][0])
    folders.write_folder(tmp_path / "checkpoint", case)
    convert(tmp_path / "checkpoint", tmp_path / "out.gguf", outtype="f32", n_threads=1)
    found = folders.logits_of(pillion, tmp_path / "out.gguf", case.ids)
    expected = goldens[f"{name}.logits"]
    assert folders.nmse(found[[-13, -1]], expected) < folders.NMSE


@pytest.mark.parametrize("name", PAIRS)
def test_drafts_are_those_of_transformers(pillion, convert, goldens, tmp_path, name):
    pair = [Case(**part) for part in CASES[name]]
    paths = [tmp_path / "target.gguf", tmp_path / "assistant.gguf"]
    for path, case in zip(paths, pair):
        folders.write_folder(path.with_suffix(""), case)
        convert(path.with_suffix(""), path, outtype="f32", n_threads=1)
    start, token, logits, state = (
        goldens[f"{name}.{part}"] for part in ("start", "token", "logits", "state")
    )
    [(drafted, our_logits, our_state)] = folders.drafts_of(
        pillion, *paths, pair[0].ids, int(start), 1
    )
    assert folders.drafted_error(our_logits, our_state, logits, state) < folders.NMSE_DRAFTED
    assert drafted == token


# ---- random ones ----


def check(comparison, pillion, tmp_path, kind, numbers):
    counts = collections.Counter()
    for number in numbers:
        scratch = tmp_path / str(number)
        if kind == "pair":
            counts[comparison.compare_pair(pillion, number, scratch)] += 1
        else:
            counts[comparison.compare(pillion, kind, number, scratch)] += 1
        folders.remove(scratch)
    assert counts["same"] >= len(numbers) * 0.6, counts


@pytest.mark.nightly
@pytest.mark.parametrize("kind", [*KINDS, "pair"])
def test_random_configurations(comparison, pillion, tmp_path, kind):
    check(comparison, pillion, tmp_path, kind, range(N_RANDOM))
