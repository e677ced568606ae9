"""Several sequences in one run on the Hexagon backend, their caches in pages of a pool: every row
has the bits that its sequence gives alone. Pages lie in shuffled order, what no sequence has
written is NaN, and a wrong table or a wrong segment shows."""

import os
import subprocess
import sys

import numpy as np
import pytest

import op_cases as oc
from testing_ops import device, same, testing

DEVICE = os.environ.get("PILLION_TEST_HTP", "htp:sim")
PAGE, NAN = 256, 0x7F  # a byte of which every f16 is a NaN, values and scales
LENGTH, WINDOW, ROWS, OUTS = 1536, 300, 64, 4
RING = -(-(WINDOW - 1 + ROWS) // PAGE) + 1
HEADS, DIM, WIDTH = 4, 16, 64
ENTRIES = {"full": LENGTH // PAGE, "sliding": RING}

try:
    device(DEVICE)
except testing.Error as error:
    pytest.skip(f"no {DEVICE}: {error} (make build makes it)", allow_module_level=True)


def matmul(g, on, x, name, rows):
    w = oc.Weight("q8_0", WIDTH, rows, key=name)
    return g.op("matmul", {"weight": g.weight(on.weight(w.data, "q8_0", WIDTH, rows)), "x": x})[0]


def shuffled(kind, sequences):
    """The page tables of a pool, and its pages: one more than the tables name."""
    n = sequences * ENTRIES[kind]
    order = oc.rng("pages", kind, sequences).permutation(n + 1).astype(np.int32)
    return order[:n].reshape(sequences, -1).copy(), n + 1


class Layers:
    """Two layers of a model: one sees everything, one has a window. Their caches are of one
    sequence (sequences 0), or pools. With `outs` only the last rows go through the last layer."""

    def __init__(self, name, kind, n_kv, sequences=0, outs=False):
        self.on, self.caches, self.tables = device(name), {}, {}
        params = {"n_heads": HEADS, "n_kv_heads": n_kv, "head_dim": DIM}
        g = self.on.graph(ROWS, OUTS)
        x = g.input("x", WIDTH)
        for layer, window in (("full", 0), ("sliding", WINDOW)):
            kv = g.kv(self.cache(layer, kind, n_kv, sequences))
            rope = g.op("rope_table", {}, {"dims": DIM, "base": 1e4})[0]
            q, k, v = (
                matmul(g, self.on, x, layer + name, n * DIM)
                for name, n in (("q", HEADS), ("k", n_kv), ("v", n_kv))
            )
            turn = {**params, "rope_dims": DIM, "eps": 1e-6}
            g.op("qkv_norm_rope", {"q": q, "k": k, "v": v, "rope": rope}, turn)
            g.op("kv_store", {"cache": kv, "k": k, "v": v})
            if layer == "sliding" and outs:
                x, q = (g.op("gather_rows", {"x": value})[0] for value in (x, q))
            y = g.op("attend", {"cache": kv, "q": q}, {**params, "window": window})[0]
            x = g.op("add", {"a": matmul(g, self.on, y, layer + "o", WIDTH), "b": x})[0]
        g.output(x, "y")
        self.plan = g.compile(2)

    def cache(self, layer, kind, n_kv, sequences):
        if not sequences:
            made = self.on.cache(kind, n_kv, DIM, ENTRIES[layer] * PAGE)
        else:
            self.tables[layer], pages = shuffled(layer, sequences)
            pool = {"fill": NAN, "page": PAGE, "table": self.tables[layer]}
            made = self.on.cache(kind, n_kv, DIM, pages * PAGE, **pool)
        self.caches[layer] = made
        return made

    def run(self, x, segments, outs=0):
        tokens = np.zeros((len(x), 1), np.int32)
        return self.plan.run({"x": x, "tokens": tokens}, 0, outs, segments=segments)["y"]


def text(sequence):
    """What goes into the layers at the positions of a sequence."""
    return oc.rng("text", sequence).standard_normal((LENGTH, WIDTH), np.float32)


@pytest.fixture(scope="module")
def alone():
    """The rows of sequence `s` of `length` positions, each run alone: by (kind, n_kv, s)."""
    known = {}

    def rows(kind, n_kv, s, length):
        y = known.get((kind, n_kv, s), ())
        if len(y) < length:
            layers, x = Layers(DEVICE, kind, n_kv), text(s)
            y = known[kind, n_kv, s] = np.concatenate(
                [
                    layers.run(x[at : at + ROWS], [(len(x[at : at + ROWS]), at, 0)])
                    for at in range(0, length, ROWS)
                ]
            )
        return y[:length]

    return rows


def schedule(lengths, seed):
    """Runs of segments (sequence, rows): prompts in pieces of any size beside single rows, in any
    order, sometimes two segments of a sequence."""
    rng, left = oc.rng("schedule", lengths, seed), list(lengths)
    while any(left):
        run, room = [], ROWS
        for s in rng.permutation(len(left)):
            for n in rng.choice([1, 2, 5, 9, 33, 55], 1 + int(rng.integers(0, 4) == 0)):
                n = int(min(n, left[s], room))
                if n:
                    run.append((int(s), n))
                    left[s], room = left[s] - n, room - n
        yield run


def play(layers, lengths, seed, take):
    """All runs of a schedule; take(sequence, position, rows) sees the results."""
    at = [0] * len(lengths)
    for run in schedule(lengths, seed):
        x, segments, places = [], [], []
        for s, n in run:
            x.append(text(s)[at[s] : at[s] + n])
            segments.append((n, at[s], s))
            places.append((s, at[s], n))
            at[s] += n
        y = layers.run(np.concatenate(x), segments)
        for s, pos, n in places:
            take(s, pos, y[:n])
            y = y[n:]


@pytest.mark.parametrize(
    "kind, n_kv, lengths",
    [
        ("f16", 1, (1100, 257)),  # the first in partitions, its thread's share
        ("q8_0", 2, (700, 256, 301)),
        ("f16", 2, (255, 1, 600, 299)),
    ],
)
def test_rows_of_several_sequences_have_the_bits_of_each_alone(alone, kind, n_kv, lengths):
    layers = Layers(DEVICE, kind, n_kv, len(lengths))

    def take(s, pos, y):
        want = alone(kind, n_kv, s, lengths[s])[pos : pos + len(y)]
        assert same(y, want), f"sequence {s}, {len(y)} rows from {pos}"

    play(layers, lengths, 1, take)


def test_pages_give_the_bits_of_the_cpu():
    """The CPU reads the same tables; and so does a drafter there that reads the DSP's pool."""
    lengths, got = (300, 520), {}
    both = {name: Layers(name, "f16", 2, 2) for name in (DEVICE, "generic")}
    for name, layers in both.items():
        got[name] = []
        play(layers, lengths, 2, lambda s, pos, y, to=got[name]: to.append(y))
    for a, b in zip(got[DEVICE], got["generic"]):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
    params = {"n_heads": HEADS, "n_kv_heads": 2, "head_dim": DIM, "past_only": 1}
    for layer, window in (("full", 0), ("sliding", WINDOW)):
        answers = []
        for name in (DEVICE, "generic"):
            g = device(name).graph(2)
            kv = g.kv(both[DEVICE].caches[layer])
            q = g.input("q", HEADS * DIM)
            g.output(g.op("attend", {"cache": kv, "q": q}, {**params, "window": window})[0], "y")
            x = {"q": text(9)[:2], "tokens": np.zeros((2, 1), np.int32)}
            segments = [(1, lengths[1], 1), (1, lengths[0], 0)]
            answers.append(g.compile(1).run(x, segments=segments)["y"])
        assert np.isfinite(answers[0]).all() and same(*answers), layer


@pytest.mark.parametrize("at", [254, 255, 256, 257, WINDOW - 2, WINDOW - 1, WINDOW, 511, 512])
def test_borders(alone, at):
    """Rows across the borders of pages and windows, one and four at a time, beside a stranger."""
    layers = Layers(DEVICE, "q8_0", 2, 2)
    for begin in range(0, at, ROWS):
        n = min(ROWS, at - begin)
        layers.run(text(0)[begin : begin + n], [(n, begin, 0)])
    want = alone("q8_0", 2, 0, at + 5)
    for n in (1, 4):
        y = layers.run(np.concatenate([text(1)[:3], text(0)[at : at + n]]), [(3, 0, 1), (n, at, 0)])
        assert same(y[3:], want[at : at + n]), n
        at += n


def test_only_the_last_rows_are_wanted(alone):
    """Rows with output are the last of a run, some of a segment's or some whole segments."""
    layers = Layers(DEVICE, "f16", 2, 3, outs=True)
    x, at = [text(s) for s in range(3)], [0, 0, 0]
    for segments in ([(9, 0)], [(4, 1), (3, 0)], [(1, 2), (2, 1), (1, 0)], [(5, 2), (9, 1)]):
        rows = np.concatenate([x[s][at[s] : at[s] + n] for n, s in segments])
        placed = [(n, at[s], s) for n, s in segments]
        y = layers.run(rows, placed, outs=min(OUTS, len(rows)))
        want = [alone("f16", 2, s, 64)[at[s] + i] for n, s in segments for i in range(n)][-len(y) :]
        assert same(y, np.array(want)), segments
        for n, s in segments:
            at[s] += n


def test_pages_that_were_given_back(alone):
    """The sliding layer's pages behind the window become another sequence's, full of NaN first."""
    layers, x = Layers(DEVICE, "f16", 2, 2), text(0)
    want = alone("f16", 2, 0, 900)
    free = next(p for p in range(2 * RING + 1) if p not in layers.tables["sliding"])
    for at in range(0, 900, 50):
        first = max(0, at - WINDOW + 1) // PAGE  # the first page that a run may still look at
        ahead = (at + 49) // PAGE
        table = layers.tables["sliding"]
        if ahead - first + 1 < RING and ahead > RING - 1:
            entry = (ahead + 1) % RING
            table[0, entry], free = free, int(table[0, entry])
            layers.caches["sliding"].fill_page(free, NAN)
            layers.caches["sliding"].set_table(table)
        assert same(layers.run(x[at : at + 50], [(50, at, 0)]), want[at : at + 50]), at


# ---- what must show ----


@pytest.fixture(scope="module")
def two():
    """Layers with two sequences of 300 positions, and a run of a row of each."""
    layers = Layers(DEVICE, "f16", 2, 2)
    for s in (0, 1):
        for at in range(0, 300, 60):
            layers.run(text(s)[at : at + 60], [(60, at, s)])
    return layers, np.stack([text(0)[300], text(1)[300]]), [(1, 300, 0), (1, 300, 1)]


def test_faults_show(alone, two):
    layers, x, segments = two
    want = np.stack([alone("f16", 2, s, 301)[300] for s in (0, 1)])
    assert same(layers.run(x, segments), want)
    for wrong in ([(1, 300, 1), (1, 300, 0)], [(1, 299, 0), (1, 300, 1)], [(2, 300, 0)]):
        y = layers.run(x, wrong)
        assert not same(y, want), wrong
        assert same(layers.run(x, segments), want)
    for layer in ("full", "sliding"):
        table = layers.tables[layer]
        try:
            layers.caches[layer].set_table(np.roll(table, 1, axis=1))
            assert not same(layers.run(x, segments), want), layer
        finally:
            layers.caches[layer].set_table(table)
    layers.run(x, segments)


@pytest.mark.parametrize("layer", ENTRIES)
@pytest.mark.parametrize("page", [-1, 2**31 - 1, None])
def test_pages_outside_the_pool_are_refused(alone, two, layer, page):
    layers, x, segments = two
    pages = 2 * ENTRIES[layer] + 1
    page = pages if page is None else page
    table = layers.tables[layer].copy()
    table[1, 1] = page
    sentence = (
        f"op kv_store of layer .* was refused by device {DEVICE}: page outside the cache .operand "
        f"0, value {page % 2**32}, limit {pages}"
    )
    before = [a.tobytes() for a in layers.caches[layer].read()]
    try:
        layers.caches[layer].set_table(table)
        with pytest.raises(testing.Error, match=sentence):
            layers.run(x, segments)
        # nothing ran, and a sequence that has its pages goes on
        assert [a.tobytes() for a in layers.caches[layer].read()] == before
        y = layers.run(x[:1], segments[:1])
        assert same(y[0], alone("f16", 2, 0, 301)[300])
    finally:
        layers.caches[layer].set_table(layers.tables[layer])


def test_segments_that_name_nobody(two):
    layers, x, segments = two
    with pytest.raises(testing.Error, match="sequence outside the page table .operand 0, value 2,"):
        layers.run(x, [segments[0], (1, 300, 2)])
    with pytest.raises(testing.Error, match="segments of a run cover"):
        layers.run(x, [segments[0], (1, -1, 1)])


def test_caches_that_are_not_supported():
    on = device(DEVICE)

    def refused(cache, sentence):
        for op in ("kv_store", "attend"):
            g = on.graph(1)
            values = {"cache": g.kv(cache)}
            values |= {name: g.input(name, 2 * DIM) for name in ("k", "v", "q")}
            params = {"n_heads": 2, "n_kv_heads": 2, "head_dim": DIM}
            if op == "attend":
                g.op(op, {n: values[n] for n in ("cache", "q")}, params)
            else:
                g.op(op, {n: values[n] for n in ("cache", "k", "v")})
            with pytest.raises(testing.Error, match=sentence):
                g.compile(1)

    refused(
        on.cache("f16", 2, DIM, 1024, page=256),
        "a cache of 4 pages without a page table, device htp needs one",
    )
    wide = np.zeros((1, (1 << 22) + 1), np.int32)
    refused(
        on.cache("f16", 2, DIM, 512, page=256, table=wide),
        "a page table of 4194305 entries, .*, for pages of 256 slots, device htp supports 1 to "
        "4194304 entries",
    )


CHILD = """
import sys; sys.path[:0] = sys.argv[2:]
import numpy as np
from testing_ops import device, testing
on = device(sys.argv[1])
table = np.zeros((1, 4), np.int32)
try:
    on.cache("f16", 8, 512, 4096, page=256, table=table)
except testing.Error as error:
    print(error)
g, kept = on.graph(1), []
for n in range(3):
    kept.append(on.cache("f16", 2, 128, 4096, page=256, table=table))
    k, v = (g.input(f"{x}{n}", 256) for x in "kv")
    g.op("kv_store", {"cache": g.kv(kept[-1]), "k": k, "v": v})
try:
    g.compile(1)
except testing.Error as error:
    print(error)
"""


@pytest.mark.skipif(DEVICE != "htp:sim", reason="the emulated address space is made small")
def test_pools_that_a_session_does_not_see():
    folder = os.path.dirname(oc.__file__)
    command = [sys.executable, "-c", CHILD, DEVICE, folder]
    done = subprocess.run(
        command, env={**os.environ, "PILLION_HTP_SPACE": "10"}, capture_output=True, text=True
    )
    one, all_three = done.stdout.splitlines()
    assert "64 MB in one piece, a session of the DSP sees 10 MB" in one
    assert "session 0 of the DSP sees 10 MB, of which" in all_three and "do not fit" in all_three
