"""Importance matrices: the sums against transformers and against NumPy, their equality over threads
and run sizes, the file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from build import REPOSITORY
from patience import PATIENCE, over_and_over, until, within

gguf = pytest.importorskip("gguf")

GOLDEN = REPOSITORY / "tests" / "golden"
TEXT = (REPOSITORY / "tests" / "data" / "text-en.txt").read_text(encoding="utf-8")

# Of the strongest channel of a weight. What is left is the f16 cache, whose 2^-11 enter the squares
# twice; measured up to 4.3e-4.
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def target(pillion, tiny_target):
    with pillion.Model.open(tiny_target) as model:
        yield model


@pytest.fixture(scope="module")
def moe(pillion):
    with pillion.Model.open(GOLDEN / "tiny-moe.gguf") as model:
        yield model


def collected(model, chunks, **options):
    with model.context(len(chunks[0]), collect_activations=True, **options) as context:
        for chunk in chunks:
            context.score(chunk)
        return context.activations()


def read(path):
    reader = gguf.GGUFReader(path)
    fields = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    return fields, {tensor.name: tensor for tensor in reader.tensors}


# ---- the sums ----


@pytest.mark.parametrize("name", ["tiny-pair", "tiny-moe"])
def test_sums_are_the_reference_s(name, target, moe):
    """tests/golden/make_imatrix_golden.py: F.linear of transformers, watched."""
    golden = np.load(GOLDEN / f"imatrix-{name}.npz")
    found = collected(target if name == "tiny-pair" else moe, golden["ids"])
    names = {key.removesuffix(".in_sum2") for key in golden.files if key.endswith(".in_sum2")}
    # every weight there is, none twice, and none that nothing goes through
    assert set(found) == names
    for weight, activation in found.items():
        assert (activation.counts == golden[f"{weight}.counts"]).all(), weight
        expected = golden[f"{weight}.in_sum2"]
        difference = np.abs(activation.sums - expected).max(axis=1)
        assert (difference <= TOLERANCE * np.maximum(expected.max(axis=1), 1e-12)).all(), weight


def test_all_rows_of_all_layers_count(target):
    golden = np.load(GOLDEN / "imatrix-tiny-pair.npz")
    found = collected(target, golden["ids"])
    assert {float(a.counts[0]) for a in found.values()} == {golden["ids"].size}
    for weight in (
        "token_embd.weight",
        "per_layer_model_proj.weight",
        "blk.7.inp_gate.weight",
        "blk.7.ffn_down.weight",
    ):
        # the tied head, per-layer embeddings, the layers behind the last cache
        assert weight in found
    assert "blk.7.attn_k.weight" not in found  # borrows its keys
    # what the header says of the other calls
    with target.context(64, collect_activations=True) as context:
        context.prefill(golden["ids"][0, :40].tolist(), outputs=1)
        counts = {name: int(a.counts[0]) for name, a in context.activations().items()}
    assert (
        counts["blk.0.attn_q.weight"] == 40
        and counts["blk.7.ffn_down.weight"] == counts["token_embd.weight"] == 1
    )


def test_first_layer_against_numpy(target, tiny_target):
    ids = np.load(GOLDEN / "imatrix-tiny-pair.npz")["ids"]
    tensors = {t.name: t for t in gguf.GGUFReader(tiny_target).tensors}

    def values(name):
        return gguf.dequantize(tensors[name].data, tensors[name].tensor_type).astype(np.float64)

    x = values("token_embd.weight")[ids.ravel()] * np.sqrt(target.n_embd)
    y = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-6) * values("blk.0.attn_norm.weight")
    found = collected(target, ids)
    for name, rows in {
        "per_layer_model_proj": x,
        "blk.0.attn_q": y,
        "blk.0.attn_k": y,
        "blk.0.attn_v": y,
    }.items():
        np.testing.assert_allclose(
            found[f"{name}.weight"].sums[0], (rows**2).sum(axis=0), rtol=1e-5
        )


def test_equal_bits_whatever_the_threads_and_the_size_of_runs(target, moe):
    for model, name in ((target, "tiny-pair"), (moe, "tiny-moe")):
        ids = np.load(GOLDEN / f"imatrix-{name}.npz")["ids"]
        first = collected(model, ids, n_threads=1)
        for options in (
            {"n_threads": 2},
            {"n_threads": 5, "n_batch": 7},
            {"n_threads": 1, "n_batch": 1},
        ):
            for weight, again in collected(model, ids, **options).items():
                assert (again.sums == first[weight].sums).all() and (
                    again.counts == first[weight].counts
                ).all(), (
                    options,
                    weight,
                )


def test_many_chunks_stay_exact(target):
    """Double sums: 64 times the same chunk is 64 times its sums, up to the rounding of one
    float."""
    chunk = np.load(GOLDEN / "imatrix-tiny-pair.npz")["ids"][:1, :48]
    once, often = collected(target, chunk), collected(target, np.repeat(chunk, 64, axis=0))
    for weight, activation in often.items():
        assert activation.counts[0] == 64 * 48
        np.testing.assert_allclose(activation.sums, 64 * once[weight].sums, rtol=2e-7)


def test_experts_that_were_never_chosen(moe):
    ids = np.load(GOLDEN / "imatrix-tiny-moe.npz")["ids"][:1, :4]
    found = collected(moe, ids)["blk.0.ffn_down_exps.weight"]
    n_experts, n_used = moe.describe()["n_experts"], moe.describe()["n_experts_used"]
    assert found.sums.shape[0] == found.counts.shape[0] == n_experts
    assert found.counts.sum() == 4 * n_used
    unused = found.counts == 0
    assert (
        unused.any()
        and (found.sums[unused] == 0).all()
        and (found.sums[~unused].sum(axis=1) > 0).all()
    )


def test_other_contexts_pay_nothing(target):
    ids = np.load(GOLDEN / "imatrix-tiny-pair.npz")["ids"][0].tolist()
    kernels, logits = [], []
    for collect in (False, True):
        with target.context(128, collect_activations=collect) as context:
            context.prefill(ids)
            kernels.append([step["kernel"] for step in context.describe()["plan"]])
            logits.append(context.logits())
    assert "observe" not in kernels[0] and kernels[1].count("observe") > 8
    assert [kernel for kernel in kernels[1] if kernel != "observe"] == kernels[0]
    assert (logits[0] == logits[1]).all()


def test_a_broken_run_spoils_the_sums(pillion, target):
    with (
        target.context(64) as context,
        pytest.raises(pillion.UsageError, match="collect_activations"),
    ):
        context.activations()
    with target.context(2048, n_batch=16, collect_activations=True) as context:
        with over_and_over(context.cancel), pytest.raises(pillion.Cancelled):
            context.score([5] * 2000)
        with pytest.raises(pillion.UsageError, match="broken off"):
            context.activations()


# ---- the file ----


def test_the_file(pillion, moe, tmp_path):
    out, calls = tmp_path / "out.gguf", []
    summary = pillion.imatrix(
        moe,
        TEXT,
        out,
        chunk=32,
        chunks=3,
        dataset="text-en.txt",
        progress=lambda done, total: calls.append((done, total)),
    )
    assert (summary.n_chunks, summary.n_tokens, calls) == (3, 96, [(1, 3), (2, 3), (3, 3)])
    assert summary.perplexity > 1
    fields, tensors = read(out)
    assert fields == {
        "general.type": "imatrix",
        "imatrix.datasets": ["text-en.txt"],
        "imatrix.chunk_count": 3,
        "imatrix.chunk_size": 32,
    }
    assert len(tensors) == 2 * summary.n_weights
    n_experts = moe.describe()["n_experts"]
    shapes = {
        "blk.0.attn_q.weight": (moe.n_embd, 1),
        "blk.0.ffn_gate_up_exps.weight": (moe.n_embd, n_experts),
    }
    for weight, (n_in, n_mat) in shapes.items():
        assert tensors[f"{weight}.in_sum2"].shape.tolist() == [n_in, n_mat]
        assert tensors[f"{weight}.counts"].shape.tolist() == [1, n_mat]
        assert {tensors[f"{weight}.{part}"].tensor_type for part in ("in_sum2", "counts")} == {
            gguf.GGMLQuantizationType.F32
        }
    ids = np.asarray(moe.tokenizer.encode(TEXT), np.int32)[:96].reshape(3, 32)
    ids[:, 0] = moe.tokenizer.bos
    for weight, activation in collected(moe, ids).items():
        assert (tensors[f"{weight}.in_sum2"].data == activation.sums).all()
        assert (tensors[f"{weight}.counts"].data.ravel() == activation.counts).all()
    assert {
        name: n for name, n in summary.unused_experts.items() if not name.endswith("exps.weight")
    } == {}


def test_the_same_file_again(pillion, target, tmp_path):
    for n_threads in (1, 2):
        pillion.imatrix(
            target, TEXT, tmp_path / f"{n_threads}.gguf", chunk=64, chunks=2, n_threads=n_threads
        )
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes()


@pytest.mark.parametrize(
    "text, options, sentence",
    [
        ("", {}, "the text has 1 tokens, less than one chunk of 512"),
        ("In the beginning", {"chunk": 100}, "less than one chunk of 100"),
        (TEXT, {"chunk": 3}, "chunk is 3; it must be at least 4 tokens"),
        (TEXT, {"chunk": 64, "chunks": 0}, "chunks is 0"),
    ],
)
def test_a_text_that_will_not_do(pillion, target, tmp_path, text, options, sentence):
    with pytest.raises(pillion.UsageError, match=sentence):
        pillion.imatrix(target, text, tmp_path / "out.gguf", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_will_not_do(pillion, target, tmp_path):
    with pytest.raises(pillion.UsageError, match="does not exist"):
        pillion.imatrix(target, TEXT, tmp_path / "none" / "out.gguf", chunk=64, chunks=1)
    with pytest.raises(pillion.UsageError, match="the model itself"):
        pillion.imatrix(target, TEXT, target.path, chunk=64, chunks=1)


def test_without_the_gguf_package(pillion, target, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(pillion.UsageError, match="pip install .pillion.convert.."):
        pillion.imatrix(target, TEXT, tmp_path / "out.gguf", chunk=64, chunks=1)


def test_what_fails_leaves_the_old_file(pillion, target, tmp_path, monkeypatch):
    out = tmp_path / "out.gguf"
    out.write_text("old")

    def stop(done, total):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        pillion.imatrix(target, TEXT, out, chunk=64, chunks=2, progress=stop)
    with (
        monkeypatch.context() as patch,
        pytest.raises(pillion.ModelFileError, match="writing failed: the disk is full"),
    ):  # in the middle of the file

        def full(*_, **__):
            raise OSError("the disk is full")

        patch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
        pillion.imatrix(target, TEXT, out, chunk=64, chunks=1)
    assert out.read_text() == "old" and list(tmp_path.iterdir()) == [out]


def test_weights_that_are_broken(pillion, target, tmp_path, monkeypatch):
    from pillion.context import Activation

    nan = {
        "blk.0.attn_q.weight": Activation(
            np.full((1, 4), np.nan, np.float32), np.ones(1, np.float32)
        )
    }
    monkeypatch.setattr(pillion.Context, "activations", lambda self: nan)
    with pytest.raises(pillion.ModelFileError, match=r"blk\.0\.attn_q\.weight is not finite"):
        pillion.imatrix(target, TEXT, tmp_path / "out.gguf", chunk=64, chunks=1)
    assert list(tmp_path.iterdir()) == []


# ---- the command ----


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pillion", "imatrix", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command(pillion, tiny_target, tmp_path):
    text, out = tmp_path / "text.txt", tmp_path / "out.gguf"
    text.write_text(TEXT)
    result = command(
        "-m", tiny_target, "-f", text, "-o", out, "--chunk", 64, "--chunks", 2, "--threads", 1
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert (
        "66 weights over 128 tokens (2 chunks of 64)" in result.stdout and "PPL = " in result.stdout
    )
    fields, tensors = read(out)
    assert fields["imatrix.datasets"] == [str(text)] and len(tensors) == 132


def test_the_command_tells_of_unused_experts(pillion, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    result = command(
        "-m",
        GOLDEN / "tiny-moe.gguf",
        "-f",
        text,
        "-o",
        tmp_path / "out.gguf",
        "--chunk",
        4,
        "--chunks",
        1,
    )
    assert result.returncode == 0 and "were never chosen" in result.stdout


@pytest.mark.parametrize(
    "wrong, sentence",
    [("drafter", "needs a target"), ("empty", "less than one chunk"), ("none", "No such file")],
)
def test_the_command_says_what_is_wrong(pillion, tiny_target, tmp_path, wrong, sentence):
    from pillion.models import TINY_ASSISTANT

    text = tmp_path / "text.txt"
    if wrong != "none":
        text.write_text("" if wrong == "empty" else TEXT)
    result = command(
        "-m",
        TINY_ASSISTANT if wrong == "drafter" else tiny_target,
        "-f",
        text,
        "-o",
        tmp_path / "out.gguf",
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert (
        result.stderr.startswith("error: ")
        and result.stderr.count("\n") == 1
        and sentence in result.stderr
    )
    assert not (tmp_path / "out.gguf").exists()


def test_ctrl_c_writes_nothing(fake, toy_file, tmp_path):
    """Over the fake, which can dawdle."""
    text = tmp_path / "text.txt"
    text.write_text("abcdefgh" * 200)
    folder = tmp_path / "out"
    folder.mkdir()
    cli = [sys.executable, str(REPOSITORY / "tests" / "fake" / "cli.py")]
    arguments = [
        "imatrix",
        "-m",
        str(toy_file()),
        "-f",
        str(text),
        "-o",
        str(folder / "out.gguf"),
        "--chunk",
        "64",
    ]
    marks = tmp_path / "marks"
    marks.mkdir()
    environment = {**os.environ, "FAKE_SLOW": "50000", "FAKE_MARKS": str(marks)}  # over a minute
    process = subprocess.Popen(
        [*cli, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    until((marks / "eval").exists)
    process.send_signal(signal.SIGINT)
    with within(PATIENCE):
        _, errors = process.communicate(timeout=2 * PATIENCE)
    assert (process.returncode, errors.strip()) == (130, "")
    assert list(folder.iterdir()) == []


def test_over_the_fake(fake, strings, toy_file, tmp_path):
    with fake.Model.open(toy_file()) as model:
        summary = fake.imatrix(
            model, "abc" * 20, tmp_path / "out.gguf", chunk=16, chunks=1, dataset="ä.txt"
        )
    assert (summary.n_weights, summary.n_tokens) == (8, 16)
    fields, tensors = read(tmp_path / "out.gguf")
    assert fields["imatrix.datasets"] == ["ä.txt"]
    # the toy's normed rows are ones
    sums = tensors["blk.0.attn_q.weight.in_sum2"].data.ravel()
    assert sums == pytest.approx(np.full(32, 16), rel=1e-4)
    assert Path(tmp_path / "out.gguf").stat().st_size < 8192
