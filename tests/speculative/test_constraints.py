"""Rounds under a constraint: the tokens of plain constrained steps, for every number of drafts."""

import itertools
from collections import Counter

import numpy as np
import pytest
from fake_grammar import FakeGrammar, mask_of
from patience import PATIENCE, over_and_over
from chi_square import p_of_counts

KS = [*range(9), "auto"]
N = 40
SAMPLING = {
    "greedy": dict(temperature=0),
    "sampled": dict(temperature=1.0, seed=4, top_k=0, top_p=1.0, min_p=0.0),
    "penalties": dict(temperature=0.8, seed=3, repeat_penalty=1.2, presence_penalty=0.3),
    "bias": dict(temperature=0, logit_bias={5: 2.0, 368: -1.5, 300: 1.0}),
}


@pytest.fixture(scope="module")
def tiny(pillion, tiny_target):
    """(pair, another context of its model, prompt)."""
    with pillion.LLM(tiny_target, n_ctx=256) as llm, llm.model.context(256) as solo:
        assert llm.pair.stats.kind == "mtp"
        yield llm.pair, solo, llm.tokenize("Genesis 1\n\nIn the beginning")


@pytest.fixture
def pair(tiny):
    found, _, prompt = tiny
    found.sync(prompt)
    found.reset_stats()
    return found


def sampler_of(pillion, **params):
    return pillion.Sampler(pillion.SamplingParams(**params))


def alone(pillion, context, prompt, sampler, constraint, n=N):
    """n tokens, one after another, without a drafter."""
    from pillion.constraint import constrained_token

    tokens = []
    context.sync(prompt)
    while len(tokens) < n:
        tokens.append(constrained_token(context, sampler, constraint))
        context.decode(tokens[-1])
    return tokens


def together(pillion, pair, prompt, sampler, constraint, k, n=N):
    """The same by rounds of k drafts."""
    from pillion.constraint import constrained_round

    tokens = []
    pair.sync(prompt)
    while len(tokens) < n:
        tokens += constrained_round(pair, sampler, constraint, k, n - len(tokens)).tokens
    return tokens


# ---- the same tokens ----


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.parametrize("forced", [0.0, 0.25, 0.7])
def test_rounds_write_what_constrained_steps_write(pillion, tiny, pair, name, forced):
    _, solo, prompt = tiny
    for seed in range(2):

        def grammar(seed=seed):
            return FakeGrammar(prompt, pair.context.model.n_vocab, seed, forced)

        expected = alone(pillion, solo, prompt, sampler_of(pillion, **SAMPLING[name]), grammar())
        for k in KS:
            sampler = sampler_of(pillion, **SAMPLING[name])
            assert together(pillion, pair, prompt, sampler, grammar(), k) == expected, (seed, k)
    stats = pair.stats
    assert stats.tokens == 2 * len(KS) * N
    assert 0 < stats.accepted < stats.drafted or forced > 0.5
    assert (stats.forced > 0) == (forced > 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_more_grammars(pillion, tiny, pair, seed):
    _, solo, prompt = tiny
    rng = np.random.default_rng(seed)
    params = dict(
        temperature=float(rng.choice([0, 1])), seed=seed + 1, top_k=int(rng.choice([0, 5]))
    )
    share, forced = float(rng.choice([0.999, 0.9, 0.3, 0.002])), float(rng.choice([0, 0.1, 0.9]))

    def grammar():
        return FakeGrammar(prompt, pair.context.model.n_vocab, seed, forced, share)

    expected = alone(pillion, solo, prompt, sampler_of(pillion, **params), grammar(), 150)
    for k in KS:
        sampler = sampler_of(pillion, **params)
        assert together(pillion, pair, prompt, sampler, grammar(), k, 150) == expected, k


@pytest.mark.parametrize("drafter", ["lookup", "model"])
def test_other_drafters(pillion, tiny, tiny_target, drafter):
    _, solo, prompt = tiny
    repeated = prompt * 4
    for params in (SAMPLING["greedy"], SAMPLING["sampled"]):
        with solo.model.context(256) as context:
            opened = pillion.Pair(context, "lookup" if drafter == "lookup" else tiny_target)
            with opened as pair:

                def grammar():
                    return FakeGrammar(repeated, context.model.n_vocab, 3, 0.2)

                expected = alone(pillion, solo, repeated, sampler_of(pillion, **params), grammar())
                for k in (2, 8, "auto"):
                    sampler = sampler_of(pillion, **params)
                    assert together(pillion, pair, repeated, sampler, grammar(), k) == expected, k


def test_end_tokens_and_n_max(pillion, tiny, pair):
    """Every end of a text, by number and by token."""
    from pillion.constraint import constrained_round

    _, solo, prompt = tiny
    n_vocab = pair.context.model.n_vocab
    whole = alone(
        pillion,
        solo,
        prompt,
        sampler_of(pillion, temperature=0),
        FakeGrammar(prompt, n_vocab, 1),
        16,
    )
    for n, k in itertools.product(range(1, 17, 3), (0, 3, 8)):
        sampler = sampler_of(pillion, temperature=0)
        assert (
            together(pillion, pair, prompt, sampler, FakeGrammar(prompt, n_vocab, 1), k, n)
            == whole[:n]
        )
        pair.sync(prompt)
        grammar, tokens, end = FakeGrammar(prompt, n_vocab, 1), [], whole[n - 1]
        while True:
            one = constrained_round(
                pair, sampler_of(pillion, temperature=0), grammar, k, None, [end]
            )
            tokens += one.tokens
            if one.ended:
                break
        assert tokens == whole[: whole.index(end) + 1]


def test_the_end_of_the_context(pillion, tiny, tiny_target):
    from pillion.constraint import constrained_round

    prompt = tiny[2]
    for n_ctx, n_outputs in ((len(prompt) + 7, None), (len(prompt) + 12, 1), (len(prompt) + 12, 3)):
        with (
            pillion.LLM(tiny_target, n_ctx=n_ctx) as llm,
            llm.model.context(n_ctx, n_outputs=n_outputs) as context,
        ):
            n_vocab, n = context.model.n_vocab, n_ctx - len(prompt) + 1
            grammar = FakeGrammar(prompt, n_vocab, 2)
            context.sync(prompt)
            sampler, expected = sampler_of(pillion, temperature=0), []
            from pillion.constraint import constrained_token

            for i in range(n):
                expected.append(constrained_token(context, sampler, grammar))
                if i + 1 < n:
                    context.decode(expected[-1])
            with pillion.Pair(context, llm.pair.drafter) as pair:
                for k in (0, 3, 8, "auto"):
                    grammar, sampler, tokens = (
                        FakeGrammar(prompt, n_vocab, 2),
                        sampler_of(pillion, temperature=0),
                        [],
                    )
                    pair.sync(prompt)
                    with pytest.raises(pillion.ContextFullError, match=f"n_ctx {n_ctx}"):
                        while True:
                            tokens += constrained_round(pair, sampler, grammar, k).tokens
                    assert tokens == expected, k


# ---- drafts that are drawn ----

N_CANDIDATES, N_TOKENS = 8, 4


class Narrow:
    """Lets a few likely tokens come, by a table of texts. Which ones depends on the text, and
    behind some it is one only. Behind N_TOKENS all are free."""

    stopped = False

    def __init__(self, table):
        self.table, self.text = table, ()

    def row(self, *drafts):
        return self.table.get((*self.text, *drafts), self.table["free"])

    def forced(self, n_max):
        allowed = self.row()[0] if n_max else ()
        return list(allowed) if len(allowed) == 1 else []

    def plan(self, drafts, n_max):
        kept = []
        for draft in drafts[:n_max]:
            if draft not in self.row(*kept)[0]:
                break
            kept.append(draft)
        if len(kept) < n_max and len(self.row(*kept)[0]) == 1:
            kept += self.row(*kept)[0]
        return kept, np.stack([self.row(*kept[:i])[1] for i in range(len(kept) + 1)])

    def accept(self, tokens):
        self.text = (*self.text, *tokens)


def narrow_distribution(model, prompt):
    """({text: (tokens that may follow, mask)}, {text: probability})."""

    def row(allowed):
        return frozenset(allowed), mask_of(allowed, model.n_vocab)

    table, texts = {"free": row(range(model.n_vocab))}, {(): 1.0}
    with model.context(64, n_threads=1) as context:
        for depth in range(N_TOKENS):
            longer = {}
            for text, p in texts.items():
                context.sync([*prompt, *text])
                logits = context.logits().astype(np.float64)
                best = np.argsort(-logits, kind="stable")[:N_CANDIDATES]
                # Half of the likely ones, so that many a draft is refused; now and then one.
                allowed = best[sum(text) % 2 :: 2] if sum(text) % 5 or not depth else best[2:3]
                table[text] = row(allowed.tolist())
                weights = np.exp(logits[allowed] - logits[best[0]])
                weights /= weights.sum()
                longer.update(
                    {(*text, t): p * w for t, w in zip(allowed.tolist(), weights.tolist())}
                )
            texts = longer
    return table, texts


@pytest.mark.parametrize("n_texts", [pytest.param(40_000, marks=pytest.mark.nightly), 2_500])
def test_masked_drafts_that_are_drawn_leave_the_distribution_as_it_is(
    pillion, tiny, tiny_target, n_texts
):
    from pillion.constraint import constrained_round

    prompt = tiny[2]
    params = dict(temperature=1.0, top_k=N_CANDIDATES, top_p=1.0, min_p=0.0)
    with pillion.Model.open(tiny_target, n_threads=1) as model:
        table, expected = narrow_distribution(model, prompt)
        counts = Counter()
        with (
            model.context(64, n_threads=1) as context,
            pillion.Pair(context, tiny[0].drafter, draft_sampling="probabilistic") as pair,
        ):
            for seed in range(1, n_texts + 1):
                with sampler_of(pillion, seed=seed, **params) as sampler:
                    grammar, text = Narrow(table), []
                    pair.sync(prompt)
                    while len(text) < N_TOKENS:
                        text += constrained_round(
                            pair, sampler, grammar, 2, N_TOKENS - len(text)
                        ).tokens
                counts[tuple(text)] += 1
            stats = pair.stats
    assert 0 < stats.accepted < stats.drafted and stats.forced > 0
    for n in range(1, N_TOKENS + 1):  # of few cells, small faults show
        begun, cells = Counter(), Counter()
        for text in expected:
            begun[text[:n]] += counts.pop(text, 0) if n == N_TOKENS else counts[text]
            cells[text[:n]] += expected[text]
        assert p_of_counts(begun, cells) > 0.001, n
    assert not counts


# ---- logits processors ----


class Recorder:
    """A processor that favours some tokens by the text; notes what it was shown."""

    def __init__(self, strength=3.0):
        self.seen, self.strength = [], strength

    def __call__(self, ids, scores):
        assert ids.dtype == np.intc and scores.dtype == np.float32 and scores.flags.writeable
        self.seen.append(ids.tolist())
        rng = np.random.default_rng(ids[-3:].tolist())
        scores[rng.integers(len(scores), size=20)] += self.strength
        return scores


def flat(ids, scores):
    return scores * np.float32(0.9)


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.parametrize("under", [False, True])
def test_processors_are_exact_with_drafts(pillion, tiny, pair, name, under):
    from pillion.constraint import LogitsProcessors

    _, solo, prompt = tiny
    n_vocab = pair.context.model.n_vocab

    def constraint(recorder):
        grammar = FakeGrammar(prompt, n_vocab, 7) if under else None
        return LogitsProcessors([recorder, flat], prompt, grammar)

    seen = Recorder()
    expected = alone(pillion, solo, prompt, sampler_of(pillion, **SAMPLING[name]), constraint(seen))
    assert seen.seen == [[*prompt, *expected[:i]] for i in range(N)]
    for k in KS:
        recorder = Recorder()
        sampler = sampler_of(pillion, **SAMPLING[name])
        assert together(pillion, pair, prompt, sampler, constraint(recorder), k) == expected, k
        assert recorder.seen == seen.seen  # each row once, in order, of the text only
    assert pair.stats.accepted > 0


def test_a_processor_sees_rows_that_it_may_change(pillion, tiny, pair):
    """The context's own logits stay."""
    from pillion.constraint import LogitsProcessors, constrained_token

    _, solo, prompt = tiny
    solo.sync(prompt)
    before = solo.logits()

    def last(ids, scores):
        scores[:] = -np.inf
        scores[-1] = 0
        return scores

    token = constrained_token(
        solo, sampler_of(pillion, temperature=1, seed=1), LogitsProcessors(last, prompt)
    )
    assert token == solo.model.n_vocab - 1 and np.array_equal(solo.logits(), before)


def test_results_that_are_no_logits(pillion, tiny, pair):
    from pillion.constraint import LogitsProcessors, constrained_round, constrained_token

    _, solo, prompt = tiny
    n_vocab = solo.model.n_vocab
    solo.sync(prompt)
    wrong = (
        (
            lambda ids, scores: None,
            "the result of logits processor 'wrong' must be an array of floats .*NoneType",
        ),
        (
            lambda ids, scores: scores[:5],
            f"logits processor 'wrong' has 5 logits, the vocabulary {n_vocab}",
        ),
        (lambda ids, scores: scores.astype(int), "must be an array of floats .* not one of int64"),
        (
            lambda ids, scores: scores[None],
            r"must be an array of floats .* not one of float32 \[1, ",
        ),
        (lambda ids, scores: scores * np.float32(np.nan), "no token is left to sample"),
        (lambda ids, scores: np.full_like(scores, -np.inf), "no token is left to sample"),
    )
    for work, sentence in wrong:
        work.__name__ = "wrong"
        for temperature in (0, 1):
            sampler = sampler_of(pillion, temperature=temperature, seed=1)
            with pytest.raises(pillion.UsageError, match=sentence):
                constrained_token(solo, sampler, LogitsProcessors(work, prompt))
            with pytest.raises(pillion.UsageError, match=sentence):
                constrained_round(pair, sampler, LogitsProcessors([flat, work], prompt))
            assert sampler.mark() == (0, 0)
    for processors in (3, "flat", [flat, 3]):
        with pytest.raises(pillion.UsageError, match="a callable"):
            LogitsProcessors(processors, prompt)


# ---- faults ----


class Faulty:
    """A grammar, or what stands for one, that fails in some of its calls."""

    stopped = False

    def __init__(self, inner, when):
        self.inner, self.when, self.calls = inner, when, 0

    def count(self):
        self.calls += 1
        if self.calls in self.when:
            raise ZeroDivisionError("on purpose")

    def forced(self, n_max):
        self.count()
        return self.inner.forced(n_max)

    def plan(self, drafts, n_max):
        self.count()
        return self.inner.plan(drafts, n_max)

    def accept(self, tokens):
        self.inner.accept(tokens)


class EmptyRow(Faulty):
    """Where it fails, the last row's mask allows nothing."""

    def forced(self, n_max):
        return self.inner.forced(n_max)

    def plan(self, drafts, n_max):
        kept, masks = self.inner.plan(drafts, n_max)
        self.calls += 1
        if self.calls in self.when:
            masks[-1] = 0
        return kept, masks


def with_faults(pillion, pair, prompt, sampler, constraint, k, errors):
    """The text, and how often a round failed; after a failure all is as before."""
    from pillion.constraint import constrained_round

    tokens, failures = [], 0
    pair.sync(prompt)
    while len(tokens) < N:
        before = (pair.context.tokens, sampler.mark())
        try:
            tokens += constrained_round(pair, sampler, constraint, k, N - len(tokens)).tokens
        except errors:
            failures += 1
            assert (pair.context.tokens, sampler.mark()) == before
    return tokens, failures


@pytest.mark.parametrize("draft_sampling", ["greedy", "probabilistic"])
@pytest.mark.parametrize("name", ["greedy", "sampled", "penalties"])
def test_a_constraint_that_raises(pillion, tiny, name, draft_sampling):
    prompt = tiny[2]
    context = tiny[1]
    with pillion.Pair(context, tiny[0].drafter, draft_sampling=draft_sampling) as pair:
        for k in (0, 3, 8):

            def grammar():
                return FakeGrammar(prompt, context.model.n_vocab, 5)

            expected = together(
                pillion, pair, prompt, sampler_of(pillion, **SAMPLING[name]), grammar(), k
            )
            for faulty, errors in ((Faulty, ZeroDivisionError), (EmptyRow, pillion.UsageError)):
                sampler = sampler_of(pillion, **SAMPLING[name])
                constraint = faulty(grammar(), {1, 3, 4, 8, 11})
                found, failures = with_faults(pillion, pair, prompt, sampler, constraint, k, errors)
                assert found == expected and failures > 0, (k, faulty)


@pytest.mark.parametrize("name", ["greedy", "sampled", "penalties"])
def test_a_processor_that_raises(pillion, tiny, pair, name):
    from pillion.constraint import LogitsProcessors

    _, solo, prompt = tiny
    expected = alone(
        pillion,
        solo,
        prompt,
        sampler_of(pillion, **SAMPLING[name]),
        LogitsProcessors(Recorder(), prompt),
    )
    for k in (0, 3, 8):
        recorder, calls = Recorder(), itertools.count()

        def work(ids, scores, recorder=recorder, calls=calls):
            if next(calls) % 7 == 2:
                raise ZeroDivisionError("on purpose")
            return recorder(ids, scores)

        sampler = sampler_of(pillion, **SAMPLING[name])
        constraint = LogitsProcessors(work, prompt)
        found, failures = with_faults(
            pillion, pair, prompt, sampler, constraint, k, ZeroDivisionError
        )
        assert found == expected and failures > 2


def test_cancelling_a_run(pillion, tiny, pair):
    from pillion.constraint import constrained_round

    _, solo, prompt = tiny
    grammar = FakeGrammar(prompt, pair.context.model.n_vocab, 5)
    expected = alone(pillion, solo, prompt, sampler_of(pillion, **SAMPLING["sampled"]), grammar, 60)
    sampler, grammar = (
        sampler_of(pillion, **SAMPLING["sampled"]),
        FakeGrammar(prompt, pair.context.model.n_vocab, 5),
    )
    tokens = []
    with over_and_over(pair.context.cancel, pause=0), pytest.raises(pillion.Cancelled):
        for _ in range(int(PATIENCE * 1000)):
            if len(tokens) == 50:
                tokens = []
                sampler, grammar = (
                    sampler_of(pillion, **SAMPLING["sampled"]),
                    FakeGrammar(prompt, pair.context.model.n_vocab, 5),
                )
                pair.sync(prompt)
            tokens += constrained_round(pair, sampler, grammar, 5, 50 - len(tokens)).tokens
    held = pair.context.tokens
    assert held == [*prompt, *tokens][: len(held)] and len(held) >= len(prompt)
    while len(tokens) < 60:
        tokens += constrained_round(pair, sampler, grammar, 5, 60 - len(tokens)).tokens
    assert tokens == expected
