"""The pair over the real library: the drafter against transformers, and rounds against plain
decoding, on tiny models of every shape."""

import gc
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from patience import PATIENCE, in_thread

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
SHAPES = ["tiny-e2b", "tiny-e4b-dims", "tiny-dense", "tiny-moe"]
ORDERED = ["tiny-e2b", "tiny-e4b-dims"]
KS = [*range(1, 9), "auto"]
PROMPT = "Genesis 1\n\nIn the beginning"
N_CHAIN = 4  # draft steps in the goldens
NMSE = 1e-4  # the cache is f16, and four steps stand on each other


def nmse(ours, reference):
    ours, reference = ours.astype(np.float64), reference.astype(np.float64)
    return float(((ours - reference) ** 2).sum() / (reference**2).sum())


def text_of(result):
    return result["choices"][0]["text"]


@pytest.fixture(scope="module")
def tiny_assistant(pillion):
    from pillion.models import TINY_ASSISTANT

    if not TINY_ASSISTANT.exists():
        pytest.skip(f"{TINY_ASSISTANT} is missing")
    return TINY_ASSISTANT


class Shape:
    def __init__(self, pillion, name):
        self.pillion, self.name = pillion, name
        self.golden = np.load(GOLDEN / f"{name}.npz")
        self.target = pillion.Model.open(GOLDEN / f"{name}.gguf")
        self.drafter = pillion.Model.open(GOLDEN / f"{name}-assistant.gguf")

    def pair(self, n_ctx=128, **options):
        settings = {
            key: options.pop(key) for key in ("kv_type", "n_batch", "swa_full") if key in options
        }
        return self.pillion.Pair(self.target.context(n_ctx, **settings), self.drafter, **options)

    def ids(self, prompt):
        return self.golden[f"{prompt}.ids"].tolist()


@pytest.fixture(scope="module", params=SHAPES)
def shape(request, pillion):
    return Shape(pillion, request.param)


@pytest.fixture(scope="module", params=ORDERED)
def ordered(request, pillion):
    return Shape(pillion, request.param)


@pytest.fixture
def greedy(pillion):
    return lambda: pillion.Sampler(pillion.SamplingParams(temperature=0))


def run(pair, sampler, prompt, n, n_draft):
    """n tokens by rounds of n_draft."""
    tokens = []
    pair.sync(prompt)
    while len(tokens) < n:
        tokens += pair.step(sampler, n_draft, n - len(tokens)).tokens
    return tokens


def plain(model, sampler, prompt, n, **settings):
    """The same without a pair."""
    tokens = []
    with model.context(**{"n_ctx": 128, **settings}) as context:
        context.sync(prompt)
        while True:
            tokens.append(sampler.sample(context))
            sampler.accept(tokens[-1])
            if len(tokens) == n:
                return tokens
            context.decode(tokens[-1])


# ---- the drafter against the reference ----


@pytest.mark.parametrize("prompt", ["long", "short"])
def test_drafts_are_the_reference_s(shape, prompt):
    golden = shape.golden
    with shape.pair() as pair:
        pair.sync(shape.ids(prompt))
        drafts = pair.draft(int(golden[f"{prompt}.next"]), N_CHAIN)
        logits, hidden = zip(*(pair.draft_row(step) for step in range(N_CHAIN)))
    assert drafts == golden[f"{prompt}.draft_tokens"].tolist()
    assert nmse(np.stack(hidden), golden[f"{prompt}.draft_hidden"]) < NMSE
    for step in range(N_CHAIN):
        scored = np.isfinite(logits[step])
        reference = golden[f"{prompt}.draft_logits"][step]
        assert nmse(logits[step][scored], reference[scored]) < NMSE
        assert logits[step].argmax() == drafts[step]
        if scored.all():
            continue
        # transformers fills what it did not score with the lowest score - 1
        assert np.array_equal(scored, reference > reference.min())
        assert scored.sum() == len(golden[f"{prompt}.draft_centroids"][step]) * len(
            scored
        ) // n_centroids(shape)
    assert np.isfinite(logits).all() == (shape.name not in ORDERED)


def n_centroids(shape):
    return int(shape.drafter.metadata["gemma4-assistant.masked_embedding.num_centroids"])


@pytest.mark.parametrize("prompt", ["long", "short"])
def test_the_dense_head(shape, prompt):
    """All logits, as long as the greedy chain is the reference's (its later steps follow the
    centroid head's drafts)."""
    golden = shape.golden
    with shape.pair(dense_head=True) as pair:
        assert pair.stats.head == "dense"
        pair.sync(shape.ids(prompt))
        drafts = pair.draft(int(golden[f"{prompt}.next"]), N_CHAIN)
        for step in range(N_CHAIN):
            logits, _ = pair.draft_row(step)
            assert np.isfinite(logits).all()
            assert nmse(logits, golden[f"{prompt}.draft_dense_logits"][step]) < NMSE
            if drafts[step] != golden[f"{prompt}.draft_tokens"][step]:
                break


def test_rounds_of_the_reference(shape, greedy):
    """Three drafts a round: the same drafts, the same acceptance, the same text."""
    for prompt in ("long", "short"):
        golden = shape.golden
        if golden[f"{prompt}.greedy_margin"].min() < 0.02:
            continue  # nearer than what an f16 cache can move
        expected = golden[f"{prompt}.greedy"].tolist()
        with shape.pair() as pair:
            pair.sync(shape.ids(prompt))
            sampler, tokens, accepted = greedy(), [], []
            tokens += pair.step(sampler, 3).tokens
            while len(tokens) < len(expected):
                one = pair.step(sampler, 3)
                tokens += one.tokens
                accepted.append(one.accepted)
        assert tokens[: len(expected)] == expected
        reference = golden[f"{prompt}.round_accepted"].tolist()
        assert accepted[: len(reference) - 1] == reference[: len(accepted)][: len(reference) - 1]


def test_quantized_cache_drafts_closely(shape):
    with shape.pair(kv_type="q8_0") as pair:
        pair.sync(shape.ids("long"))
        first = pair.draft(int(shape.golden["long.next"]), 1)
        assert nmse(pair.draft_row(0)[1], shape.golden["long.draft_hidden"][0]) < 1e-2
        assert len(first) == 1


def test_drafting_changes_nothing(shape):
    with shape.pair() as pair:
        ids = shape.ids("long")
        pair.sync(ids)
        before = pair.context.logits()
        one = pair.draft(int(shape.golden["long.next"]), 8)
        assert pair.context.tokens == ids and np.array_equal(pair.context.logits(), before)
        assert pair.draft(int(shape.golden["long.next"]), 8) == one
        assert pair.draft(int(shape.golden["long.next"]), 3) == one[:3]


# ---- independence ----


def test_n_ctx_n_batch_and_swa_full_play_no_part(shape, greedy):
    ids, last = shape.ids("long"), int(shape.golden["long.next"])
    outcomes = []
    for options in ({"n_ctx": 96}, {"n_ctx": 1024}, {"n_batch": 3}, {"swa_full": True}):
        with shape.pair(**options) as pair:
            pair.sync(ids)
            drafts = pair.draft(last, 8)
            rows = np.stack([pair.draft_row(step)[1] for step in range(8)])
            outcomes.append((drafts, rows, run(pair, greedy(), ids, 30, 3)))
    for drafts, rows, tokens in outcomes[1:]:
        assert drafts == outcomes[0][0] and tokens == outcomes[0][2]
        assert np.allclose(rows, outcomes[0][1], rtol=1e-3, atol=1e-4)


def test_pairing_after_the_prompt(shape, greedy):
    ids = shape.ids("long")
    with shape.pair() as early, shape.target.context(128) as context:
        early.sync(ids)
        context.prefill(ids[:10], outputs=0)
        context.prefill(ids[10:])
        with shape.pillion.Pair(context, shape.drafter) as late:
            assert late.draft(5, 6) == early.draft(5, 6)
            one, other = greedy(), greedy()
            for _ in range(8):
                assert late.step(one, 3).tokens == early.step(other, 3).tokens


def test_pairing_in_the_middle_of_a_text(shape, greedy):
    ids = shape.ids("short")
    expected = plain(shape.target, greedy(), ids, 24)
    with shape.target.context(128) as context:
        context.sync(ids)
        tokens = [int(context.logits().argmax())]
        for _ in range(9):
            context.decode(tokens[-1])
            tokens.append(int(context.logits().argmax()))
        context.decode(tokens[-1])
        with shape.pillion.Pair(context, shape.drafter) as pair:
            sampler = greedy()
            while len(tokens) < 24:
                tokens += pair.step(sampler, 4, 24 - len(tokens)).tokens
    assert tokens == expected


def test_interleaved_pairs_are_as_alone(shape, pillion):
    prompts = [shape.ids("long"), shape.ids("short"), shape.ids("long")[5:]]
    params = [
        dict(temperature=0),
        dict(temperature=1.0, seed=3),
        dict(temperature=0.7, seed=4, presence_penalty=0.5),
    ]

    def sampler(number):
        return pillion.Sampler(pillion.SamplingParams(**params[number]))

    alone = []
    for number, prompt in enumerate(prompts):
        with shape.pair() as pair:
            alone.append(run(pair, sampler(number), prompt, 30, number + 2))
    pairs, samplers, together = (
        [shape.pair() for _ in prompts],
        [sampler(n) for n in range(3)],
        [[], [], []],
    )
    for pair, prompt in zip(pairs, prompts):
        pair.sync(prompt)
    while min(map(len, together)) < 30:
        for number, pair in enumerate(pairs):
            left = 30 - len(together[number])
            if left:
                together[number] += pair.step(samplers[number], number + 2, left).tokens
    assert together == alone


# ---- the same text ----


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize(
    "settings", [dict(temperature=0), dict(temperature=1.0, seed=11, top_k=0, top_p=1.0, min_p=0.0)]
)
def test_rounds_write_what_plain_decoding_writes(shape, pillion, kv_type, settings):
    for prompt in ("long", "short"):
        ids = shape.ids(prompt)
        expected = plain(
            shape.target,
            pillion.Sampler(pillion.SamplingParams(**settings)),
            ids,
            40,
            kv_type=kv_type,
        )
        with shape.pair(kv_type=kv_type) as pair:
            for k in KS:
                assert (
                    run(pair, pillion.Sampler(pillion.SamplingParams(**settings)), ids, 40, k)
                    == expected
                ), (prompt, k)


@pytest.fixture(scope="module", params=["f16", "q8_0"])
def llms(request, pillion, tiny_target, tiny_assistant):
    options = dict(n_ctx=320, kv_type=request.param)
    with (
        pillion.LLM(tiny_target, **options) as paired,
        pillion.LLM(tiny_target, drafter=None, **options) as plain,
    ):
        assert (
            paired.pair is not None
            and paired.speculation.kind == "mtp"
            and paired.speculation.head == "centroid"
        )
        yield paired, plain


SAMPLING = {
    "greedy": dict(temperature=0),
    "sampled": dict(temperature=0.8, seed=5),
    "wild": dict(temperature=1.3, seed=6, top_k=0, top_p=1.0, min_p=0.0),
    "penalties": dict(
        temperature=0.8, seed=7, repeat_penalty=1.2, frequency_penalty=0.2, presence_penalty=0.3
    ),
    "greedy penalties": dict(temperature=0, repeat_penalty=1.3, penalty_last_n=-1),
    "bias": dict(temperature=0.8, seed=8, logit_bias={100: 3.0, 200: -float("inf"), 300: 1.5}),
    "top-k": dict(temperature=1.0, seed=0, top_k=5, top_p=0.7, min_p=0.1),
}


@pytest.mark.parametrize("name", SAMPLING)
def test_the_text_of_the_tiny_pair(llms, name):
    paired, plain = llms
    for prompt in (PROMPT, "Read Psalms 23."):
        expected = plain.complete(prompt, max_tokens=120, **SAMPLING[name])
        for k in (0, *KS):
            found = paired.complete(prompt, max_tokens=120, draft=k, **SAMPLING[name])
            assert found["choices"] == expected["choices"], (prompt, k)
            assert found["usage"]["completion_tokens"] == expected["usage"]["completion_tokens"]


def test_the_end_of_the_context(pillion, tiny_target):
    n_prompt = 8
    for n_ctx in range(n_prompt + 1, n_prompt + 24, 3):
        with (
            pillion.LLM(tiny_target, n_ctx=n_ctx) as paired,
            pillion.LLM(tiny_target, n_ctx=n_ctx, drafter=None) as plain,
        ):
            bias = dict.fromkeys(paired.tokenizer.end_tokens, -1e9)
            ids = paired.tokenize(PROMPT)[:n_prompt]
            expected = plain.complete(ids, temperature=0, max_tokens=None, logit_bias=bias)
            for k in KS:
                found = paired.complete(
                    ids, temperature=0, max_tokens=None, logit_bias=bias, draft=k
                )
                assert found["choices"] == expected["choices"]
                assert found["usage"]["completion_tokens"] == n_ctx - n_prompt
                assert found["choices"][0]["finish_reason"] == "length"


def test_past_the_window_and_the_ring(llms):
    """The window of the tiny target is 64; rounds go on far past it."""
    paired, plain = llms
    bias = dict.fromkeys(plain.tokenizer.end_tokens, -1e9)
    expected = plain.complete(PROMPT, temperature=0, max_tokens=300, logit_bias=bias)
    for k in (3, 8):
        assert (
            paired.complete(PROMPT, temperature=0, max_tokens=300, logit_bias=bias, draft=k)[
                "choices"
            ]
            == expected["choices"]
        )


def test_stop_strings(llms):
    paired, plain = llms
    whole = text_of(plain.complete(PROMPT, temperature=0, max_tokens=60))
    for at, length in itertools.product(range(0, 40, 3), (1, 4)):
        stop = whole[at : at + length]
        expected = plain.complete(PROMPT, temperature=0, max_tokens=60, stop=stop)
        for k in (1, 3, 8):
            found = paired.complete(PROMPT, temperature=0, max_tokens=60, stop=stop, draft=k)
            assert found["choices"] == expected["choices"]


def test_logprobs(llms):
    paired, plain = llms
    for options in (dict(temperature=0), dict(temperature=1.0, seed=3)):
        expected = plain.complete(PROMPT, max_tokens=40, logprobs=3, **options)["choices"][0][
            "logprobs"
        ]
        for k in (1, 3, 8):
            found = paired.complete(PROMPT, max_tokens=40, logprobs=3, draft=k, **options)[
                "choices"
            ][0]["logprobs"]
            assert (
                found["tokens"] == expected["tokens"]
                and found["text_offset"] == expected["text_offset"]
            )
            assert found["token_logprobs"] == pytest.approx(expected["token_logprobs"], abs=1e-4)
            assert [list(top) for top in found["top_logprobs"]] == [
                list(top) for top in expected["top_logprobs"]
            ]


def test_conversations(llms):
    """Going on, changing an earlier turn, coming back; and leaving in the middle of a round."""
    paired, plain = llms
    turns = [
        [{"role": "user", "content": "Read Psalms 23."}],
        [{"role": "user", "content": "Read Psalms 24."}],
        [
            {"role": "user", "content": "Read Psalms 23."},
            {"role": "assistant", "content": "A Psalm"},
            {"role": "user", "content": "Go on."},
        ],
        [{"role": "user", "content": "Read Psalms 23."}],
    ]
    for messages in turns:
        expected = plain.chat(messages, temperature=0, max_tokens=40)
        assert paired.chat(messages, temperature=0, max_tokens=40)["choices"] == expected["choices"]
        stream = paired.chat(messages, temperature=0, max_tokens=40, stream=True, draft=5)
        for _ in zip(range(6), stream):
            pass
        stream.close()
        assert (
            paired.chat(messages, temperature=0, max_tokens=40, draft=4)["choices"]
            == expected["choices"]
        )


def test_only_what_changed_is_run_again(llms):
    paired, _ = llms
    found = paired.complete(PROMPT, temperature=0, max_tokens=30, draft=3)
    more = PROMPT + text_of(found)
    again = paired.complete(more, temperature=0, max_tokens=5, draft=3)
    assert again["timings"]["cache_n"] >= len(paired.tokenize(PROMPT)) + 20
    assert again["timings"]["cache_n"] + again["timings"]["prompt_n"] == len(paired.tokenize(more))


def test_acceptance_of_the_tiny_pair(llms):
    paired, _ = llms
    done = paired.complete(PROMPT, temperature=0, max_tokens=120, draft=3)["speculation"]
    assert 0.3 < done["acceptance"] < 0.95 and done["state"] == "on"
    assert done["accepted"] + done["rounds"] + 1 >= done["tokens"]
    falling = done["acceptance_by_position"]
    assert falling == sorted(falling, reverse=True)


def test_acceptance_is_the_reference_s(pillion, tiny_target, tiny_assistant):
    """Greedy with k = 3, within 0.02 of the reference loop's rounds on transformers
    (tests/golden/tiny-pair.npz)."""
    golden = np.load(GOLDEN / "tiny-pair.npz")
    keys = [
        key[: -len(".round_accepted")] for key in golden.files if key.endswith(".round_accepted")
    ]
    assert sorted(keys) == ["long", "short"]
    ours, theirs, drafted, theirs_drafted = 0, 0, 0, 0
    with (
        pillion.Model.open(tiny_target) as model,
        model.context(512) as context,
        pillion.Pair(context, tiny_assistant) as pair,
    ):
        for key in keys:
            accepted, drafts = golden[f"{key}.round_accepted"], golden[f"{key}.round_drafts"]
            theirs, theirs_drafted = (
                theirs + int(accepted.sum()),
                theirs_drafted + int((drafts >= 0).sum()),
            )
            n = len(golden[f"{key}.greedy"])
            for one in pair.generate(
                golden[f"{key}.ids"].tolist(), max_tokens=n, n_draft=3, end_tokens=[]
            ):
                ours, drafted = ours + one.accepted, drafted + one.drafted
    assert ours / drafted == pytest.approx(theirs / theirs_drafted, abs=0.02)


# ---- other drafters ----


def test_an_ordinary_model_as_drafter(llms, pillion, tiny_target):
    """The target itself: everything it drafts is right."""
    _, plain = llms
    expected = plain.complete(PROMPT, temperature=0, max_tokens=60)
    with pillion.Model.open(tiny_target) as drafter, pillion.Pair(plain, drafter) as pair:
        assert pair.stats.kind == "model"
        for k in (1, 3, 8):
            pair.reset_stats()
            tokens = [
                token
                for one in pair.generate(PROMPT, max_tokens=60, n_draft=k)
                for token in one.tokens
                if token not in plain.tokenizer.end_tokens
            ]
            assert plain.detokenize(tokens).strip() == text_of(expected).strip()
            assert pair.stats.acceptance > 0.9


def test_lookup(llms, pillion):
    _, plain = llms
    prompt = "and the earth and the sea, and the earth and the sea, and the earth"
    expected = plain.complete(prompt, temperature=0, max_tokens=60)
    with pillion.Pair(plain, "lookup") as pair:
        tokens = [
            token for one in pair.generate(prompt, max_tokens=60, n_draft=4) for token in one.tokens
        ]
        tokens = [token for token in tokens if token not in plain.tokenizer.end_tokens]
        assert plain.detokenize(tokens).strip() == text_of(expected).strip()
        assert pair.stats.kind == "lookup" and pair.stats.drafted > 0
        with pytest.raises(pillion.UsageError, match="no steps"):
            pair.draft_row(0)


def test_a_pair_without_a_drafter_is_plain_decoding(shape, pillion):
    prompt = [2, 5, 9, 5, 9]
    for temperature in (0, 0.9):
        params = pillion.SamplingParams(temperature=temperature, seed=4, repeat_penalty=1.2)
        expected = plain(shape.target, pillion.Sampler(params), prompt, 24)
        for n_draft in (0, 3, "auto"):
            with shape.target.context(128) as context, pillion.Pair(context, None) as pair:
                assert run(pair, pillion.Sampler(params), prompt, 24, n_draft) == expected
                stats = pair.stats
                assert (stats.state, stats.kind, stats.n_draft) == ("off", "", 0)
                assert (stats.tokens, stats.drafted) == (24, 0)
                assert "without a drafter" in repr(pair) and pair.placement() == []


# ---- what does not fit ----


def test_wrong_pairs(pillion, tiny_target, tiny_assistant):
    names = [f"{name}.gguf" for name in SHAPES]
    for target, assistant in itertools.permutations(names, 2):
        if {target, assistant} == {"tiny-dense.gguf", "tiny-moe.gguf"}:
            continue  # these have the same widths, heads and window: nothing tells them apart
        drafter = GOLDEN / assistant.replace(".gguf", "-assistant.gguf")
        with pillion.Model.open(GOLDEN / target) as model, model.context(64) as context:
            with pytest.raises(pillion.PairingError) as caught:
                pillion.Pair(context, drafter)
            # both values
            assert sum(character.isdigit() for character in str(caught.value)) >= 2, str(
                caught.value
            )
    for target in ("tiny-gemma3.gguf", "tiny-llama.gguf"):
        with pillion.Model.open(GOLDEN / target) as model, model.context(64) as context:
            with pytest.raises(pillion.PairingError):
                pillion.Pair(context, GOLDEN / "tiny-e2b-assistant.gguf")
    with pillion.LLM(tiny_target, drafter=None) as llm:
        for other in (GOLDEN / "tiny-llama.gguf", GOLDEN / "tiny-e2b.gguf"):  # another vocabulary
            with pytest.raises(pillion.PairingError, match="2048"):
                pillion.Pair(llm, other)
        with pytest.raises(pillion.PillionError, match="as_model|ordinary"):
            pillion.Pair(llm, tiny_assistant, as_model=True)


def test_a_drafter_alone(pillion, tiny_assistant):
    with pillion.Model.open(tiny_assistant) as model:
        assert model.is_drafter and model.describe()["metadata"]
    with pytest.raises(pillion.PairingError, match="target"):
        pillion.LLM(tiny_assistant)


def test_finding(pillion, tiny_target, tiny_assistant, tmp_path):
    assert pillion.find_drafter(tiny_target) == tiny_assistant
    shutil.copy(tiny_target, tmp_path / "target.gguf")
    assert pillion.find_drafter(tmp_path / "target.gguf") is None
    shutil.copy(GOLDEN / "tiny-e2b-assistant.gguf", tmp_path / "other-assistant.gguf")
    assert pillion.find_drafter(tmp_path / "target.gguf") is None
    shutil.copy(tiny_assistant, tmp_path / "one.gguf")
    assert pillion.find_drafter(tmp_path / "target.gguf") == tmp_path / "one.gguf"
    shutil.copy(tiny_assistant, tmp_path / "two.gguf")
    with pytest.raises(pillion.PairingError, match=r"one\.gguf.*two\.gguf"):
        pillion.find_drafter(tmp_path / "target.gguf")
    with pillion.LLM(tmp_path / "target.gguf") as llm:
        assert llm.pair is None and "one.gguf" in llm.speculation.reason


def test_use_after_the_parts_are_closed(pillion, tiny_target, tiny_assistant, greedy):
    target, drafter = pillion.Model.open(tiny_target), pillion.Model.open(tiny_assistant)
    context = target.context(64)
    pair = pillion.Pair(context, drafter)
    target.close(), drafter.close()
    del target, drafter
    gc.collect()
    pair.sync([2, 5, 6, 7])
    sampler = greedy()
    assert pair.step(sampler, 3).tokens and pair.step(sampler, 3).tokens
    pair.close()
    context.decode(5)


def test_small_outputs_shorten_the_draft(shape, greedy):
    ids = shape.ids("short")
    expected = plain(shape.target, greedy(), ids, 20)
    with (
        shape.target.context(128, n_outputs=1) as context,
        shape.pillion.Pair(context, shape.drafter) as pair,
    ):
        assert run(pair, greedy(), ids, 20, 8) == expected
        assert (
            pair.stats.drafted == 0
            and pair.stats.state == "off"
            and "n_outputs" in pair.stats.reason
        )
    for n_outputs in (2, 4):
        with (
            shape.target.context(128, n_outputs=n_outputs) as context,
            shape.pillion.Pair(context, shape.drafter) as pair,
        ):
            assert run(pair, greedy(), ids, 20, 8) == expected
            assert not any(pair.stats.drafted_at[n_outputs - 1 :])


def test_cancel_during_a_round(llms, pillion):
    """Whatever the moment, the next text is right."""
    import time

    paired, plain = llms
    expected = text_of(plain.complete(PROMPT, temperature=0, max_tokens=30))
    for delay in (0.0, 0.003, 0.01, 0.02):
        thread, _ = in_thread(
            lambda: paired.complete(PROMPT, temperature=0, max_tokens=250, draft=4)
        )
        time.sleep(delay)
        paired.cancel()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert text_of(paired.complete(PROMPT, temperature=0, max_tokens=30, draft=4)) == expected


def command(*arguments):
    call = [sys.executable, "-m", "pillion", *map(str, arguments)]
    result = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result


def test_the_command_line(tiny_target, tiny_assistant):
    texts = {
        command("run", "-m", tiny_target, "-p", PROMPT, "-n", 40, "--temp", 0, *more).stdout
        for more in (
            (),
            ("-md", "none"),
            ("-md", tiny_assistant, "--spec-draft-n-max", 5),
            ("-md", "lookup"),
            ("--spec-draft-sampling", "probabilistic"),
        )
    }
    assert len(texts) == 1
    demo = command("demo", "-n", 40)
    assert "texts equal: yes" in demo.stderr and demo.stdout.count("And it came to pass") == 1
    found = json.loads(
        command(
            "bench",
            "-m",
            tiny_target,
            "-p",
            64,
            "-n",
            32,
            "-r",
            1,
            "--spec-draft-n-max",
            3,
            "--json",
        ).stdout
    )
    (drafted,) = [one for one in found if one["test"] == "decode_draft"]
    assert drafted["texts_equal"] and drafted["kind"] == "mtp" and 0 < drafted["acceptance"] < 1
    assert [one["head"] for one in found if one["test"] == "draft_step"] == ["centroid", "dense"]


@pytest.mark.parametrize(
    "name, heads",
    [
        ("tiny-pair", ["centroid", "dense"]),
        ("tiny-e2b", ["centroid", "dense"]),
        ("tiny-moe", ["dense"]),
    ],
)
def test_bench_of_a_drafter_alone(tiny_assistant, name, heads):
    drafter = tiny_assistant if name == "tiny-pair" else GOLDEN / f"{name}-assistant.gguf"
    steps = json.loads(command("bench", "-m", drafter, "-p", 100, "-r", 1, "--json").stdout)
    assert [(one["test"], one["head"], one["ctx"]) for one in steps] == [
        ("draft_step", head, 100) for head in heads
    ]
    assert all(one["median_ms"] > 0 for one in steps)


def test_bench_draws_a_picture(tiny_target, tmp_path):
    for number, more in enumerate(((), ("-md", "none"))):
        picture = tmp_path / f"{number}.png"
        command("bench", "-m", tiny_target, "-p", 16, "-n", 8, "-r", 1, "--plot", picture, *more)
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 5000
