"""The choice of the draft length for drafters with a cache of their own, which read the text before
they can draft: simulated machines on which every unread token costs. No prefix of a text from 64
tokens on may fall below 0.98 of its plain speed, and a drafter that is worth it is found, also
again."""

import random

import pytest
from testing_ops import testing


class Machine:
    """Times in plain tokens: verify(rows) of a run, draft of a step, read of a token among many."""

    def __init__(self, acceptance, verify, draft, read, share=None, noise=0.05, seed=1):
        self.acceptance, self.verify, self.draft, self.read = acceptance, verify, draft, read
        self.share = draft if share is None else share  # what the drafter's size says of its steps
        self.noise, self.random = noise, random.Random(seed)
        self.late = False  # it knows only the end of the text

    def prompt(self, length, n):
        length.begin_text()
        self.text = self.unread = self.behind = n

    def round(self, length):
        """(tokens, time that it would take without noise, drafts)."""
        k, window = length.choose_reading(self.unread, self.behind, self.share)
        read = 0
        if k:
            if window >= self.text:
                read, self.late = self.unread, False
            elif self.behind > window:
                read, self.late = window + 1, True
            else:
                read = self.behind
            self.behind = 0
            read = read if read > 9 else 0
        accepted = 0
        while accepted < k and self.random.random() < self.acceptance:
            accepted += 1
        self.text += accepted + 1
        self.behind += accepted + 1
        self.unread = self.text if self.late else self.behind
        jitter = 1 + self.noise * (2 * self.random.random() - 1)
        if self.random.random() < 0.02:
            jitter *= 6  # someone else had the core
        read_ms = read * self.read
        draft_ms, verify_ms = read_ms + k * self.draft, self.verify(1 + k)
        length.update(k, accepted, draft_ms * jitter, verify_ms * jitter, read, read_ms * jitter)
        return accepted + 1, draft_ms + verify_ms, k


def write(machine, n, length=None, prompt=100, change=None):
    """Writes n tokens. The least speed of any prefix from 64 tokens on, that of the whole, the
    drafts of each round."""
    length = length or testing.DraftLength()
    machine.prompt(length, prompt)
    tokens = time = 0
    least, picks = 9.0, []
    while tokens < n:
        if change and tokens >= change[0]:
            machine.acceptance = change[1]
        t, cost, k = machine.round(length)
        tokens, time = tokens + t, time + cost
        picks.append(k)
        if tokens >= 64:
            least = min(least, tokens / time)
    return least, tokens / time, picks, length


def memory_bound(rows):
    return 1 + 0.04 * (rows - 1)


def compute_bound(rows):
    return 1 + 0.4 * (rows - 1)


def between(rows):
    return 1 + 0.25 * (rows - 1)


MACHINES = {
    "itself": (between, 1.0, 0.2),
    "itself, memory bound": (memory_bound, 1.0, 0.05),
    "itself, compute bound": (compute_bound, 1.0, 0.25),
    "a third": (between, 0.3, 0.06),
    "a tenth": (memory_bound, 0.1, 0.02),
    "a tenth, compute bound": (compute_bound, 0.1, 0.025),
    "a fiftieth": (memory_bound, 0.02, 0.004),
}


@pytest.mark.parametrize("prompt", [10, 300, 3000])
@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", MACHINES)
def test_no_prefix_is_slower_than_098_of_off(name, acceptance, prompt):
    for seed in range(5):
        machine = Machine(acceptance, *MACHINES[name], seed=seed)
        least, _, picks, _ = write(machine, 1500, prompt=prompt)
        assert least >= 0.98, (seed, least, picks[:100])


@pytest.mark.parametrize("before, after", [(0.0, 0.95), (0.95, 0.0), (0.5, 0.95), (0.95, 0.4)])
@pytest.mark.parametrize("name", MACHINES)
def test_acceptance_that_changes_midway(name, before, after):
    for seed in range(5):
        machine = Machine(before, *MACHINES[name], seed=seed)
        least, _, picks, _ = write(machine, 2000, change=(700, after))
        assert least >= 0.98, (seed, least)


@pytest.mark.parametrize("name", ["a third", "a tenth", "a fiftieth"])
def test_a_good_drafter_is_found(name):
    """From the start, and after it was useless for long; also when its reading is felt."""
    for seed in range(5):
        machine = Machine(0.9, *MACHINES[name], seed=seed)
        _, speed, picks, _ = write(machine, 1500)
        assert sum(picks[-100:]) / 100 >= 1 and speed > 1.05, (seed, speed)
        machine = Machine(0.0, *MACHINES[name], seed=seed)
        _, _, picks, length = write(machine, 1000)
        assert picks[-1] == 0 and sum(picks) < 60, (seed, sum(picks))
        machine.acceptance = 0.9
        _, speed, picks, _ = write(machine, 3000, length)
        assert sum(picks[-200:]) / 200 >= 1 and speed > 1.05, (seed, speed)


def test_a_drafter_in_use_serves_the_next_text_at_once():
    machine = Machine(0.9, *MACHINES["a tenth"])
    _, _, _, length = write(machine, 1000)
    _, speed, picks, _ = write(machine, 200, length, prompt=200)
    assert all(picks[:5]) and speed > 1.5


def test_the_size_is_only_a_guess():
    """A drafter of a good size, on another device where it costs next to nothing: the first trial
    tells."""
    machine = Machine(0.9, memory_bound, 0.02, 0.002, share=0.1)
    _, speed, picks, _ = write(machine, 600)
    assert speed > 1.5
