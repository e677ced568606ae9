"""GGUF files built byte by byte, so that any field can be wrong, and the reader's two test
programs, built with sanitizers.

Used by test_gguf.py and test_hparams.py.
"""

from __future__ import annotations

import functools
import json
import os
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compiled import shared

ROOT = Path(__file__).resolve().parents[2]
_NEED_A_BACKEND = ("model", "model_json", "weights", "placement")
SOURCES = [
    "core/error",
    "core/fork",
    "core/log",
    "core/dtype",
    "core/file",
    "core/graph",
    "core/json",
    "core/utf8",
    "gguf/gguf",
    "gguf/gguf_split",
    "gguf/gguf_values",
    *(
        f"model/{source.stem}"
        for source in sorted((ROOT / "csrc/model").glob("*.cpp"))
        if source.stem not in _NEED_A_BACKEND
    ),
]
FLAGS = [
    "-std=c++17",
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    f"-I{ROOT / 'csrc'}",
]

OK, NOT_FOUND, CORRUPT, UNSUPPORTED = 0, 10, 11, 12

# metadata types and their struct codes
U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
PACK = {
    U8: "B",
    I8: "b",
    U16: "H",
    I16: "h",
    U32: "I",
    I32: "i",
    F32: "f",
    BOOL: "?",
    U64: "Q",
    I64: "q",
    F64: "d",
}

# tensor type: id, values per block, bytes per block
TENSOR_TYPES = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q8_0": (8, 32, 34),
    "I32": (26, 1, 4),
    "I64": (27, 1, 8),
    "BF16": (30, 1, 2),
    "Q4_K": (12, 256, 144),
    "I8": (24, 1, 1),
}


@functools.lru_cache(maxsize=None)
def programs() -> tuple[Path, Path]:
    """(gguf_runner, fuzz_gguf), compiled once for all test processes."""
    cxx = os.environ.get("CXX", "g++")
    mains = [ROOT / "tests/runners/gguf_runner.cpp", ROOT / "tests/fuzz/fuzz_gguf.cpp"]

    def make(out: Path) -> None:
        def compile_one(source: Path, *extra: str) -> Path:
            target = out / (source.stem + ".o")
            subprocess.run([cxx, *FLAGS, *extra, "-c", str(source), "-o", str(target)], check=True)
            return target

        with ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(compile_one, [ROOT / "csrc" / (s + ".cpp") for s in SOURCES]))
            runner = pool.submit(compile_one, mains[0])
            fuzz = pool.submit(compile_one, mains[1], "-DPILLION_FUZZ_MAIN")
            for main in (runner.result(), fuzz.result()):
                subprocess.run(
                    [cxx, *FLAGS, str(main), *map(str, objects), "-o", str(main.with_suffix(""))],
                    check=True,
                )

    headers = (ROOT / "tests/fuzz").glob("*.h")
    out = shared("gguf", (cxx, FLAGS), [*mains, *headers], make)
    return out / "gguf_runner", out / "fuzz_gguf"


def read(path: Path | str, *options: str) -> dict:
    """The runner's JSON for a file; a crash or a sanitizer report fails the test."""
    done = subprocess.run([programs()[0], str(path), *options], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return json.loads(done.stdout)


def stream(cases: list[bytes]) -> list[tuple[int, str]]:
    """(code, sentence) per case, all read, checked and touched in one process."""
    data = b"".join(struct.pack("<I", len(c)) + c for c in cases)
    done = subprocess.run([programs()[1], "--stream"], input=data, capture_output=True, timeout=300)
    lines = done.stdout.decode(errors="replace").split("\n")[:-1]
    assert done.returncode == 0, f"crash in case {len(lines)}: " + done.stderr.decode(
        errors="replace"
    )
    assert len(lines) == len(cases)
    return [(int(line.split(" ", 1)[0]), line.partition(" ")[2]) for line in lines]


def text(s: str | bytes) -> bytes:
    raw = s.encode() if isinstance(s, str) else s
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind: int, value) -> bytes:
    return text(value) if kind == STR else struct.pack("<" + PACK[kind], value)


def kv(key: str | bytes, kind: int, value, element: int | None = None) -> bytes:
    """One metadata entry; an array when `element` is given (kind ARR)."""
    if kind != ARR:
        return text(key) + struct.pack("<I", kind) + scalar(kind, value)
    items = b"".join(scalar(element, v) for v in value)
    return text(key) + struct.pack("<IIQ", ARR, element, len(value)) + items


def auto(key: str, value) -> bytes:
    """An entry with the type the converters use for such a value."""

    def kind_of(v):
        return (
            BOOL
            if isinstance(v, bool)
            else U32
            if isinstance(v, int) and v >= 0
            else I32
            if isinstance(v, int)
            else F32
            if isinstance(v, float)
            else STR
        )

    if isinstance(value, list):
        element = kind_of(value[0]) if value else I32
        return kv(key, ARR, value, I32 if element == U32 else element)
    return kv(key, kind_of(value), value)


def tensor_bytes(kind: str, dims: list[int]) -> int:
    _, block, size = TENSOR_TYPES[kind]
    n = 1
    for d in dims:
        n *= d
    return n // block * size


def info(
    name: str | bytes, dims: list[int], kind: int, offset: int, n_dims: int | None = None
) -> bytes:
    n = len(dims) if n_dims is None else n_dims
    return (
        text(name)
        + struct.pack("<I", n)
        + struct.pack(f"<{len(dims)}Q", *[d % 2**64 for d in dims])
        + struct.pack("<IQ", kind, offset)
    )


def head(n_tensors: int, n_kv: int, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, n_tensors, n_kv)


def padded(data: bytes, alignment: int = 32) -> bytes:
    return data + b"\0" * (-len(data) % alignment)


def layout(
    entries: list[bytes], tensors: list[tuple[str, str, list[int]]], version: int = 3
) -> tuple[bytes, list[int], int]:
    """Header up to the tensor data, each tensor's offset in it, and the size of the data."""
    offsets, at = [], 0
    for _, kind, dims in tensors:
        offsets.append(at)
        at += tensor_bytes(kind, dims)
        at += -at % 32
    infos = [
        info(name, dims, TENSOR_TYPES[kind][0], o)
        for (name, kind, dims), o in zip(tensors, offsets)
    ]
    return (
        padded(head(len(tensors), len(entries), version) + b"".join(entries) + b"".join(infos)),
        offsets,
        at,
    )


def build(
    entries: list[bytes],
    tensors: list[tuple[str, str, list[int]]] = [],
    data: dict[str, bytes] = {},
    version: int = 3,
) -> bytes:
    """A whole valid file; tensors without data hold zeros."""
    header, offsets, size = layout(entries, tensors, version)
    body = bytearray(size)
    for (name, _, _), offset in zip(tensors, offsets):
        if name in data:
            body[offset : offset + len(data[name])] = data[name]
    return header + bytes(body)


def write_sparse(
    path: Path, entries: list[bytes], tensors: list[tuple[str, str, list[int]]]
) -> Path:
    """Full-size shapes without the bytes: the data is a hole in the file."""
    header, _, size = layout(entries, tensors)
    with open(path, "wb") as f:
        f.write(header)
        f.truncate(len(header) + size)
    return path
