"""Answers to pictures and sounds: all calls, turns, threads and tasks; what is reused and kept."""

import asyncio
import threading

import numpy as np
import pytest
from patience import until
from stand_in_towers import StandIn
from test_media_prompts import image, picture, sound, text, user

from pillion import MediaError, UsageError

GREEDY = {"temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    path = tmp_path_factory.mktemp("towers") / "mmproj.gguf"
    path.write_bytes(b"GGUF and no more")
    return StandIn(path, 192)


@pytest.fixture(scope="module")
def llm(pillion, tiny_target, eyes):
    options = {"n_ctx": 1024, "mmproj": eyes, "image_tokens": 70, "parallel": 2}
    with pillion.LLM(tiny_target, **options) as llm:
        yield llm


def said(result):
    return result["choices"][0].get("message", result["choices"][0])


def ask(*parts):
    return [user(*parts, text("What is it?"))]


def test_every_call_gives_the_same_answer(llm):
    messages = ask(image(1))
    whole = llm.chat(messages, **GREEDY)
    expected = said(whole)["content"]
    assert expected and whole["usage"]["prompt_tokens_details"]["image_tokens"] == 64
    assert "audio_tokens" not in whole["usage"]["prompt_tokens_details"]
    chunks = list(llm.chat(messages, stream=True, **GREEDY))
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks) == expected
    assert chunks[-1]["usage"]["prompt_tokens_details"]["image_tokens"] == 64

    async def tasks():
        whole = llm.achat(messages, **GREEDY)
        stream = await llm.achat(messages, stream=True, **GREEDY)
        parts = [one["choices"][0]["delta"].get("content", "") async for one in stream]
        return said(await whole)["content"], "".join(parts)

    assert asyncio.run(tasks()) == (expected, expected)
    both = llm.chat(messages, n=2, **GREEDY)
    assert [one["message"]["content"] for one in both["choices"]] == [expected] * 2


def test_another_picture_is_another_answer(llm, eyes):
    texts = {
        shade: said(llm.chat(ask(image(shade)), **GREEDY))["content"] for shade in (1, 90, 200)
    }
    assert len(set(texts.values())) > 1  # the rows are read
    n = len(eyes.encoded)
    llm.reset()
    for shade, expected in texts.items():
        assert said(llm.chat(ask(image(shade)), **GREEDY))["content"] == expected
    assert len(eyes.encoded) == n


def test_drafts_change_nothing(llm, pillion, tiny_target, eyes):
    assert llm.pair is not None
    messages = ask(image(1), sound())
    answers = {said(llm.chat(messages, draft=n, **GREEDY))["content"] for n in range(5)}
    assert len(answers) == 1 and llm.speculation.drafted > 0
    for options in ({"drafter": None}, {"n_batch": 16}, {"n_batch": 33, "drafter": "lookup"}):
        with pillion.LLM(tiny_target, n_ctx=512, mmproj=eyes, image_tokens=70, **options) as other:
            assert {said(other.chat(messages, **GREEDY))["content"]} == answers, options


def test_turns_reuse_what_was_read(llm, eyes):
    first = [user(image(3), text("One"))]
    one = llm.chat(first, **GREEDY)
    answer = {"role": "assistant", "content": said(one)["content"]}
    n = len(eyes.encoded)
    two = llm.chat([*first, answer, user(text("Two"), image(4))], **GREEDY)
    assert len(eyes.encoded) == n + 1  # only the new picture
    assert two["timings"]["cache_n"] >= one["usage"]["prompt_tokens"] - 1
    other = llm.chat([user(image(5), text("One")), answer], **GREEDY)
    assert other["timings"]["cache_n"] < 10  # a picture of the same size is no such beginning


def test_texts_around_media_without_a_template(llm):
    result = llm.complete(["Look: ", image(6), text("and say "), sound()], echo=True, **GREEDY)
    details = result["usage"]["prompt_tokens_details"]
    assert (details["image_tokens"], details["audio_tokens"]) == (64, 10)
    assert said(result)["text"].startswith("Look: <|image|>and say <|audio|>")
    only = llm.generate([image(6)], max_tokens=3, temperature=0).result()
    tokens = [llm.tokenizer.token_text(one) if one >= 0 else one for one in only.prompt]
    assert tokens[:2] == ["<bos>", "<|image>"] and tokens[-1] == "<image|>" and len(tokens) == 67
    streamed = llm.complete([image(6)], stream=True, max_tokens=3)
    assert "".join(one["choices"][0]["text"] for one in streamed)
    assert asyncio.run(llm.acomplete([image(6)], max_tokens=3))["choices"]
    with pytest.raises(UsageError, match="echo with logprobs"):
        llm.complete([image(6)], echo=True, logprobs=1)
    with pytest.raises(UsageError, match="the prompt has a part of type 'int'"):
        llm.complete([image(6), 5])
    with pytest.raises(MediaError, match="the image of the prompt"):
        llm.complete([{"type": "image", "image": b""}], media_files=False)


def test_penalties_and_processors_live_with_ids_below_0(llm):
    seen = []

    def processor(ids, scores):
        seen.append(len(ids))
        return scores

    options = {**GREEDY, "repeat_penalty": 1.3, "penalty_last_n": -1}
    result = llm.chat(ask(image(1)), logits_processor=[processor], **options)
    assert said(result)["content"] is not None and seen
    assert llm.chat(ask(image(1)), **options)["choices"]


def test_threads_with_pictures_of_their_own(llm):
    expected = {shade: said(llm.chat(ask(image(shade)), **GREEDY))["content"] for shade in range(6)}
    llm.reset()
    found = {}

    def work(shade):
        found[shade] = said(llm.chat(ask(image(shade)), **GREEDY))["content"]

    threads = [threading.Thread(target=work, args=(shade,)) for shade in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_rows_go_when_their_answers_are_over(pillion, tiny_target, eyes):
    with pillion.LLM(tiny_target, n_ctx=512, mmproj=eyes, image_tokens=70) as llm:
        llm.media.cache.limit = 0
        kept = llm.generate([image(1)], max_tokens=5)  # its handle stays
        kept.result()
        until(lambda: len(llm.media.cache) == 0)
        stopped = llm.generate([image(2)])
        stopped.cancel()
        until(lambda: len(llm.media.cache) == 0)
        expected = said(llm.chat(ask(image(1)), **GREEDY))
        assert said(llm.chat(ask(image(1)), **GREEDY)) == expected  # encoded anew, the same ids
    with pytest.raises(pillion.Closed):
        llm.chat(ask(image(1)))


def test_a_prompt_with_pictures_that_does_not_fit(llm):
    with pytest.raises(UsageError, match=r"the prompt has \d+ tokens, but the context holds 1024"):
        llm.chat(ask(*[{**image(shade), "image_tokens": 140} for shade in range(9)]))


def test_a_picture_of_pillow_and_arrays(llm):
    from PIL import Image

    shades = picture(1)
    for one in (shades, Image.fromarray(shades), np.dstack([shades, np.full((96, 96), 255, "u1")])):
        result = llm.chat(ask({"type": "image", "image": one}), **GREEDY)
        assert said(result) == said(llm.chat(ask(image(1)), **GREEDY))


def test_two_on_one_model(pillion, tiny_target, eyes):
    """What one of them drops, the other does not miss."""
    with pillion.Model.open(tiny_target) as model:
        options = {"n_ctx": 512, "drafter": None, "mmproj": eyes, "image_tokens": 70}
        one, two = pillion.LLM(model, **options), pillion.LLM(model, **options)
        assert one.media.cache is two.media.cache
        expected = said(one.chat(ask(image(1)), **GREEDY))
        held = two.requests.chat(ask(image(1)))[0]
        one.media.cache.limit = 0
        one.close()
        assert len(two.media.cache) == 1  # a request of the other one has it
        held.media.release()
        assert said(two.chat(ask(image(1)), **GREEDY)) == expected
        two.close()


def test_a_saved_conversation_keeps_its_pictures(pillion, tiny_target, eyes, tmp_path):
    """Ids of rows are of their process; the file knows the media by their digests."""
    options = {"n_ctx": 512, "mmproj": eyes, "image_tokens": 70}
    first = ask(image(1), image(2))
    with pillion.LLM(tiny_target, **options) as llm:
        expected = llm.chat(first, **GREEDY)
        llm.save(tmp_path / "chat.state")
    with pillion.LLM(tiny_target, **options) as llm:
        llm.media.read([], True)
        llm.chat(ask(image(9)), max_tokens=1)  # takes the first ids
        llm.load(tmp_path / "chat.state")
        again = llm.chat(first, **GREEDY)
        assert said(again) == said(expected)
        assert again["timings"]["cache_n"] == expected["usage"]["prompt_tokens"] - 1
