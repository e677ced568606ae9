"""The programs in benchmarks/ run and say what they promise; how fast anything is, no test asks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "python/pillion/models/tiny-target.gguf"
MMPROJ = TARGET.with_name("tiny-mmproj.gguf")


def run(program, *arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.json"
    done = run(
        "cpu_report.py",
        "--model",
        TARGET,
        "--threads",
        1,
        "--depths",
        256,
        "--rows",
        "2-4",
        "-r",
        1,
        "--json",
        path,
    )
    assert done.returncode == 0, done.stderr
    return path


def test_cpu_report_measures_every_test(report):
    found = json.loads(report.read_text())
    assert found["model"] == "tiny-target.gguf"
    assert found["threads"] == 1
    results = {(one["test"], one["name"]): one for one in found["results"]}
    assert {test for test, _ in results} == {"rows", "prefill", "depth", "busy", "load", "memory"}
    assert {name for test, name in results if test == "depth"} == {
        "f16 cache, 256 positions",
        "q8_0 cache, 256 positions",
    }
    for (test, _), one in results.items():
        if test != "memory":
            assert one["median_ms"] > 0
        if test == "rows":
            assert one["share_of_int8_peak"] > 0
    assert {name for test, name in results if test == "rows"} == {f"{n} rows" for n in range(1, 5)}
    assert results["rows", "1 rows"]["over_one_row"] == 1
    assert results["memory", "peak"]["anonymous_mb"] > 1


def test_cpu_report_refuses_an_unknown_test():
    done = run("cpu_report.py", "--model", TARGET, "--only", "rows,speed")
    assert done.returncode == 2
    assert "no test is named speed" in done.stderr


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda one: None, 0),
        (lambda one: one.update(over_one_row=one["over_one_row"] * 0.5), 0),
        (lambda one: one.update(over_one_row=one["over_one_row"] * 2), 1),
    ],
    ids=["same", "better", "worse"],
)
def test_compare_results_fails_when_a_ratio_became_worse(report, tmp_path, change, status):
    found = json.loads(report.read_text())
    change(next(one for one in found["results"] if one["name"] == "4 rows"))
    after = tmp_path / "after.json"
    after.write_text(json.dumps(found))
    done = run("compare_results.py", report, after)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("WORSE" in done.stdout) == bool(status)


def test_compare_results_misses_what_is_gone(report, tmp_path):
    found = json.loads(report.read_text())
    found["results"] = [one for one in found["results"] if one["test"] != "prefill"]
    after = tmp_path / "after.json"
    after.write_text(json.dumps(found))
    done = run("compare_results.py", report, after)
    assert done.returncode == 1
    assert "512 tokens" in done.stdout
    assert "missing" in done.stdout


BATCHED_BENCH = """#!/bin/sh
if [ ! -e {mark} ]; then touch {mark}; exit 0; fi    # its log came too late once
while [ "$1" != -npl ]; do shift; done
echo '{{"pl": '$2', "speed_tg": 50.0}}'
"""


def test_pillion_beside_llama_at_several_users(tmp_path):
    """llama.cpp's program is a stand-in; pillion writes with the embedded pair."""
    program, out = tmp_path / "llama-batched-bench", tmp_path / "out.json"
    program.write_text(BATCHED_BENCH.format(mark=tmp_path / "mark"))
    program.chmod(0o755)
    command = [
        "--model",
        TARGET,
        "--draft",
        TARGET.with_name("tiny-assistant.gguf"),
        "--accept",
        0.7,
    ]
    command += ["--batched-bench", program, "--users", 1, 2, "-p", 16, "-n", 32, "--threads", 1]
    done = run("compare_llama_parallel.py", *command, "--repeats", 1, "--json", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert set(found["speeds"]) == {"1", "2"}
    for users, speeds in found["speeds"].items():
        ours = ["pillion plain", "pillion auto", "pillion fixed"]
        assert speeds["batched-bench"] == [50] and set(speeds) == {"batched-bench", *ours}
        for name in ours:
            over = found["results"][users][name]["over"]["batched-bench"]
            assert over["min"] == over["median"] == speeds[name][0] / 50
    assert done.stdout.count("| **") == 6


def test_pillion_beside_llama_needs_llama():
    done = run("compare_llama_parallel.py", "--model", TARGET)
    assert done.returncode == 2 and "--batched-bench or --llama-server" in done.stderr
    done = run(
        "compare_llama_parallel.py", "--model", TARGET, "--batched-bench", "x", "--accept", 1
    )
    assert done.returncode == 2 and "--accept needs --draft" in done.stderr


def test_synthetic_towers_have_the_published_shapes(pillion, tmp_path):
    out = tmp_path / "mmproj.gguf"
    done = run("make_synthetic_mmproj.py", out, "--size", "12b", "--type", "f16")
    assert done.returncode == 0, done.stderr
    assert "12b, f16, 122 MB" in done.stdout and out.stat().st_size == 122030880
    with pillion.Mmproj(out) as towers:
        assert towers.has_vision and towers.has_audio and towers.n_embd == 3840


def test_media_report_measures_all(tmp_path):
    out = tmp_path / "report.json"
    done = run(
        "media_report.py", "--mmproj", MMPROJ, "--model", TARGET, "--tokens", 70,
        "--seconds", 1, "-r", 1, "--json", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert len(found["picture, 70"]) == len(found["sound, 1 s"]) == 1
    assert found["memory"]["held"] > 0 and found["first"]["whole"] > 0
    assert len(done.stdout.splitlines()) == 4
