"""The random models of all three shapes through all of `LLM`: prompts and greedy texts are those of
`transformers`, with any number of drafts."""

import media_files
import numpy as np
import pytest

IMAGE, AUDIO = "image", "audio"
PROMPTS = {
    "image": ["What is this?", IMAGE, "one word, please"],
    "audio": [AUDIO, "write down what is said"],
    "mix": [IMAGE, "and", IMAGE, "and", AUDIO, "which is the odd one?"],
    "two": [IMAGE, "or", IMAGE, "?"],
}


def part(said, golden, names):
    if said == IMAGE:
        return {"type": IMAGE, IMAGE: golden[f"img.{next(names)}.rgb"]}
    if said == AUDIO:
        return {"type": AUDIO, AUDIO: golden[f"aud.{next(names)}.wave"]}
    return {"type": "text", "text": said}


def messages(golden, prompt):
    names = iter(golden[f"{prompt}.media"].tolist())
    return [{"role": "user", "content": [part(one, golden, names) for one in PROMPTS[prompt]]}]


@pytest.fixture(scope="module", params=media_files.NAMES)
def named(request, pillion):
    name = request.param
    llm = pillion.LLM(
        media_files.target(name, "f32"),
        n_ctx=512,
        drafter=str(media_files.assistant(name)),
        mmproj=media_files.mmproj(name),
        image_tokens=70,
        chat_template=(media_files.MEDIA / name / "chat_template.jinja").read_text(),
    )
    # Random models write marks of media, which a trained one never does and `LLM` forbids.
    llm.media.never_sampled = lambda: []
    with llm:
        yield llm, media_files.golden(name)


def test_prompts_and_texts(named):
    llm, golden = named
    there = [one for one in PROMPTS if f"{one}.ids" in golden]
    assert len(there) >= 2
    for prompt in there:
        request, _ = llm.requests.chat(messages(golden, prompt), temperature=0, max_tokens=16)
        ids, types = np.array(request.prompt), golden[f"{prompt}.types"]
        assert np.array_equal(ids < 0, types != 0), prompt  # rows where placeholders are
        assert np.array_equal(ids[types == 0], golden[f"{prompt}.ids"][types == 0]), prompt
        greedy = golden[f"{prompt}.greedy"].tolist()
        ends = set(llm.tokenizer.end_tokens)
        wanted = greedy[: next((at for at, one in enumerate(greedy) if one in ends), len(greedy))]
        for draft in range(5):
            made, _ = llm.requests.chat(
                messages(golden, prompt), temperature=0, max_tokens=16, draft=draft
            )
            assert llm.engine.submit(made).result().tokens == wanted, (prompt, draft)


def test_batches_of_any_size(pillion, named):
    """Rows of a causal model come in any parts; an image whose rows see one another needs a batch
    that holds it, and a sentence says so before anything is encoded."""
    llm, golden = named
    prompt = "two" if "two.ids" in golden else "mix"
    greedy = golden[f"{prompt}.greedy"].tolist()
    for n_batch in (16, 64, 128):
        other = pillion.LLM(
            llm.model, n_ctx=512, n_batch=n_batch, drafter=None, mmproj=llm.media.towers.open(),
            image_tokens=70, chat_template=llm._chat.template().source,
        )  # fmt: skip
        with other:
            if llm.model.image_bidirectional and n_batch < 70:
                with pytest.raises(pillion.MediaError, match=rf"tokens.*n_batch is {n_batch}"):
                    other.chat(messages(golden, prompt))
                continue
            request, _ = other.requests.chat(messages(golden, prompt), temperature=0, max_tokens=4)
            found = other.engine.submit(request).result()
            assert found.tokens == greedy[:4], n_batch


def test_room_for_images_is_made(pillion):
    """By the head of the file, and only where the rows of an image see one another."""
    from pillion.media.budget import batch_for

    for name, most in (("tiny-mm-e2b", None), ("tiny-mm-31b", 1120), ("tiny-mm-12b", 1120)):
        path = str(media_files.target(name))
        with pillion.Model.open(path) as model:
            for given in (path, model):
                assert batch_for(given, "auto") == batch_for(given, 1120) == most
                assert batch_for(given, 560) == (most and 560) and batch_for(given, 280) is None
    golden = media_files.golden("tiny-mm-31b")
    name = "tiny-mm-31b"
    source = (media_files.MEDIA / name / "chat_template.jinja").read_text()
    options = {"mmproj": media_files.mmproj(name), "chat_template": source, "drafter": None}
    with pillion.LLM(media_files.target(name), n_ctx=2048, image_tokens=1120, **options) as llm:
        large = np.zeros((900, 1200, 3), np.uint8)
        found = llm.chat(messages({**golden, "img.wide.rgb": large}, "image"), max_tokens=1)
        assert found["usage"]["prompt_tokens_details"]["image_tokens"] == 28 * 38


def test_pictures_beside_answers_under_way(pillion):
    """An image whose rows see one another is read as a whole, whatever part of a turn it gets."""
    name = "tiny-mm-31b"
    golden = media_files.golden(name)
    source = (media_files.MEDIA / name / "chat_template.jinja").read_text()
    options = {"mmproj": media_files.mmproj(name), "chat_template": source, "image_tokens": 70}
    with pillion.LLM(media_files.target(name, "f32"), n_ctx=512, parallel=3, **options) as llm:
        llm.media.never_sampled = lambda: []
        asked = messages(golden, "two")
        wanted = llm.chat(asked, temperature=0, max_tokens=16)["choices"]
        llm.reset()
        running = [llm.generate("a b c", max_tokens=200, temperature=0) for _ in range(2)]
        assert llm.chat(asked, temperature=0, max_tokens=16)["choices"] == wanted
        for one in running:
            one.cancel()
