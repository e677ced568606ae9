"""The choice of the draft length against simulated machines and drafters."""

import random

import pytest
from testing_ops import testing


class Machine:
    """Costs of a run over 1 + k rows and of a draft step, and how often a draft is right given that
    those before it were."""

    def __init__(self, acceptance, verify, draft, noise=0.1, seed=1):
        self.acceptance, self.verify, self.draft, self.noise = acceptance, verify, draft, noise
        self.random = random.Random(seed)

    def round(self, length, k):
        accepted = 0
        while accepted < k and self.random.random() < self.acceptance:
            accepted += 1
        jitter = 1 + self.noise * self.random.random()
        if self.random.random() < 0.02:
            jitter *= 8  # someone else had the core
        draft_ms, verify_ms = k * self.draft * jitter, self.verify(1 + k) * jitter
        length.update(k, accepted, draft_ms, verify_ms)
        return accepted + 1, draft_ms + verify_ms

    def drift(self, at):
        """Other tenants come and go: the machine's speed at a time, in rounds."""
        return 1 if (at // 150) % 2 else 1.4

    def best_rate(self):
        """Tokens per millisecond of the best fixed length, without noise."""

        def rate(k):
            tokens = sum(self.acceptance**i for i in range(k + 1))
            return tokens / (self.verify(1 + k) + k * self.draft)

        return max(range(9), key=rate), max(rate(k) for k in range(9)), rate(0)


def run(machine, rounds, length=None):
    length = length or testing.DraftLength()
    tokens = ms = 0
    picks = []
    for _ in range(rounds):
        k = length.choose()
        picks.append(k)
        t, cost = machine.round(length, k)
        tokens, ms = tokens + t, ms + cost
    return length, tokens / ms, picks


MEMORY_BOUND = lambda rows: 10 + 0.2 * rows  # noqa: E731 - a big model: rows are nearly free
# A model that fits the cache: each row costs as much as the first.
COMPUTE_BOUND = lambda rows: 1.0 * rows  # noqa: E731


@pytest.mark.parametrize("acceptance", [0.3, 0.6, 0.8, 0.95])
def test_near_the_best_fixed_length(acceptance):
    machine = Machine(acceptance, MEMORY_BOUND, 0.3)
    _, rate, picks = run(machine, 2000)
    best, best_rate, _ = machine.best_rate()
    noise = 1.05 + 0.02 * 7 * 1.05  # the mean of the jitter
    assert rate * noise > 0.93 * best_rate, (sum(picks) / len(picks), best)


@pytest.mark.parametrize("acceptance", [0.0, 0.1, 0.5, 0.9])
def test_never_much_slower_than_off(acceptance):
    machine = Machine(acceptance, COMPUTE_BOUND, 0.2, noise=0.05)
    length, rate, picks = run(machine, 2000)
    _, _, off = machine.best_rate()
    assert rate * (1.025 + 0.02 * 7) > 0.95 * off
    if acceptance < 0.8:
        assert length.paused and picks[-1] == 0


def test_it_comes_back_when_things_change():
    machine = Machine(0.02, MEMORY_BOUND, 3.0)
    length, _, _ = run(machine, 500)
    assert length.paused
    machine.acceptance, machine.draft = 0.95, 0.2
    length, _, picks = run(machine, 6000, length)
    assert not length.paused and sum(picks[-100:]) / 100 > 3


def test_acceptance_is_counted_given_those_before():
    length = testing.DraftLength()
    for _ in range(300):
        length.update(3, 1, 1.0, 10.0)  # the first is right, the second wrong, the third unknown
    assert length.acceptance(0) > 0.9 and length.acceptance(1) < 0.1
    # never seen: as good as the one before
    assert length.acceptance(2) == pytest.approx(length.acceptance(1))


def test_a_draft_that_is_not_run_was_refused():
    length = testing.DraftLength()
    for _ in range(300):
        length.update(4, 1, 1.0, 10.0, kept=1)
    assert length.acceptance(0) > 0.9 and length.acceptance(1) < 0.1


def test_rows_of_others_cost_what_a_run_of_so_many_costs():
    """Forced tokens beside no draft, and behind one: neither makes plain rounds or drafts
    dearer."""
    length = testing.DraftLength()
    for _ in range(20):
        length.update(0, 0, 0.0, 10.0)
        length.update(2, 2, 1.0, 11.0)
    plain, drafted = length.tokens_per_ms(0), length.tokens_per_ms(2)
    for _ in range(200):
        length.update(0, 0, 0.0, 40.0, rows=9)
        length.update(2, 2, 1.0, 30.0, kept=2, rows=7)
    assert length.tokens_per_ms(0) == pytest.approx(plain, rel=0.02)
    assert length.tokens_per_ms(2) == pytest.approx(drafted, rel=0.05)


def run_on_a_drifting_machine(machine, rounds):
    """Time of the text over its time by plain steps, round for round at the machine's speed."""
    length, plain_ms, ms, picks = testing.DraftLength(), 0.0, 0.0, []
    verify, draft = machine.verify, machine.draft
    for at in range(rounds):
        slow = machine.drift(at)
        machine.verify, machine.draft = (lambda rows, f=slow: f * verify(rows)), slow * draft
        k = length.choose()
        tokens, _ = machine.round(length, k)  # its noise is what the choice sees, not the judge
        picks.append(k)
        ms += slow * (verify(1 + k) + k * draft)
        plain_ms += tokens * slow * verify(1)
    return plain_ms / ms, picks


# Of a measured machine: rows are cheap up to 4, dearer behind.
ZEN_5 = [0, 1, 1.07, 1.11, 1.13, 1.19, 1.3, 1.43, 1.58, 1.75]


@pytest.mark.parametrize(
    "acceptance, verify, least",
    [
        (0.3, lambda rows: 20 * ZEN_5[rows], 1.1),  # the best fixed length: 1.23
        (0.75, lambda rows: 20 * ZEN_5[rows], 2.3),
        (0.9, lambda rows: 20 * ZEN_5[rows], 3.0),
        (0.3, lambda rows: 20 * (1 + 0.35 * (rows - 1)), 0.98),  # no length pays
        (0.0, lambda rows: 20 * ZEN_5[rows], 0.98),
    ],
)
def test_a_machine_whose_speed_drifts(acceptance, verify, least):
    """Its plain tokens and its runs are never measured at one speed."""
    for seed in range(4):
        machine = Machine(acceptance, verify, 0.1, seed=seed)
        speed, picks = run_on_a_drifting_machine(machine, 1500)
        assert speed > least, (seed, speed, picks[-40:])


def test_lengths_are_tried_again():
    """Runs that became dear while others were in use, and cheap again."""
    machine = Machine(0.9, lambda rows: 20 * ZEN_5[rows], 0.1)
    length, _, picks = run(machine, 400)
    assert sum(picks[-50:]) / 50 > 5
    machine.verify = lambda rows: 20 * (ZEN_5[rows] if rows <= 4 else 5.0)
    length, _, picks = run(machine, 400, length)
    assert sum(picks[-50:]) / 50 < 4.5
    machine.verify = lambda rows: 20 * ZEN_5[rows]
    length, _, picks = run(machine, 2000, length)
    assert sum(picks[-50:]) / 50 > 5
