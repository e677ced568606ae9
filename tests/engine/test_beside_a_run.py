"""What other threads may ask while the engine's thread is inside a run of the library: everything
that does not need the sequence itself. A tiny model's runs are too short to tell."""

import json

import pytest

fastapi = pytest.importorskip("fastapi", reason="the extra `server` is not installed")

from patience import in_thread, until  # noqa: E402
from server_support import served  # noqa: E402


@pytest.fixture
def paired(fake, strings, toy_file, toy_drafter):
    with fake.LLM(toy_file({"general.name": '"Toy"'}), n_ctx=256, drafter=toy_drafter) as llm:
        yield llm


def test_an_llm_answers_questions(fake, strings, paired, under_way):
    thread, outcome = under_way(lambda: paired.complete("abc", temperature=0, max_tokens=4))
    with pytest.raises(fake.Busy):
        paired.context.n_past  # noqa: B018 - the run is there
    assert paired.n_ctx() == 256
    assert paired.speculation.kind == "mtp"
    assert paired.engine.slots()[0].state == "reading"
    assert "busy" in repr(paired.context)
    assert "Toy" in repr(paired) and "1 slot" in repr(paired.engine) and "mtp" in repr(paired.pair)
    strings.slow(0)
    thread.join()
    assert outcome[0]["choices"][0]["text"] == "defg"
    assert paired.speculation.tokens == 4


def test_counts_of_all_slots(fake, strings, toy_file, toy_drafter):
    with fake.LLM(toy_file(), n_ctx=256, drafter=toy_drafter, parallel=2) as llm:
        streams = [llm.generate(text, temperature=0, max_tokens=6) for text in ("abc", "kl")]
        assert [stream.result().text for stream in streams] == ["defghi", "mnopqr"]
        assert llm.speculation.tokens == 12


GETS = ("/health", "/props", "/slots", "/metrics", "/v1/models")
POSTS = {
    "/tokenize": {"content": "abc"},
    "/detokenize": {"tokens": [97]},
    "/v1/completions": {"prompt": "xy", "max_tokens": 1},
}


def test_a_server_answers_beside_a_run(fake, strings, toy_file, toy_drafter):
    def load(_):
        return fake.LLM(toy_file({"general.name": '"Toy"'}), n_ctx=256, drafter=toy_drafter)

    with served(fake, load) as server:
        strings.slow(1_000_000)
        first, outcome = in_thread(
            lambda: server.post(
                "/v1/completions", {"prompt": "abc", "temperature": 0, "max_tokens": 4}
            )
        )
        until(lambda: strings.begun > 0)
        for path in GETS:
            assert server.get(path).status_code == 200, path
        waiting = [in_thread(lambda path=path: server.post(path, POSTS[path])) for path in POSTS]
        until(lambda: sum(bool(found) for _, found in waiting) >= 2)  # what needs no run is there
        until(lambda: len(server.serving.running) == 2)
        strings.slow(0)
        first.join()
        assert outcome[0].json()["choices"][0]["text"] == "defg"
        for thread, found in waiting:
            thread.join()
            assert found[0].status_code == 200, found[0].text
            assert json.loads(found[0].text)
