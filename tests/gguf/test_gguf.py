"""The GGUF reader against files of the `gguf` package, and against files with each field wrong
(field cases 42 and 43)."""

from __future__ import annotations

import math
import os
import random
import struct

import pytest
from gguf_bytes import (
    ARR,
    CORRUPT,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    NOT_FOUND,
    OK,
    STR,
    U8,
    U16,
    U32,
    U64,
    UNSUPPORTED,
    ROOT,
    build,
    head,
    info,
    kv,
    padded,
    read,
    stream,
    write_sparse,
)
from bad_gguf import BAD

gguf = pytest.importorskip("gguf")
np = pytest.importorskip("numpy")


# ---- good files

ALL_TYPES = {
    "u8": 200,
    "i8": -100,
    "u16": 60000,
    "i16": -30000,
    "u32": 4_000_000_000,
    "i32": -2_000_000_000,
    "u64": 2**64 - 1,
    "i64": -(2**63),
}


def write_good(path):
    w = gguf.GGUFWriter(path, "none")
    for kind, value in ALL_TYPES.items():
        getattr(w, {"u": "add_uint", "i": "add_int"}[kind[0]] + kind[1:])(f"t.{kind}", value)
    w.add_float32("t.f32", 1e-6)
    w.add_float64("t.f64", math.pi)
    w.add_float32("t.nan", math.nan)
    w.add_float64("t.inf", -math.inf)
    w.add_bool("t.yes", True)
    w.add_bool("t.no", False)
    w.add_string("t.text", 'quote " backslash \\ newline \n tab \t nul \0 del \x7f é 漢 😀')
    w.add_string("t.empty", "")
    w.add_array("t.strings", ["", "a", "▁the", "<0x00>", "x" * 300])
    w.add_array("t.ints", [1, -2, 3])
    w.add_array("t.floats", [0.5, -1.0, 3.25e30])
    w.add_array("t.bools", [True, False, True])
    rng = np.random.default_rng(7)
    tensors = {
        "f32": rng.standard_normal((3, 5), dtype=np.float32),
        "f16": rng.standard_normal((2, 3, 4)).astype(np.float16),
        "i8": np.arange(-3, 4, dtype=np.int8),
        "i16": np.arange(9, dtype=np.int16).reshape(3, 3),
        "i32": np.array([1, -2], dtype=np.int32),
        "i64": np.array([2**40], dtype=np.int64),
        "f64": rng.standard_normal((1, 1, 2, 2)),
    }
    for name, value in tensors.items():
        w.add_tensor(name, value)
    for kind in ("Q4_0", "Q8_0", "BF16", "Q5_1"):
        q = gguf.GGMLQuantizationType[kind]
        w.add_tensor(
            kind,
            gguf.quants.quantize(rng.standard_normal((4, 64), dtype=np.float32), q),
            raw_dtype=q,
        )
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_good(tmp_path_factory.mktemp("gguf") / "good.gguf")


@pytest.mark.parametrize("options", [(), ("--no-mmap",)])
@pytest.mark.parametrize("version", [2, 3])
def test_good_file_value_for_value(good, tmp_path, version, options):
    raw = bytearray(good.read_bytes())
    raw[4:8] = struct.pack("<I", version)  # the two versions differ in this number only
    path = tmp_path / "v.gguf"
    path.write_bytes(raw)
    ours = read(path, "--data", *options)
    theirs = gguf.GGUFReader(good)
    assert ours["version"] == version and ours["alignment"] == 32
    keys = [k for k in theirs.fields if not k.startswith("GGUF.")]
    assert list(ours["metadata"]) == keys
    for key in keys:
        mine, expected = ours["metadata"][key], theirs.fields[key].contents()
        if isinstance(expected, float) and not math.isfinite(expected):
            assert mine is None
        elif ours["types"][key] in ("f32", "array of f32"):
            assert np.array_equal(np.float32(mine), np.float32(expected)), key
        else:
            assert mine == expected, key
    assert [t["name"] for t in ours["tensors"]] == [t.name for t in theirs.tensors]
    for mine, expected in zip(ours["tensors"], theirs.tensors):
        assert mine["type"] == expected.tensor_type.name
        assert mine["dims"] == [int(d) for d in expected.shape]
        assert mine["offset"] == expected.data_offset
        assert bytes.fromhex(mine["data"]) == expected.data.tobytes(), mine["name"]


def test_long_arrays_are_shortened(good):
    meta = read(good, "--max-array", "2")["metadata"]
    assert meta["t.ints"] == {"count": 3, "element": "i32", "first": [1, -2]}
    assert meta["t.strings"] == {"count": 5, "element": "string", "first": ["", "a"]}
    assert read(good, "--max-array", "0")["metadata"]["t.bools"] == {
        "count": 3,
        "element": "bool",
        "first": [],
    }


def test_broken_utf8_becomes_replacement_marks(tmp_path):
    samples = [
        b"\xff",
        b"a\xc3",
        b"\xe2\x82",
        b"\xe2\x82x",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98",
        b"\xf4\x90\x80\x80",
        b"\xc0\x80",
        b"\xe0\x80\xaf",
        b"\x80\x81",
        b"\xf0\x9f\x98\x80ok",
    ]
    rng = random.Random(3)
    samples += [
        bytes(rng.choice(b'a\x80\xbf\xc2\xe0\xed\xf0\xf4\x90\xa0"\\\n') for _ in range(12))
        for _ in range(200)
    ]
    path = tmp_path / "utf8.gguf"
    path.write_bytes(build([kv(b"k\xff", ARR, samples, STR)]))
    assert read(path)["metadata"] == {"k�": [s.decode("utf-8", "replace") for s in samples]}


def test_alignment(tmp_path):
    for alignment in (1, 2, 8, 64, 4096):
        infos = info("a", [3], 24, 0) + info("b", [2], 24, -(-3 // alignment) * alignment)
        body = padded(head(2, 1) + kv("general.alignment", U32, alignment) + infos, alignment)
        path = tmp_path / "a.gguf"
        path.write_bytes(body + padded(b"\1\2\3", alignment) + b"\4\5")
        out = read(path, "--data")
        assert out["alignment"] == alignment
        assert [t["data"] for t in out["tensors"]] == ["010203", "0405"]


def test_empty_arrays_and_no_tensors(tmp_path):
    path = tmp_path / "e.gguf"
    # no padding at the end either
    path.write_bytes(head(0, 2) + kv("a", ARR, [], STR) + kv("b", ARR, [], I32))
    out = read(path)
    assert out["metadata"] == {"a": [], "b": []} and out["tensors"] == []


def test_large_vocabulary_opens_fast(tmp_path):
    tokens = [f"token{i}" for i in range(262144)]
    path = tmp_path / "vocab.gguf"
    path.write_bytes(
        build(
            [
                kv("tokenizer.ggml.tokens", ARR, tokens, STR),
                kv("scores", ARR, [0.0] * len(tokens), F32),
            ]
        )
    )
    out = read(path, "--max-array", "4")
    assert out["metadata"]["tokenizer.ggml.tokens"]["count"] == 262144
    # a few ms in a release build; the sanitizers and busy machines get room
    assert out["open_us"] < 500_000


REPOSITORY_FILES = [
    p
    for folder in ("tests/golden", "python/pillion/models", "models-cache")
    for p in sorted((ROOT / folder).glob("*.gguf"))
]


@pytest.mark.parametrize("path", REPOSITORY_FILES, ids=lambda p: p.name)
def test_files_of_the_repository(path):
    out = read(path, "--max-array", "2")
    # it takes 20 s over a full vocabulary
    theirs = gguf.GGUFReader(path) if path.stat().st_size < 50e6 else None
    assert theirs is None or [
        (t["name"], t["type"], t["dims"], t["offset"], t["bytes"]) for t in out["tensors"]
    ] == [
        (t.name, t.tensor_type.name, [int(d) for d in t.shape], t.data_offset, t.n_bytes)
        for t in theirs.tensors
    ]
    model = out["model"]
    if "mmproj" in path.name:
        assert "it is an mmproj file" in model["error"]
        return
    assert (
        "error" not in model
        and model["problems"] == []
        and model["unknown"] == []
        and model["check_error"] is None
    )
    assert model["hparams"]["centroid_head_problem"] == ""


# ---- files and paths


@pytest.mark.parametrize("options", [(), ("--no-mmap",)])
def test_dropped_pages_leave_memory_and_stay_readable(tmp_path, options):
    # a hole in front, random bytes at the end: the hole's pages count as resident once read
    path = write_sparse(tmp_path / "big.gguf", [], [("a", "F32", [2**24]), ("b", "F32", [2**10])])
    with open(path, "r+b") as f:
        f.seek(-4096, os.SEEK_END)
        f.write(random.Random(1).randbytes(4096))
    out = read(path, "--drop", *options)
    assert out["same"]
    if not options:
        assert out["read_kb"] - out["opened_kb"] > 60_000
        assert out["dropped_kb"] - out["opened_kb"] < 4_000


def test_paths(tmp_path):
    assert read(tmp_path / "missing.gguf")["code"] == NOT_FOUND
    assert "No such file" in read(tmp_path / "missing.gguf")["error"]
    out = read(tmp_path)
    assert out["code"] == NOT_FOUND and "is a directory" in out["error"]
    (tmp_path / "empty.gguf").touch()
    for options in ([], ["--no-mmap"]):
        out = read(tmp_path / "empty.gguf", *options)
        assert out["code"] == CORRUPT and "empty" in out["error"]
    os.mkfifo(tmp_path / "pipe")
    # and does not wait for a writer
    assert "not a regular file" in read(tmp_path / "pipe")["error"]
    out = read("/" + "x" * 3000)
    assert out["code"] == NOT_FOUND and "File name too long" in out["error"]
    if os.geteuid() != 0:
        (tmp_path / "locked").write_bytes(b"x")
        os.chmod(tmp_path / "locked", 0)
        assert "Permission denied" in read(tmp_path / "locked")["error"]


# ---- bad files: (bytes, code, part of the sentence)


def test_bad_files():
    results = stream([case for case, _, _ in BAD.values()])
    wrong = [
        (name, code, sentence)
        for (name, (_, want, part)), (code, sentence) in zip(BAD.items(), results)
        if code != want or part not in sentence or not sentence.startswith("case.gguf: ")
    ]
    assert not wrong


UNKNOWN_TYPES = {
    9: "Q8_1",
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    38: "IQ4_NL_8_8",
    41: "type 41",
    1000: "type 1000",
    2**31: "type 2147483648",
    2**32 - 1: "type 4294967295",
}


@pytest.mark.parametrize("kind", UNKNOWN_TYPES)
def test_a_type_that_is_not_known_is_shown(tmp_path, kind):
    """It takes the bytes up to the next tensor, or to the file's end."""
    infos = info("a", [64, 3], kind, 0) + info("b", [4], 0, 96) + info("c", [5], kind, 128)
    (tmp_path / "a.gguf").write_bytes(padded(head(3, 0) + infos) + bytes(range(150)))
    found = read(tmp_path / "a.gguf", "--data")["tensors"]
    assert [(t["type"], t["dims"], t["bytes"]) for t in found] == [
        (UNKNOWN_TYPES[kind], [64, 3], 96),
        ("F32", [4], 16),
        (UNKNOWN_TYPES[kind], [5], 22),
    ]
    assert bytes.fromhex(found[2]["data"]) == bytes(range(128, 150))


def test_where_a_type_that_is_not_known_cannot_lie():
    def file(offsets, data):
        infos = b"".join(info(name, [4], 1000, at) for name, at in zip("ab", offsets))
        return padded(head(len(offsets), 0) + infos) + bytes(data)

    cases = {
        file([0, 0], 64): "tensors a and b overlap",
        file([32, 32], 64): "overlap",
        file([0], 0): "download may be incomplete",
        file(
            [0, 64], 64
        ): "tensor b: the file ends where it begins; the download may be incomplete",
        file([0, 96], 64): "do not fit",
        file([8], 64): "not a multiple of the alignment",
        file([2**64 - 32], 64): "beyond the file",
    }
    for (code, sentence), part in zip(stream(list(cases)), cases.values()):
        assert code == CORRUPT and part in sentence, sentence


def test_bad_files_mapped(tmp_path):
    """The same through mmap and the runner, for a few: the code path differs in who owns the
    bytes."""
    for name in ("n_tensors 2^61", "string length 2^63", "dim 2^42+1", "same offset", "name twice"):
        case, code, part = BAD[name]
        (tmp_path / "bad.gguf").write_bytes(case)
        out = read(tmp_path / "bad.gguf")
        assert out["code"] == code and part in out["error"] and str(tmp_path) in out["error"]


# Field case 43: arrays of the wrong element type are refused by the typed getters or converted,
# never over-read. The fuzz program calls every getter on every key, under the sanitizers.
def test_wrong_element_types_and_strange_tokens():
    tokens = ["<0x-1>", "<0xZZ>", "<0x1FF>", "", "x" * 2**20, "same", "same"]
    cases = [
        build(
            [
                kv("tokenizer.ggml.tokens", ARR, tokens, STR),
                kv("tokenizer.ggml.scores", ARR, [1, 2, 3], kind),
                kv("tokenizer.ggml.token_type", ARR, [1], kind),
            ]
        )
        for kind in (U8, I8, U16, I16, U32, I32, F32, U64, I64, F64)
    ]
    # all of it readable; general.architecture is what is missing
    assert {code for code, _ in stream(cases)} == {CORRUPT}


def small_model() -> bytes:
    from model_headers import tiny_gemma4

    return build(*tiny_gemma4())


def test_cut_at_every_byte():
    whole = small_model()
    assert stream([whole]) == [(OK, "")]
    results = stream([whole[:n] for n in range(len(whole))])
    padding = 32  # only the padding behind the last tensor may be missing
    assert all(code == CORRUPT for code, _ in results[:-padding])
    assert {code for code, _ in results} <= {OK, CORRUPT}


def test_bit_flips_in_the_header():
    whole = small_model()
    n_header = whole.index(b"token_embd.weight") + 200
    cases = []
    for at in range(n_header):
        for bit in (at % 7, 7):  # the sign bit and one more
            cases.append(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
    codes = {code for code, _ in stream(cases)}
    assert codes <= {OK, CORRUPT, UNSUPPORTED}


def mutate(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(out))
        what = rng.randrange(6)
        if what == 0:
            out[at] = rng.randrange(256)
        elif what == 1:  # a nasty integer over some field
            value = rng.choice(
                [
                    0,
                    1,
                    2**31,
                    2**32 - 1,
                    2**42 + 1,
                    2**61,
                    2**63,
                    2**64 - 1,
                    len(out),
                    rng.getrandbits(64),
                ]
            )
            raw = struct.pack("<Q", value)[: rng.choice([1, 2, 4, 8])]
            out[at : at + len(raw)] = raw
        elif what == 2:
            del out[at : at + rng.randrange(1, 64)]
        elif what == 3:
            out[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 16)))
        elif what == 4:  # a piece of the file over another
            source, n = rng.randrange(len(out)), rng.randrange(1, 64)
            out[at : at + n] = out[source : source + n]
        else:
            out[at] ^= 1 << rng.randrange(8)
        if len(out) < 8:
            break
    return bytes(out)


def test_mutations(good):
    rng = random.Random(20260101)
    model = small_model()
    starts = [model, model[: model.index(b"token_embd.weight") + 2000], good.read_bytes()]
    results = stream([mutate(rng, starts[i % len(starts)]) for i in range(2000)])
    codes = [code for code, _ in results]
    assert set(codes) <= {OK, CORRUPT, UNSUPPORTED}
    assert codes.count(CORRUPT) > 200  # the mutations do reach the checks


# ---- several files ----


def write_parts(folder, change=None):
    """Three parts of two tensors each; change: (number, function of its bytes)."""
    paths = []
    for number in range(3):
        keys = (
            [kv("general.alignment", U32, 64), kv("a", STR, "b")]
            if number == 0
            else [kv("general.alignment", U32, 64)]
        )
        keys += [
            kv("split.no", U8, number),
            kv("split.count", I64, 3),
            kv("split.tensors.count", U64, 6),
        ]
        infos = info(f"t{number}", [8], 24, 0) + info(f"u{number}", [4], 0, 64)
        header = padded(head(2, len(keys)) + b"".join(keys) + infos, 64)
        raw = header + bytes([65 + number] * 8).ljust(64, b"\0") + bytes([97 + number] * 16)
        paths.append(folder / f"m-{number + 1:05d}-of-00003.gguf")
        paths[-1].write_bytes(change[1](raw) if change and change[0] == number else raw)
    return paths


@pytest.mark.parametrize("options", [(), ("--no-mmap",)])
def test_parts_are_one_file(tmp_path, options):
    for path in write_parts(tmp_path):
        found = read(path, "--data", *options)
        assert found["metadata"] == {"general.alignment": 64, "a": "b"} and found["alignment"] == 64
        assert [t["name"] for t in found["tensors"]] == ["t0", "u0", "t1", "u1", "t2", "u2"]
        expected = [
            bytes([first + n] * size).hex() for n in range(3) for first, size in ((65, 8), (97, 16))
        ]
        assert [t["data"] for t in found["tensors"]] == expected
        assert read(path, "--drop", *options)["same"]


def test_parts_that_are_damaged(tmp_path):
    """Any byte of any part, under the sanitizers: read, or refused in a sentence."""
    seeded = random.Random(5)
    for _ in range(40):
        number, wrong = seeded.randrange(3), seeded.randrange(256)

        def change(raw, wrong=wrong):
            at = seeded.randrange(len(raw))
            return seeded.choice(
                [raw[:at], raw[:at] + bytes([wrong]) + raw[at + 1 :], raw + raw[: at // 2]]
            )

        paths = write_parts(tmp_path, (number, change))
        found = read(seeded.choice(paths), "--data", "--no-mmap")
        assert "error" not in found or (
            found["code"] in (CORRUPT, UNSUPPORTED) and str(tmp_path) in found["error"]
        )


OFFSETS = [2**64 - 64, 2**63, 2**32, 128, 1]


@pytest.mark.parametrize("offset", OFFSETS)
def test_offsets_do_not_reach_into_another_part(tmp_path, offset):
    write_parts(
        tmp_path,
        (1, lambda raw: raw.replace(struct.pack("<IQ", 0, 64), struct.pack("<IQ", 0, offset))),
    )
    found = read(tmp_path / "m-00001-of-00003.gguf", "--no-mmap")
    assert found["code"] == CORRUPT and "m-00002-of-00003.gguf: tensor u1" in found["error"]


@pytest.mark.parametrize("alignment", [0x80000000, 0, 48])
def test_a_parts_own_alignment(tmp_path, alignment):
    new = kv("general.alignment", U32, alignment)
    write_parts(tmp_path, (2, lambda raw: raw.replace(kv("general.alignment", U32, 64), new)))
    found = read(tmp_path / "m-00001-of-00003.gguf", "--no-mmap")
    assert (
        found["code"] == CORRUPT
        and "m-00003-of-00003.gguf: key general.alignment" in found["error"]
    )
