"""Random small configurations as `transformers` reads them, and weights made of a seed.

    draw(kind, seed) -> Case: config.json with keys left out or kept, nested or flat, in the older
    or
                        the newer spelling, and how the checkpoint names its tensors
    weights(shapes, case) -> {name: f32 array}: the same on every machine

Only numpy is needed. Kinds: those of KINDS.
"""

import math
import random
import re
import zlib
from dataclasses import dataclass, field

import numpy as np

FULL, SLIDING = "full_attention", "sliding_attention"
KINDS = [
    "llama",
    "gemma3_text",
    "gemma3",
    "gemma4_text",
    "gemma4",
    "gemma4_unified_text",
    "gemma4_unified",
]
N_TOKENS = 40


@dataclass
class Case:
    kind: str
    seed: int
    config: dict
    head: str = "absent"
    """lm_head.weight in the checkpoint: "absent", "equal" to the embedding, or "other"."""
    naming: str = "plain"
    """Names of tensors: "plain", "bare" (of the class without a head), "old" (of transformers
    4)."""
    wrapped: str = ""
    """What a training program puts in front of every name; transformers never sees it."""
    refusable: str = ""
    """Set: pillion says in one sentence, which holds this word, that it can't convert it."""
    tensors: dict = field(default_factory=dict)
    """{name: shape}, as the class of transformers has them."""

    @property
    def ids(self):
        vocab = text_of(self.config).get("vocab_size", 64)
        rng = np.random.default_rng([self.seed, 1])
        return [2, *rng.integers(3, min(vocab, 64), N_TOKENS - 1).tolist()]


def text_of(config):
    return config.get("text_config", config)


# ---- choices ----


class Draw(random.Random):
    def sometimes(self, share):
        return self.random() < share

    def real(self, low, high):
        """Log-uniform, three digits."""
        return float(f"{math.exp(self.uniform(math.log(low), math.log(high))):.3g}")

    def drop(self, config, defaults, share=0.3):
        """Leaves out keys whose values are the defaults of the class."""
        for key, value in defaults.items():
            if config.get(key) == value and self.sometimes(share):
                del config[key]


def heads(draw, even_groups=(1, 2, 4)):
    kv = draw.choice([1, 2])
    return kv * draw.choice(even_groups), kv


def noise(draw):
    """Keys that change nothing: the type of the weights in both spellings, ids, switches of
    training."""
    found = {}
    for key, values in {
        "torch_dtype": ["bfloat16", "float32"],
        "dtype": ["bfloat16", "float16"],
        "use_cache": [True, False],
        "initializer_range": [0.02],
        "attention_dropout": [0.0, 0],
        "pad_token_id": [0],
        "bos_token_id": [2],
        "eos_token_id": [1, [1, 5]],
        "transformers_version": ["4.57.1"],
    }.items():
        if draw.sometimes(0.4):
            found[key] = draw.choice(values)
    return found


def llama3(draw):
    return {
        "factor": draw.choice([2, 8.0, 32.0]),
        "low_freq_factor": draw.choice([1, 1.0, 0.5]),
        "high_freq_factor": draw.choice([4.0, 2]),
    }


def unsupported_rope(draw, size):
    kind = draw.choice(["yarn", "dynamic", "longrope"])
    rope = {"rope_type": kind, "factor": 4.0}
    if kind != "dynamic":
        rope["original_max_position_embeddings"] = 32
    if kind == "longrope":
        rope.update(short_factor=[1.0] * (size // 2), long_factor=[2.0] * (size // 2))
    return rope


# ---- Llama ----


def llama(draw):
    n_heads, kv = heads(draw)
    size = draw.choice([4, 8, 16, 32])
    explicit = draw.sometimes(0.4)
    width = n_heads * (draw.choice([8, 16, 24]) if explicit else size)
    config = {
        "model_type": "llama",
        "architectures": [draw.choice(["LlamaForCausalLM", "LlamaModel"])],
        "vocab_size": draw.choice([64, 97, 128]),
        "hidden_size": width,
        "intermediate_size": draw.choice([16, 48, 72]),
        "num_hidden_layers": draw.choice([1, 2, 3]),
        "num_attention_heads": n_heads,
        "num_key_value_heads": kv,
        "max_position_embeddings": draw.choice([64, 2048, 4096]),
        "rms_norm_eps": draw.choice([1e-6, 1e-5, 0.03]),
        "hidden_act": draw.choice(["silu", "silu", "swish"]),
        **noise(draw),
    }
    if explicit:
        config["head_dim"] = size
    elif draw.sometimes(0.3):
        config["head_dim"] = draw.choice([None, size])
    case = Case("llama", 0, config)
    if kv == n_heads and draw.sometimes(0.5):
        config["num_key_value_heads"] = None
    _llama_rope(draw, case, size)
    for key in ("attention_bias", "mlp_bias"):
        if not case.refusable and draw.sometimes(0.03):
            config[key], case.refusable = True, key
        elif draw.sometimes(0.3):
            config[key] = False
    if not case.refusable and draw.sometimes(0.03):
        config["hidden_act"], case.refusable = "gelu", "gelu"
    draw.drop(
        config,
        dict(
            num_key_value_heads=None,
            max_position_embeddings=2048,
            rms_norm_eps=1e-6,
            hidden_act="silu",
        ),
        0.6,
    )
    if draw.sometimes(0.05):
        del config["intermediate_size"]
    if draw.sometimes(0.03):
        del config["num_hidden_layers"]
    tied = draw.choice([True, False, None])
    if tied is not None:
        config["tie_word_embeddings"] = tied
    case.head = draw.choice(["absent", "equal", "other"]) if tied else "other"
    return case


def _llama_rope(draw, case, size):
    config = case.config
    base = draw.choice([1e4, 10000, 500000.0, 1e3])
    how = draw.choice(["none", "default", "linear", "linear", "llama3", "llama3", "other"])
    rope = {}
    if how == "linear":
        rope = {"rope_type": "linear", "factor": draw.choice([2, 8, 8.0, 3.5])}
    elif how == "llama3":
        rope = {
            "rope_type": "llama3",
            **llama3(draw),
            "original_max_position_embeddings": draw.choice([16, 24, 64]),
        }
        if draw.sometimes(0.2):  # its default is max_position_embeddings
            del rope["original_max_position_embeddings"]
            config["max_position_embeddings"] = draw.choice([32, 64])
        elif draw.sometimes(0.2):
            config["original_max_position_embeddings"] = draw.choice([16, 40])
    elif how == "default":
        rope = {"rope_type": "default"}
    elif how == "other" and draw.sometimes(0.4):
        rope = unsupported_rope(draw, size)
        case.refusable = rope["rope_type"]
    if rope and draw.sometimes(0.3):
        rope["type"] = rope["rope_type"] if draw.sometimes(0.5) else rope.pop("rope_type")
    if rope and draw.sometimes(0.5):
        config["rope_parameters"] = {**rope, "rope_theta": base}
        if draw.sometimes(0.2):  # stands twice: the inner one counts
            config["rope_theta"] = 77.0
        if draw.sometimes(0.1):
            config["rope_parameters"].pop("rope_theta")
    else:
        if rope or draw.sometimes(0.3):
            config["rope_scaling"] = rope or None
        if draw.sometimes(0.7):
            config["rope_theta"] = base
        if rope and draw.sometimes(0.15):  # rope_scaling goes before rope_parameters
            config["rope_parameters"] = {"rope_type": "default", "rope_theta": 55.0}
    if draw.sometimes(0.05) and not case.refusable and not rope:
        config["partial_rotary_factor"] = 0.5


# ---- Gemma 3 ----


def gemma3_text(draw):
    n_heads, kv = heads(draw)
    size = draw.choice([4, 8, 16, 32])
    n_layers = draw.choice([1, 2, 3, 5, 7, 12])
    config = {
        "vocab_size": draw.choice([64, 96, 120]),
        "hidden_size": n_heads * draw.choice([8, 12, 16]),
        "intermediate_size": draw.choice([16, 40]),
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "num_key_value_heads": kv,
        "head_dim": size,
        "query_pre_attn_scalar": draw.choice([size, size, 2 * size, 168]),
        "sliding_window": draw.choice([4, 9, 16, 4096]),
        "max_position_embeddings": draw.choice([131072, 64, 32768]),
        "hidden_activation": draw.choice(["gelu_pytorch_tanh", "gelu_new"]),
        "rms_norm_eps": draw.choice([1e-6, 1e-5, 0.03]),
        **noise(draw),
    }
    case = Case(
        "gemma3_text", 0, {"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}
    )
    how = draw.choice(["none", "types", "period", "both", "irregular"])
    types = [SLIDING if (i + 1) % draw.choice([2, 3, 6]) else FULL for i in range(n_layers)]
    if how in ("types", "both"):
        every = draw.choice([1, 2, 6])
        types = [SLIDING if (i + 1) % every else FULL for i in range(n_layers)]
    if how in ("types", "both", "irregular"):
        config["layer_types"] = types
    if how in ("period", "both"):
        config["sliding_window_pattern"] = draw.choice([1, 2, 3, 6])
    _gemma3_rope(draw, case, config)
    if draw.sometimes(0.3):
        config["final_logit_softcapping"] = draw.choice([30.0, 5.0, None])
    config["attn_logit_softcapping"] = None
    if draw.sometimes(0.3):
        config["hidden_act"] = "gelu"  # no key of this class
    if draw.sometimes(0.3):
        config["use_bidirectional_attention"] = False
    if not case.refusable and draw.sometimes(0.03):
        config["use_bidirectional_attention"], case.refusable = True, "use_bidirectional_attention"
    defaults = dict(
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=4096,
    )
    defaults.update(
        max_position_embeddings=131072, hidden_activation="gelu_pytorch_tanh", rms_norm_eps=1e-6
    )
    if draw.sometimes(0.15):
        config["num_attention_heads"], config["num_key_value_heads"] = 8, 4
        config["hidden_size"] = 48
    if draw.sometimes(0.08):
        config["head_dim"] = config["query_pre_attn_scalar"] = 256
    draw.drop(config, defaults, 0.6)
    if draw.sometimes(0.04):
        del config["num_hidden_layers"]
        config.pop("layer_types", None)
    if draw.sometimes(0.04):
        del config["intermediate_size"]
    if case.refusable == "dynamic" and FULL not in _types(config):
        case.refusable = ""  # that rotation is nobody's
    case.config.update(config)
    _tied(draw, case, case.config)
    return case


def _types(config):
    every = config.get("sliding_window_pattern", 6)
    n_layers = config.get("num_hidden_layers", 26)
    return config.get(
        "layer_types", [SLIDING if (i + 1) % every else FULL for i in range(n_layers)]
    )


def _gemma3_rope(draw, case, config):
    scaling = {}
    if draw.sometimes(0.6):
        scaling = {"rope_type": "linear", "factor": draw.choice([8, 8.0, 2.5])}
    elif draw.sometimes(0.1):
        scaling = unsupported_rope(draw, 16)
        scaling["rope_type"] = "dynamic"
    full = {
        **scaling,
        **({"rope_theta": draw.choice([1e6, 1000000, 1e4])} if draw.sometimes(0.7) else {}),
    }
    local = {"rope_theta": draw.choice([1e4, 10000, 500.0])} if draw.sometimes(0.6) else {}
    if draw.sometimes(0.5):
        full.setdefault("rope_type", "default")
        if draw.sometimes(0.3) and scaling:
            full["type"] = full.pop("rope_type")
        if draw.sometimes(0.8):
            local["rope_type"] = "default"
        config["rope_parameters"] = {FULL: full, SLIDING: local}
        if not local and draw.sometimes(0.5):
            config["rope_parameters"].pop(SLIDING)
        if draw.sometimes(0.2):
            config["rope_theta"], config["rope_local_base_freq"] = 77.0, 66.0
    else:
        if scaling or draw.sometimes(0.5):
            config["rope_scaling"] = scaling or None
        if "rope_theta" in full:
            config["rope_theta"] = full["rope_theta"]
        if "rope_theta" in local:
            config["rope_local_base_freq"] = local["rope_theta"]
    if scaling.get("rope_type") == "dynamic":
        case.refusable = "dynamic"


def gemma3(draw):
    inner = gemma3_text(draw)
    return _around(
        draw,
        inner,
        "gemma3",
        "Gemma3ForConditionalGeneration",
        {
            "model_type": "siglip_vision_model",
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 28,
            "patch_size": 14,
        },
    )


# ---- Gemma 4 ----


def gemma4_text(draw, unified=False):
    kv = draw.choice([1, 2])
    n_heads = kv * draw.choice([1, 2, 4])
    size, wide = draw.choice([8, 16, 32]), draw.choice([8, 16, 32, 64])
    n_layers = draw.choice([1, 2, 4, 6, 12])
    shared = draw.choice([0, 0, n_layers // 2]) if n_layers >= 4 else 0
    per_layer = 0 if unified else draw.choice([0, 8, 16])
    config = {
        "vocab_size": draw.choice([64, 96, 120]),
        "hidden_size": draw.choice([24, 32, 48]),
        "intermediate_size": draw.choice([16, 40]),
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "num_key_value_heads": kv,
        "head_dim": size,
        "sliding_window": draw.choice([4, 9, 16, 512, 1024]),
        "max_position_embeddings": draw.choice([131072, 262144, 64]),
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": draw.choice([1e-6, 1e-5, 0.03]),
        "num_kv_shared_layers": shared,
        "use_double_wide_mlp": draw.choice([True, False]),
        "attention_k_eq_v": draw.choice([True, False]),
        "hidden_size_per_layer_input": per_layer,
        "final_logit_softcapping": draw.choice([None, 30.0, 4.0]),
        **noise(draw),
    }
    kind = "gemma4_unified_text" if unified else "gemma4_text"
    cls = "Gemma4UnifiedForCausalLM" if unified else "Gemma4ForCausalLM"
    case = Case(kind, 0, {"model_type": kind, "architectures": [cls]})
    types = _gemma4_types(draw, config, n_layers, shared)
    if not unified:
        config["vocab_size_per_layer_input"] = config["vocab_size"] + draw.choice([0, 0, 9])
        if draw.sometimes(0.25):
            experts = draw.choice([2, 4, 5])
            config.update(
                enable_moe_block=True, num_experts=experts, top_k_experts=draw.choice([1, 2])
            )
            config["moe_intermediate_size"] = draw.choice([8, 24])
        elif draw.sometimes(0.3):
            config.update(enable_moe_block=False, num_experts=None, top_k_experts=None)
    elif draw.sometimes(0.2):
        config.update(hidden_size_per_layer_input=8, enable_moe_block=True)  # no keys of this class
    _gemma4_sizes(draw, config, types, wide, n_heads)
    _gemma4_rope(draw, case, config, types)
    if draw.sometimes(0.3):
        config["use_bidirectional_attention"] = draw.choice([None, "vision"])
    if not case.refusable and draw.sometimes(0.03):
        config["use_bidirectional_attention"], case.refusable = "all", "use_bidirectional_attention"
    window, length = (1024, 262144) if unified else (512, 131072)
    defaults = dict(
        sliding_window=window,
        max_position_embeddings=length,
        num_kv_shared_layers=0,
        rms_norm_eps=1e-6,
    )
    defaults.update(
        use_double_wide_mlp=False, attention_k_eq_v=False, hidden_activation="gelu_pytorch_tanh"
    )
    defaults.update(final_logit_softcapping=None)
    if unified:
        defaults.update(hidden_size_per_layer_input=0)
    draw.drop(config, defaults, 0.6)
    if draw.sometimes(0.04):
        del config["intermediate_size"]
    case.config.update(config)
    _tied(draw, case, case.config)
    return case


def _gemma4_types(draw, config, n_layers, shared):
    every = draw.choice([1, 2, 3, 6])
    types = [SLIDING if (i + 1) % every else FULL for i in range(n_layers)]
    listed = draw.sometimes(0.8)
    if not listed:
        types = [SLIDING if (i + 1) % 6 else FULL for i in range(n_layers)]
    types[-1] = FULL
    if shared and set(types[: n_layers - shared]) != set(types):
        types[n_layers - shared - 1] = FULL
        types[0] = SLIDING if SLIDING in types else FULL
        listed = True
    if shared and set(types[: n_layers - shared]) != set(types):
        types, listed = [FULL] * n_layers, True
    if listed:
        config["layer_types"] = list(types)
        if draw.sometimes(0.15) and (not shared or SLIDING in types):
            config["layer_types"][-1] = SLIDING  # the class makes it full all the same
    return types


def _gemma4_sizes(draw, config, types, wide, n_heads):
    """Head sizes of full layers: by the global keys, or layer by layer."""
    full_kv = draw.choice([n for n in (1, 2) if n_heads % n == 0])
    if draw.sometimes(0.5):
        config["global_head_dim"] = wide
        if draw.sometimes(0.6):
            config["num_global_key_value_heads"] = full_kv
    elif draw.sometimes(0.9):
        own = {"head_dim": wide}
        if draw.sometimes(0.5):
            own["num_key_value_heads"] = full_kv
        digits = len(str(len(types) - 1)) if draw.sometimes(0.7) else 1
        config["per_layer_config"] = {
            str(i).zfill(digits): dict(own) for i, kind in enumerate(types) if kind == FULL
        }
        if draw.sometimes(0.2):
            config["per_layer_config"] = {}
        if draw.sometimes(0.3):
            config["global_head_dim"] = 24  # without effect
    # else: the default of the class, 512


def _gemma4_rope(draw, case, config, types):
    if draw.sometimes(0.3):
        return
    full = draw.choice(
        [
            {
                "rope_type": "proportional",
                "partial_rotary_factor": draw.choice([0.25, 0.5, 0.3, 1.0]),
            },
            {
                "rope_type": "proportional",
                "partial_rotary_factor": 0.25,
                "factor": draw.choice([2, 8.0]),
            },
            {"rope_type": "proportional"},
            {"rope_type": "default"},
            {"rope_type": "default", "partial_rotary_factor": 0.25},
            {"rope_type": "linear", "factor": draw.choice([4, 8.0])},
            {"rope_type": "llama3", **llama3(draw), "original_max_position_embeddings": 32},
        ]
    )
    full["rope_theta"] = draw.choice([1e6, 1000000, 1e4])
    local = {"rope_type": "default", "rope_theta": draw.choice([1e4, 10000, 300.0])}
    if draw.sometimes(0.05):
        full = {
            **unsupported_rope(draw, 16),
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "original_max_position_embeddings": 32,
        }
        full.pop("short_factor", None), full.pop("long_factor", None)
        case.refusable = "yarn"
    elif draw.sometimes(0.05) and SLIDING in types:
        local.update(rope_type="linear", factor=4.0)
        case.refusable = "linear"
    for rope in (full, local):
        if draw.sometimes(0.15):
            rope["type"] = rope.pop("rope_type")
    config["rope_parameters"] = {FULL: full, SLIDING: local}
    if SLIDING not in types and draw.sometimes(0.5):
        del config["rope_parameters"][SLIDING]
    if draw.sometimes(0.2):
        config["rope_theta"] = 77.0  # no key of this class


def gemma4(draw):
    return _around(draw, gemma4_text(draw), "gemma4", "Gemma4ForConditionalGeneration", None)


def gemma4_unified(draw):
    return _around(
        draw,
        gemma4_text(draw, True),
        "gemma4_unified",
        "Gemma4UnifiedForConditionalGeneration",
        None,
    )


def draw_pair(seed):
    """(target, assistant): an assistant has its target's head sizes, KV heads and window, whatever
    else it has."""
    source = Draw(zlib.crc32(f"pair {seed}".encode()))
    unified = source.sometimes(0.3)
    while True:
        target = gemma4_text(source, unified)
        target.seed, text = zlib.crc32(f"pair {seed} target".encode()), target.config
        types = text.get("layer_types") or [
            SLIDING if (i + 1) % 6 else FULL for i in range(text["num_hidden_layers"])
        ]
        if not target.refusable and SLIDING in types[:-1]:
            break
    kv, full_kv, size, full_size = _kv_sizes(text, types)
    n_layers = source.choice([1, 2, 3, 4])
    own = [source.choice([SLIDING, FULL]) for _ in range(n_layers - 1)] + [FULL]
    inner = {
        "model_type": "gemma4_unified_text" if unified else "gemma4_text",
        "vocab_size": text["vocab_size"],
        "hidden_size": source.choice([16, 24]),
        "intermediate_size": source.choice([16, 40]),
        "num_hidden_layers": n_layers,
        "num_attention_heads": math.lcm(kv, full_kv) * source.choice([1, 2]),
        "num_key_value_heads": kv,
        "head_dim": size,
        "layer_types": own,
        "per_layer_config": {
            str(i): _full(full_size, full_kv) for i, k in enumerate(own) if k == FULL
        },
        "rope_parameters": text.get("rope_parameters"),
        "num_kv_shared_layers": source.choice([0, n_layers]),
        "rms_norm_eps": source.choice([1e-6, 0.03]),
        "final_logit_softcapping": source.choice([None, 30.0]),  # without effect
        **{key: text[key] for key in ("sliding_window", "max_position_embeddings") if key in text},
        **noise(source),
    }
    if not unified:
        inner.update(hidden_size_per_layer_input=0, vocab_size_per_layer_input=0)
    for key in ("rope_parameters", "final_logit_softcapping"):
        if inner[key] is None:
            del inner[key]
    source.drop(inner, dict(num_kv_shared_layers=0, rms_norm_eps=1e-6), 0.6)
    kind = "gemma4_unified_assistant" if unified else "gemma4_assistant"
    cls = "Gemma4UnifiedAssistantForCausalLM" if unified else "Gemma4AssistantForCausalLM"
    config = {
        "model_type": kind,
        "architectures": [cls],
        "text_config": inner,
        "backbone_hidden_size": text["hidden_size"],
    }
    ordered = source.choice([True, False, None])
    if ordered is not None:
        config["use_ordered_embeddings"] = ordered
    if ordered or source.sometimes(0.5):
        config["num_centroids"] = source.choice(
            [n for n in (4, 8, 16) if text["vocab_size"] % n == 0]
        )
        config["centroid_intermediate_top_k"] = source.choice([1, 3])
    tied = source.choice([True, False, None])
    if tied is not None:
        config["tie_word_embeddings"] = tied
    head = "other" if tied is False else source.choice(["absent", "equal", "other"])
    return target, Case(kind, zlib.crc32(f"pair {seed} assistant".encode()), config, head)


def _kv_sizes(text, types):
    """KV heads and head sizes of sliding and of full layers."""
    kv, size = text["num_key_value_heads"], text["head_dim"]
    own = {"head_dim": text.get("global_head_dim", 512)}
    if text.get("attention_k_eq_v") and text.get("num_global_key_value_heads"):
        own["num_key_value_heads"] = text["num_global_key_value_heads"]
    if "per_layer_config" in text:
        own = next(iter(text["per_layer_config"].values()), {})
    return kv, own.get("num_key_value_heads", kv), size, own.get("head_dim", size)


def _full(size, kv):
    return {"head_dim": size, "num_key_value_heads": kv}


# ---- around ----


def _tied(draw, case, config):
    tied = draw.choice([True, True, False, None])
    if tied is not None:
        config["tie_word_embeddings"] = tied
    case.head = "other" if tied is False else draw.choice(["absent", "absent", "equal", "other"])
    if case.kind == "gemma3_text" and draw.sometimes(0.15) and case.head == "absent":
        case.naming = "bare"
        config["architectures"] = ["Gemma3TextModel"]


def _around(draw, inner, kind, cls, vision):
    """The text model under text_config. tie_word_embeddings counts outside only."""
    text = {key: value for key, value in inner.config.items() if key != "architectures"}
    if draw.sometimes(0.3):
        text.pop("model_type")
    inner.kind, inner.naming = kind, draw.choice(["plain", "old"]) if kind == "gemma3" else "plain"
    inner.config = {"model_type": kind, "architectures": [cls], "text_config": text}
    if vision or draw.sometimes(0.5):
        inner.config["vision_config"] = vision
    outer = draw.choice([True, False, None])
    if outer is not None:
        inner.config["tie_word_embeddings"] = outer
    inner.head = "other" if outer is False else draw.choice(["absent", "equal", "other"])
    if kind == "gemma4" and draw.sometimes(0.5):
        inner.config["audio_config"] = None
    return inner


def draw(kind, seed):
    """The case of that number."""
    source = Draw(zlib.crc32(f"{kind} {seed}".encode()))
    makers = {
        "llama": llama,
        "gemma3_text": gemma3_text,
        "gemma3": gemma3,
        "gemma4_text": gemma4_text,
        "gemma4": gemma4,
        "gemma4_unified_text": lambda d: gemma4_text(d, True),
        "gemma4_unified": gemma4_unified,
    }
    case = makers[kind](source)
    case.seed = zlib.crc32(f"{kind} {seed} weights".encode())
    if source.sometimes(0.2):
        case.wrapped = source.choice(
            ["_orig_mod.", "module.", "base_model.model.", "module._orig_mod."]
        )
    return case


# ---- weights ----

_NORM = re.compile(r"norm|layer_scalar|router\.scale|per_expert_scale")


def weights(shapes, case, reseed=0):
    """{name: f32 array}. No stage saturates or dies out, and no factor is 1, so that a forgotten
    one shows."""
    return {name: _values(name, tuple(shape), case, reseed) for name, shape in shapes.items()}


def _values(name, shape, case, reseed):
    if name.endswith("token_ordering"):
        rng = np.random.default_rng([case.seed, reseed, zlib.crc32(name.encode())])
        return np.argsort(rng.random(shape), kind="stable").astype(np.int64)
    rng = np.random.default_rng([case.seed, reseed, zlib.crc32(name.encode())])
    width = shape[-1] if shape else 1
    if _NORM.search(name):
        value = 0.6 + 0.7 * rng.random(shape)
        if name.endswith(("q_norm.weight", "k_norm.weight")) and "gemma4" in case.kind:
            value *= math.sqrt(2 / math.sqrt(width))  # q.k is not scaled afterwards
        # with a tied head, tokens would repeat themselves
        if re.search(r"(model\.|^)norm\.weight$", name):
            value *= np.where(rng.random(shape) < 0.5, -1, 1)
        return (value - (1 if case.kind.startswith("gemma3") else 0)).astype(np.float32)
    spread = 1 / math.sqrt(width)
    if name.endswith(("embed_tokens.weight", "lm_head.weight")):
        spread *= 3
    elif name.endswith("router.proj.weight"):
        spread = 1.5
    elif name.endswith("embed_tokens_per_layer.weight"):
        spread = 0.3
    return (spread * math.sqrt(12) * (rng.random(shape) - 0.5)).astype(np.float32)
