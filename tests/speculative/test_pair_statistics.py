"""What the drafter must not change, by counting: the distribution of the text, the work on the
prompt; and drafters of other kinds.

Elsewhere: the same seed gives the same text with and without a drafter (test_pair_tiny:
test_rounds_write_what_plain_decoding_writes, test_the_text_of_the_tiny_pair); acceptance beside
transformers' rounds (test_pair_tiny: test_acceptance_is_the_reference_s)."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from chi_square import chi_square_p, p_of_counts

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


@pytest.fixture(scope="module")
def tiny_assistant(pillion):
    from pillion.models import TINY_ASSISTANT

    if not TINY_ASSISTANT.exists():
        pytest.skip(f"{TINY_ASSISTANT} is missing")
    return TINY_ASSISTANT


# ---- the distribution ----

N_CANDIDATES = 8
N_TOKENS = 3  # of each text
SAMPLING = dict(temperature=1.0, top_k=N_CANDIDATES, top_p=1.0, min_p=0.0)


def exact_distribution(model, prompt):
    """{text: its probability} of all texts of N_TOKENS tokens, from the logits of the target
    alone."""
    texts = {(): 1.0}
    with model.context(64, n_threads=1) as context:
        for _ in range(N_TOKENS):
            longer = {}
            for text, p in texts.items():
                context.sync([*prompt, *text])
                logits = context.logits().astype(np.float64)
                best = np.argsort(-logits, kind="stable")[:N_CANDIDATES]
                weights = np.exp(logits[best] - logits[best[0]])
                longer.update(
                    {(*text, int(token)): p * w for token, w in zip(best, weights / weights.sum())}
                )
            texts = longer
    return texts


def test_the_p_value():
    for x, df, p in [
        (3.841, 1, 0.05),
        (5.991, 2, 0.05),
        (7.815, 3, 0.05),
        (124.342, 100, 0.05),
        (149.449, 100, 0.001),
        (553.1, 511, 0.0959),
    ]:
        assert chi_square_p(x, df) == pytest.approx(p, rel=0.01), (x, df)


def test_the_test_sees_a_draft_that_is_favoured():
    """A draft taken in one of forty cases where the sampler chose otherwise: with as many draws as
    below, this is found."""
    rng = np.random.default_rng(0)
    p = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.07, 0.05, 0.03])
    drawn = rng.choice(8, size=70_000, p=p)
    cells = dict(enumerate(p.tolist()))
    assert p_of_counts(Counter(drawn.tolist()), cells) > 0.001
    drawn[rng.random(len(drawn)) < 1 / 40] = 1
    assert p_of_counts(Counter(drawn.tolist()), cells) < 1e-6


@pytest.mark.parametrize(
    "name, n_texts",
    [pytest.param("tiny-moe", 70_000, marks=pytest.mark.nightly), ("tiny-e2b", 25_000)],
)
def test_the_distribution_is_that_of_the_target_alone(pillion, name, n_texts):
    """Texts of three tokens, each with a seed of its own: 210,000 and 75,000 draws.

    The first token comes from the prompt's logits, the second from the first row of a round; the
    third stands behind an accepted draft, or behind one that was rejected. What is tested is the
    joint distribution of the three over 512 cells."""
    golden = np.load(GOLDEN / f"{name}.npz")
    prompt = golden["short.ids"].tolist()
    with pillion.Model.open(GOLDEN / f"{name}.gguf", n_threads=1) as model:
        expected = exact_distribution(model, prompt)
        assert len(expected) == N_CANDIDATES**N_TOKENS
        counts, behind = Counter(), {"accepted": Counter(), "rejected": Counter()}
        with (
            model.context(64, n_threads=1) as context,
            pillion.Pair(context, GOLDEN / f"{name}-assistant.gguf") as pair,
        ):
            for seed in range(1, n_texts + 1):
                with pillion.Sampler(pillion.SamplingParams(seed=seed, **SAMPLING)) as sampler:
                    pair.sync(prompt)
                    text = pair.step(sampler).tokens
                    one = pair.step(sampler, 2)
                    text += one.tokens
                    if len(text) < N_TOKENS:
                        text += pair.step(sampler, 2).tokens
                text = tuple(text[:N_TOKENS])
                counts[text] += 1
                behind["accepted" if one.accepted else "rejected"][text] += 1
            stats = pair.stats
    assert (
        stats.kind == "mtp" and stats.drafted >= 2 * n_texts and stats.tokens >= N_TOKENS * n_texts
    )
    assert p_of_counts(counts, expected) > 0.001

    # Which draft stands behind which first token does not depend on the draws; so the texts of each
    # kind have an exact distribution too, the same one restricted to that kind.
    drafts = {text[0]: set() for text in behind["accepted"]}
    for text in behind["accepted"]:
        drafts[text[0]].add(text[1])
    assert drafts and all(len(draft) == 1 for draft in drafts.values())
    for kind, found in behind.items():
        cells = {
            text: p
            for text, p in expected.items()
            if (text[1] in drafts.get(text[0], ())) == (kind == "accepted")
        }
        total = sum(cells.values())
        assert sum(found.values()) > 100
        assert p_of_counts(found, {text: p / total for text, p in cells.items()}) > 0.001, kind


@pytest.mark.parametrize(
    "name, n_texts, options",
    [
        pytest.param("tiny-moe", 70_000, {}, marks=pytest.mark.nightly),
        ("tiny-e2b", 25_000, {}),
        pytest.param("tiny-e2b", 25_000, {"dense_head": True}, marks=pytest.mark.nightly),
    ],
)
def test_drafts_that_are_drawn_leave_the_distribution_as_it_is(pillion, name, n_texts, options):
    """The same texts with sampled drafts and rejection: 210,000, 75,000 and 75,000 draws, the joint
    distribution over 512 cells."""
    prompt = np.load(GOLDEN / f"{name}.npz")["short.ids"].tolist()
    with pillion.Model.open(GOLDEN / f"{name}.gguf", n_threads=1) as model:
        expected = exact_distribution(model, prompt)
        counts = Counter()
        options = {"draft_sampling": "probabilistic", **options}
        with (
            model.context(64, n_threads=1) as context,
            pillion.Pair(context, GOLDEN / f"{name}-assistant.gguf", **options) as pair,
        ):
            for seed in range(1, n_texts + 1):
                with pillion.Sampler(pillion.SamplingParams(seed=seed, **SAMPLING)) as sampler:
                    pair.sync(prompt)
                    text = pair.step(sampler).tokens
                    while len(text) < N_TOKENS:
                        text += pair.step(sampler, 2).tokens
                counts[tuple(text[:N_TOKENS])] += 1
            stats = pair.stats
    assert 0 < stats.accepted < stats.drafted
    assert p_of_counts(counts, expected) > 0.001


def test_drawn_drafts_are_accepted_more_often(pillion, tiny_target, tiny_assistant):
    """At temperature 1: the sum of min(p, q) against p of the drafter's best. Same seed, same text;
    greedy is not touched."""
    prompt = "Genesis 1\n\nIn the beginning"
    acceptance, texts = {}, []
    for sampling in ("greedy", "probabilistic", "probabilistic"):
        with pillion.LLM(
            tiny_target, drafter=tiny_assistant, draft=3, draft_sampling=sampling, n_threads=1
        ) as llm:
            done = [
                llm.generate(prompt, max_tokens=200, temperature=1, top_k=64, seed=seed).run()
                for seed in range(1, 6)
            ]
            stats = llm.pair.stats
            acceptance[sampling] = stats.acceptance
            texts.append([one.text for one in done])
            paired = llm.generate(prompt, max_tokens=64, temperature=0).run()
            assert (
                paired.tokens
                == llm.generate(prompt, max_tokens=64, temperature=0, draft=0).run().tokens
            )
    assert texts[1] == texts[2] and texts[0] != texts[1]
    assert acceptance["probabilistic"] > acceptance["greedy"] + 0.02, acceptance


def test_unknown_draft_sampling(pillion, tiny_target, tiny_assistant):
    with pytest.raises(
        pillion.UsageError, match="draft_sampling is 'best'; it must be 'greedy' or 'probabilistic'"
    ):
        pillion.LLM(tiny_target, drafter=tiny_assistant, draft_sampling="best")


# ---- the prompt ----


def test_reading_the_prompt_is_the_same_work(pillion, tiny_target, tiny_assistant):
    """The same plan, the same tokens run, the same logits; the drafter makes no step."""
    prompt = [2] + [5 + 7 * i % 2000 for i in range(600)]
    with (
        pillion.Model.open(tiny_target) as model,
        model.context(700) as alone,
        model.context(700) as context,
    ):
        before = context.describe()
        with pillion.Pair(context, tiny_assistant) as pair:
            assert context.describe() == before == alone.describe()
            for tokens in (prompt, prompt[:400] + [9, 10, 11], prompt):
                assert pair.sync(tokens) == alone.sync(tokens)
                assert np.array_equal(context.logits(), alone.logits()) and np.array_equal(
                    context.hidden(), alone.hidden()
                )
                assert context.describe() == alone.describe()
            stats = pair.stats
            assert (stats.rounds, stats.drafted, stats.draft_ms, stats.verify_ms) == (0, 0, 0, 0)
            with pytest.raises(pillion.UsageError, match="last draft had 0"):
                pair.draft_row(0)
            sampler = pillion.Sampler(pillion.SamplingParams(temperature=0))
            # nor does it catch up when the first token is chosen
            assert pair.step(sampler).draft_ms == 0
            assert pair.step(sampler, 3).drafted == 3


def test_counts_of_a_result_are_those_without_a_drafter(pillion, tiny_target):
    with (
        pillion.LLM(tiny_target, n_ctx=512) as paired,
        pillion.LLM(tiny_target, n_ctx=512, drafter=None) as plain,
    ):
        for prompt in (
            "Genesis 1\n\nIn the beginning",
            "Genesis 1\n\nIn the beginning God created",
            "Psalms 23",
        ):
            found, expected = (
                one.complete(prompt, max_tokens=12, temperature=0, draft=k)
                for one, k in ((paired, 3), (plain, None))
            )
            for name in ("cache_n", "prompt_n"):
                assert found["timings"][name] == expected["timings"][name]
            assert found["usage"]["prompt_tokens"] == expected["usage"]["prompt_tokens"]


def test_the_prompt_is_run_once(fake, strings, toy_file, toy_drafter):
    """Over the fake, which counts all rows that run."""
    prompt, counted = "abc" * 20, []
    for drafter in (None, toy_drafter):
        with fake.LLM(toy_file(), n_ctx=128, drafter=drafter) as llm:
            before = strings.evaluated
            llm.complete(prompt, max_tokens=1)
            counted.append(strings.evaluated - before)
            assert counted[-1] == len(llm.tokenize(prompt))
    assert counted[0] == counted[1]


# ---- drafters with a cache of their own, and without a model ----

N_WRITE = 32


@pytest.fixture(scope="module")
def smollm(pillion, smollm2_135m):
    with pillion.LLM(smollm2_135m, n_ctx=256) as llm:
        assert llm.pair is None and llm.speculation.state == "off"
        yield llm


def written(pair, prompt, n_draft):
    pair.reset_stats()
    return [
        token
        for one in pair.generate(prompt, max_tokens=N_WRITE, n_draft=n_draft, end_tokens=[])
        for token in one.tokens
    ]


def greedy_tokens(llm, prompt):
    tokens = []
    llm.context.sync(llm.tokenize(prompt))
    while len(tokens) < N_WRITE:
        tokens.append(int(llm.context.logits().argmax()))
        llm.context.decode(tokens[-1])
    return tokens


def test_smollm2_drafts_for_itself(pillion, smollm, smollm2_135m):
    """Through its own cache it says what it says as a target, so that every draft is right."""
    prompt = "The three largest cities of Germany are"
    expected = greedy_tokens(smollm, prompt)
    with pillion.Model.open(smollm2_135m) as drafter, pillion.Pair(smollm, drafter) as pair:
        for n_draft in (1, 4):
            assert written(pair, prompt, n_draft) == expected
            stats = pair.stats
            assert (
                stats.kind == "model" and stats.state == "on" and stats.drafted >= N_WRITE // 2 - 2
            )
            assert (stats.accepted, stats.acceptance) == (stats.drafted, 1.0)
        # its cache follows: another prompt that shares a beginning, then the first one again
        other = prompt + " not known to"
        assert written(pair, other, 4) == greedy_tokens(smollm, other)
        assert pair.stats.acceptance == 1.0
        assert written(pair, prompt, 4) == expected
        assert pair.stats.acceptance == 1.0


REPEATED = "one two three four five six seven eight nine ten, " * 4 + "one two three"


def test_smollm2_draws_its_drafts(pillion, smollm, smollm2_135m):
    """p = q: nearly every drawn draft is accepted, where greedy drafts would be one in several."""
    with pillion.LLM(
        smollm2_135m, drafter=smollm2_135m, draft=3, draft_sampling="probabilistic"
    ) as llm:
        llm.generate("The capital of France is", max_tokens=48, temperature=1, seed=5).run()
        assert llm.pair.stats.kind == "model" and llm.pair.stats.acceptance > 0.95


@pytest.mark.parametrize("n_draft", [1, 2, 4, 8, "auto"])
def test_lookup_in_a_prompt_that_repeats_itself(pillion, smollm, n_draft):
    expected = greedy_tokens(smollm, REPEATED)
    with pillion.Pair(smollm, "lookup") as pair:
        assert written(pair, REPEATED, n_draft) == expected
        assert pair.stats.kind == "lookup" and pair.stats.accepted > 0


def test_lookup_drafts_as_many_as_it_was_asked_for(pillion, smollm):
    with pillion.Pair(smollm, "lookup") as pair:
        for n_draft in range(1, 9):
            first, second, *_ = pair.generate(
                REPEATED, max_tokens=20, n_draft=n_draft, end_tokens=[]
            )
            assert first.drafted == 0
            assert (second.drafted, second.accepted) == (n_draft, n_draft)
