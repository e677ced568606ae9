"""The three steps of a round, together `Pair.step`; out of order they are an error."""

import itertools

import numpy as np
import pytest
import test_constraints
from fake_grammar import mask_of
from test_constraints import KS, SAMPLING, N, sampler_of

tiny, pair = test_constraints.tiny, test_constraints.pair  # fixtures


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("name", SAMPLING)
def test_three_steps_are_one(pillion, tiny, pair, name, k):
    prompt = tiny[2]
    sampler, expected = sampler_of(pillion, **SAMPLING[name]), []
    while len(expected) < N:
        expected += pair.step(sampler, k, N - len(expected)).tokens
    by_step = pair.stats
    pair.sync(prompt)
    pair.reset_stats()
    sampler, found = sampler_of(pillion, **SAMPLING[name]), []
    while len(found) < N:
        drafts = pair.propose(sampler, k, N - len(found))
        pair.run(drafts)
        one = pair.take(sampler, N - len(found))
        assert one.drafted == len(drafts) and one.forced == 0
        found += one.tokens
    assert found == expected
    if k != "auto":
        stats = pair.stats
        assert (stats.rounds, stats.drafted, stats.accepted) == (
            by_step.rounds,
            by_step.drafted,
            by_step.accepted,
        )
        assert (stats.accepted_at, stats.tokens, stats.state) == (
            by_step.accepted_at,
            by_step.tokens,
            by_step.state,
        )


def test_what_counts_as_whose(pillion, tiny, pair):
    _, solo, prompt = tiny
    sampler = sampler_of(pillion, temperature=0)
    text = []
    solo.sync(prompt)
    for _ in range(20):
        text.append(sampler.sample(solo))
        solo.decode(text[-1])
    assert pair.propose(sampler, 8) == [] and pair.room == 0
    pair.run([])
    assert pair.take(sampler).tokens == text[:1] and pair.room == 8

    # Tokens that were not proposed: all right, all but the third, and the end of the text.
    pair.run(text[1:5])
    one = pair.take(sampler)
    assert (one.tokens, one.drafted, one.accepted, one.forced) == (text[1:6], 0, 0, 4)
    assert pair.context.n_rows == 5 and int(pair.context.logits(1).argmax()) == text[2]
    pair.run([*text[6:8], text[8] + 1, 5])
    one = pair.take(sampler)
    assert (one.tokens, one.drafted, one.accepted, one.forced) == (text[6:9], 0, 0, 2)
    stats = pair.stats
    assert (stats.rounds, stats.drafted, stats.accepted, stats.forced, stats.tokens) == (
        0,
        0,
        0,
        6,
        9,
    )

    # A beginning of the proposal, and others behind it.
    drafts = pair.propose(sampler, 4)
    right = next((i for i, (a, b) in enumerate(zip(drafts, text[9:])) if a != b), len(drafts))
    pair.run([*drafts[:1], *text[10:12]])
    one = pair.take(sampler)
    assert one.drafted == 4 and one.accepted == min(right, 1)
    if right:
        own = sum(
            1
            for _ in itertools.takewhile(
                lambda p: p[0] == p[1], zip(drafts, [drafts[0], *text[10:12]])
            )
        )
        assert (one.tokens, one.accepted, one.forced) == (text[9:13], own, 3 - own)
    assert pair.stats.drafted_at[:5] == [1, 1, 1, 1, 0]


def test_chosen_tokens(pillion, tiny, pair):
    sampler = sampler_of(pillion, temperature=1, seed=1)
    pair.run()
    assert pair.take(None, chosen=[77, 78]).tokens == [77]  # one row, one token
    pair.run([5, 6, 7])
    one = pair.take(sampler, end_tokens=[9], chosen=[5, 9, 7, 8])
    assert (one.tokens, one.forced, one.ended) == ([5, 9], 1, True)
    pair.run([5, 6, 7])
    one = pair.take(None, chosen=[5, 6])
    assert (one.tokens, one.forced) == ([5, 6], 2)
    assert pair.context.tokens[-4:] == [77, 5, 9, 5] and sampler.mark() == (0, 0)
    pair.run([5, 6, 7])
    assert pair.take(None, n_max=1, chosen=[5, 6]).tokens == [5]


def test_steps_out_of_order(pillion, tiny, pair):
    prompt = tiny[2]
    sampler, context = sampler_of(pillion, temperature=0), pair.context

    def refused(sentence, call, *arguments, **named):
        before = (context.tokens, context.n_rows, sampler.mark())
        with pytest.raises(pillion.UsageError, match=sentence):
            call(*arguments, **named)
        assert (context.tokens, context.n_rows, sampler.mark()) == before

    refused("no round has been run", pair.take, sampler)
    refused("1 drafts right after a prompt, where 0 can be run", pair.run, [5])
    pair.propose(sampler)
    refused("no round has been run", pair.take, sampler)
    refused("1 drafts right after a prompt", pair.run, [5])
    pair.run([])
    first = pair.take(sampler).tokens
    refused("no round has been run", pair.take, sampler)

    refused("9 drafts, this run has room for 8", pair.run, [5] * 9)
    refused("draft 1 is token -3, the vocabulary has", pair.run, [5, -3])
    refused("draft 0 is token 99999999", pair.run, [99999999])
    drafts = pair.propose(sampler, 3)
    assert pair.propose(sampler, 3) == drafts  # asked again: the same
    pair.run(drafts)
    not_taken = "a round was run and its tokens were not taken yet"
    for call, *arguments in (
        (pair.run, drafts),
        (pair.run,),
        (pair.propose, sampler),
        (pair.step, sampler),
        (pair.draft, 5, 3),
        (getattr, pair, "room"),
    ):
        refused(not_taken, call, *arguments)
    words = -(-context.model.n_vocab // 32)
    for masks, sentence in (
        (
            np.ones((3, words), np.uint32),
            f"masks of {3 * words} words, those of 4 rows .* have {4 * words}",
        ),
        (np.ones((4, words - 1), np.uint32), "masks of"),
        (np.ones(4 * words, np.uint32), r"masks must be an array of uint32 \[rows, words\]"),
        (np.zeros((4, words), np.uint32), "the mask allows none"),
    ):
        with pytest.raises(pillion.UsageError, match=sentence):
            pair.take(sampler, masks=masks)
    for named, sentence in (
        (dict(chosen=[]), "none was chosen"),
        (dict(chosen=[-1]), "chosen token 0 is -1"),
        (dict(n_max=0), "n_max"),
    ):
        with pytest.raises(pillion.UsageError, match=sentence):
            pair.take(sampler, **named)
    with pytest.raises(pillion.UsageError, match="sampler"):
        pair.take(None)
    second = pair.take(sampler).tokens

    # What changes the context in between ends the round; nothing of it is taken.
    for change in (
        lambda: context.decode(5),
        lambda: context.rewind(len(context) - 1),
        lambda: context.sync(prompt),
    ):
        pair.run(pair.propose(sampler, 3))
        change()
        length = len(context)
        with pytest.raises(pillion.UsageError, match="changed since the run"):
            pair.take(sampler)
        assert len(context) == length
        pair.sync(prompt)
        sampler.reset()
        pair.propose(sampler, 3)
        context.decode(5)
        with pytest.raises(pillion.UsageError, match="changed since the drafts were proposed"):
            pair.run([])
        pair.sync(prompt)
        assert pair.step(sampler).tokens == first
        pair.run(pair.propose(sampler, 3))
        pair.abandon(sampler)
        pair.abandon()
        assert context.tokens == prompt and pair.step(sampler, 3).tokens == second


@pytest.mark.parametrize("draft_sampling", ["greedy", "probabilistic"])
def test_abandoning_takes_back_the_random_numbers(pillion, tiny, draft_sampling):
    prompt, context = tiny[2], tiny[1]
    with pillion.Pair(context, tiny[0].drafter, draft_sampling=draft_sampling) as pair:
        texts = []
        for disturbed in (False, True):
            sampler, tokens = sampler_of(pillion, **SAMPLING["sampled"]), []
            pair.sync(prompt)
            while len(tokens) < N:
                if disturbed:
                    mark = sampler.mark()
                    drafts = pair.propose(sampler, 4)
                    if len(tokens) % 2:
                        pair.run(drafts)
                    pair.abandon(sampler)
                    assert sampler.mark() == mark
                tokens += pair.step(sampler, 4, N - len(tokens)).tokens
            texts.append(tokens)
        assert texts[0] == texts[1]


def test_a_failed_step_draws_no_random_number(pillion, tiny):
    """A step that fails in its second row: the same step again gives the same text."""
    prompt, context = tiny[2], tiny[1]
    params = dict(temperature=1.0, seed=8, presence_penalty=0.5)
    with pillion.Pair(context, tiny[0].drafter, draft_sampling="probabilistic") as pair:
        pair.sync(prompt)
        sampler = sampler_of(pillion, **params)
        pair.step(sampler)
        mark, held = sampler.mark(), context.tokens
        n_vocab = context.model.n_vocab
        drafts = pair.propose(sampler, 4)
        pair.run(drafts)
        masks = np.stack([mask_of(range(n_vocab), n_vocab)] * (len(drafts) + 1))
        masks[0] = mask_of(drafts[:1], n_vocab)  # the second row is reached, and allows nothing
        masks[1] = 0
        before = sampler.mark()
        with pytest.raises(pillion.UsageError, match="the mask allows none"):
            pair.take(sampler, masks=masks)
        assert sampler.mark() == before
        masks[1] = mask_of([7], n_vocab)
        one = pair.take(sampler, masks=masks)
        assert one.tokens[:2] == [drafts[0], 7]
        assert (
            context.tokens[: len(held)] == held and mark[0] + len(one.tokens) == sampler.mark()[0]
        )
