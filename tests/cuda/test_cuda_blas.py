"""cuBLAS for long float products, through a fake library (tests/runners/fake_cublas.cpp) that the
emulated device opens in its place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# One product of `rows` rows in a process of its own: a library is looked for once. Prints the worst
# error over its bound, a digest of the results, how many products the fake made, how many
# handles it has left, or what went wrong.
CHILD = """
import ctypes, gc, hashlib, json, sys
sys.path[:0] = [sys.argv[1]]
import numpy as np
import op_cases as oc
from testing_ops import device, run_op
dtype, rows, fake = sys.argv[2], int(sys.argv[3]), sys.argv[4]
width, outputs = 72, 130
r = np.random.default_rng(5)
w = r.standard_normal((outputs, width)).astype(np.float32)
x = (r.standard_normal((rows, width)) * 10.0 ** r.integers(-6, 7, (rows, 1))).astype(np.float32)
weight = oc.Weight(dtype, width, outputs, values=w)
half = np.frombuffer(weight.data, np.uint16)
seen = half.view(np.float16) if dtype == "f16" else (half.astype(np.uint32) << 16).view(np.float32)
seen = seen.astype(np.float64).reshape(outputs, width)
said = {}
try:
    y = run_op("matmul", "cuda:sim", {"weight": weight, "x": x})["y"]
    want = x.astype(np.float64) @ seen.T
    scale = np.abs(x).astype(np.float64) @ np.abs(seen).T
    said["error"] = float((np.abs(y - want) / scale).max())
    said["digest"] = hashlib.sha256(y.tobytes()).hexdigest()
except Exception as error:
    said["failed"] = str(error)
if fake:
    library = ctypes.CDLL(fake)
    said["gemms"], said["handles"] = library.fake_gemms(), library.fake_handles()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    path = tmp_path_factory.mktemp("cublas") / "libcublas.so.13"
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(
        [os.environ.get("CXX", "g++"), *flags, ROOT / "tests/runners/fake_cublas.cpp", "-o", path],
        check=True,
    )
    return path


@pytest.fixture(scope="module", autouse=True)
def module():
    from testing_ops import device

    try:
        device("cuda:sim")
    except Exception as error:  # the test bindings has no exception of its own for it
        pytest.skip(f"no cuda:sim: {error} (make build makes it)")


def run(dtype, rows, fake=None, fails=""):
    environment = {**os.environ, "FAKE_CUBLAS": fails}
    if fake:
        environment["LD_LIBRARY_PATH"] = str(fake.parent)
    command = [sys.executable, "-c", CHILD, ROOT / "tests/support", dtype, rows, fake or ""]
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("dtype, products", [("f16", 1), ("bf16", 2)])
def test_long_products_go_through_it(fake, dtype, products):
    """With the accuracy of our own kernels: f16 rows are scaled, bf16 ones are two terms."""
    ours, theirs = run(dtype, 70), run(dtype, 70, fake)
    assert theirs["gemms"] == products and theirs["handles"] == 1
    assert theirs["digest"] != ours["digest"]  # another order of sums
    bound = 2.0**-11 if dtype == "f16" else 2.0**-15
    assert theirs["error"] < bound and ours["error"] < bound


@pytest.mark.parametrize("dtype, rows", [("f16", 9), ("bf16", 16), ("f16", 63)])
def test_short_ones_do_not(fake, dtype, rows):
    ours, theirs = run(dtype, rows), run(dtype, rows, fake)
    assert theirs["gemms"] == 0 and theirs["digest"] == ours["digest"]


def test_a_machine_on_which_it_does_not_start(fake):
    ours, theirs = run("f16", 70), run("f16", 70, fake, fails="create")
    assert theirs["gemms"] == 0 and theirs["digest"] == ours["digest"]


def test_a_product_that_fails(fake):
    said = run("bf16", 70, fake, fails="gemm")
    assert "product: cublasGemmEx gives status 13" in said["failed"]
