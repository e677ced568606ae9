"""Real files against transformers running the dequantized weights in float32
(tests/golden/make_real_golden.py)."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "golden"))
GOLDEN = Path(__file__).resolve().parent.parent / "golden"
ROWS = 64  # logits of 512 rows of a 262,144-token vocabulary would be half a gigabyte


@pytest.fixture(scope="module", params=["gemma3-270m", "smollm2-135m"])
def real(request, pillion):
    path = request.getfixturevalue(request.param.replace("-", "_"))
    with pillion.Model.open(path) as model:
        yield request.param, model


def rows_of(context, ids):
    """Logits of each position, a few at a time."""
    context.rewind(0)
    for at in range(0, len(ids), ROWS):
        piece = ids[at : at + ROWS]
        context.prefill(piece, outputs=len(piece))
        for row in range(len(piece)):
            yield context.logits(row, copy=False)


@pytest.mark.parametrize("kv", ["f16", "q8_0"])
def test_divergence_and_perplexity(real, kv):
    from make_real_golden import compare

    name, model = real
    ids = np.load(GOLDEN / f"{name}.npz")["ids"].tolist()
    with model.context(n_ctx=512, n_outputs=ROWS, kv_type=kv) as context:
        result = compare(name, rows_of(context, ids))
    print(name, kv, result)
    assert result["kl"] < 0.01
    assert abs(result["perplexity"] / result["reference_perplexity"] - 1) < 0.01


def test_score_is_the_log_probability_of_the_logits(real):
    name, model = real
    golden = np.load(GOLDEN / f"{name}.npz")
    ids = golden["ids"].tolist()[:130]
    with model.context(n_ctx=256) as context:
        ours = context.score(ids)
        # What is left is the int8 rounding of activations: nats on single tokens scatter, their
        # mean does not.
        assert abs(float(ours.mean()) - float(golden["next_logprob"][:129].mean())) < 0.03
        context.rewind(0)
        context.prefill(ids[:-1])
        assert ours[-1] == pytest.approx(context.logprobs(token=ids[-1]).token, abs=1e-5)


def test_ids_are_the_reference_s(real):
    name, model = real
    golden = np.load(GOLDEN / f"{name}.npz")
    text = (Path(__file__).resolve().parent.parent / "data" / "text-en.txt").read_text(
        encoding="utf-8"
    )
    assert model.tokenizer.encode(text)[:512] == golden["ids"].tolist()


def test_greedy_text_is_sensible(real):
    """Equal to the reference as far as its choice is clear: quantized activations may decide near
    ties otherwise."""
    name, model = real
    golden = np.load(GOLDEN / f"{name}.npz")
    with model.context(n_ctx=64) as context:
        context.prefill(golden["france.ids"].tolist())
        for step, expected in enumerate(golden["france.greedy"].tolist()):
            token = int(context.logits().argmax())
            if golden["france.greedy_margin"][step] > 0.5:
                assert token == expected, f"token {step} of {golden['france.text']!r}"
            context.decode(expected)
