"""Going back further than the rings reach: copies of the sliding caches in place of runs. What was
run again is counted, and the logits are bit for bit those of a context that ran the same tokens
from nothing."""

import json
import random
import threading

import pytest
from goldens import GOLDEN, model_path, prompt

# Windows of 16: rings of 256 with small batches, so 241 lengths can be had back.
NAMES = ["tiny-e2b", "tiny-gemma3"]
SLOW = pytest.mark.slow
TAIL = 120  # half of those: so far before its end a text may leave a prompt


@pytest.fixture(scope="module", params=NAMES)
def model(request, pillion):
    with pillion.Model.open(model_path(request.param)) as model:
        model.test_name = request.param
        yield model


class Fresh:
    """Logits from nothing, of one context."""

    def __init__(self, model, **options):
        self.context = model.context(n_ctx=1024, n_snapshots=0, n_threads=1, **options)

    def __call__(self, ids):
        self.context.clear()
        self.context.prefill(ids)
        return self.context.logits().tobytes()


def write_on(context, rng, n, rows=9):
    """An answer of n tokens."""
    ids = [rng.randrange(context.model.n_vocab) for _ in range(n)]
    for at in range(0, n, rows):
        context.decode(ids[at : at + rows])
    return ids


@pytest.mark.parametrize(
    "kv_type, n_batch",
    [pytest.param("f16", 1, marks=SLOW), ("f16", 64), pytest.param("q8_0", 100, marks=SLOW)],
)
def test_after_an_answer_of_any_length_the_prompt_is_still_there(model, kv_type, n_batch):
    """Answers around the window, the ring and several rings; the next text leaves the prompt at its
    end or somewhat before."""
    fresh = Fresh(model, kv_type=kv_type)
    ids = prompt(model.test_name, 200)
    with model.context(n_ctx=1024, n_batch=n_batch, kv_type=kv_type) as context:
        for answer in (1, 14, 15, 16, 17, 100, 239, 240, 241, 242, 256, 300, 700):
            for back in (0, 1, 8, TAIL):
                context.sync(ids)
                write_on(context, random.Random(answer), answer, rows=min(9, n_batch))
                left = len(ids) - back
                text = [*ids[:left], 3, 4]
                assert context.sync(text) == left, (answer, back)
                if back in (0, 8):
                    assert context.logits().tobytes() == fresh(text), (answer, back)


def test_without_snapshots_all_of_it_runs_again(model):
    ids = prompt(model.test_name, 200)
    for options, kept in (
        ({"n_snapshots": 0}, 0),
        ({}, 200),
        ({"n_snapshots": 1}, 200),
        ({"n_snapshots": 0, "swa_full": True}, 200),
    ):
        with model.context(n_ctx=1024, n_batch=64, **options) as context:
            context.sync(ids)
            write_on(context, random.Random(1), 300)
            assert context.sync([*ids, 3]) == kept, options


def test_a_prompt_read_by_prefill_leaves_one_too(model):
    ids = prompt(model.test_name, 200)
    with model.context(n_ctx=1024, n_batch=64) as context:
        context.prefill(ids)
        write_on(context, random.Random(2), 500)
        begin = context.describe()["length"]
        context.rewind(200)
        assert begin == 700 and context.tokens == ids
        context.decode(5)
        assert context.logits().tobytes() == Fresh(model)([*ids, 5])


def test_any_other_way_back_runs_from_the_nearest(model):
    """Into the middle of a long answer: from the prompt on, not from 0; then the place is known."""
    fresh = Fresh(model)
    ids = prompt(model.test_name, 300)
    with model.context(n_ctx=1024, n_batch=64) as context:
        context.sync(ids)
        answer = write_on(context, random.Random(3), 700)
        text = [*ids, *answer[:200], 9]
        kept = context.sync(text)
        assert 300 <= kept < 500
        assert context.logits().tobytes() == fresh(text)
        answer = write_on(context, random.Random(4), 480)
        assert context.sync([*text[:-1], 8]) == 500
        assert context.logits().tobytes() == fresh([*text[:-1], 8])


def test_texts_that_share_their_beginning(model):
    """Two conversations in turn: the second time that they part, nothing before the parting
    runs."""
    fresh = Fresh(model)
    rng = random.Random(5)
    shared = prompt(model.test_name, 400)
    # Longer than TAIL.
    ends = [[rng.randrange(model.n_vocab) for _ in range(250)] for _ in range(2)]
    with model.context(n_ctx=1024, n_batch=64) as context:
        kept = []
        for turn in range(6):
            text = [*shared, *ends[turn % 2], turn]
            kept.append(context.sync(text))
            assert context.logits().tobytes() == fresh(text)
            write_on(context, rng, 300)
    assert kept[2:] == [400] * 4, kept


def test_editing_an_earlier_message(model):
    """Each turn's prompt leaves a snapshot, so the way back to an earlier turn is short too."""
    fresh, rng = Fresh(model), random.Random(6)
    text, turns = prompt(model.test_name, 60), []
    with model.context(n_ctx=1024, n_batch=64) as context:
        for _ in range(3):
            context.sync(text)
            turns.append(len(text))
            answer = write_on(context, rng, 260)
            text = [*text, *answer[-20:], 7, 8, 9]
        for turn in (2, 1, 0):
            edited = [*text[: turns[turn]], 1, 2, turn]
            assert context.sync(edited) == turns[turn]
            assert context.logits().tobytes() == fresh(edited)
            write_on(context, rng, 300)


def test_answering_again_and_again(model):
    ids, rng = prompt(model.test_name, 200), random.Random(7)
    with model.context(n_ctx=1024, n_batch=64) as context:
        context.sync(ids)
        first = context.logits().tobytes()
        for _ in range(3):
            write_on(context, rng, 400)
            assert context.sync(ids) == 199 and context.logits().tobytes() == first


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=SLOW) for seed in range(2, 8))])
def test_walks(model, seed):
    """Random prompts, answers, rejections and ways back, with few and many copies, against
    recomputing."""
    rng = random.Random(seed)
    options = {"kv_type": rng.choice(["f16", "q8_0"])}
    fresh, ids = Fresh(model, **options), []
    with model.context(
        n_ctx=1024,
        n_batch=rng.choice([9, 40, 256]),
        n_snapshots=rng.choice([0, 1, 2, 9]),
        **options,
    ) as context:
        for _ in range(25):
            kind = rng.randrange(4)
            if kind == 0 or not ids:
                at = rng.choice([rng.randint(0, len(ids)), max(0, len(ids) - rng.randint(0, 30))])
                new = [rng.randrange(model.n_vocab) for _ in range(rng.choice([1, 17, 60, 200]))]
                if at + len(new) > 1000:
                    at = 0
                ids = [*ids[:at], *new]
                context.sync(ids)
                assert context.logits().tobytes() == fresh(ids)
            elif kind == 1:
                ids += write_on(context, rng, min(rng.choice([1, 20, 250, 500]), 1000 - len(ids)))
            elif kind == 2:
                ids = ids[: rng.randint(max(1, len(ids) - 9), len(ids))]
                context.rewind(len(ids))
            else:
                ids = ids[: rng.randint(1, len(ids))]
                context.rewind(len(ids))
            assert context.tokens == ids
        context.decode(3)
        assert context.logits().tobytes() == fresh([*ids, 3])


def test_memory_is_told_and_bounded(pillion, model):
    with model.context(n_ctx=1024, n_batch=64, n_snapshots=3) as context:
        told = context.describe()
        rings = sum(store["bytes"] for store in told["kv"] if store["store"] == "ring")
        assert (told["n_snapshots"], told["snapshot_bytes"]) == (3, 3 * rings)
        assert told["kv_bytes"] == sum(store["bytes"] for store in told["kv"])
        memory = model.memory(1024, n_batch=64, n_snapshots=3)["kv"]
        assert memory["snapshots"] == 3 * rings and memory["bytes"] == told["kv_bytes"]
    for options in ({"n_snapshots": 0}, {"swa_full": True}):
        assert model.memory(1024, n_batch=64, **options)["kv"]["snapshots"] == 0
    with pytest.raises(pillion.UsageError, match="n_snapshots is -1; it must be 0 .* to 256"):
        model.context(64, n_snapshots=-1)
    with model.context(64) as context:  # no rings, nothing to copy
        assert context.describe()["snapshot_bytes"] == 0


def test_models_without_sliding_layers_need_none(pillion):
    with (
        pillion.Model.open(model_path("tiny-llama")) as model,
        model.context(n_ctx=1024, n_batch=16) as context,
    ):
        ids = prompt("tiny-llama", 100)
        context.sync(ids)
        write_on(context, random.Random(1), 600)
        assert context.sync([*ids, 3]) == 100
        assert context.describe()["n_snapshots"] == 0


# ---- pairs: a drafter's own cache goes back as cheaply ----


def n_read(pillion, pair):
    """Tokens of the text that the drafter ran to follow it."""
    native = pillion._native
    raw = native.read_bytes(lambda *room: native.lib.pillion_pair_json(pair._c, *room), 1 << 14)
    return json.loads(native.as_str(raw))["n_read"]


@pytest.mark.parametrize("drafter", ["tiny-e2b-assistant", "tiny-e2b"])
def test_pairs(pillion, drafter):
    """Turns with drafts are those without, and a model drafter has copies of its own: it does not
    read the prompt again."""
    path = GOLDEN / f"{drafter}.gguf"
    ids = prompt("tiny-e2b", 200)
    sampler = pillion.Sampler(pillion.SamplingParams(temperature=0))
    with pillion.Model.open(model_path("tiny-e2b")) as model, pillion.Model.open(path) as other:
        fresh = Fresh(model)
        with (
            model.context(n_ctx=1024, n_batch=64, n_outputs=9) as context,
            pillion.Pair(context, other) as pair,
        ):
            text, read = ids, n_read(pillion, pair)
            for turn in range(3):
                kept = pair.sync(text)
                assert kept == (0, 200, 200)[turn]
                assert context.logits().tobytes() == fresh(text)
                before = len(text)
                while context.n_past < before + 300:
                    pair.step(sampler, 3, 9)
                more, read = n_read(pillion, pair) - read, n_read(pillion, pair)
                assert turn == 0 or more <= 302 + 2  # all but the prompt
                told = context.tokens
                context.decode(2)
                assert context.logits().tobytes() == fresh([*told, 2])
                text = [*ids, 5 + turn, 6]


def test_cancelled_on_the_way(pillion):
    """A cancel while the tokens after a restored window run leaves a context that says its length
    and goes on right."""
    ids = prompt("tiny-e2b", 300)
    with pillion.Model.open(model_path("tiny-e2b")) as model:
        fresh = Fresh(model)
        with model.context(n_ctx=1024, n_batch=16) as context:
            context.sync(ids)
            write_on(context, random.Random(1), 400)
            bad = [*ids, *ids, model.n_vocab]  # refused before anything is dropped
            with pytest.raises(pillion.UsageError):
                context.sync(bad)
            assert context.n_past == 700
            for call in range(200):
                if cancelled_at(pillion, context, [*ids, *ids]):
                    break
            assert context.tokens == [*ids, *ids][: context.n_past]
            held = context.tokens
            context.sync([*held, 4])
            assert context.logits().tobytes() == fresh([*held, 4])


def cancelled_at(pillion, context, text):
    stop = threading.Event()

    def keep_cancelling():
        while not stop.is_set():
            context.cancel()

    thread = threading.Thread(target=keep_cancelling)
    thread.start()
    try:
        context.sync(text)
        return False
    except pillion.Cancelled:
        return True
    finally:
        stop.set()
        thread.join()


# ---- whole conversations, as LLM.chat has them ----

TEMPLATE = """{{ bos_token }}{%- for m in messages -%}
{{ '<|turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n'
    + (m['content'] | trim) + '<turn|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|turn>model\n' }}
{%- if not enable_thinking | default(false) -%}{{ 'thought\n\n' }}{%- endif -%}{%- endif -%}"""
"""As Gemma 4's: with thinking off a prompt ends in an empty thought that the history does not
have."""

QUESTIONS = ["Read Psalms 23.", "And what came after that?", "Say it again.", "Once more, please."]


class Conversation:
    def __init__(self, llm, thinking):
        self.llm, self.options = llm, {"chat_template_kwargs": {"enable_thinking": thinking}}
        self.thinking, self.messages = thinking, []

    def turn(self, question, n):
        """The result of an answer of n tokens. With thinking, only its end comes back as the
        history."""
        self.messages.append({"role": "user", "content": question})
        bias = dict.fromkeys(self.llm.tokenizer.end_tokens, -1e9)  # answers of a known length
        result = self.llm.chat(
            self.messages, max_tokens=n, temperature=0, logit_bias=bias, **self.options
        )
        message = result["choices"][0]["message"]
        text = (message.get("reasoning_content") or "") + (message["content"] or "")
        self.messages.append(
            {"role": "assistant", "content": text[-40:] if self.thinking else text}
        )
        return result, text


@pytest.mark.parametrize(
    "thinking, drafter",
    [
        (False, "auto"),
        (True, None),
        pytest.param(False, None, marks=SLOW),
        pytest.param(True, "auto", marks=SLOW),
        pytest.param(False, "itself", marks=SLOW),
        pytest.param(True, "itself", marks=SLOW),
    ],
)
def test_a_turn_reads_the_last_answer_again_and_no_more(pillion, tiny_target, thinking, drafter):
    """Answers of five windows. Whatever a turn drops, it runs what is new to it: the history's last
    answer and the new message."""
    other = tiny_target if drafter == "itself" else drafter
    options = {"n_ctx": 2048, "n_batch": 64, "chat_template": TEMPLATE}
    with (
        pillion.LLM(tiny_target, drafter=other, **options) as llm,
        pillion.LLM(tiny_target, drafter=None, **options) as plain,
    ):
        talk, before = Conversation(llm, thinking), 0
        for question in QUESTIONS:
            result, text = talk.turn(question, 330)
            timings = result["timings"]
            prompt = timings["cache_n"] + timings["prompt_n"]
            assert prompt == result["usage"]["prompt_tokens"]
            new = prompt - before
            tail = len(llm.chat_tokens("thought\n\n"))
            assert timings["prompt_n"] <= new + (0 if thinking else tail), timings
            before = prompt
            plain.reset()
            again = Conversation(plain, thinking)
            again.messages = talk.messages[:-2]
            assert again.turn(question, 330)[1] == text


def test_regenerating_and_editing(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=2048, n_batch=64, drafter=None) as llm:
        bias = dict.fromkeys(llm.tokenizer.end_tokens, -1e9)
        shared = "Genesis 1\n\nIn the beginning " * 12
        n_shared = len(llm.tokenize(shared))
        texts = {}
        for number, tail in enumerate(
            ["God", "God", "was the word", "God", "there was light and it was good"]
        ):
            result = llm.complete(shared + tail, max_tokens=300, temperature=0, logit_bias=bias)
            assert result["timings"]["prompt_n"] <= len(llm.tokenize(shared + tail)) - (
                n_shared - 2 if number else 0
            )
            text = result["choices"][0]["text"]
            assert texts.setdefault(tail, text) == text
        with pillion.LLM(
            tiny_target, n_ctx=2048, drafter=None, n_snapshots=0, swa_full=True
        ) as fresh:
            for tail, text in texts.items():
                fresh.reset()
                again = fresh.complete(
                    shared + tail, max_tokens=300, temperature=0, logit_bias=bias
                )
                assert again["choices"][0]["text"] == text


def test_swa_full_and_n_snapshots_reach_llm(pillion, tiny_target):
    for options, stores, copies in (
        ({"swa_full": True}, {"full"}, 0),
        ({"n_snapshots": 2}, {"full", "ring"}, 2),
    ):
        with pillion.LLM(tiny_target, n_ctx=2048, **options) as llm:
            told = llm.context.describe()
            assert {store["store"] for store in told["kv"]} == stores and told[
                "n_snapshots"
            ] == copies
