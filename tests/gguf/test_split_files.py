"""A model in parts: any part opens the whole, whoever wrote the parts; what is wrong with a set of
parts is a sentence."""

import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from broken_writes import check_ctrl_c, check_full_disk
from build import REPOSITORY
from gguf_bytes import F32, I32, I64, STR, U8, U16, U32, U64, build, kv
from made_files import remade

gguf = pytest.importorskip("gguf")

GOLDEN = REPOSITORY / "tests" / "golden"
NAMES = sorted(path.name for path in GOLDEN.glob("*.gguf"))
E2B = GOLDEN / "tiny-e2b.gguf"
TOKENS = [2, 5, 6, 7]


def text(pillion, path, **options):
    with pillion.LLM(path, n_ctx=64, n_threads=1, **{"drafter": None, **options}) as llm:
        return llm.complete(TOKENS, max_tokens=8, temperature=0)["choices"][0]["text"]


def by_gguf(source, out, **limits):
    """Parts as the gguf package writes them."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents(), **limits)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub_type = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(out.parent.glob(f"{out.stem}-*.gguf"))


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "pillion", *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
    )


def raises(pillion, part, kind, *words):
    with pytest.raises(getattr(pillion, kind)) as caught:
        pillion.Model.open(part, metadata_only=True)
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence


@pytest.fixture
def parts(pillion, tmp_path):
    """Three parts of tiny-e2b in a folder of their own."""
    folder = tmp_path / "parts"
    folder.mkdir()
    names = pillion.split(E2B, folder / "m", max_tensors=35)
    assert len(names) == 3
    return [folder / os.path.basename(name) for name in names]


# ---- reading ----


@pytest.mark.parametrize(
    "limits",
    [
        {"split_max_tensors": 20},
        {"split_max_size": 150000},
        {"split_max_tensors": 40, "small_first_shard": True},
    ],
)
def test_parts_of_the_gguf_package(pillion, tmp_path, limits):
    parts = by_gguf(E2B, tmp_path / "m.gguf", **limits)
    expected = text(pillion, E2B)
    assert len(parts) >= 3
    for part in parts:
        assert text(pillion, part) == text(pillion, part, use_mmap=False) == expected
    with pillion.Model.open(parts[-1]) as model, pillion.Model.open(E2B) as whole:
        assert model.files == [str(part) for part in parts]
        assert model.file_bytes == sum(part.stat().st_size for part in parts)
        assert dict(model.metadata) == dict(whole.metadata) and model.n_params == whole.n_params
        assert model.weight_bytes == whole.weight_bytes


@pytest.mark.parametrize("name", NAMES)
def test_gguf_reads_what_split_writes(pillion, tmp_path, name):
    source = gguf.GGUFReader(GOLDEN / name)
    parts = pillion.split(GOLDEN / name, tmp_path / "m", max_tensors=11)
    readers = [gguf.GGUFReader(part) for part in parts]
    found = [tensor for reader in readers for tensor in reader.tensors]
    assert [t.name for t in found] == [t.name for t in source.tensors]
    for one, expected in zip(found, source.tensors):
        assert one.tensor_type == expected.tensor_type and np.array_equal(one.data, expected.data)
    for number, reader in enumerate(readers):
        assert reader.fields["split.no"].contents() == number and reader.fields[
            "split.count"
        ].contents() == len(parts)
        assert reader.fields["split.tensors.count"].contents() == len(found)
    keys = [name for name in readers[0].fields if not name.startswith(("split.", "GGUF."))]
    assert keys == [name for name in source.fields if not name.startswith("GGUF.")]


@pytest.mark.parametrize("kind", [U8, U16, U32, I32, U64, I64])
def test_split_keys_of_any_width(pillion, tmp_path, kind):
    whole = [kv("general.architecture", STR, "mamba"), kv("a", U32, 1)]
    for number in range(2):
        keys = [
            kv("split.no", kind, number),
            kv("split.count", kind, 2),
            kv("split.tensors.count", kind, 2),
        ]
        raw = build([*(whole if number == 0 else []), *keys], [(f"t{number}", "F32", [4])])
        (tmp_path / f"m-0000{number + 1}-of-00002.gguf").write_bytes(raw)
    from pillion.inspection import inspect_file

    facts = inspect_file(tmp_path / "m-00002-of-00002.gguf", tensors=True)
    assert [(t["name"], t["part"]) for t in facts["tensors"]] == [("t0", 0), ("t1", 1)]
    assert (
        facts["metadata"] == {"general.architecture": "mamba", "a": 1}
        and len(facts["file"]["parts"]) == 2
    )


def test_everything_takes_parts(pillion, parts, tmp_path):
    from pillion.inspection import inspect_file

    facts, whole = inspect_file(parts[1], tensors=True), inspect_file(E2B, tensors=True)
    for name in ("model", "tokenizer", "memory", "metadata", "warnings", "runnable"):
        assert facts[name] == whole[name], name
    assert [t["name"] for t in facts["tensors"]] == [t["name"] for t in whole["tensors"]]
    shown = command("inspect", parts[2])
    assert shown.returncode == 0 and "in 3 parts" in shown.stdout, shown.stderr

    for source, out in ((parts[1], "parts.gguf"), (E2B, "whole.gguf")):
        pillion.quantize(source, tmp_path / out, "Q8_0")
    assert (tmp_path / "parts.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_an_importance_matrix_of_parts(pillion, parts, tmp_path, tiny_target):
    made = pillion.split(tiny_target, tmp_path / "t", max_tensors=60)
    sentence = " ".join(["In the beginning God created the heaven and the earth."] * 8)
    for source, out in ((made[-1], "parts.imatrix"), (tiny_target, "whole.imatrix")):
        with pillion.Model.open(source) as model:
            pillion.imatrix(model, sentence, tmp_path / out, chunk=32, chunks=1, n_threads=1)
    assert (tmp_path / "parts.imatrix").read_bytes() == (tmp_path / "whole.imatrix").read_bytes()
    with (
        pillion.Model.open(made[0]) as model,
        pytest.raises(pillion.UsageError, match="is the model itself"),
    ):
        pillion.imatrix(model, sentence, made[1], chunk=32, chunks=1)
    # In parts itself, for `quantize`.
    pieces = pillion.split(tmp_path / "whole.imatrix", tmp_path / "i", max_tensors=30)
    for matrix, out in ((pieces[1], "a.gguf"), (tmp_path / "whole.imatrix", "b.gguf")):
        pillion.quantize(made[2], tmp_path / out, "Q4_0", imatrix=matrix)
    assert (
        len(pieces) > 1 and (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    )


def test_pillion_run_takes_parts(parts, libpillion):
    program = libpillion.parent / "pillion-run"
    if not program.exists():
        pytest.skip(f"{program} is not built")
    for model in (parts[1], E2B):
        done = subprocess.run(
            [program, "-m", model, "-p", "abc", "-n", "6", "--temp", "0", "-t", "1"],
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        parts.append(done.stdout)
    assert parts[-1] == parts[-2]


# ---- the drafter beside parts ----


def test_a_drafter_beside_parts(pillion, tmp_path, tiny_target):
    from pillion.models import TINY_ASSISTANT

    target = pillion.split(tiny_target, tmp_path / "target", max_tensors=60)
    shutil.copy(TINY_ASSISTANT, tmp_path / "assistant.gguf")
    for part in target:
        assert pillion.find_drafter(part) == tmp_path / "assistant.gguf"
    (tmp_path / "assistant.gguf").unlink()
    assistant = pillion.split(TINY_ASSISTANT, tmp_path / "assistant", max_tensors=20)
    assert len(assistant) > 1 and str(pillion.find_drafter(target[2])) == assistant[0]
    with pillion.LLM(target[1], n_ctx=64) as llm:
        assert llm.pair is not None and llm.pair.stats.kind == "mtp"
    os.remove(assistant[-1])  # a drafter that is not whole is none
    assert pillion.find_drafter(target[0]) is None
    os.remove(assistant[0])
    assert pillion.find_drafter(target[0]) is None


# ---- join and split ----


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "limit", [{"max_tensors": 7}, {"max_size": "270K"}, {"max_tensors": 10**6}]
)
def test_join_undoes_split(pillion, tmp_path, name, limit):
    source = GOLDEN / name
    parts = pillion.split(source, tmp_path / "m.gguf", **limit)
    if "max_size" in limit:
        assert (
            max(map(os.path.getsize, parts)) <= 270_000 < source.stat().st_size or len(parts) == 1
        )
    pillion.join(parts[len(parts) // 2], tmp_path / "whole.gguf")
    assert (tmp_path / "whole.gguf").read_bytes() == source.read_bytes()
    if len(parts) == 1:
        return
    for order in (parts, parts[::-1]):
        (tmp_path / "cat.gguf").write_bytes(b"".join(open(part, "rb").read() for part in order))
        raises(
            pillion,
            tmp_path / "cat.gguf",
            "UnsupportedModelError",
            "joined by cat",
            "pillion join",
            str(len(parts)),
        )
        pillion.join(tmp_path / "cat.gguf", tmp_path / "whole.gguf")
        assert (tmp_path / "whole.gguf").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("alignment", [8, 32, 256, 1 << 14])
@pytest.mark.parametrize("padded", [True, False])
def test_alignment_and_the_files_end_are_kept(pillion, tmp_path, alignment, padded):
    keys = [
        kv("general.architecture", STR, "mamba"),
        kv("general.alignment", U32, alignment),
        kv("é", STR, b"\xff\0"),
    ]
    infos = b"".join(
        struct.pack("<Q", 1) + name + struct.pack("<IQIQ", 1, n, kind, at)
        for name, n, kind, at in (
            (b"a", 3, 0, 0),
            (b"b", 5, 24, alignment),
            (b"c", 7, 24, 2 * alignment),
        )
    )
    start = b"GGUF" + struct.pack("<IQQ", 2, 3, len(keys)) + b"".join(keys) + infos
    data = b"".join(bytes([65 + i] * n).ljust(alignment, b"\0") for i, n in enumerate((12, 5, 7)))
    raw = start.ljust(-(-len(start) // alignment) * alignment, b"\0") + data
    if alignment == 8:  # rows of 12 bytes take two units
        raw = raw.replace(data, b"")
        infos = infos.replace(struct.pack("<Q", 16), struct.pack("<Q", 24)).replace(
            struct.pack("<Q", 8), struct.pack("<Q", 16)
        )
        start = b"GGUF" + struct.pack("<IQQ", 2, 3, len(keys)) + b"".join(keys) + infos
        raw = (
            start.ljust(-(-len(start) // 8) * 8, b"\0")
            + b"A" * 12
            + b"\0" * 4
            + b"B" * 5
            + b"\0" * 3
            + b"C" * 7
            + b"\0"
        )
    if not padded:
        raw = raw.rstrip(b"\0")
    (tmp_path / "a.gguf").write_bytes(raw)
    parts = pillion.split(tmp_path / "a.gguf", tmp_path / "m", max_tensors=1)
    assert len(parts) == 3
    pillion.join(parts[1], tmp_path / "b.gguf")
    assert (tmp_path / "b.gguf").read_bytes() == raw
    (tmp_path / "cat.gguf").write_bytes(b"".join(open(part, "rb").read() for part in parts))
    pillion.join(tmp_path / "cat.gguf", tmp_path / "c.gguf")
    assert (tmp_path / "c.gguf").read_bytes() == raw


def test_a_type_that_is_not_known_travels(pillion, tmp_path):
    infos = b"".join(
        struct.pack("<Q", 1) + name + struct.pack("<IQIQ", 1, 64, kind, at)
        for name, kind, at in ((b"a", 1000, 0), (b"b", 41, 96))
    )
    key = kv("general.architecture", STR, "mamba")
    start = b"GGUF" + struct.pack("<IQQ", 3, 2, 1) + key + infos
    raw = start.ljust(-(-len(start) // 32) * 32, b"\0") + bytes(range(192))
    (tmp_path / "a.gguf").write_bytes(raw)
    parts = pillion.split(tmp_path / "a.gguf", tmp_path / "m", max_tensors=1)
    pillion.join(parts[0], tmp_path / "b.gguf")
    assert (tmp_path / "b.gguf").read_bytes() == raw


def test_a_file_of_keys_alone(pillion, tmp_path):
    raw = build([kv("general.architecture", STR, "mamba"), kv("a", STR, "b")], [])
    (tmp_path / "a.gguf").write_bytes(raw)
    (part,) = pillion.split(tmp_path / "a.gguf", tmp_path / "m", max_tensors=1)
    pillion.join(part, tmp_path / "b.gguf")
    assert (tmp_path / "b.gguf").read_bytes() == raw


def test_parts_can_be_divided_anew(pillion, parts, tmp_path):
    again = pillion.split(parts[1], tmp_path / "n", max_size=120000)
    assert len(again) == 6 and text(pillion, again[3]) == text(pillion, E2B)


def test_what_join_and_split_refuse(pillion, parts, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for call, kind, words in [
        (lambda: pillion.join(E2B, out / "a.gguf"), "UsageError", ("nothing to join",)),
        (
            lambda: pillion.join(parts[0], parts[2]),
            "UsageError",
            ("a part of the model that is read",),
        ),
        (
            lambda: pillion.join(parts[0], out / "no" / "a.gguf"),
            "ModelNotFoundError",
            ("cannot be written",),
        ),
        (
            lambda: pillion.split(E2B, out / "a"),
            "UsageError",
            ("neither the most bytes nor the most tensors",),
        ),
        (lambda: pillion.split(E2B, out / "a", max_tensors=0), "UsageError", ("max_tensors is 0",)),
        (
            lambda: pillion.split(E2B, out / "a", max_tensors="3"),
            "UsageError",
            ("max_tensors is '3'",),
        ),
        (
            lambda: pillion.split(E2B, out / "a", max_size="2GB"),
            "UsageError",
            ("max_size is '2GB'",),
        ),
        (lambda: pillion.split(E2B, out / "a", max_size=-1), "UsageError", ("max_size is -1",)),
        (lambda: pillion.split(E2B, out / "a", max_size=2**63), "UsageError", ("max_size is",)),
        (
            lambda: pillion.split(E2B, out / "a", max_size=100),
            "UsageError",
            ("the keys alone take", "100"),
        ),
        (
            lambda: pillion.split(E2B, out / "a", max_size=20000),
            "UsageError",
            ("tensor ", "more than the 20000"),
        ),
        (
            lambda: pillion.split(out / "none.gguf", out / "a", max_tensors=1),
            "ModelNotFoundError",
            ("none.gguf",),
        ),
        (
            lambda: pillion.split(parts[0], parts[0].parent / "m", max_tensors=35),
            "UsageError",
            ("that is read",),
        ),
    ]:
        with pytest.raises(getattr(pillion, kind)) as caught:
            call()
        assert all(word in str(caught.value) for word in words), caught.value
        assert list(out.iterdir()) == []
    assert text(pillion, parts[0]) == text(pillion, E2B)  # untouched


def test_cancelled_by_progress(pillion, parts, tmp_path):
    def stop(done, total):
        if done > total / 2:
            raise KeyError("enough")

    out = tmp_path / "out"
    out.mkdir()
    for call in (
        lambda: pillion.join(parts[0], out / "a.gguf", progress=stop),
        lambda: pillion.split(E2B, out / "a", max_tensors=5, progress=stop),
    ):
        with pytest.raises(KeyError):
            call()
        assert list(out.iterdir()) == []


def test_the_commands(pillion, tmp_path):
    done = command("split", E2B, tmp_path / "m", "--max-size", "300K")
    names = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert (
        done.returncode == 0 and len(names) == 3 and names[0].endswith("m-00001-of-00003.gguf")
    ), done.stderr
    done = command("join", names[1], tmp_path / "b.gguf")
    assert done.returncode == 0 and (tmp_path / "b.gguf").read_bytes() == E2B.read_bytes(), (
        done.stderr
    )
    done = command("split", E2B, tmp_path / "m")
    assert done.returncode == 1 and "--max-size" in done.stderr


@pytest.fixture(scope="module")
def large(pillion, tmp_path_factory):
    """(a file of 96 MB, a folder with its parts): enough that a signal comes in time."""
    folder = tmp_path_factory.mktemp("large")
    tensors = {f"x{i}": (np.zeros((1024, 1024), np.float32), "F32") for i in range(24)}
    whole = remade(E2B, folder / "a.gguf", tensors=tensors)
    return whole, pillion.split(whole, folder / "m", max_size="30M")


def test_a_full_disk(large, tmp_path):
    whole, parts = large
    out = tmp_path / "a.gguf"
    check_full_disk(["join", parts[0], out], out)
    out.unlink()
    out = tmp_path / "m-00001-of-00004.gguf"
    check_full_disk(["split", whole, tmp_path / "m", "--max-size", "30M"], out)


@pytest.mark.slow
def test_ctrl_c(large, tmp_path):
    whole, parts = large
    for arguments in (
        ["join", parts[0], tmp_path / "b.gguf"],
        ["split", whole, tmp_path / "m", "--max-tensors", 2],
    ):
        check_ctrl_c(arguments, tmp_path)


# ---- sets of parts that are not right ----


def test_a_part_is_missing(pillion, parts):
    parts[1].unlink()
    for part in (parts[0], parts[2]):
        raises(
            pillion,
            part,
            "ModelNotFoundError",
            str(part),
            "m-00002-of-00003.gguf of this model is missing",
            "one folder",
        )
    parts[2].unlink()
    raises(
        pillion,
        parts[0],
        "ModelNotFoundError",
        "m-00002-of-00003.gguf",
        "(and 1 more)",
        "all 3 parts",
    )
    assert command("inspect", parts[0]).stderr.count("\n") == 1


def test_a_truncated_part(pillion, parts):
    whole = parts[1].read_bytes()
    for size in (len(whole) - 4096, 2000, 30, 0):
        parts[1].write_bytes(whole[:size])
        for part in parts:
            raises(pillion, part, "ModelFileError", "m-00002-of-00003.gguf")
    parts[1].write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    raises(pillion, parts[0], "ModelFileError", "m-00002-of-00003.gguf", "Git LFS pointer")


@pytest.mark.parametrize(
    "name",
    ["model.gguf", "m-1-of-3.gguf", "m-000002-of-000003.gguf", "m-00002-of-00003.gguf.bak", "a"],
)
def test_a_renamed_part(pillion, parts, name):
    other = parts[1].rename(parts[1].with_name(name))
    raises(
        pillion,
        other,
        "UnsupportedModelError",
        "part 2 of 3",
        "does not end in -00002-of-00003.gguf",
    )
    raises(pillion, parts[0], "ModelNotFoundError", "m-00002-of-00003.gguf")


@pytest.mark.parametrize("number, of", [(0, 3), (3, 3), (4, 3), (2, 4), (2, 0), (99999, 99999)])
def test_a_part_with_the_name_of_another(pillion, parts, number, of):
    name = parts[1].with_name(f"m-{number:05d}-of-{of:05d}.gguf")
    if name.exists():
        name.unlink()
    other = parts[1].rename(name)
    raises(
        pillion,
        other,
        "ModelFileError",
        f"named part {number} of {of}" if of else "does not end in",
        "part 2 of 3",
    )


def test_two_parts_have_changed_places(pillion, parts):
    parts[1].rename(parts[1].with_name("x"))
    parts[2].rename(parts[1])
    parts[1].with_name("x").rename(parts[2])
    for part, words in ((parts[0], "part 2 of 3"), (parts[1], "named part 2 of 3")):
        raises(pillion, part, "ModelFileError", words, "header says part 3 of 3")


def test_a_whole_model_in_the_place_of_a_part(pillion, parts):
    shutil.copy(E2B, parts[2])
    raises(pillion, parts[0], "ModelFileError", "m-00003-of-00003.gguf", "no part of a split model")
    assert text(pillion, parts[2]) == text(pillion, E2B)  # whatever it is called


def part(folder, number, of, keys=(), tensors=(), told=None):
    count = [kv("split.tensors.count", I32, told)] if told is not None else []
    raw = build(
        [*keys, kv("split.no", U16, number - 1), kv("split.count", U16, of), *count], list(tensors)
    )
    path = folder / f"m-{number:05d}-of-{of:05d}.gguf"
    path.write_bytes(raw)
    return path


def test_parts_of_different_models(pillion, tmp_path):
    one = part(tmp_path, 1, 2, [kv("general.name", STR, "A")], [("a", "F32", [4])], told=2)
    for keys, tensors, told, words in [
        (
            [kv("general.name", STR, "B")],
            [("b", "F32", [4])],
            2,
            ("key general.name differs from that of m-00001-of-00002.gguf",),
        ),
        ([kv("general.name", U32, 1)], [("b", "F32", [4])], 2, ("key general.name differs",)),
        ([], [("a", "F32", [4])], 2, ("tensor a is also in m-00001-of-00002.gguf",)),
        (
            [],
            [("b", "F32", [4]), ("c", "F32", [4])],
            2,
            ("split.tensors.count: 2, but the 2 parts hold 3 tensors",),
        ),
        ([], [("b", "F32", [4])], 3, ("split.tensors.count: 3, but the 2 parts hold 2",)),
        ([], [("b", "F32", [4])], -1, ("split.tensors.count: -1",)),
    ]:
        part(tmp_path, 2, 2, keys, tensors, told)
        raises(pillion, one, "ModelFileError", *words, "different models")


def test_keys_in_other_parts(pillion, tmp_path):
    """The same again is fine, and one that only another part has is the model's too."""
    from pillion.inspection import read_header

    one = part(tmp_path, 1, 2, [kv("general.name", STR, "A")], [("a", "F32", [4])])
    part(tmp_path, 2, 2, [kv("general.name", STR, "A"), kv("x", F32, 1.5)], [("b", "F32", [4])])
    assert read_header(one)["metadata"] == {"general.name": "A", "x": 1.5}


@pytest.mark.parametrize(
    "keys, words",
    [
        ([kv("split.count", U16, 3)], "key split.no is missing"),
        ([kv("split.count", U16, 3), kv("split.no", U16, 3)], "split.no: 3, but split.count is 3"),
        ([kv("split.count", U16, 3), kv("split.no", I32, -1)], "split.no: -1 is outside 0 to"),
        ([kv("split.count", I32, -3)], "split.count: -3 is outside 0 to 99999"),
        ([kv("split.count", U64, 2**64 - 1)], "split.count: 18446744073709551615 is outside"),
        ([kv("split.count", U32, 100000)], "split.count: 100000 is outside"),
        ([kv("split.count", STR, "3")], "split.count: it is a string, expected an integer"),
        ([kv("split.count", F32, 3.0)], "split.count: it is a f32"),
        ([kv("split.count", U16, 3), kv("split.no", STR, "a")], "split.no: it is a string"),
        ([kv("split.count", U16, 65535), kv("split.no", U16, 1)], "is missing (and 65533 more)"),
    ],
)
def test_split_keys_that_cannot_be(pillion, tmp_path, keys, words):
    name = "m-00002-of-65535.gguf" if "65533" in words else "m-00001-of-00003.gguf"
    (tmp_path / name).write_bytes(build(keys, [("a", "F32", [4])]))
    raises(pillion, tmp_path / name, "ModelFileError", words)


@pytest.mark.parametrize("counts", [[0], [1], [0, 1]])
def test_one_part_alone_is_a_model(pillion, tmp_path, counts):
    """As llama.cpp leaves it after joining (0) and for a model that fits one part (1)."""
    for count in counts:
        path = remade(E2B, tmp_path / "a.gguf")
        reader = gguf.GGUFReader(path)
        assert "split.count" not in reader.fields
        raw = path.read_bytes()
        n_keys = struct.unpack_from("<Q", raw, 16)[0]
        key = kv("split.count", U16, count) + kv(
            "x", STR, "p" * (32 - (len(kv("split.count", U16, 0)) + len(kv("x", STR, ""))) % 32)
        )
        path.write_bytes(raw[:16] + struct.pack("<Q", n_keys + 2) + key + raw[24:])
        assert text(pillion, path) == text(pillion, E2B)


def test_cat_of_the_wrong_parts(pillion, parts, tmp_path):
    raw = [path.read_bytes() for path in parts]
    for pieces, words in [
        ([raw[0], raw[2]], "part 2 of 3 is missing"),
        ([raw[0], raw[1], raw[1]], "part 2 of 3 occurs twice"),
        ([raw[0], raw[1], raw[2][:-4096]], "download may be incomplete"),
    ]:
        (tmp_path / "cat.gguf").write_bytes(b"".join(pieces))
        raises(pillion, tmp_path / "cat.gguf", "UnsupportedModelError", "joined by cat")
        with pytest.raises(pillion.ModelFileError) as caught:
            pillion.join(tmp_path / "cat.gguf", tmp_path / "out.gguf")
        assert words in str(caught.value) and not (tmp_path / "out.gguf").exists(), caught.value


# ---- links ----


def test_a_cache_of_links(pillion, parts, tmp_path):
    """Names in one folder, bytes under others in another, as the Hugging Face cache has them; and
    links to such links."""
    blobs, snapshot, mine = tmp_path / "blobs", tmp_path / "snapshots", tmp_path / "mine"
    for folder in (blobs, snapshot, mine):
        folder.mkdir()
    for number, path in enumerate(parts):
        path.rename(blobs / f"{number}a7f")
        (snapshot / path.name).symlink_to(f"../blobs/{number}a7f")
    expected = text(pillion, E2B)
    assert all(text(pillion, snapshot / path.name) == expected for path in parts)
    (mine / "model.gguf").symlink_to(snapshot / parts[1].name)  # another name, in another folder
    assert text(pillion, mine / "model.gguf") == expected
    (mine / parts[0].name).symlink_to(os.path.relpath(snapshot / parts[0].name, mine))
    assert text(pillion, mine / parts[0].name) == expected
    with pillion.Model.open(mine / parts[0].name, metadata_only=True) as model:
        assert model.files == [
            str(mine / parts[0].name),
            *(str(mine / os.path.relpath(snapshot, mine) / p.name) for p in parts[1:]),
        ]
    (mine / "loop.gguf").symlink_to("loop.gguf")
    raises(pillion, mine / "loop.gguf", "ModelNotFoundError")


def test_the_links_own_folder_counts_first(pillion, parts, tmp_path):
    """Beside a link lie other bytes than beside its target: the names that the user sees decide."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / parts[0].name).symlink_to(parts[0])
    for path in parts[1:]:
        shutil.copy(path, mine)
    parts[1].write_bytes(b"damaged")
    assert text(pillion, mine / parts[0].name) == text(pillion, E2B)


def test_a_drafter_beside_links(pillion, tmp_path, tiny_target):
    from pillion.models import TINY_ASSISTANT

    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots"
    blobs.mkdir(), snapshot.mkdir()
    for source, name in ((tiny_target, "t"), (TINY_ASSISTANT, "a")):
        for number, path in enumerate(
            pillion.split(source, tmp_path / name, max_tensors=60 if name == "t" else 20)
        ):
            os.rename(path, blobs / f"{name}{number}")
            (snapshot / os.path.basename(path)).symlink_to(f"../blobs/{name}{number}")
    found = pillion.find_drafter(next(snapshot.glob("t-00002*")))
    assert found is not None and found.name.startswith("a-00001") and found.parent == snapshot


def test_a_prefix_needs_a_name(pillion, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for prefix in (".", "..", "out/", "out/.", f"{tmp_path}/out/"):
        with pytest.raises(pillion.UsageError, match="is a folder; it must end in the name"):
            pillion.split(E2B, prefix, max_tensors=40)
        result = command("split", E2B, prefix, "--max-tensors", 40)
        assert result.returncode == 1 and "is a folder" in result.stderr, result.stderr
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


def test_limits_are_named_as_options():
    result = command("split", E2B, "never", "--max-size", "4GB")
    assert result.returncode == 1 and "--max-size is '4GB'" in result.stderr, result.stderr


@pytest.mark.parametrize("kind", ["FIFO", "link to a FIFO", "folder"])
def test_only_files_are_replaced(pillion, parts, tmp_path, kind):
    """A rename would put a file in the place of a device."""
    out = tmp_path / "out" / "m-00002-of-00002.gguf"
    (tmp_path / "out").mkdir()
    if kind == "folder":
        out.mkdir()
    else:
        place = tmp_path / "fifo" if kind != "FIFO" else out
        os.mkfifo(place)
        if place != out:
            out.symlink_to(place)
    before = os.lstat(out).st_ino, os.lstat(out).st_mode
    n_tensors = len(gguf.GGUFReader(E2B).tensors)
    model = pillion.Model.open(E2B)
    for write in [
        lambda: pillion.join(parts[0], out),
        lambda: pillion.split(parts[0], tmp_path / "out" / "m", max_tensors=n_tensors - 1),
        lambda: pillion.quantize(E2B, out, "Q8_0"),
        lambda: pillion.imatrix(model, "In the beginning " * 400, out),
    ]:
        with pytest.raises(pillion.UsageError, match="regular file|director|folder"):
            write()
        assert (os.lstat(out).st_ino, os.lstat(out).st_mode) == before
        assert list(out.parent.iterdir()) == [out]
