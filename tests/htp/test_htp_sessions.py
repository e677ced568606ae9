"""Models that one session of the DSP can't hold, with an address space made small
(PILLION_HTP_SPACE, MB): each layer has one session, what crosses lies in memory that both map, and
what fits nowhere is refused with the sizes."""

import pytest
from htp_support import child

PROMPT = [2, 10, 20, 30, 40, 50, 60, 70]


@pytest.fixture(scope="module")
def tiny(pillion):
    from pillion.models import TINY_ASSISTANT, TINY_TARGET

    try:
        pillion.Model.open(TINY_TARGET, device="htp:sim").close()
    except pillion.NoBackendError as error:
        pytest.skip(f"no htp:sim: {error} (make build makes it)")
    return {"target": TINY_TARGET, "drafter": TINY_ASSISTANT}


@pytest.fixture(scope="module")
def wanted(tiny):
    return child({"target": tiny["target"], "device": "cpu", "prompt": PROMPT, "n": 16})["tokens"]


def stretches(report):
    """Sessions in the order a run visits them, and the sessions of each layer."""
    visited, of_layer = [], {}
    for step in report["plan"]:
        if not visited or visited[-1] != step["session"]:
            visited.append(step["session"])
        if step["layer"] >= 0:
            of_layer.setdefault(step["layer"], set()).add(step["session"])
    return visited, of_layer


@pytest.mark.parametrize("space, sessions", [(None, 1), (8, 2), (5.5, 3)])
def test_a_layer_has_one_session(tiny, wanted, space, sessions):
    report = child(
        {"target": tiny["target"], "device": "htp:sim", "prompt": PROMPT, "n": 16},
        PILLION_HTP_SPACE=space,
    )
    assert report.get("failed") is None and report["tokens"] == wanted
    visited, of_layer = stretches(report)
    assert {s for layer in of_layer.values() for s in layer} | set(visited) == set(range(sessions))
    assert all(len(layer) == 1 for layer in of_layer.values())
    order = [next(iter(of_layer[layer])) for layer in sorted(of_layer)]
    assert order == sorted(order)  # a run goes through each session's layers once


@pytest.mark.parametrize("drafter_on", ["cpu", "htp:sim"])
def test_a_pair_over_sessions(tiny, wanted, drafter_on):
    work = {**tiny, "device": "htp:sim", "drafter_device": drafter_on, "prompt": PROMPT, "n": 16}
    report = child(work, PILLION_HTP_SPACE=11)
    assert report.get("failed") is None and report["tokens"] == wanted
    assert report["stats"]["drafted"] > 0 and stretches(report)[0] == [0, 1, 0]


def test_a_model_that_no_number_of_sessions_holds(tiny):
    report = child(
        {"target": tiny["target"], "device": "htp:sim", "prompt": PROMPT, "n": 1},
        PILLION_HTP_SPACE=1,
    )
    kind, sentence = report["failed"]
    assert kind == "OutOfMemoryError"
    assert (
        "MB need" in sentence
        and "sessions of 0 MB each, there are at most 4: take a smaller model or quantization"
        in sentence
    )


def test_a_cache_that_does_not_fit_beside_the_weights(tiny):
    work = {
        "target": tiny["target"],
        "device": "htp:sim",
        "prompt": PROMPT,
        "n": 1,
        "settings": {"n_ctx": 65536},
    }
    report = child(work, PILLION_HTP_SPACE=10)
    kind, sentence = report["failed"]
    assert kind == "OutOfMemoryError"
    assert "in one piece, a session of the DSP sees 10 MB" in sentence
