"""Several requests in one run, on the embedded pair: each writes what it writes alone, whoever
comes, leaves, waits, makes room or shares beside it."""

import random

import pytest

from patience import until

TEXTS = [
    "In the beginning",
    "And God said, ",
    "Genesis 1\n\nIn the beginning God " * 12,
    "The LORD is my shepherd; I shall",
]
KINDS = [
    {"temperature": 0, "draft": 0},
    {"temperature": 0, "draft": 3},
    {"temperature": 1.0, "draft": "auto"},
    {"temperature": 0.7, "repeat_penalty": 1.2, "draft": 2},
    {"temperature": 0, "regex": r"[a-z ]{5,60}\."},
]
N = 15


@pytest.fixture(scope="module")
def opened(pillion, tiny_pair):
    """An LLM on the tiny pair."""

    def open_llm(**options):
        options = {"n_ctx": 768, "drafter": tiny_pair[1], "device": "cpu", **options}
        return pillion.LLM(tiny_pair[0], **options)

    return open_llm


@pytest.fixture(scope="module")
def tiny_pair(pillion):
    from pillion.models import TINY_ASSISTANT, TINY_TARGET

    return TINY_TARGET, TINY_ASSISTANT


def asked(llm, i, **more):
    options = {"max_tokens": 40 + 30 * (i % 5), "seed": i, **KINDS[i % len(KINDS)], **more}
    return llm.generate(TEXTS[i % len(TEXTS)], **options)


@pytest.fixture(scope="module")
def alone(opened):
    with opened() as llm:
        return [asked(llm, i).result().tokens for i in range(N)]


@pytest.mark.parametrize("parallel, n_batch", [(2, 16), (8, 512)])
def test_each_writes_what_it_writes_alone(opened, alone, parallel, n_batch):
    with opened(parallel=parallel, n_batch=n_batch) as llm:
        found = [asked(llm, i) for i in range(N)]
        assert [one.result().tokens for one in found] == alone
        stats = llm.engine.stats()
        assert stats.runs < stats.rounds  # a run has rounds of several
        assert stats.completed == N and stats.parked == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_some_join_and_some_leave(pillion, opened, alone, seed):
    rng = random.Random(seed)
    with opened(parallel=4) as llm:
        order = rng.sample(range(N), N)
        leaving = set(rng.sample(order, 5))
        found = {}
        for i in order:
            found[i] = asked(llm, i)
            if i in leaving:
                wanted = rng.randrange(10)
                until(lambda one=found[i], n=wanted: len(one.tokens) >= n or one.state == "done")
                found[i].cancel()
        for i in order:
            if i in leaving:
                assert found[i].tokens == alone[i][: len(found[i].tokens)]
            else:
                assert found[i].result().tokens == alone[i]
        until(lambda: [one.state for one in llm.engine.slots()] == ["idle"] * 4)


def test_a_cache_too_small_for_all(pillion, opened, alone, monkeypatch):
    """The youngest make room, read their text again, and write the same; nobody fails."""
    monkeypatch.setattr(pillion.engine.pages, "RESERVE", 8)
    with opened(parallel=6, n_positions=768) as llm:
        for turn in range(1, 21):
            found = [asked(llm, i) for i in range(N)]
            assert [one.result().tokens for one in found] == alone
            stats = llm.engine.stats()
            assert stats.completed == turn * N and not stats.ended_early
            if stats.parked > 0:
                break  # who meets whom depends on how busy the machine is
        assert stats.parked > 0 and stats.pages == 3
        llm.reset()
        until(lambda: llm.engine._slots[0].length == 0)
        batch = llm.engine._group.parts.batch
        assert batch.stats.free_pages == 3


def test_one_that_writes_makes_room_and_goes_on(pillion, opened, monkeypatch):
    """All begin; each grows beyond its page, and there is one more for all."""
    monkeypatch.setattr(pillion.engine.pages, "RESERVE", 8)

    def ask(llm, i):
        bias = dict.fromkeys(llm.tokenizer.end_tokens, float("-inf"))
        kind = {key: KINDS[i][key] for key in KINDS[i] if key != "regex"}
        form = {"regex": r"([a-z]+ ){90,200}\."} if i == 4 else {"logit_bias": bias}
        return llm.generate(TEXTS[0], seed=i, **{**kind, **form, "max_tokens": 330})

    with opened() as llm:
        wanted = [ask(llm, i).result().tokens for i in (1, 3, 4)]
    with opened(parallel=3, n_positions=768) as llm:
        parked = []
        park = pillion.engine.scheduler.Scheduler.park
        monkeypatch.setattr(
            pillion.engine.scheduler.Scheduler,
            "park",
            lambda self, one: parked.append(len(one.key.assembler.tokens)) or park(self, one),
        )
        found = [ask(llm, i) for i in (1, 3, 4)]
        assert [one.result().tokens for one in found] == wanted
        assert max(parked) > 10  # how far it came hangs on how busy the machine is
        drafted = [one.timings.draft_n for one in found]
        assert all(drafted) and all(one.timings.predicted_n == 330 for one in found[:2])


def test_who_does_not_fit_waits(opened):
    """With room for a prompt and its 1024 tokens reserved nobody has to make room later."""
    with opened(parallel=4, n_ctx=512, n_positions=1024) as llm:
        found = [llm.generate(TEXTS[0], temperature=0, max_tokens=400) for _ in range(4)]
        counts = []

        def count():
            counts.append(sum(one.state in ("reading", "writing") for one in found))

        while any(one.finish_reason is None for one in found):
            llm.engine.between_turns(count)  # no turn changes a state meanwhile
        most = max(counts)
        assert most <= 2 and llm.engine.stats().parked == 0
        assert len({tuple(one.result().tokens) for one in found}) == 1


def test_the_beginning_of_another_slot(pillion, opened):
    """Shared within an owner's scope, also while its slot writes; never beyond it."""
    long = TEXTS[2] * 2
    with opened(parallel=4) as llm:
        tokens = llm.tokenize(long)

        def ask(more, owner):
            request = pillion.engine.work.Request(
                [*tokens, *more], pillion.SamplingParams(temperature=0), 150, owner=owner
            )
            return llm.engine.submit(request)

        first = ask([], "a")
        until(lambda: first.state != "reading" and first.state != "queued")
        second, other = ask([5, 6], "a"), ask([5, 6], "b")
        assert second.result().tokens == other.result().tokens
        assert second.timings.cache_n >= len(tokens) - 1 and other.timings.cache_n == 0
        assert llm.engine.stats().shared == 1
        first.result()


def test_the_same_prompt_is_read_once(opened):
    """Those that come together wait for the first one's; with seeds of their own."""
    prompt = TEXTS[2]
    options = {"temperature": 1.0, "max_tokens": 20}
    with opened() as llm:
        wanted = [llm.generate(prompt, seed=i, **options).result().tokens for i in range(3)]
        n = len(llm.tokenize(prompt))
    with opened(parallel=4) as llm:
        found = [llm.generate(prompt, seed=i, **options) for i in range(3)]
        assert [one.result().tokens for one in found] == wanted
        assert llm.engine.stats().rows_read <= n + 2 * 8


def test_equal_requests_stay_within_a_round(pillion, opened, monkeypatch):
    spread = []
    run_turn = pillion.engine.loop.Loop.run_turn

    def watched(loop, turn):
        run_turn(loop, turn)
        written = [len(one.key.assembler.tokens) for one in loop._life.scheduler.active]
        if len(written) == 8 and min(written) > 0:
            spread.append([n - first[at] for at, n in enumerate(written)] if first else 0)
            first.extend(written if not first else [])

    first = []
    monkeypatch.setattr(pillion.engine.loop.Loop, "run_turn", watched)
    with opened(parallel=8) as llm:
        found = [llm.generate(TEXTS[0], temperature=0, draft=0, max_tokens=40) for _ in range(8)]
        assert len({tuple(one.result().tokens) for one in found}) == 1
    assert len(spread) > 10 and all(max(one) - min(one) <= 1 for one in spread[1:])


OPTIONS = {"temperature": 1.0, "max_tokens": 12}


def texts(results):
    """The texts of whole results or of chunks, by index."""
    found = {}
    for result in results:
        for choice in result["choices"]:
            found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
    return [found[at] for at in sorted(found)]


def test_n_answers_are_those_of_n_seeds(pillion, opened):
    import asyncio

    prompt = TEXTS[2]
    with opened(parallel=4) as llm:
        each = [llm.complete(prompt, seed=5 + i, **OPTIONS) for i in range(3)]
        wanted = texts(
            [{"choices": [{**one["choices"][0], "index": i}]} for i, one in enumerate(each)]
        )
        assert len(set(wanted)) == 3
        whole = llm.complete(prompt, seed=5, n=3, **OPTIONS)
        assert texts([whole]) == wanted
        usage = whole["usage"]
        assert usage["prompt_tokens"] == each[0]["usage"]["prompt_tokens"]
        assert usage["completion_tokens"] == sum(x["usage"]["completion_tokens"] for x in each)
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert texts(llm.complete(prompt, seed=5, n=3, stream=True, **OPTIONS)) == wanted

        async def main():
            found = await llm.acomplete(prompt, seed=5, n=3, **OPTIONS)
            stream = await llm.acomplete(prompt, seed=5, n=3, stream=True, **OPTIONS)
            return texts([found]), texts([chunk async for chunk in stream])

        assert asyncio.run(main()) == (wanted, wanted)
        for wrong in (0, 65, "2"):
            with pytest.raises(pillion.UsageError, match="^n is"):
                llm.complete(prompt, n=wrong)
        with llm.complete(prompt, n=2, max_tokens=300, stream=True) as stream:
            next(stream)
        until(lambda: [one.state for one in llm.engine.slots()] == ["idle"] * 4)


def test_n_turns_of_a_chat(opened):
    messages = [{"role": "user", "content": "Who was Abraham?"}]
    with opened(parallel=2) as llm:
        one = llm.chat(messages, temperature=1.0, seed=1, max_tokens=9)
        both = llm.chat(messages, temperature=1.0, seed=1, max_tokens=9, n=2)
        assert [choice["index"] for choice in both["choices"]] == [0, 1]
        assert both["choices"][0]["message"] == one["choices"][0]["message"]
