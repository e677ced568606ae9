"""Whole models on the Hexagon backend, its DSP played by a child process (device "htp:sim"): the
tokens of the CPU, rows that keep their bits, pairs with the drafter on the CPU that reads the DSP's
cache in place, and what happens when the line breaks. With a phone the same tests run there:
PILLION_TEST_HTP=htp."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from device_models import (
    BEFORE,
    N,
    back_after_a_long_answer,
    constrained_rounds,
    decode,
    greedy,
    ids_of,
    needs,
    nmse,
    open_model,
    rounds,
    rows_in_pieces,
)
from htp_support import (
    DIE,
    FAIL,
    HERE,
    SLEEP,
    child,
    clear_faults,
    inject,
    own_simulator,
    simulators,
)
from goldens import GOLDEN, SHAPES, model_path
from patience import PATIENCE, over_and_over, until, within

DEVICE = os.environ.get("PILLION_TEST_HTP", "htp:sim")
PAIRS = ["tiny-e2b", "tiny-e4b-dims", "tiny-dense", "tiny-moe"]
# Products of int8 inputs are exact on both sides, the cache is the CPU's; what differs is the order
# of sums.
NMSE = 1e-5
only_sim = pytest.mark.skipif(
    DEVICE != "htp:sim", reason="faults can be asked of the simulator only"
)


@pytest.fixture(scope="module", autouse=True)
def module(pillion):
    needs(pillion, DEVICE)


def open_on(pillion, name, device=DEVICE):
    return open_model(pillion, name, device)


@pytest.fixture
def tiny(pillion):
    with open_on(pillion, "tiny-e2b") as model:
        yield model


@pytest.fixture(autouse=True)
def no_faults_are_left():
    yield
    clear_faults()


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("name", SHAPES)
def test_tokens_of_the_cpu(pillion, name, kv_type):
    with open_on(pillion, name, "cpu") as cpu, open_on(pillion, name) as htp:
        want, reference = decode(pillion, cpu, ids_of(name), 24, kv_type=kv_type)
        got, logits = decode(pillion, htp, ids_of(name), 24, kv_type=kv_type)
        with htp.context(64) as context:
            facts = context.describe()
        assert facts["backend"] == "htp" and {step["backend"] for step in facts["plan"]} == {"htp"}
        assert "attend_f16" in {step["kernel"] for step in facts["plan"]}
    assert got == want
    # A cache of 8 bits rounds a key to another code where the two differ in the last place.
    assert nmse(logits, reference) < (NMSE if kv_type == "f16" else 1e-3)


@pytest.mark.parametrize("name", ["tiny-e2b", "tiny-moe"])
def test_long_prompts_and_small_batches(pillion, name):
    ids = (ids_of(name) * 8)[:300]
    with open_on(pillion, name, "cpu") as cpu, open_on(pillion, name) as htp:
        with cpu.context(n_ctx=384) as context:
            context.prefill(ids)
            want = context.logits()
        for n_batch in (512, 40):
            with htp.context(n_ctx=384, n_batch=n_batch) as context:
                context.prefill(ids)
                assert nmse(context.logits(), want) < NMSE, n_batch


# ---- the equality contract, 15.2 ----


@pytest.mark.parametrize(
    "name, kv_type", [*((name, "f16") for name in SHAPES), ("tiny-e2b", "q8_0")]
)
def test_rows_do_not_know_their_neighbours(pillion, name, kv_type):
    """A token alone, or among the rows of a verification: the same bits."""
    ids = (ids_of(name) * 8)[: BEFORE + N]
    with open_on(pillion, name) as model:
        alone = rows_in_pieces(model, ids, [1], kv_type)
        for rows in (2, 9, 16):
            ours = rows_in_pieces(model, ids, [rows], kv_type)
            assert [i for i in range(N) if ours[i] != alone[i]] == [], f"{rows} rows"


# ---- pairs ----


@pytest.mark.parametrize("drafter_on", ["cpu", DEVICE])
@pytest.mark.parametrize(
    "options", [{}, {"dense_head": True}, {"kv_type": "q8_0"}, {"p_min": 0.01}], ids=str
)
@pytest.mark.parametrize("name", PAIRS)
def test_pairs_write_the_cpu_s_text(pillion, name, options, drafter_on):
    """Target on the DSP, drafter on the CPU or there too: the text of the CPU alone, and the drafts
    of a pair on the CPU."""
    ids, n, options = ids_of(name, "short"), 30, dict(options)
    kv_type = options.pop("kv_type", "f16")
    assistant = GOLDEN / f"{name}-assistant.gguf"
    with open_on(pillion, name, "cpu") as cpu, open_on(pillion, assistant, "cpu") as drafter:
        want, _ = decode(pillion, cpu, ids, n, kv_type=kv_type)
        with pillion.Pair(cpu.context(128, kv_type=kv_type), drafter, **options) as pair:
            assert rounds(pillion, pair, ids, n, 3) == want
            drafted, accepted = pair.stats.drafted, pair.stats.accepted
    assert drafted > 0
    with open_on(pillion, name) as target, open_on(pillion, assistant, drafter_on) as drafter:
        for k in (3, 8):
            with pillion.Pair(target.context(128, kv_type=kv_type), drafter, **options) as pair:
                assert rounds(pillion, pair, ids, n, k) == want, k
                if k == 3:
                    assert (
                        abs(pair.stats.drafted - drafted) <= 3
                        and abs(pair.stats.accepted - accepted) <= 3
                    )


@pytest.mark.parametrize("drafter_on", ["cpu", DEVICE])
def test_constrained_rounds(pillion, drafter_on):
    with open_on(pillion, PAIRS[0]) as target:
        with open_on(pillion, GOLDEN / f"{PAIRS[0]}-assistant.gguf", drafter_on) as drafter:
            constrained_rounds(pillion, target, drafter, ids_of(PAIRS[0], "short"))


@pytest.mark.parametrize("name", PAIRS)
def test_a_drafter_on_the_cpu_needs_no_copy(pillion, name):
    """The cache has the CPU's layout and lies in memory that both see."""
    with (
        open_on(pillion, name) as target,
        open_on(pillion, GOLDEN / f"{name}-assistant.gguf", "cpu") as drafter,
    ):
        with target.context(64) as context:
            before = context.describe()["kv_bytes"]
            with pillion.Pair(context, drafter):
                assert context.describe()["kv_bytes"] == before


def test_a_drafter_on_the_dsp_for_a_target_on_the_cpu(pillion):
    """It gets copies of the two caches in the DSP's memory."""
    name = "tiny-e2b"
    ids = ids_of(name, "short")
    with (
        open_on(pillion, name, "cpu") as target,
        open_on(pillion, GOLDEN / f"{name}-assistant.gguf") as drafter,
    ):
        want, _ = decode(pillion, target, ids, 24)
        with pillion.Pair(target.context(128), drafter) as pair:
            assert rounds(pillion, pair, ids, 24, 3) == want
            assert pair.stats.drafted > 0


@pytest.mark.parametrize("name, layers", [("tiny-e2b", 1), ("tiny-e2b", 3), ("tiny-moe", 1)])
def test_layers_on_both(pillion, name, layers):
    """The first layers on the CPU, the last on the DSP: what crosses lies in memory that both
    see."""
    with open_on(pillion, name, "cpu") as cpu:
        want, _ = decode(pillion, cpu, ids_of(name), 16)
    with pillion.Model.open(model_path(name), device=DEVICE, n_gpu_layers=layers) as model:
        with model.context(64) as context:
            assert {step["backend"] for step in context.describe()["plan"]} == {"cpu", "htp"}
        assert decode(pillion, model, ids_of(name), 16)[0] == want


def test_contexts_side_by_side(pillion, tiny):
    """Four threads, a context each, on one session."""
    prompts = [ids_of("tiny-e2b")[n : n + 20] for n in range(4)]
    want = [decode(pillion, tiny, prompt, 12)[0] for prompt in prompts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda prompt: decode(pillion, tiny, prompt, 12)[0], prompts)) == want


# ---- the line breaks ----


@only_sim
def test_an_error_on_an_op(pillion, tiny):
    """One typed error that names the op, nothing lost: the context goes on where it was, and writes
    what it would have."""
    ids = ids_of("tiny-e2b")
    want, _ = decode(pillion, tiny, ids, 12)
    with tiny.context(128) as context:
        sampler, tokens = greedy(pillion), []
        context.sync(ids)
        for i in range(12):
            tokens.append(sampler.sample(context))
            sampler.accept(tokens[-1])
            if i in (2, 7):
                length = len(context)
                inject(FAIL, op=5 * i)
                failed = rf"^.*op \w+ of layer -?\d+ .node {5 * i}. was made to fail"
                with pytest.raises(pillion.DeviceLostError, match=f"{failed} on device htp:sim"):
                    context.decode(tokens[-1])
                assert len(context) == length
            context.decode(tokens[-1])
    assert tokens == want


@only_sim
def test_a_lost_child(pillion, tiny):
    """It ends in the middle of a run: one error with its status, and the next run has a new child
    with all it needs."""
    ids = ids_of("tiny-e2b")
    want, _ = decode(pillion, tiny, ids, 12)
    with tiny.context(128) as context, tiny.context(64) as other:
        other.sync(ids[:5])
        expected = other.logits()
        sampler, tokens = greedy(pillion), []
        context.sync(ids)
        for i in range(12):
            tokens.append(sampler.sample(context))
            sampler.accept(tokens[-1])
            if i in (1, 6):
                length = len(context)
                before = set(simulators())
                if i == 1:
                    inject(DIE, op=17)
                    sentence = (
                        "device htp:sim: the simulator's process is gone: ended with status 86"
                    )
                else:
                    os.kill(own_simulator(lambda: decode(pillion, tiny, ids, 1)), signal.SIGKILL)
                    sentence = "device htp:sim: the simulator's process is gone: ended by Killed"
                with pytest.raises(pillion.DeviceLostError, match=sentence):
                    context.decode(tokens[-1])
                assert len(context) == length
            context.decode(tokens[-1])
            if i in (1, 6):
                assert len(set(simulators()) - before) == 1
        assert tokens == want
        other.sync(ids[:4])
        other.decode(ids[4])
        assert np.array_equal(other.logits(), expected)


@only_sim
def test_after_a_loss_the_cpu_takes_over(pillion, tiny):
    ids = ids_of("tiny-e2b")
    want, _ = decode(pillion, tiny, ids, 12)
    with (
        tiny.context(128) as context,
        open_on(pillion, "tiny-e2b", "cpu") as cpu,
        cpu.context(128) as rest,
    ):
        sampler, tokens = greedy(pillion), []
        context.sync(ids)
        on = context
        for i in range(12):
            tokens.append(sampler.sample(on))
            sampler.accept(tokens[-1])
            if i == 5:
                inject(DIE)
            try:
                on.decode(tokens[-1])
            except pillion.DeviceLostError:
                rest.sync([*ids, *tokens])
                on = rest
        assert on is rest
    assert tokens == want


@only_sim
def test_a_slow_child_is_waited_for(pillion, tiny):
    ids = ids_of("tiny-e2b")
    with tiny.context(64) as context:
        context.sync(ids[:10])
        before = len(context)
        inject(SLEEP, op=3, ms=400)
        begin = time.monotonic()
        context.decode(ids[10])
        assert time.monotonic() - begin > 0.35 and len(context) == before + 1


@only_sim
def test_a_child_that_does_not_answer_is_given_up(pillion, tiny, monkeypatch):
    ids = ids_of("tiny-e2b")
    with tiny.context(64) as context:
        context.sync(ids[:10])
        want = context.logits()
        monkeypatch.setenv("PILLION_HTP_TIMEOUT", "0.3")
        inject(SLEEP, op=3, ms=4_000 * PATIENCE)
        with (
            within(PATIENCE),
            pytest.raises(pillion.DeviceLostError, match="did not answer within 300 ms"),
        ):
            context.decode(ids[10])
        assert len(context) == 10
        monkeypatch.delenv("PILLION_HTP_TIMEOUT")
        context.sync(ids[:10])
        assert np.array_equal(context.logits(), want)


@only_sim
def test_a_pair_survives_a_loss(pillion):
    name = "tiny-e2b"
    ids = ids_of(name, "short")
    with (
        open_on(pillion, name) as target,
        open_on(pillion, GOLDEN / f"{name}-assistant.gguf", "cpu") as drafter,
    ):
        want, _ = decode(pillion, target, ids, 24)
        with pillion.Pair(target.context(128), drafter) as pair:
            sampler, tokens, errors = greedy(pillion), [], 0
            pair.sync(ids)
            while len(tokens) < 24:
                if len(tokens) > 5 and errors == 0:
                    inject(DIE, op=11)
                try:
                    tokens += pair.step(sampler, 3, 24 - len(tokens)).tokens
                except pillion.DeviceLostError:
                    errors += 1
        assert errors == 1 and tokens == want


@only_sim
def test_cancelling(pillion, tiny):
    ids = (ids_of("tiny-e2b") * 8)[:40]
    with tiny.context(64) as context:
        inject(SLEEP, op=2, ms=300)
        with over_and_over(context.cancel), pytest.raises(pillion.Cancelled):
            context.prefill(ids)
        assert len(context) == 0
        context.prefill(ids)
        assert len(context) == 40


@only_sim
def test_the_child_leaves_with_its_parent(tmp_path):
    """A host that is killed leaves no process behind."""
    code = (
        "import sys, os, signal, pillion; m = pillion.Model.open(sys.argv[1], device='htp:sim')\n"
        "sys.path.insert(0, sys.argv[2]); import htp_support; print(htp_support.simulators()[0], "
        "flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, model_path("tiny-e2b"), HERE],
        capture_output=True,
        text=True,
    )
    pid = int(done.stdout)
    until(
        lambda: (
            not os.path.exists(f"/proc/{pid}")
            or open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "Z"
        )
    )


# ---- what is refused, and how ----


def test_activations_are_the_cpu_s(pillion, tiny):
    with pytest.raises(pillion.PillionError, match="activations are collected on the cpu"):
        tiny.context(n_ctx=64, collect_activations=True)


@only_sim
def test_programs_that_are_no_simulator(tmp_path):
    work = {"target": model_path("tiny-e2b"), "device": "htp:sim", "prompt": [1, 2], "n": 1}
    report = child(work, PILLION_HTP_SIM=tmp_path / "nothing")
    assert report["failed"] == [
        "NoBackendError",
        f'device "htp:sim": its simulator {tmp_path / "nothing"} is not there or can\'t be run '
        f"(PILLION_HTP_SIM)",
    ]
    talker = tmp_path / "pillion_htp_sim"
    talker.write_text("#!/bin/sh\necho first >&2\necho 'no such thing' >&2\nexit 3\n")
    talker.chmod(0o755)
    report = child(work, PILLION_HTP_SIM=talker)
    assert report["failed"] == [
        "NoBackendError",
        f'device "htp:sim": {talker} ended before it served: ended with status 3 (no such thing)',
    ]


@only_sim
def test_pillion_run_on_the_dsp(pillion, libpillion):
    """As on a phone: the program on the C ABI, target on the DSP, drafter on the CPU: the text of
    the CPU."""
    from pillion.models import TINY_ASSISTANT, TINY_TARGET

    def text(*options):
        command = [
            libpillion.with_name("pillion-run"),
            "-m",
            TINY_TARGET,
            "-p",
            "In the beginning",
            "-n",
            "24",
            "--temp",
            "0",
            *options,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    want, _ = text("--device", "cpu")
    for drafter_on in ("cpu", "auto", "htp:sim"):
        got, notes = text(
            "--device", "htp:sim", "-md", TINY_ASSISTANT, "--draft-device", drafter_on
        )
        assert got == want and "accepted" in notes


# ---- as Hexagon code ----


@only_sim
@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_as_hexagon_code(pillion, name, hexagon_sim):
    """The DSP's program for Hexagon under an emulator, its drafter on the CPU: the text of the CPU
    alone, with draft statistics."""
    ids = ids_of(name, "short")
    with open_on(pillion, name, "cpu") as cpu:
        want, _ = decode(pillion, cpu, ids, 12)
    work = {
        "target": model_path(name),
        "device": "htp:sim",
        "drafter": GOLDEN / f"{name}-assistant.gguf",
        "drafter_device": "cpu",
    }
    report = child({**work, "prompt": ids, "n": 12}, timeout=300, PILLION_HTP_SIM=hexagon_sim)
    assert report["tokens"] == [want]
    assert report["stats"]["drafted"] > 0


def test_an_llm_on_the_dsp_drafts_on_the_cpu(pillion, tiny_target):
    """The default of a phone: target on the DSP, its assistant on the CPU, all of it in the
    placement."""
    with (
        pillion.LLM(tiny_target, device=DEVICE, n_ctx=128) as llm,
        pillion.LLM(tiny_target, device="cpu", n_ctx=128) as cpu,
    ):
        on = {
            model: {one.backend for one in llm.placement() if one.model == model}
            for model in ("target", "drafter")
        }
        assert on == {"target": {"htp"}, "drafter": {"cpu"}}
        texts = [
            one.complete("In the beginning", max_tokens=24, temperature=0)["choices"][0]["text"]
            for one in (llm, cpu)
        ]
        assert texts[0] == texts[1]
        assert llm.speculation.accepted > 0


def test_doctor_lists_the_dsp_s_ops(tiny_target):
    words = [
        sys.executable,
        "-m",
        "pillion",
        "doctor",
        "-m",
        tiny_target,
        "--device",
        DEVICE,
        "-c",
        "64",
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "attend_f16" in done.stdout and "htp" in done.stdout


def test_going_back_after_a_long_answer(pillion):
    """The rings come back from their copies in memory that the DSP shares."""
    ids = ids_of("tiny-e2b")[:40]
    assistant = GOLDEN / "tiny-e2b-assistant.gguf"
    with open_on(pillion, "tiny-e2b") as model, open_on(pillion, assistant, "cpu") as drafter:
        assert back_after_a_long_answer(pillion, model, drafter, ids) == len(ids)
