"""What the DSP believes of segments and page tables: plans and runs that are wrong are refused
before the first op, and a table that turns wrong while a run goes on ends it."""

import dsp as d
import numpy as np
import pytest
from op_plans import OpPlan, kv_bytes

import op_cases as oc

ENTRIES, SEQUENCES, PAGES = 2, 2, 3


@pytest.fixture(scope="module")
def own(native):
    with d.Dsp([native["pillion_htp_sim"]], heap_bytes=32 << 20, threads=2) as dsp:
        yield dsp


class Pool:
    """An attention op (a case of the list) whose cache is a pool of pages of 256 slots."""

    def __init__(self, dsp, packer, threads=2):
        dsp.reset()
        self.dsp = dsp
        case = next(c for c in oc.op_cases() if repr(c) == "attend-f16-4of1-32-pos400-w100")
        self.plan = OpPlan(dsp, packer, case, threads=threads, rows_max=8)
        self.record, self.store = self.plan.record, case.inputs["cache"]
        assert self.store.capacity == 256
        self.cache = dsp.alloc((PAGES, kv_bytes(self.store)), np.uint8)
        self.cache[...] = 0x7F  # NaN
        self.record["in"][0]["offset"] = dsp.offset(self.cache)
        self.table = dsp.put(np.array([[0, 2, 77], [1, 0, 77]], np.int32))
        self.record["pages"] = (0, 0, dsp.offset(self.table), 3, ENTRIES, SEQUENCES, PAGES)
        self.plan.fill(8)
        self.prepare()
        self.fill()

    def fill(self, step=50):
        """Sequence 0 has keys and values of the case, sequence 1 a few at a page's end."""
        k, v = (self.dsp.alloc((step, self.store.k.shape[1])) for _ in "kv")
        record = d.op_record(
            "kv_store",
            inputs=[self.record["in"][0], *(d.tensor(self.dsp, x, d.RUN_ROWS) for x in (k, v))],
        )
        record["pages"] = self.record["pages"]
        self.dsp.prepare(d.plan_bytes(self.dsp, [record], step, 0), number=1)
        n = len(self.store.k)
        for begin in range(0, n - n % step, step):
            k[...], v[...] = (x[begin : begin + step] for x in (self.store.k, self.store.v))
            self.dsp.run(begin, step, number=1, segments=[(0, step, begin, 0)])
        k[...], v[...] = self.store.v[:step], self.store.k[:step]
        self.dsp.run(0, step, number=1, segments=[(0, step, 200, 1)])

    def prepare(self, *records):
        self.dsp.prepare(d.plan_bytes(self.dsp, [*records, self.record], 8, 8))

    def run(self, *segments):
        """(rows, position, sequence) each."""
        at, placed = 0, []
        for n, pos, table in segments:
            placed.append((at, n, pos, table))
            at += n
        self.dsp.run(0, at, segments=placed)
        return self.plan.results["y"][:at].copy()


@pytest.fixture
def pool(own, packer):
    return Pool(own, packer)


def refused(call, why, status=d.REFUSED, **numbers):
    with pytest.raises(d.Refused) as info:
        call()
    found = {name: getattr(info.value, name) for name in numbers}
    assert (info.value.status, info.value.why, found) == (status, why, numbers), info.value


def test_segments_cover_the_rows_in_order(pool):
    dsp = pool.dsp

    def run(*segments, rows=4):
        return lambda: dsp.run(0, rows, segments=segments)

    run((0, 1, 5, 0), (1, 3, 7, 1))()
    for segments, value, limit in (
        ([], 0, 124),
        ([(0, 4, 0, 0)] * 125, 125, 124),
        ([(0, 3, 0, 0)], 3, 4),  # covered, rows
        ([(1, 3, 0, 0)], 1, 0),
        ([(0, 2, 0, 0), (3, 1, 0, 0)], 3, 2),
        ([(0, 5, 0, 0)], 5, 4),
        ([(0, 2, 0, 0), (2, 2**31 - 1, 0, 0)], 2**31 - 1, 2),
        ([(0, 0, 0, 0), (0, 4, 0, 0)], 0, 4),
        ([(0, -1, 0, 0)], 2**32 - 1, 4),
    ):
        refused(run(*segments), "SEGMENT", value=value, limit=limit)
    for pos in (-1, (1 << 30) + 1, -(2**31)):
        refused(run((0, 3, 0, 0), (3, 1, pos, 1)), "STATE", value=pos % 2**32, limit=1 << 30)


def test_a_sequence_that_the_table_does_not_have(pool):
    for table in (SEQUENCES, -1, 2**31 - 1):
        refused(
            lambda: pool.run((2, 7, 0), (2, 7, table)),
            "TABLE",
            op=0,
            operand=0,
            value=table % 2**32,
            limit=SEQUENCES,
        )


def test_pages_outside_the_cache(pool):
    want = pool.run((1, 300, 0), (1, 300, 1))
    for page in (3, -1, 2**31 - 1):
        pool.table[1, 0] = page  # of positions 0 to 255: position 300 looks back 100
        refused(
            lambda: pool.run((1, 300, 0), (1, 300, 1)),
            "PAGE",
            op=0,
            operand=0,
            value=page % 2**32,
            limit=PAGES,
        )
        # Not looked at: behind the window, or another sequence's.
        pool.run((1, 300, 0), (1, 400, 1))
    pool.table[1, 0] = 1
    np.testing.assert_array_equal(pool.run((1, 300, 0), (1, 300, 1)), want)


def test_a_window_longer_than_the_pages(pool):
    """512 positions at a time: what a row has to see and the table can't name is refused."""
    pool.record["params"][12:16] = 0  # no window
    pool.prepare()
    pool.run((1, 511, 0), (1, 3, 1))
    with pytest.raises(d.Refused) as info:
        pool.run((1, 3, 1), (1, 512, 0))
    assert (info.value.status, info.value.why) == (d.FAILED, "STATE")
    assert (info.value.value, info.value.limit) == (513, 512)


def test_a_table_that_turns_wrong_while_a_run_goes_on(pool):
    """The op before writes over the table that was looked at: the entry is looked at again."""
    dsp, before = pool.dsp, pool.cache.tobytes()
    x, table = dsp.alloc((8, 1)), dsp.alloc((8, 1), np.int32)
    x[...], table[...] = 3.0, 0
    pool.record["pages"]["offset"] = dsp.offset(table)
    pool.record["pages"]["stride"] = ENTRIES
    over = d.tensor(dsp, table.view(np.float32), d.RUN_ROWS)
    scale = d.op_record(
        "scale",
        params=np.float32(2).tobytes(),
        inputs=[d.tensor(dsp, x, d.RUN_ROWS)],
        outputs=[over],
    )
    pool.prepare(scale)
    refused(
        lambda: pool.run((8, 300, 0)),
        "PAGE",
        status=d.FAILED,
        op=1,
        value=int(np.float32(6).view(np.int32)),
        limit=PAGES,
    )
    assert pool.cache.tobytes() == before


def test_plans_with_wrong_pages(pool):
    def check(why, **fields):
        old = pool.record["pages"].copy()
        for name, value in fields.items():
            pool.record["pages"][name] = value
        refused(pool.prepare, why, op=0, operand=0)
        pool.record["pages"] = old

    check("TABLE", entries=0)  # and the rest is not zero
    check("TABLE", entries=1 << 30)
    check("TABLE", stride=1)
    check("TABLE", sequences=0)
    check("TABLE", sequences=2**32 - 1, stride=2**32 - 1)
    check("PAGE", n_pages=0)
    check("BOUNDS", n_pages=1 << 20)
    check("BOUNDS", n_pages=2**32 - 1)
    check("BOUNDS", sequences=1 << 28, stride=1 << 28)
    check("BOUNDS", offset=pool.dsp.heap.bytes.size - 128)
    check("ALIGNMENT", offset=2)
    check("BUFFER", buffer=7)
    check("TILING", offset=int(pool.record["tiling"]["scratch_offset"]) + 64)
    pool.prepare()


def test_ops_without_a_cache_have_no_pages(own):
    own.reset()
    x = own.alloc((4, 32))
    record = d.op_record("scale", inputs=[d.tensor(own, x, d.RUN_ROWS)])
    record["out"][0] = record["in"][0]
    own.prepare(d.plan_bytes(own, [record], 4, 0))
    record["pages"]["n_pages"] = 1
    refused(lambda: own.prepare(d.plan_bytes(own, [record], 4, 0)), "OPERAND", op=0, operand=0)


# ---- as Hexagon code ----


def test_hexagon_equals_native(own, hexagon_dsp, packer):
    """Stores and attention of two sequences in pages, a part of the positions."""
    got = []
    for dsp in (own, hexagon_dsp):
        pool = Pool(dsp, packer)
        pool.cache[pool.cache == 0x7F] = 0  # what nobody has written is seen too
        got.append((pool.run((3, 247, 1), (4, 254, 0)), pool.cache.tobytes()))
    np.testing.assert_array_equal(got[0][0], got[1][0])
    assert got[0][1] == got[1][1] and np.isfinite(got[0][0]).all()
