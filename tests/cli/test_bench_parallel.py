"""`pillion bench --parallel`: what it prints and refuses. How fast anything is, no test asks."""

import json
import re
import subprocess
import sys

import pytest
from build import PACKAGE, REPOSITORY
from test_cli import pillion, toy  # noqa: F401 - fixtures

TINY = PACKAGE / "models" / "tiny-target.gguf"

SPREAD = {"median", "min", "max"}
FIELDS = {
    "test", "users", "mode", "draft", "ctx", "n", "repeats", "tokens_per_second", "over_one_plain",
    "over_plain", "over_one_user", "user_tokens_per_second", "first_token_ms", "gap_ms", "rounds",
    "rows_per_run", "tokens_per_round", "acceptance", "round_ms", "python_ms", "python_cpu_ms",
    "late", "simulated_acceptance",
}  # fmt: skip


@pytest.fixture(scope="module")
def of_tiny_pair():
    """Rows on the embedded pair."""
    command = [sys.executable, "-m", "pillion", "bench", TINY, "--parallel", "1,2", "-p", 24]
    command += ["-n", 48, "-r", 2, "--draft", "4,2", "--arrival", 200, "--json", "-t", 1]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_rows_of_the_tiny_pair(of_tiny_pair):
    rows = [one for one in of_tiny_pair if one["test"] == "parallel"]
    modes = [("plain", 0), ("auto", "auto"), ("fixed", [4, 2])]
    assert [(one["users"], one["mode"], one["draft"]) for one in rows] == [
        (n, *mode) for n in (1, 2) for mode in modes
    ]
    for one in rows:
        assert set(one) == FIELDS
        assert (one["ctx"], one["n"], one["repeats"]) == (24, 48, 2)
        for name in ("tokens_per_second", "over_one_plain", "over_plain", "over_one_user"):
            assert set(one[name]) == SPREAD and 0 < one[name]["min"] <= one[name]["max"]
        each = one["user_tokens_per_second"]
        assert each["min"] <= one["tokens_per_second"]["max"]
        assert one["first_token_ms"]["min"] > 0
        gaps = one["gap_ms"]
        assert (
            set(gaps) == {"median", "p95", "max"} and gaps["median"] <= gaps["p95"] <= gaps["max"]
        )
        assert one["rounds"] > 0 and one["round_ms"] > 0
        assert set(one["python_ms"]) == set(one["python_cpu_ms"]) == SPREAD
        assert one["simulated_acceptance"] is None
        if one["mode"] == "plain":
            assert one["acceptance"] is None and one["tokens_per_round"] == 1
            assert one["over_plain"] == {"median": 1, "min": 1, "max": 1}
        else:
            assert 1 <= one["tokens_per_round"] <= 9 and (one["rows_per_run"] or 1) >= 1
    assert rows[0]["over_one_plain"] == {"median": 1, "min": 1, "max": 1}
    fixed = rows[5]
    assert 0 < fixed["acceptance"] < 1 and fixed["tokens_per_round"] > 1


def test_the_page_tells_of_every_field(of_tiny_pair):
    page = (REPOSITORY / "docs" / "benchmarking.md").read_text(encoding="utf-8")
    tables = page[page.index("### JSON") :].split("| field of a row with ")[1:]
    for test, table in zip(("parallel", "arrival"), tables, strict=True):
        assert table.startswith(f'`"test": "{test}"`')
        fields = set(next(one for one in of_tiny_pair if one["test"] == test)) - {"test"}
        told = {
            name
            for line in table.splitlines()[2:]
            if line.startswith("| `")
            for name in re.findall(r"`(\w+)`", line.split("|")[1])
        }
        assert told == fields


def test_an_arrival_beside_a_text(of_tiny_pair):
    rows = [one for one in of_tiny_pair if one["test"] == "arrival"]
    assert [one["mode"] for one in rows] == ["plain", "auto", "fixed"]
    for one in rows:
        assert one["arriving"] == 200 and one["repeats"] == 2
        beside, longest = one["gap_beside_ms"], one["longest_gap_ms"]
        assert longest["max"] == beside["max"] >= beside["median"]
        assert one["latency_target_ms"] >= 150
        assert one["longest_over_target"] == longest["max"] / one["latency_target_ms"]
        assert one["first_token_ms"]["min"] > 0


def test_simulated_acceptance_of_several_users(pillion, toy, toy_drafter, strings):  # noqa: F811
    strings.slow(200)
    command = ("bench", toy, "--parallel", 2, "-p", 10, "-n", 60, "-r", 1)
    for accept, chance in ((0.7, 0.7), (2.5, 0.687)):
        rows = json.loads(pillion(*command, "--synthetic-accept", accept, "--json").stdout)
        assert [one["mode"] for one in rows] == ["plain", "auto", "fixed"]
        plain, auto, fixed = rows
        assert plain["simulated_acceptance"] is None
        assert auto["simulated_acceptance"] == pytest.approx(chance, abs=0.02)
        assert 0 < fixed["acceptance"] < 1 and 1 < fixed["tokens_per_round"] < 4
        assert all(one["over_one_user"] is None for one in rows)  # nobody asked for one user
    result = pillion(*command, "--synthetic-accept", 0.7)
    assert "fixed 3" in result.stdout and "acceptance is simulated" in result.stdout


def test_users_without_a_drafter(pillion, toy, strings):  # noqa: F811
    strings.slow(500)
    command = ("bench", toy, "--parallel", "2,2,1", "-md", "none", "-p", 10, "-n", 40, "-r", 1)
    rows = json.loads(pillion(*command, "--json").stdout)
    assert [(one["users"], one["mode"]) for one in rows] == [(1, "plain"), (2, "plain")]
    shown = pillion(*command, "--arrival", 40).stdout
    assert "no drafter" in shown and "of the latency target of 150 ms" in shown


def test_a_picture_of_users(pillion, toy, toy_drafter, strings, tmp_path):  # noqa: F811
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    strings.slow(200)
    file = tmp_path / "users.svg"
    command = ("bench", toy, "--parallel", "1,2", "-p", 10, "-n", 40, "-r", 1, "--plot", file)
    assert pillion(*command).returncode == 0
    drawn = file.read_text()
    assert drawn.startswith("<?xml") and len(drawn) > 5000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--parallel", "2,x"], "--parallel is 2,x; it is numbers of users, 1 to 64"),
        (["--parallel", "0"], "--parallel is 0; "),
        (["--parallel", "257"], "--parallel is 257; "),
        (["--parallel", ""], "--parallel is ; "),
        (["--draft", "3"], "--draft belongs to --parallel; for one user it is --spec-draft-n-max"),
        (["--arrival", "9"], "--arrival belongs to --parallel"),
        (["--parallel", "2", "--roofline"], "--roofline is for one user"),
        (["--parallel", "2", "--draft", "9"], "--draft is 9; it is draft lengths, 1 to 8"),
        (["--parallel", "2", "--draft", "auto"], "--draft is auto; "),
        (["--parallel", "2", "--spec-draft-n-max", "3"], "fixed lengths are --draft"),
        (["--parallel", "2", "-p", "4090"], "-p 4090 and -n 20 do not fit"),
        (["--parallel", "2", "--arrival", "4096"], "--arrival 4096 and -p 10 with"),
        (["--parallel", "2", "-md", "none", "--draft", "3"], "--draft needs a drafter"),
        (["--parallel", "2", "-md", "none", "--synthetic-accept", "0.5"], "needs a drafter"),
        (["--parallel", "2", "-md", "lookup", "--synthetic-accept", "0.5"], "needs an assistant"),
        (["--parallel", "2", "--synthetic-accept", "4.5"], "it can be 1 to 4"),
        (["--parallel", "2", "--synthetic-accept", "-0.5"], "it can be 1 to 4"),
        (["--parallel", "1", "-n", "1"], "a text of 1 tokens was over before all users wrote"),
    ],
)
def test_wrong_arguments_are_one_sentence(pillion, toy, toy_drafter, arguments, said):  # noqa: F811
    result = pillion("bench", toy, "-p", 10, "-n", 20, "-r", 1, *arguments)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("error: ") and said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_drafter_has_no_users(pillion, toy, toy_drafter):  # noqa: F811
    result = pillion("bench", toy_drafter, "--parallel", 2)
    assert result.returncode == 1 and "is a drafter" in result.stderr
