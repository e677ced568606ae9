"""The common op cases (tests/support/op_cases.py) as one-op plans for the DSP."""

import ctypes
import struct

import numpy as np

import dsp as d
import op_cases as oc
import op_table
from op_table import IN_PLACE, has_kernel, runs, testing

# Of the ops that the DSP has a kernel for.
CASES = [case for case in oc.op_cases() if runs("htp", case)]
INPUTS = {op: names for op, names in op_table.INPUTS.items() if has_kernel("htp", op)}

GROUPS = {  # inputs and vectors of a group
    "f32": (1, 1),
    "f16": (2, 1),
    "bf16": (2, 1),
    "q4_0": (64, 9),
    "q4_1": (64, 10),
    "q5_0": (64, 11),
    "q5_1": (64, 12),
    "q8_0": (64, 17),
    "iq4_nl": (64, 9),
    "q2_k": (256, 21),
    "q3_k": (256, 28),
    "q4_k": (256, 36),
    "q5_k": (256, 44),
    "q6_k": (256, 53),
    "iq4_xs": (256, 34),
    "tq2_0": (256, 17),
    "tq1_0": (256, 17),
    "mxfp4": (64, 9),
    "nvfp4": (64, 10),
    "iq3_xxs": (256, 34),
    "iq3_s": (256, 34),
    "iq2_xxs": (256, 27),
    "iq2_xs": (256, 27),
    "iq2_s": (256, 27),
    "iq1_s": (256, 27),
    "iq1_m": (256, 27),
}


def kept(weight):
    """The weight's bytes as the host hands them on."""
    return testing.expand(weight.dtype, weight.data) if weight.dtype in oc.EXPANDED else weight.data


class Packer:
    """htp_pack.c, built as a shared library."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(str(path))
        self.lib.htp_pack_panels.argtypes = [
            ctypes.c_uint32,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_uint32,
        ]
        self.lib.htp_pack_panels.argtypes += [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p]
        for f in (self.lib.htp_unpack_row, self.lib.htp_dequantize_row):
            f.argtypes = [ctypes.c_uint32, ctypes.c_void_p] + [ctypes.c_uint64] * (
                f is self.lib.htp_unpack_row
            )
            f.argtypes += [ctypes.c_uint32, ctypes.c_void_p]

    def pack(self, weight, order=None):
        """[depth, panel bytes of all]"""
        file = np.frombuffer(kept(weight), np.uint8).reshape(weight.depth, -1)
        panels = -(-weight.rows // 32)
        out = np.full(
            (weight.depth, panels * panel_bytes(weight.dtype, weight.width)), 0xAA, np.uint8
        )
        order = None if order is None else np.ascontiguousarray(order, np.int32)
        for i in range(weight.depth):
            row = np.ascontiguousarray(file[i])
            at = order.ctypes.data if order is not None else None
            args = (
                d.DTYPES[weight.dtype],
                row.ctypes.data,
                at,
                weight.rows,
                weight.width,
                0,
                panels,
                out[i].ctypes.data,
            )
            assert self.lib.htp_pack_panels(*args) == 0
        return out

    def row(self, weight, packed, row):
        """The row's values from the packed matrix and from the file."""
        a, b = np.empty(weight.width, np.float32), np.empty(weight.width, np.float32)
        file = np.frombuffer(kept(weight), np.uint8).reshape(weight.rows, -1)[row].copy()
        dtype = d.DTYPES[weight.dtype]
        assert (
            self.lib.htp_unpack_row(dtype, packed.ctypes.data, row, weight.width, a.ctypes.data)
            == 0
        )
        assert (
            self.lib.htp_dequantize_row(dtype, file.ctypes.data, weight.width, b.ctypes.data) == 0
        )
        return a, b


WIDTH_OF = {"norm_add": "branch", "add": "a", "attend": "q"}


def up(n, to=128):
    return -(-n // to) * to


def panel_bytes(dtype, width):
    inputs, vectors = GROUPS[dtype]
    return -(-width // inputs) * vectors * 128


def act_bytes(inputs):
    return up(inputs // 32 * 48)


def kv_bytes(store):
    if store.kind == "f16":
        k, v = store.head_dim * 64 * store.capacity // 32, store.head_dim * 2 * store.capacity
    else:
        blocks = -(-store.head_dim // 32)
        k, v = blocks * 1088 * store.capacity // 32, blocks * 34 * store.capacity
    return (-(-k // 64) * 64 + -(-v // 64) * 64) * store.n_kv_heads


def decode_cache(store, raw):
    """(keys, values), each [kv head, slot, dimension], of a cache's bytes (layout in
    htp_sizes.h)."""
    n, slots, dim, blocks = (
        store.n_kv_heads,
        store.capacity,
        store.head_dim,
        -(-store.head_dim // 32),
    )
    head = raw.reshape(n, -1)
    if store.kind == "f16":
        k = (
            head[:, : dim * 2 * slots]
            .view(np.float16)
            .reshape(n, slots // 32, dim, 32)
            .transpose(0, 1, 3, 2)
        )
        v = head[:, -(-dim * 2 * slots // 64) * 64 :][:, : dim * 2 * slots].view(np.float16)
        return k.reshape(n, slots, dim).astype(np.float32), v.reshape(n, slots, dim).astype(
            np.float32
        )
    k = head[:, : blocks * 34 * slots].reshape(n, slots // 32, blocks, 1088)
    scale = np.ascontiguousarray(k[..., :64]).view(np.float16).astype(np.float32)[..., None, :]
    keys = scale * np.ascontiguousarray(k[..., 64:]).view(np.int8).reshape(
        n, slots // 32, blocks, 32, 32
    )
    v = head[:, blocks * 34 * slots :][:, : blocks * 34 * slots].reshape(n, slots, 34 * blocks)
    scale = (
        np.ascontiguousarray(v[..., 32 * blocks :]).view(np.float16).astype(np.float32)[..., None]
    )
    values = scale * np.ascontiguousarray(v[..., : 32 * blocks]).view(np.int8).reshape(
        n, slots, blocks, 32
    )
    keys = keys.transpose(0, 1, 4, 2, 3).reshape(n, slots, 32 * blocks)
    return keys[..., :dim], values.reshape(n, slots, 32 * blocks)[..., :dim]


PARAMS = {  # as struct.pack wants them; a missing one is 0
    "embed": ("<f", ["scale"]),
    "scale": ("<f", ["scale"]),
    "per_layer_embed": (
        "<2i4f",
        ["width", "n_layers", "proj_scale", "table_scale", "out_scale", "eps"],
    ),
    "rope_table": ("<i2f", ["dims", "base", "position_scale"]),
    "norm": ("<2f", ["eps", "scale"]),
    "norm_add": ("<2f", ["eps", "scale"]),
    "qkv_norm_rope": (
        "<4if3B",
        [
            "n_heads",
            "n_kv_heads",
            "head_dim",
            "rope_dims",
            "eps",
            "interleaved",
            "norm_v",
            "v_from_k",
        ],
    ),
    "attend": (
        "<4i2fi",
        ["n_heads", "n_kv_heads", "head_dim", "window", "scale", "softcap", "past_only"],
    ),
    "glu": ("<3i", ["activation", "up_offset", "groups"]),
    "moe_route": ("<3i", ["n_experts", "n_used", "per_row"]),
    "moe_matmul": ("<3i", ["n_experts", "n_used", "per_row"]),
    "moe_sum": ("<3i", ["n_experts", "n_used", "per_row"]),
    "softcap": ("<f", ["cap"]),
    "centroid_head": ("<2i", ["n_centroids", "n_active"]),
}


def params_of(case):
    shape, names = PARAMS.get(case.op, ("", []))
    values = {"scale": 1.0, "per_row": 1, **case.params}
    if case.op == "glu":
        values["activation"] = ["gelu_tanh", "silu"].index(values["activation"])
    return struct.pack(shape, *(values.get(name, 0) for name in names))


def frequencies(case):
    """What the host computes for rope_table."""
    p, f = case.params, case.inputs["factors"]
    i = np.arange(p["dims"] // 2)
    factors = np.ones(len(i)) if f is None else np.frombuffer(f.data, np.float32).astype(np.float64)
    raw = (
        np.float64(np.float32(p["base"])) ** (-2.0 * i / p["dims"])
        * np.float64(np.float32(p["position_scale"]))
        / factors
    )
    return np.where(factors >= 1e29, 0, raw).astype(np.float32)


class OpPlan:
    """One op with its operands in the heap, prepared. gap: floats between rows, so that strides
    differ from widths."""

    def __init__(
        self,
        dsp,
        packer,
        case,
        threads=1,
        outs=False,
        gap=0,
        fetch_groups=0,
        rows_at_once=0,
        rows_max=oc.MAX_ROWS,
    ):
        self.dsp, self.case, self.rows = (
            dsp,
            case,
            d.OUT_ROWS if outs or case.op == "gather_rows" else d.RUN_ROWS,
        )
        self.arrays, inputs, weights = {}, [], {}
        for name in INPUTS[case.op]:
            x = case.inputs.get(name)
            counts = d.RUN_ROWS if name == "rope" or case.op == "gather_rows" else self.rows
            if case.op == "rope_table":
                inputs.append(d.tensor(dsp, dsp.put(frequencies(case)[None]), d.FIXED))
            elif x is None:
                inputs.append(None)
            elif isinstance(x, oc.Store):
                self.cache = dsp.alloc((kv_bytes(x),), np.uint8)
                self.cache[:] = x.fill
                kv = dict(
                    dtype=x.kind,
                    width=x.head_dim,
                    rows=x.capacity,
                    depth=x.n_kv_heads,
                    layout=d.KV,
                    stride=0,
                )
                inputs.append(d.tensor(dsp, self.cache, d.FIXED, **kv))
            elif isinstance(x, oc.Weight):
                weights[name] = x
                if x.use == "vector":
                    inputs.append(
                        d.tensor(dsp, dsp.put(np.frombuffer(x.data, np.float32)[None]), d.FIXED)
                    )
                elif x.use == "table":
                    file = dsp.put(np.frombuffer(kept(x), np.uint8).reshape(x.rows, -1))
                    inputs.append(d.tensor(dsp, file, d.FIXED, dtype=x.dtype, width=x.width))
                else:
                    packed = dsp.put(packer.pack(x))
                    pack = dict(
                        dtype=x.dtype, width=x.width, rows=x.rows, depth=x.depth, layout=d.PACKED
                    )
                    inputs.append(
                        d.tensor(dsp, packed, d.FIXED, stride=panel_bytes(x.dtype, x.width), **pack)
                    )
            elif isinstance(x, oc.Empty):
                self.arrays[name] = self.rows_of((rows_max, x.width), gap)
                inputs.append(d.tensor(dsp, self.arrays[name], counts))
            elif name == "order":
                inputs.append(d.tensor(dsp, dsp.put(np.ascontiguousarray(x[:1])), d.FIXED))
            else:
                self.arrays[name] = self.rows_of((rows_max, x.shape[1]), gap, x.dtype)
                inputs.append(d.tensor(dsp, self.arrays[name], counts))
        self.results, outputs = {}, []
        if case.op in IN_PLACE:
            self.results = {n: self.arrays[n] for n in IN_PLACE[case.op] if n in self.arrays}
        else:
            for name, (width, dtype) in self.outputs().items():
                self.results[name] = self.rows_of((rows_max, width), gap, dtype)
                outputs.append(d.tensor(dsp, self.results[name], self.rows))
        self.guard()
        tiling = {"threads": threads, "rows_at_once": 0}
        scratch = self.scratch_bytes(threads, rows_max, rows_at_once, weights)
        if case.op == "matmul":
            tiling["rows_at_once"] = rows_at_once or min(72, rows_max)
        if scratch:
            tiling |= {
                "scratch_offset": dsp.offset(dsp.alloc((scratch,), np.uint8)),
                "scratch_bytes": scratch,
            }
        if fetch_groups:
            dtype = next(iter(weights.values())).dtype
            tiling |= {
                "fetch_groups": fetch_groups,
                "fetch_bytes": fetch_groups * GROUPS[dtype][1] * 128,
                "vtcm_offset": 256,
            }
        self.record = d.op_record(case.op, self.rows, params_of(case), inputs, outputs, **tiling)
        self.plan = d.plan_bytes(dsp, [self.record], rows_max, rows_max)
        dsp.prepare(self.plan)

    def rows_of(self, shape, gap, dtype=np.float32):
        whole = self.dsp.alloc((shape[0], shape[1] + gap), dtype)
        whole[...] = 77
        return whole[:, : shape[1]]

    def guard(self):
        """Nothing but results may change."""
        for a in self.results.values():
            a[...] = 99

    def outputs(self):
        """{name: (width, dtype)}"""
        c, p, f, i = self.case, self.case.params, np.float32, np.int32

        def width(name):
            x = c.inputs[name]
            return x.shape[1] if isinstance(x, np.ndarray) else x.width

        if c.op == "kv_store":
            return {}
        if c.op == "moe_route":
            return {"ids": (p["n_used"], i), "gates": (p["n_used"], f)}
        if c.op == "argmax":
            return {"y": (1, i)} | ({"probability": (1, f)} if p.get("probability") else {})
        if c.op == "centroid_head":
            n = c.inputs["table"].rows // p["n_centroids"] * p["n_active"]
            return {"y": (n, f), "ids": (n, i)}
        if c.op in ("embed", "per_layer_embed"):
            n = width("table")
        elif c.op == "matmul":
            n = c.inputs["weight"].rows
        elif c.op == "moe_matmul":
            n = c.inputs["weights"].rows * p["n_used"]
        elif c.op == "glu":
            n = width("gate") // (2 if p.get("groups") else 1)
        elif c.op == "concat":
            n = width("a") + width("b")
        else:
            n = (
                p["dims"]
                if c.op == "rope_table"
                else p["width"]
                if c.op == "moe_sum"
                else width(WIDTH_OF.get(c.op, "x"))
            )
        return {"y": (n, f)}

    def scratch_bytes(self, threads, rows_max, rows_at_once, weights):
        p, op = self.case.params, self.case.op
        w = next((w for w in weights.values() if w.use == "matrix"), None)

        def act(rows):
            return 0 if w.dtype in ("f32", "f16", "bf16") else rows * act_bytes(w.width)

        if op == "matmul":
            return act(rows_at_once or min(72, rows_max))
        if op == "attend":
            records = min(rows_max * p["n_heads"], threads * 16) * (
                self.case.inputs["cache"].capacity // 1024 + 2
            )
            record = 128 + 4 * up(p["head_dim"], 64)
            partial = min(records, (8 << 20) // record) * record if p["n_kv_heads"] < threads else 0
            return threads * 16 * 4 * (256 + 3 * up(p["head_dim"], 64)) + partial
        if op == "moe_matmul":
            return up((2 + 3 * p["n_experts"] + rows_max * p["n_used"]) * 4) + act(
                rows_max * p["per_row"]
            )
        if op == "centroid_head":
            return up(rows_max * p["n_active"] * 4) + act(rows_max)
        return 0

    def fill(self, rows, start=0):
        for name, there in self.arrays.items():
            x = self.case.inputs[name]
            if isinstance(x, np.ndarray):
                there[:rows] = x[start : start + rows]

    def run(self, rows=oc.MAX_ROWS, start=0, before=0):
        """Rows start .. start + rows. before: as many rows of the run come before those that are
        wanted (op over the out rows)."""
        self.guard()
        self.fill(rows, start)
        if self.case.op == "gather_rows":
            self.fill(rows, start), self.dsp.run(self.case.pos + start, rows, rows)
        elif self.rows == d.OUT_ROWS:
            if "rope" in self.arrays:
                self.arrays["rope"][before : before + rows] = self.case.inputs["rope"][
                    start : start + rows
                ]
            self.dsp.run(self.case.pos + start - before, rows + before, rows)
        else:
            self.dsp.run(self.case.pos + start, rows, 0)
        return {name: a[:rows].copy() for name, a in self.results.items()}


def fill_cache(plan, packer, step=97):
    """Writes the case's keys and values into the plan's cache through kv_store, as in life."""
    store, dsp = plan.case.inputs["cache"], plan.dsp
    if not len(store.k):
        return
    width = store.k.shape[1]
    k, v = dsp.alloc((step, width)), dsp.alloc((step, width))
    cache = plan.record["in"][0]
    record = d.op_record(
        "kv_store", inputs=[cache, d.tensor(dsp, k, d.RUN_ROWS), d.tensor(dsp, v, d.RUN_ROWS)]
    )
    dsp.prepare(d.plan_bytes(dsp, [record], step, 0), number=1)
    for begin in range(0, len(store.k), step):
        n = len(store.k[begin : begin + step])
        k[:n], v[:n] = store.k[begin : begin + step], store.v[begin : begin + step]
        dsp.run(begin, n, number=1)
