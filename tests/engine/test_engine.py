"""`Engine` and its handles: threads, tasks, ends of every kind, and what is left of them."""

import asyncio
import gc
import random
import threading
import time
import weakref

import pytest

from patience import in_thread, until


def after(letter, n):
    """What the fake writes."""
    return "".join(chr(97 + (ord(letter) - 96 + i) % 26) for i in range(n))


def text_of(result):
    return result["choices"][0]["text"]


@pytest.fixture
def engine(fake, strings, toy_file):
    model = fake.Model.open(toy_file())
    with fake.Engine(model, sizes={"n_ctx": 256, "n_batch": 4, "n_outputs": 4}, parallel=2) as made:
        yield made
    model.close()


@pytest.fixture
def ask(fake, engine):
    """Submits a text; greedy."""

    def submit(prompt="abc", n=5, **options):
        sampling = fake.SamplingParams(temperature=0)
        tokens = [256, *prompt.encode()]
        return engine.submit(fake.Request(tokens, sampling, n, **options))

    return submit


def states(engine):
    return [slot.state for slot in engine.slots()]


def threads(name="pillion-engine"):
    return [one for one in threading.enumerate() if one.name == name]


# ---- results ----


def test_the_ways_to_read_an_answer(ask):
    assert [piece.text for piece in ask()] == list("defgh")
    assert ask().result().text == "defgh"

    async def main():
        one = await ask()
        pieces = [piece.text async for piece in ask()]
        return one.text, "".join(pieces)

    assert asyncio.run(main()) == ("defgh", "defgh")


def test_an_answer_keeps_its_pieces_after_its_end(ask):
    done = ask().result()
    assert (done.state, done.finish_reason, done.place) == ("done", "length", 0)
    assert "".join(piece.text for piece in done) == "defgh" and list(done) == []


def test_how_they_look(fake, engine, ask):
    assert repr(engine) == "<pillion.Engine 2 slots>"
    assert repr(ask().result()) == "<pillion.Generation done, 5 tokens>"
    engine.close()
    assert repr(engine) == "<pillion.Engine 2 slots (closed)>"


def test_result_with_a_time(fake, strings, ask):
    strings.slow(1_000_000)
    one = ask("x" * 50)
    with pytest.raises(fake.TimedOut, match=r"not complete after 0.01 s; it goes on"):
        one.result(0.01)
    assert one.state == "reading"
    strings.slow(0)
    one.cancel()


def test_what_cannot_be_asked(fake, engine, ask):
    with pytest.raises(fake.ContextFullError, match=r"301 tokens.* 256 "):
        ask("x" * 300)
    with pytest.raises(fake.UsageError, match="empty"):
        engine.submit(fake.Request([]))
    with pytest.raises(fake.UsageError, match=r"token 1 of the prompt is 999; .*0 to 260"):
        engine.submit(fake.Request([5, 999]))
    for wrong in (0, -1, "2", None, 1000):
        with pytest.raises(fake.UsageError, match="parallel"):
            fake.Engine(engine._slots[0].context.model, parallel=wrong)
    assert not engine._here().works


WRONG = {
    "prompt": ["text", None, [2**40], [1.5], [[1]], {1}],
    "sampling": [None, {}],
    "max_tokens": [-1, "5", 1.5, True],
    "stop": [b"x", [""], [1], 5],
    "logprobs": [-1, 1000, "1"],
    "draft": [9, -1, "many"],
    "shown": [5],
    "constraint": [5, "text"],
    "owner": [None, 5, b"x"],
    "low_priority": [1, None],
    "queue_timeout": [0, -1, "1"],
    "total_timeout": [0, float("nan")],
    "scores_prompt": [1],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_in_a_request(fake, engine, name):
    for value in WRONG[name]:
        request = fake.Request([256, 97], max_tokens=1)
        setattr(request, name, value)
        with pytest.raises(fake.UsageError):
            engine.submit(request)
    with pytest.raises(fake.UsageError, match="a Request"):
        engine.submit({"prompt": [1]})
    assert not engine._here().works


def test_stats(fake, strings, ask, engine):
    for _ in range(3):
        ask("abcdefgh").result()
    strings.fail("pillion_pair_step", 22, "no memory", after=1)
    with pytest.raises(fake.OutOfMemoryError):
        ask("q").result()
    until(lambda: states(engine) == ["idle"] * 2)
    found = engine.stats()
    assert (found.requests, found.completed, found.ended_early) == (4, 3, {"error": 1})
    assert (found.slots, found.queued, found.reading, found.writing) == (2, 0, 0, 0)
    assert found.tokens == 3 * 5 + 1
    assert found.prompt_tokens_run + found.prompt_tokens_cached == 3 * 9 + 2
    assert found.prompt_tokens_cached >= 2 * 8
    assert found.first_token.count == 4 and sum(found.first_token.classes) == 4
    assert found.between_tokens.count == 12 and found.queue.count == 4 and found.total.count == 3
    found.ended_early.clear()
    assert engine.stats().ended_early == {"error": 1}


def test_slots_and_places(strings, ask, engine):
    strings.slow(20_000)
    running = [ask("a" * 30), ask("b" * 20)]
    until(lambda: states(engine) == ["reading"] * 2)
    waiting = [ask("c"), ask("d", low_priority=True), ask("e")]
    assert all(one.place for one in waiting)
    until(lambda: [one.place for one in waiting] == [1, 3, 2])
    slots = engine.slots()
    assert sorted(one.prompt_tokens for one in slots) == [21, 31]
    assert all(one.n_ctx == 256 and one.seconds > 0 for one in slots)
    strings.slow(0)
    assert [one.result().text[0] for one in (*running, *waiting)] == list("bcdef")


# ---- one among others ----


def test_an_error_is_one_requests(fake, strings, ask, engine):
    strings.slow(3_000)
    others = [ask("abc", 40)]
    until(lambda: others[0].state == "writing")
    strings.fail("pillion_pair_sync", 22, "no memory")
    with pytest.raises(fake.OutOfMemoryError, match="no memory"):
        ask("xyz").result()
    strings.slow(0)
    assert others[0].result().text == after("c", 40)
    assert ask("xyz").result().text[0] == "a"


def test_a_constraint_that_fails_is_one_requests_error(fake, strings, ask, engine):
    class Broken:
        stopped = False

        def plan(self, drafts, n_max):
            raise ZeroDivisionError("the grammar divides by zero")

        def forced(self, n_max):
            return []

        def accept(self, tokens):
            pass

    other = ask("abc", 100)
    with pytest.raises(ZeroDivisionError, match="divides"):
        ask("abc", constraint=Broken()).result()
    assert len(other.result().tokens) == 100 and ask().result().text == "defgh"


def test_a_fault_of_the_engine_leaves_nobody_waiting(fake, ask, engine, monkeypatch):
    monkeypatch.setattr(fake.engine.engine.Scheduler, "next", lambda *_: 1 / 0)
    with pytest.raises(fake.InternalError, match="the engine failed: division by zero"):
        ask().result()
    monkeypatch.undo()
    assert ask().result().text == "defgh"


def test_a_prompt_of_another_owner_is_not_used(ask, engine, fake, strings, toy_file):
    model = fake.Model.open(toy_file())
    with fake.Engine(model, sizes={"n_ctx": 256}) as one:
        request = fake.Request([256, *b"abcdefgh"], fake.SamplingParams(temperature=0), 1)

        def cached(owner):
            request.owner = owner
            return one.submit(request).result().timings.cache_n

        assert [cached(owner) for owner in ("a", "a", "b", "b", "a", "")] == [0, 8, 0, 8, 0, 0]
        assert [cached(owner) for owner in ("", "c", "c", "")] == [8, 8, 8, 0]
    model.close()


def test_a_request_gets_the_slot_that_knows_its_prompt(ask):
    for _ in range(3):
        assert ask("one long prompt").result() and ask("quite another one").result()
    assert ask("one long prompt").result().timings.cache_n == 15
    assert ask("quite another one").result().timings.cache_n == 17


# ---- limits ----


def test_a_full_queue(fake, strings, ask, engine):
    engine.queue_limit = 3
    strings.slow(1_000_000)
    taken = [ask("x" * 30) for _ in range(5)]
    with pytest.raises(fake.QueueFull, match="3 requests wait already") as caught:
        ask()
    assert 1 <= caught.value.retry_after <= 60 and engine.stats().refused == 1
    taken.pop().cancel()
    until(lambda: len(engine._here().works) == 4)
    taken.append(ask())
    engine.queue_limit = None
    more = [ask() for _ in range(50)]
    strings.slow(0)
    assert all(one.result().tokens for one in taken + more)


def test_time_limits(fake, strings, ask, engine):
    strings.slow(20_000)
    running = [ask("x", 200), ask("x", 200, total_timeout=0.3)]
    late = ask("abc", queue_timeout=0.05)
    with pytest.raises(fake.TimedOut, match=r"waited 0.05 s .*queue_timeout"):
        late.result()
    with pytest.raises(fake.TimedOut, match=r"took 0.3 s.*total_timeout"):
        running[1].result()
    assert running[0].state == "writing"
    assert engine.stats().ended_early["timeout"] == 2
    strings.slow(0)
    assert len(running[0].result().tokens) == 200


# ---- ends ----


@pytest.mark.parametrize("state", ["queued", "reading", "writing"])
@pytest.mark.parametrize("way", ["cancel", "close", "all", "drop", "task"])
def test_an_end_in_any_state(fake, strings, ask, engine, state, way):
    strings.slow(2_000)
    others = [ask("abc", 60) for _ in range(2 if state == "queued" else 1)]
    prompt = "x" * 200 if state == "reading" else "x"
    made = [ask(prompt, 200)]
    until(lambda: made[0].state == state)
    work = made[0]._work
    if way == "drop":
        made.clear()
    elif way == "task":

        async def main():
            task = asyncio.ensure_future(made[0]._ended())
            await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
    else:
        {"cancel": made[0].cancel, "close": made[0].close, "all": engine.cancel}[way]()
    until(lambda: work not in engine._here().works)
    assert work.ended and (work.cause == "dropped") == (way == "drop")
    if made:
        with pytest.raises(fake.Cancelled, match="this generation cannot go on"):
            made[0].result()
    if way != "all":
        assert all(len(other.result().tokens) == 60 for other in others)
    assert ask().result().text == "defgh"


def test_a_cancel_that_hits_the_next_request_is_forgotten(strings, ask, engine):
    """Its run is broken off, and comes again."""
    from pillion_fake.engine.loop import Aim

    strings.slow(2_000)
    one = ask("abc", 30)
    until(lambda: one.state == "writing")
    slot = next(slot for slot in engine._slots if slot.work is one._work)
    aim = Aim(engine._here(), slot)
    for _ in range(20):
        aim.cancel()
        time.sleep(0.002)
    aim.over = True
    strings.slow(0)
    assert one.result().text == after("c", 30)
    assert ask("x", 1).result().text == "y" and not engine._here().aims


def test_nobody_is_ended_by_the_cancel_of_who_was_before(strings, ask, engine):
    """Whatever the moment in which one is called off, the next ones on its slot get all their
    text."""
    strings.slow(20)
    for n in range(200):
        leaving = [ask("abc", 60) for _ in engine._slots]
        staying = [ask("abc", 4) for _ in engine._slots]
        until(lambda one=leaving[0]: one.state in ("writing", "done"))
        time.sleep(n % 40 * 1e-4)
        callers = [in_thread(one.cancel) for one in leaving]
        assert [one.result().text for one in staying] == ["defg"] * len(staying)
        for thread, _ in callers:
            thread.join()


def test_close_while_others_wait(fake, strings, toy_file):
    llm = fake.LLM(toy_file(), n_ctx=64)
    strings.slow(50_000)
    started = [in_thread(lambda: llm.complete("x" * 20)) for _ in range(5)]
    until(lambda: llm.engine.stats().queued == 4)
    llm.close()
    for thread, outcome in started:
        thread.join()
        assert isinstance(outcome[0], fake.Closed)
    started.clear(), outcome.clear()
    gc.collect()
    assert strings.live == 0 and not threads()
    with pytest.raises(fake.Closed):
        llm.complete("x")


def test_drain(fake, strings, ask, engine):
    strings.slow(5_000)
    running = [ask("abc", 20) for _ in range(4)]
    assert engine.drain(0.01) is False
    with pytest.raises(fake.Closed, match="no more requests"):
        ask()
    assert engine.drain() is True
    assert all(len(one.result().tokens) == 20 for one in running)


# ---- what is left ----


def test_a_dropped_engine_goes_at_once(fake, strings, toy_file):
    gc.disable()
    try:
        llm = fake.LLM(toy_file(), n_ctx=64)
        llm.complete("abc")
        life, gone = llm.engine._here(), weakref.ref(llm.engine)
        until(lambda: not life.works)
        del llm
        until(lambda: gone() is None and strings.live == 0 and not threads())
    finally:
        gc.enable()


def test_an_engine_lives_as_long_as_its_answers(fake, strings, toy_file):
    llm = fake.LLM(toy_file(), n_ctx=64)
    strings.slow(1_000)
    stream = llm.complete("abc", temperature=0, max_tokens=20, stream=True)
    del llm
    gc.collect()
    assert "".join(map(text_of, stream)) == after("c", 20)
    del stream
    until(lambda: strings.live == 0 and not threads())


def test_no_thread_before_the_first_request(fake, strings, toy_file):
    with fake.LLM(toy_file()) as llm:
        assert not threads()
        llm.complete("a")
        assert len(threads()) == 1
    assert not threads()


def test_a_storm_of_leaving_consumers(fake, strings, toy_file):
    """Two hundred that leave at random points; the one that stays is right."""
    random.seed(4)
    with fake.LLM(toy_file(), n_ctx=256, parallel=3) as llm:
        strings.slow(200)
        stays = llm.complete("abc", temperature=0, max_tokens=100, stream=True)

        def leaves(seed):
            choice = random.Random(seed)
            prompt = "xyz"[: choice.randrange(1, 4)] * choice.randrange(1, 60)
            stream = llm.complete(prompt, max_tokens=50, temperature=0, stream=True)
            for _ in range(choice.randrange(4)):
                next(stream, None)
            choice.choice([stream.close, stream.generation.cancel, lambda: None])()

        async def leave(seed):
            task = asyncio.ensure_future(llm.acomplete("z" * (seed % 50 + 1), max_tokens=50))
            await asyncio.sleep(0.0005 * (seed % 7))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        async def main():
            await asyncio.gather(*(leave(seed) for seed in range(100)))

        started = [in_thread(lambda seed=seed: leaves(seed)) for seed in range(100)]
        asyncio.run(main())
        for thread, outcome in started:
            thread.join()
            assert outcome == [None]
        assert "".join(map(text_of, stays)) == after("c", 100)
        until(lambda: not llm.engine._here().works)
        assert len(threads()) == 1
        strings.slow(0)
        assert text_of(llm.complete("abc", temperature=0, max_tokens=3)) == "def"


# ---- asyncio ----


def test_many_tasks(fake, strings, toy_file):
    template = "{{ messages[0].content }}"
    with fake.LLM(toy_file(), n_ctx=64, parallel=2, chat_template=template) as llm:

        async def one(letter):
            options = {"temperature": 0, "max_tokens": 3}
            whole = await llm.acomplete(letter, **options)
            parts = [text_of(c) async for c in await llm.acomplete(letter, stream=True, **options)]
            chat = await llm.achat([{"role": "user", "content": letter}], **options)
            deltas = await llm.achat([{"role": "user", "content": letter}], stream=True, **options)
            streamed = [c["choices"][0]["delta"].get("content", "") async for c in deltas]
            said = chat["choices"][0]["message"]["content"]
            return {text_of(whole), "".join(parts), said, "".join(streamed)}

        async def main():
            return await asyncio.gather(*map(one, "abcdefgh"))

        found = asyncio.run(main())
    assert found == [{"".join(chr(ord(letter) + i) for i in (1, 2, 3))} for letter in "abcdefgh"]


def test_the_loop_stays_free(strings, ask):
    async def main():
        strings.slow(100_000)
        task = asyncio.ensure_future(ask("x" * 20, 1)._ended())
        for n in range(20):
            await asyncio.sleep(0.001)
        assert not task.done()
        strings.slow(0)
        return (await task).text

    assert asyncio.run(main()) == "y"


def test_one_call_to_the_loop_a_round(fake, strings, toy_file, toy_drafter):
    """All tokens of a round come at once."""
    with fake.LLM(toy_file(), n_ctx=256, drafter=toy_drafter) as llm:

        async def main():
            loop, calls = asyncio.get_running_loop(), []
            real = loop.call_soon_threadsafe
            loop.call_soon_threadsafe = lambda *given: calls.append(1) or real(*given)
            generation = llm.generate("abc", temperature=0, max_tokens=41, draft=3)
            pieces = [piece async for piece in generation]
            return len(pieces), len(calls)

        pieces, calls = asyncio.run(main())
    assert pieces == 41 and calls <= 12


def test_leaving_an_async_stream(fake, strings, toy_file):
    with fake.LLM(toy_file(), n_ctx=256) as llm:

        async def main():
            strings.slow(5_000)
            async with await llm.acomplete("abc", max_tokens=None, stream=True) as stream:
                async for _ in stream:
                    break
            async for _ in stream:
                raise AssertionError

        asyncio.run(main())
        until(lambda: not llm.engine._here().works)
        assert llm.engine.stats().ended_early == {"cancelled": 1}


def test_a_loop_that_is_gone(strings, ask):
    """Its tasks were cancelled; nobody minds."""

    async def main():
        strings.slow(20_000)
        return ask("abc", 30), asyncio.ensure_future(asyncio.sleep(0))

    one, _ = asyncio.run(main())
    strings.slow(0)
    assert len(one.result().tokens) == 30


# ---- no thread can be had ----


def test_without_a_thread_who_waits_works(ask, monkeypatch):
    def none(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    one, two = ask(), ask("xyz")
    assert [piece.text for piece in one] == list("defgh") and two.result().text[0] == "a"

    async def main():
        return (await ask()).text

    assert asyncio.run(main()) == "defgh"
    monkeypatch.undo()
    assert ask().result().text == "defgh"


# ---- callbacks ----


class Calls:
    """A constraint that calls something in each round, and lets everything through."""

    stopped = False

    def __init__(self, call):
        self.call = call

    def plan(self, drafts, n_max):
        self.call()
        return [], None

    def forced(self, n_max):
        return []

    def accept(self, tokens):
        pass


@pytest.mark.parametrize("way", ["result", "iterate", "await", "drain"])
def test_a_callback_that_waits_for_its_own_engine(fake, ask, engine, way):
    """Nobody but the thread that waits could write what it waits for."""
    ways = {
        "result": lambda: ask().result(),
        "iterate": lambda: list(ask()),
        "await": lambda: asyncio.run(awaited()),
        "drain": lambda: engine.drain(),
    }

    async def awaited():
        await ask()

    thread, outcome = in_thread(lambda: ask(constraint=Calls(ways[way])).result())
    until(lambda: outcome)
    assert isinstance(outcome[0], fake.UsageError) and "the same engine" in str(outcome[0])
    assert ask().result().text == "defgh"
    until(lambda: not engine._here().works)


def test_a_callback_that_closes_its_engine(fake, ask, engine):
    thread, outcome = in_thread(lambda: ask(constraint=Calls(engine.close)).result())
    until(lambda: outcome)
    assert isinstance(outcome[0], fake.Closed)


def test_what_was_refused_is_no_request_that_ended(fake, strings, ask, engine):
    engine.queue_limit = 1
    strings.slow(100_000)
    taken = [ask("x" * 30) for _ in range(3)]
    for _ in range(20):
        with pytest.raises(fake.QueueFull):
            ask()
    strings.slow(0)
    assert all(one.result() for one in taken)
    until(lambda: not engine._here().works)
    stats = engine.stats()
    assert (stats.requests, stats.completed, stats.refused, stats.ended_early) == (3, 3, 20, {})


def test_who_was_called_off_takes_no_place_in_the_queue(fake, strings, ask, engine):
    """A run may take long; those that leave while it goes on have left."""
    engine.queue_limit = 2
    strings.slow(300_000)
    running = [ask("x", 2), ask("y", 2)]
    until(lambda: any(one.state == "reading" for one in running))
    for _ in range(5):
        waiting = [ask("z", 2) for _ in range(2)]
        for one in waiting:
            one.stop_soon("it left")
    last = [ask("abc", 5) for _ in range(2)]
    strings.slow(0)
    assert [one.result().text for one in last] == ["defgh"] * 2


def test_work_for_the_thread_when_the_engine_is_closed(fake, strings, toy_file):
    """The thread goes with the engine, and takes nobody's job with it."""
    for _ in range(20):
        llm = fake.LLM(toy_file(), n_ctx=64)
        llm.complete("a", max_tokens=1)
        closing, done = in_thread(llm.close)
        thread, outcome = in_thread(llm.engine.forget)
        until(lambda: done and outcome)
        assert outcome[0] is None or isinstance(outcome[0], fake.Closed)


def test_what_is_called_off_in_its_last_turn_counts_once(fake, ask, engine):
    for _ in range(3):
        with pytest.raises(fake.Cancelled):
            ask(n=1, constraint=Calls(engine.cancel)).result()
    assert ask().result()
    until(lambda: not engine._here().works)
    stats = engine.stats()
    ends = stats.completed + sum(stats.ended_early.values())
    assert stats.requests == ends == 4 and stats.total.count == stats.completed


# ---- a device whose runs have rows of one text ----


def test_texts_in_turn(fake, strings, toy_file, caplog):
    """They are the same, and the library says that they take turns."""

    def texts(llm):
        found = [llm.generate(one, max_tokens=9, temperature=0) for one in ("a", "hij", "uv")]
        return [one.result().text for one in found]

    with fake.LLM(toy_file(), n_ctx=64, parallel=2) as llm:
        wanted = texts(llm)
        assert llm.engine.why_in_turn == "" and not caplog.records
    strings.lib.fake_in_turn(1)
    with fake.LLM(toy_file(), n_ctx=64, parallel=2) as llm:
        assert "the sequences run in turn" in llm.engine.why_in_turn
        assert [one.message for one in caplog.records] == [llm.engine.why_in_turn]
        assert texts(llm) == wanted
        assert len(llm.engine._group.prefixes) == llm.engine._group.parts.n_prefixes == 0
