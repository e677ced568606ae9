"""Beginnings that several texts had outlive the slots that read them; a text that makes room on a
device of its own bits keeps its cache."""

import numpy as np
import pytest

from patience import until

SYSTEM = "And God said, Let there be light: and there was light. " * 8
OTHERS = ["The LORD is my shepherd; I shall not want. " * 5, "In the beginning God created " * 6]


@pytest.fixture
def opened(pillion):
    from pillion.models import TINY_ASSISTANT, TINY_TARGET

    def open_llm(**options):
        options = {"n_ctx": 768, "drafter": TINY_ASSISTANT, "device": "cpu", **options}
        return pillion.LLM(TINY_TARGET, **options)

    return open_llm


def ask(pillion, llm, prompt, owner="", n=6, **more):
    options = {"draft": 2, "max_tokens": n, **more}
    greedy = pillion.SamplingParams(temperature=0)
    tokens = llm.tokenize(prompt)
    return llm.engine.submit(pillion.Request(tokens, sampling=greedy, owner=owner, **options))


def told(pillion, llm, prompt, owner="", **more):
    return ask(pillion, llm, prompt, owner, **more).result()


def cached(pillion, llm, prompt, owner=""):
    return told(pillion, llm, prompt, owner).timings.cache_n


def fill(pillion, llm, owner=""):
    """Texts of others take all slots."""
    for one in [ask(pillion, llm, other, owner, n=40) for other in OTHERS]:
        one.result()


def test_a_beginning_of_two_texts_outlives_their_slots(pillion, opened):
    with opened() as alone:
        wanted = told(pillion, alone, SYSTEM + "Genesis 3, now the serpent was more subtil").tokens
    with opened(parallel=2) as llm:
        n = len(llm.tokenize(SYSTEM))
        told(pillion, llm, SYSTEM + "Genesis 1, the first verse of the whole book.")
        assert cached(pillion, llm, SYSTEM + "Psalms 2, why do the heathen rage?") >= n - 1
        assert len(llm.engine._group.prefixes) == 1
        fill(pillion, llm)
        third = told(pillion, llm, SYSTEM + "Genesis 3, now the serpent was more subtil")
        assert third.timings.cache_n >= n - 1 and third.tokens == wanted
        llm.reset()
        assert len(llm.engine._group.prefixes) == 0
        assert cached(pillion, llm, SYSTEM + "Genesis 3, now the serpent was more subtil") == 0


def test_one_text_teaches_nothing(pillion, opened):
    """Nor does one that goes on, whose answer is read again."""
    with opened(parallel=2) as llm:
        first = told(pillion, llm, SYSTEM)
        told(pillion, llm, SYSTEM + first.text + " and")
        told(pillion, llm, SYSTEM + "x")
        assert len(llm.engine._group.prefixes) == 0
        fill(pillion, llm)
        assert (
            cached(pillion, llm, SYSTEM + "Genesis 3, now the serpent was more subtil")
            < len(llm.tokenize(SYSTEM)) // 2
        )


def test_a_beginning_stays_with_its_owner(pillion, opened):
    with opened(parallel=2) as llm:
        for end in (
            "Genesis 1, the first verse of the whole book.",
            "Psalms 2, why do the heathen rage?",
        ):
            told(pillion, llm, SYSTEM + end, "a")
        fill(pillion, llm, "b")
        assert len(llm.engine._group.prefixes) == 1
        assert cached(pillion, llm, SYSTEM + "Genesis 3, now the serpent was more subtil", "b") <= 1
        assert cached(pillion, llm, SYSTEM + "Genesis 3, now the serpent was more subtil", "a") > 64


def test_the_last_used_ones_stay(pillion, opened):
    """Half as many as there are slots."""
    with opened(parallel=4) as llm:
        begins = [f"{i} " + SYSTEM for i in range(3)]
        for begin in begins:
            for end in (
                "Genesis 1, the first verse of the whole book.",
                "Psalms 2, why do the heathen rage?",
            ):
                told(pillion, llm, begin + end)
        kept = llm.engine._group.prefixes
        assert len(kept) == 2
        found = [kept.best(np.array(llm.tokenize(one), np.int32), "")[0] for one in begins]
        n = len(llm.tokenize(begins[0]))
        assert found[0] < n // 2 and min(found[1:]) >= n - 2


def test_it_makes_room_before_anybody_else(pillion, opened):
    """What is kept never parks a request, and never lets a slot forget its text."""
    with opened(parallel=2, n_positions=768) as llm:
        for end in (
            "Genesis 1, the first verse of the whole book.",
            "Psalms 2, why do the heathen rage?",
        ):
            told(pillion, llm, SYSTEM + end)
        assert len(llm.engine._group.prefixes) == 1
        ends = dict.fromkeys(llm.tokenizer.end_tokens, float("-inf"))
        sampling = pillion.SamplingParams(temperature=0, logit_bias=ends)
        tokens = llm.tokenize("In the beginning")
        request = pillion.Request(tokens, sampling=sampling, max_tokens=700)
        assert len(llm.engine.submit(request).result().tokens) == 700
        stats = llm.engine.stats()
        assert len(llm.engine._group.prefixes) == 0 and stats.parked == 0
        assert stats.free_pages == 0


def test_who_makes_room_on_a_device_keeps_its_cache(pillion, opened, monkeypatch):
    """There a text that is read like a prompt has other bits than one that was written."""
    monkeypatch.setattr(pillion.engine.pages, "RESERVE", 8)
    prompts = ["In the beginning " * 49, "And God said, " * 80]
    options = {"device": "cuda:sim", "n_threads": 1}
    with opened(**options) as llm:
        wanted = [told(pillion, llm, one, n=20, draft=0).tokens for one in prompts]
    with opened(**options, parallel=2, n_positions=768, n_ctx=700) as llm:
        assert llm.engine._group.parts.few_rows > 0
        kept = []
        park = pillion.engine.slot.Slot.park

        def watched(slot):
            work = slot.work
            park(slot)
            kept.append(work.kept)

        monkeypatch.setattr(pillion.engine.slot.Slot, "park", watched)
        found = [ask(pillion, llm, one, n=20, draft=0) for one in prompts]
        until(lambda: all(one.state == "done" for one in found))
        assert [one.tokens for one in found] == wanted
        assert kept and all(isinstance(one, bytes) for one in kept)


@pytest.mark.parametrize("n_ctx", [100, 256, 300])
def test_each_slot_has_room_for_a_whole_context(pillion, opened, n_ctx):
    """And what is kept adds no pages."""
    with opened(parallel=4, n_ctx=n_ctx) as llm:
        assert llm.engine.stats().pages == 4 * -(-n_ctx // 256)
