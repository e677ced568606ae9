"""Every metadata key that pillion reads, and values that it should not have: for
test_header_values.py."""

import re
import struct

from build import REPOSITORY
from gguf_bytes import ARR, BOOL, F32, F64, I8, I16, I32, I64, STR, U8, U16, U32, U64, kv, text

CSRC = REPOSITORY / "csrc"

# What each key holds: a whole number, a real one, a text, a flag, or a list (or, of layers, one
# value for all).
TOKENIZER = {
    "tokenizer.ggml.model": "text",
    "tokenizer.ggml.pre": "text",
    "tokenizer.ggml.tokens": "texts",
    "tokenizer.ggml.scores": "reals",
    "tokenizer.ggml.token_type": "wholes",
    "tokenizer.ggml.merges": "texts",
    "tokenizer.ggml.bos_token_id": "whole",
    "tokenizer.ggml.eos_token_id": "whole or wholes",
    "tokenizer.ggml.eot_token_id": "whole or wholes",
    "tokenizer.ggml.eom_token_id": "whole or wholes",
    "tokenizer.ggml.eos_token_ids": "whole or wholes",
    "tokenizer.ggml.unknown_token_id": "whole",
    "tokenizer.ggml.padding_token_id": "whole",
    "tokenizer.ggml.mask_token_id": "whole",
    "tokenizer.ggml.add_bos_token": "flag",
    "tokenizer.ggml.add_eos_token": "flag",
    "tokenizer.ggml.add_space_prefix": "flag",
    "tokenizer.ggml.remove_extra_whitespaces": "flag",
    "tokenizer.ggml.suppress_tokens": "wholes",
    "tokenizer.chat_template": "text",
}
GENERAL = {
    "general.architecture": "text",
    "general.name": "text",
    "general.alignment": "whole",
    "general.sampling.temp": "real",
    "general.sampling.top_k": "whole",
    "general.sampling.top_p": "real",
    "general.sampling.min_p": "real",
    "general.sampling.penalty_repeat": "real",
    "general.sampling.penalty_last_n": "whole",
    "split.count": "whole",
}
MODEL = {
    "block_count": "whole",
    "embedding_length": "whole",
    "context_length": "whole",
    "vocab_size": "whole",
    "nextn_predict_layers": "whole",
    "attn_logit_softcapping": "real",
    "feed_forward_length": "whole or wholes",
    "attention.layer_norm_rms_epsilon": "real",
    "attention.sliding_window": "whole",
    "attention.sliding_window_pattern": "whole or wholes",
    "attention.head_count": "whole or wholes",
    "attention.head_count_kv": "whole or wholes",
    "attention.key_length": "whole or wholes",
    "attention.value_length": "whole or wholes",
    "attention.key_length_swa": "whole or wholes",
    "attention.value_length_swa": "whole or wholes",
    "attention.shared_kv_layers": "whole",
    "attention.scale": "real",
    "attention.image_bidirectional": "flag",
    "rope.freq_base": "real",
    "rope.freq_base_swa": "real",
    "rope.scaling.type": "text",
    "rope.scaling.factor": "real",
    "rope.scale_linear": "real",
    "rope.dimension_count": "whole",
    "rope.dimension_count_swa": "whole",
    "final_logit_softcapping": "real",
    "embedding_length_per_layer_input": "whole",
    "embedding_length_out": "whole",
    "expert_count": "whole",
    "expert_used_count": "whole",
    "expert_feed_forward_length": "whole",
}
ASSISTANT = {
    "masked_embedding.num_centroids": "whole",
    "masked_embedding.centroid_top_k": "whole",
    "masked_embedding.centroids": "reals",
    "masked_embedding.token_ordering": "wholes",
}

BASES = {
    "tiny-e2b": "gemma4",
    "tiny-moe": "gemma4",
    "tiny-gemma3": "gemma3",
    "tiny-llama": "llama",
    "tiny-e2b-assistant": "gemma4-assistant",
}


# What a model of one kind asks and another does not, nor one that has no use for it. An assistant
# has its target's vocabulary, and the one here has its centroids in tensors.
NOT_READ = {
    "tiny-e2b": (
        "vocab_size",
        "attention.scale",
        "expert_used_count",
        "expert_feed_forward_length",
        "embedding_length_out",
    ),
    "tiny-moe": ("vocab_size", "attention.scale", "embedding_length_out"),
    "tiny-gemma3": (
        "vocab_size",
        "expert_used_count",
        "expert_feed_forward_length",
        "embedding_length_per_layer_input",
        "embedding_length_out",
        "attention.shared_kv_layers",
    ),
    "tiny-llama": (
        "vocab_size",
        "expert_used_count",
        "expert_feed_forward_length",
        "embedding_length_per_layer_input",
        "embedding_length_out",
        "attention.shared_kv_layers",
        "attention.sliding_window",
        "final_logit_softcapping",
        "attention.sliding_window_pattern",
        "rope.dimension_count_swa",
    ),
    "tiny-e2b-assistant": (
        "vocab_size",
        "attention.scale",
        "expert_used_count",
        "expert_feed_forward_length",
        "final_logit_softcapping",
        *ASSISTANT,
    ),
}


def is_read(base, key):
    """Whether the file's own kind of model asks for it."""
    arch = BASES[base]
    if base.endswith("assistant") and key.startswith(("tokenizer.", "general.sampling.")):
        return False
    return key not in [f"{arch}.{name}" for name in NOT_READ[base]]


def keys_of(arch):
    """{key: what it holds} of a file of that architecture."""
    own = {**MODEL, **(ASSISTANT if arch == "gemma4-assistant" else {})}
    return {**GENERAL, **TOKENIZER, **{f"{arch}.{name}": kind for name, kind in own.items()}}


def fits(base, key, name):
    """Whether the value can be read as what the key holds. A list of nothing is one of anything."""
    kind, held = VALUES[name][1], keys_of(BASES[base])[key]
    if held.endswith("s") and name.startswith("no "):
        return True
    if key.startswith("general.sampling.") and name == "4.0":
        return True
    return kind in READABLE[held]


# {name: (entry without its key: its type and bytes, what it can be read as)}
def _entry(kind, value, element=None):
    return kv("", kind, value, element)[8:]


VALUES = {
    "text": (_entry(STR, "abc"), "text"),
    "empty text": (_entry(STR, ""), "text"),
    "number as text": (_entry(STR, "4"), "text"),
    "0": (_entry(U32, 0), "whole"),
    "1": (_entry(U16, 1), "whole"),
    "4 in 8 bits": (_entry(U8, 4), "whole"),
    "-1": (_entry(I32, -1), "whole"),
    "-1 in 8 bits": (_entry(I8, -1), "whole"),
    "-300": (_entry(I16, -300), "whole"),
    "2^31": (_entry(U32, 2**31), "whole"),
    "2^32-1": (_entry(U32, 2**32 - 1), "whole"),
    "2^53+1": (_entry(I64, 2**53 + 1), "whole"),
    "2^63": (_entry(U64, 2**63), "whole"),
    "2^64-1": (_entry(U64, 2**64 - 1), "whole"),
    "-2^63": (_entry(I64, -(2**63)), "whole"),
    "true": (_entry(BOOL, True), "flag"),
    "false": (_entry(BOOL, False), "flag"),
    "0.5": (_entry(F32, 0.5), "real"),
    "-1.5": (_entry(F64, -1.5), "real"),
    "4.0": (_entry(F32, 4.0), "real"),
    "1e30": (_entry(F32, 1e30), "real"),
    "1e300": (_entry(F64, 1e300), "real"),
    "nan": (_entry(F32, float("nan")), "real"),
    "inf": (_entry(F32, float("inf")), "real"),
    "-inf": (_entry(F64, float("-inf")), "real"),
    "no texts": (_entry(ARR, [], STR), "texts"),
    "no wholes": (_entry(ARR, [], U32), "wholes"),
    "no reals": (_entry(ARR, [], F32), "reals"),
    "one whole": (_entry(ARR, [4], I32), "wholes"),
    "three wholes": (_entry(ARR, [1, 2, 3], I32), "wholes"),
    "negative wholes": (_entry(ARR, [-1, -2], I32), "wholes"),
    "huge wholes": (_entry(ARR, [2**64 - 1] * 2, U64), "wholes"),
    "texts": (_entry(ARR, ["a", "b"], STR), "texts"),
    "flags": (_entry(ARR, [True, False, True, False], BOOL), "flags"),
    "bytes": (_entry(ARR, [1, 2, 3, 4], I8), "wholes"),
    "reals": (_entry(ARR, [1.5, 2.5], F32), "reals"),
    "nans": (_entry(ARR, [float("nan")] * 4, F32), "reals"),
    "70000 wholes": (_entry(ARR, [7] * 70000, I32), "wholes"),
    "nested": (struct.pack("<IIQ", ARR, ARR, 1) + struct.pack("<IQI", U32, 1, 5), "nested"),
}

# What may stand for what: a flag is a number too, a whole number a real one, and a list of equal
# values that value.
READABLE = {
    "whole": {"whole", "flag", "wholes", "flags"},
    "real": {"real", "whole", "wholes", "reals"},
    "flag": {"flag", "whole", "wholes", "flags"},
    "text": {"text"},
    "texts": {"texts"},
    "wholes": {"wholes", "flags"},
    "reals": {"reals"},
    "whole or wholes": {"whole", "flag", "wholes", "flags"},
}


def entries_of(raw):
    """(bytes before the entries, [(key, entry)], tensor infos, where the tensors' data begins) of a
    GGUF file."""
    n_tensors, n_keys = struct.unpack_from("<QQ", raw, 8)
    at, entries = 24, []

    def string(at):
        return at + 8 + struct.unpack_from("<Q", raw, at)[0]

    def value(at, kind):
        if kind == STR:
            return string(at)
        if kind != ARR:
            return at + {U8: 1, I8: 1, BOOL: 1, U16: 2, I16: 2, U64: 8, I64: 8, F64: 8}.get(kind, 4)
        element, n = struct.unpack_from("<IQ", raw, at)
        at += 12
        for _ in range(n):
            at = value(at, element)
        return at

    for _ in range(n_keys):
        begin, end = at, string(at)
        key = raw[begin + 8 : end].decode()
        at = value(end + 4, struct.unpack_from("<I", raw, end)[0])
        entries.append((key, raw[begin:at]))
    begin = at
    for _ in range(n_tensors):
        at = string(at)
        at += 4 + 8 * struct.unpack_from("<I", raw, at)[0] + 12
    return raw[:16], entries, raw[begin:at], -(-at // 32) * 32


class Base:
    """A file whose entries can be exchanged."""

    def __init__(self, path):
        self.raw = path.read_bytes()
        self.start, self.entries, self.infos, self.data = entries_of(self.raw)

    def with_value(self, key, entry, alignment=32):
        """The bytes of the file with `key`: entry (as in VALUES), added where it is not there.
        alignment: of the data behind it."""
        kept = [raw for name, raw in self.entries if name != key]
        at = next((i for i, (name, _) in enumerate(self.entries) if name == key), len(kept))
        kept.insert(at, text(key) + entry)
        header = self.start + struct.pack("<Q", len(kept)) + b"".join(kept) + self.infos
        return header + b"\0" * (-len(header) % alignment) + self.raw[self.data :]


def keys_in_the_sources():
    """Names of keys as the sources read them."""
    found = set(
        re.findall(
            r'"((?:tokenizer|general|split)\.[a-z_0-9.]+)"',
            (CSRC / "api/api_tokenizer.cpp").read_text(),
        )
    )
    hparams = "".join(source.read_text() for source in (CSRC / "model").glob("*.cpp"))
    calls = r"\b(?:count|count_or|real|real_or|per_layer|has|key|read_rope_dims)\(\s*"
    calls += r"(?:has\([^)]*\)\s*\?\s*)?"
    found |= set(re.findall(calls + r'"([a-z_.]+)"', hparams))
    found |= set(re.findall(r'"(general\.[a-z_.]+)"', hparams))
    head = (CSRC / "model/centroid_head.cpp").read_text()
    names = re.findall(r'(?:find_key|integer_or)\(file, "([a-z_]+)"', head)
    return found | {f"masked_embedding.{name}" for name in names}
