"""What differs between architectures: configuration, keys, tensor names, values that change on the
way. One file each, listed in architectures.py."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ..errors import ModelFileError, UnsupportedModelError
from .checkpoint import Array, Checkpoint, Source
from .config import Config, n_layers, text_config, whole
from .tensor_names import EMBEDDING, ENDS, HEAD
from .tokenizer_kind import TokenizerKind
from .values import Change, to_f32

# Of multimodal checkpoints: other towers and what joins them to the text model.
_OTHER_MODES = re.compile(
    r"(model\.)?(vision|audio|image|visual|multi_modal|embed_vision|embed_audio)"
)
OTHER_MODES = "vision and audio"
"""Why their tensors are left out."""
Shape = tuple[int, ...]
_COMPARED_BYTES = 8 << 20
_HEAD_MOST = 1 << 16
_COMPUTED = re.compile(r"rotary_emb\.inv_freq$")


class Architecture(ABC):
    """How checkpoints of one kind become files."""

    name: str
    """general.architecture"""
    model_types: dict[str, str]
    """Values of model_type in config.json, and for each the model_type of the text model: its own,
    or that of what a class around it keeps under text_config."""
    defaults: dict[str, dict[str, Any]]
    """By the model_type of the text model: what a key means that config.json leaves out."""
    outer_defaults: dict[str, Any] = {}
    """The same of the outermost object."""
    tokenizer: TokenizerKind
    """Of a tokenizer with ▁ for blanks; byte-level ones are known by their own file."""
    activation: str
    """Of the one kind that files of this architecture mean."""
    activation_key = "hidden_activation"
    tensors: dict[str, str] = ENDS
    """Outside the layers: name in a checkpoint to name in a file."""
    layer_tensors: dict[str, str]
    """The same in a layer, without the prefixes of its number."""

    @abstractmethod
    def keys(self, source: Checkpoint) -> dict[str, Any]:
        """Hyper-parameters, without the architecture's prefix."""

    @abstractmethod
    def shapes(self, source: Checkpoint) -> dict[str, Shape]:
        """Every tensor that config.json makes, by the checkpoint's name; the output head apart."""

    optional: frozenset[str] = frozenset()
    """Ends of names that a checkpoint may leave out."""
    ties_by_default = True
    """Whether a checkpoint that does not say so has its output head in the embedding table."""

    def read_config(self, source: Checkpoint) -> None:
        """Puts the defaults into source.config, and the text model's part into source.text."""
        source.config = Config({**self.outer_defaults, **source.config})
        text_type = self.model_types[source.model_type]
        source.text = text_config(source.config, text_type, self.defaults[text_type])

    def file_name(self, name: str) -> str | None:
        """What a tensor is called in a file; None for those of other models."""
        match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
        if match and match[2] in self.layer_tensors:
            return f"blk.{int(match[1])}.{self.layer_tensors[match[2]]}"
        return self.tensors.get(name)

    def place(self, source: Checkpoint, name: str) -> tuple[str | None, str]:
        """(name in the file, "") or (None, why it is left out; "" when it travels otherwise)."""
        if name in (EMBEDDING, HEAD):
            return self.place_vocabulary(source, name)
        ours = self.file_name(name)
        if ours is not None:
            return ours, ""
        if _OTHER_MODES.match(name):
            return None, OTHER_MODES
        if _COMPUTED.search(name):
            return None, "computed"
        which = f"{source.folder}: tensor {source.spelled(name)}"
        raise UnsupportedModelError(f"{which} is none that a {self.name} text model has")

    def place_vocabulary(self, source: Checkpoint, name: str) -> tuple[str | None, str]:
        """Of embedding table and output head. Tied, either may stand for both; two that differ
        are two, whatever config.json says."""
        if HEAD not in source.tensors or EMBEDDING not in source.tensors:
            return self.tensors[EMBEDDING], ""
        if name == HEAD and self.ties(source) and self.tables_are_equal(source):
            return None, "output head tied to the embedding"
        return self.tensors[name], ""

    def tables_are_equal(self, source: Checkpoint) -> bool:
        """Embedding table and output head, which may have gigabytes: they are read once."""
        if self._equal_tables is None:
            self._equal_tables = _equal(source.tensors[EMBEDDING], source.tensors[HEAD])
        return self._equal_tables

    _equal_tables: bool | None = None

    def ties(self, source: Checkpoint) -> bool:
        """The outermost object decides: its class has the head."""
        return bool(source.config.get("tie_word_embeddings", self.ties_by_default))

    def check_tensors(self, source: Checkpoint, planned: dict[str, Source]) -> None:
        """Nothing missing, nothing of another shape, nothing too many; raises ModelFileError by
        the checkpoint's own names."""
        shapes = self.shapes(source)
        table = next((name for name in (EMBEDDING, HEAD) if name in source.tensors), EMBEDDING)
        if table != EMBEDDING and self.ties(source):
            shapes[HEAD] = shapes.pop(EMBEDDING)
        elif HEAD in source.tensors:
            shapes[HEAD] = shapes[EMBEDDING]
        elif EMBEDDING in source.tensors and not self.ties(source):
            which = f"{source.folder}: tensor {HEAD}"
            raise ModelFileError(
                f"{which} is missing, and tie_word_embeddings is false in config.json"
            )
        for name, shape in shapes.items():
            tensor = source.tensors.get(name)
            if tensor is not None:
                _check_shape(source, self.part_of(source, tensor), shape)
            elif not any(name.endswith(end) for end in self.optional):
                which = f"{source.folder}: tensor {source.spelled(name)}"
                raise ModelFileError(f"{which} is missing, config.json makes it {list(shape)}")
        for tensor in planned.values():
            if tensor.name not in shapes:
                raise ModelFileError(
                    f"{source.folder}: tensor {tensor.spelled} has no place in the model that "
                    f"config.json describes"
                )

    def part_of(self, source: Checkpoint, tensor: Source) -> Source:
        """What of a tensor the file holds."""
        return tensor

    def computed_tensors(self, source: Checkpoint) -> dict[str, Array]:
        """f32 tensors that the file has and the checkpoint has not."""
        return {}

    def change_of(self, source: Checkpoint, name: str) -> Change | None:
        """What happens to the values of a tensor of the file; None: they are stored as they are."""
        return None

    def masked_tensors(self, source: Checkpoint) -> list[str]:
        """Tensors of an assistant's centroid head."""
        return []

    def masked_embedding(self, source: Checkpoint) -> dict[str, Any]:
        """The same as metadata keys."""
        return {}


def _equal(one: Source, other: Source) -> bool:
    """The same values, whatever their types."""
    if one.shape != other.shape:
        return False
    if (one.path, one.offset) == (other.path, other.offset):
        return True
    rows = max(1, _COMPARED_BYTES // (4 * one.width))
    n_values = int(np.prod(one.shape))
    sizes = [rows * one.width * tensor.n_bytes // n_values for tensor in (one, other)]
    parts = zip(one.slices(sizes[0]), other.slices(sizes[1]), strict=False)
    return all(np.array_equal(to_f32(a, one.dtype), to_f32(b, other.dtype)) for a, b in parts)


def _check_shape(source: Checkpoint, tensor: Source, shape: Shape) -> None:
    if tensor.shape == shape or (tensor.shape == () and shape == (1,)):
        return
    if tensor.name in (EMBEDDING, HEAD) and tensor.shape[1:] == shape[1:]:
        what = "the embedding table" if tensor.name == EMBEDDING else "the output head"
        raise ModelFileError(
            f"{source.folder}: vocab_size is {shape[0]}, {what} has {tensor.shape[0]} rows (tensor "
            f"{tensor.spelled})"
        )
    raise ModelFileError(
        f"{tensor.path}: tensor {tensor.spelled} has shape {list(tensor.shape)}, config.json makes "
        f"it {list(shape)}"
    )


def common_keys(source: Checkpoint) -> dict[str, Any]:
    """What all architectures call the same."""
    text = source.text
    heads = text.whole("num_attention_heads")
    kv_heads = text.get("num_key_value_heads")
    return {
        "block_count": n_layers(text),
        "context_length": text.whole("max_position_embeddings"),
        "embedding_length": text.whole("hidden_size"),
        "feed_forward_length": text.whole("intermediate_size"),
        "attention.head_count": heads,
        "attention.head_count_kv": heads
        if kv_heads is None
        else whole(kv_heads, "num_key_value_heads"),
        "attention.layer_norm_rms_epsilon": text.number("rms_norm_eps"),
    }


def head_size(source: Checkpoint) -> int:
    """head_dim, or what follows from the width."""
    text = source.text
    given = text.get("head_dim")
    return sound_head_size(
        text.whole("hidden_size") // text.whole("num_attention_heads") if given is None else given
    )


def sound_head_size(given: Any) -> int:
    """Tables are made of this size before any tensor is compared with it."""
    size = whole(given, "head_dim", 1, 1 << 62)
    if size > _HEAD_MOST:
        raise ModelFileError(f"config.json has heads of size {size}, allowed are 1 to {_HEAD_MOST}")
    return size


def block_shapes(layer: int, width: int, q: int, kv: int, ff: int) -> dict[str, Shape]:
    """What the layers of all architectures have: projections, and a norm before either branch."""
    block = f"model.layers.{layer}."
    return {
        f"{block}self_attn.q_proj.weight": (q, width),
        f"{block}self_attn.k_proj.weight": (kv, width),
        f"{block}self_attn.v_proj.weight": (kv, width),
        f"{block}self_attn.o_proj.weight": (width, q),
        f"{block}mlp.gate_proj.weight": (ff, width),
        f"{block}mlp.up_proj.weight": (ff, width),
        f"{block}mlp.down_proj.weight": (width, ff),
        f"{block}input_layernorm.weight": (width,),
        f"{block}post_attention_layernorm.weight": (width,),
    }


def ends_shapes(source: Checkpoint) -> dict[str, Shape]:
    """Embedding table and last norm."""
    width = source.text.whole("hidden_size")
    return {EMBEDDING: (source.text.whole("vocab_size"), width), "model.norm.weight": (width,)}
