"""What a header may hold that no model needs: types, tensors and keys that pillion does not know,
and keys that are not text."""

import json
import logging
import struct
import subprocess
import sys

import numpy as np
import pytest
from build import REPOSITORY
from gguf_bytes import ARR, STR, U32, build, kv
from made_files import remade
from model_headers import PLAIN, entries, gemma4

E2B = REPOSITORY / "tests" / "golden" / "tiny-e2b.gguf"
UNKNOWN = {
    4: "type 4 (Q4_2)",
    33: "type 33 (Q4_0_8_8)",
    38: "type 38 (IQ4_NL_8_8)",
    41: "type 41",
    200: "type 200",  # a number that stands for a form of weights in memory, in no file
    1000: "type 1000",
}


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pillion", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def inspect(pillion):
    from pillion.inspection import inspect_file

    return inspect_file


# ---- types ----


def with_type(source, path, name, kind):
    """A copy whose tensor `name` claims to be of type `kind`."""
    raw = bytearray(source.read_bytes())
    at = raw.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
    n_dims = struct.unpack_from("<I", raw, at)[0]
    struct.pack_into("<I", raw, at + 4 + 8 * n_dims, kind)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("kind", UNKNOWN)
def test_an_unknown_type_shows_the_header(pillion, inspect, tmp_path, kind):
    """Only running is refused, by tensor and type."""
    path = with_type(E2B, tmp_path / "a.gguf", "blk.1.ffn_up.weight", kind)
    whole, facts = inspect(E2B, tensors=True), inspect(path, tensors=True)
    sentence = f"tensor blk.1.ffn_up.weight has {UNKNOWN[kind]}, which is not supported"
    assert (facts["runnable"], facts["reason"], facts["memory"]) == (False, sentence, [])
    for name in ("model", "tokenizer", "metadata"):
        assert facts[name] == whole[name]
    named = {one["name"]: one for one in facts["tensors"]}
    shown = UNKNOWN[kind].partition("(")[2].rstrip(")") or UNKNOWN[kind]
    assert (
        named["blk.1.ffn_up.weight"]["type"] == shown
        and facts["file"]["tensor_types"][shown]["tensors"] == 1
    )
    with pillion.Model.open(path, metadata_only=True) as model:
        assert (
            sentence in model.describe()["problems"] and model.n_params == whole["file"]["n_params"]
        )
        with pytest.raises(pillion.UnsupportedModelError, match="has type"):
            model.memory(64)
    for call in (lambda: pillion.Model.open(path), lambda: pillion.LLM(path)):
        with pytest.raises(pillion.UnsupportedModelError) as caught:
            call()
        assert sentence in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(
        pillion.UnsupportedModelError,
        match=r"blk.1.ffn_up.weight has type .*can't be read for quantizing",
    ):
        pillion.quantize(path, None, "Q8_0")
    done = command("inspect", path, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["reason"] == sentence
    done = command("inspect", path)
    assert done.returncode == 0 and f"cannot be run: {sentence}" in done.stdout


@pytest.mark.parametrize(
    "name",
    ["token_embd.weight", "output_norm.weight", "rope_freqs.weight", "per_layer_token_embd.weight"],
)
def test_wherever_it_stands(pillion, inspect, tmp_path, name):
    path = with_type(E2B, tmp_path / "a.gguf", name, 1000)
    facts = inspect(path)
    assert (
        facts["reason"] == f"tensor {name} has type 1000, which is not supported"
        and facts["model"]["n_layers"] > 0
    )
    with pytest.raises(pillion.UnsupportedModelError, match=f"tensor {name} has type 1000"):
        pillion.Model.open(path)


def test_an_unknown_type_that_nothing_reads(pillion, tmp_path):
    """The model runs without it."""
    path = remade(E2B, tmp_path / "a.gguf", tensors={"v.a": (np.ones((2, 32), np.float32), "F32")})
    with_type(path, tmp_path / "b.gguf", "v.a", 1000)
    with (
        pillion.LLM(E2B, n_ctx=64, drafter=None) as one,
        pillion.LLM(tmp_path / "b.gguf", n_ctx=64, drafter=None) as two,
    ):
        texts = [
            llm.complete([2, 5, 6], max_tokens=6, temperature=0)["choices"][0]["text"]
            for llm in (one, two)
        ]
    assert texts[0] == texts[1]


def test_an_unknown_type_in_an_assistant(pillion, inspect, tmp_path):
    """The centroids: the dense head is used, as with every other type that they can't have."""
    golden = REPOSITORY / "tests" / "golden" / "tiny-e2b-assistant.gguf"
    for name in ("masked_embd_centroids.weight", "masked_embd_ordering"):
        if name.encode() in golden.read_bytes():
            facts = inspect(with_type(golden, tmp_path / "a.gguf", name, 1000))
            assert (
                facts["drafter"]["head"] == "dense"
                and "is not supported here" in facts["drafter"]["head_problem"]
            )
    facts = inspect(with_type(golden, tmp_path / "b.gguf", "blk.0.attn_q.weight", 41))
    assert facts["reason"] == "tensor blk.0.attn_q.weight has type 41, which is not supported"


# ---- what is not used ----


@pytest.fixture
def foreign(tmp_path):
    """A text model with the tensors and keys of a vision encoder."""
    meta, tensors = gemma4(**PLAIN)
    meta |= {f"clip.vision.key{i}": i for i in range(40)} | {
        f"gemma4.vision.key{i}": i for i in range(20)
    }
    tensors = [*tensors, *((f"v.blk.{i}.attn_q.weight", "F32", [4]) for i in range(1401))]
    path = tmp_path / "a.gguf"
    path.write_bytes(build(entries(meta), tensors))
    return path


def test_foreign_tensors_are_one_warning(pillion, inspect, foreign, caplog):
    with caplog.at_level(logging.DEBUG, "pillion"):
        facts = inspect(foreign)
    said = "1401 tensors are unknown and not used, such as v.blk.0.attn_q.weight"
    assert caplog.records == [] and [w for w in facts["warnings"] if "not used" in w] == [
        said,
        "60 keys are not used, such as gemma4.vision.key0",
    ]
    assert facts["unused"]["tensors"] == {
        "count": 1401,
        "first": [f"v.blk.{i}.attn_q.weight" for i in range(8)],
    }
    assert facts["unused"]["keys"]["count"] == 60
    assert len(json.dumps(facts)) < 20000
    complete = inspect(foreign, tensors=True)
    assert len(complete["unused"]["tensors"]) == 1401 and len(complete["unused"]["keys"]) == 60
    with caplog.at_level(logging.DEBUG, "pillion"), pillion.Model.open(foreign) as model:
        assert (
            said in model.describe()["warnings"]
            and len(model.describe()["unknown_tensors"]) == 1401
        )
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
    assert caplog.records[0].getMessage() == f"{foreign}: {said}"
    done = command("inspect", foreign)
    assert done.returncode == 0 and done.stdout.count("not used") == 2 and done.stderr == ""


def test_a_few_are_named(inspect, tmp_path):
    meta, tensors = gemma4(**PLAIN)
    for n, words in (
        (1, "tensor x.0 is unknown"),
        (3, "tensors x.0, x.1, x.2 are unknown"),
        (4, "4 tensors are unknown"),
    ):
        (tmp_path / "a.gguf").write_bytes(
            build(entries(meta), [*tensors, *((f"x.{i}", "F32", [4]) for i in range(n))])
        )
        assert [w for w in inspect(tmp_path / "a.gguf")["warnings"] if words in w]


def test_many_problems_are_one_warning(inspect, tmp_path):
    meta, tensors = gemma4(**PLAIN)
    (tmp_path / "a.gguf").write_bytes(build(entries(meta), tensors[:1]))
    facts = inspect(tmp_path / "a.gguf")
    assert (
        len([w for w in facts["warnings"] if "missing, expected" in w]) == 1
        and "more like it)" in facts["warnings"][0]
    )


# ---- keys that are no text ----

ODD_KEYS = [
    b"a\xff",
    b"a\xfe",
    "a\ufffd".encode(),
    "a\ufffd (2)".encode(),
    b"a\0b",
    b"a\0",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"k" * 65535,
    "é.\u2028".encode(),
    b'q"\\\n',
    b" ",
    b"\x1b[31m",
]


@pytest.fixture
def odd(tmp_path):
    meta, tensors = gemma4(**PLAIN)
    extra = [kv(key, U32, number) for number, key in enumerate(ODD_KEYS)]
    extra += [kv(b"text\xff", STR, b"v\xff\0w"), kv(b"list\xff", ARR, [b"\xff", b"x\0"], STR)]
    name = b"blk\xff.weight"
    path = tmp_path / "a.gguf"
    path.write_bytes(
        build(
            [*entries(meta), *extra],
            [*tensors, (name, "F32", [4]), (b"blk\xfe.weight", "F32", [4])],
        )
    )
    return path


def test_every_key_can_be_read(pillion, odd):
    with pillion.Model.open(odd, metadata_only=True) as model:
        found = dict(model.metadata)
        numbers = [
            value
            for key, value in found.items()
            if isinstance(value, int) and value < len(ODD_KEYS) and "gemma" not in key
        ]
        assert [n for n in numbers if n in range(len(ODD_KEYS))] == list(range(len(ODD_KEYS)))
        assert all(
            model.metadata[key] == value and key in model.metadata for key, value in found.items()
        )
        for key in found:
            key.encode("utf-8")
            assert "\0" not in key
        assert found["a\ufffd"] == 2 and found["a\ufffd (2)"] == 3  # what is text keeps its name
        assert (
            found["k" * 65535] == 8
            and found["text\ufffd"] == "v\ufffd\0w"
            and found["list\ufffd"] == ["\ufffd", "x\0"]
        )
        assert len(found) == len(model.metadata) and "a" not in found and "a" not in model.metadata
        assert model.describe()["metadata"].keys() == found.keys()
        with pytest.raises(KeyError):
            model.metadata["a\udcff"]


def test_every_key_is_in_the_json(inspect, odd):
    done = command("inspect", odd, "--json", "--tensors")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts == json.loads(json.dumps(inspect(odd, tensors=True)))
    assert set(range(len(ODD_KEYS))) <= {
        value for value in facts["metadata"].values() if isinstance(value, int)
    }
    assert [one["name"] for one in facts["tensors"][-2:]] == ["blk\ufffd.weight"] * 2
    done = command("inspect", odd)
    assert (
        done.returncode == 0
        and "\x1b" not in done.stdout
        and max(map(len, done.stdout.splitlines())) < 400
    )


def test_a_long_value_from_c(pillion, tmp_path):
    """Keys by their bytes, as C programs know them."""
    meta, tensors = gemma4(**PLAIN)
    (tmp_path / "a.gguf").write_bytes(
        build([*entries(meta), kv(b"a\xff", STR, "x" * 100000)], tensors)
    )
    from pillion._native import lib, read_bytes

    with pillion.Model.open(tmp_path / "a.gguf", metadata_only=True) as model:
        for key in (b"a\xff", "a\ufffd".encode()):
            raw = read_bytes(lambda *out, key=key: lib.pillion_model_metadata(model._c, key, *out))
            assert raw == b"x" * 100000
