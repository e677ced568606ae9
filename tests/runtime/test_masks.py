"""`Sampler.sample(mask=)` and `Sampler.sample_from`, beside a sampler in NumPy."""

from collections import Counter

import numpy as np
import pytest
from fake_grammar import mask_of
from chi_square import p_of_counts

SIZES = [1, 31, 32, 33, 64, 65, 261, 2048]


def adjusted(row, mask, params, accepted):
    """float64 logits after mask, penalties and bias; -inf where not allowed."""
    x = row.astype(np.float64)
    last = params.penalty_last_n
    seen = Counter(accepted if last < 0 else accepted[len(accepted) - min(last, len(accepted)) :])
    for token, count in seen.items() if params.penalised else ():
        x[token] *= 1 / params.repeat_penalty if x[token] > 0 else params.repeat_penalty
        x[token] -= count * params.frequency_penalty + params.presence_penalty
    for token, value in params.logit_bias.items():
        x[token] += value
    return np.where(mask, x, -np.inf)


def distribution(row, mask, params, accepted):
    """{token: probability}, as the sampler's documentation says."""
    x = adjusted(row, mask, params, accepted)
    order = [int(t) for t in np.argsort(-x, kind="stable") if x[t] > -np.inf]
    if params.temperature == 0:
        return {order[0]: 1.0}
    if params.top_k:
        order = order[: params.top_k]
    weights = np.exp(x[order] - x[order[0]])
    keep = len(order)
    if params.top_p < 1:
        keep = int(np.searchsorted(np.cumsum(weights), params.top_p * weights.sum())) + 1
    if params.min_p > 0:
        keep = min(keep, max(1, int((weights >= params.min_p).sum())))
    weights = np.exp((x[order[:keep]] - x[order[0]]) / params.temperature)
    return dict(zip(order, (weights / weights.sum()).tolist()))


def random_case(pillion, rng, seed):
    """(row, allowed, params, accepted): a mask of 1 to all bits."""
    n = int(rng.choice(SIZES))
    row = (rng.standard_normal(n) * 3).astype(np.float32)
    allowed = np.zeros(n, dtype=bool)
    allowed[rng.permutation(n)[: int(rng.integers(1, n + 1))]] = True
    few = [int(t) for t in rng.integers(n, size=min(n, 6))]
    params = pillion.SamplingParams(
        temperature=float(rng.choice([0, 0.5, 1, 2])),
        top_k=int(rng.choice([0, 1, 3, 40])),
        top_p=float(rng.choice([1, 0.9, 0.3])),
        min_p=float(rng.choice([0, 0.05, 0.5])),
        repeat_penalty=float(rng.choice([1, 1.3])),
        frequency_penalty=float(rng.choice([0, 0.4])),
        presence_penalty=float(rng.choice([0, -0.7])),
        penalty_last_n=int(rng.choice([-1, 4, 64])),
        # the second is far above all else: a mask must hold against it
        logit_bias={few[0]: 2.0, few[-1]: 1000.0} if rng.random() < 0.5 else {},
        seed=seed,
    )
    return row, allowed, params, few * 2


@pytest.mark.parametrize("seed", range(60))
def test_a_masked_draw_is_that_of_numpy(pillion, seed):
    rng = np.random.default_rng(seed)
    row, allowed, params, accepted = random_case(pillion, rng, seed + 1)
    expected = distribution(row, allowed, params, accepted)
    sampler = pillion.Sampler(params)
    for token in accepted:
        sampler.accept(token)
    mask = mask_of(np.flatnonzero(allowed), len(row))
    # Bits behind the end play no part.
    mask[-1] |= np.uint32((0xFFFFFFFF << (len(row) % 32 or 32)) & 0xFFFFFFFF)
    counts = Counter(sampler.sample_from(row, mask) for _ in range(1500))
    if max(expected.values()) > 0.999:  # nothing to count
        assert set(counts) <= set(expected) and max(counts, key=counts.get) == max(
            expected, key=expected.get
        )
    else:
        assert p_of_counts(counts, expected) > 1e-4, (params, expected, counts)


def test_without_a_mask_it_is_the_same_row(pillion):
    rng = np.random.default_rng(5)
    everything = mask_of(range(300), 300)
    for seed in range(20):
        row = rng.standard_normal(300).astype(rng.choice([np.float32, np.float64, np.float16]))
        params = pillion.SamplingParams(temperature=1, seed=seed + 1, repeat_penalty=1.2)
        plain, masked = pillion.Sampler(params), pillion.Sampler(params)
        for _ in range(20):
            token = plain.sample_from(row)
            assert masked.sample_from(row, everything) == token
            plain.accept(token), masked.accept(token)


@pytest.fixture(scope="module")
def model(pillion, tiny_target):
    with pillion.Model.open(tiny_target) as model:
        yield model


@pytest.fixture
def context(model):
    with model.context(64) as context:
        context.prefill([2, 5, 600, 7], outputs=3)
        yield context


def test_rows_of_a_context(pillion, context):
    rng = np.random.default_rng(1)
    n = context.model.n_vocab
    for temperature in (0, 1):
        for _ in range(30):
            allowed = rng.permutation(n)[: int(rng.choice([1, 2, 50, n // 2, n]))]
            mask, seed = mask_of(allowed, n), int(rng.integers(1, 1000))
            row = int(rng.integers(-3, 3))
            params = pillion.SamplingParams(temperature=temperature, seed=seed)
            token = pillion.Sampler(params).sample(context, row, mask)
            assert token in allowed
            assert token == pillion.Sampler(params).sample_from(context.logits(row), mask)
            if not temperature:
                assert token == min(allowed, key=lambda t, x=context.logits(row): (-x[t], t))


def test_a_draw_without_a_choice_takes_no_random_number(pillion, context):
    one = mask_of([77], context.model.n_vocab)
    params = pillion.SamplingParams(temperature=1, seed=9, top_k=0, top_p=1, min_p=0)
    plain, other = pillion.Sampler(params), pillion.Sampler(params)
    expected = [plain.sample(context) for _ in range(10)]
    found = []
    for _ in range(10):
        assert other.sample(context, -1, one) == 77
        found.append(other.sample(context))
    assert found == expected and other.mark() == plain.mark() == (0, 10)


def test_marks(pillion, context):
    sampler = pillion.Sampler(pillion.SamplingParams(temperature=1, seed=3, presence_penalty=2))
    sampler.accept(5)
    mark = sampler.mark()
    assert mark == (1, 0)
    first = []
    for _ in range(8):
        first.append(sampler.sample(context))
        sampler.accept(first[-1])
    assert sampler.mark() == (9, 8)
    sampler.go_back(mark)
    again = []
    for _ in range(8):
        again.append(sampler.sample(context))
        sampler.accept(again[-1])
    assert again == first
    mark = sampler.mark()
    sampler.reset()
    with pytest.raises(pillion.UsageError, match="9 accepted tokens and 8 random numbers"):
        sampler.go_back(mark)


INF = float("inf")


@pytest.mark.parametrize("temperature", [0, 1])
def test_rows_of_infinities(pillion, temperature):
    def sampled(row, mask=None):
        sampler = pillion.Sampler(pillion.SamplingParams(temperature=temperature, seed=1))
        row = np.array(row, dtype=np.float32)
        return sampler.sample_from(row, None if mask is None else mask_of(mask, len(row)))

    assert sampled([1, INF, 2, np.nan]) == 1
    assert sampled([-INF, np.nan, 2, -INF]) == 2
    assert sampled([1, INF, INF, 0], [0, 3, 2]) == 2
    for row, mask in (
        ([np.nan] * 4, None),
        ([-INF, np.nan], None),
        ([1, 2, -INF], [2]),
        ([1, 2, np.nan], [2]),
        ([1, 2, 3], []),
    ):
        with pytest.raises(pillion.UsageError, match="no token is left to sample"):
            sampled(row, mask)
    both = pillion.SamplingParams(temperature=temperature, seed=1)
    row = np.array([INF, 0, INF], dtype=np.float32)
    drawn = Counter(map(pillion.Sampler(both).sample_from, [row] * 200))
    assert set(drawn) == ({0, 2} if temperature else {0})


def test_a_bias_brings_no_token_back(pillion, model, context):
    """Not even one of +inf, which only the C interface lets through."""
    ffi, lib = pillion._native.ffi, pillion._native.lib
    config = ffi.new("pillion_sampler_config*")
    lib.pillion_sampler_config_init(config, ffi.sizeof("pillion_sampler_config"))
    ids, values = ffi.new("int32_t[]", [7, 9]), ffi.new("float[]", [INF, INF])
    config.bias_tokens, config.bias_values, config.n_bias = ids, values, 2
    for temperature in (0, 1):
        config.temperature = temperature
        made, token = ffi.new("pillion_sampler**"), ffi.new("int32_t*")
        assert lib.pillion_sampler_new(config, made) == 0
        for allowed, expected in (([3, 5, 9], 9), ([3], 3)):
            words = mask_of(allowed, model.n_vocab)
            pointer = ffi.from_buffer("uint32_t[]", words)
            status = lib.pillion_sampler_sample_masked(
                made[0], context._c, 0, pointer, len(words), token
            )
            assert status == 0 and token[0] == expected
        lib.pillion_sampler_free(made[0])


def test_wrong_masks(pillion, context):
    sampler = pillion.Sampler(pillion.SamplingParams(temperature=1, seed=1))
    n = context.model.n_vocab
    words = -(-n // 32)
    for mask, sentence in (
        (np.zeros(words, np.uint32), "the mask allows none"),
        (
            np.ones(words - 1, np.uint32),
            f"a mask of {words - 1} words, that of {n} tokens has {words}",
        ),
        (
            np.ones(words + 1, np.uint32),
            f"a mask of {words + 1} words, that of {n} tokens has {words}",
        ),
        (np.ones(words, np.int32), r"mask must be an array of uint32 \[words\], not one of int32"),
        (np.ones((1, words), np.uint32), r"mask must be an array of uint32 \[words\]"),
        (np.ones(0, np.uint32), "mask has no words"),
        ([1] * words, "a value of type list"),
    ):
        with pytest.raises(pillion.UsageError, match=sentence):
            sampler.sample(context, mask=mask)
    for row in (np.ones(8, np.int64), np.ones((1, 8), np.float32), [1.0], np.ones(0, np.float32)):
        with pytest.raises(
            pillion.UsageError, match=r"logits must be an array of floats \[n_vocab\]"
        ):
            sampler.sample_from(row)
    assert sampler.mark() == (0, 0)
    strided = np.repeat(mask_of([4], n), 2)[::2]
    assert not strided.flags.c_contiguous and sampler.sample(context, mask=strided) == 4


def test_a_greedy_sampler_without_a_token_says_so(pillion, context):
    banned = dict.fromkeys(range(context.model.n_vocab), -INF)
    sampler = pillion.Sampler(pillion.SamplingParams(temperature=0, logit_bias=banned))
    with pytest.raises(pillion.UsageError, match="no token is left to sample"):
        sampler.sample(context)
