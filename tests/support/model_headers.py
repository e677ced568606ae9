"""Headers and tensor lists of models of every architecture and size: (metadata, tensors)."""

from __future__ import annotations


from gguf_bytes import auto


def gemma4(
    *,
    L,
    H,
    ff,
    heads,
    kv,
    d,
    ctx,
    window,
    period,
    shared=0,
    P=0,
    experts=None,
    V=262144,
    v_from_k=False,
    wide=None,
):
    """(metadata, tensors). kv and d are (sliding, full); wide: the width of KV-shared layers;
    experts: (n, used, width)."""
    sliding = [l % period != period - 1 for l in range(L)]
    meta = {
        "general.architecture": "gemma4",
        "general.name": "synthetic",
        "gemma4.block_count": L,
        "gemma4.context_length": ctx,
        "gemma4.embedding_length": H,
        "gemma4.feed_forward_length": [ff] * (L - shared) + [wide] * shared if wide else ff,
        "gemma4.attention.head_count": heads,
        "gemma4.attention.head_count_kv": kv[0]
        if kv[0] == kv[1]
        else [kv[0] if s else kv[1] for s in sliding],
        "gemma4.attention.key_length": d[1],
        "gemma4.attention.value_length": d[1],
        "gemma4.attention.key_length_swa": d[0],
        "gemma4.attention.value_length_swa": d[0],
        "gemma4.attention.layer_norm_rms_epsilon": 1e-6,
        "gemma4.attention.sliding_window": window,
        "gemma4.attention.sliding_window_pattern": sliding,
        "gemma4.attention.shared_kv_layers": shared,
        "gemma4.rope.freq_base": 1e6,
        "gemma4.rope.freq_base_swa": 1e4,
        "gemma4.rope.dimension_count": d[1],
        "gemma4.rope.dimension_count_swa": d[0],
        "gemma4.embedding_length_per_layer_input": P,
        "gemma4.final_logit_softcapping": 30.0,
    }
    t = [
        ("token_embd.weight", "F16", [H, V]),
        ("output_norm.weight", "F32", [H]),
        ("rope_freqs.weight", "F32", [d[1] // 2]),
    ]
    if P:
        t += [
            ("per_layer_token_embd.weight", "F16", [L * P, V]),
            ("per_layer_model_proj.weight", "BF16", [H, L * P]),
            ("per_layer_proj_norm.weight", "F32", [P]),
        ]
    if experts:
        meta |= {
            "gemma4.expert_count": experts[0],
            "gemma4.expert_used_count": experts[1],
            "gemma4.expert_feed_forward_length": experts[2],
        }
    for l in range(L):
        dl, nkv = (d[0], kv[0]) if sliding[l] else (d[1], kv[1])
        width = wide if wide and l >= L - shared else ff
        layer = [
            ("attn_norm", "F32", [H]),
            ("attn_q", "F16", [H, heads * dl]),
            ("attn_q_norm", "F32", [dl]),
            ("attn_output", "F16", [heads * dl, H]),
            ("post_attention_norm", "F32", [H]),
            ("ffn_norm", "F32", [H]),
            ("ffn_gate", "F16", [H, width]),
            ("ffn_up", "F16", [H, width]),
            ("ffn_down", "F16", [width, H]),
            ("post_ffw_norm", "F32", [H]),
            ("layer_output_scale", "F32", [1]),
        ]
        if l < L - shared:
            layer += [("attn_k", "F16", [H, nkv * dl]), ("attn_k_norm", "F32", [dl])]
            if sliding[l] or not v_from_k:
                layer.append(("attn_v", "F16", [H, nkv * dl]))
        if P:
            layer += [
                ("inp_gate", "F16", [H, P]),
                ("proj", "F16", [P, H]),
                ("post_norm", "F32", [H]),
            ]
        if experts:
            n, _, fe = experts
            layer += [
                ("ffn_gate_inp", "F32", [H, n]),
                ("ffn_gate_up_exps", "F16", [H, 2 * fe, n]),
                ("ffn_down_exps", "F16", [fe, H, n]),
                ("pre_ffw_norm_2", "F32", [H]),
                ("post_ffw_norm_1", "F32", [H]),
                ("post_ffw_norm_2", "F32", [H]),
            ]
            t += [
                (f"blk.{l}.ffn_gate_inp.scale", "F32", [H]),
                (f"blk.{l}.ffn_down_exps.scale", "F32", [n]),
            ]
        t += [(f"blk.{l}.{name}.weight", kind, dims) for name, kind, dims in layer]
    return meta, t


SIZES = {
    "E2B": dict(
        L=35,
        H=1536,
        ff=6144,
        wide=12288,
        heads=8,
        kv=(1, 1),
        d=(256, 512),
        ctx=131072,
        window=512,
        period=5,
        shared=20,
        P=256,
    ),
    "E4B": dict(
        L=42,
        H=2560,
        ff=10240,
        heads=8,
        kv=(2, 2),
        d=(256, 512),
        ctx=131072,
        window=512,
        period=6,
        shared=18,
        P=256,
    ),
    "12B": dict(
        L=48,
        H=3840,
        ff=15360,
        heads=16,
        kv=(8, 1),
        d=(256, 512),
        ctx=262144,
        window=1024,
        period=6,
        v_from_k=True,
    ),
    "26B": dict(
        L=30,
        H=2816,
        ff=2112,
        heads=16,
        kv=(8, 2),
        d=(256, 512),
        ctx=262144,
        window=1024,
        period=6,
        v_from_k=True,
        experts=(128, 8, 704),
    ),
    "31B": dict(
        L=60,
        H=5376,
        ff=21504,
        heads=32,
        kv=(16, 4),
        d=(256, 512),
        ctx=262144,
        window=1024,
        period=6,
        v_from_k=True,
    ),
}
TINY = dict(
    L=4,
    H=8,
    ff=8,
    heads=2,
    kv=(1, 1),
    d=(4, 8),
    ctx=64,
    window=8,
    period=2,
    shared=2,
    V=8,
    wide=16,
    P=4,
)
PLAIN = TINY | dict(shared=0, wide=None, P=0)


def assistant(
    L=4, h=8, H=16, V=16, heads=2, d=(4, 8), prefix="gemma4-assistant", arch="gemma4-assistant"
):
    sliding = [l != L - 1 for l in range(L)]
    meta = {"general.architecture": arch}
    meta |= {
        f"{prefix}.{k}": v
        for k, v in {
            "block_count": L,
            "context_length": 64,
            "embedding_length": h,
            "embedding_length_out": H,
            "feed_forward_length": 8,
            "attention.head_count": heads,
            "attention.head_count_kv": 1,
            "attention.key_length": d[1],
            "attention.value_length": d[1],
            "attention.key_length_swa": d[0],
            "attention.value_length_swa": d[0],
            "attention.layer_norm_rms_epsilon": 1e-6,
            "attention.sliding_window": 8,
            "attention.sliding_window_pattern": sliding,
            "attention.shared_kv_layers": L,
            "rope.freq_base": 1e6,
            "rope.freq_base_swa": 1e4,
            "rope.dimension_count": d[1],
            "rope.dimension_count_swa": d[0],
            "embedding_length_per_layer_input": 0,
            "nextn_predict_layers": L,
        }.items()
    }
    t = [
        ("token_embd.weight", "F32", [h, V]),
        ("output_norm.weight", "F32", [h]),
        ("rope_freqs.weight", "F32", [d[1] // 2]),
        ("nextn.pre_projection.weight", "F32", [2 * H, h]),
        ("nextn.post_projection.weight", "F32", [h, H]),
    ]
    for l in range(L):
        dl = d[0] if sliding[l] else d[1]
        t += [
            (f"blk.{l}.{name}.weight", "F32", dims)
            for name, dims in [
                ("attn_norm", [h]),
                ("attn_q", [h, heads * dl]),
                ("attn_q_norm", [dl]),
                ("attn_output", [heads * dl, h]),
                ("post_attention_norm", [h]),
                ("ffn_norm", [h]),
                ("ffn_gate", [h, 8]),
                ("ffn_up", [h, 8]),
                ("ffn_down", [8, h]),
                ("post_ffw_norm", [h]),
                ("layer_output_scale", [1]),
            ]
        ]
    return meta, t


def plain(arch, *, L=2, H=16, ff=8, heads=4, kv=2, d=4, V=8, **more):
    """llama or gemma3."""
    meta = {"general.architecture": arch} | {
        f"{arch}.{k}": v
        for k, v in (
            {
                "block_count": L,
                "context_length": 64,
                "embedding_length": H,
                "feed_forward_length": ff,
                "attention.head_count": heads,
                "attention.head_count_kv": kv,
                "attention.layer_norm_rms_epsilon": 1e-5,
            }
            | more
        ).items()
    }
    t = [("token_embd.weight", "F32", [H, V]), ("output_norm.weight", "F32", [H])]
    names = [
        ("attn_norm", [H]),
        ("attn_q", [H, heads * d]),
        ("attn_k", [H, kv * d]),
        ("attn_v", [H, kv * d]),
        ("attn_output", [heads * d, H]),
        ("ffn_norm", [H]),
        ("ffn_gate", [H, ff]),
        ("ffn_up", [H, ff]),
        ("ffn_down", [ff, H]),
    ]
    if arch == "gemma3":
        names += [
            ("attn_q_norm", [d]),
            ("attn_k_norm", [d]),
            ("post_attention_norm", [H]),
            ("post_ffw_norm", [H]),
        ]
    t += [(f"blk.{l}.{name}.weight", "F32", dims) for l in range(L) for name, dims in names]
    return meta, t


def entries(meta):
    return [v if isinstance(v, bytes) else auto(k, v) for k, v in meta.items()]


def tiny_gemma4():
    """For test_gguf.py: entries and tensors of a model with every kind of layer but experts."""
    meta, tensors = gemma4(**TINY)
    return entries(meta), tensors
