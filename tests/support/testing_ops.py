"""Runs an op of op_cases.py as a graph on one backend and kernel table, through
pillion._testing."""

import functools

import numpy as np

import op_cases as oc
from op_table import IN_PLACE, RESULTS, testing


TABLES = testing.tables()  # best first; the last is the reference kernel
REFERENCE = "generic"


@functools.lru_cache(maxsize=None)
def device(table):
    """The CPU with a kernel table, or a device of another backend by its name ("cuda:sim")."""
    return (
        testing.Device(table) if ":" in table or table == "cuda" else testing.Device("cpu", table)
    )


class Bench:
    """The graph of a case, compiled. Modes:

    direct    the op reads and writes the caller's buffers
    scratch   it reads and writes scratch, whose rows lie further apart than they are wide
    out       it works on the out rows: the last ones of the run, which gather_rows brings to
              scratch; a rope table stays whole
    gathered  the same with the rope table's rows gathered too
    """

    imported = {}  # weights and filled caches of the last case, by table

    def __init__(self, case, table, threads=1, mode="direct", rows_max=oc.MAX_ROWS):
        self.case, self.mode = case, mode
        self.device = device(table)
        g = self.device.graph(rows_max)
        values, self.cache = {}, None
        for name, x in case.inputs.items():
            if isinstance(x, (oc.Weight, oc.Store)):
                thing = self.keep(table, name, x)
                values[name] = g.weight(thing) if isinstance(x, oc.Weight) else g.kv(thing)
                self.cache = thing if isinstance(x, oc.Store) else self.cache
            elif name == "tokens":
                values[name] = g.tokens
            elif isinstance(x, np.ndarray):
                values[name] = g.input(name, x.shape[1], "i32" if x.dtype == np.int32 else "f32")
                if mode == "gathered" or (mode == "out" and name != "rope"):
                    values[name] = g.op("gather_rows", {"x": values[name]})[0]
                elif mode == "scratch" and x.dtype == np.float32:
                    values[name] = g.op("scale", {"x": values[name]}, {"scale": 1.0})[0]
        for name, x in case.inputs.items():
            if isinstance(x, oc.Empty):
                values[name] = g.empty(values["k"], x.width)
        made = g.op(case.op, values, case.params)
        if case.op in IN_PLACE:
            results = {name: values[name] for name in IN_PLACE[case.op] if name in values}
        else:
            results = dict(zip(RESULTS[case.op], made))
        self.ports = {}
        for name, v in results.items():
            self.ports[name] = name
            if mode == "direct" and isinstance(case.inputs.get(name), np.ndarray):
                continue  # in place, in the caller's buffer
            if mode == "scratch" and name != "ids" and case.op != "argmax":
                v = g.op("scale", {"x": v}, {"scale": 1.0})[0]
            self.ports[name] += "'"
            g.output(v, self.ports[name])
        self.text = str(g)
        self.plan = g.compile(threads)

    def keep(self, table, name, x):
        if Bench.imported.get("case") is not self.case:
            Bench.imported = {"case": self.case}
        key = (table, name)
        if key not in Bench.imported:
            if isinstance(x, oc.Store) and not len(x.k):
                return filled_cache(self.device, x)  # to be written to: each bench has its own
            if isinstance(x, oc.Weight):
                Bench.imported[key] = self.device.weight(
                    x.data, x.dtype, x.width, x.rows, x.depth, x.use, x.mapped
                )
            else:
                Bench.imported[key] = filled_cache(self.device, x)
        return Bench.imported[key]

    def run(self, rows=oc.MAX_ROWS, start=0, out_rows=None):
        """Rows start .. start + rows of the case; in modes out and gathered, the last out_rows of
        them."""
        out_rows = rows if out_rows is None else out_rows
        inputs = {
            name: x[start : start + rows]
            for name, x in self.case.inputs.items()
            if isinstance(x, np.ndarray)
        }
        inputs.setdefault("tokens", np.zeros((rows, 1), np.int32))
        ports = self.plan.run(inputs, rows, out_rows, self.case.pos + start)
        return {name: ports[port] for name, port in self.ports.items()}


def filled_cache(on, store, step=97):
    """The rows come in as in life: run after run, `step` positions at a time, wherever that falls
    in the ring."""
    cache = on.cache(store.kind, store.n_kv_heads, store.head_dim, store.capacity, store.fill)
    if len(store.k):
        plan = store_plan(on, cache, store.k.shape[1], step)
        for begin in range(0, len(store.k), step):
            k, v = store.k[begin : begin + step], store.v[begin : begin + step]
            plan.run({"tokens": np.zeros((len(k), 1), np.int32), "k": k, "v": v}, len(k), 0, begin)
    return cache


def store_plan(on, cache, width, rows_max, threads=1):
    g = on.graph(rows_max)
    g.op("kv_store", {"cache": g.kv(cache), "k": g.input("k", width), "v": g.input("v", width)})
    return g.compile(threads)


def run_op(
    op, table, inputs, params=None, rows=None, out_rows=None, pos=0, threads=1, mode="direct"
):
    """One op once: inputs are arrays, op_cases.Weight, op_cases.Store or None, by the names in
    core/graph.h."""
    n = max((len(x) for x in inputs.values() if isinstance(x, np.ndarray)), default=1)
    case = oc.OpCase(op, "by hand", inputs, params, pos)
    return Bench(case, table, threads, mode, rows_max=n).run(
        n if rows is None else rows, 0, out_rows
    )


def same(a, b):
    """Equal bits, where a NaN equals a NaN: its sign and payload are the machine's business."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    x, y = np.ascontiguousarray(a).view(np.uint32), np.ascontiguousarray(b).view(np.uint32)
    differ = x != y
    if not differ.any():
        return True
    return a.dtype == np.float32 and bool(np.all(np.isnan(a[differ]) & np.isnan(b[differ])))
