"""Many clients at once, of which many leave: server_soak.py, for a while and for long."""

import threading

import pytest

fastapi = pytest.importorskip("fastapi", reason="the extra `server` is not installed")

from server_soak import (  # noqa: E402
    ALONE,
    Client,
    Load,
    settled,
    soak,
    text_of_whole,
    until_as_before,
)
from server_support import served  # noqa: E402

from patience import PATIENCE  # noqa: E402


def test_two_hundred_leave_and_one_stays(pillion, tiny_target):
    """At random points: in the headers, before the body, in the prompt, in the text, reading
    nothing. Nothing of them is left, and the one that stayed has its text."""
    load = Load(pillion, tiny_target)
    path, body, _ = load.cases[0]
    body = {**body, "max_tokens": 400}
    with pillion.LLM(tiny_target, n_ctx=512) as llm:
        expected = llm.complete(body["prompt"], temperature=0, max_tokens=400)["choices"][0]["text"]

    def opened(check):
        return pillion.LLM(tiny_target, n_ctx=512, parallel=2)

    with served(pillion, opened) as server:
        assert text_of_whole(server.post(path, body)) == expected
        before = settled(server)
        outcome = []
        stayed = threading.Thread(
            target=lambda: outcome.append(server.post(path, body, headers=ALONE)), daemon=True
        )
        stayed.start()
        leavers = [Client(server, load, seed, 0) for seed in range(8)]

        def leave(one):
            for _ in range(25):
                path, body, _ = one.random.choice(load.cases)
                one.leave(path, {**body, "stream": one.random.random() < 0.5})

        threads = [threading.Thread(target=leave, args=(one,), daemon=True) for one in leavers]
        for one in threads:
            one.start()
        for one in (*threads, stayed):
            one.join(PATIENCE)
            assert not one.is_alive()
        assert text_of_whole(outcome[0]) == expected
        assert sum(one.n_left for one in leavers) == 200
        until_as_before(server, before)
        assert text_of_whole(server.post(path, body)) == expected


@pytest.mark.slow
def test_twenty_seconds_of_mixed_load(pillion, tiny_target):
    found = soak(pillion, tiny_target, 20)
    assert found["faults"] == []
    assert found["right"] > 20 and found["left"] > 20


@pytest.mark.nightly
def test_ten_minutes_of_mixed_load(pillion, tiny_target):
    found = soak(pillion, tiny_target, 600, seed=2)
    assert found["faults"] == []
    assert found["right"] > 600 and found["left"] > 600
    assert found["grown_mb"] < 50
