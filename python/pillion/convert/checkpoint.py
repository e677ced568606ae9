"""A checkpoint folder: its JSON files, and its tensors as places in safetensors files (8 bytes of
header length, a JSON header, the bytes: github.com/huggingface/safetensors). Nothing is read before
it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import shown
from ..errors import ModelFileError, ModelNotFoundError
from ..file_settings import SAMPLING_KEYS, sampling_setting
from .config import Config
from .foreign import (
    no_weights,
    refuse_adapter,
    refuse_adapter_tensor,
    refuse_pointer,
    refuse_quantized,
)
from .tensor_names import plain

Array = npt.NDArray[Any]

# safetensors type: NumPy type that holds the bits, and our name of it
_TYPES = {
    "F32": ("<f4", "f32"),
    "F16": ("<f2", "f16"),
    "BF16": ("<u2", "bf16"),
    "I64": ("<i8", "i64"),
    "I32": ("<i4", "i32"),
}
_HEADER_MOST = 100 << 20
_SHARDS_MOST = 10_000
# Beside a model's weights: an adapter's, a training program's, and the same weights in their
# maker's own format.
_STRAY = ("adapter_", "optimizer", "scheduler", "consolidated", "training_")


@dataclass(frozen=True)
class Source:
    """A tensor in a file."""

    name: str
    """As a class with a language head calls it (tensor_names.py)."""
    shape: tuple[int, ...]
    dtype: str
    """f32, f16, bf16, i64, i32, or another type as safetensors spells it, without values here"""
    path: Path
    offset: int
    n_bytes: int
    spelled: str = ""
    """As the file calls it."""

    @property
    def width(self) -> int:
        return self.shape[-1] if self.shape else 1

    def slices(self, most_bytes: int) -> Iterator[Array]:
        """Its bits [rows, width], some whole rows at a time."""
        kind = np.dtype(next(numpy for numpy, name in _TYPES.values() if name == self.dtype))
        n_rows = self.n_bytes // (self.width * kind.itemsize)
        step = max(1, most_bytes // (self.width * kind.itemsize))
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for first in range(0, n_rows, step):
                rows = min(step, n_rows - first)
                values = np.fromfile(file, kind, rows * self.width)
                if values.size != rows * self.width:
                    raise ModelFileError(f"{self.path}: the file ends inside tensor {self.spelled}")
                yield values.reshape(rows, self.width)

    def array(self) -> Array:
        """All its bits at once, in its shape."""
        return np.concatenate(list(self.slices(self.n_bytes or 1))).reshape(self.shape)


class Checkpoint:
    """config: the whole config.json; text: its part on the text model, once the architecture is
    known; tensors: by name, multimodal prefixes taken off."""

    config: Config
    text: Config

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ModelNotFoundError(
                f"{folder}: no such folder; a checkpoint is a folder with config.json and "
                f"*.safetensors"
            )
        self.folder = folder
        refuse_adapter(folder)
        self.config = self.text = Config(self.json("config.json"))
        self.model_type = str(self.config["model_type"])
        self.tensors: dict[str, Source] = {}
        index = self._index()
        for path in self._shards(index):
            refuse_pointer(path)
            for tensor in _header(path):
                refuse_adapter_tensor(path, tensor.spelled)
                if tensor.name in self.tensors:
                    other = self.tensors[tensor.name].path.name
                    raise ModelFileError(f"{path}: tensor {tensor.spelled} is in {other} too")
                self.tensors[tensor.name] = tensor
        for name in index:
            if plain(name) not in self.tensors:
                raise ModelFileError(
                    f"{folder}: the index names tensor {_plainly(name)}, which no shard holds"
                )
        refuse_quantized(
            folder, self.config, {tensor.spelled: tensor.dtype for tensor in self.tensors.values()}
        )

    def spelled(self, name: str) -> str:
        """What the checkpoint calls a tensor, or would call it beside its others."""
        if name in self.tensors:
            return self.tensors[name].spelled
        for other in self.tensors.values():
            if (
                name.startswith("model.")
                and other.name.startswith("model.")
                and other.spelled.endswith(other.name[6:])
            ):
                return other.spelled[: len(other.spelled) - len(other.name[6:])] + name[6:]
        return name

    def json(self, name: str, needed: bool = True) -> dict[str, Any]:
        """A JSON object of the folder; {} when it may be missing."""
        path = self.folder / name
        try:
            refuse_pointer(path)
            found = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            if needed:
                raise ModelNotFoundError(f"{path}: no such file") from None
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise ModelFileError(f"{path}: {error}") from None
        if not isinstance(found, dict):
            raise ModelFileError(f"{path} holds no JSON object")
        return found

    def text_file(self, name: str) -> str:
        """A text file of the folder; "" when there is none."""
        path = self.folder / name
        if not path.exists():
            return ""
        refuse_pointer(path)
        return path.read_text("utf-8")

    def main_type(self, wanted: Callable[[str], bool] = lambda name: True) -> str:
        """The float type of most bytes, of tensors whose names are wanted."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            if tensor.dtype in ("f32", "f16", "bf16") and wanted(tensor.name):
                sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.n_bytes
        return max(sizes, key=sizes.__getitem__, default="bf16")

    def sampling_defaults(self) -> dict[str, Any]:
        """What generation_config.json recommends, as general.sampling.*"""
        name = "generation_config.json"
        found, path = self.json(name, needed=False), str(self.folder / name)
        keys: dict[str, Any] = {}
        for key in ("top_k", "top_p", "temperature"):
            if found.get(key) is not None:
                value = sampling_setting(path, key, key, found[key])
                keys[SAMPLING_KEYS[key]] = value if key == "top_k" else float(value)
        return keys

    def _index(self) -> dict[str, str]:
        """{tensor: shard}, where the checkpoint has such a list; a single file goes before it."""
        if (self.folder / "model.safetensors").exists():
            return {}
        found = self.json("model.safetensors.index.json", needed=False).get("weight_map", {})
        return {str(name): str(shard) for name, shard in found.items()}

    def _shards(self, index: dict[str, str]) -> list[Path]:
        if index:
            paths = [self.folder / name for name in sorted(set(index.values()))]
        elif (self.folder / "model.safetensors").exists():
            return [self.folder / "model.safetensors"]
        else:
            paths = _unlisted(self.folder)
        missing = [path.name for path in paths if not path.exists()]
        if missing:
            raise ModelNotFoundError(
                f"{self.folder}: {len(missing)} of {len(paths)} shards are missing: "
                f"{', '.join(missing[:4])}"
            )
        if not paths:
            raise no_weights(self.folder)
        return paths


def _plainly(name: str) -> str:
    return name if name.isprintable() else shown(name)


def _unlisted(folder: Path) -> list[Path]:
    """The weights of a folder without an index: all its files, but for strays beside them, and
    the rest of what their names count."""
    every = sorted(folder.glob("*.safetensors"))
    paths = [path for path in every if not path.name.startswith(_STRAY)]
    if every and not paths:
        stray = every[0].name
        raise ModelNotFoundError(
            f"{folder}: {stray} holds no weights as transformers names them, and no other file does"
        )
    for path in [path for path in paths if "-of-" in path.name]:
        count = path.stem.rsplit("-of-", 1)[1]
        stem = path.stem.rsplit("-of-", 1)[0].rsplit("-", 1)[0]
        if count.isdecimal() and int(count) > _SHARDS_MOST:
            raise ModelFileError(
                f"{path}: its name says one of {count} shards, the limit is {_SHARDS_MOST}"
            )
        if count.isdecimal():
            paths += [
                folder / f"{stem}-{i + 1:05}-of-{count}.safetensors" for i in range(int(count))
            ]
    return sorted(set(paths))


def _header(path: Path) -> Iterator[Source]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_MOST):
            raise ModelFileError(
                f"{path}: a header of {length} bytes in a file of {size} bytes; it is cut off or "
                f"no safetensors file"
            )
        try:
            header = json.loads(file.read(length))
            entries = [
                (str(name), entry) for name, entry in header.items() if name != "__metadata__"
            ]
            for name, entry in entries:
                if not name.isprintable():
                    raise ModelFileError(
                        f"{path}: a tensor's name is {shown(name)}, a name has no such characters"
                    )
                begin, end = (int(at) for at in entry["data_offsets"])
                yield _source(
                    path,
                    name,
                    str(entry["dtype"]),
                    [int(n) for n in entry["shape"]],
                    8 + length,
                    begin,
                    end,
                    size,
                )
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise ModelFileError(f"{path}: the header is broken: {error}") from None


def _source(
    path: Path, name: str, kind: str, shape: list[int], data: int, begin: int, end: int, size: int
) -> Source:
    numpy_kind, dtype = _TYPES.get(kind, ("", kind))
    if numpy_kind:
        expected = int(np.prod(shape, dtype=object)) * np.dtype(numpy_kind).itemsize
        if any(n < 0 for n in shape) or end - begin != expected:
            what = f"tensor {name} of shape {shape} and type {kind}"
            raise ModelFileError(f"{path}: {what} has {end - begin} bytes, not {expected}")
    if begin < 0:
        raise ModelFileError(f"{path}: tensor {name} begins {-begin} bytes before the data")
    if data + end > size:
        raise ModelFileError(
            f"{path}: tensor {name} ends at byte {data + end}, the file has {size}; it is cut off"
        )
    return Source(plain(name), tuple(shape), dtype, path, data + begin, end - begin, name)
