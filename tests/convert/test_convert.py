"""`pillion convert`: tiny checkpoints of every shape become the golden files, and what is wrong
with a checkpoint is one sentence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from broken_writes import check_ctrl_c, check_full_disk, peak_mb
from made_files import remade
from safetensors import safe_open
from safetensors.numpy import save_file

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CHECKPOINTS = GOLDEN / "checkpoints"
NAMES = sorted(path.name for path in CHECKPOINTS.iterdir())
TINY_PAIR = GOLDEN.parent / "tiny-pair"


@pytest.fixture(scope="module")
def convert(pillion):
    from pillion.convert import convert

    return convert


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of a checkpoint that a test may spoil."""

    def copy(name="tiny-llama"):
        return Path(shutil.copytree(CHECKPOINTS / name, tmp_path / "checkpoint"))

    return copy


def read(folder):
    """{name: raw array} and the file's path; for types NumPy knows."""
    path = folder / "model.safetensors"
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, path


def raw_tensors(folder):
    """{name: (type, shape, bytes)} and the file's path; for every type."""
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    entries = {name: e for name, e in json.loads(raw[8:begin]).items() if name != "__metadata__"}
    spans = {name: e["data_offsets"] for name, e in entries.items()}
    return {
        name: (e["dtype"], e["shape"], raw[begin + spans[name][0] : begin + spans[name][1]])
        for name, e in entries.items()
    }, path


def write_raw(tensors, path):
    """The other way."""
    entries, data = {}, b""
    for name, (kind, shape, raw) in tensors.items():
        entries[name] = {
            "dtype": kind,
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    found = json.dumps(entries).encode()
    path.write_bytes(len(found).to_bytes(8, "little") + found + data)


def change_json(folder, name, **changes):
    path = folder / name
    content = json.loads(path.read_text("utf-8"))
    for key, value in changes.items():
        if value is None:
            content.pop(key, None)
        else:
            content[key] = value
    path.write_text(json.dumps(content), "utf-8")


def fields(path):
    return {
        name: field.contents()
        for name, field in gguf.GGUFReader(path).fields.items()
        if not name.startswith("GGUF.")
    }


# ---- what comes out ----


def test_all_shapes_are_there():
    assert {
        "tiny-dense",
        "tiny-e2b",
        "tiny-e4b-dims",
        "tiny-gemma3",
        "tiny-llama",
        "tiny-moe",
    } <= set(NAMES) and len(NAMES) == 10


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_become_the_golden_files(convert, tmp_path, name):
    """Bytes of the files that test_goldens.py and test_pair_tiny.py compare with transformers."""
    report = convert(CHECKPOINTS / name, tmp_path / "out.gguf", name=name)
    assert (tmp_path / "out.gguf").read_bytes() == (GOLDEN / f"{name}.gguf").read_bytes()
    assert report.bytes == (tmp_path / "out.gguf").stat().st_size and not report.skipped
    assert [path.name for path in tmp_path.iterdir()] == ["out.gguf"]


@pytest.mark.parametrize("part", ["target", "assistant"])
def test_the_embedded_pair_is_made_by_this_command(pillion, tmp_path, part):
    from pillion import models

    out = tmp_path / "out.gguf"
    command = [
        sys.executable,
        "-m",
        "pillion",
        "convert",
        TINY_PAIR / part,
        "-o",
        out,
        "--name",
        f"pillion tiny {part}",
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert "tensors, bf16" in result.stdout
    embedded = models.TINY_TARGET if part == "target" else models.TINY_ASSISTANT
    assert out.read_bytes() == embedded.read_bytes()


@pytest.mark.parametrize(
    "name", ["tiny-e2b", "tiny-e2b-assistant", "tiny-moe", "tiny-gemma3", "tiny-llama"]
)
@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "q8_0"])
def test_every_type(pillion, convert, tmp_path, name, outtype):
    out = tmp_path / "out.gguf"
    report = convert(CHECKPOINTS / name, out, outtype=outtype)
    assert (
        report.outtype == outtype
        and fields(out)["general.file_type"] == {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}[outtype]
    )
    exact = {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type)
        for t in gguf.GGUFReader(GOLDEN / f"{name}.gguf").tensors
    }
    kinds = set()
    for t in gguf.GGUFReader(out).tensors:
        values, want = gguf.quants.dequantize(t.data, t.tensor_type), exact.pop(t.name)
        if len(t.shape) < 2 or "norm" in t.name or "ffn_gate_inp" in t.name:
            assert t.tensor_type.name == "F32" and np.array_equal(values, want), t.name
            continue
        kinds.add(t.tensor_type.name)
        if outtype == "q8_0" and t.tensor_type.name == "Q8_0":
            assert (
                t.data.tobytes()
                == gguf.quants.quantize(want, gguf.GGMLQuantizationType.Q8_0).tobytes()
            ), t.name
        else:
            step = {"f32": 0, "f16": 2**-11, "bf16": 2**-8, "q8_0": 2**-11}[outtype]
            assert np.all(np.abs(values - want) <= step * np.abs(want) + 2**-25), t.name
    assert not exact and kinds <= {outtype.upper(), "F16"}
    with pillion.Model.open(out) as model:
        if not model.is_drafter:
            with model.context(64) as context:
                context.prefill([2, 5, 6])
                assert np.isfinite(context.logits()).all()


def test_auto_is_the_checkpoint_s_type(convert, tmp_path):
    assert convert(CHECKPOINTS / "tiny-e2b", tmp_path / "a.gguf").outtype == "bf16"
    assert convert(CHECKPOINTS / "tiny-moe", tmp_path / "b.gguf").outtype == "f16"


def test_shards(convert, checkpoint, tmp_path):
    folder = checkpoint()
    tensors, path = read(folder)
    names = sorted(tensors)
    path.unlink()
    shards = {}
    for number, part in enumerate((names[::3], names[1::3], names[2::3]), 1):
        shard = f"model-{number:05}-of-00003.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard)
        shards.update(dict.fromkeys(part, shard))
    for index in (False, True):
        if index:
            (folder / "model.safetensors.index.json").write_text(
                json.dumps({"metadata": {}, "weight_map": shards})
            )
        convert(folder, tmp_path / "out.gguf", name="tiny-llama")
        found = {t.name: t.data.tobytes() for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
        assert found == {
            t.name: t.data.tobytes() for t in gguf.GGUFReader(GOLDEN / "tiny-llama.gguf").tensors
        }
    from pillion import ModelFileError, ModelNotFoundError

    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {**shards, "model.extra": shards[names[0]]}})
    )
    with pytest.raises(
        ModelFileError, match="the index names tensor model.extra, which no shard holds"
    ):
        convert(folder, tmp_path / "none.gguf")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (folder / "model-00002-of-00003.safetensors").unlink()
    for index in (True, False):
        if not index:
            (folder / "model.safetensors.index.json").unlink()
        with pytest.raises(
            ModelNotFoundError, match="1 of 3 shards are missing: model-00002-of-00003.safetensors"
        ):
            convert(folder, tmp_path / "none.gguf")
    assert not (tmp_path / "none.gguf").exists()


@pytest.mark.parametrize(
    "kind, name", [("gemma4", "tiny-moe"), ("gemma4", "tiny-e2b"), ("gemma4_unified", "tiny-dense")]
)
def test_multimodal_checkpoints(convert, checkpoint, tmp_path, kind, name):
    """The text model under its prefix, config under text_config, towers left out and said so."""
    folder = checkpoint(name)
    renamed, path = raw_tensors(folder)
    towers = {
        "model.vision_tower.patch.weight": ("F16", [4, 4], bytes(32)),
        "model.embed_audio.x": ("F32", [3], bytes(12)),
    }
    renamed = {
        name.replace("model.", "model.language_model.", 1): part for name, part in renamed.items()
    }
    write_raw({**renamed, **towers}, path)
    text = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({"model_type": kind, "text_config": text, "vision_config": {}})
    )
    report = convert(folder, tmp_path / "out.gguf", name=name)
    assert report.skipped == {"vision and audio, which --mmproj writes into a file of their own": 2}
    mask = {"gemma4.attention.image_bidirectional": name != "tiny-e2b"}
    assert fields(tmp_path / "out.gguf") == fields(GOLDEN / f"{name}.gguf") | mask
    found, golden = gguf.GGUFReader(tmp_path / "out.gguf"), gguf.GGUFReader(GOLDEN / f"{name}.gguf")
    assert [(t.name, t.tensor_type, t.data.tobytes()) for t in found.tensors] == [
        (t.name, t.tensor_type, t.data.tobytes()) for t in golden.tensors
    ]


def test_masked_embedding_is_optional(pillion, convert, tmp_path):
    source = CHECKPOINTS / "tiny-e2b-assistant"
    convert(source, tmp_path / "with.gguf")
    report = convert(source, tmp_path / "without.gguf", masked_embedding=False)
    assert report.skipped == {"centroid head, not wanted": 2}
    heads = []
    for name in ("with", "without"):
        with (
            pillion.Model.open(GOLDEN / "tiny-e2b.gguf") as target,
            pillion.Pair(target, tmp_path / f"{name}.gguf") as pair,
        ):
            heads.append(pair.stats.head)
    assert heads == ["centroid", "dense"]


@pytest.mark.parametrize("suffix", ["", ".weight"])
@pytest.mark.parametrize("kind", [np.float32, np.int32, None])
def test_files_of_llama_cpp_s_converter(pillion, tmp_path, kind, suffix):
    """Older conversions hold the two tensors, the ordering as F32; today's hold neither."""
    source = GOLDEN / "tiny-e2b-assistant.gguf"
    keys, prefix = fields(source), "gemma4-assistant.masked_embedding"
    extra = []
    if kind is not None:
        centroids = np.array(keys[f"{prefix}.centroids"], np.float32).reshape(
            keys[f"{prefix}.num_centroids"], -1
        )
        extra = [
            ("masked_embd_centroids.weight", centroids),
            (f"masked_embd_ordering{suffix}", np.array(keys[f"{prefix}.token_ordering"], kind)),
        ]
    gone = dict.fromkeys(key for key in keys if "masked_embedding" in key)
    remade(source, tmp_path / "out.gguf", gone, raw=extra)
    with (
        pillion.Model.open(GOLDEN / "tiny-e2b.gguf") as target,
        pillion.Pair(target, tmp_path / "out.gguf") as pair,
    ):
        assert pair.stats.head == ("dense" if kind is None else "centroid")


def test_tokenizer_and_metadata(pillion, convert, checkpoint, tmp_path):
    folder = checkpoint("tiny-e2b")
    (folder / "generation_config.json").write_text(
        '{"top_k": 64, "top_p": 0.95, "temperature": 1.0, "suppress_tokens": [7, 9]}'
    )
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    out = tmp_path / "out.gguf"
    convert(folder, out)
    keys = fields(out)
    assert (
        keys["general.name"] == "checkpoint" and keys["tokenizer.chat_template"] == "{{ messages }}"
    )
    assert (keys["general.sampling.top_k"], keys["general.sampling.temp"]) == (64, 1.0)
    assert keys["general.sampling.top_p"] == pytest.approx(0.95)
    assert (
        keys["tokenizer.ggml.suppress_tokens"] == [7, 9]
        and keys["tokenizer.ggml.model"] == "gemma4"
    )
    kinds = dict(zip(keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]))
    assert (
        kinds["<bos>"] == 3
        and kinds["<0x0A>"] == 6
        and kinds["<|tool_call>"] == 4
        and kinds["▁"] == 1
    )
    with pillion.Model.open(out, metadata_only=True) as model:
        assert model.tokenizer.suppressed_tokens == [7, 9] or set(
            model.tokenizer.suppressed_tokens
        ) == {7, 9}
        assert {model.tokenizer.token_text(t) for t in model.tokenizer.end_tokens} >= {
            "<eos>",
            "<turn|>",
        }


# ---- what is wrong ----


def broken_config(**changes):
    return lambda folder: change_json(folder, "config.json", **changes)


def with_tensor(change):
    def spoil(folder):
        tensors, path = read(folder)
        change(tensors)
        save_file(tensors, path)

    return spoil


def cut(bytes_left):
    def spoil(folder):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:bytes_left])

    return spoil


def in_shards(shard):
    """An index that names this file for every tensor."""

    def spoil(folder):
        (folder / "model.safetensors").unlink()
        index = json.dumps({"weight_map": {GATE: shard}})
        (folder / "model.safetensors.index.json").write_text(index)

    return spoil


def text(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def header(change):
    """The header of the safetensors file, changed: a new JSON text, or None for the changed
    object."""

    def spoil(folder):
        path = folder / "model.safetensors"
        raw = path.read_bytes()
        end = 8 + int.from_bytes(raw[:8], "little")
        found = json.loads(raw[8:end])
        new = change(found) or json.dumps(found).encode()
        path.write_bytes(len(new).to_bytes(8, "little") + new + raw[end:])

    return spoil


def offsets(begin):
    def change(found):
        first, last = found[GATE]["data_offsets"]
        found[GATE]["data_offsets"] = (
            [begin, begin + last - first] if begin != float("inf") else [begin, begin]
        )

    return header(change)


def put(name, index, value):
    def change(tensors):
        tensors[name] = tensors[name].copy()
        tensors[name][index] = value

    return with_tensor(change)


GATE = "model.layers.1.mlp.gate_proj.weight"
WRONG = {
    "unknown class": (
        broken_config(model_type="mamba", architectures=["MambaForCausalLM"]),
        "UnsupportedModelError",
        "'mamba' .class MambaForCausalLM",
    ),
    "another head": (
        broken_config(architectures=["LlamaForSequenceClassification"]),
        "UnsupportedModelError",
        "LlamaForSequenceClassification writes no text",
    ),
    "missing key": (
        broken_config(hidden_size=None),
        "ModelFileError",
        r"shape \[512, 64\], config.json makes it \[512, 4096\]",
    ),
    "no kind": (
        broken_config(model_type=None),
        "ModelFileError",
        "config.json has no 'model_type'",
    ),
    "no config": (
        lambda folder: (folder / "config.json").unlink(),
        "ModelNotFoundError",
        "config.json: no such file",
    ),
    "broken config": (
        lambda folder: (folder / "config.json").write_text("{"),
        "ModelFileError",
        "config.json",
    ),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        "ModelNotFoundError",
        "tokenizer.json",
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "ModelNotFoundError",
        "no .*safetensors",
    ),
    "cut weights": (cut(150_000), "ModelFileError", "cut off"),
    "cut header": (cut(100), "ModelFileError", "cut off"),
    "empty": (cut(0), "ModelFileError", "cut off"),
    "nan": (put(GATE, (3, 5), np.nan), "ModelFileError", f"{GATE}, row 3, column 5 is nan"),
    "infinite": (put(GATE, (0, 1), np.inf), "ModelFileError", "row 0, column 1 is inf"),
    "missing tensor": (
        with_tensor(lambda t: t.pop(GATE)),
        "ModelFileError",
        f"tensor {GATE} is missing",
    ),
    "wrong shape": (
        with_tensor(lambda t: t.update({GATE: t[GATE][:-1].copy()})),
        "ModelFileError",
        rf"{GATE} has shape \[95, 64\], config.json makes it \[96, 64\]",
    ),
    "unknown tensor": (
        with_tensor(lambda t: t.update({"model.layers.0.adapter.weight": t[GATE].copy()})),
        "UnsupportedModelError",
        "adapter",
    ),
    "integers": (
        with_tensor(lambda t: t.update({GATE: t[GATE].astype(np.int32)})),
        "ModelFileError",
        "integers",
    ),
    "other bytes": (
        with_tensor(lambda t: t.update({GATE: t[GATE].astype(np.int8)})),
        "ModelFileError",
        "type I8; f32, f16, bf16",
    ),
    "too few layers": (
        broken_config(num_hidden_layers=1),
        "ModelFileError",
        "tensor model.layers.1.+ has no place",
    ),
    "other vocabulary": (
        broken_config(vocab_size=7),
        "ModelFileError",
        "vocab_size is 7, the embedding table has 512 rows",
    ),
    "quantized": (
        broken_config(quantization_config={"bits": 4}),
        "UnsupportedModelError",
        "are quantized .*4 bits",
    ),
    "other activation": (
        broken_config(hidden_act="relu"),
        "UnsupportedModelError",
        "hidden_act 'relu'",
    ),
    "biases": (broken_config(attention_bias=True), "UnsupportedModelError", "sets attention_bias"),
    "a word for a number": (
        broken_config(intermediate_size="wide"),
        "ModelFileError",
        "intermediate_size the value 'wide', a whole",
    ),
    "a negative width": (
        broken_config(intermediate_size=-1),
        "ModelFileError",
        "intermediate_size the value -1",
    ),
    "rope without a base": (
        broken_config(rope_parameters={"rope_type": "linear"}),
        "ModelFileError",
        "config.json has no 'factor'",
    ),
    "an index that is a list": (
        lambda folder: (
            (folder / "model.safetensors").unlink(),
            (folder / "model.safetensors.index.json").write_bytes(b'{"weight_map": [1]}'),
        ),
        "ModelFileError",
        "does not describe",
    ),
    "a shard of ten billion": (
        lambda folder: (folder / "model.safetensors").rename(
            folder / "model-00001-of-9999999999.safetensors"
        ),
        "ModelFileError",
        "one of 9999999999",
    ),
    "a template that is no text": (
        text("chat_template.jinja", b"\xff\xfe{{"),
        "ModelFileError",
        "does not describe a llama model",
    ),
    "merges that are numbers": (
        lambda folder: change_json(
            folder, "tokenizer.json", model={"type": "BPE", "vocab": {"a": 0}, "merges": [1, 2]}
        ),
        "ModelFileError",
        "does not describe a llama model",
    ),
    "a setting that is a word": (
        text("generation_config.json", b'{"top_k": "many"}'),
        "ModelFileError",
        "key top_k is the string 'many'",
    ),
    "a temperature that is no number": (
        text("generation_config.json", b'{"temperature": NaN}'),
        "ModelFileError",
        "generation_config.json: key temperature is nan; it must be a finite number",
    ),
    "a temperature below 0": (
        text("generation_config.json", b'{"temperature": -1}'),
        "ModelFileError",
        "generation_config.json: key temperature: temperature is -1",
    ),
    "a top_k of ten billion": (
        text("generation_config.json", b'{"top_k": 10000000000}'),
        "ModelFileError",
        "generation_config.json: key top_k: top_k is 10000000000",
    ),
    "a BOS that is no token": (
        text("tokenizer_config.json", b'{"bos_token": "nope"}'),
        "ModelFileError",
        "a BOS token is to be added, and tokenizer_config.json's bos_token, 'nope', is no token",
    ),
    "weights that are a folder": (
        lambda folder: (
            (folder / "model.safetensors").unlink(),
            (folder / "model.safetensors").mkdir(),
        ),
        "ModelFileError",
        "model.safetensors: Is a directory",
    ),
    "a template that is a folder": (
        lambda folder: (
            (folder / "chat_template.jinja").unlink(missing_ok=True),
            (folder / "chat_template.jinja").mkdir(),
        ),
        "ModelFileError",
        "chat_template.jinja: Is a directory",
    ),
    "an index of folders": (in_shards("."), "ModelFileError", "checkpoint: Is a directory"),
    "an index of long names": (in_shards("a" * 5000), "ModelFileError", "a: File name too long"),
    "a name of two lines": (
        with_tensor(lambda t: t.update({"two\nlines": t[GATE].copy()})),
        "ModelFileError",
        r"a tensor's name is 'two\\nlines'",
    ),
    "no rows": (
        with_tensor(lambda t: t.update({GATE: t[GATE][:0].copy()})),
        "ModelFileError",
        rf"{GATE} has shape \[0, 64\], config.json makes it \[96, 64\]",
    ),
    "more layers than a number holds": (
        broken_config(num_hidden_layers=10**400),
        "ModelFileError",
        "num_hidden_layers the value 1000+…, a whole number from 1 to 1024 is needed",
    ),
    "a base more than a number holds": (
        broken_config(rms_norm_eps=10**400),
        "ModelFileError",
        "rms_norm_eps the value 1000+…, a number above 0 is needed",
    ),
    "deep JSON": (
        text("tokenizer.json", b"[" * 200_000),
        "ModelFileError",
        "tokenizer.json: maximum recursion",
    ),
    "deep header": (
        header(lambda _: b"[" * 200_000),
        "ModelFileError",
        "header is broken: maximum recursion",
    ),
    "begins before the data": (
        offsets(-4096),
        "ModelFileError",
        "begins 4096 bytes before the data",
    ),
    "begins nowhere": (offsets(float("inf")), "ModelFileError", "header is broken"),
    "heads beyond any memory": (
        broken_config(head_dim=10**12),
        "ModelFileError",
        "heads of size 1000000000000",
    ),
    "rope": (
        broken_config(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}),
        "UnsupportedModelError",
        "'yarn'",
    ),
}


@pytest.mark.parametrize(
    "name, changes, sentence",
    [
        ("tiny-dense", {"num_hidden_layers": 10**9}, "1000000000 layers and the types of 4"),
        (
            "tiny-dense",
            {"num_kv_shared_layers": 10**9, "use_double_wide_mlp": True},
            "1000000000 of 4 layers share",
        ),
        ("tiny-dense", {"head_dim": 10**12}, "heads of size 1000000000000"),
    ],
)
def test_counts_beyond_any_memory(pillion, convert, tmp_path, name, changes, sentence):
    """Nothing is made of a number before it was compared with what the checkpoint holds."""
    folder = Path(shutil.copytree(CHECKPOINTS / name, tmp_path / "checkpoint"))
    config = json.loads((folder / "config.json").read_text())
    config.get("text_config", config).update(changes)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(pillion.ModelFileError, match=sentence):
        convert(folder, tmp_path / "out.gguf")


@pytest.mark.parametrize("case", WRONG)
def test_bad_checkpoints(pillion, convert, checkpoint, tmp_path, case):
    spoil, kind, sentence = WRONG[case]
    folder = checkpoint()
    spoil(folder)
    out = tmp_path / "out.gguf"
    with pytest.raises(
        tuple(getattr(pillion, name) for name in kind.split("|")), match=sentence
    ) as caught:
        convert(folder, out)
    assert "\n" not in str(caught.value) and ".part" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_what_transformers_takes_makes_a_model(pillion, convert, checkpoint, tmp_path):
    """Empty tensors beside the model, links to nothing, tokens to suppress that do not exist, top_k
    off."""
    folder, out = checkpoint(), tmp_path / "out.gguf"
    tensors, path = raw_tensors(folder)
    write_raw({**tensors, "vision_tower.buffer": ("F32", [0, 4], b"")}, path)
    (folder / "dangling.bin").symlink_to(folder / "nothing")
    change_json(folder, "config.json", architectures="LlamaForCausalLM")
    settings = {"suppress_tokens": [-1, 7, 10**6], "top_k": -1}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    out.write_bytes(b"an older file")
    convert(folder, out)
    keys = fields(out)
    assert keys["tokenizer.ggml.suppress_tokens"] == [7] and keys["general.sampling.top_k"] == 0
    with pillion.LLM(out, device="cpu", n_ctx=32) as llm:
        assert llm.complete("a", max_tokens=2)["choices"]


def test_no_bos_at_all(pillion, convert, checkpoint, tmp_path):
    """Nothing names one, so none is added."""
    folder, out = checkpoint(), tmp_path / "out.gguf"
    change_json(folder, "config.json", bos_token_id=None)
    change_json(folder, "tokenizer_config.json", bos_token=None, add_bos_token=None)
    convert(folder, out)
    assert fields(out)["tokenizer.ggml.add_bos_token"] is False
    with pillion.Model.open(out, metadata_only=True) as model:
        assert model.tokenizer.encode("a")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
@pytest.mark.parametrize("command", ["convert", "quantize", "join"])
def test_a_pipe_or_a_device_keeps_its_place(pillion, convert, tmp_path, command, make):
    model, folder = GOLDEN / "tiny-llama.gguf", tmp_path / "out"
    parts = pillion.split(model, tmp_path / "part", max_tensors=20)
    out = folder / "out.gguf"
    folder.mkdir()
    make(out)
    before = os.lstat(out).st_mode
    run = {
        "convert": lambda: convert(CHECKPOINTS / "tiny-llama", out),
        "quantize": lambda: pillion.quantize(model, out, "Q8_0"),
        "join": lambda: pillion.join(parts[0], out),
    }
    with pytest.raises(
        pillion.UsageError, match="out.gguf: cannot be written: it is not a regular file"
    ):
        run[command]()
    assert os.lstat(out).st_mode == before and len(list(folder.iterdir())) == 1


def test_names_too_long_for_a_file(pillion, convert, tmp_path):
    for n in (300, 255):
        with pytest.raises(pillion.PillionError, match="File name too long"):
            convert(CHECKPOINTS / "tiny-llama", tmp_path / ("a" * n))
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_f16(pillion, convert, checkpoint, tmp_path):
    folder = checkpoint()
    with_tensor(lambda t: t.update({GATE: np.full(t[GATE].shape, 1e5, np.float32)}))(folder)
    with pytest.raises(
        pillion.ModelFileError, match="values up to 100000, f16 ends at 65504; use bf16"
    ):
        convert(folder, tmp_path / "out.gguf", outtype="f16")
    convert(folder, tmp_path / "out.gguf", outtype="bf16")


def test_an_ordering_that_is_no_permutation(pillion, convert, tmp_path):
    folder = Path(shutil.copytree(TINY_PAIR / "assistant", tmp_path / "checkpoint"))
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    begin = json.loads(raw[8 : 8 + length])["masked_embedding.token_ordering"]["data_offsets"][0]
    raw[8 + length + begin : 8 + length + begin + 8] = raw[
        8 + length + begin + 8 : 8 + length + begin + 16
    ]
    path.write_bytes(raw)
    with pytest.raises(pillion.ModelFileError, match="no permutation of the 2048 tokens"):
        convert(folder, tmp_path / "out.gguf")


def test_arguments(pillion, convert, tmp_path):
    for arguments, sentence in (
        ((CHECKPOINTS / "tiny-llama", tmp_path / "no" / "out.gguf"), "does not exist"),
        ((CHECKPOINTS / "tiny-llama", tmp_path), "is a folder"),
    ):
        with pytest.raises(pillion.UsageError, match=sentence):
            convert(*arguments)
    with pytest.raises(pillion.UsageError, match="auto, f32, f16, bf16, q8_0"):
        convert(CHECKPOINTS / "tiny-llama", tmp_path / "out.gguf", outtype="q9")
    with pytest.raises(pillion.ModelNotFoundError, match="no such folder"):
        convert(tmp_path / "none", tmp_path / "out.gguf")
    (tmp_path / "out.gguf").write_bytes(b"an older file")
    convert(CHECKPOINTS / "tiny-llama", tmp_path / "out.gguf", name="tiny-llama")
    assert (tmp_path / "out.gguf").read_bytes() == (GOLDEN / "tiny-llama.gguf").read_bytes()


def test_a_full_disk_leaves_nothing(pillion, tmp_path):
    check_full_disk(
        ("convert", TINY_PAIR / "target", "-o", tmp_path / "out.gguf"), tmp_path / "out.gguf"
    )


def test_an_end_in_the_middle_leaves_nothing(convert, tmp_path):
    class Stop(Exception):
        pass

    def stop(done, total):
        assert 0 < done <= total
        raise Stop

    with pytest.raises(Stop):
        convert(CHECKPOINTS / "tiny-llama", tmp_path / "out.gguf", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_reaches_the_end(convert, tmp_path):
    seen = []
    convert(TINY_PAIR / "target", tmp_path / "out.gguf", progress=lambda *at: seen.append(at))
    assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)


@pytest.fixture(scope="module")
def large_checkpoint(tmp_path_factory):
    """Six layers of an odd llama: 270 MB of F16, the largest tensor 64 MB."""
    folder = tmp_path_factory.mktemp("large") / "checkpoint"
    shutil.copytree(CHECKPOINTS / "tiny-llama", folder)
    width, ff, layers, vocab = 1024, 4096, 6, 32768
    config = json.loads((folder / "config.json").read_text())
    config.update(
        hidden_size=width,
        intermediate_size=ff,
        num_hidden_layers=layers,
        vocab_size=vocab,
        num_attention_heads=16,
    )
    config.update(num_key_value_heads=16, head_dim=64, tie_word_embeddings=True)
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(1)

    def matrix(rows, columns):
        return rng.standard_normal((rows, columns), np.float32).astype(np.float16)

    tensors = {
        "model.embed_tokens.weight": matrix(vocab, width),
        "model.norm.weight": np.ones(width, np.float16),
    }
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for name in "qkvo":
            tensors[f"{prefix}self_attn.{name}_proj.weight"] = matrix(width, width)
        tensors[prefix + "mlp.gate_proj.weight"], tensors[prefix + "mlp.up_proj.weight"] = (
            matrix(ff, width),
            matrix(ff, width),
        )
        tensors[prefix + "mlp.down_proj.weight"] = matrix(width, ff)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}{name}.weight"] = np.ones(width, np.float16)
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    "outtype",
    [pytest.param("f16", marks=pytest.mark.slow), pytest.param("q8_0", marks=pytest.mark.nightly)],
)
def test_memory_is_bounded(pillion, large_checkpoint, tmp_path, outtype):
    """Peak memory: at most three times the largest tensor, 64 MB here."""
    run = "pillion.convert.convert(sys.argv[1], sys.argv[2], outtype=sys.argv[3], n_threads=2)"
    assert peak_mb(run, large_checkpoint, tmp_path / "out.gguf", outtype) < 3 * 64


@pytest.mark.nightly
def test_ctrl_c_leaves_nothing(pillion, large_checkpoint, tmp_path):
    check_ctrl_c(
        ("convert", large_checkpoint, "-o", tmp_path / "out.gguf", "--outtype", "q8_0"), tmp_path
    )


def test_without_the_extra(pillion, convert, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(pillion.UsageError, match=r"pip install \"pillion\[convert\]\""):
        convert(CHECKPOINTS / "tiny-llama", tmp_path / "out.gguf")
    assert os.listdir(tmp_path) == []


def test_the_checkpoint_s_own_files_are_not_overwritten(pillion, convert, checkpoint):
    folder = checkpoint()
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(pillion.UsageError, match="is a file of the checkpoint"):
        convert(folder, folder / "model.safetensors")
    assert (folder / "model.safetensors").read_bytes() == before
