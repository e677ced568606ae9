"""Headers of GGUF files of Gemma 4's true shapes: names, shapes and types of all tensors, with
holes in place of the weights. What counts memory needs no more.

The sizes are read from the specification (docs/gemma4.md, 2.1 and 3)."""

import re
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

SPECIFICATION = Path(__file__).resolve().parents[1] / "docs" / "gemma4.md"
VOCAB, D_SLIDING, D_FULL = 262144, 256, 512
N_CENTROIDS, ORDERING = 2048, "masked_embd_ordering"
Tensor = tuple[str, list[int], bool]  # name, dimensions as GGUF has them, is it a matrix


@dataclass(frozen=True)
class Shape:
    """A target, under the specification's names."""

    name: str
    layers: int
    hidden: int
    ff: list[int]
    """[layers]."""
    heads: int
    kv: tuple[int, int]
    """KV heads of sliding and of full layers."""
    window: int
    v_from_k: bool
    shared: int
    per_layer: int
    experts: tuple[int, ...]
    """Number, used, width; () without."""
    context: int

    @property
    def sliding(self) -> list[bool]:
        """[layers]."""
        period = 5 if self.name == "E2B" else 6
        return [layer % period != period - 1 for layer in range(self.layers)]


def numbers(cell: str) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"\d+", re.sub(r"\(.*\)", "", cell)))


def table(heading: str) -> dict[str, list[str]]:
    """The first table under a heading: {first cell: further cells}."""
    text = SPECIFICATION.read_text(encoding="utf-8").split(f"\n{heading}", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", text, re.M)[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.replace("`", ""): rest for first, *rest in cells}


def shapes() -> list[Shape]:
    rows = table("### 2.1 Sizes")
    return [_shape(name, {key: rest[at] for key, rest in rows.items()})
            for at, name in enumerate(rows[""])]  # fmt: skip


def _shape(name: str, cells: dict[str, str]) -> Shape:
    layers, shared = numbers(cells["layers"])[0], numbers(cells["layers at the end that share KV"])
    narrow, *wide = numbers(cells["MLP width"])
    return Shape(
        name=name,
        layers=layers,
        hidden=numbers(cells["hidden H"])[0],
        ff=[wide[0] if wide and at >= layers - shared[0] else narrow for at in range(layers)],
        heads=numbers(cells["query heads"])[0],
        kv=numbers(cells["KV heads sliding / full"]),
        window=numbers(cells["window W"])[0],
        v_from_k=cells["V from K on full layers"] == "yes",
        shared=shared[0],
        per_layer=numbers(cells["PLE width P"])[0],
        experts=numbers(cells["experts / used / width"]),
        context=numbers(cells["context"])[0],
    )


def keys_of(prefix: str, own: Shape, sliding: list[bool]) -> dict[str, object]:
    kv = [own.kv[0] if one else own.kv[1] for one in sliding]
    found = {
        "context_length": own.context,
        "block_count": own.layers,
        "embedding_length": own.hidden,
        "feed_forward_length": own.ff,
        "attention.head_count": own.heads,
        "attention.head_count_kv": kv,
        "attention.key_length": D_FULL,
        "attention.value_length": D_FULL,
        "attention.key_length_swa": D_SLIDING,
        "attention.value_length_swa": D_SLIDING,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.sliding_window": own.window,
        "attention.sliding_window_pattern": sliding,
        "attention.shared_kv_layers": own.shared,
        "rope.freq_base": 1e6,
        "rope.freq_base_swa": 1e4,
        "rope.dimension_count": D_FULL,
        "rope.dimension_count_swa": D_SLIDING,
        "embedding_length_per_layer_input": own.per_layer,
    }
    if own.experts:
        names = ("expert_count", "expert_used_count", "expert_feed_forward_length")
        found |= dict(zip(names, own.experts, strict=True))
    return {f"{prefix}.{key}": value for key, value in found.items()}


def layer(own: Shape, at: int, is_sliding: bool) -> list[Tensor]:
    """The tensors of a layer, their names without `blk.N.` and `.weight`."""
    h, d = own.hidden, D_SLIDING if is_sliding else D_FULL
    kv, ff = own.kv[not is_sliding] * d, own.ff[at]
    norms = ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"]
    found: list[Tensor] = [
        ("attn_q", [h, own.heads * d], True),
        ("attn_q_norm", [d], False),
        ("attn_output", [own.heads * d, h], True),
        ("ffn_gate", [h, ff], True),
        ("ffn_up", [h, ff], True),
        ("ffn_down", [ff, h], True),
        ("layer_output_scale", [1], False),
    ]
    if at < own.layers - own.shared:
        found += [("attn_k", [h, kv], True), ("attn_k_norm", [d], False)]
        if is_sliding or not own.v_from_k:
            found.append(("attn_v", [h, kv], True))
    if own.per_layer:
        found += [("inp_gate", [h, own.per_layer], True), ("proj", [own.per_layer, h], True)]
        norms.append("post_norm")
    if own.experts:
        n, _, width = own.experts
        found += [
            ("ffn_gate_inp", [h, n], False),
            ("ffn_gate_up_exps", [h, 2 * width, n], True),
            ("ffn_down_exps", [width, h, n], True),
        ]
        norms += ["pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"]
    return found + [(name, [h], False) for name in norms]


def common(own: Shape, sliding: list[bool]) -> list[Tensor]:
    found: list[Tensor] = [
        ("token_embd.weight", [own.hidden, VOCAB], True),
        ("output_norm.weight", [own.hidden], False),
        ("rope_freqs.weight", [D_FULL // 2], False),
    ]
    for at, is_sliding in enumerate(sliding):
        found += [(f"blk.{at}.{name}.weight", *rest) for name, *rest in layer(own, at, is_sliding)]
    return found


def target(own: Shape) -> tuple[str, dict[str, object], list[Tensor]]:
    """Architecture, keys and tensors."""
    tensors = common(own, own.sliding)
    if own.per_layer:
        width = own.layers * own.per_layer
        tensors += [
            ("per_layer_token_embd.weight", [width, VOCAB], True),
            ("per_layer_model_proj.weight", [own.hidden, width], True),
            ("per_layer_proj_norm.weight", [own.per_layer], False),
        ]
    if own.experts:
        for at in range(own.layers):
            tensors += [
                (f"blk.{at}.ffn_gate_inp.scale", [own.hidden], False),
                (f"blk.{at}.ffn_down_exps.scale", [own.experts[0]], False),
            ]
    keys = keys_of("gemma4", own, own.sliding) | {"gemma4.final_logit_softcapping": 30.0}
    return "gemma4", keys, tensors


def assistant(of: Shape) -> tuple[str, dict[str, object], list[Tensor]]:
    """Of the small models with the centroid head. That of the 12B is taken to be like that of the
    26B-A4B, as the specification expects."""
    rows = table("## 3. Assistant")
    column = [f"for {of.name}" if of.name != "12B" else "for 26B-A4B"]
    cells = {key: rest[rows[""].index(column[0])] for key, rest in rows.items()}
    own = Shape(
        name=of.name,
        layers=4,
        hidden=numbers(cells["h"])[0],
        ff=[numbers(cells["MLP width"])[0]] * 4,
        heads=numbers(cells["query heads"])[0],
        kv=of.kv,
        window=of.window,
        v_from_k=False,
        shared=4,
        per_layer=0,
        experts=(),
        context=of.context,
    )
    sliding = [True, True, True, False]
    prefix = "gemma4-assistant"
    keys = keys_of(prefix, own, sliding)
    keys |= {f"{prefix}.embedding_length_out": of.hidden, f"{prefix}.nextn_predict_layers": 4}
    tensors = common(own, sliding)
    tensors += [
        ("nextn.pre_projection.weight", [2 * of.hidden, own.hidden], True),
        ("nextn.post_projection.weight", [own.hidden, of.hidden], True),
    ]
    if cells["head"] == "centroid":
        keys[f"{prefix}.masked_embedding.centroid_top_k"] = 32
        tensors += [
            ("masked_embd_centroids.weight", [own.hidden, N_CENTROIDS], False),
            (ORDERING, [VOCAB], False),
        ]
    return prefix, keys, tensors


def write(path: Path, model: tuple[str, dict[str, object], list[Tensor]], types: dict[str, str]):
    """A file with a hole for its data. types: {tensor: type}; other matrices have BF16, the rest
    F32."""
    arch, keys, tensors = model
    writer = gguf.GGUFWriter(path, arch)
    for key, value in keys.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    for name, dims, is_matrix in tensors:
        kind = types.get(name) or ("BF16" if is_matrix else "F32")
        kind = gguf.GGMLQuantizationType["I32" if name == ORDERING else kind]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        n = 1
        for one in dims:
            n *= one
        rows = [dims[0] // block * size, *dims[1:]]
        writer.add_tensor_info(name, rows[::-1], np.uint8, n // block * size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    at = -(-writer.fout[0].tell() // 32) * 32
    infos = writer.tensors[0]
    writer.close()
    with open(path, "r+b") as file:
        for name, info in infos.items():
            if name == ORDERING:  # the one whose content decides something: which head runs
                file.seek(at)
                file.write(np.arange(VOCAB, dtype=np.int32).tobytes())
            at += -(-info.nbytes // 32) * 32
        file.truncate(at)
