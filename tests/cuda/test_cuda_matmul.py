"""CUDA matmul kernels, in the emulation on the CPU (docs: csrc/backends/cuda/sim): packing,
quantization, products of every format.

The runner is compiled once and kept by a hash of its sources. Everything is compared with NumPy in
double. Inputs are rounded here as the kernels say they do (int8 blocks, f16 rows, two bf16 terms),
so the bounds are those of f32 sums, not of the quantization."""

import hashlib
import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
import cuda_runner
from cuda_runner import CUDA, ON_GPU, ROOT, RUNTIME, SANITIZE
from matmul_rows import CODES, HALVES, SCALE_INPUTS, TYPES, dequantize, random_rows

KERNELS = CUDA / "kernels"
SOURCES = [
    *(
        KERNELS / name
        for name in "matmul_k.cu matvec_k.cu matmul_plain.cu matvec_plain.cu matmul_expanded.cu "
        "matvec_expanded.cu".split()
    ),
    *(KERNELS / name for name in "matvec_float.cu matmul_float.cu".split()),
    *(
        KERNELS / name
        for name in (
            "matmul_unpack.cu quantize.cu matmul_group.cu matmul.cpp blas.cpp repack.cpp"
        ).split()
    ),
    *RUNTIME,
    ROOT / "csrc/core/dtype.cpp",
    ROOT / "tests/runners/cuda_matmul_runner.cpp",
]
BUILDS = {"plain": ["-O2"], "sanitize": SANITIZE}
OPS = {"matmul": 0, "moe": 1, "clusters": 2, "unpack": 3, "prepare": 4}
Q8, F16, BF16 = 1, 2, 3  # InputKind
FEW_ROWS = 16
UNWRITTEN = np.uint32(0xFFFFFFFF)


def build(kind):
    flags = BUILDS[kind]
    digest = hashlib.sha256(repr(cuda_runner.compiler(flags)).encode())
    headers = [*CUDA.rglob("*.h"), *CUDA.rglob("*.cuh"), *(ROOT / "csrc/core").glob("*.h")]
    ready = [cuda_runner.ready_object(source) for source in SOURCES]
    digest.update(repr([path and path.stat().st_mtime_ns for path in ready]).encode())
    for path in sorted(headers) + SOURCES:
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    folder = (
        Path(tempfile.gettempdir())
        / f"pillion-cuda-matmul-{os.getuid()}"
        / f"{kind}-{digest.hexdigest()[:16]}"
    )
    binary = folder / "runner"
    if binary.exists():
        return binary
    folder.mkdir(parents=True, exist_ok=True)
    objects = cuda_runner.objects(SOURCES, folder, flags, ready=kind == "plain")
    cuda_runner.link(objects, f"{binary}.new", flags)
    os.replace(f"{binary}.new", binary)
    return binary


class Runner:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder

    def __call__(self, jobs, order="forward"):
        """jobs: (op, type name, (rows, width, depth), rows_max, count or None, p, blobs). Result
        bytes of each."""
        source, result = self.folder / "in", self.folder / "out"
        with open(source, "wb") as f:
            for op, name, (rows, width, depth), rows_max, count, p, blobs in jobs:
                head = [
                    OPS[op],
                    int(TYPES[name]),
                    rows,
                    width,
                    depth,
                    rows_max,
                    -1 if count is None else count,
                    *p,
                ]
                f.write(struct.pack("12i", *head, *[0] * (12 - len(head))))
                for blob in [*blobs, *[np.zeros(0, np.uint8)] * (3 - len(blobs))]:
                    data = np.ascontiguousarray(blob).tobytes()
                    f.write(struct.pack("q", len(data)) + data)
        done = cuda_runner.run(
            self.binary, source, result, PILLION_SIM_ORDER=order, PILLION_SIM_THREADS="2"
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        data, at, out = result.read_bytes(), 0, []
        while at < len(data):
            n = struct.unpack_from("q", data, at)[0]
            out.append(np.frombuffer(data, np.uint8, n, at + 8))
            at += 8 + n
        assert len(out) == len(jobs)
        return out


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return Runner(build("plain"), tmp_path_factory.mktemp("cuda-matmul"))


def floats(data, *shape):
    return data.view(np.float32).reshape(shape)


def bits(data):
    return np.ascontiguousarray(data).view(np.uint32)


def block_of(name):
    return max(32, gguf.GGML_QUANT_SIZES[TYPES[name]][0]) if name in HALVES else 1


# ---- what the kernels see ----


def quantize(x):
    """int8 blocks of 32: codes and d, bit for bit those of the kernel."""
    blocks = x.reshape(-1, 32)
    top = np.abs(blocks).max(axis=1)
    bad, small = ~np.isfinite(blocks).all(axis=1), top < np.float32(2.0**-110)
    with np.errstate(all="ignore"):
        inverse = np.where(bad | small, np.float32(0), np.float32(127) / top)
        codes = np.rint(
            np.where((bad | small)[:, None], np.float32(0), blocks * inverse[:, None])
        ).astype(np.int8)
        d = np.where(
            bad, np.float32(np.nan), np.where(small, np.float32(0), top / np.float32(127))
        ).astype(np.float32)
    return codes.reshape(x.shape), d.reshape(*x.shape[:-1], -1)


def bf16(x):
    b = np.ascontiguousarray(x).view(np.uint32)
    return ((b + 0x7FFF + (b >> 16 & 1)) & 0xFFFF0000).view(np.float32)


def seen_by(name, x, few):
    """x as the product of a format reads it, in double."""
    if name in HALVES:
        codes, d = quantize(x)
        return (codes.reshape(*d.shape, 32).astype(np.float64) * d[..., None]).reshape(x.shape)
    if few or name == "F32":
        return x.astype(np.float64)
    if name == "F16":
        top = np.abs(x).max(axis=1, keepdims=True).astype(np.float64)
        shift = 14 - np.floor(np.log2(np.where(top > 0, top, 1.0)))
        return (x * np.exp2(shift)).astype(np.float32).astype(np.float16).astype(
            np.float64
        ) / np.exp2(shift)
    return bf16(x).astype(np.float64) + bf16(x - bf16(x))


def exact(name, data, x, rows, width, few):
    """The product in double, and a bound of the kernel's error.

    u = 2^-24. Each fused step rounds a partial sum that A bounds, and so do the four additions that
    join lanes; a term itself has at most six roundings (test_matmul_kernels.py). Float sums on
    tensor cores are checked as if every product were added by itself. A = sum (|weight| + 2
    |minimum|) |x|."""
    weight = dequantize(name, data, rows, width).astype(np.float64)
    seen, size = seen_by(name, x, few), np.abs(weight)
    steps = width // SCALE_INPUTS.get(name, 32) if name in HALVES else 2 * width
    if name in CODES:
        steps *= 2
        zeroed = data.reshape(-1, gguf.GGML_QUANT_SIZES[TYPES[name]][1]).copy()
        zeroed[:, slice(*CODES[name])] = 0
        size = size + 2 * np.abs(
            dequantize(name, zeroed.reshape(rows, -1), rows, width).astype(np.float64)
        )
    return seen @ weight.T, (steps + 10) * 2.0**-24 * (np.abs(seen) @ size.T)


def activations(rng, n, width):
    x = rng.standard_normal((n, width)).astype(np.float32)
    if n > 1:
        x[1] *= 100000  # overflows f16 unless rows are scaled
    if n > 2:
        x[2, rng.random(width) < 0.9] = 0
    if n > 3:
        x[3] = np.abs(x[3]) * np.float32(1e-6)
    return x


def assert_within(got, expected, bound):
    error = np.abs(got.astype(np.float64) - expected)
    assert np.all(error <= bound), float((error / np.maximum(bound, 1e-300)).max())


# ---- inputs ----


def test_quantize(runner):
    """Bytes, sums and the padding of an odd number of blocks; NaN, infinities, zeros,
    subnormals."""
    rng = np.random.default_rng(1)
    for n, width in [(1, 32), (3, 96), (5, 256 + 32)]:
        x = (rng.standard_normal((n, width)) * 10.0 ** rng.integers(-20, 20, (n, 1))).astype(
            np.float32
        )
        x[0, :32] = [0.0, -0.0] * 16
        if n > 1:
            x[1, 5], x[1, 40], x[1, 70] = np.inf, np.nan, np.float32(1e-42)
            x[2, :32] = np.float32(1e-40)
        out = runner([("prepare", "F32", (0, width, 1), n, None, [Q8], [[], x])])[0]
        nb, nbp = width // 32, (width // 32 + 1) // 2 * 2
        codes, d = quantize(x)
        padded = np.zeros((n, nbp, 2, 16), np.int8)
        padded[:, :nb] = codes.reshape(n, nb, 2, 16)
        align = lambda size: (size + 255) // 256 * 256  # noqa: E731
        got = out[: n * nbp * 32].view(np.int8).reshape(n, 2, nbp, 16)
        assert np.array_equal(got.transpose(0, 2, 1, 3), padded)
        at = align(n * nbp * 32)
        sums = floats(out[at : at + n * nbp * 8], n, nbp, 2)
        halves = floats(out[at + align(n * nbp * 8) :][: n * nbp * 8], n, nbp, 2)
        half = padded.astype(np.float32).sum(axis=3)
        dp = np.zeros((n, nbp), np.float32)
        dp[:, :nb] = d
        assert np.array_equal(sums[..., 0], dp, equal_nan=True)
        assert np.array_equal(sums[..., 1], dp * half.sum(axis=2), equal_nan=True)
        assert np.array_equal(halves, dp[..., None] * half, equal_nan=True)


def test_a_nan_reaches_every_output_of_its_row(runner):
    rng = np.random.default_rng(2)
    for name in ("Q4_0", "Q4_K", "Q6_K", "F16", "BF16", "F32"):
        width = 2 * block_of(name) if name in HALVES else 72
        data = random_rows(name, 5, width, rng)
        for n in (3, 20):
            x = rng.standard_normal((n, width)).astype(np.float32)
            x[1, 7] = np.nan
            out = floats(
                runner([("matmul", name, (5, width, 1), n, None, [1], [data, x])])[0], n, 5
            )
            assert np.isnan(out[1]).all() and np.isfinite(np.delete(out, 1, axis=0)).all(), (
                name,
                n,
            )


# ---- products ----


@pytest.mark.parametrize("name", TYPES)
def test_unpack_is_exact(runner, name):
    """Packing loses nothing: values of the packed matrix are those of the gguf package, bit for
    bit."""
    rng = np.random.default_rng(list(TYPES).index(name))
    unit = block_of(name)
    for rows, width in [(1, unit), (7, 3 * unit), (40, 2 * unit + (5 if unit == 1 else 0))]:
        data = random_rows(name, rows, width, rng)
        ids = rng.permutation(rows).astype(np.int32)
        job = ("unpack", name, (rows, width, 1), rows, None, [], [data, np.float32(1.0), ids])
        out = floats(runner([job])[0], rows, width)
        assert np.array_equal(bits(out), bits(dequantize(name, data, rows, width)[ids])), (
            rows,
            width,
        )
    scaled = floats(
        runner([(*job[:3], rows, rows - 3, [], [data, np.float32(0.75), ids])])[0], rows, width
    )
    assert (
        np.array_equal(scaled[:-3], out[:-3] * np.float32(0.75))
        and (bits(scaled[-3:]) == UNWRITTEN).all()
    )


SHAPES = [(1, 1), (37, 3), (150, 5)]  # rows, blocks
WIDTHS = [(1, 1), (37, 75), (150, 264)]  # of float formats
COUNTS = [*range(1, 10), 12, 16, 17, 64, 130]


@pytest.mark.parametrize("name", TYPES)
def test_products(runner, name):
    """Against double, for every number of rows; and a row's bits are the same alone and beside
    others, within each family."""
    rng = np.random.default_rng(100 + list(TYPES).index(name))
    for rows, size in SHAPES if name in HALVES else WIDTHS:
        width = size * block_of(name)
        data, x = random_rows(name, rows, width, rng), activations(rng, max(COUNTS), width)
        jobs = [("matmul", name, (rows, width, 1), n, None, [1], [data, x[:n]]) for n in COUNTS]
        outs = {n: floats(out, n, rows) for n, out in zip(COUNTS, runner(jobs))}
        for n, out in outs.items():
            assert_within(out, *exact(name, data, x[:n], rows, width, n <= FEW_ROWS))
            family = outs[16] if n <= FEW_ROWS or name == "F32" else outs[130]
            same = min(n, len(family))
            assert np.array_equal(bits(out[:same]), bits(family[:same])), n
        alone = runner(
            [
                ("matmul", name, (rows, width, 1), 1, None, [1], [data, x[i : i + 1]])
                for i in range(9)
            ]
        )
        assert np.array_equal(bits(np.stack([floats(a, rows) for a in alone])), bits(outs[9]))


@pytest.mark.parametrize(
    "name",
    ["Q4_0", "Q8_0", "Q5_1", "Q2_K", "Q4_K", "Q6_K", "IQ4_XS", "TQ2_0", "F16", "BF16", "F32"],
)
def test_rows_are_counted_on_the_device(runner, name):
    rng = np.random.default_rng(7)
    rows, width = 33, 2 * block_of(name) if name in HALVES else 64
    data, x = random_rows(name, rows, width, rng), activations(rng, 140, width)
    jobs, cases = (
        [],
        [(9, 0), (9, 3), (9, 9), (1, 0), (16, 11), (64, 0), (64, 20), (140, 17), (9, 100)],
    )
    for most, count in cases:
        jobs += [
            ("matmul", name, (rows, width, 1), most, c, [1], [data, x[:most]])
            for c in (count, None)
        ]
    outs = runner(jobs)
    for i, (most, count) in enumerate(cases):
        out, full = (floats(o, most, rows) for o in outs[2 * i : 2 * i + 2])
        assert np.array_equal(bits(out[:count]), bits(full[:count])), (most, count)
        assert (bits(out[count:]) == UNWRITTEN).all(), (most, count)


def test_input_rows_of_slots(runner):
    """per_row: a run's row has several input rows."""
    rng = np.random.default_rng(8)
    data, x = random_rows("Q4_0", 20, 64, rng), activations(rng, 18, 64)
    outs = runner(
        [
            ("matmul", "Q4_0", (20, 64, 1), 6, 5, [3], [data, x]),
            ("matmul", "Q4_0", (20, 64, 1), 15, None, [1], [data, x[:15]]),
        ]
    )
    assert np.array_equal(bits(floats(outs[0], 18, 20)[:15]), bits(floats(outs[1], 15, 20)))
    assert (bits(floats(outs[0], 18, 20)[15:]) == UNWRITTEN).all()


@pytest.mark.parametrize("name", TYPES)
def test_moe(runner, name):
    """Routed experts equal each expert's plain product, bit for bit; experts without rows, with one
    and with many."""
    rng = np.random.default_rng(200 + list(TYPES).index(name))
    n_experts, rows = 6, 20
    width = 2 * block_of(name) if name in HALVES else 40
    data = random_rows(name, n_experts * rows, width, rng).reshape(n_experts, rows, -1)
    for n_used, per_row, most, count in [
        (2, 1, 1, None),
        (3, 3, 5, 4),
        (2, 2, 40, 37),
        (3, 1, 70, None),
    ]:
        n = most if count is None else count
        # expert 4 gets nothing, expert 1 much
        ids = np.stack([rng.choice([0, 1, 1, 1, 2, 3, 5], n_used) for _ in range(most)]).astype(
            np.int32
        )
        x = activations(rng, most * per_row, width)
        job = (
            "moe",
            name,
            (rows, width, n_experts),
            most,
            count,
            [n_used, per_row],
            [data, x, ids],
        )
        out = floats(runner([job])[0], most, n_used, rows)
        inputs = np.repeat(x.reshape(most, per_row, width), n_used // per_row, axis=1)
        jobs = [
            ("matmul", name, (rows, width, 1), most * n_used, None, [1], [data[e], inputs])
            for e in range(n_experts)
        ]
        if most <= FEW_ROWS:  # the same family: a row at a time
            jobs = [
                ("matmul", name, (rows, width, 1), 1, None, [1], [data[e], row])
                for e in range(n_experts)
                for row in inputs.reshape(-1, width)
            ]
        plain = np.concatenate([floats(o, -1, rows) for o in runner(jobs)]).reshape(
            n_experts, most, n_used, rows
        )
        expected = np.take_along_axis(plain, ids[None, ..., None], axis=0)[0]
        assert np.array_equal(bits(out[:n]), bits(expected[:n])), (n_used, per_row, most)
        assert (bits(out[n:]) == UNWRITTEN).all()
        weight = np.stack(
            [dequantize(name, data[e], rows, width) for e in range(n_experts)]
        ).astype(np.float64)
        close = np.einsum("rsw,rsow->rso", inputs[:n].astype(np.float64), weight[ids[:n]])
        assert (
            np.abs(out[:n] - close).max()
            <= 0.02 * np.abs(inputs[:n]).max() * np.abs(weight).max() * width**0.5
        )


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "Q6_K", "F16", "F32"])
def test_clusters(runner, name):
    rng = np.random.default_rng(9)
    clusters, m, k = 7, 11, 3
    width = 2 * block_of(name) if name in HALVES else 48
    data = random_rows(name, clusters * m, width, rng)
    for most, count in [(1, None), (4, 2), (20, 18)]:
        n = most if count is None else count
        chosen = np.stack([rng.choice(clusters, k, replace=False) for _ in range(most)]).astype(
            np.int32
        )
        x = activations(rng, most, width)
        jobs = [
            ("clusters", name, (clusters * m, width, 1), most, count, [k, m], [data, x, chosen])
        ]
        jobs += [("matmul", name, (clusters * m, width, 1), 1, None, [1], [data, row]) for row in x]
        out, *dense = runner(jobs)
        dense = np.stack([floats(d, clusters, m) for d in dense])
        expected = np.take_along_axis(dense, chosen[..., None], axis=1).reshape(most, k * m)
        assert np.array_equal(bits(floats(out, most, k * m)[:n]), bits(expected[:n]))
        assert (bits(floats(out, most, k * m)[n:]) == UNWRITTEN).all()


# ---- how threads are run ----


def short_jobs(rng):
    jobs = []
    for name in TYPES:
        rows, width = 40, 3 * block_of(name) if name in HALVES else 72
        data = random_rows(name, 2 * rows, width, rng)
        for n in (1, 5, 16, 33):
            jobs.append(
                (
                    "matmul",
                    name,
                    (2 * rows, width, 1),
                    n,
                    None,
                    [1],
                    [data, activations(rng, n, width)],
                )
            )
        for n in (3, 30):
            ids = rng.integers(0, 2, (n, 2)).astype(np.int32)
            jobs.append(
                (
                    "moe",
                    name,
                    (rows, width, 2),
                    n,
                    n - 1,
                    [2, 1],
                    [data, activations(rng, n, width), ids],
                )
            )
        ids = rng.integers(0, 4, (2, 2)).astype(np.int32)
        jobs.append(
            (
                "clusters",
                name,
                (2 * rows, width, 1),
                2,
                None,
                [2, 20],
                [data, activations(rng, 2, width), ids],
            )
        )
        jobs.append(
            (
                "unpack",
                name,
                (2 * rows, width, 1),
                2,
                None,
                [],
                [data, np.float32(2.0), np.array([3, 70], np.int32)],
            )
        )
    jobs.append(("prepare", "F32", (0, 96, 1), 4, None, [Q8], [[], activations(rng, 4, 96)]))
    jobs.append(("prepare", "F32", (0, 75, 1), 4, None, [F16], [[], activations(rng, 4, 75)]))
    jobs.append(("prepare", "F32", (0, 75, 1), 4, None, [BF16], [[], activations(rng, 4, 75)]))
    return jobs


@pytest.mark.skipif(ON_GPU, reason="an order can be asked of the emulation only")
@pytest.mark.parametrize("order", ["reverse", "shuffled", "greedy"])
def test_results_do_not_depend_on_the_order_of_threads(runner, order):
    jobs = short_jobs(np.random.default_rng(11))
    for job, forward, other in zip(jobs, runner(jobs), runner(jobs, order)):
        assert np.array_equal(forward, other), job[:6]


@pytest.mark.nightly
@pytest.mark.skipif(ON_GPU, reason="compute-sanitizer looks there: PILLION_CUDA_WRAP")
def test_no_access_out_of_bounds(runner, tmp_path):
    """The same jobs under the address and undefined-behaviour sanitizers; device memory has its
    exact size."""
    jobs = short_jobs(np.random.default_rng(12))
    for job, plain, checked in zip(jobs, runner(jobs), Runner(build("sanitize"), tmp_path)(jobs)):
        assert np.array_equal(plain, checked), job[:6]
