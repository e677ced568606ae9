"""Every CUDA kernel compiled by nvcc for the GPUs of Jetson Orin and of the datacentre; nothing
runs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import cuda_report

SAID = """
ptxas info    : Compiling entry function '_Z4copyPfS_' for 'sm_87'
ptxas info    : Function properties for _Z4copyPfS_
    0 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem, 384 bytes cmem[0]
ptxas info    : Compiling entry function '_Z4moved' for 'sm_87'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, 360 bytes cmem[0]
"""


def test_reading_what_ptxas_says():
    assert cuda_report.read_kernels(SAID) == [
        {"name": "_Z4copyPfS_", "registers": 40, "shared": 1024, "spill": 20},
        {"name": "_Z4moved", "registers": 8, "shared": 0, "spill": 0},
    ]


@pytest.mark.nightly
@pytest.mark.parametrize("arch", ["87", "90"])
def test_every_kernel_compiles_within_its_budget(arch):
    if cuda_report.nvcc() is None:
        pytest.skip(
            "nvcc is not installed: the CUDA kernels are run under emulation, "
            "but compiled by no CUDA compiler here"
        )
    kernels, faults = cuda_report.report([arch])
    assert not faults, "\n".join(faults)
    assert len(kernels) > 150
    assert {one["file"] for one in kernels} >= {
        "attention_decode.cu",
        "attention_tile.cu",
        "matvec_k.cu",
        "matmul_k.cu",
        "norm.cu",
        "kv_store.cu",
    }


def test_a_kernel_beyond_its_budget_is_a_fault(monkeypatch):
    found = [{"name": "_Z4moved", "registers": 255, "shared": 0, "spill": 4}]
    monkeypatch.setattr(cuda_report, "compile_one", lambda job: (job[0], job[1], found, None))
    _, faults = cuda_report.report(["87"], only=["norm"])
    assert len(faults) == 2
    assert "norm.cu, sm_87" in faults[0] and "spills 4 bytes" in faults[0]
    assert "255 registers" in faults[1]
    monkeypatch.setattr(
        cuda_report, "compile_one", lambda job: (job[0], job[1], [], "no such function")
    )
    assert (
        "does not compile for sm_87: no such function"
        in cuda_report.report(["87"], only=["norm"])[1][0]
    )
