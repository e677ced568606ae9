"""`Pair`, and generation through it, over the fake library: wiring, errors, lifetime,
statistics, and every edge of a round."""

import dataclasses
import gc
import itertools
import struct

import gguf_bytes
import pytest

from patience import PATIENCE, within

KS = range(1, 9)
WRONG = [(), (0,), (1,), (2, 5), tuple(range(8))]  # positions at which the drafter is wrong


def text_of(result):
    return result["choices"][0]["text"]


@pytest.fixture
def files(toy_file, toy_drafter):
    return toy_file({"general.name": '"Toy"'}), toy_drafter


@pytest.fixture
def paired(fake, strings, files):
    with fake.LLM(files[0], n_ctx=256) as llm:
        assert llm.pair is not None
        yield llm


@pytest.fixture
def plain(fake, strings, files):
    with fake.LLM(files[0], n_ctx=256, drafter=None) as llm:
        assert llm.pair is None
        yield llm


@pytest.fixture
def pair(fake, strings, files):
    with (
        fake.Model.open(files[0]) as model,
        model.context(64) as context,
        fake.Pair(context, files[1]) as pair,
    ):
        yield pair


@pytest.fixture
def greedy(fake):
    return fake.Sampler(fake.SamplingParams(temperature=0))


# ---- the pair itself ----


def test_rounds(pair, greedy, strings):
    assert pair.sync(list(b"abc")) == 0
    first = pair.step(greedy)
    assert (first.tokens, first.drafted, first.accepted, first.ended) == ([*b"d"], 0, 0, False)
    assert pair.context.tokens == [*b"abc"]  # the last token is not in the cache yet
    second = pair.step(greedy, 4)
    assert (second.tokens, second.drafted, second.accepted) == ([*b"efghi"], 4, 4)
    assert second.draft_ms > 0 and second.verify_ms > 0
    assert pair.context.tokens == [*b"abcdefgh"]
    strings.lies(2)
    third = pair.step(greedy, 4)
    assert (third.tokens, third.drafted, third.accepted) == ([*b"jkl"], 4, 2)
    assert pair.context.tokens == [*b"abcdefghijk"]
    assert pair.step(greedy, 0).tokens == [*b"m"]
    assert pair.sync(list(b"abcx")) == 3
    assert pair.step(greedy, 3).tokens == [*b"y"]


def test_output_rows_belong_to_the_tokens(pair, greedy):
    pair.sync(list(b"abc"))
    for k in (0, 3, 8, 1):
        tokens = pair.step(greedy, k).tokens
        assert [int(pair.context.logits(row).argmax()) for row in range(len(tokens))] == tokens
        assert pair.context.logits().argmax() == tokens[-1]
        with pytest.raises(ValueError, match="no outputs"):
            pair.context.logits(len(tokens))


def test_n_max_and_end_tokens(pair, greedy, strings):
    pair.sync(list(b"abc"))
    pair.step(greedy)
    for most in range(1, 10):
        assert len(pair.step(greedy, 8, most).tokens) == most
    strings.script(len(pair.context) + 3, [257, *b"zz"])
    ended = pair.step(greedy, 8, end_tokens=[257, 259])
    assert ended.ended and ended.tokens[-1] == 257 and len(ended.tokens) == 3
    assert ended.accepted == 3


def test_the_context_may_be_used_between_steps(pair, greedy):
    pair.sync(list(b"abc"))
    pair.step(greedy), pair.step(greedy, 3)
    pair.context.decode(ord("p"))
    assert pair.step(greedy, 3).tokens == [*b"q"]
    assert pair.step(greedy, 3).tokens == [*b"rstu"]
    pair.context.sync(list(b"ab"))
    assert pair.step(greedy, 3).tokens == [*b"c"]


def test_generate(pair, strings):
    rounds = list(pair.generate("abc", max_tokens=9, n_draft=3))
    assert [bytes(one.tokens).decode() for one in rounds] == ["d", "efgh", "ijkl"]
    assert sum(len(one.tokens) for one in pair.generate([*b"abc"], n_draft=8)) == 64 - 3
    strings.script(6, [257])
    *_, last = pair.generate([*b"abc"], n_draft=8)
    assert last.ended and last.tokens[-1] == 257
    strings.reset()
    for one in pair.generate([*b"abc"], n_draft=5):
        if len(one.tokens) > 1:
            break
    assert sum((one.tokens for one in pair.generate([*b"abcdxy"], max_tokens=4)), []) == [*b"zabc"]


def test_statistics(pair, greedy, strings):
    assert dataclasses.asdict(pair.stats) == {
        **dict(
            rounds=0,
            tokens=0,
            drafted=0,
            accepted=0,
            forced=0,
            drafted_at=[0] * 8,
            accepted_at=[0] * 8,
        ),
        **dict(
            draft_ms=0,
            verify_ms=0,
            accept_ms=0,
            state="on",
            reason="",
            kind="mtp",
            head="centroid",
            n_draft=pair.stats.n_draft,
        ),
    }
    assert 0 <= pair.stats.n_draft <= 8
    assert (
        pair.stats.acceptance,
        pair.stats.acceptance_by_position,
        pair.stats.mean_tokens_per_round,
    ) == (0, [], 1)
    pair.sync(list(b"abc"))
    rounds = [pair.step(greedy), pair.step(greedy, 4)]
    strings.lies(1)
    rounds += [pair.step(greedy, 2), pair.step(greedy, 0)]
    stats = pair.stats
    assert (stats.rounds, stats.tokens, stats.drafted, stats.accepted) == (2, 1 + 5 + 2 + 1, 6, 5)
    assert stats.acceptance == pytest.approx(5 / 6) and stats.mean_tokens_per_round == 1 + 5 / 2
    assert stats.acceptance_by_position == [1, 0.5, 1, 1]
    assert stats.state == "off"  # the last step had no draft
    for name in ("drafted", "accepted", "forced", "draft_ms", "verify_ms", "accept_ms"):
        total = sum(getattr(one, name) for one in rounds)
        assert getattr(stats, name) == pytest.approx(total, rel=1e-4)
    assert stats.tokens == sum(len(one.tokens) for one in rounds)
    for position in range(8):
        assert stats.drafted_at[position] == sum(one.drafted > position for one in rounds)
        assert stats.accepted_at[position] == sum(one.accepted > position for one in rounds)
    assert stats - stats == type(stats)(
        state="off",
        reason=stats.reason,
        kind=stats.kind,
        n_draft=stats.n_draft,
        head=stats.head,
    )
    assert (stats + stats) - stats == stats
    assert stats.as_dict()["acceptance_by_position"] == stats.acceptance_by_position
    pair.reset_stats()
    assert pair.stats.tokens == 0


def test_parking(pair, greedy, strings):
    strings.lies(*range(8))
    strings.slow(2000)  # a row costs; a toy's own times are all noise
    pair.sync(list(b"a"))
    for _ in range(8):
        pair.step(greedy, 0)  # one plain time could be an outlier of a busy machine
    for _ in range(200):
        if pair.context.n_past > 50:
            pair.sync(list(b"a"))
        if pair.step(greedy, "auto").drafted == 0 and "acceptance" in pair.stats.reason:
            break
    assert pair.stats.state == "paused" and "acceptance" in pair.stats.reason
    assert pair.stats.accepted == 0 < pair.stats.drafted


def test_drafts_alone(pair, greedy, strings):
    pair.sync(list(b"abc"))
    assert pair.draft(ord("d"), 3) == [*b"efg"]
    assert pair.context.tokens == [*b"abc"]
    logits, hidden = pair.draft_row(1)
    assert logits.argmax() == ord("f") and logits.min() == -float("inf")
    assert (len(logits), len(hidden)) == (261, 32)


def test_wrong_arguments(fake, pair, greedy):
    pair.sync(list(b"abc"))
    for wrong in (9, -1, "off", True, None, 2.0):
        with pytest.raises(fake.UsageError, match="draft length"):
            pair.step(greedy, wrong)
        with pytest.raises(fake.UsageError, match="draft length"):
            pair.generate("a", n_draft=wrong)
    with pytest.raises(fake.UsageError, match="n_max"):
        pair.step(greedy, 1, 0)
    for n in (0, 9):
        with pytest.raises(fake.UsageError, match="n is"):
            pair.draft(97, n)
    with pytest.raises(fake.UsageError):
        pair.draft_row(0)
    with pytest.raises(fake.UsageError):
        pair.draft_row(-1)
    with pytest.raises(fake.UsageError, match="n_ngram"):
        fake.Pair(pair.context, "lookup", n_ngram=0)
    with pytest.raises(fake.UsageError, match="p_min"):
        fake.Pair(pair.context, "lookup", p_min=1.5)
    with pytest.raises(fake.UsageError, match="as_model"):
        fake.Pair(pair.context, "lookup", as_model=True)
    with pytest.raises(fake.UsageError, match="target"):
        fake.Pair(3, "lookup")
    with pytest.raises(fake.UsageError, match="drafter"):
        fake.Pair(pair.context, 3)
    with pytest.raises(fake.ModelNotFoundError):
        fake.Pair(pair.context, "no-such-file.gguf")


def test_kinds_of_drafters(fake, strings, files, toy_file, greedy):
    ordinary = toy_file(name="small.gguf")
    with fake.LLM(files[0], drafter=None) as llm:
        for drafter, options, kind, head in [
            (files[1], {}, "mtp", "centroid"),
            (str(files[1]), {"dense_head": True}, "mtp", "dense"),
            (ordinary, {}, "model", "dense"),
            (ordinary, {"as_model": True}, "model", "dense"),
            ("lookup", {"n_ngram": 5}, "lookup", ""),
        ]:
            with fake.Pair(llm, drafter, **options) as pair:
                assert (pair.stats.kind, pair.stats.head) == (kind, head)
                assert kind in repr(pair)
                pair.sync(list(b"ab"))
                written = b"cd" if kind == "lookup" else b"cdef"  # nothing to look up in "ab"
                assert pair.step(greedy).tokens + pair.step(greedy, 2).tokens == [*written]
        with fake.Pair(llm.model, fake.Model.open(files[1])) as own:
            assert own.context is not llm.context and own.context.n_ctx == 4096
        with pytest.raises(fake.PairingError, match="ordinary draft model"):
            fake.Pair(llm, files[1], as_model=True)
        with pytest.raises(fake.PairingError, match="width"):
            fake.Pair(
                llm,
                toy_file(name="wide.gguf", assistant=True, target_width=64),
            )
        part = toy_file(name="part.gguf", assistant=True, head="part")
        with fake.Pair(llm, part) as pair:
            assert pair.stats.head == "dense" and "centroids" in pair.stats.reason
        with pytest.raises(fake.PairingError, match="masked_embd_centroids.weight is missing"):
            fake.Pair(llm, part, strict=True)
        with fake.Pair(llm, "lookup") as pair, pytest.raises(fake.UsageError, match="no steps"):
            pair.draft_row(0)


# ---- lifetime and threads ----


def test_lifetime(fake, strings, files, greedy):
    model, drafter = fake.Model.open(files[0]), fake.Model.open(files[1])
    context = model.context(32)
    pair = fake.Pair(context, drafter)
    drafter.close()
    model.close()
    pair.sync(list(b"ab"))
    assert pair.step(greedy).tokens == [*b"c"]
    pair.close()
    pair.close()
    assert pair.closed and "closed" in repr(pair)
    for use in (
        lambda: pair.step(greedy),
        lambda: pair.stats,
        lambda: pair.sync([1]),
        lambda: pair.draft(97, 1),
    ):
        with pytest.raises(fake.Closed):
            use()
    assert context.tokens == [*b"ab"]
    context.close()
    greedy.close()
    assert strings.live == 0


def test_a_closed_context(fake, strings, files, greedy):
    with (
        fake.Model.open(files[0]) as model,
        model.context(32) as context,
        fake.Pair(context, files[1]) as pair,
    ):
        pair.sync(list(b"ab"))
        context.close()
        with pytest.raises(fake.Closed, match="context"):
            pair.step(greedy)


def test_what_the_pair_opened_is_closed_with_it(fake, strings, files):
    model = fake.Model.open(files[0])
    pair = fake.Pair(model, files[1])
    context, drafter = pair.context, pair.drafter
    pair.close()
    assert context.closed and drafter.closed and not model.closed
    model.close()
    assert strings.live == 0


def test_a_failed_birth_leaks_nothing(fake, strings, files):
    strings.fail("pillion_pair_new", 22, "no memory")
    with fake.Model.open(files[0]) as model, pytest.raises(MemoryError):
        fake.Pair(model, files[1])
    with pytest.raises(MemoryError):
        strings.fail("pillion_pair_new", 22, "no memory")
        fake.LLM(files[0])
    gc.collect()
    assert strings.live == 0


def test_dropped_pairs_are_freed(fake, strings, files):
    def use():
        pair = fake.Pair(fake.Model.open(files[0]).context(16), files[1])
        return next(pair.generate("ab")).tokens

    assert use() == [*b"c"]
    gc.collect()
    assert strings.live == 0


def test_a_second_thread_gets_busy(fake, strings, pair, greedy, under_way):
    pair.sync(list(b"abc"))
    pair.step(greedy)
    thread, _ = under_way(lambda: pair.step(greedy, 3))
    with pytest.raises(fake.Busy):
        pair.step(greedy)
    with pytest.raises(fake.Busy):
        pair.sync(list(b"x"))
    strings.slow(0)
    thread.join()
    assert pair.step(greedy, 1).tokens == [*b"ij"]


def test_an_error_in_the_middle_of_a_round(fake, strings, pair, greedy):
    pair.sync(list(b"abc"))
    pair.step(greedy)
    strings.break_run()
    with pytest.raises(fake.InternalError, match="broken"):
        pair.step(greedy, 3)
    assert pair.context.tokens == [*b"abc"]
    with pytest.raises(fake.UsageError, match="no outputs"):
        pair.context.logits()
    assert pair.sync(list(b"abcd")) == 3
    assert pair.step(greedy).tokens + pair.step(greedy, 3).tokens == [*b"efghi"]


# ---- text through the pair ----


@pytest.mark.parametrize("wrong", WRONG)
def test_the_text_is_the_same(paired, plain, strings, wrong):
    strings.lies(*wrong)
    for options in (
        {"temperature": 0},
        {"temperature": 1.0, "seed": 7},
        {"temperature": 0.9, "seed": 7, "presence_penalty": 3.0},
    ):
        expected = plain.complete("abc", max_tokens=50, logprobs=2, **options)
        for k in (*KS, 0, "auto"):
            found = paired.complete("abc", max_tokens=50, logprobs=2, draft=k, **options)
            assert found["choices"] == expected["choices"], (k, options)
            chunks = list(paired.complete("abc", max_tokens=50, stream=True, draft=k, **options))
            assert "".join(map(text_of, chunks)) == text_of(expected)


@pytest.mark.parametrize("k", KS)
def test_stop_strings_everywhere(paired, plain, strings, k):
    for at, length in itertools.product(range(12), (1, 2, 5)):
        written = "defghijklmnopqrstuvwxyz"
        stop = written[at : at + length]
        found = paired.complete("abc", temperature=0, max_tokens=20, stop=stop, draft=k)
        assert (text_of(found), found["choices"][0]["finish_reason"]) == (written[:at], "stop")
        expected = plain.complete("abc", temperature=0, max_tokens=20, stop=stop)
        assert found["usage"]["completion_tokens"] == expected["usage"]["completion_tokens"]
        assert (
            text_of(
                paired.complete("abc" + written[:at] + "p", temperature=0, max_tokens=3, draft=k)
            )
            == "qrs"
        )


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("end", [257, 259])
def test_end_tokens_everywhere(paired, plain, strings, k, end):
    for at in range(12):
        strings.script(4 + at, [end, *b"no"])
        found = paired.complete("abc", temperature=0, max_tokens=30, draft=k)
        expected = plain.complete("abc", temperature=0, max_tokens=30)
        assert (
            found["choices"] == expected["choices"]
            and found["choices"][0]["finish_reason"] == "stop"
        )
        assert found["usage"]["completion_tokens"] == at
    strings.script(9, [end])
    # the text is full just before it
    found = paired.complete("abc", temperature=0, max_tokens=5, draft=k)
    assert found["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("k", KS)
def test_lengths_are_exact(fake, strings, files, k):
    with fake.LLM(files[0], n_ctx=32) as llm:
        for n in range(20):
            found = llm.complete("abc", temperature=0, max_tokens=n, draft=k)
            assert (found["usage"]["completion_tokens"], found["choices"][0]["finish_reason"]) == (
                n,
                "length",
            )
        for n_prompt in range(15, 33):
            found = llm.complete([97] * n_prompt, temperature=0, max_tokens=None, draft=k)
            assert (found["usage"]["completion_tokens"], found["choices"][0]["finish_reason"]) == (
                32 - n_prompt,
                "length",
            )
            assert len(llm.context) <= 32


@pytest.mark.parametrize("k", KS)
def test_leaving_early_at_every_token(paired, strings, k):
    for n in range(1, 12):
        stream = paired.complete("abc", temperature=0, max_tokens=30, stream=True, draft=k)
        got = "".join(text_of(chunk) for chunk in itertools.islice(stream, n))
        stream.close()
        assert got == "defghijklmnop"[:n]
        assert (
            text_of(paired.complete("abc" + got + "x", temperature=0, max_tokens=3, draft=k))
            == "yza"
        )


def test_an_error_leaves_a_usable_llm(fake, paired, strings):
    for fault in (
        lambda: strings.fail("pillion_pair_step", 31, "broken"),
        lambda: strings.fail("pillion_pair_sync", 31, "broken"),
        lambda: strings.break_run(1),  # the prompt's comes first
    ):
        fault()
        with pytest.raises(fake.InternalError, match="broken"):
            paired.complete("abc", temperature=0, max_tokens=9)
        assert text_of(paired.complete("abc", temperature=0, max_tokens=9)) == "defghijkl"


def test_cancel_in_a_round(fake, paired, strings, under_way):
    thread, outcome = under_way(
        lambda: paired.complete("ab", temperature=0, max_tokens=200, draft=8), tokens=10
    )
    with within(PATIENCE / 2):
        paired.cancel()
        thread.join()
    assert isinstance(outcome[0], fake.Cancelled)
    strings.slow(0)
    assert text_of(paired.complete("ab", temperature=0, max_tokens=3)) == "cde"


def test_results_tell_what_the_drafter_did(paired, plain, strings):
    strings.lies(1)
    found = paired.complete("abc", temperature=0, max_tokens=10, draft=2)
    done = found["speculation"]
    assert (done["state"], done["kind"], done["head"]) == ("on", "mtp", "centroid")
    assert (done["rounds"], done["drafted"], done["accepted"], done["acceptance"]) == (4, 8, 4, 0.5)
    assert done["acceptance_by_position"] == [1, 0] and done["mean_tokens_per_round"] == 2
    assert found["usage"]["completion_tokens_details"] == {
        "accepted_prediction_tokens": 4,
        "rejected_prediction_tokens": 4,
    }
    assert (found["timings"]["draft_n"], found["timings"]["draft_n_accepted"]) == (8, 4)
    *_, last = paired.complete("abc", temperature=0, max_tokens=10, draft=2, stream=True)
    assert last["speculation"]["drafted"] == 8
    assert paired.speculation.drafted == 16 and paired.pair.stats.tokens == 20
    off = paired.complete("abc", temperature=0, max_tokens=10, draft=0)
    assert off["speculation"]["state"] == "off" and off["timings"]["draft_n"] == 0
    without = plain.complete("abc", temperature=0, max_tokens=2)
    assert (
        without["speculation"]["state"] == "off"
        and "no drafter was asked for" in without["speculation"]["reason"]
    )
    assert (
        "draft_n" not in without["timings"] and "completion_tokens_details" not in without["usage"]
    )


def test_tokens_know_whether_they_were_drafted(paired, strings):
    strings.lies(2)
    drafted = [
        token.drafted
        for piece in paired.generate("abc", temperature=0, max_tokens=7, draft=3)
        for token in piece.tokens
    ]
    assert drafted == [False, True, True, False, True, True, False]


def test_characters_across_rounds(paired, plain, strings):
    strings.script(4, "é東🏍x".encode() * 3)
    for k in KS:
        assert text_of(paired.complete("abc", temperature=0, max_tokens=30, draft=k)) == "é東🏍x" * 3


def test_chat_takes_draft(fake, strings, files, toy_file):
    toy = toy_file(
        {"tokenizer.chat_template": '"{% for m in messages %}{{ m.content }}{% endfor %}"'},
        name="chat.gguf",
    )
    with fake.LLM(toy, drafter=files[1], draft=2) as llm:
        found = llm.chat([{"role": "user", "content": "abc"}], temperature=0, max_tokens=7)
        assert (
            found["choices"][0]["message"]["content"] == "defghij"
            and found["speculation"]["drafted"] == 4
        )
        found = llm.chat([{"role": "user", "content": "abc"}], temperature=0, max_tokens=7, draft=0)
        assert found["speculation"]["drafted"] == 0


# ---- finding the drafter ----


def test_find_drafter(fake, strings, files, toy_file):
    target, drafter = files
    assert fake.find_drafter(target) == drafter
    toy_file(name="other-width-assistant.gguf", assistant=True, target_width=64)
    toy_file({"general.name": '"x"'}, name="plain-assistant.gguf")
    (target.parent / "broken-assistant.gguf").write_bytes(b"nonsense")
    assert fake.find_drafter(target) == drafter
    second = toy_file(name="second.gguf", assistant=True)
    with pytest.raises(fake.PairingError) as caught:
        fake.find_drafter(target)
    assert str(drafter) in str(caught.value) and str(second) in str(caught.value)
    with fake.LLM(target, drafter=None) as llm:
        assert llm.pair is None
    with fake.LLM(target, drafter=second) as llm:
        assert llm.pair is not None
    drafter.unlink()
    second.unlink()
    assert fake.find_drafter(target) is None
    other = toy_file(assistant=True, name="any-name.gguf")
    assert fake.find_drafter(target) == other
    del caught
    gc.collect()
    assert strings.live == 0


def test_several_drafters_that_nobody_asked_for(fake, files, toy_file, caplog):
    """ "auto" is a wish: the model goes on alone, says so once, and lists them."""
    target, drafter = files
    second = toy_file(name="second.gguf", assistant=True)
    with fake.LLM(target) as llm:
        assert llm.pair is None and llm.speculation.state == "off"
        assert str(drafter) in llm.speculation.reason and str(second) in llm.speculation.reason
        assert text_of(llm.complete("abc", temperature=0, max_tokens=3)) == "def"
    assert [llm.speculation.reason] == [
        record.getMessage() for record in caplog.records if record.levelname == "WARNING"
    ]


def test_a_look_at_the_head_is_enough(fake, tmp_path):
    from pillion_fake.drafter_file import _may_be_assistant

    path = tmp_path / "a.gguf"
    key = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + gguf_bytes.text("general.architecture")
    for rest, expected in (
        (b"gemma4-assistant", True),
        (b"gemma4_assistant", True),
        (b"gemma4", False),
    ):
        path.write_bytes(key + struct.pack("<I", gguf_bytes.STR) + gguf_bytes.text(rest) + bytes(9))
        assert _may_be_assistant(path) is expected
    path.write_bytes(b"GGUF" + bytes(100))
    assert _may_be_assistant(path)
    assert not _may_be_assistant(tmp_path / "none.gguf")
    path.write_bytes(b"no model")
    assert not _may_be_assistant(path)


def test_llm_says_why_there_is_no_drafter(fake, strings, toy_file):
    with fake.LLM(toy_file()) as llm:
        assert (
            llm.speculation.state == "off"
            and "no drafter beside toy.gguf" in llm.speculation.reason
        )
        assert (
            llm.complete("abc", draft="auto", temperature=0)["speculation"]["reason"]
            == llm.speculation.reason
        )
        llm.complete("abc", draft=0)
        with pytest.raises(fake.UsageError, match="no drafter beside"):
            llm.complete("abc", draft=3)
    with pytest.raises(fake.UsageError, match="draft length"):
        fake.LLM(toy_file(), draft=9)


def test_a_found_drafter_that_does_not_fit_is_left_alone(fake, strings, files, caplog):
    strings.fail("pillion_pair_new", 13, "head sizes 32 and 64 differ")
    with fake.LLM(files[0]) as llm:
        assert llm.pair is None and "32 and 64" in llm.speculation.reason
        assert text_of(llm.complete("abc", temperature=0, max_tokens=3)) == "def"
    assert any("32 and 64" in record.getMessage() for record in caplog.records)
    strings.fail("pillion_pair_new", 13, "head sizes 32 and 64 differ")
    with pytest.raises(fake.PairingError, match="32 and 64"):
        fake.LLM(files[0], drafter=files[1])
    gc.collect()
    assert strings.live == 0


def test_llm_closes_what_it_opened(fake, strings, files):
    llm = fake.LLM(files[0])
    pair = llm.pair
    llm.close()
    assert pair.closed and strings.live == 0
    drafter = fake.Model.open(files[1])
    fake.LLM(files[0], drafter=drafter).close()
    assert not drafter.closed
    drafter.close()
    with fake.LLM(files[0], drafter="lookup") as llm:
        assert llm.speculation.kind == "lookup"
    assert strings.live == 0


# ---- a round in three steps ----


@pytest.fixture
def toy_pair(fake, strings, toy_file, toy_drafter):
    with (
        fake.Model.open(toy_file()) as model,
        fake.Pair(model, toy_drafter) as pair,
    ):
        pair.sync(list(b"ab"))
        yield pair


def without_times(value):
    if isinstance(value, list):
        return [one._replace(draft_ms=0, verify_ms=0, accept_ms=0) for one in value]
    # "auto" would use what it measured
    return dataclasses.replace(value, draft_ms=0, verify_ms=0, accept_ms=0, n_draft=0)


@pytest.mark.parametrize("k", KS)
def test_three_steps_are_one(fake, toy_pair, strings, k):
    strings.lies(2)
    texts = []
    for steps in (1, 3):
        toy_pair.sync(list(b"ab"))
        toy_pair.reset_stats()
        sampler, tokens, rounds = fake.Sampler(fake.SamplingParams(temperature=0)), [], []
        while len(tokens) < 20:
            if steps == 1:
                rounds.append(toy_pair.step(sampler, k, 20 - len(tokens)))
            else:
                toy_pair.run(toy_pair.propose(sampler, k, 20 - len(tokens)))
                rounds.append(toy_pair.take(sampler, 20 - len(tokens)))
            tokens += rounds[-1].tokens
        texts.append((bytes(tokens), *map(without_times, (rounds, toy_pair.stats))))
    assert texts[0] == texts[1] and texts[0][0] == b"cdefghijklmnopqrstuv"


def test_arguments_of_the_steps(fake, toy_pair):
    sampler = fake.Sampler(fake.SamplingParams(temperature=0))
    for call, arguments, sentence in (
        (toy_pair.propose, ("greedy",), "sampler is 'greedy'"),
        (toy_pair.propose, (sampler, 9), "the draft length is 9"),
        (toy_pair.propose, (sampler, 3, 0), "n_max is 0"),
        (toy_pair.run, ("ab",), "tokens is 'ab'"),
        (toy_pair.run, ([1.5],), "flat sequence of integers"),
        (toy_pair.take, (None,), "sampler is None"),
        (toy_pair.take, (sampler, 0), "n_max is 0"),
        (toy_pair.take, (sampler, 1, (), [1]), r"masks must be an array of uint32 \[rows, words\]"),
        (toy_pair.abandon, (3,), "sampler is 3"),
    ):
        with pytest.raises(fake.UsageError, match=sentence):
            call(*arguments)
    assert toy_pair.step(sampler).tokens == [99]


@pytest.mark.parametrize("function", ["propose", "run", "take"])
def test_a_step_that_fails_can_be_repeated(fake, toy_pair, strings, function):
    sampler = fake.Sampler(fake.SamplingParams(temperature=0))
    toy_pair.step(sampler)
    found = b"c"
    for n in range(4):
        steps = [
            ("propose", lambda: toy_pair.propose(sampler, 3)),
            ("run", lambda: toy_pair.run(drafts)),
            ("take", lambda: toy_pair.take(sampler)),
        ]
        for name, call in steps:
            if name == function and n % 2:
                strings.fail(f"pillion_pair_{name}", 31, "broken")
                with pytest.raises(fake.InternalError, match="broken"):
                    call()
            result = call()
            if name == "propose":
                drafts = result
        found += bytes(result.tokens)
    assert found == b"cdefghijklmnopqrs"
    assert toy_pair.context.n_rows == 4


def test_cancel_in_a_run(fake, toy_pair, strings, under_way):
    sampler = fake.Sampler(fake.SamplingParams(temperature=0))
    toy_pair.step(sampler)
    drafts = toy_pair.propose(sampler, 8)
    thread, outcome = under_way(lambda: toy_pair.run(drafts), tokens=2)
    with within(PATIENCE / 2):
        toy_pair.context.cancel()
        thread.join()
    assert isinstance(outcome[0], fake.Cancelled) and toy_pair.context.tokens == list(b"ab")
    strings.slow(0)
    toy_pair.run(drafts)
    assert bytes(toy_pair.take(sampler).tokens) == b"defghijkl"


def test_a_second_caller_between_steps_is_told(fake, toy_pair, strings, under_way):
    sampler = fake.Sampler(fake.SamplingParams(temperature=0))
    toy_pair.step(sampler)
    thread, outcome = under_way(lambda: toy_pair.run(list(b"de")), tokens=2)
    for call in (
        toy_pair.run,
        lambda: toy_pair.take(sampler),
        toy_pair.abandon,
        lambda: toy_pair.room,
    ):
        with pytest.raises(fake.Busy):
            call()
    toy_pair.context.cancel()
    thread.join()


def test_closed_between_steps(fake, toy_pair):
    sampler = fake.Sampler(fake.SamplingParams(temperature=0))
    toy_pair.run(toy_pair.propose(sampler))
    toy_pair.close()
    for call in (
        lambda: toy_pair.propose(sampler),
        toy_pair.run,
        lambda: toy_pair.take(sampler),
        toy_pair.abandon,
    ):
        with pytest.raises(fake.Closed):
            call()
