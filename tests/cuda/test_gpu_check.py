"""tools/gpu_check.sh and its table, as far as they go without a GPU."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "gpu_check.sh"
sys.path.insert(0, str(ROOT / "tools"))
import gpu_table


def run(*arguments, **environment):
    return subprocess.run(
        ["bash", str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PILLION_PYTHON": sys.executable, **environment},
    )


def test_without_a_gpu_it_says_so(tmp_path):
    if shutil.which("nvidia-smi") or Path("/etc/nv_tegra_release").exists():
        pytest.skip("this machine may have a GPU")
    done = run(tmp_path / "out", PILLION_TEST_CUDA="cuda")
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr == "gpu_check: the driver sees no NVIDIA GPU (nvidia-smi -L): nothing was run\n"
    )
    assert not (tmp_path / "out").exists()


def test_the_interpreter_has_another_pillion(tmp_path):
    """An editable install comes before what was built for the card, so it is said."""
    said = re.search(r'"\$python" -c "(import pillion, sys; .*)"', SCRIPT.read_text())[1]
    said = said.replace("$PWD/$build", str(tmp_path))
    assert subprocess.run([sys.executable, "-c", said]).returncode == 1


def test_every_suite_it_names_exists():
    names = set(re.findall(r"tests/\w+/test_\w+\.py", SCRIPT.read_text()))
    assert len(names) >= 6
    for name in names:
        assert (ROOT / name).is_file(), name
    # Whatever reads the variable belongs in the list.
    readers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.name != Path(__file__).name
        and re.search(
            r"environ.get\(\"PILLION_TEST_CUDA\"|from cuda_runner import", path.read_text()
        )
    }
    assert readers <= names


def measurements(scale, speedup=None):
    def one(test, ms, tokens, **facts):
        return {
            "test": test,
            "median_ms": ms * scale,
            "min_ms": ms,
            "tokens_per_second": 1e3 * tokens / (ms * scale),
            **facts,
        }

    results = [
        one("prefill", 100.0, 512, rows=512, n=512, ctx=0),
        one("decode", 1280.0, 128, rows=1, n=128, ctx=512),
    ]
    results += [
        one("verify", 10.0 + rows, rows, rows=rows, n=rows, ctx=512) for rows in range(1, 10)
    ]
    if speedup:
        drafter = dict(
            rows=4, n=128, ctx=512, n_draft=3, speedup=speedup, mean_tokens_per_round=2.5
        )
        results += [
            one("draft_step", 0.5, 1, rows=1, n=8, ctx=512, head="centroid"),
            one("decode_draft", 640.0, 128, **drafter),
        ]
    return results


def test_the_table(tmp_path):
    (tmp_path / "card.json").write_text(
        json.dumps({"card": "NVIDIA X", "driver": "580.1", "toolkit": "release 13.0"})
    )
    for n, scale in enumerate((1.0, 1.1, 0.9), 1):
        (tmp_path / f"e2b-plain-{n}.json").write_text(json.dumps(measurements(scale)))
        (tmp_path / f"e2b-drafter-{n}.json").write_text(json.dumps(measurements(scale, 1 + scale)))
    (tmp_path / "e4b-plain-1.json").write_text(json.dumps(measurements(2.0)))
    text = gpu_table.table(tmp_path, "make gpu")
    assert text.startswith("NVIDIA X, driver 580.1, release 13.0, 20")
    assert "3 processes each" in text
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| E")
    ]
    assert ["E2B", "prefill 512", "5120.0", "100.00", "20 %", ""] in rows
    assert ["E2B", "decode 128 after 512", "100.0", "1280.00", "20 %", ""] in rows
    assert ["E2B", "draft step, centroid head", "2000.0", "0.50", "20 %", ""] in rows
    assert [
        "E2B",
        "decode 128 with drafter, 2.50 tokens a round",
        "200.0",
        "640.00",
        "20 %",
        "2.00× of none",
    ] in rows
    assert ["E4B", "prefill 512", "2560.0", "200.00", "one process", ""] in rows
    assert [row[1] for row in rows if "verify" in row[1] and row[0] == "E2B"] == [
        f"verify {n} rows" for n in (1, 2, 4, 9)
    ]


def test_a_folder_without_measurements(tmp_path):
    (tmp_path / "card.json").write_text(json.dumps({"card": "-", "driver": "-", "toolkit": "-"}))
    with pytest.raises(SystemExit, match="holds no measurements"):
        gpu_table.table(tmp_path, "make gpu")


@pytest.mark.nightly
def test_a_dry_run_on_the_emulation(pillion, tmp_path):
    try:
        pillion.Model.open(ROOT / "tests/golden/tiny-e2b.gguf", device="cuda:sim").close()
    except pillion.NoBackendError as error:
        pytest.skip(f"no cuda:sim: {error} (make build makes it)")
    steps = dict(
        PILLION_GPU_STEPS="models bench table", PILLION_GPU_SIZES="e2b", PILLION_GPU_RUNS="1"
    )
    done = run(
        tmp_path,
        PILLION_TEST_CUDA="cuda:sim",
        PILLION_GPU_PYTEST="-k test_names_that_no_module_is_for",
        **steps,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r"\d+ passed", done.stdout)
    text = (tmp_path / "gpu.md").read_text()
    assert (
        text.startswith("SIMT emulation, no GPU")
        and "| E2B | prefill 8 |" in text
        and "with drafter" in text
    )


def test_a_step_that_fails(tmp_path):
    done = run(
        tmp_path,
        PILLION_TEST_CUDA="cuda:sim",
        PILLION_GPU_STEPS="bench table",
        PILLION_GPU_SIZES="nosuch",
        PILLION_GPU_RUNS="1",
    )
    assert done.returncode == 1
    assert "gpu_check: failed: bench nosuch table" in done.stderr
