"""The runtime's cache of one sequence: sizes of its stores, and when stepping back needs no
recomputation."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testing_ops import REFERENCE, device, testing

FULL, SLIDING = (False, True), (True, True)
SHARES_FULL, SHARES_SLIDING = (False, False), (True, False)


def cache(layers, window, n_ctx, rows, swa_full=False, n_snapshots=0):
    return testing.KvCache(device(REFERENCE), layers, window, n_ctx, rows, swa_full, n_snapshots)


def up(n):
    return (n + 255) // 256 * 256


@pytest.mark.parametrize(
    "window, n_ctx, rows",
    [
        (512, 4096, 512),
        (1, 300, 1),
        (257, 2000, 0),
        (1024, 1024, 64),
        (512, 700, 300),
        (200, 5000, 57),
    ],
)
def test_capacities(window, n_ctx, rows):
    """Full layers hold the context, sliding ones the window before a run and the run; never more
    than the context."""
    c = cache([SLIDING, FULL, SLIDING, SHARES_SLIDING, SHARES_FULL], window, n_ctx, rows)
    ring = up(window - 1 + rows)
    assert c.capacity(1) == up(n_ctx) and not c.is_ring(1)
    for layer in (0, 2):
        assert c.is_ring(layer) == (ring < up(n_ctx))
        assert c.capacity(layer) == min(ring, up(n_ctx))
    assert c.extent(3) is None and c.extent(4) is None
    assert c.last_view(True) == 2 and c.last_view(False) == 1
    everything = cache([SLIDING, FULL, SLIDING], window, n_ctx, rows, swa_full=True)
    assert [everything.capacity(i) for i in range(3)] == [up(n_ctx)] * 3 and not everything.is_ring(
        0
    )


def test_stores_do_not_overlap():
    c = cache([SLIDING, FULL, SLIDING, FULL, SHARES_FULL], 300, 1000, 50)
    extents = sorted(c.extent(i) for i in range(4))
    for (begin, size), (following, _) in zip(extents, extents[1:]):
        assert begin % 64 == 0 and begin + size <= following
    assert sum(extents[-1]) <= c.bytes
    with pytest.raises(testing.Error, match="layer 5 of 5"):
        c.extent(5)


@pytest.mark.parametrize("swa_full", [False, True])
def test_going_back_to_nothing_forgets_how_far_the_ring_was_written(swa_full):
    """A first prompt that is broken off goes back to 0; the next text can drop its rows."""
    c = cache([SLIDING, FULL], 16, 1000, 128, swa_full)
    for _ in range(5):
        c.begin_write(100)
        c.end_write(100)
    c.rewind(0)
    c.begin_write(5)
    c.end_write(5)
    assert c.length == 5 and all(c.can_rewind(n) for n in range(6))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 60)), st.tuples(st.just("back"), st.floats(0, 1))
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 300), st.integers(1, 60), st.booleans(), steps)
def test_rewind(window, rows_per_run, sliding, walk):
    """can_rewind says yes exactly if every position that the next row sees is still in its slot. (A
    window of 1 sees none; there it may say no.) Back at 0 the cache is cleared, as the context
    does."""
    c = cache([SLIDING if sliding else FULL, FULL], window, 2048, rows_per_run)
    capacity, slots, length = c.capacity(0), {}, 0

    def all_there(n):
        first = max(0, n - (window - 1)) if sliding else 0
        return all(slots.get(p % capacity) == p for p in range(first, n))

    for what, amount in walk:
        if what == "write":
            n = min(amount, rows_per_run, 2048 - length)
            c.begin_write(n)
            for p in range(length, length + n):
                slots[p % capacity] = p
            c.end_write(n)
            length += n
        else:
            to = int(round(length * (1 - amount**3)))
            assert not c.can_rewind(length + 1)
            possible = c.can_rewind(to)
            if possible:
                assert all_there(to)
            elif window > 1:
                assert not all_there(to)
            assert possible or to > 0
            if possible:
                c.rewind(to)
                length = to
                if to == 0:
                    c.clear()
        assert c.length == length
    # A run's own rows can always be dropped: the margin of the ring.
    n = min(rows_per_run, 2048 - length)
    c.begin_write(n)
    c.end_write(n)
    assert all(c.can_rewind(k) for k in range(length, length + n + 1))
    c.clear()
    assert c.length == 0 and c.can_rewind(0)


# ---- copies of the rings ----


class Sequence:
    """A cache whose slots hold which token was written there (8 bytes each: a key and a value of 2
    x f16), and what it should hold."""

    def __init__(self, window, rows, n_snapshots):
        self.cache = cache([SLIDING, FULL], window, 2048, rows, n_snapshots=n_snapshots)
        self.window, self.rows, self.capacity = window, rows, self.cache.capacity(0)
        self.text, self.clock = [], 0

    def write(self, n):
        n = min(n, self.rows, 2048 - len(self.text))
        self.cache.begin_write(n)
        held = bytearray(self.cache.bytes_at(0))
        for _ in range(n):
            self.clock += 1
            slot = len(self.text) % self.capacity
            held[8 * slot : 8 * slot + 8] = self.clock.to_bytes(8, "little")
            self.text.append(self.clock)
        self.cache.set_bytes(0, bytes(held))
        self.cache.end_write(n)

    def go_back(self, length):
        nearest = self.cache.nearest(length)
        assert 0 <= nearest <= length
        self.cache.go_back(nearest)
        del self.text[nearest:]
        self.check()
        return nearest

    def check(self):
        """All that the next row looks at is there."""
        held = self.cache.bytes_at(0)
        assert self.cache.length == len(self.text)
        for position in range(max(0, len(self.text) - (self.window - 1)), len(self.text)):
            slot = position % self.capacity
            assert int.from_bytes(held[8 * slot : 8 * slot + 8], "little") == self.text[position]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 60),
    st.integers(-1, 4),
    st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from(["write"] * 2 + ["much", "expect", "expect at"]), st.integers(1, 60)
            ),
            st.tuples(st.just("back"), st.floats(0, 1)),
        ),
        max_size=60,
    ),
)
def test_walks_with_snapshots(window, rows, n_snapshots, walk):
    """Wherever nearest() says that the cache can be, all that the next row sees is in its slot."""
    s = Sequence(window, rows, n_snapshots)
    none = n_snapshots < 0 or not s.cache.is_ring(0)
    assert s.cache.n_snapshots == (0 if none else n_snapshots or 4)
    for what, amount in walk:
        if what == "write":
            s.write(amount)
        elif what == "much":
            for _ in range(amount):
                s.write(rows)
        elif what == "expect":
            s.cache.expect(len(s.text) + amount - 30 if len(s.text) + amount > 30 else amount)
        elif what == "expect at":
            s.cache.expect_at(max(0, len(s.text) - amount))
        else:
            s.go_back(int(round(len(s.text) * amount)))
        s.check()


@pytest.mark.parametrize("answer", [0, 1, 100, 155, 156, 157, 256, 257, 1000])
def test_what_was_expected_stays_in_reach(answer):
    """A ring of 256 serves 157 lengths for a window of 100; half of them are kept with the
    place."""
    s = Sequence(100, 9, 1)
    for _ in range(50):
        s.write(9)
    end = len(s.text)
    s.cache.expect(end)
    while len(s.text) < end + answer:
        s.write(min(9, end + answer - len(s.text)))
    assert [s.cache.nearest(length) for length in (end, end - 1, end - 78)] == [
        end,
        end - 1,
        end - 78,
    ]
    assert s.go_back(end - 5) == end - 5
    for _ in range(200):
        s.write(9)
    # What follows the cut is another text: a copy from before ends there, a later one holds the new
    # text.
    assert s.cache.nearest(end - 5) == end - 5
    assert s.cache.nearest(end) == (end - 5 if answer >= 100 else end)
    s.go_back(end)
    s.cache.clear()
    assert s.cache.nearest(0) == 0 and s.cache.length == 0
