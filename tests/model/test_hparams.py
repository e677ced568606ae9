"""Hyper-parameters and tensor rules: the published sizes of Gemma 4 (full shapes in sparse files),
the other architectures, bad values."""

from __future__ import annotations

import math
import struct

import pytest
from gguf_bytes import ARR, CORRUPT, F32, I32, UNSUPPORTED, build, kv, read, write_sparse
from model_headers import PLAIN, SIZES, TINY, assistant, entries, gemma4, plain


# ---- models as dictionaries


def load(tmp_path, meta, tensors=(), data={}):
    path = tmp_path / "m.gguf"
    path.write_bytes(build(entries(meta), list(tensors), data))
    out = read(path)
    return out["model"] if "model" in out else out


def good(tmp_path, meta, tensors=(), data={}):
    out = load(tmp_path, meta, tensors, data)
    assert "error" not in out, out
    return out["hparams"]


# ---- Gemma 4, full size


@pytest.mark.parametrize("size", SIZES)
def test_gemma4_sizes(tmp_path, size):
    s = SIZES[size]
    meta, tensors = gemma4(**s)
    out = read(write_sparse(tmp_path / "m.gguf", entries(meta), tensors))["model"]
    assert out["problems"] == [] and out["unknown"] == [] and out["ignored"] == []
    h = out["hparams"]
    assert (h["arch"], h["n_layers"], h["n_embd"], h["n_vocab"], h["n_ctx_train"]) == (
        "gemma4",
        s["L"],
        s["H"],
        262144,
        s["ctx"],
    )
    assert (h["window"], h["softcap"], h["rope_base"], h["rope_base_swa"]) == (
        s["window"],
        30,
        1e6,
        1e4,
    )
    assert (h["rope_dims"], h["rope_dims_swa"], h["rope_scale"], h["attention_scale"]) == (
        512,
        256,
        1,
        1,
    )
    assert h["embed_scale"] == pytest.approx(math.sqrt(s["H"]), rel=1e-7)
    assert (
        h["ple_width"] == s.get("P", 0)
        and h["activation"] == "gelu_tanh"
        and not h["rope_interleaved"]
    )
    assert (h["n_experts"], h["n_experts_used"], h["expert_ff"]) == s.get("experts", (0, 0, 0))
    own = s["L"] - s.get("shared", 0)
    last = {
        kind: max(l for l in range(own) if (l % s["period"] != s["period"] - 1) == kind)
        for kind in (True, False)
    }
    assert len(h["layers"]) == s["L"]
    for l, layer in enumerate(h["layers"]):
        sliding = l % s["period"] != s["period"] - 1
        assert layer == {
            "sliding": sliding,
            "n_heads": s["heads"],
            "n_kv_heads": s["kv"][0 if sliding else 1],
            "head_dim": 256 if sliding else 512,
            "ff": s["wide"] if "wide" in s and l >= own else s["ff"],
            "owns_kv": l < own,
            "kv_source": l if l < own else last[sliding],
            "v_from_k": bool(s.get("v_from_k")) and not sliding,
            "moe": "experts" in s,
        }
    producers = {"E2B": (13, 14), "E4B": (22, 23)}
    if size in producers:
        assert (last[True], last[False]) == producers[size]
    assert not h["layers"][-1]["sliding"]


def test_metadata_alone(tmp_path):
    meta, _ = gemma4(**SIZES["26B"])
    h = good(tmp_path, meta | {"gemma4.vocab_size": 262144})
    assert h["n_vocab"] == 262144 and all(layer["moe"] for layer in h["layers"])
    h = good(tmp_path, meta | {"tokenizer.ggml.tokens": ["a", "b", "c"]})
    assert h["n_vocab"] == 3
    assert "vocabulary's size is unknown" in load(tmp_path, meta)["error"]


def test_scalars_as_arrays_and_arrays_as_scalars(tmp_path):
    meta, tensors = gemma4(**PLAIN)
    reference = good(tmp_path, meta, tensors)
    for key in list(meta):
        value = meta[key]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            kind = F32 if isinstance(value, float) else I32
            array = kv(key, ARR, [value] * 4, kind)
            assert good(tmp_path, meta | {key: array}, tensors) == reference, key
    pattern = "gemma4.attention.sliding_window_pattern"
    assert good(tmp_path, meta | {pattern: 2}, tensors) == reference  # a period
    assert good(tmp_path, meta | {pattern: [1, 0, 1, 0]}, tensors) == reference
    # head sizes per layer instead of two keys
    without = {k: v for k, v in meta.items() if not k.endswith("_length_swa")}
    per_layer = without | {f"gemma4.attention.{k}_length": [4, 8, 4, 8] for k in ("key", "value")}
    assert good(tmp_path, per_layer, tensors) == reference
    # 64-bit and small integer types
    for kind in (0, 1, 2, 3, 10, 11):
        assert (
            good(
                tmp_path, meta | {"gemma4.block_count": kv("gemma4.block_count", kind, 4)}, tensors
            )
            == reference
        )


def test_all_sliding_or_all_full(tmp_path):
    meta, _ = gemma4(**PLAIN)
    meta["gemma4.vocab_size"] = 8
    assert all(
        x["sliding"]
        for x in good(tmp_path, meta | {"gemma4.attention.sliding_window_pattern": True})["layers"]
    )
    h = good(tmp_path, meta | {"gemma4.attention.sliding_window_pattern": False})
    assert (
        not any(x["sliding"] for x in h["layers"]) and h["window"] == 0 and h["rope_dims_swa"] == 0
    )


# ---- bad values: changes to a good tiny model, and what the sentence must hold

G = "gemma4."
BAD = [
    ({G + "block_count": 0}, CORRUPT, "gemma4.block_count: 0 is outside 1 to 1024"),
    ({G + "block_count": 1025}, CORRUPT, "1025 is outside 1 to 1024"),
    ({G + "block_count": None}, CORRUPT, "key gemma4.block_count is missing"),
    ({G + "block_count": "4"}, CORRUPT, "it is a string, expected an integer"),
    ({G + "block_count": [4, 5]}, CORRUPT, "array of different values"),
    ({G + "embedding_length": 0}, CORRUPT, "embedding_length: 0 is outside"),
    ({G + "embedding_length": 2**31}, CORRUPT, "2147483648 is outside"),
    ({G + "context_length": 0}, CORRUPT, "context_length"),
    ({G + "feed_forward_length": [8, 8, 8]}, CORRUPT, "it has 3 values, expected one or 4"),
    ({G + "feed_forward_length": [8, 8, 0, 8]}, CORRUPT, "value 2 is 0, outside 1 to"),
    ({G + "attention.head_count": 0}, CORRUPT, "head_count: 0 is outside 1 to 1024"),
    ({G + "attention.head_count_kv": 0}, CORRUPT, "head_count_kv: 0 is outside"),
    (
        {G + "attention.head_count_kv": 3},
        CORRUPT,
        "layer 0 has 3 KV heads, which do not divide its 2 query heads",
    ),
    (
        {G + "attention.head_count_kv": [1, 1, 2, 1]},
        CORRUPT,
        "layer 2 has 2 KV heads, layer 0, whose cache it reads, has 1",
    ),
    (
        {
            G + "attention.key_length": 7,
            G + "attention.value_length": 7,
            G + "rope.dimension_count": 6,
        },
        CORRUPT,
        "key gemma4.attention.key_length: layer 1 has head size 7, it must be even",
    ),
    (
        {G + "attention.key_length": 1026, G + "attention.value_length": 1026},
        UNSUPPORTED,
        "head size 1026, the limit is 1024",
    ),
    (
        {
            G + "attention.key_length_swa": [4, 4, 8, 4],
            G + "attention.value_length_swa": [4, 4, 8, 4],
        },
        UNSUPPORTED,
        "layer 2 has head size 8, other layers of its kind 4",
    ),
    (
        {G + "attention.value_length": 4},
        UNSUPPORTED,
        "value_length: 4 differs from the key length 8",
    ),
    ({G + "attention.layer_norm_rms_epsilon": 0.0}, CORRUPT, "epsilon: 0 is outside"),
    ({G + "attention.layer_norm_rms_epsilon": math.nan}, CORRUPT, "nan is outside"),
    ({G + "attention.layer_norm_rms_epsilon": "x"}, CORRUPT, "it is a string, expected a number"),
    (
        {G + "attention.sliding_window": 0},
        CORRUPT,
        "sliding_window: 0, but the model has sliding layers",
    ),
    ({G + "attention.sliding_window": -5}, CORRUPT, "-5, but the model has sliding layers"),
    ({G + "attention.sliding_window": None}, CORRUPT, "sliding_window is missing"),
    ({G + "attention.sliding_window_pattern": None}, CORRUPT, "sliding_window_pattern is missing"),
    ({G + "attention.sliding_window_pattern": [True]}, CORRUPT, "it has 1 values"),
    (
        {G + "attention.sliding_window_pattern": [1, 0, 2, 0]},
        CORRUPT,
        "value 2 is 2, outside 0 to 1",
    ),
    ({G + "attention.sliding_window_pattern": 0}, CORRUPT, "0 is outside 1 to"),
    ({G + "attention.sliding_window_pattern": "x"}, CORRUPT, "expected an integer"),
    (
        {G + "attention.shared_kv_layers": 5},
        CORRUPT,
        "shared_kv_layers: 5 exceeds block_count, which is 4",
    ),
    ({G + "attention.shared_kv_layers": 4}, CORRUPT, "layer 0 finds no sliding layer before them"),
    ({G + "attention.shared_kv_layers": 3}, CORRUPT, "layer 1 finds no full layer before them"),
    ({G + "attention.shared_kv_layers": -1}, CORRUPT, "-1 is outside"),
    ({G + "nextn_predict_layers": 5}, CORRUPT, "nextn_predict_layers: 5 exceeds block_count"),
    ({G + "rope.freq_base": -1.0}, CORRUPT, "freq_base: -1 is outside"),
    ({G + "rope.freq_base": math.inf}, CORRUPT, "inf is outside"),
    ({G + "rope.dimension_count": 10}, CORRUPT, "10 must be even and at most the head size 8"),
    ({G + "rope.dimension_count_swa": 3}, CORRUPT, "3 must be even"),
    (
        {G + "rope.scaling.type": "yarn"},
        UNSUPPORTED,
        "RoPE scaling 'yarn' is not supported (none, linear)",
    ),
    ({G + "rope.scaling.factor": math.nan}, CORRUPT, "nan is outside"),
    ({G + "final_logit_softcapping": -1.0}, CORRUPT, "softcapping: -1 is outside"),
    ({G + "attn_logit_softcapping": 50.0}, UNSUPPORTED, "soft-capped attention"),
    ({G + "embedding_length_per_layer_input": 2**17}, CORRUPT, "131072 is outside"),
    ({G + "expert_count": 4}, CORRUPT, "expert_used_count is missing"),
    (
        {G + "expert_count": 4, G + "expert_used_count": 5, G + "expert_feed_forward_length": 8},
        CORRUPT,
        "expert_used_count: 5 exceeds expert_count, which is 4",
    ),
    (
        {G + "expert_count": 4, G + "expert_used_count": 0, G + "expert_feed_forward_length": 8},
        CORRUPT,
        "0 is outside 1 to",
    ),
    (
        {G + "expert_count": 4, G + "expert_used_count": 2, G + "expert_feed_forward_length": 0},
        CORRUPT,
        "0 is outside 1 to",
    ),
    ({"general.architecture": None}, CORRUPT, "general.architecture is missing"),
    ({"general.architecture": 4}, CORRUPT, "it is a u32, expected a string"),
    (
        {"general.architecture": "qwen2"},
        UNSUPPORTED,
        "'qwen2' is not supported (gemma4, gemma4-assistant, gemma3, llama)",
    ),
    ({"general.architecture": "gemma4_mtp"}, UNSUPPORTED, "expected as 'gemma4-assistant'"),
    ({"general.architecture": "gemma4-mtp-draft"}, UNSUPPORTED, "expected as 'gemma4-assistant'"),
    ({"split.count": 3, "split.no": 0}, UNSUPPORTED, "part 1 of 3 of a split model"),
]


@pytest.mark.parametrize("change, code, part", BAD, ids=[part for _, _, part in BAD])
def test_bad_values(tmp_path, change, code, part):
    meta, tensors = gemma4(**TINY)
    meta = {k: v for k, v in (meta | change).items() if v is not None}
    out = load(tmp_path, meta, tensors)
    assert out.get("code") == code and part in out["error"], out
    assert out["error"].startswith(str(tmp_path))


# ---- assistant


def test_assistant(tmp_path):
    out = load(tmp_path, *assistant())
    assert out["problems"] == [] and out["unknown"] == []
    h = out["hparams"]
    assert (h["arch"], h["n_embd"], h["n_embd_out"], h["embed_scale"], h["softcap"]) == (
        "gemma4-assistant",
        8,
        16,
        4,
        0,
    )
    assert [x["sliding"] for x in h["layers"]] == [True, True, True, False]
    assert all(not x["owns_kv"] and x["kv_source"] == -1 for x in h["layers"])
    assert h["centroid_head"] == 0 and h["centroid_head_problem"] == ""


@pytest.mark.parametrize(
    "arch, prefix",
    [
        ("gemma4_assistant", "gemma4_assistant"),
        ("gemma4_assistant", "gemma4-assistant"),
        ("gemma4-assistant", "gemma4_assistant"),
    ],
)
def test_assistant_spellings(tmp_path, arch, prefix):
    reference = good(tmp_path, *assistant())
    assert good(tmp_path, *assistant(arch=arch, prefix=prefix)) == reference


@pytest.mark.parametrize(
    "key, value, part",
    [
        ("nextn_predict_layers", 5, "5 exceeds block_count, which is 4"),
        ("embedding_length_out", None, "embedding_length_out is missing"),
        ("attention.shared_kv_layers", 2, "2, expected block_count, which is 4"),
        ("embedding_length_per_layer_input", 4, "per-layer embeddings in an assistant"),
        ("expert_count", 8, "experts are not supported"),
    ],
)
def test_bad_assistants(tmp_path, key, value, part):
    meta, tensors = assistant()
    meta["gemma4-assistant." + key] = value
    assert (
        part in load(tmp_path, {k: v for k, v in meta.items() if v is not None}, tensors)["error"]
    )


ORDER = [5, 3, 0, 1, 2, 4, 6, 7, 15, 14, 13, 12, 11, 10, 9, 8]
M = "gemma4-assistant.masked_embedding."
CENTROIDS = ("masked_embd_centroids.weight", "F32", [8, 4])


def pack(kind, values=ORDER):
    return struct.pack(f"<{len(values)}{kind}", *values)


@pytest.mark.parametrize("name", ["masked_embd_ordering", "masked_embd_ordering.weight"])
@pytest.mark.parametrize("kind, code", [("I32", "i"), ("I64", "q"), ("F32", "f")])
@pytest.mark.parametrize(
    "keys, top_k",
    [
        ({}, 4),
        ({M + "num_centroids": 4, M + "centroid_top_k": 2}, 2),
        ({M + "centroid_top_k": 99}, 4),
    ],
)
def test_centroid_head_tensors(tmp_path, name, kind, code, keys, top_k):
    meta, tensors = assistant()
    out = load(tmp_path, meta | keys, tensors + [CENTROIDS, (name, kind, [16])], {name: pack(code)})
    h = out["hparams"]
    assert (
        h["centroid_head"],
        h["n_centroids"],
        h["centroid_top_k"],
        h["centroid_head_problem"],
    ) == (
        1,
        4,
        top_k,
        "",
    )
    assert out["centroid_order"] == ORDER and out["unknown"] == [] and out["problems"] == []


def test_masked_head_keys(tmp_path):
    meta, tensors = assistant()
    meta |= {M + "centroids": [0.5] * 32, M + "token_ordering": ORDER}
    out = load(tmp_path, meta, tensors)
    assert (
        out["hparams"]["centroid_head"],
        out["hparams"]["n_centroids"],
        out["centroid_order"],
    ) == (2, 4, ORDER)
    # tensors come first; half a pair of tensors does not hide a whole pair of keys
    out = load(tmp_path, meta, tensors + [("masked_embd_ordering", "I32", [16])])
    assert out["hparams"]["centroid_head"] == 2 and out["ignored"] == ["masked_embd_ordering"]


ORD = ("masked_embd_ordering", "I32", [16])


@pytest.mark.parametrize(
    "keys, tensors, order, part",
    [
        ({}, [CENTROIDS], None, "masked_embd_ordering is missing"),
        ({}, [ORD], pack("i"), "masked_embd_centroids.weight is missing"),
        ({M + "num_centroids": 4}, [], None, "the metadata describes a centroid head"),
        ({M + "centroids": [0.5] * 32}, [], None, "token_ordering is missing"),
        ({M + "token_ordering": ORDER}, [], None, "key masked_embedding.centroids is missing"),
        (
            {M + "centroids": [0.5] * 31, M + "token_ordering": ORDER},
            [],
            None,
            "31 values are not rows of 8",
        ),
        ({M + "centroids": [1] * 32, M + "token_ordering": ORDER}, [], None, "not an array of f32"),
        (
            {M + "centroids": [0.5] * 32, M + "token_ordering": 3},
            [],
            None,
            "not an array of integers",
        ),
        (
            {M + "centroids": [0.5] * 32, M + "token_ordering": ORDER[1:]},
            [],
            None,
            "15 entries, expected 16",
        ),
        (
            {},
            [("masked_embd_centroids.weight", "F32", [8, 5]), ORD],
            pack("i"),
            "5 centroids do not divide the vocabulary of 16",
        ),
        (
            {},
            [("masked_embd_centroids.weight", "F32", [4, 4]), ORD],
            pack("i"),
            "shape [4, 4], expected [8, at most 16]",
        ),
        ({}, [("masked_embd_centroids.weight", "I8", [8, 4]), ORD], pack("i"), "type I8"),
        (
            {M + "num_centroids": 8},
            [CENTROIDS, ORD],
            pack("i"),
            "num_centroids: 8, but the table has 4 rows",
        ),
        ({M + "centroid_top_k": 0}, [CENTROIDS, ORD], pack("i"), "it must be at least 1"),
        ({}, [CENTROIDS, ORD], pack("i", [0] + ORDER[1:]), "id 0 occurs twice"),
        ({}, [CENTROIDS, ORD], pack("i", [16] + ORDER[1:]), "entry 0 is no token id below 16"),
        ({}, [CENTROIDS, ORD], pack("i", [-1] + ORDER[1:]), "entry 0 is no token id"),
        (
            {},
            [CENTROIDS, ("masked_embd_ordering", "F32", [16])],
            pack("f", [0.5] + ORDER[1:]),
            "entry 0 is no token id",
        ),
        (
            {},
            [CENTROIDS, ("masked_embd_ordering", "F32", [16])],
            pack("f", [math.nan] + ORDER[1:]),
            "entry 0 is no token id",
        ),
        (
            {},
            [CENTROIDS, ("masked_embd_ordering", "F16", [16])],
            None,
            "type F16 is not supported here",
        ),
        ({}, [CENTROIDS, ("masked_embd_ordering", "I32", [8])], None, "8 entries, expected 16"),
    ],
)
def test_unusable_centroid_head_is_dense_with_a_reason(tmp_path, keys, tensors, order, part):
    meta, base = assistant()
    out = load(
        tmp_path, meta | keys, base + tensors, {"masked_embd_ordering": order} if order else {}
    )
    h = out["hparams"]
    assert h["centroid_head"] == 0 and h["n_centroids"] == 0 and h["centroid_top_k"] == 0
    assert part in h["centroid_head_problem"] and h["centroid_head_problem"].endswith(
        "; the dense head is used"
    )
    assert out["problems"] == [] and sorted(out["ignored"]) == sorted(
        name for name, _, _ in tensors
    )


# ---- gemma3 and llama


def test_gemma3(tmp_path):
    more = {
        "attention.key_length": 4,
        "attention.value_length": 4,
        "attention.sliding_window": 8,
        "rope.freq_base": 1e6,
    }
    out = load(tmp_path, *plain("gemma3", L=13, **more))
    h = out["hparams"]
    assert out["problems"] == [] and out["unknown"] == []
    assert [l for l, x in enumerate(h["layers"]) if not x["sliding"]] == [5, 11]
    assert (
        h["window"],
        h["rope_base"],
        h["rope_base_swa"],
        h["attention_scale"],
        h["embed_scale"],
    ) == (8, 1e6, 1e4, 0.5, 4)
    assert (h["softcap"], h["rope_scale"], h["rope_dims"], h["rope_dims_swa"]) == (0, 1, 4, 4)
    scaling = {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0, "rope.freq_base_swa": 2e4}
    h = good(tmp_path, *plain("gemma3", L=13, **more, **scaling))
    assert (h["rope_scale"], h["rope_scale_swa"], h["rope_base_swa"]) == (8, 1, 2e4)
    h = good(
        tmp_path,
        *plain(
            "gemma3",
            L=4,
            **more,
            **{"attention.sliding_window_pattern": [True, False, False, True]},
        ),
    )
    assert [x["sliding"] for x in h["layers"]] == [True, False, False, True]
    h = good(tmp_path, *plain("gemma3", L=4, **more, **{"attention.sliding_window_pattern": 2}))
    assert [x["sliding"] for x in h["layers"]] == [True, False, True, False]
    # the 27B divisor: n_embd / n_heads = 8
    h = good(tmp_path, *plain("gemma3", L=62, H=32, **more))
    assert h["attention_scale"] == pytest.approx(1 / math.sqrt(8))
    without_window = {k: v for k, v in more.items() if "window" not in k}
    assert good(tmp_path, *plain("gemma3", L=13, **without_window))["window"] == 0


def test_llama(tmp_path):
    out = load(tmp_path, *plain("llama", **{"rope.dimension_count": 4}))
    h = out["hparams"]
    assert out["problems"] == [] and out["unknown"] == []
    assert (h["rope_interleaved"], h["attention_scale"], h["embed_scale"], h["activation"]) == (
        True,
        0.5,
        1,
        "silu",
    )
    assert (h["window"], h["rope_base"], h["rope_dims"], h["layers"][0]["head_dim"]) == (
        0,
        1e4,
        4,
        4,
    )
    h = good(
        tmp_path, *plain("llama", **{"rope.scaling.type": "linear", "rope.scaling.factor": 4.0})
    )
    assert h["rope_scale"] == 4
    assert good(tmp_path, *plain("llama", **{"rope.scale_linear": 2.0}))["rope_scale"] == 2
    assert (
        good(
            tmp_path, *plain("llama", **{"rope.scaling.type": "none", "rope.scaling.factor": 4.0})
        )["rope_scale"]
        == 1
    )
    assert (
        "'longrope'"
        in load(tmp_path, *plain("llama", **{"rope.scaling.type": "longrope"}))["error"]
    )
    assert (
        "experts are not supported in llama"
        in load(tmp_path, *plain("llama", expert_count=8))["error"]
    )
    assert (
        "not divisible by head_count 3" in load(tmp_path, *plain("llama", heads=3, kv=1))["error"]
    )
    meta, tensors = plain("llama")
    out = load(
        tmp_path,
        meta,
        tensors + [("rope_freqs.weight", "F32", [2]), ("output.weight", "F32", [16, 8])],
    )
    assert out["problems"] == [] and out["unknown"] == []
    out = load(tmp_path, meta, tensors + [("blk.1.attn_q.bias", "F32", [16])])
    assert (
        out["check_error"]["code"] == UNSUPPORTED
        and "blk.1.attn_q.bias: not supported in llama" in out["check_error"]["error"]
    )


# ---- tensor rules


def change(tensors, name, kind=None, dims=None, drop=False):
    assert any(t[0] == name for t in tensors)
    return [
        (n, kind or k, dims or d) if n == name else (n, k, d)
        for n, k, d in tensors
        if not (drop and n == name)
    ]


@pytest.mark.parametrize(
    "name, kind, dims, code, part",
    [
        (
            "blk.3.attn_q.weight",
            None,
            [8, 15],
            CORRUPT,
            "tensor blk.3.attn_q.weight: shape [8, 15], expected [8, 16]",
        ),
        ("blk.0.attn_k.weight", None, [8, 4, 2], CORRUPT, "shape [8, 4, 2], expected [8, 4]"),
        ("output_norm.weight", None, [9], CORRUPT, "shape [9], expected [8]"),
        ("token_embd.weight", None, [9, 8], CORRUPT, "shape [9, 8], expected [8, 8]"),
        ("blk.2.layer_output_scale.weight", None, [2], CORRUPT, "shape [2], expected [1]"),
        ("per_layer_token_embd.weight", None, [12, 8], CORRUPT, "expected [16, 8]"),
        (
            "blk.1.attn_norm.weight",
            "I32",
            None,
            UNSUPPORTED,
            "type I32 is not supported here (F32, F16, BF16)",
        ),
        (
            "blk.1.layer_output_scale.weight",
            "F16",
            None,
            UNSUPPORTED,
            "type F16 is not supported here (F32)",
        ),
        (
            "blk.1.ffn_up.weight",
            "I8",
            None,
            UNSUPPORTED,
            "type I8 is not supported here (F32, F16, BF16 or quantized)",
        ),
    ],
)
def test_wrong_tensors(tmp_path, name, kind, dims, code, part):
    meta, tensors = gemma4(**TINY)
    out = load(tmp_path, meta, change(tensors, name, kind, dims))
    assert len(out["problems"]) == 1 and part in out["problems"][0]
    assert out["check_error"]["code"] == code and out["check_error"]["error"].endswith(
        out["problems"][0]
    )


# Two owning layers of each kind: the only V of a kind may be missing, that means V from K.
@pytest.mark.parametrize("size", [TINY | dict(L=6), PLAIN | dict(experts=(4, 2, 8))])
def test_every_tensor_is_missed(tmp_path, size):
    meta, tensors = gemma4(**size)
    meta |= {"gemma4.vocab_size": 8}
    for name, _, dims in tensors:
        out = load(tmp_path, meta, change(tensors, name, drop=True))
        if "layer_output_scale" in name:
            assert out["problems"] == []
            continue
        assert out["check_error"]["code"] == CORRUPT, name
        if "ffn_gate_up_exps" not in name:
            assert f"tensor {name}: missing, expected {dims}" in out["problems"], name


def test_many_problems_are_counted(tmp_path):
    meta, tensors = gemma4(**TINY)
    out = load(tmp_path, meta, [t for t in tensors if "ffn_norm" not in t[0]])
    assert out["check_error"]["error"].endswith("(and 3 more like it)")


def test_tolerated_forms(tmp_path):
    meta, tensors = gemma4(**TINY)
    # trailing ones, an output head of its own, unknown tensors, K and V on layers that borrow their
    # cache
    out = load(
        tmp_path,
        meta,
        change(tensors, "output_norm.weight", dims=[8, 1])
        + [
            ("output.weight", "F16", [8, 8]),
            ("mystery", "F32", [3]),
            ("blk.9.attn_q.weight", "F32", [3]),
            ("blk.3.attn_k.weight", "F16", [8, 8]),
            ("blk.3.attn_v.weight", "F32", [5]),
            ("blk.3.attn_k_norm.weight", "F32", [8]),
        ],
    )
    assert out["problems"] == [] and out["unknown"] == ["mystery", "blk.9.attn_q.weight"]
    assert out["ignored"] == [
        "blk.3.attn_k.weight",
        "blk.3.attn_v.weight",
        "blk.3.attn_k_norm.weight",
    ]


def test_fused_qkv(tmp_path):
    meta, tensors = gemma4(**TINY)
    split = [t for t in tensors if t[0] not in {f"blk.0.attn_{x}.weight" for x in "qkv"}]
    out = load(tmp_path, meta, split + [("blk.0.attn_qkv.weight", "F16", [8, (2 + 2) * 4])])
    assert (
        out["problems"] == []
        and out["unknown"] == []
        and not out["hparams"]["layers"][0]["v_from_k"]
    )
    out = load(tmp_path, meta, split + [("blk.0.attn_qkv.weight", "F16", [8, 12])])
    assert "shape [8, 12], expected [8, 16]" in out["problems"][0]


def test_separate_experts(tmp_path):
    meta, tensors = gemma4(**PLAIN, experts=(4, 2, 8))
    apart = [t for t in tensors if "gate_up_exps" not in t[0]]
    apart += [
        (f"blk.{l}.ffn_{x}_exps.weight", "F16", [8, 8, 4]) for l in range(4) for x in ("gate", "up")
    ]
    out = load(tmp_path, meta, apart)
    assert out["problems"] == [] and out["unknown"] == []
    assert (
        "expert_count is missing"
        in load(tmp_path, {k: v for k, v in meta.items() if "expert" not in k}, tensors)["error"]
    )


def test_one_missing_v_is_not_v_from_k(tmp_path):
    meta, tensors = gemma4(**PLAIN)
    out = load(tmp_path, meta, change(tensors, "blk.1.attn_v.weight", drop=True))
    assert out["problems"] == ["tensor blk.1.attn_v.weight: missing, expected [8, 8]"]
