"""`pillion inspect`: the facts, the memory it computes against what a loaded model takes, the
trouble it knows, files that are no models."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from build import REPOSITORY
from gguf_bytes import ARR, F32, I32, build, kv, write_sparse
from made_files import remade
from model_headers import PLAIN, SIZES, assistant, entries, gemma4, plain

gguf = pytest.importorskip("gguf")

GOLDEN = REPOSITORY / "tests" / "golden"
KEYS = {
    "path",
    "runnable",
    "reason",
    "file",
    "model",
    "tokenizer",
    "drafter",
    "pair",
    "mmproj",
    "memory",
    "warnings",
    "unused",
    "metadata",
}


@pytest.fixture
def inspect(pillion):
    from pillion.inspection import inspect_file

    return inspect_file


@pytest.fixture(scope="session")
def tiny_assistant(pillion):
    from pillion.models import TINY_ASSISTANT

    return TINY_ASSISTANT


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pillion", "inspect", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def written(path, meta, tensors, data={}):
    path.write_bytes(build(entries(meta), tensors, data))
    return path


# ---- facts ----


def test_a_target(inspect, tiny_target):
    facts = inspect(tiny_target, ctx=[512])
    assert (
        set(facts) == KEYS
        and facts["runnable"]
        and facts["reason"] is None
        and facts["warnings"] == []
    )
    file = facts["file"]
    assert file["architecture"] == "gemma4" and file["file_bytes"] == os.path.getsize(tiny_target)
    assert list(file["tensor_types"]) == ["BF16", "F32"]  # the largest first
    assert sum(one["share"] for one in file["tensor_types"].values()) == pytest.approx(1)
    assert file["tensor_types"]["F32"]["bits_per_weight"] == 32
    assert file["bits_per_weight"] == pytest.approx(8 * file["tensor_bytes"] / file["n_params"])
    model = facts["model"]
    assert (model["n_layers"], model["n_embd"], model["n_vocab"], model["window"]) == (
        8,
        192,
        2048,
        64,
    )
    assert [layer["kv_source"] for layer in model["layers"]] == [0, 1, 2, 3, 2, 2, 2, 3]
    tokenizer = facts["tokenizer"]
    assert (tokenizer["model"], tokenizer["n_tokens"], tokenizer["chat_template"]) == (
        "gemma4",
        2048,
        True,
    )
    assert tokenizer["bos"] == {"id": 2, "text": "<bos>", "type": "control"}
    assert [token["text"] for token in tokenizer["end_tokens"]] == [
        "<eos>",
        "<turn|>",
        "<|tool_response>",
    ]
    assert sum(tokenizer["types"].values()) == 2048
    assert facts["drafter"] is None and facts["pair"] is None and "tensors" not in facts


def test_a_drafter(inspect, tiny_assistant):
    facts = inspect(tiny_assistant)
    drafter = facts["drafter"]
    assert drafter["needs"] == {
        "n_embd": 192,
        "n_vocab": 2048,
        "window": 64,
        "kv": {"sliding": {"kv_heads": 1, "head_dim": 32}, "full": {"kv_heads": 1, "head_dim": 64}},
    }
    assert (
        drafter["head"],
        drafter["centroid_form"],
        drafter["n_centroids"],
        drafter["centroid_top_k"],
    ) == (
        "centroid",
        "keys",
        128,
        8,
    )
    assert "128 centroids (as keys), the best 8" in drafter["head_reason"]
    (memory,) = facts["memory"]
    assert memory["weights"] == memory["total"] > 0 and memory["kv"] is memory["scratch"] is None


def test_tensors(inspect, tiny_target):
    listed = inspect(tiny_target, tensors=True)["tensors"]
    expected = {t.name: t for t in gguf.GGUFReader(tiny_target).tensors}
    assert [one["name"] for one in listed] == list(expected)
    for one in listed:
        tensor = expected[one["name"]]
        assert (one["type"], one["shape"]) == (tensor.tensor_type.name, tensor.shape.tolist())
        assert (one["bytes"], one["offset"]) == (tensor.n_bytes, tensor.data_offset)


# ---- memory: computed against loaded ----


@pytest.mark.parametrize(
    "name", ["tiny", "tiny-e2b", "tiny-dense", "tiny-moe", "tiny-gemma3", "tiny-llama"]
)
def test_memory_is_what_a_loaded_model_takes(pillion, inspect, tiny_target, name):
    """To the byte: the same plans are compiled, on weights without content."""
    path = tiny_target if name == "tiny" else GOLDEN / f"{name}.gguf"
    for n_ctx, kv_type in ((64, "f16"), (1000, "f16"), (1000, "q8_0")):
        (computed,) = inspect(path, ctx=[n_ctx], kv_type=kv_type)["memory"]
        with pillion.Model.open(path) as model, model.context(n_ctx, kv_type=kv_type) as context:
            context.prefill([5] * min(n_ctx, 512))  # compiles the plan of long runs
            real = context.describe()
            assert (computed["weights"], computed["mapped"]) == (
                model.weight_bytes,
                model.describe()["mapped_bytes"],
            )
            assert (computed["kv"]["bytes"], computed["scratch"]) == (
                real["kv_bytes"],
                real["scratch_bytes"],
            )
            assert (computed["outputs"], computed["n_batch"]) == (
                real["output_bytes"],
                real["n_batch"],
            )
            parts = [computed[part] for part in ("weights", "scratch", "outputs")]
            assert (
                computed["total"]
                == sum(parts) + computed["kv"]["bytes"] + computed["kv"]["snapshots"]
            )
            assert computed["kv"]["snapshots"] == real["snapshot_bytes"]
            kinds = [
                layer["kind"]
                for i, layer in enumerate(model.describe()["layers"])
                if layer["kv_source"] == i
            ]
            for kind in ("full", "sliding"):
                assert computed["kv"][kind]["layers"] == kinds.count(kind)
            assert model.memory(n_ctx, kv_type=kv_type) == computed  # a loaded model tells the same


def test_memory_of_a_pair(pillion, inspect, tiny_target, tiny_assistant):
    (alone,) = inspect(tiny_target, ctx=[512])["memory"]
    facts = inspect(tiny_target, ctx=[512], drafter=tiny_assistant)
    assert facts["pair"] == {
        "drafter": str(tiny_assistant),
        "fits": True,
        "reason": None,
        "kind": "mtp",
        "head": "centroid",
    }
    (both,) = facts["memory"]
    with pillion.Model.open(tiny_assistant) as drafter:
        assert both["drafter"]["weights"] == drafter.weight_bytes
    parts = [both["drafter"][part] for part in ("weights", "kv_bytes", "scratch", "outputs")]
    assert (
        both["drafter"]["bytes"] == sum(parts)
        and both["drafter"]["kv_bytes"] == 0
        and both["drafter"]["scratch"] > 0
    )
    assert both["total"] == alone["total"] + both["drafter"]["bytes"]


def test_an_ordinary_model_as_drafter_has_a_cache(pillion, inspect, tiny_target):
    facts = inspect(tiny_target, ctx=[512], drafter=tiny_target)
    assert facts["pair"]["kind"] == "model"
    assert facts["memory"][0]["drafter"]["kv_bytes"] == facts["memory"][0]["kv"]["bytes"]


@pytest.mark.parametrize("size", SIZES)
def test_memory_of_the_published_sizes(inspect, tmp_path, size):
    """Full shapes in sparse files, which only something that loads nothing can open."""
    shape = SIZES[size]
    meta, tensors = gemma4(**shape)
    facts = inspect(write_sparse(tmp_path / "a.gguf", entries(meta), tensors), ctx=[4096, 131072])
    n_own = shape["L"] - shape.get("shared", 0)
    full = sum(layer % shape["period"] == shape["period"] - 1 for layer in range(n_own))
    for memory, n_ctx in zip(facts["memory"], (4096, 131072)):
        # K and V, two bytes
        per_position = [2 * 2 * heads * dim for heads, dim in zip(shape["kv"], shape["d"])]
        ring = -(-(shape["window"] - 1 + 512) // 256) * 256
        assert memory["kv"]["full"] == {
            "layers": full,
            "positions": n_ctx,
            "bytes": full * n_ctx * per_position[1],
        }
        assert memory["kv"]["sliding"] == {
            "layers": n_own - full,
            "positions": ring,
            "bytes": (n_own - full) * ring * per_position[0],
        }
        matrices = sum(2 * np.prod(dims) for _, kind, dims in tensors if kind != "F32")
        table = 2 * 262144 * shape["L"] * shape.get("P", 0)
        assert memory["mapped"] == table
        assert memory["weights"] == pytest.approx(matrices - table, rel=0.01)
    assert facts["memory"][1]["total"] > facts["memory"][0]["total"]
    assert any("no tokenizer" in warning for warning in facts["warnings"])


def test_nothing_is_loaded(tmp_path):
    """26B as f16, 47 GB, in a process that may take 2 GB of memory on top of address space."""
    meta, tensors = gemma4(**SIZES["26B"])
    path = write_sparse(tmp_path / "a.gguf", entries(meta), tensors)
    program = (
        "import resource, sys; from pillion.inspection import inspect_file\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "facts = inspect_file(sys.argv[1], ctx=[131072])\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(facts['memory'][0]['total'], after - before)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=120
    )
    total, grown_kb = map(int, result.stdout.split())
    assert total > 40e9 and grown_kb < 64 << 10, result.stderr


@pytest.mark.real_model
@pytest.mark.slow
def test_resident_memory_of_a_real_model(inspect, gemma3_270m):
    """What the kernel counts after a prompt that fills the context; 12 % for what is not ours: the
    heap, the tokenizer's tables. No snapshot of the sliding layers has been taken then."""
    program = (
        "import sys, pillion\n"
        "def rss(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "before = rss()\n"
        "with pillion.Model.open(sys.argv[1]) as model, model.context(2048, n_threads=2) as "
        "context:\n"
        "    context.prefill([5] * 2032, outputs=16)\n"
        "    print(rss() - before)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(gemma3_270m)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    measured = int(result.stdout)
    (memory,) = inspect(gemma3_270m, ctx=[2048])["memory"]
    taken = memory["total"] - memory["kv"]["snapshots"]
    assert measured == pytest.approx(taken, rel=0.12), result.stderr


# ---- known trouble ----


def warnings_of(facts, part):
    return [warning for warning in facts["warnings"] if part in warning]


def test_keys_and_tensors_that_are_not_used(inspect, tmp_path):
    meta, tensors = gemma4(**PLAIN)
    meta |= {"gemma4.attention.mystery": 3, "clip.has_vision_encoder": True, "gemma4.vocab_size": 8}
    facts = inspect(written(tmp_path / "a.gguf", meta, [*tensors, ("mm.0.weight", "F32", [4])]))
    assert warnings_of(facts, "keys gemma4.attention.mystery, clip.has_vision_encoder are not used")
    assert len(warnings_of(facts, "tensor mm.0.weight is unknown")) == 1
    assert not warnings_of(facts, "vocab_size") and len(warnings_of(facts, "not used")) == 2
    assert facts["runnable"]
    assert facts["unused"]["tensors"] == {"count": 1, "first": ["mm.0.weight"]}
    assert facts["unused"]["keys"] == {
        "count": 2,
        "first": ["gemma4.attention.mystery", "clip.has_vision_encoder"],
    }


def test_missing_chat_template(inspect, tiny_target, tmp_path):
    facts = inspect(remade(tiny_target, tmp_path / "a.gguf", {"tokenizer.chat_template": None}))
    assert facts["tokenizer"]["chat_template"] is False and warnings_of(
        facts, "tokenizer.chat_template is missing"
    )


def test_wrong_token_types_and_end_token(inspect, tiny_target, tmp_path):
    """Field case 37: what converters got wrong."""
    fields = gguf.GGUFReader(tiny_target).fields
    texts, types = (
        fields["tokenizer.ggml.tokens"].contents(),
        list(fields["tokenizer.ggml.token_type"].contents()),
    )
    types[1] = types[texts.index("<|tool_response>")] = 1
    facts = inspect(remade(tiny_target, tmp_path / "a.gguf", {"tokenizer.ggml.token_type": types}))
    assert len(warnings_of(facts, "has type normal")) == 2
    assert warnings_of(facts, "token 1 <eos> has type normal") and warnings_of(
        facts, "<|tool_response>"
    )
    # pillion is not misled
    assert facts["tokenizer"]["end_tokens"][0] == {"id": 1, "text": "<eos>", "type": "control"}

    texts[9] = "</s>"
    facts = inspect(
        remade(
            tiny_target,
            tmp_path / "b.gguf",
            {"tokenizer.ggml.eos_token_id": 9, "tokenizer.ggml.tokens": texts},
        )
    )
    assert warnings_of(facts, "names token 9 </s>, which is ordinary text")


def test_no_tokenizer(inspect, tiny_target, tiny_assistant, tmp_path):
    facts = inspect(remade(tiny_target, tmp_path / "a.gguf", {"tokenizer.ggml.tokens": None}))
    assert facts["tokenizer"] is None and warnings_of(facts, "no tokenizer") and facts["memory"]
    facts = inspect(remade(tiny_assistant, tmp_path / "b.gguf", {"tokenizer.ggml.tokens": None}))
    assert facts["tokenizer"] is None and facts["warnings"] == []  # it uses its target's


def test_no_pre_tokenizer(inspect, tmp_path):
    meta, tensors = plain("llama")
    texts = ["a", "b", "c", "d", "ab", "cd", "<s>", "</s>"]
    meta |= {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.merges": ["a b", "c d"],
    }
    meta |= {"tokenizer.ggml.token_type": [1] * 6 + [3, 3], "tokenizer.ggml.eos_token_id": 7}
    facts = inspect(written(tmp_path / "a.gguf", meta, tensors))
    assert warnings_of(facts, "tokenizer.ggml.pre is missing"), facts["warnings"]
    facts = inspect(written(tmp_path / "b.gguf", {**meta, "tokenizer.ggml.pre": "gpt-2"}, tensors))
    assert not warnings_of(facts, "tokenizer.ggml.pre")


def test_missing_centroids(inspect, tmp_path):
    for width, expected in ((1536, "E2B"), (2560, "E4B"), (2816, None)):
        facts = inspect(written(tmp_path / "a.gguf", *assistant(H=width)))
        found = warnings_of(facts, "the centroids are missing")
        assert (
            facts["drafter"]["head"] == "dense"
            and "no centroids" in facts["drafter"]["head_reason"]
        )
        assert len(found) == (expected is not None) and (
            expected is None or f"drafters for {expected}" in found[0]
        )


def test_centroids_as_tensors_without_metadata(inspect, tmp_path):
    meta, tensors = assistant()
    tensors += [
        ("masked_embd_centroids.weight", "F32", [8, 4]),
        ("masked_embd_ordering", "I32", [16]),
    ]
    order = {"masked_embd_ordering": np.arange(16, dtype=np.int32).tobytes()}
    facts = inspect(written(tmp_path / "a.gguf", meta, tensors, order))
    assert (
        facts["drafter"]["head"],
        facts["drafter"]["centroid_form"],
        facts["drafter"]["centroid_top_k"],
    ) == (
        "centroid",
        "tensors",
        4,
    )
    assert warnings_of(facts, "centroid_top_k is missing: 4 is assumed") and warnings_of(
        facts, "llama.cpp does not load"
    )
    assert facts["runnable"]


def test_half_a_centroid_head(inspect, tmp_path):
    meta, tensors = assistant()
    values = kv("gemma4-assistant.masked_embedding.centroids", ARR, [0.0] * 32, F32)
    facts = inspect(written(tmp_path / "a.gguf", {**meta, "x": values}, tensors))
    assert (
        "token_ordering is missing" in facts["drafter"]["head_reason"]
        and facts["drafter"]["head"] == "dense"
    )
    assert warnings_of(facts, "token_ordering is missing")
    both = kv("gemma4-assistant.masked_embedding.token_ordering", ARR, list(range(16)), I32)
    facts = inspect(written(tmp_path / "b.gguf", {**meta, "x": values, "y": both}, tensors))
    assert facts["drafter"]["centroid_form"] == "keys" and not warnings_of(facts, "llama.cpp")


def test_shapes_that_contradict_the_metadata(inspect, tmp_path):
    meta, tensors = gemma4(**PLAIN)
    wrong = [
        (name, kind, [dims[0], dims[1] * 2] if name == "blk.1.attn_q.weight" else dims)
        for name, kind, dims in tensors
    ]
    facts = inspect(written(tmp_path / "a.gguf", meta, wrong))
    assert (
        not facts["runnable"]
        and "blk.1.attn_q.weight: shape [8, 32], expected [8, 16]" in facts["reason"]
    )
    assert facts["memory"] == [] and facts["model"]["n_layers"] == 4
    facts = inspect(
        written(tmp_path / "b.gguf", {**meta, "gemma4.attention.key_length": 7}, tensors)
    )
    assert not facts["runnable"] and "differs" in facts["reason"] and facts["model"] is None
    assert facts["file"]["architecture"] == "gemma4"
    result = command(tmp_path / "b.gguf")
    assert (
        result.returncode == 0
        and "cannot be run: " in result.stdout
        and "gemma4.block_count" in result.stdout
    )


def test_large_contexts(inspect, tiny_target, monkeypatch):
    assert warnings_of(
        inspect(tiny_target, ctx=[4096]), "more than the 2048 the model was trained for"
    )
    assert not inspect(tiny_target, ctx=[2048])["warnings"]
    from pillion import inspection

    monkeypatch.setattr(inspection, "system", lambda: {"memory_bytes": 1 << 20})
    found = warnings_of(inspect(tiny_target, ctx=[2048]), "this machine has 1048576")
    assert len(found) == 1 and "--kv-type q8_0" in found[0]


def test_a_context_that_cannot_be_computed(pillion, inspect, tiny_target, monkeypatch):
    def no_room(*_, **__):
        raise pillion.OutOfMemoryError("no memory for 123 bytes of KV cache")

    monkeypatch.setattr(pillion.Model, "memory", no_room)
    facts = inspect(tiny_target)
    assert (
        facts["memory"] == []
        and warnings_of(facts, "no memory for 123 bytes")
        and facts["tokenizer"]
    )


def test_q4_cache_advice(pillion, inspect, tiny_target):
    with pytest.raises(pillion.UsageError, match="q8_0 halves the cache"):
        inspect(tiny_target, kv_type="q4_0")
    with pytest.raises(pillion.UsageError, match="it can be f16 or q8_0$"):
        inspect(tiny_target, kv_type="f8")


def test_a_drafter_that_does_not_fit(pillion, inspect, tiny_target, tiny_assistant):
    facts = inspect(tiny_target, drafter=GOLDEN / "tiny-e2b-assistant.gguf")
    assert not facts["pair"]["fits"] and "width 64, this one has 192" in facts["pair"]["reason"]
    assert warnings_of(facts, "does not fit") and facts["memory"][0]["drafter"] is None
    with pytest.raises(pillion.UsageError, match="is a drafter itself"):
        inspect(tiny_assistant, drafter=tiny_assistant)
    with pytest.raises(pillion.ModelNotFoundError):
        inspect(tiny_target, drafter="none.gguf")


# ---- files that are no models we run ----


def test_other_architectures_show_their_header(inspect, tmp_path):
    meta = {"general.architecture": "mamba", "mamba.block_count": 3}
    facts = inspect(written(tmp_path / "a.gguf", meta, [("a.weight", "Q4_0", [64, 2])]))
    assert not facts["runnable"] and "'mamba' is not supported" in facts["reason"]
    assert (
        facts["file"]["tensor_types"]["Q4_0"]["bytes"] == 72
        and facts["metadata"]["mamba.block_count"] == 3
    )
    result = command(tmp_path / "a.gguf")
    assert (result.returncode, result.stderr) == (0, "")
    assert (
        "architecture 'mamba' is not supported" in result.stdout
        and "mamba.block_count" in result.stdout
    )


def test_a_file_that_is_no_model(inspect, tmp_path):
    facts = inspect(
        written(tmp_path / "a.gguf", {"general.type": "imatrix"}, [("a.in_sum2", "F32", [4, 1])])
    )
    assert (
        facts["reason"] == "the file is of type imatrix, not a model"
        and facts["file"]["n_params"] == 4
    )


def test_damaged_files_are_one_sentence(tiny_target, tmp_path):
    whole = tiny_target.read_bytes()
    for name, raw in {
        "cut": whole[: len(whole) // 2],
        "head": whole[:40],
        "other": b"not a model",
        "empty": b"",
    }.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(raw)
        for options in ((), ("--json",)):
            result = command(path, *options)
            assert (result.returncode, result.stdout) == (1, "")
            assert (
                result.stderr.startswith("error: ")
                and result.stderr.count("\n") == 1
                and str(path) in result.stderr
            )


# ---- the command ----


def test_the_command(inspect, tiny_target, tiny_assistant):
    result = command(
        tiny_target,
        "--ctx",
        512,
        "--ctx",
        1024,
        "--kv-type",
        "q8_0",
        "--drafter",
        tiny_assistant,
        "--tensors",
    )
    assert (result.returncode, result.stderr) == (0, "")
    for part in (
        "bits per weight",
        "memory, context of 512, q8_0 cache",
        "memory, context of 1024, q8_0 cache",
        "stays in the file",
        "yes, mtp, centroid head",
        "ends generation  1 <eos>, 6 <turn|>",
        "blk.0.attn_q.weight",
        "chat template    yes",
    ):
        assert part in result.stdout, part
    result = command(tiny_target, "--ctx", 512, "--drafter", tiny_assistant, "--json")
    assert json.loads(result.stdout) == json.loads(
        json.dumps(inspect(tiny_target, ctx=[512], drafter=tiny_assistant))
    )


def test_the_command_on_a_drafter_and_on_the_fake(tiny_assistant, fake, toy_file):
    result = command(tiny_assistant)
    assert (
        "gemma4-assistant, a drafter" in result.stdout
        and "memory, without its target" in result.stdout
    )
    from pillion_fake.inspection import inspect_file

    facts = inspect_file(toy_file({"odd.key": "1"}), ctx=[100], tensors=True)
    assert facts["memory"][0]["total"] > 0 and "token_embd.weight" in [
        tensor["name"] for tensor in facts["tensors"]
    ]
    assert any("odd.key" in warning for warning in facts["warnings"])
