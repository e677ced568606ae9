"""The arithmetic of `pillion bench --parallel` on made-up times, simulated acceptance, and the
clock of the library. How fast anything is, no test asks."""

import asyncio
import importlib
import threading
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def timeline(fake):
    return importlib.import_module("pillion_fake.benchmark.timeline")


def piece(drafted):
    """A piece whose tokens are a drafter's (d) or the model's own (-)."""
    return SimpleNamespace(tokens=[SimpleNamespace(drafted=one == "d") for one in drafted])


@pytest.mark.parametrize(
    ("pieces", "rounds"),
    [
        ([(1, "-"), (2, "-")], [(1, 1), (2, 1)]),
        ([(1, "d"), (1.1, "d"), (1.2, "-"), (2, "-")], [(1, 3), (2, 1)]),
        ([(1, "dd"), (2, "d-")], [(1, 4)]),
        ([(1, "d-d"), (1.5, "-")], [(1, 4)]),
        ([(1, "d"), (2, "-d"), (2.1, "-")], [(1, 1), (2, 3)]),  # the first "-" was held back
        ([(1, "d"), (2, "--")], [(1, 1), (2, 2)]),
        ([(1, "-"), (2, "")], [(1, 1)]),
        ([], []),
    ],
)
def test_pieces_become_rounds(timeline, pieces, rounds):
    found = timeline.arrivals_of((time, piece(drafted)) for time, drafted in pieces)
    assert [tuple(one) for one in found] == rounds


def arrivals(timeline, *pairs):
    return [timeline.Arrival(*pair) for pair in pairs]


def test_speed_counts_while_all_write(timeline):
    early = arrivals(timeline, (1, 1), (2, 2), (3, 2), (4, 2))
    late = arrivals(timeline, (2, 1), (3, 3), (4.5, 4))
    window = timeline.common_window([early, late])
    assert window == (2, 4)
    assert timeline.rates([early, late], window) == [2, 1.5]
    assert timeline.gaps_ms(late, window) == [1000]
    assert timeline.gaps_ms(early, (1, 3.5)) == [1000, 1000]


def test_a_window_needs_a_moment_of_all(fake, timeline):
    one, two = arrivals(timeline, (1, 1), (2, 7)), arrivals(timeline, (2, 1), (3, 9))
    with pytest.raises(fake.UsageError, match=r"a text of 8 tokens was over .*\(-n\)"):
        timeline.common_window([one, two])
    with pytest.raises(fake.UsageError, match="no tokens"):
        timeline.common_window([one, []])


def test_the_gap_that_goes_on_counts(timeline):
    """A prompt that was read between two rounds made the gap around it."""
    text = arrivals(timeline, (1, 1), (2, 1), (9, 1), (10, 1))
    assert timeline.gaps_across_ms(text, (3, 4)) == [7000]
    assert timeline.gaps_across_ms(text, (1.5, 9.5)) == [1000, 7000, 1000]
    assert timeline.gaps_ms(text, (3, 4)) == []


def test_percentiles_and_spreads(timeline):
    values = [float(one) for one in range(1, 101)]
    assert timeline.percentile(values, 0.95) == 95
    assert timeline.percentile([3.0], 0.95) == timeline.percentile([3.0], 0) == 3
    assert timeline.gap_summary([4.0, 1.0, 2.0]) == {"median": 2, "p95": 4, "max": 4}
    assert timeline.spread([4.0, 1.0]) == {"median": 2.5, "min": 1, "max": 4}


def test_what_is_outside_the_library(timeline):
    calls = [
        timeline.Call(0.0, 2.0, 10.0, 11.5),  # half of it in the window
        timeline.Call(3.0, 5.0, 11.75, 13.0),
        timeline.Call(6.0, 9.0, 13.5, 16.0),  # a third of it
    ]
    outside = timeline.outside_library(calls, (1.0, 7.0))
    assert outside.seconds == pytest.approx(6 - 1 - 2 - 1)
    assert outside.used == pytest.approx(0.25 + 0.5)
    assert timeline.outside_library(calls, (2.5, 4.0)) == (0.5, 0)
    assert timeline.outside_library([], (2.0, 4.0)) == (2, 0)


# ---- simulated acceptance ----


@pytest.fixture
def simulated(fake):
    module = importlib.import_module("pillion_fake.benchmark.simulated_acceptance")

    def make(chance, seed=1, ends=()):
        return module.SimulatedAcceptance(chance, seed, 300, ends)

    return make


class Sampler:
    """Chooses 7 for every row."""

    def __init__(self):
        self.accepted = []

    def sample(self, context, row):
        self.row = row
        return 7

    def accept(self, token):
        self.accepted.append(token)


def chosen(constraint, drafts, n_max=9):
    sampler = Sampler()
    found = constraint.choose(None, 0, sampler, drafts, None, n_max, ())
    assert sampler.accepted == found and sampler.row == len(found) - 1
    return found


def test_simulated_drafts_stand_until_the_first_refusal(simulated):
    assert chosen(simulated(1.0), [1, 2, 3]) == [1, 2, 3, 7]
    assert chosen(simulated(0.0), [1, 2, 3]) == [7]
    assert chosen(simulated(0.0), [7, 2]) == [8]  # refused, though the model agrees
    assert chosen(simulated(1.0, ends=(2,)), [1, 2, 3]) == [1, 7]
    assert chosen(simulated(0.0, ends=(8,)), [7]) == [9]
    assert chosen(simulated(1.0), [1, 2, 3], n_max=2) == [1, 2]
    assert simulated(1.0).plan([1, 2, 3], 2) == ([1, 2], None)


def test_simulated_acceptance_is_the_chance(simulated):
    constraint = simulated(0.7)
    counts = [len(chosen(constraint, [1, 2, 3])) - 1 for _ in range(4000)]
    expected = 0.7 + 0.7**2 + 0.7**3
    assert sum(counts) / len(counts) == pytest.approx(expected, abs=0.1)
    first = [chosen(simulated(0.5, seed), [1, 2, 3]) for seed in range(40)]
    assert first == [chosen(simulated(0.5, seed), [1, 2, 3]) for seed in range(40)]
    assert len({tuple(one) for one in first}) == 4


def test_an_engine_writes_with_simulated_acceptance(
    fake, strings, toy_file, toy_drafter, simulated
):
    """Its counts are those of the chance, for each user of his own."""
    with (
        fake.Model.open(toy_file({"fake.arch": '"gemma4"'})) as model,
        fake.Model.open(toy_drafter) as drafter,
        fake.Engine(
            model, sizes={"n_ctx": 256, "n_outputs": 9}, drafter=drafter, parallel=2
        ) as engine,
    ):
        found = [
            engine.submit(
                fake.Request([65, 66 + number], max_tokens=40, draft=4, constraint=constraint)
            )
            for number, constraint in enumerate((simulated(1.0), simulated(0.0)))
        ]
        all_stand, none_stand = (one.result().speculation for one in found)
    assert all_stand.acceptance == 1 and none_stand.acceptance == 0
    assert none_stand.drafted > 100 and len(found[0].tokens) == len(found[1].tokens) == 40


# ---- users of an engine ----


@pytest.fixture
def users(fake):
    return importlib.import_module("pillion_fake.benchmark.users")


@pytest.fixture
def engine(fake, strings, toy_file):
    with (
        fake.Model.open(toy_file()) as model,
        fake.Engine(model, sizes={"n_ctx": 256, "n_outputs": 9}, parallel=2) as engine,
    ):
        yield engine


def requests(fake, n, tokens):
    return [fake.Request([65 + number], max_tokens=tokens) for number in range(n)]


def test_users_read_to_their_ends(fake, users, engine, strings):
    strings.slow(500)
    together = users.Together(engine)
    asyncio.run(together.read(requests(fake, 2, 30)))
    assert [sum(one.tokens for one in text.arrivals) for text in together.texts] == [30, 30]
    assert together.all.tokens == together.all.user_rounds == 60
    assert 0 <= together.together.rounds <= together.all.rounds < 60
    assert together.window[0] <= together.window[1] and 0 <= together.late < 1


def test_users_leave_when_all_have_begun(fake, users, engine, strings):
    strings.slow(500)
    texts = asyncio.run(users.until_all_begin(engine, requests(fake, 2, 200)))
    assert all(text.first_ms > 0 and text.ended for text in texts)
    assert engine.stats().writing == 0


def test_a_late_reader_is_noticed(fake, users, engine):
    """The first text is complete before anybody looks at it."""

    class Late(users.Together):
        def _look(self):
            if self._first is None:
                self.texts[1].generation.result()
            super()._look()

    together = Late(engine)
    asyncio.run(together.read(requests(fake, 2, 40)))
    assert together.late > 0.5


@pytest.mark.parametrize("call", ["until_all_begin", "Together"])
def test_what_ends_a_text_is_raised(fake, users, engine, strings, call):
    """Nobody waits for the first token of a text that failed."""
    strings.fail("pillion_pair_sync", 8, "the device is gone")
    asked = requests(fake, 2, 30)
    body = users.until_all_begin if call == "until_all_begin" else None
    with pytest.raises(fake.PillionError, match="the device is gone"):
        asyncio.run(body(engine, asked) if body else users.Together(engine).read(asked))


# ---- the clock ----


def test_the_clock_notes_calls_and_goes(pillion, tiny_target):
    clock_of = importlib.import_module("pillion.benchmark.library_clock")
    modules = [pillion._native, pillion.model, pillion.context, pillion.sampling]
    real = pillion._native.lib
    with clock_of.LibraryClock() as clock:
        assert all(module.lib is clock for module in modules)
        assert clock.PILLION_DRAFT_MAX == real.PILLION_DRAFT_MAX
        begin = clock_of.time.perf_counter()
        with pillion.Model.open(tiny_target, progress=lambda done, total: None) as model:
            with pytest.raises(pillion.PillionError):
                model.context(n_ctx=-3)
            model.context(n_ctx=64).prefill([1, 2, 3])
        window = (begin, clock_of.time.perf_counter())
        assert 0 <= clock.outside(window).seconds < window[1] - window[0]
        assert threading.get_ident() in clock._calls
        clock.forget()
        assert clock.outside(window) == (window[1] - window[0], 0)
    assert all(module.lib is real for module in modules)


def test_the_clock_takes_a_simulation_out(pillion):
    clock_of = importlib.import_module("pillion.benchmark.library_clock")

    class Simulation:
        def choose(self):
            clock.pillion_choice_init(pillion._native.ffi.new("pillion_choice*"), 0)
            until = clock_of.time.perf_counter() + 0.002
            while clock_of.time.perf_counter() < until:
                pass

    real = Simulation.choose
    with clock_of.LibraryClock(Simulation) as clock:
        begin = clock_of.time.perf_counter()
        Simulation().choose()
        window = (begin, clock_of.time.perf_counter())
        assert len(clock._calls[threading.get_ident()]) == 1  # the call inside is no second one
        assert clock.outside(window).seconds < window[1] - window[0] - 0.002 + 1e-4
    assert Simulation.choose is real
