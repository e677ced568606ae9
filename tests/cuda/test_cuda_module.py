"""The CUDA module: found on demand, refused with one sentence, alike for both compilers."""

import ctypes
import subprocess
from pathlib import Path

import pytest
from module_package import in_a_package_with

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(pillion):
    """Where the package looks for modules: beside its compiled part."""
    return Path(pillion._capi.__file__).parent


@pytest.fixture
def sim(folder):
    path = folder / "libpillion_cuda_sim.so"
    if not path.exists():
        pytest.skip(f"{path} is not built: make build")
    return path


def refusal(pillion, model, device):
    with pytest.raises(pillion.NoBackendError) as caught:
        pillion.Model.open(model, device=device)
    return str(caught.value)


def test_without_the_module(pillion, folder, tiny_target):
    if (folder / "libpillion_cuda.so").exists():
        pytest.skip("the module is installed")
    for device in ("cuda", "cuda:0", "cuda:3"):
        sentence = refusal(pillion, tiny_target, device)
        assert (
            sentence
            == f'device "{device}": its module libpillion_cuda.so is not installed in {folder}'
        )
    cuda = {b["name"]: b for b in pillion.devices.system()["backends"]}["cuda"]
    assert not cuda["available"] and "not installed" in cuda["reason"]


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:-1", "cuda:1234", "cudas", "rocm"])
def test_names_that_no_module_is_for(pillion, tiny_target, device):
    assert f'device "{device}" is not built into this library' in refusal(
        pillion, tiny_target, device
    )


AUTO = """
import sys
import pillion
with pillion.Model.open(sys.argv[1], device=sys.argv[2]) as model, model.context(64) as context:
    print(pillion.device(sys.argv[2])["name"], context.describe()["backend"])
    print(model.describe()["arch"])
"""


def test_a_file_that_is_no_module(folder, tiny_target, tmp_path):
    sentence = in_a_package_with(folder, b"not an object", tiny_target, "cuda", tmp_path)
    assert sentence.startswith('device "cuda": its module does not load: ') and "\n" not in sentence


def test_a_library_that_is_no_module(folder, libpillion, tiny_target, tmp_path):
    sentence = in_a_package_with(folder, libpillion, tiny_target, "cuda", tmp_path)
    assert "has no function pillion_module_backend" in sentence


def test_a_device_number_that_is_not_there(folder, sim, tiny_target, tmp_path):
    """The emulation in the place of the real module: it has one device."""
    assert (
        in_a_package_with(folder, sim, tiny_target, "cuda:7", tmp_path)
        == 'device "cuda:7": the emulation has one device, not number 7'
    )


def test_auto_takes_the_device_that_is_there(folder, sim, tiny_target, tmp_path):
    """The emulation in the place of the real module; without it "auto" is the CPU."""
    assert (
        in_a_package_with(folder, sim, tiny_target, "auto", tmp_path / "with", script=AUTO)
        == "cuda cuda"
    )
    assert (
        in_a_package_with(
            folder, sim, tiny_target, "auto", tmp_path / "without", name="other.so", script=AUTO
        )
        == "cpu cpu"
    )


def test_another_build(sim):
    class Request(ctypes.Structure):
        _fields_ = [
            ("build_id", ctypes.c_char_p),
            ("device", ctypes.c_int32),
            ("log", ctypes.c_void_p),
        ]

    entry = ctypes.CDLL(str(sim)).pillion_module_backend
    entry.restype = ctypes.c_void_p
    reason = ctypes.create_string_buffer(512)
    assert entry(ctypes.byref(Request(b"0.0.1-0123456789abcdef", 0, None)), reason) is None
    assert b"0.0.1-0123456789abcdef" in reason.value and b"another build" in reason.value


def test_it_exports_one_function(sim):
    names = subprocess.run(
        ["nm", "-D", "--defined-only", sim], capture_output=True, text=True, check=True
    ).stdout.split()
    assert names[2::3] == ["pillion_module_backend"]
