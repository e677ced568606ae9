"""What the tests of whole models on a device share: greedy texts, rounds, rows in pieces."""

import os

import numpy as np
import pytest
from fake_grammar import FakeGrammar
from goldens import GOLDEN, SHAPES, model_path

# over a split (256 positions are a power of two of them), a bucket, and the end of a ring
BEFORE, N = 244, 24


def needs(pillion, device):
    """Skips where the device is not there."""
    try:
        pillion.Model.open(model_path(SHAPES[0]), device=device).close()
    except pillion.NoBackendError as error:
        pytest.skip(f"no {device}: {error} (make build makes it)")


def open_model(pillion, name, device):
    return pillion.Model.open(
        name if isinstance(name, os.PathLike) else model_path(name), device=device
    )


def greedy(pillion):
    return pillion.Sampler(pillion.SamplingParams(temperature=0))


def ids_of(name, prompt="long"):
    return np.load(GOLDEN / f"{name}.npz")[f"{prompt}.ids"].tolist()


def nmse(ours, reference):
    ours, reference = ours.astype(np.float64), reference.astype(np.float64)
    return float(((ours - reference) ** 2).sum() / (reference**2).sum())


def decode(pillion, model, ids, n, **settings):
    """n greedy tokens and the logits they came from."""
    tokens, logits, sampler = [], [], greedy(pillion)
    with model.context(**{"n_ctx": 128, **settings}) as context:
        context.sync(ids)
        for _ in range(n):
            logits.append(context.logits())
            tokens.append(sampler.sample(context))
            sampler.accept(tokens[-1])
            context.decode(tokens[-1])
    return tokens, np.stack(logits)


def rounds(pillion, pair, prompt, n, n_draft):
    tokens, sampler = [], greedy(pillion)
    pair.sync(prompt)
    while len(tokens) < n:
        tokens += pair.step(sampler, n_draft, n - len(tokens)).tokens
    return tokens


def constrained(pillion, model, drafter, ids, n, params, processed, k=None):
    """n tokens under a random grammar, or one and a logits processor: plain steps, or rounds of
    k."""
    from pillion.constraint import LogitsProcessors, constrained_round, constrained_token

    def favour(tokens, scores):
        scores[int(tokens[-1]) % 7 :: 7] += 2.0
        return scores

    constraint = FakeGrammar(ids, model.n_vocab, seed=3)
    if processed:
        constraint = LogitsProcessors(favour, ids, constraint)
    sampler, tokens = pillion.Sampler(pillion.SamplingParams(**params)), []
    with model.context(128) as context:
        if k is None:
            context.sync(ids)
            while len(tokens) < n:
                tokens.append(constrained_token(context, sampler, constraint))
                context.decode(tokens[-1])
            return tokens
        with pillion.Pair(context, drafter) as pair:
            pair.sync(ids)
            while len(tokens) < n:
                tokens += constrained_round(pair, sampler, constraint, k, n - len(tokens)).tokens
            assert pair.stats.forced + pair.stats.drafted > 0
    return tokens


CONSTRAINED = [
    (dict(temperature=0), False),
    (dict(temperature=1.0, seed=4), False),
    (dict(temperature=0), True),
]


def constrained_rounds(pillion, model, drafter, ids, n=16):
    """Plain constrained steps and constrained rounds write the same tokens."""
    for params, processed in CONSTRAINED:
        want = constrained(pillion, model, drafter, ids, n, params, processed)
        for k in (3, "auto"):
            assert constrained(pillion, model, drafter, ids, n, params, processed, k) == want, (
                params,
                processed,
                k,
            )


def rows_in_pieces(model, ids, pieces, kv_type):
    """The bits of the logits of ids[BEFORE:], run in pieces of these lengths, again and again."""
    with model.context(n_ctx=512, kv_type=kv_type) as context:
        context.prefill(ids[:BEFORE], outputs=0)
        out, at = [], BEFORE
        while at < len(ids):
            piece = ids[at : at + pieces[len(out) % len(pieces)]]
            context.prefill(piece, outputs=len(piece))
            out.append([context.logits(row).tobytes() for row in range(len(piece))])
            at += len(piece)
    return [row for rows in out for row in rows]


def back_after_a_long_answer(pillion, model, drafter, ids, kv_type="f16"):
    """A context (with a drafter's copies of its caches) that went back to its prompt after 400
    tokens does what one does that never left it: logits, and drafts. Returns how many tokens were
    kept."""
    answer = (ids * 8)[:400]
    found = []
    for back in (True, False):
        context = model.context(n_ctx=512, n_batch=64, kv_type=kv_type, n_outputs=9)
        with context, pillion.Pair(context, drafter) as pair:
            context.sync(ids)
            kept = len(ids)
            if back:
                context.prefill(answer, outputs=0)
                kept = context.sync([*ids, 3])
            else:
                context.decode(3)
            found.append((context.logits().tobytes(), pair.draft(5, 3)))
    assert found[0] == found[1]
    return kept
