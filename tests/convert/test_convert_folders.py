"""What lies in a checkpoint's folder: names under prefixes, strays beside the weights, and folders
that are no plain checkpoint, each refused by one sentence before anything is written."""

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
from test_convert import CHECKPOINTS, GATE, GOLDEN, change_json, raw_tensors, read, write_raw
from safetensors.numpy import save_file


@pytest.fixture(scope="module")
def convert(pillion):
    from pillion.convert import convert

    return convert


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of a checkpoint that a test may change."""

    def copy(name="tiny-llama"):
        return Path(shutil.copytree(CHECKPOINTS / name, tmp_path / "checkpoint"))

    return copy


def refused(pillion, convert, folder, sentence, kind="ModelFileError"):
    """By one sentence, and nothing was written: not even a file that went again."""
    seen = []
    with pytest.raises(getattr(pillion, kind), match=sentence) as caught:
        convert(folder, folder.parent / "out.gguf", progress=lambda *at: seen.append(at))
    assert "\n" not in str(caught.value) and not seen
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def rename(folder, change):
    tensors, path = raw_tensors(folder)
    write_raw({change(name): part for name, part in tensors.items()}, path)


def same_as_golden(convert, folder, name):
    convert(folder, folder.parent / "out.gguf", name=name)
    found, golden = (
        gguf.GGUFReader(path) for path in (folder.parent / "out.gguf", GOLDEN / f"{name}.gguf")
    )
    ours, theirs = (
        {t.name: (t.tensor_type, t.data.tobytes()) for t in reader.tensors}
        for reader in (found, golden)
    )
    assert ours == theirs


# ---- names ----

OLD, NEW = "language_model.model.", "model.language_model."
PREFIXES = {
    "compiled": lambda name: f"_orig_mod.{name}",
    "compiled inside": lambda name: name.replace("model.layers.1.", "model.layers.1._orig_mod."),
    "distributed": lambda name: f"module.{name}",
    "distributed and compiled": lambda name: f"module._orig_mod.{name}",
    "sharded": lambda name: name.replace("model.layers.", "model._fsdp_wrapped_module.layers."),
    "checkpointed": lambda name: name.replace("self_attn", "_checkpoint_wrapped_module.self_attn"),
    "peft without adapters": lambda name: f"base_model.model.{name}",
    "lightning": lambda name: f"model.{name}",
    "old multimodal": lambda name: (
        name.replace("model.", OLD, 1) if name.startswith("model.") else f"language_model.{name}"
    ),
    "new multimodal": lambda name: (
        name.replace("model.", NEW, 1) if name.startswith("model.") else name
    ),
    "text model": lambda name: (
        name.replace("model.", "text_model.", 1) if name.startswith("model.") else name
    ),
    "without a head": lambda name: name.removeprefix("model."),
    "multimodal without a head": lambda name: name.replace("model.", "language_model.", 1),
}


@pytest.mark.parametrize("how", PREFIXES)
@pytest.mark.parametrize("name", ["tiny-llama", "tiny-e2b"])
def test_prefixes(convert, checkpoint, how, name):
    folder = checkpoint(name)
    rename(folder, PREFIXES[how])
    same_as_golden(convert, folder, name)


@pytest.mark.parametrize("how", ["compiled", "new multimodal", "without a head"])
def test_sentences_have_the_checkpoint_s_own_names(pillion, convert, checkpoint, how):
    folder = checkpoint("tiny-e2b")
    gone = PREFIXES[how](GATE)
    rename(
        folder,
        lambda name: PREFIXES[how](
            name if name != GATE else "model.layers.99.input_layernorm.weight"
        ),
    )
    refused(pillion, convert, folder, rf"tensor {gone} is missing, config.json makes it \[32, 64\]")


def test_two_prefixes_of_one_tensor(pillion, convert, checkpoint):
    folder = checkpoint()
    tensors, path = raw_tensors(folder)
    write_raw({**tensors, f"_orig_mod.{GATE}": tensors[GATE]}, path)
    refused(pillion, convert, folder, f"tensor _orig_mod.{GATE} is in model.safetensors too")


# ---- shapes ----


def test_a_short_per_layer_table(pillion, convert, checkpoint):
    """Tokens were added, and the table of the per-layer embeddings was not made longer."""
    folder = checkpoint("tiny-e2b")
    tensors, path = raw_tensors(folder)
    name = "model.embed_tokens_per_layer.weight"
    kind, (rows, width), data = tensors[name]
    tensors[name] = (kind, [rows - 12, width], data[: (rows - 12) * width * 2])
    write_raw({key.replace("model.", NEW, 1): part for key, part in tensors.items()}, path)
    text = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma4", "text_config": text}))
    sentence = (
        "tensor model.language_model.embed_tokens_per_layer.weight "
        "has 500 rows, the vocabulary has 512 tokens"
    )
    refused(pillion, convert, folder, sentence)


def test_a_long_per_layer_table(convert, checkpoint):
    """Rows that no token asks for are left out."""
    folder = checkpoint("tiny-e2b")
    tensors, path = raw_tensors(folder)
    name = "model.embed_tokens_per_layer.weight"
    kind, (rows, width), data = tensors[name]
    write_raw({**tensors, name: (kind, [rows + 3, width], data + bytes(3 * width * 2))}, path)
    change_json(folder, "config.json", vocab_size_per_layer_input=rows + 3)
    same_as_golden(convert, folder, "tiny-e2b")


@pytest.mark.parametrize("name", ["tiny-e2b", "tiny-moe", "tiny-e2b-assistant", "tiny-gemma3"])
def test_any_tensor_of_another_shape(pillion, convert, checkpoint, name):
    """One row or value less: refused first, by its name."""
    folder = checkpoint(name)
    tensors, path = raw_tensors(folder)
    for changed, (kind, shape, data) in tensors.items():
        if ".layers." in changed and ".layers.0." not in changed:
            continue
        rows = shape[0] - 1 or 2
        part = (kind, [rows, *shape[1:]], (data * 2)[: len(data) // shape[0] * rows])
        write_raw({**tensors, changed: part}, path)
        refused(pillion, convert, folder, rf"{changed}\b")


# ---- strays ----


def weights_of(folder):
    return {name: np.zeros_like(values) for name, values in read(folder)[0].items()}


@pytest.mark.parametrize(
    "stray",
    [
        "consolidated.safetensors",
        "adapter_model.safetensors",
        "optimizer.safetensors",
        "model-00001-of-00002.safetensors",
    ],
)
@pytest.mark.parametrize("named", ["model.safetensors", "weights.safetensors"])
def test_strays_beside_the_weights(convert, checkpoint, stray, named):
    folder = checkpoint()
    if named != "model.safetensors" and stray.startswith("model"):
        return
    save_file(weights_of(folder), folder / stray)
    (folder / "model.safetensors").rename(folder / named)
    (folder / "original").mkdir()
    (folder / "original" / "consolidated.00.pth").write_bytes(b"PK")
    for name in ("pytorch_model.bin", "optimizer.pt", "tokenizer.model", "flax_model.msgpack"):
        (folder / name).write_bytes(b"not read")
    same_as_golden(convert, folder, "tiny-llama")


def test_a_single_file_goes_before_an_index(convert, checkpoint):
    """As transformers reads it; the index is of shards that are no more."""
    folder = checkpoint()
    index = {"weight_map": {GATE: "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    same_as_golden(convert, folder, "tiny-llama")


def test_shards_of_two_sets(pillion, convert, checkpoint):
    folder = checkpoint()
    source = folder / "model.safetensors"
    for n in (1, 2):
        shutil.copy(
            source,
            folder / "model-00001-of-00001.safetensors" if n == 1 else folder / "part.safetensors",
        )
    source.unlink()
    refused(pillion, convert, folder, r"tensor .+ is in model-00001-of-00001.safetensors too")


def only(folder, name, content=b"PK"):
    (folder / "model.safetensors").unlink()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("pytorch_model.bin", "pytorch_model.bin is PyTorch's own files"),
        ("pytorch_model-00001-of-00002.bin", "PyTorch's own files"),
        ("consolidated.00.pth", "consolidated.00.pth is Meta's own format"),
        ("original/consolidated.00.pth", "in the folder original"),
        ("model-q8_0.gguf", "a GGUF file already"),
        ("tf_model.h5", "TensorFlow"),
        ("flax_model.msgpack", "Flax"),
    ],
)
def test_other_kinds_of_weights(pillion, convert, checkpoint, name, sentence):
    folder = checkpoint()
    only(folder, name)
    refused(
        pillion,
        convert,
        folder,
        f"no .*safetensors in it, .*{sentence}.*safetensors, or load",
        "ModelNotFoundError",
    )


def test_only_strays(pillion, convert, checkpoint):
    folder = checkpoint()
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    refused(
        pillion,
        convert,
        folder,
        "consolidated.safetensors holds no weights as transformers names them",
        "ModelNotFoundError",
    )


# ---- no plain checkpoint ----

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4967494512\n"
)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "tokenizer.json",
        "config.json",
        "generation_config.json",
        "chat_template.jinja",
    ],
)
def test_git_lfs_pointers(pillion, convert, checkpoint, name):
    folder = checkpoint()
    (folder / name).write_bytes(POINTER)
    refused(
        pillion,
        convert,
        folder,
        rf"{name}: it is a Git LFS pointer, .+ \(4967494512 bytes\) is not there; .*git lfs pull",
    )


def test_a_shard_that_is_a_pointer(pillion, convert, checkpoint):
    folder = checkpoint()
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model-00002-of-00002.safetensors").write_bytes(POINTER)
    refused(pillion, convert, folder, "model-00002-of-00002.safetensors: it is a Git LFS pointer")


@pytest.mark.parametrize("beside", [True, False])
def test_adapters(pillion, convert, checkpoint, beside):
    folder = checkpoint()
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "google/gemma-4-E2B-it", "peft_type": "LORA"})
    )
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    if not beside:
        (folder / "config.json").unlink()
    refused(
        pillion,
        convert,
        folder,
        "an adapter of google/gemma-4-E2B-it .+merge it into its base",
        "UnsupportedModelError",
    )
    (folder / "adapter_config.json").write_text("[")
    refused(pillion, convert, folder, "holds an adapter .+merge", "UnsupportedModelError")
    if not beside:
        (folder / "adapter_config.json").unlink()
        refused(pillion, convert, folder, "holds an adapter .+merge", "UnsupportedModelError")


def test_an_adapter_beside_weights(pillion, convert, checkpoint):
    folder = checkpoint()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "meta-llama/Llama-3"}')
    sentence = (
        "beside the weights it holds an adapter "
        "of meta-llama/Llama-3 .+merge it .+move adapter_config.json away"
    )
    refused(pillion, convert, folder, sentence, "UnsupportedModelError")
    (folder / "adapter_config.json").unlink()
    same_as_golden(convert, folder, "tiny-llama")


def test_only_the_older_form_of_a_tokenizer(pillion, convert, checkpoint):
    folder = checkpoint()
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    refused(
        pillion,
        convert,
        folder,
        "no tokenizer.json beside tokenizer.model; make one with transf",
        "ModelNotFoundError",
    )


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight",
        "model.layers.0.self_attn.q_proj.base_layer.weight",
        "base_model.model.lm_head.modules_to_save.default.weight",
        "model.embed_tokens.lora_embedding_A.default",
    ],
)
def test_adapters_that_were_not_merged(pillion, convert, checkpoint, name):
    folder = checkpoint()
    tensors, path = raw_tensors(folder)
    write_raw({**tensors, name: tensors[GATE]}, path)
    refused(
        pillion,
        convert,
        folder,
        f"{name} belongs to an adapter that was not merged; merge it",
        "UnsupportedModelError",
    )


QUANTIZED = {
    "bitsandbytes, 4 bits, nf4": {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
    },
    "bitsandbytes, 8 bits": {"_load_in_8bit": True, "quant_method": "bitsandbytes"},
    "gptq, 4 bits": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "awq, 4 bits": {"quant_method": "awq", "bits": 4},
    "fp8": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "fbgemm_fp8": {"quant_method": "fbgemm_fp8"},
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
    "mxfp4": {"quant_method": "mxfp4"},
    "torchao": {"quant_method": "torchao"},
}
SENTENCE = (
    "its weights are quantized .{}.*; "
    "convert the checkpoint in bf16, f16 or f32 .+, or dequantize them first"
)


@pytest.mark.parametrize("what", QUANTIZED)
@pytest.mark.parametrize("nested", [False, True])
def test_quantized_by_config(pillion, convert, checkpoint, what, nested):
    folder = checkpoint("tiny-moe")
    if nested:
        text = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(
            json.dumps({"model_type": "gemma4", "text_config": text})
        )
        text["quantization_config"] = QUANTIZED[what]
        (folder / "config.json").write_text(
            json.dumps({"model_type": "gemma4", "text_config": text})
        )
    else:
        change_json(folder, "config.json", quantization_config=QUANTIZED[what])
    refused(pillion, convert, folder, SENTENCE.format(what), "UnsupportedModelError")


@pytest.mark.parametrize(
    "key, value, what",
    [
        ("compression_config", {"quant_method": "sparseml"}, "sparseml"),
        ("quantization", {"group_size": 64, "bits": 4}, "MLX"),
    ],
)
def test_quantized_by_other_keys(pillion, convert, checkpoint, key, value, what):
    folder = checkpoint()
    change_json(folder, "config.json", **{key: value})
    refused(pillion, convert, folder, SENTENCE.format(what), "UnsupportedModelError")


PROJECTION = "model.layers.0.self_attn.q_proj"
BY_TENSORS = {
    f"{PROJECTION}.weight.absmax": ("F32", "bitsandbytes, 4 bits"),
    f"{PROJECTION}.weight.quant_state.bitsandbytes__nf4": ("U8", "bitsandbytes, 4 bits"),
    f"{PROJECTION}.SCB": ("F32", "bitsandbytes, 8 bits"),
    f"{PROJECTION}.qweight": ("I32", "GPTQ or AWQ"),
    f"{PROJECTION}.weight_packed": ("I32", "compressed-tensors"),
    f"{PROJECTION}.weight_scale_inv": ("F32", "FP8"),
    f"{PROJECTION}.weight_scale_2": ("F32", "FP8 or FP4"),
    "model.layers.0.experts.gate_up_proj_blocks": ("U8", "MXFP4"),
    f"{PROJECTION}.scales": ("BF16", "MLX"),
    f"{PROJECTION}.extra": ("F8_E4M3", "F8_E4M3"),
}


@pytest.mark.parametrize("name", BY_TENSORS)
def test_quantized_by_tensors(pillion, convert, checkpoint, name):
    """Where config.json says nothing."""
    kind, what = BY_TENSORS[name]
    folder = checkpoint()
    tensors, path = raw_tensors(folder)
    size = {"F32": 4, "I32": 4, "BF16": 2}.get(kind, 1)
    write_raw({**tensors, name: (kind, [3], bytes(3 * size))}, path)
    refused(pillion, convert, folder, SENTENCE.format(f"{what}.*{name}"), "UnsupportedModelError")


@pytest.mark.parametrize("kind, size", [("F64", 8), ("I8", 1), ("U16", 2), ("BOOL", 1)])
def test_types_without_values_here(pillion, convert, checkpoint, kind, size):
    folder = checkpoint()
    tensors, path = raw_tensors(folder)
    _, shape, _ = tensors[GATE]
    write_raw({**tensors, GATE: (kind, shape, bytes(shape[0] * shape[1] * size))}, path)
    refused(
        pillion, convert, folder, f"tensor {GATE} has type {kind}; f32, f16, bf16 can be converted"
    )


def test_types_of_towers_do_not_matter(convert, checkpoint):
    folder = checkpoint("tiny-e2b")
    tensors, path = raw_tensors(folder)
    write_raw(
        {
            **tensors,
            "model.vision_tower.mask": ("BOOL", [3], b"\0\1\0"),
            "model.audio_tower.x": ("F64", [], bytes(8)),
        },
        path,
    )
    same_as_golden(convert, folder, "tiny-e2b")


# ---- heads ----


@pytest.mark.parametrize(
    "name, tied", [("tiny-e2b", True), ("tiny-e2b", None), ("tiny-gemma3", None)]
)
def test_a_tied_head(convert, checkpoint, name, tied):
    """The head may stand there, or stand for the table; one of other values is a head of its own,
    as transformers takes it."""
    folder = checkpoint(name)
    change_json(folder, "config.json", tie_word_embeddings=tied)
    tensors, path = raw_tensors(folder)
    table = tensors["model.embed_tokens.weight"]
    write_raw({**tensors, "lm_head.weight": table}, path)
    report = convert(folder, folder.parent / "out.gguf", name=name)
    assert report.skipped == {"output head tied to the embedding": 1}
    assert (folder.parent / "out.gguf").read_bytes() == (GOLDEN / f"{name}.gguf").read_bytes()
    del tensors["model.embed_tokens.weight"]
    write_raw({**tensors, "lm_head.weight": table}, path)
    same_as_golden(convert, folder, name)
    write_raw(
        {
            **tensors,
            "model.embed_tokens.weight": table,
            "lm_head.weight": (*table[:2], bytes(len(table[2]))),
        },
        path,
    )
    convert(folder, folder.parent / "out.gguf")
    assert "output.weight" in {t.name for t in gguf.GGUFReader(folder.parent / "out.gguf").tensors}


def test_a_head_that_is_missing(pillion, convert, checkpoint):
    folder = checkpoint("tiny-e2b")
    change_json(folder, "config.json", tie_word_embeddings=False)
    refused(
        pillion,
        convert,
        folder,
        "tensor lm_head.weight is missing, and tie_word_embeddings is false in config.json",
    )


def test_the_outer_flag_counts(convert, checkpoint):
    folder = checkpoint("tiny-e2b")
    text = {**json.loads((folder / "config.json").read_text()), "tie_word_embeddings": False}
    (folder / "config.json").write_text(
        json.dumps({"model_type": "gemma4", "tie_word_embeddings": True, "text_config": text})
    )
    rename(folder, PREFIXES["new multimodal"])
    same_as_golden(convert, folder, "tiny-e2b")


# ---- what config.json says that no model has, or no file ----

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8,
    "low_freq_factor": 4,
    "high_freq_factor": 4,
}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1], "long_factor": [2]}
SAID = {
    "a list of widths": (
        "tiny-llama",
        {"intermediate_size": [96, 96, 96]},
        r"intermediate_size the value \[96, 96, 96\]",
    ),
    "half a layer": (
        "tiny-llama",
        {"num_hidden_layers": 2.5},
        "num_hidden_layers the value 2.5, a whole number",
    ),
    "true for a number": (
        "tiny-llama",
        {"num_attention_heads": True},
        "num_attention_heads the value True",
    ),
    "a thousand layers more": (
        "tiny-llama",
        {"num_hidden_layers": 10**9},
        "value 1000000000, a whole number from 1 to 1024",
    ),
    "a negative eps": (
        "tiny-llama",
        {"rms_norm_eps": -1e-6},
        "rms_norm_eps the value -1e-06, a number above 0",
    ),
    "rope by kinds": (
        "tiny-llama",
        {"rope_parameters": {"full_attention": {"rope_theta": 1}}},
        "of full_attention layers",
    ),
    "rope that is a word": (
        "tiny-llama",
        {"rope_parameters": None, "rope_scaling": "linear"},
        "the value 'linear', an object",
    ),
    "a factor that is a word": (
        "tiny-llama",
        {"rope_scaling": {"type": "linear", "factor": "8"}},
        "factor the value '8'",
    ),
    "no blend": (
        "tiny-llama",
        {"rope_parameters": LLAMA3},
        "low_freq_factor the value 4, not below high_freq_factor, 4",
    ),
    "longrope": (
        "tiny-llama",
        {"rope_parameters": LONG},
        "rope_type 'longrope' cannot be converted here",
    ),
    "flat rope": (
        "tiny-gemma3",
        {"rope_parameters": {"rope_type": "linear", "factor": 8}},
        "without a part for full_attention",
    ),
    "other types": (
        "tiny-gemma3",
        {"layer_types": ["chunked_attention"] * 7},
        "a layer of type 'chunked_attention'",
    ),
    "too few types": (
        "tiny-gemma3",
        {"layer_types": ["full_attention"]},
        "has 7 layers and the types of 1",
    ),
    "a period of 0": (
        "tiny-gemma3",
        {"layer_types": None, "sliding_window_pattern": 0},
        "sliding_window_pattern the value 0",
    ),
    "bidirectional": (
        "tiny-gemma3",
        {"use_bidirectional_attention": True},
        "sets use_bidirectional_attention",
    ),
    "a window that is none": ("tiny-gemma3", {"sliding_window": 0}, "sliding_window the value 0"),
    "widths by layer": (
        "tiny-e2b",
        {"per_layer_config": {"1": {"intermediate_size": 8}}},
        "intermediate_size in per_layer_config",
    ),
    "a layer too far": (
        "tiny-e2b",
        {"per_layer_config": {"6": {"head_dim": 8}}},
        "per_layer_config of layer 6, and 6 layers",
    ),
    "no rope of a kind": (
        "tiny-e2b",
        {"rope_parameters": {"full_attention": {"rope_theta": 1e6}}},
        "a part for sliding_attention",
    ),
    "no base": (
        "tiny-e2b",
        {"rope_parameters": {"full_attention": {}, "sliding_attention": {}}},
        "has no 'rope_theta'",
    ),
    "what the reader refuses": (
        "tiny-llama",
        {"rope_parameters": {"rope_theta": 0.5}},
        "llama.rope.freq_base: 0.5 is outside",
    ),
    "no width": (
        "tiny-e2b",
        {"hidden_size_per_layer_input": None},
        r"per_layer_input_gate.weight has shape|has no place|makes it",
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_sentences_of_config(pillion, convert, checkpoint, case):
    name, changes, sentence = SAID[case]
    folder = checkpoint(name)
    change_json(folder, "config.json", **changes)
    refused(pillion, convert, folder, sentence)


def test_zero_padded_layers(convert, checkpoint):
    """As transformers saves them, so that they sort by number."""
    folder = checkpoint("tiny-e2b")
    own = json.loads((folder / "config.json").read_text())["per_layer_config"]
    change_json(
        folder, "config.json", per_layer_config={key.zfill(2): value for key, value in own.items()}
    )
    same_as_golden(convert, folder, "tiny-e2b")


# ---- linear scaling, as it stands in public checkpoints ----


LINEAR = {
    "rope_scaling": {
        "rope_scaling": {"factor": 8, "rope_type": "linear"},
        "rope_theta": 1e6,
        "rope_local_base_freq": 10000.0,
    },
    "type": {"rope_scaling": {"factor": 8.0, "type": "linear"}},
    "rope_parameters": {
        "rope_parameters": {
            "full_attention": {"factor": 8.0, "rope_type": "linear", "rope_theta": 1000000},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000},
        }
    },
    "rope_parameters, type": {
        "rope_parameters": {"full_attention": {"factor": 8, "type": "linear"}}
    },
}


@pytest.mark.parametrize("how", LINEAR)
def test_linear_gemma3(pillion, convert, checkpoint, how):
    """Gemma 3 from 4B on: all spellings make one file, and the factor is that of full layers."""
    folder = checkpoint("tiny-gemma3")
    change_json(folder, "config.json", **{"rope_parameters": None, **LINEAR[how]})
    convert(folder, folder.parent / "out.gguf", name="x")
    keys = {
        name: f.contents()
        for name, f in gguf.GGUFReader(folder.parent / "out.gguf").fields.items()
        if "rope" in name
    }
    wanted = {
        "gemma3.rope.freq_base": 1e6,
        "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 8.0,
    }
    assert keys == wanted
    with pillion.Model.open(folder.parent / "out.gguf") as model, model.context(64) as context:
        context.prefill([2, 5, 6])
        assert np.isfinite(context.logits()).all()


SCALED = {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}
PUBLISHED = {
    "4b": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34},
    "12b": dict(
        hidden_size=3840,
        intermediate_size=15360,
        num_hidden_layers=48,
        num_attention_heads=16,
        num_key_value_heads=8,
    ),
    "27b": dict(
        hidden_size=5376,
        intermediate_size=21504,
        num_hidden_layers=62,
        num_attention_heads=32,
        num_key_value_heads=16,
    )
    | {"head_dim": 128, "query_pre_attn_scalar": 168},
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_configurations_of_public_sizes(pillion, tmp_path, size):
    """They say little, the rest is the defaults of their class."""
    from pillion.convert import _keys
    from pillion.convert.architectures import architecture_of
    from pillion.convert.checkpoint import Checkpoint

    text = {**PUBLISHED[size], **SCALED, "model_type": "gemma3_text"}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "gemma3", "eos_token_id": [1, 106], "text_config": text})
    )
    write_raw({}, tmp_path / "model.safetensors")
    source = Checkpoint(tmp_path)
    keys = _keys(source, architecture_of(source))
    heads = {"4b": (8, 4, 256), "12b": (16, 8, 256), "27b": (32, 16, 128)}[size]
    assert keys == {
        "gemma3.block_count": text["num_hidden_layers"],
        "gemma3.context_length": 131072,
        "gemma3.embedding_length": text["hidden_size"],
        "gemma3.feed_forward_length": text["intermediate_size"],
        "gemma3.attention.head_count": heads[0],
        "gemma3.attention.head_count_kv": heads[1],
        "gemma3.attention.key_length": heads[2],
        "gemma3.attention.value_length": heads[2],
        "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
        "gemma3.attention.sliding_window": 1024,
        "gemma3.rope.freq_base": 1e6,
        "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 8.0,
    }


def test_the_divisor_of_27b(convert, checkpoint):
    """Scores of 62 layers are divided otherwise, by readers as by the configuration: queries stay
    as they are."""
    folder = checkpoint("tiny-gemma3")
    tensors, path = raw_tensors(folder)
    many = {name: part for name, part in tensors.items() if ".layers." not in name}
    for layer in range(62):
        many.update(
            {
                n.replace(".layers.0.", f".layers.{layer}."): part
                for n, part in tensors.items()
                if ".layers.0." in n
            }
        )
    write_raw(many, path)
    change_json(
        folder, "config.json", num_hidden_layers=62, layer_types=None, query_pre_attn_scalar=48 // 4
    )
    convert(folder, folder.parent / "out.gguf")
    norms = {
        t.name: t.data
        for t in gguf.GGUFReader(folder.parent / "out.gguf").tensors
        if "attn_q_norm" in t.name
    }
    golden = {t.name: t.data for t in gguf.GGUFReader(GOLDEN / "tiny-gemma3.gguf").tensors}
    assert len(norms) == 62 and all(
        np.array_equal(norm, golden["blk.0.attn_q_norm.weight"]) for norm in norms.values()
    )
