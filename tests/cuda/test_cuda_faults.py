"""What goes wrong on a device, made to go wrong in the emulation (csrc/backends/cuda/sim/faults.h):
refused allocations, failing kernels, a lost device, unified memory. Errors come out as exceptions,
a context stays at its length, and the rest of the process goes on."""

import gc
import json
import os
import subprocess
import sys

import pytest
from goldens import model_path

VARIABLE = "PILLION_SIM_FAULTS"
PROMPT = [2, 5, 9, 14, 3, 8, 21, 7]


@pytest.fixture(scope="module", autouse=True)
def module(pillion):
    try:
        pillion.Model.open(model_path("tiny-e2b"), device="cuda:sim").close()
    except pillion.NoBackendError as error:
        pytest.skip(f"no cuda:sim: {error} (make build makes it)")


@pytest.fixture
def faults(monkeypatch):
    return lambda text: monkeypatch.setenv(VARIABLE, text)


def greedy(context, n=6):
    tokens = []
    for _ in range(n):
        tokens.append(
            int(max(range(len(logits := list(context.logits()))), key=logits.__getitem__))
        )
        context.decode(tokens[-1])
    return tokens


def write(pillion, device="cuda:sim", **options):
    with (
        pillion.Model.open(model_path("tiny-e2b"), device=device, **options) as model,
        model.context(n_ctx=128) as context,
    ):
        context.prefill(PROMPT)
        return greedy(context)


def test_weights_in_pieces(pillion, faults):
    """The device refuses all weights at once and gives them one by one."""
    want = write(pillion)
    with pillion.Model.open(model_path("tiny-e2b"), device="cuda:sim") as model:
        faults(f"above={model.weight_bytes - 1000}")
    assert write(pillion) == want


def test_one_allocation_fails(pillion, faults):
    """The n-th: smaller ones take its place."""
    want = write(pillion)
    for n in range(1, 12):
        faults(f"alloc={n}")
        assert write(pillion) == want, n


def test_all_allocations_fail_from_one_on(pillion, faults):
    want, refused = write(pillion), 0
    for n in range(1, 60):
        faults(f"from={n}")
        try:
            assert write(pillion) == want
            break
        except pillion.OutOfMemoryError as error:
            refused += 1
            assert "no memory for" in str(error), n
    assert refused > 2 and n < 59
    faults("")
    assert write(pillion) == want


def test_too_little_memory(pillion, faults, caplog):
    gc.collect()
    want = write(pillion)
    faults("memory=300000")
    with pytest.raises(
        pillion.OutOfMemoryError, match="weights on device 0: no memory for [0-9]+ bytes"
    ):
        write(pillion, n_gpu_layers=100)
    assert not caplog.records
    assert write(pillion) == want  # as many layers as fit, and it says how many
    assert "layers" in caplog.text and "the others are the CPU's" in caplog.text


@pytest.mark.parametrize("n", [1, 7, 30])
@pytest.mark.parametrize("rows", [1, 40])
def test_a_kernel_that_fails(pillion, faults, n, rows):
    """Captured runs (few rows) and launches one by one (many)."""
    with (
        pillion.Model.open(model_path("tiny-e2b"), device="cuda:sim") as model,
        model.context(n_ctx=128) as context,
    ):
        context.prefill(PROMPT)
        tokens = (PROMPT * 5)[:rows]
        context.prefill(tokens)
        want = context.logits().tobytes()
        context.rewind(len(PROMPT))
        faults(f"launch={n}")
        with pytest.raises(pillion.BackendError, match="was made to fail"):
            context.prefill(tokens)
        assert context.n_past == len(PROMPT)
        context.prefill(tokens)  # the fault is over
        assert context.n_past == len(PROMPT) + rows and context.logits().tobytes() == want


CHILD = """
import json, os, sys
import pillion
path, faults = sys.argv[1:]
said = {}
def attempt(name, f):
    try:
        said[name] = [True, f()]
    except pillion.PillionError as error:
        said[name] = [False, type(error).__name__, str(error)]
def greedy(context, n=6):
    tokens = []
    for _ in range(n):
        logits = list(context.logits())
        tokens.append(logits.index(max(logits)))
        context.decode(tokens[-1])
    return tokens
PROMPT = [2, 5, 9, 14, 3, 8, 21, 7]
def write(device):
    with pillion.Model.open(path, device=device) as model, model.context(n_ctx=128) as context:
        context.prefill(PROMPT)
        return greedy(context)
"""


def child(body, faults):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            CHILD + body + "\nprint(json.dumps(said))",
            str(model_path("tiny-e2b")),
            faults,
        ],
        env={**os.environ, VARIABLE: ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


LOST = f"""
model = pillion.Model.open(path, device="cuda:sim")
first, second = model.context(n_ctx=128), model.context(n_ctx=128)
first.prefill(PROMPT)
second.prefill(PROMPT)
os.environ["{VARIABLE}"] = faults
attempt("decode", lambda: first.decode(5))
os.environ["{VARIABLE}"] = ""
said["length"] = first.n_past
attempt("again", lambda: first.decode(5))
attempt("other context", lambda: second.decode(5))
attempt("new context", lambda: model.context(n_ctx=64).prefill(PROMPT))
attempt("new model", lambda: write("cuda:sim"))
attempt("cpu", lambda: write("cpu"))
first.close(), second.close(), model.close()
"""


def test_a_lost_device(pillion):
    said = child(LOST, "lost=9")
    ok, kind, sentence = said["decode"]
    assert (
        not ok
        and kind == "DeviceLostError"
        and "was made to lose the device" in sentence
        and "until the process ends" in sentence
    )
    assert said["length"] == len(PROMPT)
    cause = sentence[sentence.index("emulation, ") :]
    for later in ("again", "other context", "new context", "new model"):
        assert said[later][:2] == [False, "DeviceLostError"] and cause in said[later][2], later
    assert said["cpu"] == [True, write(pillion, "cpu")]


UNIFIED = f"""
os.environ["{VARIABLE}"] = faults
attempt("text", lambda: write("cuda:sim"))
from pillion import _testing
said["info"] = json.loads(_testing.Device("cuda:sim").info)
with pillion.Model.open(path, device="cuda:sim") as model:
    contexts = [model.context(n_ctx=128) for _ in range(2)]
    for context in contexts:
        context.prefill(PROMPT)
    said["two"] = [greedy(context) for context in contexts]
"""


@pytest.mark.parametrize("unified", [False, True])
def test_unified_memory(pillion, unified):
    """Weights are packed where they stay; the text is the same."""
    said = child(UNIFIED, "unified=1" if unified else "")
    assert said["info"]["unified"] is unified
    want = write(pillion)
    assert said["text"] == [True, want] and said["two"] == [want, want]
