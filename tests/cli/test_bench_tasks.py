"""`pillion bench --tasks` and `pillion tune`."""

import importlib
import json

import pytest
from test_cli import pillion  # noqa: F401 - a fixture


@pytest.fixture
def pair_options():
    from pillion.models import TINY_ASSISTANT, TINY_TARGET

    return "-m", TINY_TARGET, "-md", TINY_ASSISTANT


def test_tasks(pillion, pair_options):  # noqa: F811
    command = ("bench", *pair_options, "--tasks", "-n", 24, "-r", 1, "--spec-draft-n-max", 3)
    rows = json.loads(pillion(*command, "--json").stdout)
    assert [one["task"] for one in rows[::3]] == ["code", "prose", "json", "copy_edit", "summary"]
    assert [one["mode"] for one in rows[:3]] == ["plain", "mtp", "lookup+mtp"]
    for one in rows:
        assert one["texts_equal"] and one["n"] == 24 and one["tokens_per_second"] > 0
        assert bool(one["acceptance_by_position"]) == (one["mode"] != "plain")
    shown = pillion(*command).stdout
    assert "copy_edit" in shown and "lookup+mtp" in shown and "DIFFER" not in shown


def test_tasks_with_lookup_alone_or_nothing(pillion, pair_options):  # noqa: F811
    for drafter, modes in (("lookup", {"plain", "lookup"}), ("none", {"plain"})):
        command = ("bench", *pair_options[:2], "-md", drafter, "--tasks", "-n", 8, "-r", 1)
        rows = json.loads(pillion(*command, "--json").stdout)
        assert {one["mode"] for one in rows} == modes


def test_a_plot_of_tasks(pillion, pair_options, tmp_path):  # noqa: F811
    pytest.importorskip("matplotlib")
    file = tmp_path / "tasks.png"
    result = pillion("bench", *pair_options, "--tasks", "-n", 8, "-r", 1, "--plot", file, "--json")
    assert result.returncode == 0 and file.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "options, said",
    [
        (["--tasks", "--parallel", "2"], "different measurements"),
        (["--tasks", "--synthetic-accept", "0.5"], "writes nonsense"),
        (["--tasks", "-n", "1000000"], "positions"),
    ],
)
def test_tasks_that_cannot_be(pillion, pair_options, options, said):  # noqa: F811
    result = pillion("bench", *pair_options, *options)
    assert result.returncode == 1 and said in result.stderr


def test_tune(pillion, pair_options):  # noqa: F811
    command = ("tune", *pair_options, "-d", 40, "-r", 1)
    threads, cache, draft = json.loads(pillion(*command, "--json").stdout)
    assert str(threads["choice"]) in threads["ms_per_token"]
    assert cache["choice"] in cache["ms_per_token"] and cache["depth"] == 40
    assert len(draft["run_ms"]) == 9 and draft["choice"] in ("auto", 0)
    lines = pillion(*command).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["-t", "--kv-type", "--spec-draft-n-max"]
    assert pillion("tune", pair_options[3]).returncode == 1


def test_the_choices_of_tune(monkeypatch):
    tune = importlib.import_module("pillion.benchmark.tune")
    assert tune.thread_counts(1) == [1] and tune.thread_counts(6) == [1, 2, 4, 6]
    length, speedup = tune.best_length(0.5, [10, 10, 10, 30], 0)
    assert length == 2 and speedup == pytest.approx(1.75)
    assert tune.best_length(0.1, [10, 20, 30], 1) == (0, 1.0)
    times = {}
    monkeypatch.setattr(tune, "_in_turns", lambda *_: times)
    for times, choice in (({1: 10.0, 2: 9.9, 4: 9.9}, 1), ({1: 10.0, 2: 6.0, 4: 5.95}, 2)):
        assert tune.tune_threads(None, [1], 1)["choice"] == choice
    for times, choice in (({"f16": 10.0, "q8_0": 9.9}, "f16"), ({"f16": 9.0, "q8_0": 8.0}, "q8_0")):
        assert tune.tune_cache(None, [1], 1, 1)["choice"] == choice
