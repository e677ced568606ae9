"""Drafts from the text so far: the index behind them, and how they go together with an assistant's.
The greedy text is that without drafts, and so is the sampled one of a seed."""

import random

import pytest
from testing_ops import testing


@pytest.fixture(scope="module")
def target(pillion):
    from pillion.models import TINY_TARGET

    with pillion.Model.open(TINY_TARGET) as model:
        yield model


@pytest.fixture(scope="module")
def assistant(pillion):
    from pillion.models import TINY_ASSISTANT

    with pillion.Model.open(TINY_ASSISTANT) as model:
        yield model


def longest_match(text, longest):
    """By trying all: (length, what followed the latest occurrence)."""
    for n in range(min(longest, len(text) - 1), 0, -1):
        for at in range(len(text) - 1 - n, -1, -1):
            if text[at : at + n] == text[-n:]:
                return n, text[at + n :]
    return 0, []


@pytest.mark.parametrize("longest", [1, 2, 3, 9])
@pytest.mark.parametrize("n_tokens", [2, 5, 300])
def test_the_index_finds_what_a_search_finds(longest, n_tokens):
    """Through rewinds, other texts, and rows of media, whose ids are below 0."""
    chance = random.Random(n_tokens * longest)
    index, text = testing.SuffixIndex(longest), [1]
    for _ in range(300):
        if chance.random() < 0.1:
            del text[chance.randrange(len(text)) + 1 :]
        if chance.random() < 0.2 and len(text) > 5:
            at = chance.randrange(len(text) - 4)
            text += text[at : at + chance.randrange(1, 5)]
        text += [chance.randrange(-1, n_tokens) for _ in range(chance.randrange(1, 4))]
        del text[600:]
        index.follow(text[:-1], text[-1])
        length, followed = longest_match(text, longest)
        media = [i for i, token in enumerate(followed) if token < 0]
        found = index.find(7)
        if n_tokens * 64 > len(text):  # else only the latest occurrences were compared
            assert found[0] == length and (longest > 3 or found[1] == followed[: min([7, *media])])
        assert found[0] >= min(length, 3)


def test_chances_are_learnt_by_the_length_of_the_match():
    lookup, chance = testing.TextLookup(), random.Random(3)
    for _ in range(100):
        word = [chance.randrange(5, 10**6) for _ in range(12)]
        lookup.look([*word, 1, *word[:9]], word[9], 2)  # ten tokens: goes on alike
        assert list(lookup.found) == word[10:]
        lookup.learn(word[10:])
        lookup.look([*word, 1, 2], word[9], 2)  # one token: goes on otherwise
        assert list(lookup.found) == word[10:]
        lookup.learn([3])
    lookup.look([7, 8, 9], 8, 2)
    assert lookup.acceptance(0) < 0.05
    lookup.look([*range(10, 20), 30, 31, *range(10, 19)], 19, 2)
    assert lookup.acceptance(0) > 0.9 and lookup.acceptance(1) > 0.9


def test_no_lookup_without_an_assistant(pillion, target):
    with pytest.raises(pillion.UsageError, match="the drafter is 'lookup'"):
        pillion.Pair(target.context(64), "lookup", lookup=True)
    with pytest.raises(pillion.UsageError, match="goes with an assistant"):
        pillion.Pair(target.context(64), target, lookup=True)


PROMPT = "And God said, Let there be light: and there was light. And God said, Let there be"


def written(pillion, pair, prompt, n_draft, sampling=None, n=60):
    sampler = pillion.Sampler(sampling or pillion.SamplingParams(temperature=0))
    rounds = pair.generate(prompt, sampler=sampler, max_tokens=n, n_draft=n_draft, end_tokens=[])
    return [token for one in rounds for token in one.tokens]


@pytest.mark.parametrize("n_draft", [2, 8, "auto"])
@pytest.mark.parametrize("p_min", [0.0, 0.3])
@pytest.mark.parametrize("temperature", [0, 1])
def test_the_text_is_the_one_without_drafts(
    pillion, target, assistant, n_draft, p_min, temperature
):
    sampling = pillion.SamplingParams(temperature=temperature, seed=4)
    with (
        pillion.Pair(target.context(256), None) as alone,
        pillion.Pair(target.context(256), assistant, p_min=p_min, lookup=True) as pair,
    ):
        assert pair.stats.kind == "lookup+mtp"
        for prompt in (PROMPT, PROMPT[:30]):
            plain = written(pillion, alone, prompt, 0, sampling)
            assert written(pillion, pair, prompt, n_draft, sampling) == plain


def copy(pillion, pair, text, n_prompt, n_draft=8):
    """Rounds that write `text` behind its first tokens, whatever the target says: all drafts."""
    sampler = pillion.Sampler(pillion.SamplingParams(temperature=0))
    pair.sync(text[:n_prompt])
    at, found = n_prompt, []
    while at < len(text):
        drafts = pair.propose(sampler, n_draft, len(text) - at)
        pair.run(drafts)
        one = pair.take(None, chosen=text[at : at + len(drafts) + 1])
        found.append((drafts, one.accepted))
        at += len(one.tokens)
    return found


def test_a_text_that_is_echoed_is_drafted_from_itself(pillion, target, assistant):
    chance = random.Random(0)
    words = [chance.randrange(20, 400) for _ in range(60)]
    text = [2, *words, 5, *words, 6, *words]
    with (
        pillion.Pair(target.context(256), assistant, lookup=True) as pair,
        pillion.Pair(target.context(256), assistant) as alone,
    ):
        copy(pillion, alone, text, 61)
        rounds = copy(pillion, pair, text, 61)
        assert len(rounds) < 45 and alone.stats.rounds > 60
        assert [accepted for _, accepted in rounds[-4:-1]] == [8, 8, 8]
        # Another text, and back: the index follows.
        copy(pillion, pair, [2, *range(300, 340)], 1)
        assert [n for _, n in copy(pillion, pair, text, 100)[-4:-1]] == [8, 8, 8]


def test_the_assistant_goes_on_where_the_lookup_ends(pillion, target, assistant):
    sampler, continued = pillion.Sampler(pillion.SamplingParams(temperature=0)), 0
    with pillion.Pair(target.context(256), assistant, lookup=True) as pair:
        teach = [2, *range(300, 330), 5, *range(300, 330)] * 2
        tokens = target.tokenizer.encode("and the " * 12)
        for end in range(len(tokens) - 6, len(tokens)):
            copy(pillion, pair, teach, 32)  # lookups are worth much after that
            pair.sync(tokens[:end])
            text = tokens[:end] + pair.step(sampler).tokens
            drafts = pair.propose(sampler, 8)
            pair.abandon(sampler)
            _, found = longest_match(text, 32)
            assert len(drafts) == 8
            if found and drafts[: len(found)] == found:
                continued += len(found) < 8
    assert continued > 0


def test_in_a_batch_each_sequence_has_its_own_text(pillion, target, assistant):
    prompts = [PROMPT, PROMPT[20:], "In the beginning God created the heaven"]
    with pillion.LLM(
        target, drafter=assistant, draft=8, draft_lookup=True, parallel=3, n_ctx=256
    ) as llm:
        assert llm.speculation.kind == "lookup+mtp"
        ends = {"max_tokens": 40, "temperature": 0}
        texts = [
            "".join(piece.text for piece in llm.generate(prompt, **ends)) for prompt in prompts
        ]
    with pillion.LLM(target, drafter=None, n_ctx=256) as llm:
        assert texts == [
            "".join(piece.text for piece in llm.generate(prompt, **ends)) for prompt in prompts
        ]
    assert all(texts)


def test_a_saved_state_brings_its_text(pillion, target, assistant):
    text = [2, *range(300, 340), 5, *range(300, 340)]
    with (
        pillion.Pair(target.context(256), assistant, lookup=True) as pair,
        pillion.Pair(target.context(256), assistant, lookup=True) as other,
    ):
        copy(pillion, pair, text, 42)
        copy(pillion, other, text, 42)
        state = pair.context.state()
        copy(pillion, pair, [2, *range(100, 140)], 5)
        pair.context.set_state(state)
        assert pair.sync(text) > 60
        sampler = pillion.Sampler(pillion.SamplingParams(temperature=0))
        after = [pair.step(sampler, 8).tokens for _ in range(4)]
        with pillion.Pair(target.context(256), None) as alone:
            alone.sync(text)
            plain = [alone.step(sampler).tokens[0] for _ in range(sum(map(len, after)))]
    assert [token for one in after for token in one] == plain
