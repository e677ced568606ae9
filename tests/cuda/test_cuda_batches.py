"""Rows of several sequences in one run on the CUDA backend under its emulation: segments, pages in
any order, tables that change. A sequence's rows have the bits that they have alone. With a GPU:
PILLION_TEST_CUDA=cuda."""

import functools
import os

import numpy as np
import pytest
from device_models import ids_of, open_model
from device_ops import attend, attend_plan
from page_pools import NOBODYS, NOWHERE, PAGE, Pool, by_segment, queries

import op_cases as oc
from testing_ops import device, same, testing

DEVICE = os.environ.get("PILLION_TEST_CUDA", "cuda:sim")
FEW = 16  # rows up to which a row keeps its bits whatever runs beside it
LENGTHS = (300, 257, 520, 256)

try:
    on = device(DEVICE)
except testing.Error as error:
    pytest.skip(f"no {DEVICE}: {error} (make build makes it)", allow_module_level=True)


@functools.lru_cache(maxsize=None)
def pool(kind="f16", kv=1, dim=64, lengths=LENGTHS, entries=None):
    return Pool(on, kind, kv, dim, lengths, entries)


def params(gqa=2, kv=1, dim=64, **more):
    return {"n_heads": gqa * kv, "n_kv_heads": kv, "head_dim": dim, **more}


def together(p, options, segments, plan=None):
    """What the segments' rows get in one run."""
    q = queries(segments, options["n_heads"] * options["head_dim"])
    plan = plan or attend_plan(on, p.cache, options, len(q))
    return plan.run({"q": q, "tokens": np.zeros((len(q), 1), np.int32)}, segments=segments)["y"]


def alone(p, options, segments):
    """The same, each segment in a run of its own over a cache of its own."""
    q, out = queries(segments, options["n_heads"] * options["head_dim"]), []
    for (n, pos, s), rows in by_segment(segments, q):
        out.append(attend(attend_plan(on, p.alone[s], options, n), rows, pos))
    return np.concatenate(out)


def test_what_the_device_says_of_runs_of_several():
    assert on.batches and on.few_rows == FEW
    assert testing.Device("cpu").batches and testing.Device("cpu").few_rows == 0


# ---- the cache ----


@pytest.mark.parametrize("kind", oc.FORMATS)
def test_every_row_lies_in_its_own_page(kind):
    """Runs that store rows of all sequences, over page borders, leave in each one's pages what a
    cache of its own has; nobody's pages stay as they were."""
    p = pool(kind, 2, 40)
    for s, length in enumerate(p.lengths):
        for got, want in zip(p.rows_of(s), p.rows_of(s, pooled=False)):
            assert same(got[:, :length], want[:, :length]), s
            assert np.isnan(got[:, length:]).all()
    used = {page for page in p.table.ravel() if page != NOWHERE}
    for x in p.cache.read():
        for page in set(range(x.shape[1] // PAGE)) - used:
            assert np.isnan(x[:, page * PAGE : (page + 1) * PAGE]).all(), page


def test_a_ring_of_pages_is_a_ring():
    p = pool("f16", 1, 64, (900, 700), 2)
    for s in range(2):
        for got, want in zip(p.rows_of(s), p.rows_of(s, pooled=False)):
            assert same(got, want), s


def test_rotations_by_the_segments_positions():
    segments = [(3, 0, 0), (1, 131000, 1), (12, 255, 2)]

    def plan(rows):
        g = on.graph(rows)
        factors = {"dims": 64, "base": 10000.0}
        g.output(g.op("rope_table", {}, factors)[0], "y")
        return g.compile(1)

    tokens = np.zeros((16, 1), np.int32)
    got = plan(16).run({"tokens": tokens}, segments=segments)["y"]
    for (n, pos, _), rows in by_segment(segments, got):
        assert same(rows, plan(n).run({"tokens": tokens}, n, 0, pos)["y"])


# ---- attention ----

ROUNDS = [  # of at most FEW rows
    [(1, 299, 0), (1, 256, 1), (1, 519, 2), (1, 255, 3)],  # a token each, beside page borders
    [(4, 254, 0), (3, 254, 1), (5, 511, 2), (4, 252, 3)],  # rounds over them
    [(1, 0, 3), (9, 291, 0), (2, 3, 1)],  # beginnings
    [(3, 100, 2), (2, 103, 2), (1, 40, 0)],  # one sequence twice
    [(1, 10 * n, n % 4) for n in range(16)],
]


@pytest.mark.parametrize(
    "kind, gqa, kv, dim, window, past",
    [
        ("f16", 2, 1, 64, 0, 0),
        ("q8_0", 2, 2, 64, 0, 0),
        ("f16", 8, 1, 64, 255, 0),
        ("f16", 3, 1, 80, 257, 0),
        ("q8_0", 1, 1, 256, 256, 1),
        ("q8_0", 2, 1, 40, 0, 1),
        ("f16", 2, 2, 40, 100, 0),
    ],
)
def test_rows_of_several_have_the_bits_of_each_alone(kind, gqa, kv, dim, window, past):
    """Decode kernel and plain kernel (head size 40), windows of a page and one more or less."""
    p, options = pool(kind, kv, dim), params(gqa, kv, dim, window=window, past_only=past)
    plan = attend_plan(on, p.cache, options, FEW)
    for segments in ROUNDS:
        got = together(p, options, segments, plan)
        assert np.isfinite(got).all() and same(got, alone(p, options, segments)), segments


@pytest.mark.parametrize("kind, gqa, dim, window", [("f16", 2, 64, 0), ("q8_0", 1, 80, 257)])
def test_long_runs_of_several(kind, gqa, dim, window):
    """The tiled kernel: segments as long as each other get the tile that each gets alone."""
    p, options = pool(kind, 1, dim), params(gqa, 1, dim, window=window)
    segments = [(20, 240, 0), (20, 237, 1), (20, 500, 2)]
    assert same(together(p, options, segments), alone(p, options, segments))


def test_short_segments_in_a_long_run():
    """A row's keys and values are its sequence's, also where the kernel is another one."""
    p, options = pool(), params(2)
    segments = [(n, pos, s) for n, pos, s in [(1, 299, 0), (17, 238, 1), (1, 519, 2), (3, 253, 3)]]
    got, want = together(p, options, segments), alone(p, options, segments)
    assert np.abs(got - want).max() < 4e-3 * np.abs(want).max()


@pytest.mark.parametrize("window", [255, 256, 257])
def test_rings_of_pages(window):
    p, options = pool("f16", 1, 64, (900, 700), 2), params(4, window=window)
    segments = [(5, 895, 0), (4, 696, 1)]
    got = together(p, options, segments)
    assert np.isfinite(got).all() and same(got, alone(p, options, segments))


def test_out_rows_of_several():
    """The last rows of a run, wherever a segment begins: attention sees them at their places."""
    p, options, segments = pool(), params(2), [(5, 252, 1), (3, 400, 2), (1, 299, 0)]
    q = queries(segments, 128)
    g = on.graph(FEW)
    out = g.op("gather_rows", {"x": g.input("q", 128)})[0]
    g.output(g.op("attend", {"cache": g.kv(p.cache), "q": out}, options)[0], "y")
    plan, tokens = g.compile(1), np.zeros((9, 1), np.int32)
    want = together(p, options, segments)
    for n in (1, 2, 4, 6, 9):
        got = plan.run({"q": q, "tokens": tokens}, out_rows=n, segments=segments)["y"]
        assert same(got, want[-n:]), n


def test_one_plan_serves_other_segments_and_other_tables():
    """Captured runs: what they read changes between two of them."""
    p, options = Pool(on, "f16", 1, 64, (300, 280)), params(2)
    plan = attend_plan(on, p.cache, options, 40)
    few, many = [(2, 298, 0), (1, 279, 1)], [(20, 270, 0), (20, 260, 1)]
    want, want_many = alone(p, options, few), alone(p, options, many)
    for segments in (few, [(1, 299, 0)], [(1, 20, 0), (1, 279, 1)], many, few):
        assert same(together(p, options, segments, plan), alone(p, options, segments)), segments
    p.cache.set_table(p.table[::-1].copy())
    for segments, rows in ((few, want), (many, want_many)):
        other = [(n, pos, 1 - s) for n, pos, s in segments]
        assert same(together(p, options, other, plan), rows)
    p.cache.set_table(p.table)
    assert same(together(p, options, few, plan), want)


# ---- faults that must show ----


def test_a_table_off_by_one_shows():
    p, options = Pool(on, "f16", 1, 64, (300, 512)), params(2)
    segments = [(2, 298, 0), (3, 509, 1)]
    want = alone(p, options, segments)
    assert same(together(p, options, segments), want)
    for wrong in (np.roll(p.table, 1, axis=0), np.roll(p.table, 1, axis=1)):
        p.cache.set_table(wrong)
        for _, rows in by_segment(segments, together(p, options, segments) == want):
            assert not rows.all()


def test_swapped_segments_show():
    p, options = pool(), params(2)
    segments = [(2, 254, 0), (2, 254, 1)]
    want = alone(p, options, segments)
    swapped = [(n, pos, 1 - s) for n, pos, s in segments]
    assert not same(together(p, options, swapped)[:2], want[:2])
    moved = [(n, pos - 1, s) for n, pos, s in segments]
    assert not same(together(p, options, moved)[:2], want[:2])


def test_freed_pages_show_only_where_they_are_read():
    """A window leaves pages behind: whatever they become, nothing changes; a page that is still
    seen does."""
    p, segments = Pool(on, "f16", 1, 64, (600, 560)), [(3, 597, 0), (2, 558, 1)]
    options = params(2, window=40)
    want = alone(p, options, segments)
    for page in p.table[:, :2].ravel():
        p.cache.fill_page(int(page), NOBODYS)
    assert same(together(p, options, segments), want)
    freed = p.table.copy()
    freed[:, :2] = NOWHERE
    p.cache.set_table(freed)
    assert same(together(p, options, segments), want)
    p.cache.fill_page(int(p.table[1, 2]), NOBODYS)
    got = together(p, options, segments)
    assert same(got[:3], want[:3]) and np.isnan(got[3:]).all()


def test_tables_that_name_no_page():
    p, options = Pool(on, "f16", 1, 64, (300, 280)), params(2)
    pages = p.cache.read()[0].shape[1] // PAGE
    for page in (-1, pages, NOWHERE):
        wrong = p.table.copy()
        wrong[1, 1] = page
        p.cache.set_table(wrong)
        sentence = f"row 1 of the page tables has page {page} for position 256, of a cache of"
        with pytest.raises(testing.Error, match=sentence):
            together(p, options, [(1, 299, 0), (1, 279, 1)])
        together(p, options, [(1, 299, 0), (1, 255, 1)])  # reads the first page only
    with pytest.raises(testing.Error, match="row 9 of the page tables is no row"):
        together(p, options, [(1, 9, 9)])
    with pytest.raises(testing.Error, match="513 positions in a page table for 512"):
        together(p, options, [(1, 512, 0)])


def test_pages_that_belong_to_nobody_are_refused():
    cache = on.cache("f16", 1, 64, 2 * PAGE, 0, PAGE)
    with pytest.raises(testing.Error, match="a cache of 2 pages without a table"):
        attend_plan(on, cache, params(2), 1)


# ---- a layer ----


def layer(cache, rows, weights, window):
    """Projections, rotation, cache and attention, as a model's layer has them."""
    g = on.graph(rows)
    x = g.input("x", 64)
    q, k, v = (g.op("matmul", {"weight": g.weight(w), "x": x})[0] for w in weights[:3])
    rope = g.op("rope_table", {}, {"dims": 64, "base": 10000.0})[0]
    heads = params(2, window=window)
    g.op(
        "qkv_norm_rope",
        {"q": q, "k": k, "v": v, "rope": rope},
        {"n_heads": 2, "n_kv_heads": 1, "head_dim": 64, "rope_dims": 64, "eps": 1e-6},
    )
    kv = g.kv(cache)
    g.op("kv_store", {"cache": kv, "k": k, "v": v})
    y = g.op("attend", {"cache": kv, "q": q}, heads)[0]
    g.output(g.op("matmul", {"weight": g.weight(weights[3]), "x": y})[0], "y")
    return g.compile(1)


@pytest.mark.parametrize("n, window", [(2, 0), (3, 100), (4, 0)])
def test_sequences_that_grow_together_are_each_alone(n, window):
    """Prompts one by one, then runs of all of them, of one to four rows each, over a page's end:
    outputs and caches are those of each alone."""
    shapes = ((64, 128), (64, 64), (64, 64), (128, 64))
    weights = [
        on.weight(oc.Weight("q8_0", wide, rows).data, "q8_0", wide, rows) for wide, rows in shapes
    ]
    r = oc.rng("grow", n, window)
    table = r.permutation(2 * n).astype(np.int32).reshape(n, 2)
    cache = on.cache("f16", 1, 64, 2 * n * PAGE, NOBODYS, PAGE, table)
    single = [on.cache("f16", 1, 64, 2 * PAGE, NOBODYS) for _ in range(n)]
    long, few = layer(cache, 256, weights, window), layer(cache, FEW, weights, window)
    each = [[layer(c, rows, weights, window) for rows in (256, FEW)] for c in single]
    tokens, length = np.zeros((256, 1), np.int32), [250 - 3 * s for s in range(n)]
    for s in range(n):
        x = r.standard_normal((length[s], 64), np.float32)
        got = long.run({"x": x, "tokens": tokens}, segments=[(length[s], 0, s)])["y"]
        assert same(got, each[s][0].run({"x": x, "tokens": tokens}, length[s])["y"])
    for _ in range(5):
        rows = [int(r.integers(1, FEW // n + 1)) for _ in range(n)]
        segments = [(rows[s], length[s], s) for s in r.permutation(n).tolist()]
        x = r.standard_normal((sum(rows), 64), np.float32)
        got = few.run({"x": x, "tokens": tokens}, segments=segments)["y"]
        for ((count, pos, s), mine), (_, inputs) in zip(
            by_segment(segments, got), by_segment(segments, x)
        ):
            want = each[s][1].run({"x": inputs, "tokens": tokens}, count, 0, pos)["y"]
            assert same(mine, want), (segments, s)
            length[s] += count
    for s in range(n):
        slots = np.concatenate([np.arange(p * PAGE, (p + 1) * PAGE) for p in table[s]])
        for mine, want in zip(cache.read(), single[s].read()):
            assert same(mine[:, slots], want)


# ---- whole models ----


def written(context, one):
    rows = [context.logits(row).tobytes() for row in range(len(one.tokens))]
    return one.tokens, one.drafted, one.accepted, rows


@pytest.mark.parametrize("name, kv_type", [("tiny-e2b", "f16"), ("tiny-dense", "q8_0")])
def test_a_batch_writes_what_each_pair_writes_alone(pillion, name, kv_type):
    """Prompts one by one, rounds of three sequences with three drafts each: tokens, logits and
    accepted drafts of each, over a page's end."""
    ids, ends, n, k = (ids_of(name) * 8)[:260], (253, 60, 40), 3, 3
    options = {"n_ctx": 512, "kv_type": kv_type}

    def chooser():
        return pillion.Sampler(pillion.SamplingParams(temperature=0))

    with (
        open_model(pillion, name, DEVICE) as model,
        open_model(pillion, f"{name}-assistant", DEVICE) as drafter,
    ):
        assert model.context(64).describe()["backend"] == "cuda"
        with pillion.Batch(model, drafter, n_sequences=3, **options) as batch:
            assert batch.stats.batched
            entries, came = [], []
            for end in ends:
                pair = batch.pair(batch.context())
                entries.append(pillion.BatchEntry(pair, chooser(), n_draft=k, n_max=k + 1))
                entries[-1].prompt = ids[260 - end :]
                batch.round(entries[-1:])
                came.append([written(pair.context, entries[-1].round)])
                entries[-1].prompt = None
            for _ in range(n):
                batch.round(entries)
                assert batch.stats.last_entries == 3 and batch.stats.last_rows <= FEW
                for entry, mine in zip(entries, came):
                    assert entry.error is None
                    mine.append(written(entry.pair.context, entry.round))
            counts = [entry.pair.stats.accepted_at for entry in entries]
        for end, mine, accepted in zip(ends, came, counts):
            with pillion.Pair(model.context(**options), drafter) as pair:
                pair.sync(ids[260 - end :])
                sampler = chooser()
                want = [written(pair.context, pair.step(sampler, k, k + 1)) for _ in range(n + 1)]
                assert mine == want and pair.stats.accepted_at == accepted


def test_an_engine_with_slots(pillion):
    """Requests that come while others write: each gets the text that it gets alone."""
    from pillion.models import TINY_ASSISTANT, TINY_TARGET

    prompts = ["In the beginning", "And God said, Let there be", "The LORD is my shepherd;"]

    def written(parallel, *texts, draft):
        options = {"n_ctx": 128, "parallel": parallel, "drafter": TINY_ASSISTANT}
        with pillion.LLM(TINY_TARGET, device=DEVICE, **options) as llm:
            running = [
                llm.generate(text, max_tokens=5, temperature=0, draft=draft) for text in texts
            ]
            return [one.result().tokens for one in running]

    assert written(3, *prompts, draft=3) == written(1, *prompts, draft=0)
