"""`LLM`: results, streaming, stops, limits, reuse, cancelling."""

import math
import random
import time

import pytest

from patience import PATIENCE, in_thread, over_and_over, until, within


def text_of(result):
    return result["choices"][0]["text"]


def greedy(llm, prompt, **options):
    return llm.complete(prompt, temperature=0, **options)


# ---- results ----


def test_the_shape_of_a_completion(toy_llm):
    result = greedy(toy_llm, "abc", max_tokens=5)
    assert (
        result["object"] == "text_completion"
        and result["model"] == "Toy"
        and result["id"].startswith("cmpl-")
    )
    assert abs(result["created"] - time.time()) < 10
    assert result["choices"] == [
        {"index": 0, "text": "defgh", "logprobs": None, "finish_reason": "length"}
    ]
    assert result["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": 5,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    timings = result["timings"]
    assert set(timings) == {
        "cache_n",
        "prompt_n",
        "prompt_ms",
        "prompt_per_second",
        "predicted_n",
        "predicted_ms",
        "predicted_per_second",
    }
    assert (timings["cache_n"], timings["prompt_n"], timings["predicted_n"]) == (0, 4, 5)
    assert timings["predicted_per_second"] == pytest.approx(1e3 * 5 / timings["predicted_ms"])


def test_the_model_ends_the_text(toy_llm, strings):
    strings.script(4, [*b"yes", 257, *b"no"])
    result = greedy(toy_llm, "abc", max_tokens=50)
    assert (text_of(result), result["choices"][0]["finish_reason"]) == ("yes", "stop")
    assert result["usage"]["completion_tokens"] == 3


def test_control_tokens_are_not_text(toy_llm, strings):
    strings.script(4, [*b"a", 258, *b"b", 257])
    assert text_of(greedy(toy_llm, "abc")) == "ab"


def test_text_that_looks_like_an_end_token_does_not_end(toy_llm, strings):
    strings.script(4, [*b"a<eos></turn>b", 257])
    assert text_of(greedy(toy_llm, "abc", max_tokens=None)) == "a<eos></turn>b"


def test_token_ids_as_prompt(toy_llm, fake):
    assert text_of(greedy(toy_llm, [256, 97], max_tokens=2)) == "bc"
    assert toy_llm.tokenize("ab") == [256, 97, 98] and toy_llm.tokenize(b"ab", add_bos=False) == [
        97,
        98,
    ]
    assert toy_llm.detokenize([97, 98]) == "ab"
    with pytest.raises(fake.UsageError, match="empty"):
        greedy(toy_llm, [])
    with pytest.raises(fake.UsageError, match="vocabulary"):
        greedy(toy_llm, [999])


def test_an_empty_prompt_is_bos(toy_llm):
    result = greedy(toy_llm, "", max_tokens=3)
    assert (text_of(result), result["usage"]["prompt_tokens"]) == ("abc", 1)


def test_surrogates_in_the_prompt(toy_llm):
    assert greedy(toy_llm, "\ud800", max_tokens=1)["usage"]["prompt_tokens"] == 4


def test_llama_cpp_pythons_names(toy_llm, fake):
    for call in (toy_llm, toy_llm.create_completion):
        assert text_of(call("abc", max_tokens=2, temperature=0)) == "de"
    assert (toy_llm.n_ctx(), toy_llm.n_vocab(), toy_llm.token_bos(), toy_llm.token_eos()) == (
        256,
        261,
        256,
        257,
    )
    assert toy_llm.create_chat_completion.__func__ is fake.LLM.chat
    assert len(text_of(toy_llm.complete("abc"))) == 16
    with pytest.raises(fake.UsageError, match="suffix"):
        toy_llm.complete("a", suffix="b")
    with pytest.raises(fake.UsageError, match="temprature.*temperature"):
        toy_llm.complete("a", temprature=1)


def test_echo(toy_llm):
    assert text_of(greedy(toy_llm, "abc", max_tokens=2, echo=True)) == "abcde"
    chunks = list(greedy(toy_llm, "abc", max_tokens=2, echo=True, stream=True))
    assert "".join(map(text_of, chunks)) == "abcde"


# ---- log-probabilities ----


def test_logprobs(toy_llm):
    found = greedy(toy_llm, "abc", max_tokens=2, logprobs=2)["choices"][0]["logprobs"]
    assert found["tokens"] == ["d", "e"] and found["text_offset"] == [0, 1]
    assert all(-0.1 < value < 0 for value in found["token_logprobs"])
    assert [list(top) for top in found["top_logprobs"]] == [["d", "c"], ["e", "d"]]
    assert found["top_logprobs"][0]["d"] == found["token_logprobs"][0]


def test_logprobs_with_echo(toy_llm):
    found = greedy(toy_llm, "abx", max_tokens=1, logprobs=0, echo=True)["choices"][0]["logprobs"]
    assert found["tokens"] == ["<bos>", "a", "b", "x", "y"]
    assert found["text_offset"] == [0, 0, 1, 2, 3]
    assert found["token_logprobs"][0] is None
    assert found["token_logprobs"][2] > -0.1 and found["token_logprobs"][3] < -7


def test_chat_logprobs(fake, strings, toy_file):
    with fake.LLM(toy_file(), chat_template="{{ messages[0].content }}", n_ctx=64) as llm:
        ask = {
            "messages": [{"role": "user", "content": "ab"}],
            "max_tokens": 2,
            "temperature": 0,
            "logprobs": True,
        }
        content = llm.chat(**ask, top_logprobs=2)["choices"][0]["logprobs"]["content"]
        assert [(one["token"], one["bytes"]) for one in content] == [("c", [99]), ("d", [100])]
        assert [top["token"] for top in content[0]["top_logprobs"]] == ["c", "b"]
        assert llm.chat(**ask)["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
        streamed = [
            chunk["choices"][0]["logprobs"]
            for chunk in llm.chat(**ask, top_logprobs=2, stream=True)
        ]
        assert [one for logprobs in streamed if logprobs for one in logprobs["content"]] == content


# ---- streaming ----


def test_streamed_equals_whole(toy_llm):
    whole = greedy(toy_llm, "abc", max_tokens=20)
    chunks = list(greedy(toy_llm, "abc", max_tokens=20, stream=True))
    assert "".join(map(text_of, chunks)) == text_of(whole)
    assert len(chunks) == 21
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 20 + ["length"]
    # the second finds the first one's prompt
    cached = {"prompt_tokens_details": {"cached_tokens": 3}}
    assert chunks[-1]["usage"] == {**whole["usage"], **cached}
    assert chunks[-1]["timings"]["predicted_n"] == 20
    assert "usage" not in chunks[0]
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_streamed_chat(fake, strings, toy_file):
    with fake.LLM(toy_file(), chat_template="{{ messages[0].content }}", n_ctx=64) as llm:
        chunks = list(
            llm.chat([{"role": "user", "content": "ab"}], max_tokens=2, temperature=0, stream=True)
        )
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "c"},
        {"content": "d"},
        {},
    ]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_a_stream_of_emoji_and_hangul(toy_llm, strings):
    random.seed(2)
    said = "".join(random.choices("🙂👍🏽👩‍👩‍👧🇩🇪한국어각漢é", k=50))
    strings.script(4, [*said.encode(), 257])
    pieces = [text_of(chunk) for chunk in greedy(toy_llm, "abc", max_tokens=-1, stream=True)]
    assert "".join(pieces) == said == text_of(greedy(toy_llm, "abc", max_tokens=-1))
    assert all(len(piece) <= 1 for piece in pieces)


def test_half_a_character_at_the_end(toy_llm, strings):
    strings.script(4, [*b"ok", *"🙂".encode()])
    for stream in (False, True):
        result = greedy(toy_llm, "abc", max_tokens=5, stream=stream)
        text = "".join(map(text_of, result)) if stream else text_of(result)
        assert text == "ok\ufffd"


def idle(llm):
    return all(slot.state == "idle" for slot in llm.engine.slots())


def test_leaving_a_stream_early_stops_the_work(toy_llm, strings):
    strings.slow(10_000)
    for chunk in greedy(toy_llm, "abc", max_tokens=None, stream=True):
        if text_of(chunk) == "f":
            break
    until(lambda: idle(toy_llm))
    assert strings.evaluated < 100  # of 252
    assert toy_llm.engine.stats().ended_early == {"dropped": 1}
    strings.slow(0)
    assert text_of(greedy(toy_llm, "abc", max_tokens=3)) == "def"


def test_work_begins_at_the_call(toy_llm):
    stream = greedy(toy_llm, "abc", max_tokens=5, stream=True)
    until(lambda: stream.generation.state == "done")
    assert stream.generation.text == "defgh"
    assert "".join(map(text_of, stream)) == "defgh"


def test_two_streams_in_one_loop(toy_llm):
    """The second waits until the first is written, whoever reads them when."""
    first = greedy(toy_llm, "abc", max_tokens=5, stream=True)
    second = greedy(toy_llm, "xyz", max_tokens=5, stream=True)
    texts = [text_of(one) + text_of(other) for one, other in zip(first, second)]
    assert "".join(texts) == "".join(map("".join, zip("defgh", "abcde"))).replace("abcde", "")


def test_several_answers_at_the_same_time(fake, strings, toy_file):
    with fake.LLM(toy_file(), n_ctx=64, parallel=2) as llm:
        strings.slow(2_000)
        first = greedy(llm, "abc", max_tokens=None, stream=True)
        second = greedy(llm, "a" * 20, max_tokens=5, stream=True)
        assert "".join(map(text_of, second)) == "bcdef"
        assert first.generation.finish_reason is None  # it was not written before the other
        assert len("".join(map(text_of, first))) == 60


def test_errors_come_before_the_first_chunk(toy_llm, fake):
    with pytest.raises(fake.ContextFullError):
        greedy(toy_llm, "x" * 300, stream=True)
    with pytest.raises(fake.UsageError):
        toy_llm.complete("a", temperature=-1, stream=True)


# ---- stop strings ----


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", ["gh", ["zz", "gh"], ["ghi", "gh"], ("hi", "gh")])
def test_stop_strings(toy_llm, stop, stream):
    result = greedy(toy_llm, "abc", max_tokens=50, stop=stop, stream=stream)
    chunks = list(result) if stream else [result]
    assert "".join(map(text_of, chunks)) == "def"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_stop_string_inside_and_across_characters(toy_llm, strings):
    strings.script(4, "one 🙂 STOP two")
    assert text_of(greedy(toy_llm, "abc", max_tokens=50, stop="🙂 S")) == "one "
    # held back, then no stop after all
    assert text_of(greedy(toy_llm, "abc", max_tokens=9, stop="🙂 S")) == "one 🙂 "


def test_the_turn_after_a_stop_is_like_a_fresh_one(toy_llm, fake, toy_file):
    greedy(toy_llm, "abc", max_tokens=50, stop="gh")
    after = greedy(toy_llm, "abcdef!", max_tokens=4)
    with fake.LLM(toy_file(), n_ctx=256) as fresh:
        assert text_of(after) == text_of(greedy(fresh, "abcdef!", max_tokens=4))
    assert after["timings"]["cache_n"] == 7


def test_logprobs_end_where_the_text_ends(toy_llm):
    result = greedy(toy_llm, "abc", max_tokens=50, stop="gh", logprobs=0)
    assert result["choices"][0]["logprobs"]["tokens"] == ["d", "e", "f"]
    assert result["usage"]["completion_tokens"] == 5


def test_wrong_stops(toy_llm, fake):
    for stop in ("", ["a", ""], [1]):
        with pytest.raises(fake.UsageError, match="stop"):
            greedy(toy_llm, "abc", stop=stop)


# ---- limits ----


def test_until_the_context_ends(fake, strings, toy_file):
    with fake.LLM(toy_file(), n_ctx=10) as llm:
        for max_tokens in (None, -1, 6, 100):
            result = greedy(llm, "abc", max_tokens=max_tokens)
            assert (text_of(result), result["choices"][0]["finish_reason"]) == ("defghi", "length")
        # it fits exactly and leaves no room
        assert text_of(greedy(llm, "abcdefghi", max_tokens=None)) == ""
        with pytest.raises(fake.ContextFullError, match=r"11 tokens.* 10 "):
            greedy(llm, "abcdefghij")


def test_max_tokens_zero(toy_llm):
    result = greedy(toy_llm, "abc", max_tokens=0)
    assert (text_of(result), result["choices"][0]["finish_reason"]) == ("", "length")
    assert result["timings"]["predicted_per_second"] == 0


@pytest.mark.parametrize(
    "options", [{"max_tokens": -2}, {"logprobs": -1}, {"logprobs": 1000}, {"logit_bias": {261: 1}}]
)
def test_wrong_options(toy_llm, fake, options):
    with pytest.raises(fake.UsageError):
        toy_llm.complete("a", **options)


# ---- sampling ----


def test_seeds(toy_llm, fake, toy_file):
    hot = {"temperature": 5.0, "max_tokens": 40, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    assert text_of(toy_llm.complete("a", seed=1, **hot)) == text_of(
        toy_llm.complete("a", seed=1, **hot)
    )
    assert text_of(toy_llm.complete("a", seed=1, **hot)) != text_of(
        toy_llm.complete("a", seed=2, **hot)
    )
    assert text_of(toy_llm.complete("a", **hot)) != text_of(toy_llm.complete("a", **hot))
    with fake.LLM(toy_file(), seed=7, n_ctx=256) as llm:
        assert text_of(llm.complete("a", **hot)) == text_of(llm.complete("a", **hot))


def test_bias(toy_llm):
    assert text_of(greedy(toy_llm, "abc", max_tokens=2, logit_bias={"100": -100, 101: 5})) == "ef"


def test_suppressed_tokens_never_come(fake, strings, toy_file):
    with fake.LLM(toy_file({"tokenizer.ggml.suppress_tokens": "[260]"}), n_ctx=64) as llm:
        strings.script(4, [260, 260, 260])
        for bias in (None, {260: 50.0}):
            generation = llm.generate("abc", max_tokens=3, temperature=0, logit_bias=bias).run()
            assert 260 not in generation.tokens


def test_penalties_see_the_prompt(toy_llm):
    assert text_of(greedy(toy_llm, "abcd", max_tokens=1)) == "e"
    assert text_of(greedy(toy_llm, "eabcd", max_tokens=1, presence_penalty=50.0)) != "e"


def test_defaults_come_from_the_file_then_from_llama_cpp_python(fake, strings, toy_file):
    with fake.LLM(
        toy_file({"general.sampling.temp": "0", "general.sampling.top_k": "64"}), n_ctx=64
    ) as llm:
        params = llm.generate("a").sampling
        assert (params.temperature, params.top_k, params.top_p, params.min_p) == (0, 64, 0.95, 0.05)
        assert llm.generate("a", temperature=0.5).sampling.temperature == 0.5
        assert llm.generate("a", top_k=None).sampling.top_k == 64


# ---- reuse ----


def test_a_shared_prefix_is_not_run_again(toy_llm, strings):
    greedy(toy_llm, "abcdefgh", max_tokens=1)
    before = strings.evaluated
    result = greedy(toy_llm, "abcdefgh and more", max_tokens=1)
    assert (result["timings"]["cache_n"], result["timings"]["prompt_n"]) == (9, 9)
    assert strings.evaluated - before == 9
    toy_llm.reset()
    assert greedy(toy_llm, "abcdefgh", max_tokens=1)["timings"]["cache_n"] == 0


# ---- generate ----


def test_generate(toy_llm):
    generation = toy_llm.generate("abc", max_tokens=3, temperature=0)
    assert [piece.text for piece in generation] == ["d", "e", "f"]
    assert (generation.text, generation.tokens, generation.finish_reason) == (
        "def",
        [100, 101, 102],
        "length",
    )
    assert list(generation) == []


def test_close_ends_a_generation(toy_llm, strings, fake):
    strings.slow(20_000)
    generation = toy_llm.generate("abc", temperature=0)
    next(generation)
    generation.close()
    with pytest.raises(fake.Cancelled, match="closed"):
        next(generation)


def test_a_failed_step_ends_the_generation_and_not_the_llm(toy_llm, strings, fake):
    """What was written before it comes out first."""
    strings.fail("pillion_pair_step", 23, "the device is gone", after=1)
    generation = toy_llm.generate("abc", temperature=0)
    assert next(generation).text == "d"
    with pytest.raises(fake.DeviceLostError):
        next(generation)
    with pytest.raises(fake.Cancelled, match="device is gone"):
        next(generation)
    assert text_of(greedy(toy_llm, "abc", max_tokens=2)) == "de"
    assert toy_llm.engine.stats().ended_early == {"error": 1}


# ---- cancelling, threads ----


@pytest.mark.parametrize("prompt, tokens", [("x" * 200, 2), ("abc", 20), ("x" * 200, 0)])
def test_cancel_from_another_thread(toy_llm, strings, fake, under_way, prompt, tokens):
    """In the prompt, between tokens, and before the first."""
    thread, outcome = under_way(lambda: greedy(toy_llm, prompt, max_tokens=None), tokens)
    until(lambda: not idle(toy_llm))
    with within(PATIENCE / 2):
        toy_llm.cancel()
        thread.join()
    assert isinstance(outcome[0], fake.Cancelled)
    strings.slow(0)
    assert text_of(greedy(toy_llm, "abc", max_tokens=2)) == "de"


def test_cancel_a_call_of_the_main_thread(toy_llm, strings, fake):
    strings.slow(1_000_000)
    with over_and_over(toy_llm.cancel), within(PATIENCE), pytest.raises(fake.Cancelled):
        greedy(toy_llm, "x" * 200)


def test_cancel_with_nothing_to_cancel(toy_llm):
    toy_llm.cancel()
    greedy(toy_llm, "abc")
    toy_llm.cancel()
    assert text_of(greedy(toy_llm, "abc", max_tokens=2)) == "de"


def test_another_threads_call_waits_its_turn(toy_llm, strings, under_way):
    thread, outcome = under_way(lambda: greedy(toy_llm, "x" * 100, max_tokens=2))
    other, second = in_thread(lambda: greedy(toy_llm, "abc", max_tokens=2))
    until(lambda: toy_llm.engine.stats().queued == 1)
    strings.slow(0)
    thread.join(), other.join()
    assert (text_of(outcome[0]), text_of(second[0])) == ("yz", "de")


def test_many_llms_in_threads(fake, strings, toy_file):
    path = toy_file()

    def work(letter):
        with fake.LLM(path, n_ctx=64) as llm:
            return text_of(greedy(llm, letter, max_tokens=3))

    started = [in_thread(lambda letter=letter: work(letter)) for letter in "abcdefgh"]
    for thread, _ in started:
        thread.join()
    assert [outcome[0] for _, outcome in started] == [
        "bcd",
        "cde",
        "def",
        "efg",
        "fgh",
        "ghi",
        "hij",
        "ijk",
    ]


def test_bias_of_minus_infinity(toy_llm):
    assert text_of(greedy(toy_llm, "abc", max_tokens=1, logit_bias={100: -math.inf})) != "d"
