"""Counted work against what the files hold, and measured limits against reason."""

from pathlib import Path

import gguf
import pytest

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def matrices(path):
    """(name, elements, bytes) of the matrices of a file but the tables that are only looked up
    in."""
    tensors = [t for t in gguf.GGUFReader(path).tensors if len(t.shape) > 1]
    tables = {"per_layer_token_embd.weight"}
    if any(t.name == "output.weight" for t in tensors):
        tables.add("token_embd.weight")  # else it is the head too
    return [(t.name, int(t.n_elements), int(t.n_bytes)) for t in tensors if t.name not in tables]


def test_one_row_reads_every_matrix_once(pillion):
    for name in ("tiny-llama", "tiny-gemma3", "tiny-dense", "tiny-e2b"):
        found = matrices(GOLDEN / f"{name}.gguf")
        with pillion.Model.open(GOLDEN / f"{name}.gguf") as model, model.context(64) as context:
            work = context.work(1, 1)
            assert work.multiply_adds == sum(elements for _, elements, _ in found), name
            assert work.weight_bytes == sum(n_bytes for _, _, n_bytes in found), name
            four = context.work(4, 4)
            assert (
                four.multiply_adds == 4 * work.multiply_adds
                and four.weight_bytes == work.weight_bytes
            )
            assert four.kv_bytes > work.kv_bytes > 0


def test_rows_that_nobody_reads_cost_less(pillion):
    with (
        pillion.Model.open(GOLDEN / "tiny-e2b.gguf") as model,
        model.context(64, n_batch=16) as context,
    ):
        assert context.work(16, 1).multiply_adds < 0.8 * context.work(16, 16).multiply_adds
        chunks = context.work(40, 1)  # 16, 16 and 8 rows, the first two without output
        assert chunks.multiply_adds < 2.5 * context.work(16, 1).multiply_adds
        context.prefill(model.tokenizer.encode("abc"))
        with pytest.raises(pillion.UsageError, match="n_ctx is 64"):
            context.work(64, 1)


def test_experts_are_read_as_far_as_rows_reach_them(pillion):
    experts = [m for m in matrices(GOLDEN / "tiny-moe.gguf") if "_exps" in m[0]]
    others = sum(
        n_bytes for name, _, n_bytes in matrices(GOLDEN / "tiny-moe.gguf") if "_exps" not in name
    )
    with pillion.Model.open(GOLDEN / "tiny-moe.gguf") as model, model.context(64) as context:
        moe = model.metadata["gemma4.expert_used_count"] / model.metadata["gemma4.expert_count"]
        one, many = context.work(1, 1), context.work(64, 16)
        assert one.weight_bytes - others == pytest.approx(
            moe * sum(n_bytes for _, _, n_bytes in experts)
        )
        assert (
            one.weight_bytes
            < many.weight_bytes
            <= others + sum(n_bytes for _, _, n_bytes in experts)
        )


def test_limits_of_this_machine(pillion, tiny_target):
    with pillion.Model.open(tiny_target) as model:
        one, two = (model.context(64, n_threads=n).limits() for n in (1, 2))
        for limits in (one, two):
            assert 1e8 < limits.read_bytes_per_second < 1e13
            assert (
                limits.multiply_adds_per_second == 0 or 1e8 < limits.multiply_adds_per_second < 1e14
            )
