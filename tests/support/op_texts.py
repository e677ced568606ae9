"""Each op's text in float64, with the bound of the reference kernel beside each result: what every
backend is compared with.

Bounds are in op_cases.TOLERANCES or derived where they are used. EPS is one f32 rounding. One
function an op: (case) -> {result: (float64 values, bound of the error)}.
"""

import functools

import numpy as np
import op_cases as oc
from op_cases import EPS, TOLERANCES
from op_table import OPS
from testing_ops import REFERENCE, Bench


def norm64(x, w, eps):
    x = x.astype(np.float64)
    y = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float64(np.float32(eps)))
    return y if w is None else y * vector(w)


def vector(w):
    return w.dequantized()[0, 0].astype(np.float64)


def f32(x):
    return np.float64(np.float32(x))


def rows_of_table(case):
    tokens = case.inputs["tokens"][:, 0]
    return case.inputs["table"].dequantized()[0][np.maximum(tokens, 0)].astype(np.float64)


def activations(x):
    """What a quantized product sees of its input: q * d per 32 inputs, to the bit
    (activations.h)."""
    blocks = x.reshape(*x.shape[:-1], -1, 32)
    top = np.abs(blocks).max(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(top > 0, np.rint(blocks * (np.float32(127) / top)), 0)
    return (q.astype(np.float64) * (top / np.float32(127)).astype(np.float64)).reshape(x.shape)


def product(weight, index, x):
    """x @ w.T and its bound: (steps + 6) roundings of the sum of the terms' sizes. Each fused step
    rounds a partial sum that the sizes bound, a term itself has six roundings at most; float
    weights are a step an input, quantized ones a step or two a scale."""
    w, size = weight.dequantized()[index].astype(np.float64), weight.sizes()[index]
    if weight.dtype in oc.QUANTS:
        x, steps = (
            activations(x),
            weight.width // oc.QUANTS[weight.dtype][4] * (2 if oc.QUANTS[weight.dtype][3] else 1),
        )
    else:
        x, steps = x.astype(np.float64), weight.width
    return x @ w.T, (steps + 6) * EPS * (np.abs(x) @ size.T)


def embed(case):
    want = rows_of_table(case) * f32(case.params["scale"])
    if "media" in case.inputs:
        tokens = case.inputs["tokens"][:, 0]
        want = np.where(tokens[:, None] < 0, case.inputs["media"][np.maximum(-1 - tokens, 0)], want)
    return {"y": (want, EPS * np.abs(want))}


def per_layer_embed(case):
    p, n = case.params, oc.MAX_ROWS
    shape = (n, p["n_layers"], p["width"])
    norm = norm64(
        (case.inputs["proj"].astype(np.float64) * p["proj_scale"]).reshape(shape),
        case.inputs["norm"],
        p["eps"],
    )
    token = rows_of_table(case).reshape(shape) * p["table_scale"]
    out_scale = f32(p["out_scale"])
    absolute, relative, _ = TOLERANCES["rms_norm_add"]
    # two more scales
    bound = absolute + (relative + 2 * EPS) * (np.abs(norm) + np.abs(token)) * out_scale
    return {"y": (((norm + token) * out_scale).reshape(n, -1), bound.reshape(n, -1))}


def rope_table(case):
    p, factors = case.params, case.inputs["factors"]
    i = np.arange(p["dims"] // 2)
    frequency = float(np.float32(p["base"])) ** (-2.0 * i / p["dims"]) * p["position_scale"]
    if factors is not None:
        frequency = np.where(vector(factors) >= 1e29, 0.0, frequency / vector(factors))
    # Frequencies are f32, as in the reference implementation; the rest is double: an angle's error
    # is that of its product.
    angle = (case.pos + np.arange(oc.MAX_ROWS))[:, None] * frequency.astype(np.float32).astype(
        np.float64
    )
    want = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    return {
        "y": (
            want,
            EPS * np.abs(want) + 2.0**-51 * (1 + np.abs(np.concatenate([angle, angle], axis=1))),
        )
    }


def scale(case):
    want = case.inputs["x"].astype(np.float64) * f32(case.params["scale"])
    return {"y": (want, TOLERANCES["scale"][1] * np.abs(want))}


def add(case):
    want = case.inputs["a"].astype(np.float64) + case.inputs["b"]
    return {"y": (want, TOLERANCES["add"][1] * np.abs(want))}


def norm(case):
    want = norm64(case.inputs["x"], case.inputs["weight"], case.params["eps"]) * f32(
        case.params.get("scale", 1)
    )
    return {"y": (want, (TOLERANCES["rms_norm"][1] + EPS) * np.abs(want))}


def norm_add(case):
    branch = norm64(case.inputs["branch"], case.inputs["weight"], case.params["eps"])
    residual, s = case.inputs["residual"].astype(np.float64), f32(case.params.get("scale", 1))
    absolute, relative, _ = TOLERANCES["rms_norm_add"]
    return {
        "y": (
            (residual + branch) * s,
            absolute + relative * s * (np.abs(residual) + np.abs(branch)),
        )
    }


def matmul(case):
    return {"y": product(case.inputs["weight"], 0, case.inputs["x"])}


def qkv_norm_rope(case):
    p, results = case.params, {}
    rope = case.inputs["rope"].astype(np.float64)[:, None]
    half = p["rope_dims"] // 2
    one, two = (
        (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
        if p["interleaved"]
        else (slice(0, half), slice(half, 2 * half))
    )

    def heads(x, normalize, w, rotate):
        x = x.reshape(oc.MAX_ROWS, -1, p["head_dim"])
        y = norm64(x, w, p["eps"]) if normalize else x.astype(np.float64)
        size = np.abs(y)
        if rotate:
            a, b, c, s = y[..., one].copy(), y[..., two].copy(), rope[..., :half], rope[..., half:]
            y[..., one], y[..., two] = a * c - b * s, b * c + a * s
            size[..., one] = size[..., two] = np.abs(a) + np.abs(b)
        relative = (TOLERANCES["rms_norm"][1] if normalize else 0) + (
            TOLERANCES["rope"][1] if rotate else 0
        )
        return y.reshape(oc.MAX_ROWS, -1), (relative * size).reshape(oc.MAX_ROWS, -1)

    q, k, v = (case.inputs[name] for name in "qkv")
    if q is not None:
        results["q"] = heads(q, case.inputs["q_norm"] is not None, case.inputs["q_norm"], True)
    if k is not None:
        results["k"] = heads(k, case.inputs["k_norm"] is not None, case.inputs["k_norm"], True)
    if v is not None:
        results["v"] = heads(k if p["v_from_k"] else v, p["norm_v"], None, False)
    return results


def glu(case):
    p, gate = case.params, case.inputs["gate"].astype(np.float64)
    if p.get("groups"):
        both = gate.reshape(oc.MAX_ROWS, p["groups"], 2, -1)
        gate, up = both[:, :, 0].reshape(oc.MAX_ROWS, -1), both[:, :, 1].reshape(oc.MAX_ROWS, -1)
    elif case.inputs.get("up") is not None:
        begin = p.get("up_offset", 0)
        up = case.inputs["up"].astype(np.float64)[:, begin : begin + gate.shape[1]]
    if case.inputs.get("up") is None and not p.get("groups"):
        up = np.ones_like(gate)
    if p["activation"] == "silu":
        activated = gate / (1 + np.exp(-gate))
    elif p["activation"] == "sigmoid":
        activated = 1 / (1 + np.exp(-gate))
    else:
        activated = gate / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    absolute, relative, _ = TOLERANCES[p["activation"]]
    return {"y": (activated * up, np.abs(up) * (absolute + relative * np.abs(activated)) + 1e-44)}


def linear(case):
    p, x = case.params, case.inputs["x"]
    low, high = np.float32(p.get("in_min", -np.inf)), np.float32(p.get("in_max", np.inf))
    want, bound = product(case.inputs["weight"], 0, np.clip(x, low, high))
    if case.inputs["bias"] is not None:
        bias = vector(case.inputs["bias"])
        want, bound = want + bias, bound + EPS * (np.abs(want) + np.abs(bias))
    low, high = f32(p.get("out_min", -np.inf)), f32(p.get("out_max", np.inf))
    return {"y": (np.clip(want, low, high), bound)}


def rope_grid(case):
    p, quarter = case.params, case.params["dims"] // 4
    frequency = float(p["base"]) ** (-2.0 * np.arange(quarter) / (p["dims"] // 2))
    frequency = frequency.astype(np.float32).astype(np.float64)
    angle = np.concatenate([case.inputs[axis] * frequency for axis in "xy"], axis=1)
    want = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    size = np.abs(np.concatenate([angle, angle], axis=1))
    return {"table": (want, EPS * np.abs(want) + 2.0**-51 * (1 + size))}


def layer_norm(case):
    x = case.inputs["x"].astype(np.float64)
    off = x - x.mean(1, keepdims=True)
    deviation = np.sqrt((off * off).mean(1, keepdims=True) + f32(case.params["eps"]))
    want = off / deviation * vector(case.inputs["weight"])
    # The mean, of n / 16 + 5 roundings, moves every distance by as much.
    moved = EPS * (x.shape[1] / 16 + 5) * np.abs(x).max(1, keepdims=True) / deviation
    bound = np.abs(vector(case.inputs["weight"])) * moved * (2 + np.abs(off) / deviation)
    bound = bound + 40 * EPS * np.abs(want)
    if case.inputs["bias"] is not None:
        want = want + vector(case.inputs["bias"])
        bound = bound + EPS * np.abs(want)
    return {"y": (want, bound)}


def pool_rows(case):
    rows = case.inputs["x"].astype(np.float64)[case.inputs["ids"]]
    factor, n = f32(case.params["factor"]), rows.shape[1]
    want, size = rows.sum(1) * factor, np.abs(rows).sum(1) * factor * (n + 1)
    if case.inputs["bias"] is not None:
        want, size = want - vector(case.inputs["bias"]), size + np.abs(want)
        size = size + np.abs(vector(case.inputs["bias"]))
    if case.inputs["scale"] is not None:
        scale = vector(case.inputs["scale"])
        want, size = want * scale, (size + np.abs(want)) * np.abs(scale)
    return {"y": (want, EPS * size + 1e-44)}


def one_scale(x):
    """As `activations`, with one scale for a whole row."""
    top = np.abs(x).max(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(top > 0, np.rint(x * (np.float32(127) / top)), 0)
    return q.astype(np.float64) * (top / np.float32(127)).astype(np.float64)


def attend_all(case):
    p, n, dim = case.params, oc.MAX_ROWS, case.params["head_dim"]
    q, k, v = (case.inputs[x].reshape(n, -1, dim).transpose(1, 0, 2) for x in "qkv")
    want, bound = np.empty(q.shape), np.empty(q.shape)
    for head in range(len(q)):
        one, keys, values = q[head], k[head], v[head]
        if p["int8"]:  # what the products see, but for the weights' own blocks
            one, keys = one_scale(one), one_scale(keys)
            values = activations(np.pad(values, ((0, -n % 32), (0, 0))).T.copy()).T[:n]
        one, keys, values = (x.astype(np.float64) for x in (one, keys, values))
        scale = f32(p["scale"])
        s = one @ keys.T * scale
        w = np.exp(s - s.max(1, keepdims=True))
        total = w.sum(1, keepdims=True)
        want[head] = w @ values / total
        size = (np.abs(one) @ np.abs(keys).T).max() * scale
        bound[head] = oc.attention_tolerance(dim, size, np.abs(values).max())
        if p["int8"]:  # powers of 2 within 1.1e-4, above and below the fraction, and their products
            bound[head] += 4e-4 * np.abs(values).max()
        if p["int8"]:  # half a code of the largest weight of 32
            padded = np.pad(w, ((0, 0), (0, -n % 32))).reshape(n, -1, 32)
            top = np.repeat(padded.max(2, keepdims=True), 32, axis=2).reshape(n, -1)[:, :n]
            bound[head] += (0.5 / 255 * (1 + 2.0**-7)) * (top @ np.abs(values)) / total
    return {
        "y": tuple(x.transpose(1, 0, 2).reshape(n, -1) for x in (want, bound)),
    }


def moe_route(case):
    logits, n = case.inputs["logits"].astype(np.float64), case.params["n_used"]
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :n]  # among equals the lowest first
    chosen = np.take_along_axis(logits, ids, 1)
    distance = chosen[:, :1] - chosen
    gates = np.exp(-distance)
    gates /= gates.sum(1, keepdims=True)
    if case.inputs["expert_scale"] is not None:
        gates = gates * vector(case.inputs["expert_scale"])[ids]
    # The difference of two logits is rounded once, which exp turns into a relative error; exp 2,
    # the sum n, division, product.
    bound = np.abs(gates) * EPS * (distance + distance.max(1, keepdims=True) + n + 6) + 2.0**-149
    return {"ids": (ids, np.zeros(ids.shape)), "gates": (gates, bound)}


def moe_matmul(case):
    weights, x, ids, p = case.inputs["weights"], case.inputs["x"], case.inputs["ids"], case.params
    want = np.full((oc.MAX_ROWS, p["n_used"], weights.rows), np.nan)
    bound = want.copy()
    for expert in np.unique(ids):
        row, slot = np.nonzero(ids == expert)
        one = x.reshape(oc.MAX_ROWS, p["per_row"], weights.width)[
            row, slot if p["per_row"] > 1 else 0
        ]
        want[row, slot], bound[row, slot] = product(weights, expert, one)
    return {"y": (want.reshape(oc.MAX_ROWS, -1), bound.reshape(oc.MAX_ROWS, -1))}


def moe_sum(case):
    p, gates = case.params, case.inputs["gates"].astype(np.float64)[:, :, None]
    terms = case.inputs["x"].astype(np.float64).reshape(oc.MAX_ROWS, p["n_used"], -1) * gates
    return {"y": (terms.sum(1), p["n_used"] * EPS * np.abs(terms).sum(1))}


def gather_rows(case):
    return {"y": (case.inputs["x"].astype(np.float64), np.zeros(case.inputs["x"].shape))}


def softcap(case):
    cap = case.params["cap"]
    want = cap * np.tanh(case.inputs["x"].astype(np.float64) / cap)
    return {"x": (want, TOLERANCES["softcap"][1] * np.abs(want))}


def argmax(case):
    if "ids" in case.inputs:
        return pick_among(case)
    x = np.where(np.isnan(case.inputs["logits"]), -np.inf, case.inputs["logits"])
    want = np.argmax(x, axis=1)
    # -inf wins over NaN, the first of anything over nothing
    for row in np.nonzero(np.isneginf(x.max(1)))[0]:
        numbers = np.nonzero(~np.isnan(case.inputs["logits"][row]))[0]
        want[row] = numbers[0] if len(numbers) else 0
    return {"y": (want[:, None], np.zeros((oc.MAX_ROWS, 1)))}


def pick_among(case):
    """The lowest token among those with the largest score, and its share of the soft-max."""
    x, ids = case.inputs["logits"].astype(np.float64), case.inputs["ids"]
    top = x.max(1, keepdims=True)
    token = np.where(x == top, ids, np.iinfo(np.int32).max).min(1)[:, None]
    distance = top - x
    share = 1 / np.exp(-distance).sum(1, keepdims=True)
    # The sum's terms: exp 2, the rounded difference, 16 chains of n / 16 additions and their
    # folding; then one division.
    bound = (
        share
        * EPS
        * ((np.exp(-distance) * (distance + 3)).sum(1, keepdims=True) * share + x.shape[1] / 16 + 6)
    )
    return {"y": (token, np.zeros(token.shape)), "probability": (share, bound)}


def concat(case):
    want = np.concatenate([case.inputs["a"], case.inputs["b"]], axis=1).astype(np.float64)
    return {"y": (want, np.zeros(want.shape))}


def centroid_head(case):
    p, order = case.params, case.inputs["order"][0]
    scores = case.inputs["scores"].astype(np.float64)
    # among equals the lowest first
    chosen = np.argsort(-scores, axis=1, kind="stable")[:, : p["n_active"]]
    per_cluster = len(order) // p["n_centroids"]
    rows = (chosen[:, :, None] * per_cluster + np.arange(per_cluster)).reshape(oc.MAX_ROWS, -1)
    want, bound = product(case.inputs["table"], 0, case.inputs["x"])
    take = functools.partial(np.take_along_axis, indices=rows, axis=1)
    return {"y": (take(want), take(bound)), "ids": (order[rows], np.zeros(rows.shape))}


def attend(case, halves=False):
    """Over the keys and values as the cache holds them: what the format costs is kv_store's
    affair."""
    p, store = case.params, case.inputs["cache"]
    keys, values = (x.astype(np.float64) for x in Bench(case, REFERENCE).cache.read())
    group, dim = p["n_heads"] // p["n_kv_heads"], p["head_dim"]
    q = case.inputs["q"].astype(np.float64).reshape(oc.MAX_ROWS, p["n_heads"], dim)
    want, bound = np.empty(q.shape), np.empty(q.shape)
    for row in range(oc.MAX_ROWS):
        at = case.pos + row
        last = at - p.get("past_only", 0)
        if "until" in case.inputs:
            last = max(last, case.inputs["until"][row, 0])
        slots = (
            np.arange(max(0, at - p["window"] + 1) if p["window"] else 0, last + 1) % store.capacity
        )
        for head in range(p["n_heads"]):
            k, v = keys[head // group, slots], values[head // group, slots]
            s = k @ q[row, head] * p["scale"]
            size = (np.abs(k) @ np.abs(q[row, head])).max() * p["scale"]
            if p["softcap"]:
                s = p["softcap"] * np.tanh(s / p["softcap"])
            w = np.exp(s - s.max())
            want[row, head] = w @ v / w.sum()
            bound[row, head] = oc.attention_tolerance(dim, size, np.abs(v).max(), halves)
    return {"y": (want.reshape(oc.MAX_ROWS, -1), bound.reshape(oc.MAX_ROWS, -1))}


def attend_local(case):
    p = case.params
    heads, dim, window = p["n_heads"], p["head_dim"], p["window"]
    q, k, v = (
        case.inputs[name].astype(np.float64).reshape(oc.MAX_ROWS, heads, dim) for name in "qkv"
    )
    q = q * vector(case.inputs["q_scale"])
    relative = vector(case.inputs["relative"]).reshape(window, heads, dim)
    want, bound = np.empty(q.shape), np.empty(q.shape)
    for row in range(oc.MAX_ROWS):
        first = max(0, row - window + 1)
        at = k[first : row + 1] + relative[: row - first + 1][::-1]
        s = p["softcap"] * np.tanh(np.einsum("hd,phd->hp", q[row], at) / p["softcap"])
        w = np.exp(s - s.max(1, keepdims=True))
        want[row] = np.einsum("hp,phd->hd", w / w.sum(1, keepdims=True), v[first : row + 1])
        size = np.abs(np.einsum("hd,phd->hp", np.abs(q[row]), np.abs(at))).max()
        bound[row] = oc.attention_tolerance(dim, size, np.abs(v[first : row + 1]).max())
    return {"y": (want.reshape(oc.MAX_ROWS, -1), bound.reshape(oc.MAX_ROWS, -1))}


def conv_causal(case):
    x, taps = case.inputs["x"].astype(np.float64), case.params["taps"]
    w = vector(case.inputs["weight"]).reshape(taps, -1)
    x = np.concatenate([np.zeros((taps - 1, x.shape[1])), x])
    terms = np.stack([w[t] * x[t : t + oc.MAX_ROWS] for t in range(taps)])
    return {"y": (terms.sum(0), taps * EPS * np.abs(terms).sum(0))}


def convolution(x, bound, w, norm, eps):
    """A layer of subsample: x and its bound [frames, bands, channels], w [3, 3, channels, out]."""
    frames, bands = ((n - 1) // 2 + 1 for n in x.shape[:2])
    sums = []
    for values, weights in ((x, w), (bound, np.abs(w)), (np.abs(x), np.abs(w))):
        padded = np.pad(values, ((1, 1), (1, 1), (0, 0)))
        sums.append(
            sum(
                padded[a : a + 2 * frames - 1 : 2, b : b + 2 * bands - 1 : 2] @ weights[a, b]
                for a in range(3)
                for b in range(3)
            )
        )
    z, error, size = sums
    n, steps = z.shape[-1], 9 * x.shape[-1]
    # A chain of fma, then the mean of n.
    error = error + steps * EPS * size
    error = (
        error + error.mean(-1, keepdims=True) + (n + 2) * EPS * np.abs(z).mean(-1, keepdims=True)
    )
    d = z - z.mean(-1, keepdims=True)
    variance = (d * d).mean(-1, keepdims=True)
    deviation = np.sqrt(variance + np.float64(np.float32(eps)))
    # The deviation's own error: the root of the mean of (d + error)^2 lies within the root of the
    # mean of error^2.
    of_deviation = np.sqrt((error * error).mean(-1, keepdims=True)) + (n + 6) * EPS * deviation
    y = d / deviation * norm
    least = np.maximum(deviation - of_deviation, np.sqrt(np.float64(np.float32(eps))))
    bound = (error + np.abs(d) / deviation * of_deviation) / least * np.abs(
        norm
    ) + 4 * EPS * np.abs(y)
    return np.maximum(y, 0), bound


def subsample(case):
    p, x = case.params, case.inputs["x"].astype(np.float64)[:, :, None]
    bound = np.zeros(x.shape)
    before = 1
    for n in "12":
        after = p[f"channels_{n}"]
        w = vector(case.inputs[f"conv_{n}"]).reshape(3, 3, before, after)
        x, bound = convolution(x, bound, w, vector(case.inputs[f"norm_{n}"]), p["eps"])
        before = after
    # As many out rows as frames: those past the sound are 0.
    rest = ((0, oc.MAX_ROWS - len(x)), (0, 0))
    return {"y": tuple(np.pad(each.reshape(len(each), -1), rest) for each in (x, bound))}


def stored_bound(kind, rows, head_dim):
    """Half a last place of f16, subnormals included; half a code plus the rounding of the scale."""
    if kind == "f16":
        return 2.0**-11 * np.abs(rows) + 2.0**-25
    heads = np.abs(rows.reshape(len(rows), -1, head_dim))
    top = np.repeat(np.maximum.reduceat(heads, np.arange(0, head_dim, 32), axis=2), 32, axis=2)[
        :, :, :head_dim
    ]
    return (top / 127 * (0.5 + 127 * 2.0**-11 + 1e-3)).reshape(rows.shape)


def kv_store(case):
    store = case.inputs["cache"]
    return {
        name: (
            case.inputs[name].astype(np.float64),
            stored_bound(store.kind, case.inputs[name], store.head_dim),
        )
        for name in "kv"
    }


TEXTS = {op: globals()[op] for op in OPS if op in globals()}


def stored_rows(case, bench):
    """The case's rows as the cache holds them, [row, width]; a cache keeps the last `capacity`
    positions."""
    slots = (case.pos + np.arange(oc.MAX_ROWS)) % case.inputs["cache"].capacity
    return {
        name: x[:, slots].transpose(1, 0, 2).reshape(oc.MAX_ROWS, -1)
        for name, x in zip("kv", bench.cache.read())
    }
