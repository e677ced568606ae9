"""Models that lie on two devices, drafters on another device than their target, and the memory that
is counted before anything is loaded: the CPU beside the emulated CUDA device, whose memory the CPU
can't read. With a GPU: PILLION_TEST_CUDA=cuda."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from device_models import back_after_a_long_answer, decode, ids_of, needs, nmse, open_model, rounds
from goldens import GOLDEN, SHAPES, model_path
from patience import over_and_over

DEVICE = os.environ.get("PILLION_TEST_CUDA", "cuda:sim")
PAIRS = ["tiny-e2b", "tiny-moe"]


@pytest.fixture(scope="module", autouse=True)
def module(pillion):
    needs(pillion, DEVICE)


def open_on(pillion, name, device=DEVICE):
    return open_model(pillion, name, device)


def split_model(pillion, name, layers):
    return pillion.Model.open(model_path(name), device=DEVICE, n_gpu_layers=layers)


def assistant(pillion, name, device):
    return pillion.Model.open(GOLDEN / f"{name}-assistant.gguf", device=device)


def layers_on(context, backend):
    return {
        step["layer"]
        for step in context.placement()
        if step["backend"] == backend and step["op"] == "matmul" and step["layer"] >= 0
    }


# ---- layers on two devices ----


@pytest.mark.parametrize("name", SHAPES)
def test_any_division_writes_the_text_of_the_cpu(pillion, name):
    with open_on(pillion, name, "cpu") as cpu:
        want, reference = decode(pillion, cpu, ids_of(name), 16)
        n = cpu.n_layers
    for layers in sorted({0, 1, n // 2, n - 1, n}):
        with split_model(pillion, name, layers) as model:
            got, logits = decode(pillion, model, ids_of(name), 16)
            with model.context(64) as context:
                assert layers_on(context, "cuda") == set(range(n - layers, n)), layers
                assert layers_on(context, "cpu") == set(range(n - layers)), layers
        assert got == want, layers
        assert nmse(logits, reference) < 1e-5, layers


def test_more_layers_than_there_are_and_minus_one_mean_all(pillion):
    for layers in (-1, 99):
        with split_model(pillion, "tiny-e2b", layers) as model, model.context(64) as context:
            assert layers_on(context, "cpu") == set()


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_division_with_rings_rewinds_and_small_batches(pillion, kv_type):
    """Through a wrapped ring and back: device copies of the caches follow their layers."""
    ids = (ids_of("tiny-e2b") * 10)[:330]
    want = []
    for device, layers in (("cpu", -1), (DEVICE, 3)):
        with pillion.Model.open(
            model_path("tiny-e2b"), device=device, n_gpu_layers=layers
        ) as model:
            with model.context(n_ctx=512, n_batch=48, kv_type=kv_type) as context:
                context.prefill(ids)
                rows = [context.logits()]
                context.rewind(320)
                context.prefill(ids[:7])
                rows.append(context.logits())
                context.rewind(40)
                context.prefill(ids[100:103])
                rows.append(context.logits())
        want.append(np.stack(rows))
    assert nmse(want[1], want[0]) < (1e-5 if kv_type == "f16" else 1e-3)


def test_scores_of_a_divided_model(pillion):
    ids = ids_of("tiny-moe")[:60]
    scores = []
    for device, layers in (("cpu", -1), (DEVICE, 2)):
        with (
            pillion.Model.open(model_path("tiny-moe"), device=device, n_gpu_layers=layers) as model,
            model.context(96) as context,
        ):
            scores.append(np.asarray(context.score(ids)))
    assert np.abs(scores[0] - scores[1]).max() < 1e-2


# ---- target here, drafter there ----


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("name", PAIRS)
def test_all_four_combinations_write_the_same(pillion, name, kv_type):
    ids, n = ids_of(name, "short"), 24
    with open_on(pillion, name, "cpu") as cpu:
        want = decode(pillion, cpu, ids, n, kv_type=kv_type)[0]
    drafted = {}
    for target in ("cpu", DEVICE):
        for drafter in ("cpu", DEVICE):
            with (
                open_on(pillion, name, target) as model,
                assistant(pillion, name, drafter) as other,
            ):
                with (
                    model.context(128, kv_type=kv_type) as context,
                    pillion.Pair(context, other) as pair,
                ):
                    assert rounds(pillion, pair, ids, n, 3) == want, (target, drafter)
                    drafted[target, drafter] = (pair.stats.drafted, pair.stats.accepted)
                    assert {step["backend"] for step in pair.placement()} == {drafter.split(":")[0]}
    assert len(set(drafted.values())) == 1, drafted  # copies hold what the caches hold


@pytest.mark.parametrize("drafter", ["cpu", DEVICE])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_divided_target_with_a_drafter_on_either_side(pillion, layers, drafter):
    name, n = "tiny-e2b", 24
    ids = ids_of(name, "short")
    with open_on(pillion, name, "cpu") as cpu:
        want = decode(pillion, cpu, ids, n)[0]
    with split_model(pillion, name, layers) as model, assistant(pillion, name, drafter) as other:
        with model.context(128) as context, pillion.Pair(context, other) as pair:
            assert rounds(pillion, pair, ids, n, 4) == want
            assert pair.stats.accepted > 0


@pytest.mark.parametrize("target, drafter", [("cpu", DEVICE), (DEVICE, "cpu")])
def test_a_pair_made_after_the_prompt_sees_the_prompt(pillion, target, drafter):
    ids = ids_of("tiny-e2b")
    with (
        open_on(pillion, "tiny-e2b", target) as model,
        assistant(pillion, "tiny-e2b", drafter) as other,
    ):
        with model.context(256) as context, pillion.Pair(context, other) as pair:
            pair.sync(ids)
            want = pair.draft(ids[0], 4)
        with model.context(256) as context:
            context.sync(ids)
            logits = context.logits()
            with pillion.Pair(context, other) as pair:
                assert context.tokens == ids
                assert (context.logits() == logits).all()
                assert pair.draft(ids[0], 4) == want


def test_two_drafters_of_one_target(pillion):
    """On one device they share the copies; a third device is refused by name."""
    with open_on(pillion, "tiny-e2b") as model, assistant(pillion, "tiny-e2b", "cpu") as other:
        with (
            model.context(128) as context,
            pillion.Pair(context, other) as first,
            pillion.Pair(context, other) as second,
        ):
            before = context.describe()["kv_bytes"]
            first.sync(ids_of("tiny-e2b"))
            assert first.draft(5, 3) == second.draft(5, 3)
            assert context.describe()["kv_bytes"] == before


def test_copies_are_counted(pillion):
    with (
        open_on(pillion, "tiny-e2b") as model,
        assistant(pillion, "tiny-e2b", "cpu") as other,
        model.context(128) as context,
    ):
        before = context.describe()["kv_bytes"]
        with pillion.Pair(context, other):
            assert context.describe()["kv_bytes"] > before


def test_cancel_in_a_divided_model(pillion):
    """The flag reaches the part that runs; the context stays usable at its length."""
    ids = ids_of("tiny-e2b")
    with split_model(pillion, "tiny-e2b", 3) as model, model.context(512, n_batch=16) as context:
        context.prefill(ids[:5])
        with over_and_over(context.cancel), pytest.raises(pillion.Cancelled):
            for _ in range(1000):
                context.prefill(ids * 2)
                context.rewind(5)
        assert len(context.tokens) >= 5
        context.rewind(5)
        context.prefill(ids[5:8])
        assert len(context.tokens) == 8


# ---- memory, before it is taken ----


def test_what_is_counted_is_what_is_taken(pillion):
    with (
        open_on(pillion, "tiny-e2b") as model,
        model.context(300, n_batch=64, n_outputs=9) as context,
    ):
        context.prefill(ids_of("tiny-e2b")[:60])  # also the plan of long runs
        facts = context.describe()
        fit = model.fit(300, n_batch=64, n_outputs=9, device=DEVICE, n_gpu_layers=99)
        assert fit["device"] == "cuda" and not fit["is_host"]
        assert fit["device_layers"] == fit["n_layers"] == model.n_layers
        assert fit["weights"] == model.weight_bytes
        assert fit["kv"] == facts["kv_bytes"]
        # logits stay there too
        assert fit["scratch"] == facts["scratch_bytes"] + 9 * model.n_vocab * 4
        assert fit["total"] == fit["weights"] + fit["kv"] + fit["scratch"]


@pytest.mark.skipif(
    DEVICE != "cuda:sim", reason="allocations are made to fail in the emulation only"
)
def test_counting_takes_nothing_of_the_device(pillion, monkeypatch):
    with open_on(pillion, "tiny-e2b") as model, assistant(pillion, "tiny-e2b", DEVICE) as other:
        monkeypatch.setenv("PILLION_SIM_FAULTS", "from=1")  # from now on no allocation goes through
        with pytest.raises(pillion.OutOfMemoryError):
            model.context(256)
        assert model.fit(256, drafter=other, device=DEVICE, device_bytes=1 << 40)["total"] > 0
        assert model.memory(256, drafter=other)["total"] > model.weight_bytes


def test_fewer_bytes_fewer_layers(pillion):
    with (
        pillion.Model.open(model_path("tiny-e2b"), metadata_only=True) as model,
        assistant(pillion, "tiny-e2b", "cpu") as other,
    ):
        every = [
            model.fit(256, device=DEVICE, n_gpu_layers=n, device_bytes=1 << 40)["total"]
            for n in range(model.n_layers + 1)
        ]
        assert every[0] == 0 and all(a < b for a, b in zip(every, every[1:]))
        for budget in (every[-1], every[-1] - 1, every[2], every[2] - 1, 1):
            fit = model.fit(256, device=DEVICE, device_bytes=budget)
            assert fit["total"] <= budget
            assert fit["device_layers"] == sum(size <= budget for size in every) - 1
        with_drafter = model.fit(256, drafter=other, device=DEVICE, device_bytes=1 << 40)["total"]
        assert with_drafter > every[-1]
        beside = model.fit(
            256, drafter=other, device=DEVICE, draft_device="cpu", device_bytes=1 << 40
        )
        assert every[-1] < beside["total"] + 1 and beside["total"] < with_drafter


def test_too_much_is_refused_with_the_numbers(pillion):
    with pillion.Model.open(model_path("tiny-e2b"), metadata_only=True) as model:
        with pytest.raises(
            pillion.OutOfMemoryError,
            match=r"4 of \d+ layers take .* GB on cuda \(weights .*, KV cache .*\), 0.00 GB can be",
        ):
            model.fit(256, device=DEVICE, n_gpu_layers=4, device_bytes=10)
        with assistant(pillion, "tiny-e2b", "cpu") as other:
            with pytest.raises(pillion.OutOfMemoryError, match="0 of .* layers and the drafter"):
                model.fit(256, drafter=other, device=DEVICE, device_bytes=10)


def test_llm_takes_what_fits_or_says_so(pillion, caplog):
    path = model_path("tiny-e2b")
    with pillion.Model.open(path, metadata_only=True) as model:
        three = model.fit(256, n_outputs=9, device=DEVICE, n_gpu_layers=3)["total"]
    settings = {"n_ctx": 256, "device": DEVICE, "device_bytes": three, "drafter": None}
    with pillion.LLM(path, **settings) as llm:
        assert (
            len(
                {
                    p.layer
                    for p in llm.placement()
                    if p.backend == "cuda" and p.op == "matmul" and p.layer >= 0
                }
            )
            == 3
        )
    assert "cuda holds 3 of" in caplog.text and "the CPU's" in caplog.text
    with pytest.raises(pillion.OutOfMemoryError, match="cuda holds 3 of .* strict"):
        pillion.LLM(path, strict=True, **settings)
    with pytest.raises(pillion.OutOfMemoryError, match="5 of"):
        pillion.LLM(path, n_gpu_layers=5, **settings)


def test_what_fits_is_a_number_to_open_with(pillion):
    path = model_path("tiny-e2b")
    with pillion.Model.open(path, metadata_only=True) as model:
        on_cpu = model.fit(256, device="cpu")
        assert (on_cpu["device_layers"], on_cpu["note"]) == (0, "")
        sizes = [model.fit(256, device=DEVICE, n_gpu_layers=n)["total"] for n in (0, 2)]
        fit = model.fit(256, device=DEVICE, device_bytes=sizes[1])
        assert fit["device_layers"] == 2 and "holds 2 of" in fit["note"]
        with pytest.raises(pillion.OutOfMemoryError, match="holds 2 of .* strict"):
            model.fit(256, device=DEVICE, device_bytes=sizes[1], strict=True)


# ---- what is asked for wrongly ----


def test_layers_for_the_cpu_are_refused(pillion):
    with pytest.raises(pillion.NoBackendError, match="n_gpu_layers 3 .* is the cpu"):
        pillion.Model.open(model_path("tiny-e2b"), device="cpu", n_gpu_layers=3)
    with pytest.raises(pillion.UsageError, match="n_gpu_layers is -2"):
        pillion.Model.open(model_path("tiny-e2b"), device="cpu", n_gpu_layers=-2)
    pillion.Model.open(model_path("tiny-e2b"), device="cpu", n_gpu_layers=0).close()


def test_towers_count_where_memory_is_shared(pillion, tiny_target, monkeypatch):
    """A Jetson's GPU has the host's memory: what the towers take, layers can't."""
    from pillion import models, placement

    with pillion.Model.open(tiny_target, metadata_only=True) as model:
        sizes = {"n_ctx": 256, "device_bytes": 0}
        enough = model.fit(256, device=DEVICE, device_bytes=1 << 40)["total"] + (1 << 10)

    def layers(mmproj, device_bytes=enough):
        return placement.layers_for(
            tiny_target,
            None,
            device_name=DEVICE,
            draft_device=DEVICE,
            n_gpu_layers=-1,
            strict=False,
            use_mmap=True,
            sizes={**sizes, "device_bytes": device_bytes},
            mmproj=mmproj,
        )

    every = layers("auto")
    real = placement.device

    def shared(name):
        return {**real(name), "memory": {**real(name)["memory"], "unified": True}}

    monkeypatch.setattr(placement, "device", shared)
    with pillion.Mmproj(models.TINY_MMPROJ) as towers:
        fewer = {layers("auto"), layers(str(models.TINY_MMPROJ)), layers(towers)}
    assert len(fewer) == 1 and fewer.pop() < every == layers(None)
    with pytest.raises(pillion.OutOfMemoryError, match="beside an mmproj file .* mmproj=None"):
        layers("auto", device_bytes=1 << 20)


def test_device(pillion):
    cpu = pillion.device("cpu")
    assert cpu["is_host"] and 0 < cpu["memory"]["free"] <= cpu["memory"]["total"]
    assert not pillion.device(DEVICE)["is_host"]
    with pytest.raises(pillion.NoBackendError, match="tpu"):
        pillion.device("tpu")


# ---- flash attention ----


def kernels(context):
    return {step["kernel"] for step in context.placement() if step["op"] == "attend"}


def test_flash_attn(pillion):
    """tiny-e2b's sliding layers have a head size without a tiled kernel: auto takes the plain one
    and says so, on refuses."""
    ids = ids_of("tiny-e2b")
    with open_on(pillion, "tiny-e2b") as model:
        sizes = {layer["head_dim"] for layer in model.describe()["layers"]}
        assert sizes - {64, 80, 96, 128, 256, 512}, "the premise"
        with pytest.raises(
            pillion.UnsupportedOpError,
            match=r"layer \d+: head size \d+ has no flash attention kernel .* flash_attn is on",
        ):
            model.context(64, flash_attn="on")
        auto, _ = decode(pillion, model, ids, 8)
        off, _ = decode(pillion, model, ids, 8, flash_attn="off")
        assert auto == off
        with model.context(64, flash_attn="off") as context:
            assert kernels(context) == {"plain_attend_f16"}


@pytest.mark.parametrize("flash_attn, wanted", [("off", "plain"), ("on", "flash")])
def test_flash_attn_is_the_drafter_s_too(pillion, flash_attn, wanted):
    """Field case 10. And 8: the E4B assistant's head size 512 with 4 query and 2 KV heads is
    tiled."""
    with (
        open_on(pillion, "tiny-e4b-dims") as model,
        assistant(pillion, "tiny-e4b-dims", DEVICE) as other,
    ):
        with (
            model.context(64, flash_attn=flash_attn) as context,
            pillion.Pair(context, other) as pair,
        ):
            assert kernels(context) == kernels(pair) == {f"{wanted}_attend_f16"}


def test_flash_attn_on_where_it_can(pillion, tiny_target):
    with pillion.Model.open(tiny_target, device=DEVICE) as model:
        sizes = {layer["head_dim"] for layer in model.describe()["layers"]}
        if sizes <= {64, 80, 96, 128, 256, 512}:
            with model.context(64, flash_attn="on") as context:
                assert kernels(context) == {"flash_attend_f16"}
        else:
            with pytest.raises(pillion.UnsupportedOpError, match="flash_attn is on"):
                model.context(64, flash_attn="on")


# ---- the commands ----


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "pillion", *map(str, words)], capture_output=True, text=True
    )


def test_doctor_lists_where_ops_run(pillion):
    done = command(
        "doctor",
        "-m",
        model_path("tiny-e2b"),
        "--device",
        DEVICE,
        "-ngl",
        2,
        "-md",
        "none",
        "-c",
        64,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    placed = json.loads(done.stdout)["placement"]
    assert {p["backend"] for p in placed} == {"cpu", "cuda"} and {p["model"] for p in placed} == {
        "target"
    }
    table = command(
        "doctor",
        "-m",
        model_path("tiny-e2b"),
        "--device",
        DEVICE,
        "-ngl",
        2,
        "-md",
        "none",
        "-c",
        64,
    )
    assert "attend" in table.stdout and "kernel" in table.stdout


def test_run_with_layers_on_a_device(pillion):
    words = (
        "run",
        "-m",
        model_path("tiny-e2b"),
        "-md",
        GOLDEN / "tiny-e2b-assistant.gguf",
        "-p",
        "a",
        "-n",
        6,
        "--temp",
        0,
        "-c",
        64,
    )
    cpu = command(*words, "--device", "cpu")
    divided = command(*words, "--device", DEVICE, "-ngl", 2, "--draft-device", "cpu")
    assert cpu.returncode == divided.returncode == 0, cpu.stderr + divided.stderr
    assert cpu.stdout == divided.stdout


# ---- going back ----


@pytest.mark.parametrize(
    "layers, there, kv_type", [(3, "cpu", "q8_0"), (3, DEVICE, "f16"), (-1, "cpu", "f16")]
)
def test_snapshots_hold_all_copies_of_a_ring(pillion, layers, there, kv_type):
    """Layers on both sides (device copies), drafters on either (replicas): all find the window
    again."""
    ids = ids_of("tiny-e2b")[:40]
    with (
        split_model(pillion, "tiny-e2b", layers) as model,
        assistant(pillion, "tiny-e2b", there) as drafter,
    ):
        assert back_after_a_long_answer(pillion, model, drafter, ids, kv_type) == len(ids)
