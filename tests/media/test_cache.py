"""Rows stay while somebody uses them, and as long as there is room."""

import gc
import os
import threading

import numpy as np
import pytest
from patience import until

from pillion.media.cache import RowCache


class Lent:
    """What the model has: {first id: rows}. The same digest has the same ids for ever."""

    def __init__(self):
        self.firsts, self.there = {}, {}

    def add(self, rows, digest, sees_itself):
        first = self.firsts.setdefault(digest, -1 - 1000 * len(self.firsts))
        self.there[first] = rows
        return first

    def drop(self, first):
        del self.there[first]


def rows(n=4, value=1.0):
    return np.full((n, 8), value, np.float32)  # 32 bytes a row


@pytest.fixture
def lent():
    return Lent()


def test_the_same_medium_is_encoded_once(lent):
    cache, made = RowCache(lent.add, lent.drop), []

    def encode():
        made.append(1)
        return rows()

    one, two = cache.lease(), cache.lease()
    first = one.add(b"a", encode)
    assert two.add(b"a", encode) is first and len(made) == 1
    assert list(first.ids) == [-1, -2, -3, -4] and one.ids == [first.ids]
    other = two.add(b"b", encode)
    assert other.first != first.first and len(made) == 2 and len(cache) == 2
    assert cache.n_bytes == 2 * 4 * 32
    assert one.find(b"c") is None and one.find(b"b") is other


def test_what_nobody_uses_goes_oldest_first(lent):
    cache = RowCache(lent.add, lent.drop, n_bytes=3 * 128)
    leases = [cache.lease() for _ in range(5)]
    for at, lease in enumerate(leases):
        lease.add(bytes([at]), rows)
    assert len(lent.there) == 5  # more than fits, but all are in use
    for lease in leases[1:]:
        lease.release()
        lease.release()
    assert len(cache) == 3 and sorted(lent.there) == sorted(
        lent.firsts[bytes([at])] for at in (0, 3, 4)
    )
    again = cache.lease()
    assert again.add(b"\3", None).n_rows == 4  # it is still there
    again.release()
    cache.lease().add(b"\5", rows)  # nobody holds the lease: the next look counts that
    gc.collect()
    leases[0].release()
    assert set(lent.there) == {lent.firsts[bytes([at])] for at in (0, 3, 5)}
    cache.clear()
    assert not lent.there and cache.n_bytes == 0


def test_rows_that_come_back_have_their_ids_again(lent):
    cache = RowCache(lent.add, lent.drop, n_bytes=0)
    lease = cache.lease()
    first = lease.add(b"a", rows).first
    lease.release()
    assert not lent.there
    assert cache.lease().add(b"a", rows).first == first


def test_one_larger_than_all_room_serves_its_request(lent):
    cache = RowCache(lent.add, lent.drop, n_bytes=10)
    lease = cache.lease()
    lease.add(b"a", lambda: rows(1000))
    assert len(lent.there) == 1
    lease.release()
    assert not lent.there


def test_threads_that_want_the_same_wait_for_one_encoding(lent):
    cache, go, made, found = RowCache(lent.add, lent.drop), threading.Event(), [], []

    def encode():
        made.append(threading.get_ident())
        go.wait()
        return rows()

    def work():
        found.append(cache.lease().add(b"a", encode))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: made)
    go.set()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len({id(one) for one in found}) == 1


def test_an_encoding_that_fails_leaves_nothing_and_the_next_one_tries_again(lent):
    cache = RowCache(lent.add, lent.drop)

    def broken():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.lease().add(b"a", broken)
    assert len(cache) == 0 and cache.lease().add(b"a", rows).n_rows == 4


def test_many_threads(lent):
    cache, wrong = RowCache(lent.add, lent.drop, n_bytes=5 * 128), []

    def work(seed):
        random = np.random.default_rng(seed)
        for _ in range(200):
            lease = cache.lease()
            for digit in random.integers(0, 20, 3):
                entry = lease.add(bytes([digit]), lambda digit=digit: rows(4, digit))
                if lent.there[entry.first][0, 0] != digit:
                    wrong.append(digit)
            if random.random() < 0.5:
                lease.release()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    cache.sweep()
    assert not wrong and cache.n_bytes <= 5 * 128 and len(lent.there) == len(cache)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() here")
def test_a_fork_in_the_middle_of_an_encoding(lent):
    """The child has no thread that encodes it, so it encodes it itself."""
    cache, go = RowCache(lent.add, lent.drop), threading.Event()
    begun = threading.Event()

    def slow():
        begun.set()
        go.wait()
        return rows()

    thread = threading.Thread(target=lambda: cache.lease().add(b"a", slow))
    thread.start()
    begun.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if cache.lease().add(b"a", rows).n_rows == 4 else 1)
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
