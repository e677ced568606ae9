"""`SamplingParams` and `Sampler`."""

import math

import pytest


@pytest.mark.parametrize(
    "name, value",
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -2),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 2),
        ("repeat_penalty", 0),
        ("frequency_penalty", math.inf),
        ("presence_penalty", math.nan),
        ("penalty_last_n", -2),
        ("seed", -2),
        ("seed", 2**64),
        ("logit_bias", {3: math.nan}),
        ("logit_bias", {3: math.inf}),
    ],
)
def test_wrong_settings_are_refused_by_name(fake, name, value):
    with pytest.raises(fake.UsageError, match=name):
        fake.SamplingParams(**{name: value})


def test_penalised(fake):
    assert not fake.SamplingParams().penalised
    assert fake.SamplingParams(repeat_penalty=1.1).penalised
    assert not fake.SamplingParams(repeat_penalty=1.1, penalty_last_n=0).penalised


@pytest.fixture
def context(fake, strings, toy_file):
    with fake.Model.open(toy_file()) as model, model.context(64) as context:
        context.prefill([97, 98], outputs=2)
        yield context


def test_greedy(fake, context):
    sampler = fake.Sampler(fake.SamplingParams(temperature=0))
    assert sampler.sample(context) == 99
    assert sampler.sample(context, 0) == 98
    assert sampler.sample(context, row=-2) == 98
    with pytest.raises(fake.UsageError):
        sampler.sample(context, 2)
    assert len(context) == 2


def draws(fake, context, seed, n=30):
    with fake.Sampler(
        fake.SamplingParams(temperature=3, top_k=0, top_p=1, min_p=0, seed=seed)
    ) as sampler:
        return [sampler.sample(context) for _ in range(n)]


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 2])
def test_a_seed_repeats(fake, context, seed):
    assert draws(fake, context, seed) == draws(fake, context, seed)
    assert draws(fake, context, seed) != draws(fake, context, seed + 1)


def test_reset_starts_the_seed_anew(fake, context):
    sampler = fake.Sampler(fake.SamplingParams(temperature=3, seed=5))
    first = [sampler.sample(context) for _ in range(20)]
    sampler.reset()
    assert [sampler.sample(context) for _ in range(20)] == first


def test_bias_and_penalty(fake, context):
    banned = fake.Sampler(fake.SamplingParams(temperature=0, logit_bias={99: -math.inf, 7: 3.0}))
    assert banned.sample(context) == 7
    pressed = fake.Sampler(fake.SamplingParams(temperature=0, presence_penalty=50))
    pressed.accept(99)
    assert pressed.sample(context) != 99
    with pytest.raises(fake.UsageError):
        pressed.accept(-1)
