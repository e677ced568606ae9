"""The model graphs against transformers in float32, on tiny models of every shape
(tests/golden/make_golden.py)."""

import numpy as np
import pytest

from made_files import remade
from goldens import GOLDEN, SHAPES, model_path


# The issue's bound for float32 engines. What is left is the f16 cache: keys and values carry 2^-11
# relative rounding.
NMSE = 1e-5
# int8 cache: 1/254 of the largest of 32 values. Measured up to 5e-5.
NMSE_Q8 = 5e-4


def nmse(ours, reference):
    ours, reference = ours.astype(np.float64), reference.astype(np.float64)
    return float(((ours - reference) ** 2).sum() / (reference**2).sum())


@pytest.fixture(scope="module", params=SHAPES)
def shape(request, pillion):
    with pillion.Model.open(model_path(request.param)) as model:
        yield model, np.load(GOLDEN / f"{request.param}.npz")


def outputs(model, ids, **options):
    with model.context(n_ctx=128, n_outputs=len(ids), **options) as context:
        context.prefill(ids, outputs=len(ids))
        logits = np.stack([context.logits(row) for row in range(len(ids))])
        hidden = np.stack([context.hidden(row) for row in range(len(ids))])
    return logits, hidden


def test_logits_and_hidden_rows(shape):
    model, golden = shape
    logits, hidden = outputs(model, golden["long.ids"].tolist())
    assert nmse(logits[golden["long.logit_rows"]], golden["long.logits"]) < NMSE
    assert nmse(hidden[: len(golden["long.hidden"])], golden["long.hidden"]) < NMSE


def test_quantized_cache_stays_close(shape):
    model, golden = shape
    logits, _ = outputs(model, golden["long.ids"].tolist(), kv_type="q8_0")
    assert nmse(logits[golden["long.logit_rows"]], golden["long.logits"]) < NMSE_Q8


@pytest.mark.parametrize("prompt", ["long", "short"])
def test_greedy_text_is_the_reference_s(shape, prompt):
    model, golden = shape
    with model.context(n_ctx=128) as context:
        context.prefill(golden[f"{prompt}.ids"].tolist())
        for step, expected in enumerate(golden[f"{prompt}.greedy"].tolist()):
            token = int(context.logits().argmax())
            if golden[f"{prompt}.greedy_margin"][step] < 0.05:
                # nearer than what an f16 cache can move: either token is right, the text must not
                # fork
                token = expected
            assert token == expected, f"token {step}"
            context.decode(token)


def test_tiny_pair_target(pillion, tiny_target):
    golden = np.load(GOLDEN / "tiny-pair.npz")
    with pillion.Model.open(tiny_target) as model:
        logits, hidden = outputs(model, golden["long.ids"].tolist())
        assert nmse(logits[golden["long.logit_rows"]], golden["long.logits"]) < NMSE
        assert nmse(hidden, golden["long.hidden"]) < NMSE
        ends = {model.tokenizer.token_text(token) for token in model.tokenizer.end_tokens}
        assert ends == {"<eos>", "<turn|>", "<|tool_response>"}


@pytest.mark.parametrize("name", SHAPES + ["tiny-pair"])
def test_tokenizer_gives_the_reference_s_ids(pillion, tiny_target, name):
    golden = np.load(GOLDEN / f"{name}.npz")
    with pillion.Model.open(
        tiny_target if name == "tiny-pair" else model_path(name), metadata_only=True
    ) as model:
        for i, text in enumerate(golden["tok.texts"].tolist()):
            assert (
                model.tokenizer.encode(text, parse_special=True) == golden[f"tok.ids_{i}"].tolist()
            ), text


def test_a_drafter_alone_says_that_it_needs_a_target(pillion):
    with pillion.Model.open(model_path("tiny-e2b-assistant")) as drafter:
        assert drafter.is_drafter
        with pytest.raises(pillion.PairingError, match="needs a target"):
            drafter.context()
        assert drafter.describe()["drafter"]["head"] == "centroid"  # and the next call works


# Names that other architectures have. Nothing compares their shapes with the metadata, so nothing
# may be computed with them.
STRAY = {
    "tiny-llama": [
        "blk.0.attn_q_norm.weight",
        "blk.0.attn_k_norm.weight",
        "blk.1.post_attention_norm.weight",
        "blk.2.inp_gate.weight",
    ],
    "tiny-gemma3": [
        "blk.0.inp_gate.weight",
        "blk.0.ffn_gate_inp.weight",
        "per_layer_token_embd.weight",
        "nextn.pre_projection.weight",
    ],
}


@pytest.mark.parametrize("name", STRAY)
def test_tensors_of_other_architectures_are_not_used(pillion, tmp_path, name):
    stray = {tensor: (np.full((1, 2), np.nan, np.float32), "F32") for tensor in STRAY[name]}
    ids = np.load(GOLDEN / f"{name}.npz")["short.ids"].tolist()
    with (
        pillion.Model.open(model_path(name)) as plain,
        pillion.Model.open(remade(model_path(name), tmp_path / "a.gguf", tensors=stray)) as model,
    ):
        assert sorted(model.describe()["unknown_tensors"]) == sorted(STRAY[name])
        np.testing.assert_array_equal(outputs(model, ids)[0], outputs(plain, ids)[0])


def test_an_assistant_has_no_fused_attention(pillion, tmp_path):
    """Its rows were once taken for queries, as many as the metadata says: beyond the tensor, beyond
    the file."""
    source, one_row = (
        model_path("tiny-dense-assistant"),
        {"blk.3.attn_qkv.weight": (np.ones((1, 32), np.float32), "F32")},
    )
    drafts = {}
    for path in (
        source,
        remade(
            source,
            tmp_path / "extra.gguf",
            tensors={**one_row, "output.weight": (np.ones((1, 32), np.float32), "F32")},
        ),
    ):
        with (
            pillion.Model.open(model_path("tiny-dense")) as target,
            pillion.Model.open(path) as drafter,
            target.context(n_ctx=64) as context,
            pillion.Pair(context, drafter) as pair,
        ):
            context.prefill([2, 5, 7, 11])
            drafts[path] = pair.draft(9, 4)
    assert len(drafts[source]) == 4 and len({tuple(d) for d in drafts.values()}) == 1
    without = remade(
        source, tmp_path / "without.gguf", tensors={**one_row, "blk.3.attn_q.weight": None}
    )
    with pytest.raises(pillion.ModelFileError, match="blk.3.attn_q.weight: missing"):
        pillion.Model.open(without)
