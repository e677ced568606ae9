"""What users of other runtimes ran into, row by row.

"Here" in the table is this file up to row 28 and test_field_cases_machine.py from row 29 on.

A tiny model stands beside its assistant, so every LLM below that does not say drafter=None runs
with the drafter.

row  fault                                  tests
  1  a centroid head of which pieces lack   here; every form of the file in test_hparams; drafts in
     test_pair_tiny
  2  a drafter opened alone                 here; test_goldens (its head), test_model (the sentence)
  3  a drafter as an ordinary model         test_pair_tiny (test_wrong_pairs), test_pair
  4  all layers are "nextn" layers          here; test_hparams
  5  weight types                           here (the drafter's); tests/cpu, test_real_models (Q4_K,
     Q6_K, Q8_0, Q4_1)
  6  a drafter beside the target            here; test_pair_tiny (test_finding)
  7  a drafter that silently does nothing   here
  9  where each operation runs              here
 10  flash_attn reaches both                here (on the CPU there is one kernel; text and plan)
 12  drafts and outputs before any run      here; test_context
 13  edited system message                  here
 14  stepping back at every length          test_rewind
 15  quantized KV close to f16              test_goldens, test_real_models, test_pair_tiny
     (test_quantized_cache_drafts_closely)
 16  q4_0 KV                                here; docs/performance.md
 17  the drafter's buffers and n_ctx        here
 18  one-row batches, the context's end     here; test_pair_tiny (test_the_end_of_the_context,
     test_small_outputs_shorten_the_draft)
 19  failed steps leave a usable context    test_context, test_llm, test_pair, test_pair_tiny
     (test_cancel_during_a_round)
 20  interleaved sessions                   here; test_pair_tiny
     (test_interleaved_pairs_are_as_alone)
 21  a sampler of many parts, a long text   here (500 tokens)
 22  drafts when sampling                   test_pair_statistics (the distribution); test_pair_tiny
     (the text)
 24  stop strings                           here; test_stops, test_llm; with drafts test_pair_tiny
     (test_stop_strings), test_pair
 25  one command that measures              here; test_pair_tiny (test_the_command_line)
 26  the drafter and the prompt             test_pair_statistics (the same plan and tokens, by
     count)
 27  drafts on and off by the call          here
 29  memory, files opened                   here
 30  device errors reach the caller         test_llm, test_context
 32  asked for a device that is not there   here (as 35)
 34  one build for all x86-64               here; qemu in test_c_abi, bits in test_equality
 35  what an installation offers            here; test_wheel
 36  rows do not know their neighbours      test_equality, test_pair_tiny
     (test_rounds_write_what_plain_decoding_writes)
 37  the end set                            here; test_tokenizer
 38  tool calls                             test_tool_calls
 39  memory given back, quiet exit          here; test_lifetime, test_llm_tiny, test_pair
 40  cancel                                 here; test_interrupt, test_context, test_llm,
     test_pair_tiny
 41  emoji and Hangul                       here; test_token_stream, test_tokenizer
 42  numbers in the file that wrap around   here through Python; all of them in test_gguf
 43  token arrays of wrong types            here through Python; all of them in test_gguf and
     test_tokenizer

8 and 11 need CUDA; 23 needs embeddings as input; 28 does not apply yet (nothing here plans the
memory of a GPU); 31 needs HTP; 33 needs the release.
"""

import json
import logging
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from field_cases import GOLDEN, PROMPT, Watch, child, text_of
from made_files import remade


@pytest.fixture(scope="session")
def tiny_assistant(pillion):
    from pillion.models import TINY_ASSISTANT

    if not TINY_ASSISTANT.exists():
        pytest.skip(f"{TINY_ASSISTANT} is missing")
    return TINY_ASSISTANT


def float_tensors(path):
    """{name: float32 values} of a file."""
    gguf = pytest.importorskip("gguf")
    return {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors
    }


@pytest.fixture(scope="module")
def expected(pillion, tiny_target):
    """What the tiny target writes without a drafter, greedily."""
    with pillion.LLM(tiny_target, n_ctx=128, drafter=None) as llm:
        return text_of(llm.complete(PROMPT, max_tokens=40, temperature=0))


def with_drafter(pillion, target, drafter, **options):
    """The result of the same with a drafter, drafts of four."""
    with pillion.LLM(target, n_ctx=128, drafter=drafter, **options) as llm:
        return llm.complete(PROMPT, max_tokens=40, temperature=0, draft=4)


# ---- 1: the centroid head ----

HEAD = "gemma4-assistant.masked_embedding."


@pytest.fixture(scope="module")
def heads(tiny_assistant, tmp_path_factory):
    """{name: file} of assistants whose centroid head comes in other forms, or in part."""
    gguf = pytest.importorskip("gguf")
    folder, fields = tmp_path_factory.mktemp("heads"), gguf.GGUFReader(tiny_assistant).fields
    order = np.array(fields[HEAD + "token_ordering"].contents(), np.int32)
    centroids = np.array(fields[HEAD + "centroids"].contents(), np.float32).reshape(-1, 128)
    both = {
        "masked_embd_centroids.weight": (centroids, "F32"),
        "masked_embd_ordering": (order, "I32"),
    }
    no_tables = {HEAD + "centroids": None, HEAD + "token_ordering": None}
    nothing = {**no_tables, HEAD + "num_centroids": None, HEAD + "centroid_top_k": None}
    odd = {**both, "masked_embd_centroids.weight": (centroids[:-1], "F32")}
    forms = {
        "whole": (no_tables, both),
        "none": (nothing, {}),
        "centroids only": (no_tables, {name: both[name] for name in list(both)[:1]}),
        "order only": (no_tables, {name: both[name] for name in list(both)[1:]}),
        "keys of nothing": (no_tables, {}),
        "no keys": (nothing, both),
        "odd": (nothing, odd),
    }
    return {
        name: remade(tiny_assistant, folder / f"{n}.gguf", *form)
        for n, (name, form) in enumerate(forms.items())
    }


@pytest.mark.parametrize(
    "name, head, missing",
    [
        ("whole", "centroid", ""),
        ("no keys", "centroid", ""),
        ("none", "dense", ""),
        ("centroids only", "dense", "masked_embd_ordering is missing"),
        ("order only", "dense", "masked_embd_centroids.weight is missing"),
        ("keys of nothing", "dense", "masked_embd_centroids.weight is missing"),
        ("odd", "dense", "127 centroids do not divide the vocabulary of 2048"),
    ],
)
def test_01_an_ordered_head_in_pieces(
    pillion, tiny_target, heads, expected, caplog, name, head, missing
):
    with caplog.at_level(logging.DEBUG, "pillion"):
        result = with_drafter(pillion, tiny_target, heads[name])
    assert text_of(result) == expected
    done = result["speculation"]
    assert (done["state"], done["kind"], done["head"]) == ("on", "mtp", head) and done[
        "acceptance"
    ] > 0.3
    warnings = [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ]
    assert any(missing in warning for warning in warnings) if missing else warnings == []
    if not missing:
        assert (
            with_drafter(pillion, tiny_target, heads[name], draft_strict=True)["choices"]
            == result["choices"]
        )
        return
    assert missing in done["reason"]
    with pytest.raises(pillion.PairingError, match=re.escape(missing)):
        pillion.LLM(tiny_target, drafter=heads[name], draft_strict=True)


def test_01_why_the_head_is_dense_is_said_before_the_first_step(pillion, tiny_target, heads):
    """As over the fake (test_pair, test_kinds_of_drafters)."""
    with pillion.LLM(tiny_target, n_ctx=64, drafter=heads["order only"]) as llm:
        assert (
            llm.speculation.head == "dense"
            and "masked_embd_centroids.weight is missing" in llm.speculation.reason
        )


def test_01_tensors_and_keys_are_the_same_head(pillion, tiny_target, tiny_assistant, heads):
    with pillion.Model.open(tiny_target) as model, model.context(64) as context:
        context.sync(model.tokenizer.encode(PROMPT))
        with (
            pillion.Pair(context, tiny_assistant) as one,
            pillion.Pair(context, heads["whole"]) as other,
        ):
            assert one.draft(5, 8) == other.draft(5, 8)
            assert all(
                np.array_equal(a, b)
                for step in range(8)
                for a, b in zip(one.draft_row(step), other.draft_row(step))
            )


# ---- 2, 3: the drafter ----


@pytest.mark.parametrize(
    "name", ["tiny-e2b-assistant", "tiny-dense-assistant", "tiny-moe-assistant"]
)
def test_02_03_a_drafter_alone(pillion, tiny_target, caplog, name):
    with caplog.at_level(logging.DEBUG, "pillion"):
        with pytest.raises(pillion.PairingError, match="needs a target"):
            pillion.LLM(GOLDEN / f"{name}.gguf")
        with pillion.LLM(tiny_target, n_ctx=64) as llm:
            assert text_of(llm.complete(PROMPT, max_tokens=4, temperature=0))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# ---- 4: how many of the layers predict ----


def test_04_all_layers_are_nextn_layers(pillion, tiny_target, tiny_assistant, expected, tmp_path):
    key = "gemma4-assistant.nextn_predict_layers"
    with pillion.Model.open(tiny_assistant) as model:
        n_layers = model.metadata["gemma4-assistant.block_count"]
        assert model.metadata[key] == n_layers
    for n in (n_layers - 1, n_layers):
        assert (
            text_of(
                with_drafter(
                    pillion, tiny_target, remade(tiny_assistant, tmp_path / f"{n}.gguf", {key: n})
                )
            )
            == expected
        )
    for n in (n_layers + 1, 2**32 - 1):
        bad = remade(tiny_assistant, tmp_path / f"{n}.gguf", {key: n})
        for use in (lambda: pillion.Model.open(bad), lambda: pillion.LLM(tiny_target, drafter=bad)):
            with pytest.raises(
                pillion.ModelFileError, match=f"nextn_predict_layers.*{n}|{n}.*nextn_predict_layers"
            ):
                use()


# ---- 5: weight types ----

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "mixed"]


@pytest.mark.parametrize("kind", TYPES)
def test_05_any_weight_type_of_the_drafter(
    pillion, tiny_target, tiny_assistant, expected, tmp_path, kind
):
    matrices = {
        name: values for name, values in float_tensors(tiny_assistant).items() if values.ndim == 2
    }
    kinds = TYPES[:-1] if kind == "mixed" else [kind]
    tensors = {
        name: (values, kinds[n % len(kinds)]) for n, (name, values) in enumerate(matrices.items())
    }
    assert len(tensors) > 20
    result = with_drafter(
        pillion, tiny_target, remade(tiny_assistant, tmp_path / "drafter.gguf", tensors=tensors)
    )
    assert text_of(result) == expected
    assert result["speculation"]["kind"] == "mtp" and result["speculation"]["acceptance"] > 0.3


def test_05_a_type_that_is_not_known(pillion, tiny_target, tiny_assistant, tmp_path):
    tensors = {"blk.1.ffn_up.weight": (np.ones((256, 128), np.int8), "I8")}
    path = remade(tiny_assistant, tmp_path / "drafter.gguf", tensors=tensors)
    with pytest.raises(pillion.ModelFileError, match=r"blk\.1\.ffn_up\.weight.*I8"):
        pillion.LLM(tiny_target, drafter=path)


# ---- 6: the drafter beside the target ----


@pytest.fixture
def folder(tiny_target, tmp_path):
    shutil.copy(tiny_target, tmp_path / "model.gguf")
    return tmp_path


def test_06_the_drafter_beside_the_target(pillion, folder, tiny_assistant, expected):
    def result(**options):
        # "auto" may pause it on a busy machine
        with pillion.LLM(folder / "model.gguf", n_ctx=128, draft=3, **options) as llm:
            return llm.complete(PROMPT, max_tokens=40, temperature=0)

    alone = result()
    assert alone["speculation"]["state"] == "off" and "model.gguf" in alone["speculation"]["reason"]
    shutil.copy(tiny_assistant, folder / "mtp-model.gguf")
    found = result()
    assert (found["speculation"]["kind"], found["speculation"]["state"]) == ("mtp", "on") and found[
        "speculation"
    ]["accepted"] > 0
    disabled = result(drafter=None)
    assert (
        disabled["speculation"]["state"],
        disabled["speculation"]["kind"],
        disabled["speculation"]["drafted"],
    ) == (
        "off",
        "",
        0,
    )
    assert {text_of(one) for one in (alone, found, disabled)} == {expected}
    shutil.copy(tiny_assistant, folder / "other.gguf")
    with pytest.raises(pillion.PairingError, match=r"mtp-model\.gguf.*other\.gguf"):
        pillion.find_drafter(folder / "model.gguf")
    several = result()
    assert several["speculation"]["state"] == "off" and text_of(several) == expected
    assert re.search(r"mtp-model\.gguf.*other\.gguf", several["speculation"]["reason"])
    assert text_of(result(drafter=folder / "other.gguf")) == expected


# ---- 7: drafts that silently do not happen ----


def test_07_a_drafter_that_does_not_fit_says_so(pillion, folder, tiny_assistant, expected, caplog):
    other_window = {"gemma4-assistant.attention.sliding_window": 32}
    path = remade(tiny_assistant, folder / "mtp-model.gguf", other_window)
    with (
        caplog.at_level(logging.WARNING, "pillion"),
        pillion.LLM(folder / "model.gguf", n_ctx=128) as llm,
    ):
        result = llm.complete(PROMPT, max_tokens=40, temperature=0)
        with pytest.raises(pillion.UsageError, match="window"):
            llm.complete(PROMPT, max_tokens=4, draft=4)
    assert text_of(result) == expected
    for reason in (result["speculation"]["reason"], caplog.text):
        assert "window" in reason and "32" in reason and "64" in reason
    assert result["speculation"]["state"] == "off"
    with pytest.raises(pillion.PairingError, match="window"):  # named: it must work
        pillion.LLM(folder / "model.gguf", drafter=path)


def test_07_where_it_cannot_run(pillion, tiny_target, tiny_assistant, expected):
    for device in ("cuda", "htp"):
        if not {backend.name: backend for backend in pillion.backends()}[device].available:
            with pytest.raises(pillion.BackendError, match=device):
                pillion.LLM(tiny_target, drafter=tiny_assistant, draft_device=device)
    for options, draft, reason in (
        ({"n_batch": 1}, 4, "one output row"),
        ({}, 0, "draft 0|n_draft 0"),
        ({"drafter": None}, None, "asked"),
    ):
        with pillion.LLM(tiny_target, n_ctx=128, **options) as llm:
            result = llm.complete(PROMPT, max_tokens=40, temperature=0, draft=draft)
            done = result["speculation"]
            assert text_of(result) == expected
            assert (done["state"], done["drafted"]) == ("off", 0) and re.search(
                reason, done["reason"]
            ), done
            if draft is None:
                with pytest.raises(pillion.UsageError, match="no drafter"):
                    llm.complete(PROMPT, draft=4)


# ---- 9: where it runs ----


def test_09_the_plan_says_where_each_operation_runs(pillion, tiny_target):
    with pillion.Model.open(tiny_target) as model, model.context(64) as context:
        plan = context.describe()["plan"]
    assert {step["backend"] for step in plan} == {"cpu"}
    assert {"matmul", "attend"} <= {step["op"] for step in plan}


# ---- 10: flash attention ----


def test_10_flash_attn_with_a_drafter(pillion, tiny_target, expected):
    """The CPU has one attention kernel, whatever is asked for (pillion.h); so the plans are one,
    and so are the drafts."""
    found = []
    for flash_attn in ("auto", "on", "off", True, False):
        with pillion.LLM(tiny_target, n_ctx=128, flash_attn=flash_attn) as llm:
            result = llm.complete(PROMPT, max_tokens=40, temperature=0, draft=4)
            found.append(
                (
                    result["speculation"]["drafted"],
                    result["speculation"]["accepted"],
                    llm.context.describe()["plan"],
                )
            )
            assert text_of(result) == expected and result["speculation"]["kind"] == "mtp"
    assert found[0][0] > 0 and all(one == found[0] for one in found)


# ---- 12: before anything ran ----


def test_12_drafts_before_any_run(pillion, tiny_target, tiny_assistant):
    with (
        pillion.Model.open(tiny_target) as model,
        model.context(64) as context,
        pillion.Pair(context, tiny_assistant) as pair,
    ):
        sampler = pillion.Sampler(pillion.SamplingParams(temperature=0))

        def nothing_yet():
            assert pair.draft(5, 3) == []
            for n_draft in (0, 3, "auto"):
                with pytest.raises(pillion.UsageError, match="run a prompt"):
                    pair.step(sampler, n_draft)

        def one_after_a_prompt():
            pair.sync([2, 5, 6, 7])
            drafts = pair.draft(9, 8)
            rows = [pair.draft_row(step) for step in range(8)]
            assert all(
                np.isfinite(hidden).all()
                and np.isfinite(logits.max())
                and not np.isnan(logits).any()
                for logits, hidden in rows
            )
            return drafts, pair.step(sampler, 4).tokens, pair.step(sampler, 4).tokens

        nothing_yet()
        first = one_after_a_prompt()  # the first drafts after loading
        context.clear()
        nothing_yet()
        assert one_after_a_prompt() == first
        context.clear()
        context.prefill([2, 5], outputs=0)
        with pytest.raises(pillion.UsageError, match="no hidden row"):
            pair.draft(5, 3)
        assert one_after_a_prompt() == first
        assert pair.sync([2, 5]) == 1 and len(pair.draft(6, 8)) == 8


# ---- 13: an edited system message ----


def test_13_an_edited_system_message(pillion, tiny_target):
    def answers(llm, system, fresh):
        messages, said = [{"role": "system", "content": system}], []
        for question in ("Read Psalms 23.", "And what is next?", "Who said that?"):
            messages.append({"role": "user", "content": question})
            if fresh:
                llm.reset()
            said.append(
                llm.chat(messages, temperature=0, max_tokens=24)["choices"][0]["message"]["content"]
            )
            messages.append({"role": "assistant", "content": said[-1]})
        return said

    with (
        pillion.LLM(tiny_target, n_ctx=512, kv_type="q8_0") as llm,
        pillion.LLM(tiny_target, n_ctx=512, kv_type="q8_0") as other,
    ):
        for system in ("You read from the old book.", "You read from the new book."):
            assert answers(llm, system, fresh=False) == answers(other, system, fresh=True)


# ---- 16: KV types ----


def test_16_a_kv_type_that_would_harm(pillion, tiny_target):
    with pillion.Model.open(tiny_target) as model:
        for kv_type in ("q4_0", "q4", "f32", ""):
            with pytest.raises(pillion.UsageError, match="kv_type is .*'f16'.*'q8_0'"):
                model.context(64, kv_type=kv_type)
        model.context(64, kv_type="q8_0").close()
    text = (GOLDEN.parent.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "q4_0" in text and "q8_0" in text and "kv_type" in text


# ---- 17: buffers ----

PAIRS = """
import json, sys
import pillion

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

target, drafter = (pillion.Model.open(path, n_threads=1) for path in sys.argv[1:3])
sampler = pillion.Sampler(pillion.SamplingParams(temperature=0))
contexts = [target.context(int(sys.argv[3]), n_threads=1) for _ in range(int(sys.argv[4]))]
for context in contexts:
    context.prefill([2, 5, 6, 7])
before = resident()
pairs = [pillion.Pair(context, drafter) for context in contexts]
texts = []
for pair in pairs:
    pair.draft(5, 8)
    rounds = pair.generate([2, 5, 6, 7], max_tokens=12, n_draft=8)
    texts.append([token for one in rounds for token in one.tokens])
print(json.dumps([resident() - before, texts]))
"""


def test_17_the_drafter_s_buffers_do_not_grow_with_the_context(
    pillion, tiny_target, tiny_assistant
):
    found = {
        (n_ctx, n): child(PAIRS, tiny_target, tiny_assistant, n_ctx, n)
        for n_ctx, n in ((512, 1), (65536, 1), (512, 4), (16384, 4))
    }
    texts = [text for _, of_one in found.values() for text in of_one]
    assert len(texts) == 10 and all(text == texts[0] for text in texts) and len(texts[0]) == 12
    size = {key: grown for key, (grown, _) in found.items()}
    assert abs(size[65536, 1] - size[512, 1]) < 1 << 20, size
    assert abs(size[16384, 4] - size[512, 4]) < 1 << 20, size


# ---- 18: small batches, the end of the context ----


@pytest.mark.parametrize("n_batch", [1, 2])
def test_18_a_batch_of_one_and_the_end_of_the_context(pillion, tiny_target, n_batch):
    with pillion.LLM(tiny_target, n_ctx=256) as llm:
        n_prompt = len(llm.tokenize(PROMPT))
        expected = llm.generate(PROMPT, max_tokens=3, temperature=0).run().tokens
    with pillion.LLM(tiny_target, n_ctx=n_prompt + 3, n_batch=n_batch) as llm:
        generation = llm.generate(PROMPT, temperature=0).run()
        assert (generation.tokens, generation.finish_reason) == (expected, "length")


@pytest.mark.parametrize("n_batch", [1, 2, 8])
def test_18_the_same_with_drafts(pillion, tiny_target, n_batch):
    with pillion.LLM(tiny_target, n_ctx=256, drafter=None) as llm:
        n_prompt = len(llm.tokenize(PROMPT))
        texts = {
            n: llm.generate(PROMPT, max_tokens=n, temperature=0).run().tokens for n in (1, 2, 3, 12)
        }
    for n, expected in texts.items():
        with pillion.LLM(tiny_target, n_ctx=n_prompt + n, n_batch=n_batch) as llm:
            for draft in (8, 1, "auto"):
                generation = llm.generate(PROMPT, temperature=0, draft=draft).run()
                assert (generation.tokens, generation.finish_reason) == (expected, "length")
            assert llm.pair.stats.kind == "mtp"
            assert (llm.pair.stats.drafted > 0) == (n_batch > 1 and n > 2), (n, llm.pair.stats)


# ---- 20: sessions side by side ----


@pytest.mark.parametrize("n_sessions", [2, 4])
def test_20_interleaved_sessions(pillion, tiny_target, n_sessions):
    prompts = [
        PROMPT,
        "Psalms 23",
        "The book of the generation of Jesus Christ, the son of David",
        "And",
    ][:n_sessions]
    lengths = [40, 7, 25, 33][:n_sessions]

    def session(model, prompt, n):
        with model.context(256) as context:
            context.prefill(model.tokenizer.encode(prompt))
            for _ in range(n):
                token = int(context.logits().argmax())
                yield token
                context.decode(token)

    with pillion.Model.open(tiny_target) as model:
        alone = [list(session(model, *what)) for what in zip(prompts, lengths)]
        running = [session(model, *what) for what in zip(prompts, lengths)]
        together = [[] for _ in prompts]
        while any(running):
            for i, one in enumerate(running):
                token = next(one, None) if one else None
                if token is None:
                    running[i] = None
                else:
                    together[i].append(token)
    assert together == alone


@pytest.mark.parametrize("n_sessions", [1, 2, 4])
def test_20_interleaved_sessions_with_drafts(pillion, tiny_target, tiny_assistant, n_sessions):
    """Rounds in turns, on one target and one drafter: ids and accepted counts are those of each
    alone."""
    prompts = [
        PROMPT,
        "Psalms 23",
        "The book of the generation of Jesus Christ, the son of David",
        "And",
    ][:n_sessions]
    lengths, drafts = [60, 7, 45, 33], [3, 8, 1, 5]

    def session(target, drafter, n):
        with target.context(256) as context, pillion.Pair(context, drafter) as pair:
            for one in pair.generate(
                prompts[n], max_tokens=lengths[n], n_draft=drafts[n], end_tokens=[]
            ):
                yield one.tokens, one.drafted, one.accepted

    with pillion.Model.open(tiny_target) as target, pillion.Model.open(tiny_assistant) as drafter:
        alone = [list(session(target, drafter, n)) for n in range(n_sessions)]
        running = {n: session(target, drafter, n) for n in range(n_sessions)}
        together = [[] for _ in prompts]
        while running:
            for n, one in list(running.items()):
                found = next(one, None)
                if found is None:
                    del running[n]
                else:
                    together[n].append(found)
    assert together == alone
    assert all(
        sum(len(tokens) for tokens, _, _ in one) == length for one, length in zip(alone, lengths)
    )
    assert sum(accepted for one in alone for _, _, accepted in one) > 0


# ---- 21: every part of the sampler, a long text ----


def test_21_tokens_are_always_candidates(pillion, tiny_target, tiny_assistant):
    """What a round returns is among the candidates that its own row leaves, and is what the target
    alone writes."""
    settings = dict(
        temperature=1.0,
        top_k=64,
        top_p=0.95,
        min_p=0.0,
        repeat_penalty=1.1,
        frequency_penalty=0.1,
        presence_penalty=0.2,
    )
    params = pillion.SamplingParams(seed=21, penalty_last_n=64, **settings)
    prompt, n_max, text = [2, 5, 6, 7], 500, []
    with pillion.Model.open(tiny_target) as model:
        with (
            model.context(600) as context,
            pillion.Pair(context, tiny_assistant) as pair,
            pillion.Sampler(params) as sampler,
        ):
            pair.sync(prompt)
            while len(text) < n_max:
                one = pair.step(sampler, 3, n_max - len(text))
                for row, token in enumerate(one.tokens):
                    logits = context.logits(row)
                    ids, counts = np.unique(text[-64:], return_counts=True)
                    ids = ids.astype(int)
                    logits[ids] = np.where(
                        logits[ids] > 0, logits[ids] / 1.1, logits[ids] * 1.1
                    ) - (0.1 * counts + 0.2)
                    better = logits[logits > logits[token] + 1e-4]
                    top = np.sort(logits)[::-1][:64].astype(np.float64)
                    weights = np.exp(top - top[0])
                    assert len(better) < 64
                    assert (
                        np.exp(better.astype(np.float64) - top[0]).sum()
                        < 0.95 * weights.sum() + 1e-3
                    )
                    text.append(token)
            assert pair.stats.drafted > n_max // 2 and 0 < pair.stats.accepted < pair.stats.drafted
        with model.context(600) as context, pillion.Sampler(params) as sampler:
            context.sync(prompt)
            for token in text:
                assert sampler.sample(context) == token
                sampler.accept(token)
                context.decode(token)


# ---- 24: stop strings ----


@pytest.mark.parametrize("draft", [1, 3, 8])
def test_24_stop_strings_with_drafts(pillion, tiny_target, draft):
    """At a draft's border, inside an accepted block, over two tokens; and the next turn."""
    with (
        pillion.LLM(tiny_target, n_ctx=512, draft=draft) as llm,
        pillion.LLM(tiny_target, n_ctx=512, drafter=None) as plain,
    ):
        options = dict(temperature=0, max_tokens=40)
        generation = plain.generate(PROMPT, temperature=0, max_tokens=24).run()
        whole, ends = generation.text, []
        for token in generation.tokens:
            ends.append((ends[-1] if ends else 0) + len(plain.tokenizer.decode([token])))
        for at in ends[:16] + [end - 2 for end in ends[1:16]]:
            stop = whole[at : at + 4]
            said, expected = (one.complete(PROMPT, stop=stop, **options) for one in (llm, plain))
            assert (
                said["choices"] == expected["choices"]
                and said["choices"][0]["finish_reason"] == "stop"
            )
            assert stop not in text_of(said)
            turn = PROMPT + text_of(said) + " and then"
            after, expected = (
                one.complete(turn, temperature=0, max_tokens=8) for one in (llm, plain)
            )
            assert after["choices"] == expected["choices"] and after["timings"]["cache_n"] > 0
        assert llm.pair.stats.accepted > 0


@pytest.mark.parametrize("stream", [False, True])
def test_24_stop_strings_cut_anywhere(pillion, tiny_target, stream):
    with pillion.LLM(tiny_target, n_ctx=512) as llm, pillion.LLM(tiny_target, n_ctx=512) as fresh:
        generation = llm.generate(PROMPT, temperature=0, max_tokens=24).run()
        whole, pieces = (
            generation.text,
            [llm.tokenizer.decode([token]) for token in generation.tokens],
        )
        borders = {sum(map(len, pieces[:n])) for n in range(1, len(pieces))}
        places = sorted(borders)[2:10:2] + [border - 2 for border in sorted(borders)[3:11:2]]
        for at in places:  # the stop string begins at a token, and runs over a border
            stop = whole[at : at + 4]
            result = llm.complete(PROMPT, temperature=0, max_tokens=40, stop=stop, stream=stream)
            chunks = list(result) if stream else [result]
            said = "".join(map(text_of, chunks))
            assert (said, chunks[-1]["choices"][0]["finish_reason"]) == (
                whole[: whole.index(stop)],
                "stop",
            )
            turn = PROMPT + said + " and then"
            fresh.reset()
            after, expected = (
                one.complete(turn, temperature=0, max_tokens=8) for one in (llm, fresh)
            )
            assert text_of(after) == text_of(expected) and after["timings"]["cache_n"] > 0


# ---- 25: one command that measures ----


def test_25_bench(pillion, tiny_target, tiny_assistant):
    call = [
        sys.executable,
        "-m",
        "pillion",
        "bench",
        "-m",
        tiny_target,
        "-md",
        tiny_assistant,
        "-p",
        48,
        "-n",
        24,
        "-r",
        1,
    ]
    result = subprocess.run(
        [*map(str, call), "--spec-draft-n-max", "4", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    found = {}
    for one in json.loads(result.stdout):
        found.setdefault(one["test"], []).append(one)
    assert set(found) == {"prefill", "decode", "decode_draft", "verify", "draft_step", "break_even"}
    for name in ("prefill", "decode", "decode_draft", "verify", "draft_step"):
        assert all(
            one["median_ms"] > 0 and one["min_ms"] > 0 and one["tokens_per_second"] > 0
            for one in found[name]
        )
    (drafted,) = found["decode_draft"]
    assert drafted["texts_equal"] is True and (
        drafted["kind"],
        drafted["head"],
        drafted["n_draft"],
    ) == ("mtp", "centroid", 4)
    assert (
        0 <= drafted["acceptance"] <= 1
        and drafted["mean_tokens_per_round"] >= 1
        and drafted["speedup"] > 0
    )
    assert 1 <= len(drafted["acceptance_by_position"]) <= 4
    assert [one["rows"] for one in found["verify"]] == list(range(1, 10))
    assert [one["n_draft"] for one in found["break_even"]] == list(range(1, 9))
    assert [(one["head"], one["rows"]) for one in found["draft_step"]] == [
        ("centroid", 1),
        ("dense", 1),
    ]


# ---- 27: drafts by the call ----


def test_27_drafts_on_and_off_by_the_call(pillion, folder, tiny_assistant, expected, monkeypatch):
    shutil.copy(tiny_assistant, folder / "mtp-model.gguf")
    opened = []
    real = pillion.Model.open.__func__
    monkeypatch.setattr(
        pillion.Model,
        "open",
        classmethod(lambda cls, *a, **o: opened.append(a) or real(cls, *a, **o)),
    )
    with Watch(folder) as loading, pillion.LLM(folder / "model.gguf", n_ctx=128) as llm:
        n_opened = len(opened)
        with Watch(folder) as watch:
            for draft in (0, 4) * 5:
                result = llm.complete(PROMPT, max_tokens=40, temperature=0, draft=draft)
                assert text_of(result) == expected
                assert (result["speculation"]["drafted"] > 0) == (draft > 0)
                assert result["speculation"]["state"] == ("on" if draft else "off")
        assert watch.names - {""} == set() and len(opened) == n_opened
    assert loading.names >= {"model.gguf", "mtp-model.gguf"}  # it does see what is opened
