"""The CPU kernels that are not matmuls: the reference kernel against float64, every table against
the reference kernel bit for bit.

pytest tests/cpu/test_op_kernels.py      needs numpy and g++; other machines' tables need
                                             g++-aarch64-linux-gnu and qemu-user, and are skipped
                                             without
"""

import os
import pathlib
import shutil
import struct
import subprocess

import numpy as np
import pytest

import op_cases as oc
from locked import built_core
from op_cases import EPS, TOLERANCES, rng

ROOT = pathlib.Path(__file__).resolve().parents[2]
CPU = "csrc/backends/cpu/"
ARM_FLAGS = "-march=armv8.2-a+dotprod+fp16"
X86 = {
    "x86_avx2": "-mavx2 -mfma -mf16c",
    "x86_avx_vnni": "-mavx2 -mfma -mf16c -mavxvnni",
    "x86_avx512": "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mf16c -mfma",
}
ARM = {"arm_dotprod": ARM_FLAGS, "arm_i8mm": ARM_FLAGS + "+i8mm"}
PLAIN = [
    CPU + "generic/ops.cpp",
    CPU + "generic/table.cpp",
    CPU + "cpu_features.cpp",
    CPU + "kernel_choice.cpp",
    "csrc/core/error.cpp",
    "tests/runners/ops_runner.cpp",
]
NATIVE_IS_ARM = os.uname().machine == "aarch64"


def build(folder, compiler, tables, extra="", ready=(), core=None):
    """Compiles the runner with these tables; `ready` are objects of further tables. core: an
    archive that has what is not compiled here, with the library's flags."""
    common = f"-std=c++17 -O3 -ffp-contract=off -Wall -Wextra -Werror -Icsrc {extra}".split()
    if core and not extra:
        tables, plain = {}, PLAIN[-1:]
    else:
        plain = PLAIN
    # the long ones first
    jobs = [(f"{CPU}{t}/table.cpp", flags) for t, flags in tables.items()] + [
        (s, "") for s in plain
    ]
    objects, running = [*ready], []
    for source, flags in jobs:
        objects.append(str(folder / (source.replace("/", "_") + ".o")))
        running.append(
            subprocess.Popen(
                [compiler, *common, *flags.split(), "-c", source, "-o", objects[-1]], cwd=ROOT
            )
        )
        if len(running) == 2:
            assert running.pop(0).wait() == 0
    assert all(p.wait() == 0 for p in running)
    out = folder / "ops_runner"
    static = ["-static"] if "aarch64-linux-gnu" in compiler else []
    libraries = [str(core), "-pthread", "-ldl"] if core else []
    subprocess.run([compiler, *common, *objects, *libraries, "-o", str(out), *static], check=True)
    return out


class Runner:
    def __init__(self, command, folder):
        self.command, self.folder = command, folder
        lines = self.call("list").stdout.split("\n")
        self.tables = [line.split()[0] for line in lines if line and line.split()[1] == "1"]

    def call(self, *args, env=None):
        return subprocess.run(
            [*self.command, *args],
            capture_output=True,
            text=True,
            env={**os.environ, **(env or {})},
        )

    def run(self, table, requests):
        path, answers = self.folder / "requests", self.folder / "answers"
        with open(path, "wb") as f:
            for op, ints, floats in requests:
                i = np.asarray(ints, np.int32)
                x = (
                    np.concatenate([np.asarray(v, np.float32).ravel() for v in floats])
                    if floats
                    else np.zeros(0, np.float32)
                )
                f.write(struct.pack("3i", op, i.size, x.size) + i.tobytes() + x.tobytes())
        done = self.call("run", table, str(path), str(answers))
        assert done.returncode == 0, done.stderr[-3000:]
        data, at, out = answers.read_bytes(), 0, []
        while at < len(data):
            n = struct.unpack_from("i", data, at)[0]
            out.append(data[at + 4 : at + 4 + n])
            at += 4 + n
        assert len(out) == len(requests)
        return out


@pytest.fixture(scope="session")
def native(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    return Runner(
        [str(build(folder, "g++", ARM if NATIVE_IS_ARM else X86, core=built_core()))], folder
    )


@pytest.fixture(scope="session")
def emulated(tmp_path_factory, request):
    if (
        NATIVE_IS_ARM
        or not shutil.which("aarch64-linux-gnu-g++")
        or not shutil.which("qemu-aarch64")
    ):
        pytest.skip("needs g++-aarch64-linux-gnu and qemu-user")
    folder = tmp_path_factory.mktemp("emulated")
    core = request.getfixturevalue("arm64_build") / "libpillion_core.a"
    program = build(folder, "aarch64-linux-gnu-g++", ARM, core=core)
    return Runner(["qemu-aarch64", "-cpu", "max", str(program)], folder)


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory, native):
    """generic and AVX2 under the address and undefined-behaviour sanitizers (all tables:
    PILLION_SANITIZE_ALL=1)."""
    if NATIVE_IS_ARM:
        pytest.skip("x86 only")
    folder = tmp_path_factory.mktemp("sanitized")
    flags = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
    every = bool(os.environ.get("PILLION_SANITIZE_ALL"))
    tables = {t: f for t, f in X86.items() if every or t == "x86_avx2"}
    core = built_core()
    ready = (
        [] if core else [str(next(native.folder.glob(f"*{t}*.o"))) for t in X86 if t not in tables]
    )
    runner = Runner([str(build(folder, "g++", tables, flags, ready, core))], folder)
    runner.tables = [t for t in runner.tables if t in tables or t == "generic"]
    return runner


def floats(answer):
    return np.frombuffer(answer, np.float32)


def same(a, b):
    """Equal bytes, where a NaN equals a NaN: its sign and payload are the machine's business."""
    if a == b:
        return True
    if len(a) != len(b) or len(a) % 4:
        return False
    x, y = np.frombuffer(a, np.uint32), np.frombuffer(b, np.uint32)
    differ = x != y
    return bool(np.all(np.isnan(floats(a)[differ]) & np.isnan(floats(b)[differ])))


def close(got, want, absolute, relative, what, size=None):
    size = np.abs(want) if size is None else size
    bound = absolute + relative * size
    error = np.abs(got.astype(np.float64) - want)
    bad = ~(error <= bound)
    assert not bad.any(), (
        f"{what}: {got[bad][:3]} instead of {np.asarray(want)[bad][:3]}, "
        f"{(error / np.maximum(bound, 1e-300)).max():.2f} bounds"
    )


# ---- requests and references ----


def norm64(x, w, eps):
    x = x.astype(np.float64)
    y = x / np.sqrt(np.mean(x * x) + np.float64(np.float32(eps)))
    return y if w is None else y * w


def gelu64(x):
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu64(x):
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


def row_requests():
    """(name, request, check of the reference kernel's answer)"""
    out = []
    for n in oc.SIZES:
        r = rng("rows", n)
        x, y, w = (r.standard_normal(n, np.float32) * np.float32(s) for s in (3, 1, 2))
        for has_w in (0, 1):
            weight = [w] if has_w else []
            for in_place in (0, 1):

                def check(a, x=x, w=w if has_w else None):
                    close(floats(a), norm64(x, w, 1e-6), *TOLERANCES["rms_norm"][:2], "rms_norm")

                out.append(
                    (f"rms_norm {n}", (1, [n, has_w, in_place], [[1e-6], x, *weight]), check)
                )
            for place in (0, 1, 2):

                def check(a, x=x, y=y, w=w if has_w else None):
                    norm = norm64(x, w, 1e-6)
                    close(
                        floats(a),
                        (y + norm) * np.float32(0.7),
                        *TOLERANCES["rms_norm_add"][:2],
                        "rms_norm_add",
                        0.7 * (np.abs(y) + np.abs(norm)),
                    )

                out.append(
                    (
                        f"rms_norm_add {n}",
                        (2, [n, has_w, place], [[1e-6], [0.7], x, y, *weight]),
                        check,
                    )
                )
        x64, y64, s = x.astype(np.float64), y.astype(np.float64), np.float32(1.7)
        refs = {4: x64 + y64, 5: x64 * s, 6: x64 * s + y64}
        for op, name in ((4, "add"), (5, "scale"), (6, "multiply_add")):

            def check(a, want=refs[op], name=name):
                close(floats(a), want, *TOLERANCES[name][:2], name)

            for in_place in (0, 1):
                arrays = [x, y] if op == 4 else [[s], x] if op == 5 else [[s], x, y]
                out.append((f"{name} {n}", (op, [n, in_place], arrays), check))
        for kind, name, f in ((0, "gelu_tanh", gelu64), (1, "silu", silu64)):

            def check(a, f=f, name=name, x64=x64, y64=y64):
                t = TOLERANCES[name]
                close(
                    floats(a),
                    f(x64) * y64,
                    0.0,
                    1.0,
                    name,
                    np.abs(y64) * (t[0] + t[1] * np.abs(f(x64))) + 1e-44,
                )

            for in_place in (0, 1):
                out.append((f"{name} {n}", (7, [n, kind, in_place], [x, y]), check))
        for cap in (30.0, 0.5):

            def check(a, x64=x64, cap=cap):
                close(floats(a), cap * np.tanh(x64 / cap), *TOLERANCES["softcap"][:2], "softcap")

            out.append((f"softcap {n}", (8, [n], [[cap], x]), check))

        def check(a, x=x):
            assert struct.unpack("i", a)[0] == int(np.argmax(x))

        out.append((f"argmax {n}", (9, [n], [x]), check))

        def check(a, x64=x64, y64=y64, n=n):
            close(
                floats(a),
                np.array([x64 @ y64]),
                0,
                TOLERANCES["dot"][1] * 3 * np.sqrt(n / 16 + 5),
                "dot",
                np.abs(x64) @ np.abs(y64),
            )

        out.append((f"dot {n}", (10, [n], [x, y]), check))

        def check(a, x64=x64, n=n):
            top, total = floats(a)
            assert top == x64.max()
            close(
                np.array([total]),
                np.exp(x64 - x64.max()).sum(),
                0,
                TOLERANCES["softmax_sum"][1] * np.sqrt(n / 16 + 8),
                "softmax_stats",
            )

        out.append((f"softmax_stats {n}", (11, [n], [x]), check))

        def check(a, x64=x64, y64=y64, n=n):
            m, total, o = floats(a)[0], floats(a)[1], floats(a)[2:]
            ea, eb = np.exp(-1.25), 1.0
            close(
                o,
                x64 * ea + y64 * eb,
                0,
                TOLERANCES["attend_merge"][1],
                "attend_merge",
                np.abs(x64) * ea + np.abs(y64),
            )
            assert m == 1.0
            close(
                np.array([total]),
                3 * ea + 2 * eb,
                0,
                TOLERANCES["attend_merge"][1],
                "attend_merge l",
            )

        out.append((f"attend_merge {n}", (14, [n], [[-0.25, 3.0, 1.0, 2.0], x, y]), check))
    for case in oc.HEADS:
        hd, rd, normalize, inter, has_w, rotate = case
        r = rng("head", case)
        x, w = r.standard_normal(hd, np.float32) * 2, r.standard_normal(hd, np.float32)
        angle = r.uniform(-4, 4, rd // 2)
        c, s = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

        def check(a, x=x, w=w if has_w else None, c=c, s=s, case=case):
            _, rd, normalize, inter, _, rotate = case
            y = norm64(x, w, 1e-5) if normalize else x.astype(np.float64)
            size = np.abs(y)
            if rotate:
                one, two = (
                    (np.arange(0, rd, 2), np.arange(1, rd, 2))
                    if inter
                    else (np.arange(rd // 2), np.arange(rd // 2) + rd // 2)
                )
                p, q = y[one].copy(), y[two].copy()
                y[one], y[two] = p * c.astype(np.float64) - q * s, q * c.astype(np.float64) + p * s
                size[one] = size[two] = np.abs(p) + np.abs(q)
            close(
                floats(a),
                y,
                0,
                TOLERANCES["rope"][1] + (TOLERANCES["rms_norm"][1] if normalize else 0),
                f"head {case}",
                size,
            )

        out.append(
            (
                f"head {case}",
                (
                    3,
                    [hd, rd, normalize, inter, has_w, rotate],
                    [[1e-5], x, c, s, *([w] if has_w else [])],
                ),
                check,
            )
        )
    return out


def edge_requests():
    """Values at the ends: NaN, infinities, subnormals, huge."""
    inf, nan = np.inf, np.nan
    out = []
    ends = np.array(
        [
            0.0,
            -0.0,
            1e-45,
            -1e-45,
            1e-38,
            1e-20,
            0.624,
            0.626,
            -0.625,
            9,
            -9,
            10.2,
            -10.2,
            50,
            -50,
            89,
            -89,
            103,
            -104,
            128,
            -128,
            1e4,
            -1e4,
            1e20,
            -1e20,
            3e38,
            -3e38,
            inf,
            -inf,
            nan,
        ],
        np.float32,
    )
    one = np.ones_like(ends)

    def check_glu(a):
        y = floats(a)
        assert (
            np.isnan(y[-1])
            and y[-2] == 0
            and np.signbit(y[-2])
            and y[-3] == inf
            and np.all(np.isfinite(y[:-3]))
        )
        positive = ends >= 128
        assert np.array_equal(y[positive], ends[positive])
        assert np.all(y[ends <= -128] == 0)

    for kind in (0, 1):
        out.append(("glu ends", (7, [len(ends), kind, 0], [ends, one]), check_glu))

    def check_cap(a):
        y = floats(a)
        assert np.isnan(y[-1]) and y[-2] == -30 and y[-3] == 30
        with np.errstate(invalid="ignore"):
            want = 30 * np.tanh(ends.astype(np.float64)[:-1] / 30)
        close(y[:-1], want, 2.0**-145, TOLERANCES["softcap"][1], "softcap ends")
        assert np.array_equal(np.signbit(y[:-1]), np.signbit(ends[:-1]))

    out.append(("softcap ends", (8, [len(ends)], [[30.0], ends]), check_cap))

    def all_nan(a):
        assert np.all(np.isnan(floats(a)))

    def is_index(want):
        def check(a):
            assert struct.unpack("i", a)[0] == want

        return check

    bad = np.ones(40, np.float32)
    bad[17] = nan
    out.append(("norm of NaN", (1, [40, 0, 0], [[1e-6], bad]), all_nan))
    out.append(
        (
            "norm of zeros",
            (1, [40, 0, 0], [[1e-6], np.zeros(40)]),
            lambda a: np.testing.assert_array_equal(floats(a), 0),
        )
    )
    for n in (1, 5, 16, 40, 1024, 3000):
        x = np.full(n, nan, np.float32)
        out.append(("argmax all NaN", (9, [n], [x]), is_index(0)))
        y = x.copy()
        y[n // 2] = -inf
        out.append(("argmax NaN and -inf", (9, [n], [y]), is_index(n // 2)))
        out.append(("argmax -inf", (9, [n], [np.full(n, -inf)]), is_index(0)))
        z = np.full(n, 2.5, np.float32)
        out.append(("argmax ties", (9, [n], [z.copy()]), is_index(0)))
        z[: n // 2] = 1
        z[: n // 3] = nan
        out.append(("argmax ties after NaN", (9, [n], [z]), is_index(n // 2)))
        u = np.zeros(n, np.float32)
        u[0] = -0.0
        out.append(("argmax of zeros", (9, [n], [u]), is_index(0)))
        out.append(
            (
                "stats of -inf",
                (11, [n], [np.full(n, -inf)]),
                lambda a: np.testing.assert_array_equal(floats(a), [-inf, 0]),
            )
        )
        v = np.full(n, -inf, np.float32)
        v[n - 1] = 3
        out.append(
            (
                "stats of one",
                (11, [n], [v]),
                lambda a: np.testing.assert_array_equal(floats(a), [3, 1]),
            )
        )

        def check_nan(a):
            assert np.isnan(floats(a)[1])

        out.append(("stats with NaN", (11, [n], [y]), check_nan if n > 1 else None))
    o = np.array([1.0, -2.0, 3.0], np.float32)
    for m, ms, want in (
        (-inf, -inf, [-inf, 0, 0, 0, 0]),
        (-inf, 2.0, [2, 5, 10, 20, 30]),
        (2.0, -inf, [2, 4, 1, -2, 3]),
        (500.0, -500.0, [500, 4, 1, -2, 3]),
    ):
        lm, ls = (0.0 if m == -inf else 4.0), (0.0 if ms == -inf else 5.0)
        out.append(
            (
                "merge ends",
                (14, [3], [[m, lm, ms, ls], o, [10, 20, 30]]),
                lambda a, want=want: np.testing.assert_array_equal(
                    floats(a), np.array(want, np.float32)
                ),
            )
        )
    return out


def check_all(named, answers):
    for (_, _, check), a in zip(named, answers):
        if check:
            check(a)


def compare(named, a, b, what):
    wrong = [name for (name, *_), x, y in zip(named, a, b) if not same(x, y)]
    assert not wrong, f"{what}: {len(wrong)} of {len(named)} differ: {wrong[:5]}"


# ---- attention ----


def attend_request(case, chosen=None, length_to=None):
    k, v, q = case.inputs()
    chosen = list(range(case.n_q)) if chosen is None else chosen
    first, last = case.first[chosen], case.last[chosen]
    ints = [
        case.head_dim,
        oc.FORMATS.index(case.fmt),
        case.capacity,
        case.length,
        case.stale,
        len(chosen),
        int(max(0, case.length - case.capacity)),
        case.length,
        *first,
        *last,
    ]
    return (12, ints, [[case.scale], [case.softcap], k, v, q[chosen]])


def parse_attend(case, answer, n_q=None):
    n_q = case.n_q if n_q is None else n_q
    hd, cap = case.head_dim, case.capacity
    m, total = (
        np.frombuffer(answer, np.float32, n_q),
        np.frombuffer(answer, np.float32, n_q, 4 * n_q),
    )
    o = np.frombuffer(answer, np.float32, n_q * hd, 8 * n_q).reshape(n_q, hd)
    kv = answer[8 * n_q + 4 * n_q * hd :]
    padded = (hd + 31) // 32 * 32
    if case.fmt == "f16":
        k_bytes = (hd * 32 * 2 * (cap // 32) + 63) // 64 * 64
        k = (
            np.frombuffer(kv, np.float16, hd * cap)
            .reshape(cap // 32, hd, 32)
            .transpose(0, 2, 1)
            .reshape(cap, hd)
        )
        v = np.frombuffer(kv, np.float16, hd * cap, k_bytes).reshape(cap, hd)
        k, v = k.astype(np.float64), v.astype(np.float64)
    else:
        parts = padded // 32
        k_bytes = (parts * 1088 * (cap // 32) + 63) // 64 * 64
        raw = np.frombuffer(kv, np.uint8, parts * 1088 * (cap // 32)).reshape(
            cap // 32, parts, 1088
        )
        # block, part, slot
        scale = np.ascontiguousarray(raw[:, :, :64]).view(np.float16).astype(np.float64)
        # block, part, dim, slot
        code = raw[:, :, 64:].view(np.int8).reshape(cap // 32, parts, 32, 32).astype(np.float64)
        k = (scale[:, :, None, :] * code).transpose(0, 3, 1, 2).reshape(cap, padded)[:, :hd]
        raw = np.frombuffer(kv, np.uint8, (padded + 2 * parts) * cap, k_bytes).reshape(
            cap, padded + 2 * parts
        )
        scale = np.ascontiguousarray(raw[:, padded:]).view(np.float16).astype(np.float64)
        code = raw[:, :padded].view(np.int8).reshape(cap, parts, 32).astype(np.float64)
        v = (scale[:, :, None] * code).reshape(cap, padded)[:, :hd]
    return m, total, o, k, v


def check_attend(case, answer):
    m, total, o, k, v = parse_attend(case, answer)
    rows_k, rows_v, q = case.inputs()
    live = np.arange(max(0, case.length - case.capacity), case.length)
    # What was stored is the rows, to the format's precision: half of a last place of f16; half a
    # code plus the scale's rounding.
    for stored, rows in ((k, rows_k), (v, rows_v)):
        got, want = stored[live % case.capacity], rows[live].astype(np.float64)
        if case.fmt == "f16":
            bound = 2.0**-11 * np.abs(want) + 2.0**-25
        else:
            pad = np.zeros((len(live), (case.head_dim + 31) // 32 * 32))
            pad[:, : case.head_dim] = np.abs(want)
            top = np.repeat(pad.reshape(len(live), -1, 32).max(2), 32, axis=1)[:, : case.head_dim]
            bound = top / 127 * (0.5 + 127 * 2.0**-11 + 1e-3)
        assert np.all(np.abs(got - want) <= bound), f"{case}: stored rows"
    for c in range(case.n_q):
        p = np.arange(max(case.first[c], live[0]), case.last[c] + 1)
        if len(p) == 0:
            assert m[c] == -np.inf and total[c] == 0 and not o[c].any(), (
                f"{case}: query {c} sees nothing"
            )
            continue
        kc, vc, qc = k[p % case.capacity], v[p % case.capacity], q[c].astype(np.float64)
        s = kc @ qc * case.scale
        size = (np.abs(kc) @ np.abs(qc)).max() * case.scale
        if case.softcap:
            s = case.softcap * np.tanh(s / case.softcap)
        w = np.exp(s - s.max())
        want = w @ vc / w.sum()
        got = o[c].astype(np.float64) / total[c]
        bound = oc.attention_tolerance(case.head_dim, size, np.abs(vc).max())
        error = np.abs(got - want).max()
        assert error <= bound, f"{case}: query {c}: {error:.3g}, bound {bound:.3g}"
        assert abs(m[c] - s.max()) <= 3 * EPS * np.sqrt(case.head_dim + 8) * size + 8 * EPS * abs(
            s.max()
        )


def store_requests():
    """kv_store alone with values at the ends, as attention that sees nothing."""
    inf, nan = np.inf, np.nan
    ends = np.array(
        [
            0,
            -0.0,
            1e-45,
            6e-8,
            2.9e-8,
            3e-8,
            1e-6,
            6.1e-5,
            0.1,
            -1,
            65504,
            65519,
            65520,
            7e4,
            -1e9,
            3e38,
            inf,
            -inf,
            nan,
            1,
        ],
        np.float32,
    )
    out = []
    for fmt, hd in [(0, 20), (1, 20), (0, 34), (1, 34), (1, 64), (1, 2)]:
        r = rng("store", fmt, hd)
        rows = np.zeros((24, hd), np.float32)
        for i in range(20):
            rows[i] = np.resize(np.roll(ends, i), hd) if fmt == 0 else r.standard_normal(hd)
        if fmt == 1:
            rows[1] = 0
            rows[2] *= np.float32(1e-40)
            rows[3] *= np.float32(1e-7)
            rows[4] *= np.float32(1e30)
            rows[5, hd // 2] = nan
            rows[6, hd // 2] = inf
            rows[7] = np.resize(np.arange(-127, 128, 0.5), hd)
            rows[8] = 127
            rows[9, 0] = 65504.0 * 127
        out.append(
            (
                f"store {fmt} {hd}",
                (
                    12,
                    [hd, fmt, 256, 24, 0, 1, 0, 24, 1, 0],
                    [[1], [0], rows, rows[::-1], np.zeros(hd)],
                ),
            )
        )
    return out


def sound_requests():
    """The kernels of the audio encoder and activations alone; op_texts.py has their values in
    float64."""
    out = []
    for n in (1, 3, 8, 16, 17, 33, 100, 1024):
        r = rng("sound", n)
        x = r.standard_normal(n, np.float32) * 5
        for kind in (0, 1, 2):
            out.append((f"activation {kind} {n}", (15, [n, kind], [x])))
        out.append((f"sigmoid glu {n}", (7, [n, 2, n % 2], [x, x[::-1]])))
        for taps in (1, 2, 5, 16):
            rows = r.standard_normal((2, taps, n), np.float32)
            out.append((f"weigh_rows {n} {taps}", (16, [n, taps], [*rows])))
        for window in (1, 2, 11, 12, 13, 64):
            arrays = [[50.0]] + [
                r.standard_normal(k * n, np.float32) for k in (1, 1, *[window] * 3)
            ]
            out.append((f"attend_local {n} {window}", (18, [n, window], arrays)))
    for bands, before, after in ((1, 1, 1), (2, 3, 7), (9, 1, 128), (7, 16, 33), (16, 128, 32)):
        r = rng("conv", bands, before, after)
        shapes = [*[(2 * bands + 1) * before] * 3, 9 * before * after, after]
        arrays = [[1e-6]] + [r.standard_normal(n, np.float32) for n in shapes]
        named = (f"conv_row {bands} {before} {after}", (17, [bands, before, after], arrays))
        out.append(named)
    # What is no number shows.
    bad = [[1e-6]] + [np.ones(n, np.float32) for n in (3, 3, 3, 9 * 5, 5)]
    bad[2][1] = np.nan
    out.append(("conv_row of NaN", (17, [1, 1, 5], bad)))
    return out


# ---- tests ----


@pytest.fixture(scope="session")
def rows_of_reference(native):
    named = row_requests() + edge_requests()
    return named, native.run("generic", [r for _, r, _ in named])


def test_rows_against_float64(rows_of_reference):
    check_all(*rows_of_reference)


def test_rows_tables_equal(native, rows_of_reference):
    named, want = rows_of_reference
    for table in native.tables:
        compare(named, native.run(table, [r for _, r, _ in named]), want, table)


def test_rows_arm(emulated, rows_of_reference):
    named, want = rows_of_reference
    assert emulated.tables == ["arm_i8mm", "arm_dotprod", "generic"]
    for table in emulated.tables:
        compare(named, emulated.run(table, [r for _, r, _ in named]), want, table)


@pytest.fixture(scope="session")
def sounds_of_reference(native):
    named = sound_requests()
    want = native.run("generic", [r for _, r in named])
    assert np.isnan(floats(want[-1])).all() and all(np.isfinite(floats(a)).all() for a in want[:-1])
    return named, want


def test_sounds_tables_equal(native, sounds_of_reference):
    named, want = sounds_of_reference
    for table in native.tables:
        compare(named, native.run(table, [r for _, r in named]), want, table)


def test_sounds_arm(emulated, sounds_of_reference):
    named, want = sounds_of_reference
    for table in emulated.tables:
        compare(named, emulated.run(table, [r for _, r in named]), want, table)


def test_exp(native):
    x = np.concatenate(
        [
            -np.geomspace(1e-8, 110, 60000),
            -np.linspace(0, 110, 60000),
            [0, -0.0, -103.97, -103.98, -104, -1e30, -np.inf],
        ]
    ).astype(np.float32)
    want = np.exp(x.astype(np.float64))
    answers = {t: native.run(t, [(13, [len(x)], [x])])[0] for t in native.tables}
    close(floats(answers["generic"]), want, *TOLERANCES["exp"][:2], "exp")
    assert floats(answers["generic"])[-1] == 0
    for table, a in answers.items():
        assert a == answers["generic"], table


def test_functions_tables_equal(native):
    """gelu, silu, softcap over random bit patterns: every kind of float."""
    bits = rng("bits").integers(0, 2**32, 1_000_000, dtype=np.uint32).view(np.float32)
    n = len(bits)
    named = [
        ("gelu", (7, [n, 0, 0], [bits, np.ones(n)])),
        ("silu", (7, [n, 1, 0], [bits, np.ones(n)])),
        ("softcap", (8, [n], [[30.0], bits])),
        ("near", (8, [n], [[1.0], rng("near").uniform(-2, 2, n)])),
        ("stats", (11, [n], [bits])),
        ("argmax", (9, [n], [bits])),
    ]
    want = native.run("generic", [r for _, r in named])
    for table in native.tables:
        compare(named, native.run(table, [r for _, r in named]), want, table)


def test_store_tables_equal(native):
    named = store_requests()
    want = native.run("generic", [r for _, r in named])
    for table in native.tables:
        got = native.run(table, [r for _, r in named])
        assert got == want, table  # bytes of the cache, NaN included
    # m, l, o[20], then keys [20][32 slots]
    half = np.frombuffer(want[0][12 - 4 + 4 * 20 :], np.float16)
    assert (
        half[0] == 0
        and half[32 * 10] == 65504
        and half[32 * 13] == 65504
        and half[32 * 14] == -65504
        and half[32 * 16] == 65504
    )
    assert np.isnan(half[32 * 18])


@pytest.fixture(scope="session")
def attention_of_reference(native):
    cases = oc.attend_cases()
    return cases, native.run("generic", [attend_request(c) for c in cases])


def test_attention_against_float64(attention_of_reference):
    for case, a in zip(*attention_of_reference):
        check_attend(case, a)


def test_attention_tables_equal(native, attention_of_reference):
    cases, want = attention_of_reference
    requests = [attend_request(c) for c in cases]
    for table in native.tables[:-1]:
        compare([(repr(c),) for c in cases], native.run(table, requests), want, table)


def test_attention_every_length(native):
    cases = oc.attend_short_cases()
    requests = [attend_request(c) for c in cases]
    best = native.run(native.tables[0], requests)
    for case, a in zip(cases, best):
        check_attend(case, a)
    for table in native.tables[1:]:
        compare([(repr(c),) for c in cases], native.run(table, requests), best, table)


def test_attention_arm(emulated, attention_of_reference):
    cases, want = attention_of_reference
    # The cheap ones all, the dear ones every fifth: emulation is slow.
    chosen = [
        i for i, c in enumerate(cases) if c.head_dim * c.n_q * c.length < 60_000 or i % 5 == 0
    ]
    requests, want = [attend_request(cases[i]) for i in chosen], [want[i] for i in chosen]
    for table in emulated.tables[:-1]:
        compare([(repr(cases[i]),) for i in chosen], emulated.run(table, requests), want, table)


def queries_alone(native, table):
    """A query's numbers don't depend on the other queries of the call."""
    cases = [c for c in oc.attend_cases() if c.n_q >= 3 and c.length <= 800][::3]
    requests, expect = [], []
    for case, whole in zip(cases, native.run(table, [attend_request(c) for c in cases])):
        m, total, o, *_ = parse_attend(case, whole)
        r = rng("alone", repr(case))
        for chosen in (
            [0],
            [case.n_q - 1],
            list(r.permutation(case.n_q)),
            sorted(r.choice(case.n_q, 1 + case.n_q // 2, replace=False).tolist()),
        ):
            requests.append(attend_request(case, chosen))
            expect.append(m[chosen].tobytes() + total[chosen].tobytes() + o[chosen].tobytes())
    for got, want, request in zip(native.run(table, requests), expect, requests):
        assert got[: len(want)] == want, request[1]
    return len(requests)


def test_queries_are_independent(native):
    for table in native.tables[:-1]:
        assert queries_alone(native, table) > 100


def test_broken_rows_stay_where_they_are(native):
    """A NaN among the keys or values reaches the queries that see it, and no other."""
    for fmt, hd, where in [(f, hd, w) for f in oc.FORMATS for hd in (8, 80) for w in ("k", "v")]:
        case = oc.Attend(
            hd,
            fmt,
            10,
            300,
            first=[0, 0, 0, 131, 129, 131, 256, 40, 130, 10],
            last=[299, 129, 130, 299, 131, 140, 299, 120, 130, 131],
        )
        k, v, q = case.inputs()
        broken = {"k": k.copy(), "v": v.copy()}
        broken[where][130, hd // 2] = np.nan
        op, ints, arrays = attend_request(case)
        damaged = (op, ints, [*arrays[:2], broken["k"], broken["v"], q])
        sees = (case.first <= 130) & (case.last >= 130)
        assert 0 < sees.sum() < case.n_q
        for table in native.tables:
            clean, hurt = (
                parse_attend(case, a) for a in native.run(table, [(op, ints, arrays), damaged])
            )
            for c in range(case.n_q):
                if sees[c]:
                    assert np.isnan(hurt[2][c]).any()
                else:
                    assert all(clean[i][c].tobytes() == hurt[i][c].tobytes() for i in range(3)), (
                        table,
                        c,
                    )


def test_sanitizers(sanitized, native, rows_of_reference):
    named, want = rows_of_reference
    requests = [r for _, r, _ in named]
    cases = oc.attend_cases()[::4]
    attend = [attend_request(c) for c in cases]
    stores = [r for _, r in store_requests()]
    for table in sanitized.tables:
        compare(named, sanitized.run(table, requests), want, table)
        assert sanitized.run(table, stores) == native.run("generic", stores)
        compare(
            [(repr(c),) for c in cases],
            sanitized.run(table, attend),
            native.run(native.tables[0], attend),
            table,
        )


def test_which_isa(native):
    assert native.call("which", env={"PILLION_CPU_ISA": ""}).stdout.strip() == native.tables[0]
    for table in native.tables:
        assert native.call("which", env={"PILLION_CPU_ISA": table}).stdout.strip() == table
    unknown = native.call("which", env={"PILLION_CPU_ISA": "sse9"})
    assert (
        unknown.returncode == 1
        and "no kernels are named 'sse9'" in unknown.stdout
        and "generic" in unknown.stdout
    )
    other = native.call(
        "which", env={"PILLION_CPU_ISA": "x86_avx2" if NATIVE_IS_ARM else "arm_i8mm"}
    )
    assert other.returncode == 1 and "no kernels are named" in other.stdout


def test_which_isa_unavailable(emulated):
    """A machine without the instructions: qemu's older processors."""
    old = Runner(["qemu-aarch64", "-cpu", "cortex-a57", emulated.command[-1]], emulated.folder)
    assert old.tables == ["generic"]
    refused = old.call("which", env={"PILLION_CPU_ISA": "arm_i8mm"})
    assert (
        refused.returncode == 1
        and "cannot run the kernels 'arm_i8mm'" in refused.stdout
        and "i8mm" in refused.stdout
    )
    middle = Runner(["qemu-aarch64", "-cpu", "cortex-a76", emulated.command[-1]], emulated.folder)
    assert middle.tables == ["arm_dotprod", "generic"]
    assert emulated.call("which", env={"PILLION_CPU_ISA": ""}).stdout.strip() == "arm_i8mm"


def test_older_x86(native, rows_of_reference):
    """Machines without AVX-512 and without AVX: nothing but the chosen table may use what they
    lack, program start included."""
    if NATIVE_IS_ARM or not shutil.which("qemu-x86_64"):
        pytest.skip("needs qemu-user")
    named, want = rows_of_reference
    some = slice(None, None, 7)
    for cpu, tables in (("Haswell", ["x86_avx2", "generic"]), ("Nehalem", ["generic"])):
        old = Runner(["qemu-x86_64", "-cpu", cpu, *native.command], native.folder)
        assert old.tables == tables
        assert old.call("which", env={"PILLION_CPU_ISA": ""}).stdout.strip() == tables[0]
        refused = old.call("which", env={"PILLION_CPU_ISA": "x86_avx512"})
        assert (
            refused.returncode == 1
            and "cannot run the kernels 'x86_avx512'" in refused.stdout
            and "lacks" in refused.stdout
        )
        assert "avx512_vnni" in refused.stdout
        for table in tables:
            compare(
                named[some],
                old.run(table, [r for _, r, _ in named[some]]),
                want[some],
                f"{table} on {cpu}",
            )


def test_features(native):
    names = native.call("features").stdout.split()
    if not NATIVE_IS_ARM:
        flags = (
            pathlib.Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
        )
        for name in (
            "avx2",
            "fma",
            "f16c",
            "avx512f",
            "avx512bw",
            "avx512vl",
            "avx512dq",
            "avx512_vnni",
            "avx_vnni",
            "avx512_bf16",
        ):
            assert (name in names) == (name in flags), name
