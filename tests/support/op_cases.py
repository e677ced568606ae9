"""Cases of every op that is not a matmul: shapes, settings, tolerances with their reasons. One list
for all backends.

Inputs are made by the tests (`rng(case)` gives each case its own numbers). Tolerances compare a
backend with float64 NumPy, element by element: |got - want| <= absolute + relative * |want|. CPU
tables must also agree with each other bit for bit."""

import itertools
import zlib

import numpy as np

EPS = 2.0**-24  # half a unit in the last place of 1.0: one f32 rounding

# Around the widths of vectors (4, 8, 16), the runs of argmax (1024), and the widths of real models.
# fmt: off
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23, 31, 32, 33, 47, 48, 63, 64,
         65, 100, 127, 128, 129, 255, 256, 257, 511, 512, 1000, 1023, 1024, 1025, 1536,
         2047, 2304, 4097, 6144, 12288]
# fmt: on


def rng(*key):
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


# op -> (absolute, relative, reason)
TOLERANCES = {
    # The sum of squares runs in 16 lanes: n / 16 roundings grow like their square root; then mean,
    # eps, root, division, product.
    "rms_norm": (
        0.0,
        40 * EPS,
        "16 lanes of at most 768 additions of positive numbers, six single operations",
    ),
    "rms_norm_add": (8 * EPS, 40 * EPS, "the norm, then a sum that may cancel (inputs of order 1)"),
    # Three roundings of numbers of the size of |a| + |b|, not of the result.
    "rope": (0.0, 4 * EPS, "relative to |a| + |b|: a product and an fma"),
    "add": (0.0, EPS, "one rounding"),
    "scale": (0.0, EPS, "one rounding"),
    "multiply_add": (0.0, 1.01 * EPS, "one rounding; the float64 reference rounds too"),
    # exp(-2u) carries the rounding of 2u, up to 88, as a relative error where the value is far
    # below its size at 0.
    "gelu_tanh": (
        4 * EPS,
        5 * EPS,
        "times |up|; x / (1 + exp) is within 3 units where it isn't tiny, absolute below",
    ),
    "silu": (4 * EPS, 5 * EPS, "as gelu_tanh"),
    "sigmoid": (2 * EPS, 5 * EPS, "as silu, without its last product"),
    "softcap": (0.0, 5 * EPS, "division, tanh within 2 units, product"),
    "exp": (
        0.5 * 2.0**-149,
        2e-7,
        "polynomial 3e-9, the last two fma of Horner, one rounding where the result is subnormal",
    ),
    "dot": (0.0, 1.0 * EPS, "times sqrt(n / 16 + 5) * 3, relative to sum |a * b|"),
    "softmax_sum": (
        0.0,
        6 * EPS,
        "exp 2 units, x - max half a unit of x; "
        "at most sqrt(n / 16) in the sum: times sqrt(n / 16 + 8)",
    ),
    "attend_merge": (0.0, 8 * EPS, "relative to |o| a + |os| b: two exp, a product, an fma"),
}


def attention_tolerance(head_dim, score_size, value_size, halves=False):
    """Bound on an output o / l of attention against float64 on the stored keys and values.

    score_size = max over positions of sum |q_d k_pd| * scale. A score is a chain of head_dim fma:
    its error behaves like sqrt(head_dim) roundings of numbers up to score_size; three times that is
    the bound. An error ds of all scores moves each weight by ds relatively, in numerator and
    denominator. exp and the sums add a few units. halves: queries and weights are rounded to f16
    for the tensor cores; the denominator sums the rounded weights."""
    ds = 3.0 * EPS * np.sqrt(head_dim + 8.0) * score_size
    if halves:
        ds += 2.0**-11 * score_size
    return value_size * (2.0 * np.expm1(min(ds, 1.0)) + 60 * EPS + (2.0**-10 if halves else 0.0))


ELEMENTWISE = ["add", "scale", "multiply_add", "gelu_tanh", "silu", "softcap"]

# (head_dim, rope_dims, normalize, interleaved, has weight, rotate)
HEADS = [
    (hd, rd, norm, inter, weight, rotate)
    for hd, rds in [
        (2, [2]),
        (6, [2, 4, 6]),
        (8, [8]),
        (30, [10, 30]),
        (64, [64, 32]),
        (80, [80, 20]),
        (96, [96]),
        (128, [128, 64]),
        (256, [256]),
        (512, [512, 128]),
    ]
    for rd in rds
    for norm, inter, weight, rotate in [
        (True, False, True, True),
        (False, False, False, True),
        (True, True, False, True),
        (False, True, True, True),
        (True, False, True, False),
    ]
]

HEAD_DIMS = [2, 8, 30, 32, 64, 80, 96, 128, 256, 512]
FORMATS = ["f16", "q8_0"]
# fmt: off
LENGTHS = [1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128,
           200, 255, 256, 257, 300, 400, 511, 512, 513, 700, 800, 1023, 1024, 1025, 1100]
# fmt: on


class Attend:
    """Attention of n_q queries over the cache of one KV head; rows_per_position query heads share a
    position (GQA)."""

    def __init__(
        self,
        head_dim,
        fmt,
        n_q,
        length,
        heads=1,
        window=0,
        capacity=None,
        softcap=0.0,
        scale=None,
        stale=0x00,
        score=4.0,
        first=None,
        last=None,
        tag="",
    ):
        self.head_dim, self.fmt, self.n_q, self.length = head_dim, fmt, n_q, length
        self.capacity = capacity or (length + 255) // 256 * 256
        self.softcap, self.stale, self.score, self.tag = softcap, stale, score, tag
        self.scale = 1.0 if scale is None else scale
        rows = (n_q + heads - 1) // heads  # positions the queries stand at: the last of the cache
        at = np.array([max(0, length - rows + c // heads) for c in range(n_q)])
        self.last = np.array(at if last is None else last, np.int32)
        self.first = np.array(
            np.maximum(0, at - window + 1) if window else np.zeros(n_q) if first is None else first,
            np.int32,
        )
        # A ring has forgotten what lies further back.
        self.first = np.maximum(self.first, max(0, length - self.capacity)).astype(np.int32)

    def __repr__(self):
        return (
            f"hd{self.head_dim}-{self.fmt}-q{self.n_q}-n{self.length}-cap{self.capacity}"
            f"-c{self.softcap}-s{self.score}-{self.first.min()}..{self.last.max()}{self.tag}"
        )

    def inputs(self):
        r = rng("attend", repr(self))
        k = r.standard_normal((self.length, self.head_dim), np.float32)
        v = r.standard_normal((self.length, self.head_dim), np.float32)
        q = r.standard_normal((self.n_q, self.head_dim), np.float32) * np.float32(
            self.score / np.sqrt(self.head_dim)
        )
        return k, v, q


def attend_cases():
    cases = []
    lengths = itertools.cycle(LENGTHS)
    variants = itertools.cycle(
        [
            dict(),
            dict(heads=2, window=100),
            dict(heads=8),
            dict(window=8),
            dict(heads=4, softcap=20.0),
            dict(heads=3, window=512, stale=0x3C),
            dict(heads=8, stale=0x11, scale=0.25),
        ]
    )
    # head size x format x number of queries, with lengths and variants going round
    for hd, fmt, n_q in itertools.product(HEAD_DIMS, FORMATS, range(1, 17)):
        cases.append(Attend(hd, fmt, n_q, next(lengths), **next(variants)))
    # other head sizes: one or two whole registers and a rest, the largest
    for hd, fmt, (n_q, length) in itertools.product(
        [6, 14, 34, 48, 72, 100, 112, 160, 192, 320, 576, 1024],
        FORMATS,
        [(1, 70), (5, 300), (16, 40)],
    ):
        cases.append(Attend(hd, fmt, n_q, length, heads=2, window=50 if n_q == 5 else 0))
    # rings: the window lies across the end of the ring
    for hd, fmt, (length, capacity, window) in itertools.product(
        [8, 80, 256],
        FORMATS,
        [
            (300, 256, 128),
            (513, 256, 200),
            (700, 512, 300),
            (1100, 512, 512),
            (1024, 512, 400),
            (900, 768, 512),
        ],
    ):
        cases.append(Attend(hd, fmt, 6, length, heads=2, window=window, capacity=capacity))
    # extremes
    for hd, fmt in itertools.product([8, 64, 128], FORMATS):
        for size in (1e4, 1e-4):
            cases.append(Attend(hd, fmt, 5, 300, score=size))
            cases.append(Attend(hd, fmt, 5, 300, score=size, softcap=30.0))
        cases.append(
            Attend(hd, fmt, 4, 300, first=[0, 255, 256, 299], last=[0, 255, 256, 299], tag="-one")
        )
        cases.append(
            Attend(hd, fmt, 4, 300, first=[5, 10, 300, 256], last=[4, 9, 299, 255], tag="-none")
        )
        cases.append(
            Attend(
                hd,
                fmt,
                9,
                600,
                first=[0, 3, 250, 256, 300, 10, 599, 31, 32],
                last=[599, 3, 260, 511, 299, 20, 599, 32, 31],
                stale=0x2A,
                tag="-mixed",
            )
        )
    return cases


def attend_short_cases():
    """Every length from 1 to 1100 with a head so small that it costs nothing."""
    return [
        Attend(8, FORMATS[n % 2], 2 + n % 3, n, heads=1 + n % 2, window=(0, 0, 77, 300)[n % 4])
        for n in range(1, 1101)
    ]


# ---- ops: graphs of one node ----
#
# A case holds inputs for MAX_ROWS rows at positions pos, pos + 1, ...; a test runs any stretch of
# them, on any backend and number of threads. testing_ops.py builds the graph,
# op_texts.py has the text of each op in float64.

MAX_ROWS = 65
# alone; few; the last of the register kernels; two chunks of 8; one more than a tile
ROWS = [1, 2, 3, 9, 17, 65]
THREADS = [1, 2, 3]
# Odd ones, the lanes of a sum and their neighbours, 1024 (rows of scratch are then pushed apart),
# one of a real model.
WIDTHS = [1, 5, 16, 33, 100, 257, 1024, 2304]

# name: values of a block, its bytes, where its f16 scales stand, which bytes are codes where there
# are minima, inputs of a scale
QUANTS = {
    "q4_0": (32, 18, [0], None, 32),
    "q4_1": (32, 20, [0, 2], (4, 20), 32),
    "q5_0": (32, 22, [0], None, 32),
    "q5_1": (32, 24, [0, 2], (4, 24), 32),
    "q8_0": (32, 34, [0], None, 32),
    "q2_k": (256, 84, [80, 82], (16, 80), 16),
    "q3_k": (256, 110, [108], None, 16),
    "q4_k": (256, 144, [0, 2], (16, 144), 32),
    "q5_k": (256, 176, [0, 2], (16, 176), 32),
    "q6_k": (256, 210, [208], None, 16),
    "iq4_nl": (32, 18, [0], None, 32),
    "iq4_xs": (256, 136, [0], None, 32),
    "tq2_0": (256, 66, [64], None, 32),
    "iq1_s": (256, 50, [0], None, 16),
    "iq1_m": (256, 56, [], None, 16),
    "iq2_xxs": (256, 66, [0], None, 16),
    "iq2_xs": (256, 74, [0], None, 16),
    "iq2_s": (256, 82, [0], None, 16),
    "iq3_xxs": (256, 98, [0], None, 32),
    "iq3_s": (256, 110, [0], None, 32),
    "tq1_0": (256, 54, [52], None, 32),
    "mxfp4": (32, 17, [], None, 32),
    "nvfp4": (64, 36, [], None, 16),
}
# Those that core/expand.h writes in plainer blocks at import, and TQ2_0, which one of them becomes.
EXPANDED = [*QUANTS][[*QUANTS].index("tq2_0") :]
DTYPES = ["f32", "f16", "bf16", *QUANTS]


def iq1_m_scales(blocks):
    """f16, four bits of it on top of each of four words."""
    words = blocks[:, 48:].copy().view(np.uint16) >> 12
    return (
        (words << (4 * np.arange(4, dtype=np.uint16))).sum(axis=1, dtype=np.uint16).view(np.float16)
    )


def set_iq1_m_scales(blocks, halves):
    words = blocks[:, 48:].copy().view(np.uint16) & 0x0FFF
    words |= (halves.view(np.uint16)[:, None] >> (4 * np.arange(4, dtype=np.uint16)) & 15) << 12
    blocks[:, 48:] = words.view(np.uint8)


def random_blocks(dtype, n, r):
    """[n, bytes] of random blocks with finite scales, about 2^-8."""
    _, size, halves, *_ = QUANTS[dtype]
    blocks = r.integers(0, 256, (n, size), dtype=np.uint8)

    def half():
        return (r.uniform(2.0**-9, 2.0**-7, n) * r.choice([-1, 1], n)).astype(np.float16)

    for at in halves:
        blocks[:, at : at + 2] = half().view(np.uint8).reshape(-1, 2)
    if dtype == "iq1_m":
        set_iq1_m_scales(blocks, half())
    if dtype == "mxfp4":
        blocks[:, 0] = r.integers(118, 122, n)
    return blocks


class Weight:
    """A weight as in a file: bytes of rows, and how it is imported."""

    def __init__(
        self, dtype, width, rows=1, depth=1, use="matrix", mapped=False, values=None, key=0
    ):
        self.dtype, self.width, self.rows, self.depth, self.use, self.mapped = (
            dtype,
            width,
            rows,
            depth,
            use,
            mapped,
        )
        n, r = rows * depth, rng("weight", dtype, width, rows, depth, key)
        if dtype in QUANTS:
            self.data = random_blocks(dtype, n * width // QUANTS[dtype][0], r).tobytes()
        else:
            values = (
                r.standard_normal((n, width), np.float32)
                if values is None
                else np.asarray(values, np.float32)
            )
            if dtype == "bf16":
                self.data = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
            else:
                self.data = values.astype({"f32": np.float32, "f16": np.float16}[dtype]).tobytes()

    def dequantized(self, data=None):
        """[depth, rows, width], by the gguf package."""
        import gguf

        data = np.frombuffer(self.data if data is None else data, np.uint8).reshape(
            self.depth * self.rows, -1
        )
        values = gguf.quants.dequantize(
            data, getattr(gguf.GGMLQuantizationType, self.dtype.upper())
        )
        return values.reshape(self.depth, self.rows, self.width)

    def sizes(self):
        """What a term of a product is at most, over what it multiplies: |weight|, and twice the
        minimum where there is one."""
        size = np.abs(self.dequantized()).astype(np.float64)
        if self.dtype in QUANTS and QUANTS[self.dtype][3]:
            blocks = np.frombuffer(self.data, np.uint8).reshape(-1, QUANTS[self.dtype][1]).copy()
            blocks[:, slice(*QUANTS[self.dtype][3])] = 0
            size += 2 * np.abs(self.dequantized(blocks.tobytes()))
        return size


class Store:
    """A cache that holds the keys and values of positions 0 .. length - 1."""

    def __init__(self, kind, n_kv_heads, head_dim, capacity, length, fill=0x00, key=0):
        self.kind, self.n_kv_heads, self.head_dim, self.capacity, self.fill = (
            kind,
            n_kv_heads,
            head_dim,
            capacity,
            fill,
        )
        r = rng("store", kind, n_kv_heads, head_dim, capacity, length, key)
        self.k, self.v = (
            r.standard_normal((length, n_kv_heads * head_dim), np.float32) for _ in range(2)
        )


class Empty:
    """Scratch that the op fills itself (v_from_k)."""

    def __init__(self, width):
        self.width = width


class OpCase:
    def __init__(
        self,
        op,
        name,
        inputs,
        params=None,
        pos=0,
        only_run=False,
        cpu_only=False,
        in_order=False,
        whole=False,
    ):
        """only_run: its rows are those of the run, never the out rows. cpu_only: other devices
        refuse it though they have the op. in_order: a row depends on its neighbours, so that only
        runs of the same first rows are equal. whole: its rows depend on each other; it runs on all
        of them."""
        self.cpu_only, self.in_order, self.whole = cpu_only, in_order, whole
        self.op, self.inputs, self.params, self.pos, self.only_run = (
            op,
            inputs,
            params or {},
            pos,
            only_run,
        )
        self.name = f"{op}-{name}"

    def __repr__(self):
        return self.name


def _normal(*key, width, scale=1.0):
    return rng(*key).standard_normal((MAX_ROWS, width), np.float32) * np.float32(scale)


def _vector(*key, width):
    return Weight(
        "f32", width, use="vector", values=rng(*key).standard_normal((1, width), np.float32)
    )


def embed_op_cases():
    for number, dtype in enumerate(DTYPES):
        width = 2 * QUANTS[dtype][0] if dtype in QUANTS else 33
        tokens = rng("tokens", dtype).integers(0, 70, (MAX_ROWS, 1), dtype=np.int32)
        tokens[:4] = [[69], [0], [69], [31]]
        for use, mapped in (("matrix", False), ("table", False), ("table", True)):
            table = Weight(dtype, width, 70, use=use, mapped=mapped)
            scale = 1.0 if number % 3 == 0 else 45.25
            name = f"{dtype}-{'mapped' if mapped else use}"
            yield OpCase(
                "embed", name, {"table": table, "tokens": tokens}, {"scale": scale}, only_run=True
            )
        if dtype in ("f32", "q8_0", "q4_0"):
            mixed = tokens.copy()
            for row in range(1, MAX_ROWS, 3):
                mixed[row] = -1 - rng("media", dtype, row).integers(0, row + 1)
            inputs = {"table": table, "tokens": mixed, "media": _normal("rows", width=width)}
            yield OpCase(
                "embed", f"{dtype}-media", inputs, {"scale": 45.25}, only_run=True, in_order=True
            )
    for dtype, width, n_layers, norm in (
        ("f32", 5, 3, True),
        ("q8_0", 32, 5, True),
        ("q6_k", 256, 4, True),
        ("f16", 100, 2, False),
        ("bf16", 256, 35, True),
    ):
        inputs = {
            "table": Weight(dtype, width * n_layers, 50, use="table", mapped=n_layers == 4),
            # below 0: a row of a medium, which has row 0
            "tokens": rng("ple", width).integers(-9, 50, (MAX_ROWS, 1), dtype=np.int32),
            "proj": _normal("proj", width, width=width * n_layers, scale=3),
            "norm": _vector("ple norm", width, width=width) if norm else None,
        }
        params = {
            "width": width,
            "n_layers": n_layers,
            "eps": 1e-6,
            "proj_scale": 0.0625,
            "table_scale": 16.0,
            "out_scale": 2.0**-0.5,
        }
        yield OpCase(
            "per_layer_embed", f"{dtype}-{width}x{n_layers}", inputs, params, only_run=True
        )


def rope_op_cases():
    for dims, base, pos, scale, factors in (
        (2, 10000.0, 0, 1.0, False),
        (30, 10000.0, 1000, 1.0, True),
        (64, 1e6, 131000, 1.0, False),
        (256, 1e6, 2000, 0.125, True),
        (512, 1e4, 0, 1.0, True),
    ):
        f = None
        if factors:  # the second half doesn't rotate: Gemma 4's full layers
            values = np.ones((1, dims // 2), np.float32)
            values[0, dims // 4 :] = [1e30 if i % 2 else 1e29 for i in range(dims // 2 - dims // 4)]
            values[0, 0] = 8.0
            f = Weight("f32", dims // 2, use="vector", values=values)
        params = {"dims": dims, "base": base, "position_scale": scale}
        yield OpCase(
            "rope_table",
            f"{dims}-pos{pos}{'-factors' if factors else ''}",
            {"factors": f},
            params,
            pos,
            only_run=True,
        )
    for head_dim, rope_dims, heads, kv, interleaved, q_norm, k_norm, norm_v, v in (
        (2, 2, 3, 1, False, True, True, True, "v"),
        (30, 10, 4, 2, True, False, False, False, "v"),
        (64, 64, 8, 2, False, True, True, True, "from k"),
        (64, 32, 3, 3, True, True, False, False, "from k"),
        (80, 20, 5, 1, False, False, True, True, "v"),
        (128, 128, 16, 8, True, True, True, False, "v"),
        (256, 128, 4, 1, False, True, True, True, "from k"),
        (96, 96, 2, 1, False, True, False, False, "no k"),
        (512, 512, 2, 1, False, True, True, True, "no q"),
    ):
        key = ("qkv", head_dim, rope_dims, v)
        angle = rng(*key).uniform(-4, 4, (MAX_ROWS, rope_dims // 2))
        inputs = {
            "q": None if v == "no q" else _normal(*key, "q", width=heads * head_dim, scale=2),
            "k": None if v == "no k" else _normal(*key, "k", width=kv * head_dim, scale=3),
            "v": _normal(*key, "v", width=kv * head_dim)
            if v in ("v", "no q")
            else Empty(kv * head_dim)
            if v == "from k"
            else None,
            "q_norm": _vector(*key, "qn", width=head_dim) if q_norm else None,
            "k_norm": _vector(*key, "kn", width=head_dim) if k_norm and v != "no k" else None,
            "rope": np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32),
        }
        params = {
            "n_heads": heads,
            "n_kv_heads": kv,
            "head_dim": head_dim,
            "rope_dims": rope_dims,
            "eps": 1e-6,
        }
        params |= {"interleaved": interleaved, "norm_v": norm_v, "v_from_k": v == "from k"}
        yield OpCase(
            "qkv_norm_rope",
            f"{head_dim}-{rope_dims}-{heads}-{kv}-{v.replace(' ', '_')}",
            inputs,
            params,
        )


def row_op_cases():
    for n in WIDTHS:
        x, y = _normal("x", n, width=n, scale=3), _normal("y", n, width=n)
        w = _vector("w", n, width=n)
        yield OpCase("scale", str(n), {"x": x}, {"scale": 1.7})
        yield OpCase("add", str(n), {"a": x, "b": y})
        yield OpCase("norm", f"{n}", {"x": x, "weight": w}, {"eps": 1e-6})
        yield OpCase("norm", f"{n}-plain", {"x": x, "weight": None}, {"eps": 1e-5, "scale": 0.3})
        yield OpCase(
            "norm_add",
            f"{n}",
            {"branch": x, "weight": w, "residual": y},
            {"eps": 1e-6, "scale": 0.7},
        )
        yield OpCase(
            "norm_add", f"{n}-plain", {"branch": x, "weight": None, "residual": y}, {"eps": 1e-6}
        )
        yield OpCase("gather_rows", str(n), {"x": x}, only_run=True)
        yield OpCase("softcap", str(n), {"x": x * np.float32(20)}, {"cap": 30.0})
        logits = x.copy()
        # ties, NaN, infinities; what they should give is the kernels' definition: lowest index, NaN
        # never
        if n > 2:
            logits[1, :] = 2.5
            logits[2, [n // 2, n - 1]] = 50
            logits[3, n // 3] = np.nan
            logits[4, :] = np.nan
            logits[5, : n - 1] = np.nan
            logits[6, :] = -np.inf
            logits[7, n // 2] = np.inf
            logits[8, :] = 0
            logits[8, 0] = -0.0
        yield OpCase("argmax", str(n), {"logits": logits})
        yield OpCase("concat", str(n), {"a": x, "b": _normal("beside", n, width=n // 2 + 1)})
        # Tokens in another order than the scores, and how sure the argmax is: where the soft-max is
        # one.
        sure = np.where(np.isfinite(logits), logits, np.float32(0.25))
        ids = np.array([rng("ids", n, row).permutation(n) for row in range(MAX_ROWS)], np.int32)
        yield OpCase("argmax", f"{n}-ids", {"logits": sure, "ids": ids}, {"probability": True})
        up = _normal("up", n, width=n + 40)
        for kind in ("silu", "gelu_tanh", "sigmoid"):
            params = {"activation": kind}
            yield OpCase("glu", f"{n}-{kind}-alone", {"gate": x}, params, cpu_only=True)
        params = {"activation": "sigmoid"}
        yield OpCase("glu", f"{n}-sigmoid", {"gate": x, "up": y}, params, cpu_only=True)
        kind = "silu" if n % 2 else "gelu_tanh"
        yield OpCase("glu", f"{n}-{kind}", {"gate": x, "up": y}, {"activation": kind})
        yield OpCase(
            "glu",
            f"{n}-offset",
            {"gate": x, "up": up},
            {"activation": "gelu_tanh", "up_offset": 40 if n < 1000 else 7},
        )
        for groups in (1, 3):
            both = _normal("both", n, groups, width=2 * n * groups, scale=2)
            yield OpCase(
                "glu", f"{n}-x{groups}", {"gate": both}, {"activation": kind, "groups": groups}
            )


def matmul_op_cases():
    for dtype in DTYPES:
        block = QUANTS[dtype][0] if dtype in QUANTS else 1
        shapes = [(1, max(block, 3)), (75, 3 * block if block > 1 else 47)]
        # rows of scratch pushed apart; several chunks a thread
        if dtype in ("f32", "q4_0", "q8_0", "q6_k", "q4_k"):
            shapes += [(330, 1024)]
        for rows, inputs in shapes:
            x = _normal("matmul", dtype, rows, width=inputs)
            x[1] *= 100
            x[2, rng("zeros", inputs).random(inputs) < 0.9] = 0
            x[3] = np.abs(x[3])
            yield OpCase(
                "matmul",
                f"{dtype}-{rows}x{inputs}",
                {"weight": Weight(dtype, inputs, rows), "x": x},
            )


def centroid_op_cases():
    for dtype, width, n_centroids, n_active, per_cluster in (
        ("f32", 20, 5, 2, 3),
        ("bf16", 48, 32, 4, 32),  # clusters are panels
        ("q8_0", 64, 16, 5, 48),  # clusters begin inside panels
        ("q4_0", 256, 40, 40, 16),  # all of them
        ("q4_0", 256, 512, 32, 128),  # the shape of E2B, smaller: several chunks
        ("q6_k", 256, 7, 3, 33),
    ):
        key = ("centroids", dtype, n_centroids)
        n_vocab = n_centroids * per_cluster
        scores = _normal(*key, "scores", width=n_centroids)
        scores[1] = 1.0  # the lowest indices
        scores[2, n_centroids // 2 :] = 9.0
        order = np.repeat(rng(*key, "order").permutation(n_vocab)[None], MAX_ROWS, 0).astype(
            np.int32
        )
        inputs = {
            "scores": scores,
            "x": _normal(*key, "x", width=width),
            "table": Weight(dtype, width, n_vocab),
            "order": order,
        }
        yield OpCase(
            "centroid_head",
            f"{dtype}-{n_centroids}-{n_active}",
            inputs,
            {"n_centroids": n_centroids, "n_active": n_active},
        )


def moe_op_cases():
    for n_experts, n_used, scaled in (
        (1, 1, False),
        (4, 1, True),
        (4, 4, False),
        (8, 2, True),
        (130, 8, True),
    ):
        logits = _normal("route", n_experts, width=n_experts, scale=2)
        logits[1] = 0.5  # all the same: the lowest indices
        logits[2, n_experts // 2 :] = 3.0
        logits[3] = np.arange(n_experts) % 2
        logits[4] *= 40  # gates next to 0 and 1
        scale = _vector("expert scale", n_experts, width=n_experts) if scaled else None
        inputs = {"logits": logits, "expert_scale": scale}
        yield OpCase(
            "moe_route", f"{n_experts}-{n_used}", inputs, {"n_experts": n_experts, "n_used": n_used}
        )
    for dtype, width, rows, n_experts, n_used, per_row, choice in (
        ("f32", 33, 5, 4, 2, 1, "random"),
        ("f16", 64, 33, 8, 3, 3, "random"),
        ("bf16", 20, 70, 3, 1, 1, "one"),
        ("q4_0", 64, 33, 8, 2, 1, "random"),
        ("q4_0", 64, 100, 128, 8, 1, "random"),
        ("q8_0", 96, 70, 5, 2, 2, "matvec"),
        ("q6_k", 256, 45, 6, 1, 1, "random"),
        ("q4_k", 256, 40, 6, 4, 4, "one"),
        ("q5_1", 32, 32, 2, 2, 1, "random"),
        ("iq4_nl", 64, 64, 7, 1, 1, "one"),
        ("q2_k", 256, 33, 4, 3, 3, "matvec"),
        ("mxfp4", 96, 33, 8, 2, 1, "random"),
        ("nvfp4", 64, 40, 4, 2, 2, "matvec"),
        ("iq2_xxs", 256, 33, 5, 2, 1, "random"),
        ("iq3_s", 512, 34, 3, 2, 1, "one"),
    ):
        key = ("moe", dtype, n_experts, choice)
        r = rng(*key)
        if choice == "one":  # one expert takes the first slot of all rows
            ids = np.array([[2, *[e for e in range(n_experts) if e != 2][: n_used - 1]]] * MAX_ROWS)
        else:  # few: the last experts are never asked
            among = n_experts if choice == "random" else n_used + 1
            ids = np.array([r.permutation(among)[:n_used] for _ in range(MAX_ROWS)])
        inputs = {
            "weights": Weight(dtype, width, rows, depth=n_experts),
            "x": _normal(*key, width=width * per_row),
            "ids": ids.astype(np.int32).reshape(MAX_ROWS, n_used),
        }
        params = {"n_experts": n_experts, "n_used": n_used, "per_row": per_row}
        yield OpCase("moe_matmul", f"{dtype}-{n_experts}-{n_used}-{choice}", inputs, params)
    for n in (1, 33, 1024):
        for n_used in (1, 2, 8):
            inputs = {
                "x": _normal("moe sum", n, width=n * n_used),
                "gates": _normal("gates", n_used, width=n_used),
            }
            params = {"width": n, "n_experts": 8, "n_used": n_used}
            yield OpCase("moe_sum", f"{n}-{n_used}", inputs, params)


def cache_op_cases():
    for kind, heads, dim, capacity, pos in (
        ("f16", 1, 2, 256, 0),
        ("f16", 3, 30, 256, 230),  # wraps
        ("q8_0", 2, 64, 512, 5),
        ("q8_0", 1, 80, 256, 1000),
        ("q8_0", 8, 34, 256, 3),
        ("f16", 1, 512, 256, 100),
    ):
        width = heads * dim
        inputs = {"cache": Store(kind, heads, dim, capacity, 0, fill=0x3C)}
        inputs |= {
            "k": _normal("k", kind, width, width=width),
            "v": _normal("v", kind, width, width=width, scale=5),
        }
        yield OpCase("kv_store", f"{kind}-{heads}x{dim}-pos{pos}", inputs, pos=pos, only_run=True)
    # heads, KV heads, head size, first position, window, softcap
    for number, (heads, kv, dim, pos, window, softcap) in enumerate(
        [
            (1, 1, 2, 0, 0, 0.0),
            (2, 1, 30, 0, 0, 0.0),
            (3, 1, 64, 191, 0, 0.0),
            (4, 1, 8, 230, 0, 30.0),
            (8, 1, 16, 256, 0, 0.0),
            (16, 1, 8, 300, 0, 0.0),
            (8, 4, 32, 100, 0, 0.0),
            (6, 2, 34, 700, 0, 0.0),
            (16, 2, 8, 500, 8, 0.0),
            (4, 1, 32, 400, 100, 20.0),
            (2, 2, 80, 960, 512, 0.0),  # a ring that has wrapped
            (4, 2, 8, 3000, 1024, 0.0),  # the window touches two supers
            (3, 1, 8, 990, 0, 0.0),  # into the second super
            (2, 1, 16, 2960, 0, 0.0),  # three supers
            (4, 4, 128, 20, 0, 0.0),
            (2, 1, 256, 10, 5, 0.0),
        ]
    ):
        length = pos + MAX_ROWS
        capacity = ((window - 1 + MAX_ROWS if window else length) + 255) // 256 * 256
        for kind in FORMATS if number % 3 == 0 else [FORMATS[number % 2]]:
            store = Store(kind, kv, dim, capacity, length, fill=0x2A)
            q = _normal("attend", number, width=heads * dim, scale=4 / np.sqrt(dim))
            params = {
                "n_heads": heads,
                "n_kv_heads": kv,
                "head_dim": dim,
                "window": window,
                "softcap": softcap,
                "scale": 1.0,
            }
            name = f"{kind}-{heads}of{kv}-{dim}-pos{pos}-w{window}"
            yield OpCase("attend", name, {"cache": store, "q": q}, params, pos)
            if pos > 0:  # a drafter's query: the rows before it
                yield OpCase(
                    "attend",
                    f"{name}-past",
                    {"cache": store, "q": q},
                    {**params, "past_only": 1},
                    pos,
                )
            if number % 2 == 0:
                yield until_case(name, store, q, params, pos, length)


def until_case(name, store, q, params, pos, length):
    """Rows that see ahead: alone, together to one end (an image), to the last position; some name a
    position behind their own, which means nothing."""
    at = np.arange(MAX_ROWS)
    until = np.where(at % 7 == 3, pos + at - 5, length - 1)
    until[10:30] = pos + 29
    until[:2] = pos + 40
    inputs = {"cache": store, "q": q, "until": until.astype(np.int32)[:, None]}
    return OpCase("attend", f"{name}-until", inputs, params, pos)


# (lowest, highest) of input and output: none, some, the input alone, a value for all
BOUNDS = [{}, {"in_min": -0.5, "in_max": 0.75, "out_min": -2.0, "out_max": 1.5}]
BOUNDS += [{"in_max": 0.25}, {"out_min": -1e10, "out_max": 1e10}, {"in_min": 0.5, "in_max": 0.5}]


def linear_op_cases():
    for number, (dtype, rows, inputs) in enumerate(
        (
            ("f32", 75, 47),
            ("f16", 33, 100),
            ("bf16", 5, 1024),
            ("q8_0", 75, 96),
            ("q4_0", 330, 512),
            ("q6_k", 31, 256),
        )
    ):
        x = _normal("linear", dtype, width=inputs)
        x[1] *= 100
        if dtype in ("f32", "bf16"):
            x[2, 3] = np.inf
        for bias in (None, _vector("linear bias", dtype, width=rows)):
            for which, bounds in enumerate(BOUNDS):
                if bias and which != number % len(BOUNDS):
                    continue
                y = x if "in_max" in bounds else np.nan_to_num(x, posinf=1)
                inputs_ = {"weight": Weight(dtype, inputs, rows), "x": y, "bias": bias}
                name = f"{dtype}-{rows}x{inputs}-{which}{'-bias' if bias else ''}"
                yield OpCase("linear", name, inputs_, bounds)


def tower_op_cases():
    """Ops of the vision towers."""
    for dims, base in ((4, 100.0), (16, 100.0), (36, 100.0), (64, 10000.0)):
        at = rng("grid", dims).integers(0, 10240, (2, MAX_ROWS, 1)).astype(np.int32)
        yield OpCase("rope_grid", str(dims), {"x": at[0], "y": at[1]}, {"dims": dims, "base": base})
    for n in WIDTHS:
        # A mean that is far from 0 for its spread.
        x = _normal("layer norm", n, width=n, scale=3) + np.float32(20)
        inputs = {"x": x, "weight": _vector("ln", n, width=n), "bias": _vector("lnb", n, width=n)}
        if n % 2 == 0:
            inputs["bias"] = None
        yield OpCase("layer_norm", str(n), inputs, {"eps": 1e-5})
    for n, k, bias, scale in (
        (1, 1, False, False),
        (5, 4, True, False),
        (33, 9, False, False),
        (768, 9, True, True),
        (1024, 9, False, True),
    ):
        ids = rng("pool", n).integers(0, MAX_ROWS, (MAX_ROWS, k)).astype(np.int32)
        inputs = {"x": _normal("pool", n, width=n, scale=3), "ids": ids}
        inputs["bias"] = _vector("pool bias", n, width=n) if bias else None
        inputs["scale"] = _vector("pool scale", n, width=n) if scale else None
        yield OpCase("pool_rows", f"{n}-{k}", inputs, {"factor": 3.1}, only_run=True, whole=True)
    for heads, dim, int8, scale, score in (
        (1, 2, False, 1.0, 2),
        (3, 36, False, 0.25, 4),
        (2, 64, False, 1.0, 8),
        (1, 2, True, 1.0, 2),
        (3, 36, True, 0.25, 4),
        (2, 64, True, 1.0, 1),
        (2, 72, True, 1.0, 30),
        (1, 64, True, 1.0, 0),
    ):
        key = ("attend all", heads, dim, score)
        inputs = {
            "q": _normal(*key, "q", width=heads * dim, scale=score / np.sqrt(dim)),
            "k": _normal(*key, "k", width=heads * dim),
            "v": _normal(*key, "v", width=heads * dim),
        }
        params = {"n_heads": heads, "head_dim": dim, "int8": int8, "scale": scale}
        name = f"{heads}x{dim}-{'int8' if int8 else 'f32'}-s{score}"
        yield OpCase("attend_all", name, inputs, params, only_run=True, whole=True)


def sound_op_cases():
    # heads, head size, window, softcap; a window of 13 in the place of 12 is a mistake that
    # quantized weights hide
    for heads, dim, window, softcap in (
        (1, 1, 1, 50.0),
        (2, 5, 2, 1.0),
        (4, 12, 12, 50.0),
        (4, 12, 13, 50.0),
        (8, 128, 12, 50.0),
        (3, 33, 64, 5.0),
        (1, 16, 17, 50.0),
    ):
        key, width = ("attend_local", heads, dim, window), heads * dim
        size = 4 / np.sqrt(dim)
        inputs = {
            "q": _normal(*key, "q", width=width, scale=size),
            "k": _normal(*key, "k", width=width, scale=2),
            "v": _normal(*key, "v", width=width, scale=5),
            "q_scale": _vector(*key, "scale", width=dim),
            "relative": _vector(*key, "relative", width=window * width),
        }
        params = {"n_heads": heads, "head_dim": dim, "window": window, "softcap": softcap}
        yield OpCase("attend_local", f"{heads}x{dim}-{window}", inputs, params, in_order=True)
    for width, taps in ((1, 1), (5, 2), (48, 5), (100, 5), (257, 3), (1024, 5), (33, 16)):
        key = ("conv_causal", width, taps)
        inputs = {
            "x": _normal(*key, width=width),
            "weight": _vector(*key, "weight", width=taps * width),
        }
        yield OpCase("conv_causal", f"{width}-{taps}", inputs, {"taps": taps}, in_order=True)
    for bands, channels_1, channels_2 in (
        (1, 1, 2),
        (5, 3, 4),
        (6, 16, 9),
        (128, 128, 32),
        (128, 128, 8),
        (31, 40, 70),
    ):
        key, c1, c2 = ("subsample", bands, channels_2), channels_1, channels_2
        inputs = {
            "x": _normal(*key, width=bands, scale=3),
            "conv_1": _vector(*key, "conv 1", width=9 * c1),
            "norm_1": _vector(*key, "norm 1", width=c1),
            "conv_2": _vector(*key, "conv 2", width=9 * c1 * c2),
            "norm_2": _vector(*key, "norm 2", width=c2),
        }
        params = {"channels_1": c1, "channels_2": c2, "eps": 1e-6}
        yield OpCase(
            "subsample", f"{bands}-{c1}-{c2}", inputs, params, only_run=True, in_order=True
        )


def op_cases():
    makers = (
        linear_op_cases,
        tower_op_cases,
        embed_op_cases,
        rope_op_cases,
        row_op_cases,
        matmul_op_cases,
        centroid_op_cases,
        moe_op_cases,
        cache_op_cases,
        sound_op_cases,
    )
    return [case for make in makers for case in make()]
