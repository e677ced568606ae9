"""Some sequences' keys and values, twice: in shuffled pages of one cache, and in a cache for each
sequence."""

import numpy as np

import op_cases as oc
from testing_ops import store_plan

PAGE = 256
NOBODYS = 0x7F  # bytes of NaN, or of scales of NaN
NOWHERE = 0x7FFFFFFF  # an entry that no run may read


class Pool:
    """entries: pages that a sequence's table names; fewer than its length needs: a ring."""

    def __init__(self, on, kind, n_kv_heads, dim, lengths, entries=None, rows_per_run=150):
        self.on, self.lengths, self.rows_per_run = on, lengths, rows_per_run
        self.width = n_kv_heads * dim
        r = oc.rng("pages", kind, dim, *lengths)
        entries = entries or -(-max(lengths) // PAGE)
        n_pages = len(lengths) * entries + 2
        self.table = r.permutation(n_pages)[: len(lengths) * entries].reshape(-1, entries)
        self.table = self.table.astype(np.int32)
        for row, length in zip(self.table, lengths):
            row[-(-length // PAGE) :] = NOWHERE
        self.cache = on.cache(kind, n_kv_heads, dim, n_pages * PAGE, NOBODYS, PAGE, self.table)
        self.alone = [on.cache(kind, n_kv_heads, dim, entries * PAGE, NOBODYS) for _ in lengths]
        self.k = [r.standard_normal((n, self.width), np.float32) for n in lengths]
        self.v = [r.standard_normal((n, self.width), np.float32) for n in lengths]
        self.fill()

    def fill(self):
        """All sequences forward together, so that most runs store rows of several."""
        n = self.rows_per_run
        plan = store_plan(self.on, self.cache, self.width, n * len(self.lengths))
        for begin in range(0, max(self.lengths), n):
            rows = [(max(0, min(n, end - begin)), begin, s) for s, end in enumerate(self.lengths)]
            self.store(plan, [segment for segment in rows if segment[0]])
        for s, cache in enumerate(self.alone):
            plan = store_plan(self.on, cache, self.width, n)
            for begin in range(0, self.lengths[s], n):
                self.store(plan, [(min(n, self.lengths[s] - begin), begin, s)], alone=True)

    def store(self, plan, segments, alone=False):
        k, v = (
            np.concatenate([x[s][pos : pos + n] for n, pos, s in segments])
            for x in (self.k, self.v)
        )
        tokens = np.zeros((len(k), 1), np.int32)
        if alone:
            return plan.run({"tokens": tokens, "k": k, "v": v}, len(k), 0, segments[0][1])
        return plan.run({"tokens": tokens, "k": k, "v": v}, segments=segments)

    def rows_of(self, sequence, pooled=True):
        """(keys, values) of what the tables name, [kv head, slot of the sequence, dimension]."""
        if not pooled:
            return self.alone[sequence].read()
        pages = [p for p in self.table[sequence] if p != NOWHERE]
        slots = np.concatenate([np.arange(p * PAGE, (p + 1) * PAGE) for p in pages])
        return tuple(x[:, slots] for x in self.cache.read())


def queries(segments, width, seed=0):
    r = oc.rng("pool queries", seed, width)
    n = sum(rows for rows, _, _ in segments)
    return r.standard_normal((n, width), np.float32) * np.float32(0.3)


def by_segment(segments, x):
    """(segment, its rows of x)"""
    at = 0
    for segment in segments:
        yield segment, x[at : at + segment[0]]
        at += segment[0]
