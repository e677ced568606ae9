"""GGUF files with one field wrong each: (bytes, code, part of the sentence)."""

from __future__ import annotations

import struct

from gguf_bytes import (
    ARR,
    BOOL,
    CORRUPT,
    F32,
    I16,
    I64,
    STR,
    U32,
    U64,
    UNSUPPORTED,
    head,
    info,
    kv,
    padded,
    text,
)


def one_tensor(dims, kind=0, offset=0, n_dims=None, data=64, name="t"):
    return padded(head(1, 0) + info(name, dims, kind, offset, n_dims)) + b"\0" * data


def with_kv(*entries, n=None, tail=b""):
    return head(0, len(entries) if n is None else n) + b"".join(entries) + tail


def two_tensors(offset_a, offset_b, names=("a", "b"), data=128):
    infos = info(names[0], [16], 0, offset_a) + info(names[1], [16], 0, offset_b)
    return padded(head(2, 0) + infos) + b"\0" * data


def raw_kv(kind: int, body: bytes) -> bytes:
    return text("k") + struct.pack("<I", kind) + body


BAD = {
    "not gguf": (b"PK\3\4" + b"\0" * 40, CORRUPT, 'begins with "PK??"'),
    "ggml magic": (head(0, 0, magic=b"lmgg"), CORRUPT, "not a GGUF file"),
    "git lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        CORRUPT,
        "Git LFS pointer",
    ),
    "one byte": (b"G", CORRUPT, "not a GGUF file"),
    "v0": (head(0, 0, 0), UNSUPPORTED, "version 0"),
    "v1": (head(0, 0, 1), UNSUPPORTED, "version 1 is not supported"),
    "v4": (head(0, 0, 4), UNSUPPORTED, "version 4 is not supported (2, 3)"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), UNSUPPORTED, "big-endian (version 3)"),
    "n_tensors 2^61": (head(2**61, 0) + b"\0" * 64, CORRUPT, "2305843009213693952 tensors"),
    "n_tensors 2^64-1": (head(2**64 - 1, 0) + b"\0" * 64, CORRUPT, "can't hold"),
    "n_tensors 2": (head(2, 0) + info("t", [1], 24, 0) + b"\0" * 16, CORRUPT, "2 tensors"),
    "n_kv 2^61": (head(0, 2**61) + b"\0" * 64, CORRUPT, "metadata keys"),
    "n_kv one too many": (
        with_kv(kv("k", U32, 1), n=2, tail=b"\0" * 32),
        CORRUPT,
        "metadata key number 1 is empty",
    ),
    "key empty": (with_kv(kv("", U32, 1)), CORRUPT, "number 0 is empty"),
    "key length 2^63": (
        head(0, 1) + struct.pack("<Q", 2**63) + b"k" * 32,
        CORRUPT,
        "the limit is 65535",
    ),
    "key length 65536": (with_kv(kv("k" * 65536, U32, 1)), CORRUPT, "65536 bytes long"),
    "key beyond file": (
        head(0, 1) + struct.pack("<Q", 1000) + b"k" * 32,
        CORRUPT,
        "needs 1000 bytes",
    ),
    "key twice": (
        with_kv(kv("b", U32, 1), kv("a", U32, 1), kv("b", STR, "x")),
        CORRUPT,
        "key b occurs twice",
    ),
    "type 13": (with_kv(raw_kv(13, b"\0" * 8)), CORRUPT, "type 13 does not exist"),
    "type 2^32-1": (with_kv(raw_kv(2**32 - 1, b"\0" * 8)), CORRUPT, "type 4294967295"),
    "bool 2": (with_kv(raw_kv(BOOL, b"\2")), CORRUPT, "bool holds the byte 2"),
    "bool array 255": (
        with_kv(raw_kv(ARR, struct.pack("<IQ", BOOL, 3) + b"\0\1\xff")),
        CORRUPT,
        "byte 255",
    ),
    "string length 2^63": (
        with_kv(raw_kv(STR, struct.pack("<Q", 2**63) + b"x" * 8)),
        CORRUPT,
        "needs 9223372036854775808",
    ),
    "string length 2^64-1": (
        with_kv(raw_kv(STR, struct.pack("<Q", 2**64 - 1) + b"x" * 8)),
        CORRUPT,
        "needs 18446744073709551615",
    ),
    "array of arrays": (
        with_kv(raw_kv(ARR, struct.pack("<IQ", ARR, 1) + b"\0" * 64)),
        UNSUPPORTED,
        "array of arrays",
    ),
    "array element 99": (
        with_kv(raw_kv(ARR, struct.pack("<IQ", 99, 1) + b"\0" * 8)),
        CORRUPT,
        "type 99",
    ),
    "array count 2^61": (
        with_kv(raw_kv(ARR, struct.pack("<IQ", U64, 2**61) + b"\0" * 8)),
        CORRUPT,
        "do not fit",
    ),
    "array count 2^62 u32": (
        with_kv(raw_kv(ARR, struct.pack("<IQ", F32, 2**62) + b"\0" * 8)),
        CORRUPT,
        "do not fit",
    ),
    "array one short": (
        with_kv(raw_kv(ARR, struct.pack("<IQ", I16, 5) + b"\0" * 9)),
        CORRUPT,
        "5 values of type i16",
    ),
    "strings count 2^60": (
        with_kv(raw_kv(ARR, struct.pack("<IQ", STR, 2**60) + b"\0" * 80)),
        CORRUPT,
        "do not fit",
    ),
    "second string long": (
        with_kv(raw_kv(ARR, struct.pack("<IQ", STR, 2) + text("a") + struct.pack("<Q", 2**62))),
        CORRUPT,
        "key k: a string at byte",
    ),
    "alignment 0": (with_kv(kv("general.alignment", U32, 0)), CORRUPT, "0 is not a power of two"),
    "alignment 3": (with_kv(kv("general.alignment", U32, 3)), CORRUPT, "3 is not a power of two"),
    "alignment 2^31": (with_kv(kv("general.alignment", U32, 2**31)), CORRUPT, "2147483648"),
    "alignment -8": (with_kv(kv("general.alignment", I64, -8)), CORRUPT, "-8"),
    "alignment 2^64-1": (
        with_kv(kv("general.alignment", U64, 2**64 - 1)),
        CORRUPT,
        "18446744073709551615",
    ),
    "alignment string": (
        with_kv(kv("general.alignment", STR, "32")),
        CORRUPT,
        "it is a string, expected an integer",
    ),
    "alignment f32": (with_kv(kv("general.alignment", F32, 32.0)), CORRUPT, "it is a f32"),
    "name empty": (one_tensor([16], name=""), CORRUPT, "name of tensor number 0 is empty"),
    "name 1025": (one_tensor([16], name="n" * 1025), CORRUPT, "limit is 1024"),
    "name twice": (two_tensors(0, 64, names=("a", "a")), CORRUPT, "tensor a occurs twice"),
    "n_dims 0": (one_tensor([], n_dims=0), CORRUPT, "0 dimensions (1 to 4)"),
    "n_dims 5": (one_tensor([1] * 5), CORRUPT, "5 dimensions"),
    "n_dims 2^32-1": (one_tensor([1, 1], n_dims=2**32 - 1), CORRUPT, "4294967295 dimensions"),
    "n_dims beyond file": (head(1, 0) + text("t") + struct.pack("<I", 4) + b"\1" * 24, CORRUPT, ""),
    "dim 0": (one_tensor([16, 0]), CORRUPT, "dimension 1 is 0"),
    "dim -1": (one_tensor([-1]), CORRUPT, "dimension 0 is -1"),
    "dim -2^63": (one_tensor([4, -(2**63)]), CORRUPT, "at least 1"),
    "dim 2^42+1": (one_tensor([2**42 + 1]), CORRUPT, "more than the whole file"),
    "dims 2^42+1 squared": (one_tensor([2**42 + 1, 2**42 + 1]), CORRUPT, "exceeds 2^62"),
    "product 2^64": (one_tensor([2**32, 2**32]), CORRUPT, "exceeds 2^62"),
    "product 2^64 + 16": (one_tensor([2**60 + 1, 16]), CORRUPT, "exceeds 2^62"),
    "product 2^62": (one_tensor([2**31, 2**31]), CORRUPT, "more than the whole file"),
    "bytes 2^64": (one_tensor([2**61, 2], kind=27), CORRUPT, "more than the whole file"),
    "rows no multiple": (
        one_tensor([48, 2], kind=2),
        CORRUPT,
        "rows hold 48 values, type Q4_0 needs a multiple of 32",
    ),
    "offset beyond file": (one_tensor([16], offset=2**20), CORRUPT, "beyond the file"),
    "offset 2^64-32": (one_tensor([16], offset=2**64 - 32), CORRUPT, "beyond the file"),
    "offset in padding": (one_tensor([16], offset=32), CORRUPT, "do not fit"),
    "offset unaligned": (
        one_tensor([8], offset=8),
        CORRUPT,
        "offset 8 is not a multiple of the alignment 32",
    ),
    "data one short": (one_tensor([16], data=63), CORRUPT, "download may be incomplete"),
    "no data": (head(1, 0) + info("t", [1], 24, 0), CORRUPT, ""),
    "same offset": (two_tensors(0, 0), CORRUPT, "tensors a and b overlap"),
    "overlap by half": (two_tensors(0, 32), CORRUPT, "overlap"),
    "overlap, later first": (two_tensors(32, 0), CORRUPT, "tensors b and a overlap"),
    "control bytes in names": (
        one_tensor([0], name=b"bad\n\x1b[31m\xff\xc2\x9bJ"),
        CORRUPT,
        "tensor bad??[31m??J: dimension",
    ),
}
