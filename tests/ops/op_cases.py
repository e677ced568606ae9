"""Cases of every op that is not a matmul: shapes, settings, tolerances with their reasons. One list for all backends.

Inputs are made by the tests (`rng(case)` gives each case its own numbers). Tolerances compare a backend with float64 NumPy, element by
element: |got - want| <= absolute + relative * |want|. CPU tables must also agree with each other bit for bit.
"""
import itertools
import zlib

import numpy as np

EPS = 2.0**-24    # half a unit in the last place of 1.0: one f32 rounding

# Around the widths of vectors (4, 8, 16), the runs of argmax (1024), and the widths of real models.
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23, 31, 32, 33, 47, 48, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 511, 512, 1000,
         1023, 1024, 1025, 1536, 2047, 2304, 4097, 6144, 12288]


def rng(*key):
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


# op -> (absolute, relative, reason)
TOLERANCES = {
    # The sum of squares runs in 16 lanes: n / 16 roundings grow like their square root; then mean, eps, sqrt, division, two products.
    "rms_norm": (0.0, 40 * EPS, "16 lanes of at most 768 additions of positive numbers, six single operations"),
    "rms_norm_add": (8 * EPS, 40 * EPS, "the norm, then a sum that may cancel (inputs of order 1)"),
    # Three roundings of numbers of the size of |a| + |b|, not of the result.
    "rope": (0.0, 4 * EPS, "relative to |a| + |b|: a product and an fma"),
    "add": (0.0, EPS, "one rounding"),
    "scale": (0.0, EPS, "one rounding"),
    "multiply_add": (0.0, 1.01 * EPS, "one rounding; the float64 reference rounds too"),
    # exp(-2u) carries the rounding of 2u, up to 88, as a relative error where the value is far below its size at 0.
    "gelu_tanh": (4 * EPS, 5 * EPS, "times |up|; x / (1 + exp) is within 3 units where it isn't tiny, absolute below"),
    "silu": (4 * EPS, 5 * EPS, "as gelu_tanh"),
    "softcap": (0.0, 5 * EPS, "division, tanh within 2 units, product"),
    "exp": (0.5 * 2.0**-149, 2e-7, "polynomial 3e-9, the last two fma of Horner, one rounding where the result is subnormal"),
    "dot": (0.0, 1.0 * EPS, "times sqrt(n / 16 + 5) * 3, relative to sum |a * b|"),
    "softmax_sum": (0.0, 6 * EPS, "exp 2 units, x - max half a unit of x; at most sqrt(n / 16) in the sum: times sqrt(n / 16 + 8)"),
    "attend_merge": (0.0, 8 * EPS, "relative to |o| a + |os| b: two exp, a product, an fma"),
}


def attention_tolerance(head_dim, score_size, value_size):
    """Bound on an output o / l of attention against float64 on the stored keys and values.

    score_size = max over positions of sum |q_d k_pd| * scale. A score is a chain of head_dim fma: its error behaves like
    sqrt(head_dim) roundings of numbers up to score_size; three times that is the bound. An error ds of all scores moves each weight by
    ds relatively, in numerator and denominator. exp and the sums add a few units.
    """
    ds = 3.0 * EPS * np.sqrt(head_dim + 8.0) * score_size
    return value_size * (2.0 * np.expm1(min(ds, 1.0)) + 60 * EPS)


ELEMENTWISE = ["add", "scale", "multiply_add", "gelu_tanh", "silu", "softcap"]

# (head_dim, rope_dims, normalize, interleaved, has weight, rotate)
HEADS = [(hd, rd, norm, inter, weight, rotate)
         for hd, rds in [(2, [2]), (6, [2, 4, 6]), (8, [8]), (30, [10, 30]), (64, [64, 32]), (80, [80, 20]), (96, [96]), (128, [128, 64]),
                         (256, [256]), (512, [512, 128])]
         for rd in rds for norm, inter, weight, rotate in [(True, False, True, True), (False, False, False, True), (True, True, False, True),
                                                           (False, True, True, True), (True, False, True, False)]]

HEAD_DIMS = [2, 8, 30, 32, 64, 80, 96, 128, 256, 512]
FORMATS = ["f16", "q8_0"]
LENGTHS = [1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 200, 255, 256, 257, 300, 400, 511, 512, 513, 700, 800, 1023, 1024,
           1025, 1100]


class Attend:
    """Attention of n_q queries over the cache of one KV head; rows_per_position query heads share a position (GQA)."""

    def __init__(self, head_dim, fmt, n_q, length, heads=1, window=0, capacity=None, softcap=0.0, scale=None, stale=0x00, score=4.0,
                 first=None, last=None, tag=""):
        self.head_dim, self.fmt, self.n_q, self.length = head_dim, fmt, n_q, length
        self.capacity = capacity or (length + 255) // 256 * 256
        self.softcap, self.stale, self.score, self.tag = softcap, stale, score, tag
        self.scale = 1.0 if scale is None else scale
        rows = (n_q + heads - 1) // heads    # positions the queries stand at: the last of the cache
        at = np.array([max(0, length - rows + c // heads) for c in range(n_q)])
        self.last = np.array(at if last is None else last, np.int32)
        self.first = np.array(np.maximum(0, at - window + 1) if window else np.zeros(n_q) if first is None else first, np.int32)
        # A ring has forgotten what lies further back.
        self.first = np.maximum(self.first, max(0, length - self.capacity)).astype(np.int32)

    def __repr__(self):
        return (f"hd{self.head_dim}-{self.fmt}-q{self.n_q}-n{self.length}-cap{self.capacity}-c{self.softcap}-s{self.score}"
                f"-{self.first.min()}..{self.last.max()}{self.tag}")

    def inputs(self):
        r = rng("attend", repr(self))
        k = r.standard_normal((self.length, self.head_dim), np.float32)
        v = r.standard_normal((self.length, self.head_dim), np.float32)
        q = r.standard_normal((self.n_q, self.head_dim), np.float32) * np.float32(self.score / np.sqrt(self.head_dim))
        return k, v, q


def attend_cases():
    cases = []
    lengths = itertools.cycle(LENGTHS)
    variants = itertools.cycle([
        dict(), dict(heads=2, window=100), dict(heads=8), dict(window=8), dict(heads=4, softcap=20.0), dict(heads=3, window=512, stale=0x3C),
        dict(heads=8, stale=0x11, scale=0.25)])
    # head size x format x number of queries, with lengths and variants going round
    for hd, fmt, n_q in itertools.product(HEAD_DIMS, FORMATS, range(1, 17)):
        cases.append(Attend(hd, fmt, n_q, next(lengths), **next(variants)))
    # other head sizes: one or two whole registers and a rest, the largest
    for hd, fmt, (n_q, length) in itertools.product([6, 14, 34, 48, 72, 100, 112, 160, 192, 320, 576, 1024], FORMATS, [(1, 70), (5, 300), (16, 40)]):
        cases.append(Attend(hd, fmt, n_q, length, heads=2, window=50 if n_q == 5 else 0))
    # rings: the window lies across the end of the ring
    for hd, fmt, (length, capacity, window) in itertools.product(
            [8, 80, 256], FORMATS, [(300, 256, 128), (513, 256, 200), (700, 512, 300), (1100, 512, 512), (1024, 512, 400), (900, 768, 512)]):
        cases.append(Attend(hd, fmt, 6, length, heads=2, window=window, capacity=capacity))
    # extremes
    for hd, fmt in itertools.product([8, 64, 128], FORMATS):
        for size in (1e4, 1e-4):
            cases.append(Attend(hd, fmt, 5, 300, score=size))
            cases.append(Attend(hd, fmt, 5, 300, score=size, softcap=30.0))
        cases.append(Attend(hd, fmt, 4, 300, first=[0, 255, 256, 299], last=[0, 255, 256, 299], tag="-one"))
        cases.append(Attend(hd, fmt, 4, 300, first=[5, 10, 300, 256], last=[4, 9, 299, 255], tag="-none"))
        cases.append(Attend(hd, fmt, 9, 600, first=[0, 3, 250, 256, 300, 10, 599, 31, 32], last=[599, 3, 260, 511, 299, 20, 599, 32, 31],
                            stale=0x2A, tag="-mixed"))
    return cases


def attend_short_cases():
    """Every length from 1 to 1100 with a head so small that it costs nothing."""
    return [Attend(8, FORMATS[n % 2], 2 + n % 3, n, heads=1 + n % 2, window=(0, 0, 77, 300)[n % 4]) for n in range(1, 1101)]
