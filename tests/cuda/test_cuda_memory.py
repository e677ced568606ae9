"""Parts of the CUDA backend that no op reaches, in the emulation, plainly and under sanitizers:
arenas, refused allocations, lost devices. And imports in slices."""

import re

import cuda_runner
import numpy as np
import pytest
from cuda_runner import CUDA, DEVICE, ON_GPU, ROOT, RUNTIME, SANITIZE

MEMORY = [ROOT / "tests/runners/cuda_memory_runner.cpp", CUDA / "cuda_arena.cpp"]


@pytest.mark.parametrize("flags", [["-O1"], SANITIZE], ids=["plain", "sanitized"])
def test_runner(flags, tmp_path):
    if ON_GPU:
        pytest.skip("faults and sanitizers are the emulation's")
    done = cuda_runner.run(cuda_runner.build([*MEMORY, *RUNTIME], tmp_path, flags))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    n, failures = map(
        int, re.search(r"(\d+) (?:checks|cases), (\d+) failures\n", done.stdout).groups()
    )
    assert n >= 1500 and failures == 0


@pytest.mark.parametrize("dtype, block_bytes", [("q8_0", 34), ("q4_k", 144)])
def test_a_weight_larger_than_a_slice(dtype, block_bytes):
    """Three slices of rows: each row is where a table of that row alone puts it."""
    import op_cases as oc
    from testing_ops import device, run_op

    try:
        device(DEVICE)
    except Exception as error:  # the test bindings has no exception of its own for it
        pytest.skip(f"no {DEVICE}: {error} (make build makes it)")
    width, inputs = 1024, 32 if dtype == "q8_0" else 256
    row = width // inputs * block_bytes
    rows = 40 * 2**20 // row
    data = np.random.default_rng(3).integers(0, 120, (rows, row), dtype=np.uint8)
    blocks = data.reshape(rows, -1, block_bytes)
    blocks[:, :, 1] = blocks[:, :, 3] = 0x20  # scales stay finite
    wanted = [
        0,
        1,
        62,
        rows // 3,
        rows // 2,
        2 * rows // 3 + 1,
        rows - 2,
        rows - 1,
        *range(15_000, 15_007),
    ]

    def embed(table, ids):
        weight = oc.Weight(dtype, width)
        weight.rows, weight.data = len(table), table.tobytes()
        return run_op(
            "embed",
            DEVICE,
            {"table": weight, "tokens": np.array(ids, np.int32).reshape(-1, 1)},
            {"scale": 1.0},
        )["y"]

    whole, few = embed(data, wanted), embed(data[wanted], range(len(wanted)))
    assert np.isfinite(whole).all() and whole.std() > 0
    assert whole.tobytes() == few.tobytes()
