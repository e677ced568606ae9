"""CPU matmul kernels and the weight packer, without the rest of the library.

Those of this machine (every table it can run), those of aarch64 under qemu where a cross compiler
is installed, and generic and the packer once more with the address and undefined-behaviour
sanitizers. They come out of the libraries that are built anyway, where those are as new as their
sources. Binaries are kept under the temporary directory by a hash, so a second run only runs.

The packer is compared with the gguf package (exact), generic with NumPy in double (a bound derived
below), every other table with generic (memcmp, in tests/runners/matmul_runner.cpp).
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from locked import built_core
from matmul_rows import CODES, HALVES, SCALE_INPUTS, TYPES, dequantize, random_rows

gguf = pytest.importorskip("gguf")

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
CPU = CSRC / "backends" / "cpu"
FLAGS = [
    "-std=c++17",
    "-O3",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-psabi",
    "-Wno-maybe-uninitialized",
    "-Wno-uninitialized",
    "-I",
    str(CSRC),
]  # the last two: false alarms of gcc 12's intrinsics
ISA_FLAGS = {
    "generic": [],
    "x86_avx2": ["-mavx2", "-mfma", "-mf16c"],
    "x86_avx_vnni": ["-mavx2", "-mfma", "-mf16c", "-mavxvnni"],
    "x86_avx512": [
        "-mavx512f",
        "-mavx512bw",
        "-mavx512vl",
        "-mavx512dq",
        "-mavx512vnni",
        "-mf16c",
        "-mfma",
    ],
    "arm_dotprod": ["-march=armv8.2-a+dotprod+fp16"],
    "arm_i8mm": ["-march=armv8.2-a+dotprod+fp16+i8mm"],
}
X86 = ["generic", "x86_avx2", "x86_avx_vnni", "x86_avx512"]
ARM = ["generic", "arm_dotprod", "arm_i8mm"]
IS_ARM = platform.machine() in ("aarch64", "arm64")
CROSS, QEMU = "aarch64-linux-gnu-g++", "qemu-aarch64"


def build(name, compiler, isas, extra, core=None):
    """core: an archive that holds the kernels already, compiled with the library's flags."""
    sources = [ROOT / "tests/runners/matmul_runner.cpp"]
    if core is None:
        sources += [CPU / "lane_pack.cpp"] + [CPU / isa / "matmul.cpp" for isa in isas]
    stamp = core and (core, core.stat().st_mtime_ns)
    digest = hashlib.sha256(repr((compiler, isas, extra, FLAGS, ISA_FLAGS, stamp)).encode())
    headers = [
        CSRC / "core/contract/blocks.h",
        *CPU.glob("*.h"),
        *CPU.glob("body/matmul*.inl"),
        *CPU.glob("*/simd.h"),
        *CPU.glob("*/dot.h"),
    ]
    for path in sorted(headers) + sources:
        digest.update(str(path).encode() + path.read_bytes())
    folder = (
        Path(tempfile.gettempdir())
        / f"pillion-matmul-{os.getuid()}"
        / f"{name}-{digest.hexdigest()[:16]}"
    )
    binary = folder / "runner"
    if binary.exists():
        return binary
    folder.mkdir(parents=True, exist_ok=True)

    def compile_one(source):
        isa = source.parent.name
        out = folder / f"{isa}-{source.stem}.o"
        subprocess.run(
            [compiler, *FLAGS, *ISA_FLAGS.get(isa, []), *extra, "-c", str(source), "-o", str(out)],
            check=True,
        )
        return str(out)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, reversed(sources)))  # the long ones first
    libraries = [str(core), "-pthread", "-ldl"] if core else []
    how = "-static" if compiler == CROSS else "-g"
    subprocess.run(
        [compiler, *extra, *objects, *libraries, how, "-o", str(binary) + ".new"], check=True
    )
    os.replace(str(binary) + ".new", binary)
    return binary


@pytest.fixture(scope="module", params=["native", "aarch64", "sanitize"])
def runner(request, tmp_path_factory):
    """runner(*arguments) -> number of checks; fails the test where one fails."""
    if request.param == "aarch64":
        if IS_ARM or not (shutil.which(CROSS) and shutil.which(QEMU)):
            pytest.skip("no cross compiler or emulator")
        core = request.getfixturevalue("arm64_build") / "libpillion_core.a"
        command = [QEMU, "-cpu", "max", str(build("aarch64", CROSS, ARM, [], core))]
    elif request.param == "sanitize":
        flags = [
            "-O1",
            "-DGENERIC_ONLY",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
        ]
        command = [str(build("sanitize", os.environ.get("CXX", "g++"), ["generic"], flags))]
    else:
        tables = ARM if IS_ARM else X86
        command = [str(build("native", os.environ.get("CXX", "g++"), tables, [], built_core()))]

    def run(*arguments):
        done = subprocess.run(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        found = re.search(r"(\d+) checks, (\d+) failures", done.stdout)
        return int(found[1]) if found else done.stdout.split()

    run.kind = request.param
    run.folder = tmp_path_factory.mktemp(request.param)
    return run


def test_tables_present(runner):
    tables = runner("tables_present")
    assert "generic" in tables
    if runner.kind == "aarch64":
        assert tables == ARM


def test_quantize(runner):
    assert runner("quantize") > 50000


@pytest.mark.parametrize("seed", [1, 2])
def test_tables_equal_generic(runner, seed):
    columns = 128 if seed == 1 or runner.kind == "native" else 9
    assert runner("tables", seed, columns) > 2000


@pytest.mark.parametrize("name", TYPES)
def test_pack(runner, name):
    rng = np.random.default_rng(list(TYPES).index(name))
    block = max(gguf.GGML_QUANT_SIZES[TYPES[name]][0], 1)
    for rows, inputs in [(1, block), (31, 2 * block), (32, 5 * block), (75, 11 * block)]:
        sources = [
            random_rows(name, rows, inputs, rng),
            random_rows(name, rows, inputs, rng, scales=False),
        ]
        try:
            sources.append(
                gguf.quants.quantize(
                    rng.standard_normal((rows, inputs)).astype(np.float32), TYPES[name]
                ).view(np.uint8)
            )
        except NotImplementedError:
            pass
        for number, data in enumerate(sources):
            source, result = runner.folder / "in", runner.folder / "out"
            np.ascontiguousarray(data).tofile(source)
            runner("pack", name, rows, inputs, source, result)
            out = np.fromfile(result, np.uint8)
            n = data.size
            assert np.array_equal(out[:n], data.reshape(-1)), "bytes"
            unpacked, direct = out[n:].view(np.uint32).reshape(2, rows, inputs)
            # any bytes at all: scales may be NaN, whose payload is nobody's contract
            if number != 1:
                expected = np.ascontiguousarray(dequantize(name, data, rows, inputs)).view(
                    np.uint32
                )
                assert np.array_equal(unpacked, expected), "values of the packed matrix"
                assert np.array_equal(direct, expected), "values of the file's row"
            else:
                assert np.array_equal(
                    np.isnan(unpacked.view(np.float32)), np.isnan(direct.view(np.float32))
                )


@pytest.mark.parametrize("name", TYPES)
def test_generic_against_double(runner, name):
    """|sum - exact| <= (n + 6) u A with u = 2^-24: each of the n fused steps rounds a partial sum
    that A bounds; a term itself has at most six roundings: scale, its product with the dot (exact:
    below 2^24), d_sum, and in the gguf package's values the scale, the product and the difference.
    A = sum (|weight| + 2 |minimum|) |x| bounds all partial sums, for |scale * code| <= |weight| +
    |minimum|."""
    rng = np.random.default_rng(100 + list(TYPES).index(name))
    rows, inputs, columns = 45, 1024, 5
    data = random_rows(name, rows, inputs, rng)
    x = rng.standard_normal((columns, inputs)).astype(np.float32)
    x[1] *= 100
    x[2, rng.random(inputs) < 0.9] = 0
    x[3] = np.abs(x[3])
    source, result = runner.folder / "in", runner.folder / "out"
    source.write_bytes(np.ascontiguousarray(data).tobytes() + x.tobytes())
    runner("reference", name, rows, inputs, columns, source, result)
    out = np.fromfile(result, np.uint8)
    got = out[-4 * rows * columns :].view(np.float32).reshape(columns, rows).astype(np.float64)
    weight = dequantize(name, data, rows, inputs).astype(np.float64)
    size = np.abs(weight)
    if name in HALVES:
        act = out[: -4 * rows * columns].reshape(inputs // 32, columns, 48)
        q = act[:, :, :32].view(np.int8).astype(np.float64)
        d = np.ascontiguousarray(act[:, :, 32:36]).view(np.float32).astype(np.float64)
        seen = (q * d).transpose(1, 0, 2).reshape(columns, inputs)
        assert np.abs(seen - x).max(axis=1).max() <= 0.51 * d.max()
        steps = inputs // SCALE_INPUTS.get(name, 32)
        if name in CODES:
            steps *= 2
            zeroed = data.reshape(-1, gguf.GGML_QUANT_SIZES[TYPES[name]][1]).copy()
            zeroed[:, slice(*CODES[name])] = 0
            size = size + 2 * np.abs(
                dequantize(name, zeroed.reshape(rows, -1), rows, inputs).astype(np.float64)
            )
    else:
        seen, steps = x.astype(np.float64), inputs
    error = np.abs(got - seen @ weight.T)
    bound = (steps + 6) * 2.0**-24 * (np.abs(seen) @ size.T)
    assert np.all(error <= bound), float((error / np.maximum(bound, 1e-300)).max())
