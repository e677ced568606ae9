"""Messages and plans that are wrong, and things that go wrong: everything is answered, nothing
crashes or hangs. The simulator maps buffers between pages that nobody may touch, so that a kernel
which leaves its buffer ends the process."""

import os
import time

import numpy as np
import pytest

import dsp as d
import op_cases as oc
import op_plans
from op_plans import OpPlan

F32 = np.float32


def scale_plan(dsp, n=40, rows=4, ops=1):
    x, y = dsp.alloc((rows, n)), dsp.alloc((rows, n))
    x[...] = np.arange(rows * n).reshape(rows, n)
    tensors = [d.tensor(dsp, x, d.RUN_ROWS)], [d.tensor(dsp, y, d.RUN_ROWS)]
    records = [
        d.op_record("scale", params=F32(2).tobytes(), inputs=tensors[0], outputs=tensors[1])
        for _ in range(ops)
    ]
    return records, x, y


@pytest.fixture
def dsp(native_dsp):
    native_dsp.reset()
    return native_dsp


@pytest.fixture
def own(native):
    """A process of the test's own, to be broken."""
    with d.Dsp([native["pillion_htp_sim"]], heap_bytes=1 << 20) as dsp:
        yield dsp


def refused(call, why, **fields):
    with pytest.raises(d.Refused) as info:
        call()
    assert info.value.why == why, info.value
    for name, value in fields.items():
        assert getattr(info.value, name) == value, info.value
    return info.value


# --- messages ---


def test_messages(dsp):
    dsp.send(d.NONE)
    info = dsp.send(d.INFO)["words"]
    assert list(info[:4]) == [67, 2, 1 << 20, 1]
    refused(
        lambda: dsp.send(d.NONE, version=d.VERSION + 1),
        "VERSION",
        value=d.VERSION + 1,
        limit=d.VERSION,
    )
    refused(lambda: dsp.send(99), "MESSAGE", value=99)
    refused(lambda: dsp.send(d.RUN, [70]), "PLAN")
    refused(lambda: dsp.send(d.RUN, [63]), "PLAN")
    refused(lambda: dsp.send(d.RELEASE, [1 << 31]), "PLAN")
    refused(lambda: dsp.send(d.PREPARE, [0, 9, 0]), "BUFFER", value=9)


def test_buffers(dsp):
    other = d.Shared(1 << 16)
    refused(lambda: dsp.map(64, other.fd, 1 << 16), "BUFFER")
    refused(lambda: dsp.map(1, 1000, 1 << 16), "MAP", value=2)  # ENOENT: the host has no such fd
    refused(lambda: dsp.map(1, other.fd, 1 << 17), "MAP")  # longer than the file
    refused(lambda: dsp.map(1, other.fd, 100), "BOUNDS")
    dsp.map(1, other.fd, 1 << 16)
    records, x, y = scale_plan(dsp)
    records[0]["out"][0]["buffer"], records[0]["out"][0]["offset"] = 1, 256
    dsp.prepare(d.plan_bytes(dsp, records, 4, 0))
    dsp.run(0, 4)
    np.testing.assert_array_equal(
        other.bytes[256 : 256 + y.nbytes].view(F32).reshape(y.shape), 2 * x
    )
    dsp.send(d.UNMAP, [1])
    refused(lambda: dsp.run(0, 4), "PLAN")  # a plan does not outlive its buffers
    refused(lambda: dsp.send(d.UNMAP, [1]), "BUFFER")
    other.close()


def test_the_state_of_a_run_is_checked(dsp):
    records, x, y = scale_plan(dsp)
    dsp.prepare(d.plan_bytes(dsp, records, 4, 2))
    y[...] = 0
    dsp.run(7, 3, 2)
    np.testing.assert_array_equal(y[:3], 2 * x[:3])
    assert not y[3].any()
    for pos, rows, outs in (
        (0, 0, 0),
        (0, 5, 0),
        (0, -1, 0),
        (0, 4, 3),
        (0, 1, 2),
        (0, 2, -1),
        (-1, 2, 0),
        ((1 << 30) + 1, 2, 0),
    ):
        refused(lambda: dsp.run(pos, rows, outs), "STATE")


def test_plan_heads(dsp):
    records, *_ = scale_plan(dsp)
    for field, value, why in (
        ("magic", 1, "VERSION"),
        ("version", d.VERSION + 1, "VERSION"),
        ("op_bytes", 380, "VERSION"),
        ("n_ops", 1 << 20, "PLAN"),
        ("n_ops", 1 << 14, "BOUNDS" if dsp.heap.bytes.size < 384 << 14 else None),
        ("rows_max", 0, "SHAPE"),
        ("rows_max", 5000, "SHAPE"),
        ("out_rows_max", 5, "SHAPE"),
    ):
        plan = d.plan_bytes(dsp, records, 4, 0)
        plan[: d.PLAN.itemsize].view(d.PLAN)[field] = value
        if why:
            refused(lambda: dsp.prepare(plan), why)
    plan = d.plan_bytes(dsp, [], 1, 1)
    dsp.prepare(plan)
    dsp.run(0, 1)  # nothing to do is fine


def test_records(dsp):
    def check(change, why, operand=None):
        records, *_ = scale_plan(dsp, ops=2)
        change(records[1])
        error = refused(lambda: dsp.prepare(d.plan_bytes(dsp, records, 4, 0)), why, op=1)
        assert operand is None or error.operand == operand, error

    def put(part, field, value, index=0):
        def change(record):
            if part:
                record[part][index][field] = value
            else:
                record[field] = value

        return change

    size = dsp.heap.bytes.size
    check(put("", "code", 99), "OP")
    check(put("", "rows", 0), "SHAPE")
    check(put("in", "layout", d.ABSENT), "OPERAND", 0)
    check(put("in", "layout", d.ROWS, index=1), "OPERAND", 1)
    check(put("in", "layout", d.PACKED), "LAYOUT", 0)
    check(put("in", "dtype", 1), "DTYPE", 0)
    check(put("out", "dtype", 26), "DTYPE", 6)
    check(put("in", "buffer", 7), "BUFFER", 0)
    check(put("in", "buffer", 65535), "BUFFER", 0)
    check(put("in", "offset", 2), "ALIGNMENT", 0)
    check(put("in", "stride", 162), "ALIGNMENT", 0)
    check(put("in", "offset", size - 640), "BOUNDS", 0)  # ends in the slack
    check(put("out", "offset", 0xFFFFFF80), "BOUNDS", 6)
    check(put("in", "stride", 0xFFFFFFFC), "BOUNDS", 0)
    check(put("in", "stride", 156), "SHAPE", 0)
    check(put("in", "rows", 3), "SHAPE", 0)
    check(put("in", "width", 39), "SHAPE", 0)
    check(put("in", "width", 0xFFFFFFFF), "SHAPE", 0)
    check(put("in", "counts", d.OUT_ROWS), "SHAPE", 0)
    check(put("in", "depth", 2), "SHAPE", 0)
    check(lambda r: r["tiling"].__setitem__("threads", 0), "TILING")
    check(lambda r: r["tiling"].__setitem__("threads", 17), "TILING")
    check(lambda r: r["tiling"].__setitem__("scratch_bytes", 0xFFFFFFFF), "BOUNDS")
    check(lambda r: r["tiling"].__setitem__("fetch_groups", 1), "TILING")


def test_matmul_tiling(dsp, packer):
    case = next(c for c in oc.op_cases() if repr(c) == "matmul-q4_0-75x96")

    def check(field, value, why):
        dsp.reset()
        record = OpPlan(dsp, packer, case, fetch_groups=2).record
        record["tiling"][field] = value
        refused(lambda: dsp.prepare(d.plan_bytes(dsp, [record], oc.MAX_ROWS, 0)), why, op=0)

    check("rows_at_once", 73, "TILING")
    check("rows_at_once", 0, "TILING")
    check("scratch_bytes", 128, "TILING")
    check("scratch_offset", 64, "ALIGNMENT")
    check("scratch_offset", 0, "TILING")  # over the weights
    check("fetch_bytes", 1024, "TILING")
    check("fetch_bytes", 2305, "ALIGNMENT")
    check("vtcm_offset", 1 << 20, "TILING")
    check("vtcm_offset", 0xFFFFFF80, "TILING")


# --- contents ---


@pytest.mark.parametrize("token", [-1, 70, 2**31 - 1])
def test_tokens_outside_the_table(dsp, packer, token):
    case = next(c for c in oc.op_cases() if repr(c) == "embed-q4_0-table")
    plan = OpPlan(dsp, packer, case)
    plan.fill(4)
    plan.arrays["tokens"][2] = token
    refused(
        lambda: dsp.run(0, 4),
        "TOKEN",
        status=d.FAILED,
        op=0,
        operand=1,
        value=token & 0xFFFFFFFF,
        limit=70,
    )
    plan.run(4)  # and on


def test_experts_that_are_none(dsp, packer):
    case = next(c for c in oc.op_cases() if c.op == "moe_matmul")
    plan = OpPlan(dsp, packer, case)
    plan.fill(4)
    plan.arrays["ids"][1, 0] = case.params["n_experts"]
    refused(lambda: dsp.run(0, 4), "TOKEN", status=d.FAILED, operand=2)


def test_positions_that_have_left_the_cache(dsp, packer):
    case = next(c for c in oc.op_cases() if repr(c) == "attend-f16-4of1-32-pos400-w100")
    plan = OpPlan(dsp, packer, case)
    plan.fill(4)
    capacity = case.inputs["cache"].capacity
    dsp.run(1 << 30, 4)
    plan.record["params"][12:16] = 0  # no window
    dsp.prepare(d.plan_bytes(dsp, [plan.record], oc.MAX_ROWS, 0))
    dsp.run(capacity - 4, 4)
    refused(
        lambda: dsp.run(capacity - 3, 4),
        "STATE",
        status=d.FAILED,
        op=0,
        value=capacity + 1,
        limit=capacity,
    )
    refused(lambda: dsp.run(1 << 30, 4), "STATE")


def test_nan_reaches_the_output(dsp, packer):
    case = next(c for c in oc.op_cases() if repr(c) == "matmul-q8_0-75x96")
    plan = OpPlan(dsp, packer, case)
    plan.fill(3)
    for bad in (np.nan, np.inf):
        plan.arrays["x"][1, 50] = bad
        dsp.run(0, 3)
        assert np.isnan(plan.results["y"][1]).all() and np.isfinite(plan.results["y"][[0, 2]]).all()


# --- cancel, profile, several messages ---


def test_cancel_and_profile(dsp):
    records, x, y = scale_plan(dsp, ops=3)
    cancel, profile = dsp.put(np.zeros(1, np.uint32)), dsp.put(np.full(4, 7, np.uint32))
    dsp.prepare(d.plan_bytes(dsp, records, 4, 0))
    dsp.run(0, 4, cancel=cancel, profile=profile[:3])
    assert profile[3] == 7 and (profile[:3] < 1000000).all()
    y[...] = 0
    cancel[0] = 1
    with pytest.raises(d.Refused) as info:
        dsp.run(0, 4, cancel=cancel)
    assert info.value.status == d.CANCELLED and info.value.op == 0 and not y.any()


def test_plans_live_side_by_side(dsp):
    for number in range(64):
        records, x, y = scale_plan(dsp, n=8)
        records[0]["params"][:4] = np.frombuffer(F32(number).tobytes(), np.uint8)
        dsp.prepare(d.plan_bytes(dsp, records, 4, 0), number)
    for number in (5, 63, 0):
        dsp.run(0, 4, number=number)
    np.testing.assert_array_equal(y, 63 * x)
    for number in range(64):
        dsp.send(d.RELEASE, [number])
    refused(lambda: dsp.run(0, 4, number=5), "PLAN")


# --- faults ---


def fault(dsp, kind, op=0, runs=0, ms=0):
    dsp.control["fault_runs"], dsp.control["fault_op"], dsp.control["fault_ms"] = runs, op, ms
    dsp.control["fault"] = kind


def prepared(dsp, ops=3):
    records, x, y = scale_plan(dsp, ops=ops)
    dsp.prepare(d.plan_bytes(dsp, records, 4, 0))
    return x, y


def test_an_op_that_fails(own):
    x, y = prepared(own)
    fault(own, d.FAIL, op=1, runs=2)
    own.run(0, 4), own.run(0, 4)
    with pytest.raises(d.Refused) as info:
        own.run(0, 4)
    assert (info.value.status, info.value.op) == (d.INJECTED, 1)
    own.run(0, 4)  # once only
    np.testing.assert_array_equal(y, 2 * x)


def test_a_process_that_dies(own):
    prepared(own)
    fault(own, d.DIE, op=2)
    with pytest.raises(d.Lost, match="86"):
        own.run(0, 4)


def test_a_slow_process(own):
    prepared(own)
    fault(own, d.SLEEP, ms=300)
    begin = time.monotonic()
    own.run(0, 4)
    assert time.monotonic() - begin > 0.29
    fault(own, d.SLEEP, ms=400)
    with pytest.raises(d.Lost, match="no answer"):
        own.run(0, 4, timeout=0.1)
    own._wait("completed", int(own.control["submitted"]) - 1, 5)  # the late answer


def test_the_child_leaves_with_its_parent(native, tmp_path):
    """A host that is killed takes its DSP process with it."""
    script = tmp_path / "host.py"
    script.write_text(
        f"import sys, time\nsys.path.insert(0, {os.path.dirname(d.__file__)!r})\nimport dsp\n"
        f"x = dsp.Dsp([{str(native['pillion_htp_sim'])!r}], heap_bytes=1 << 20)\n"
        "print(x.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    import subprocess
    import sys

    host = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    child = int(host.stdout.readline())
    host.kill()
    host.wait()
    host.stdout.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and alive(child):
        time.sleep(0.05)
    assert not alive(child)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_control_block_of_another_version(native):
    shared = d.Shared(d.CONTROL.itemsize)
    import subprocess

    run = lambda *words: subprocess.run(
        [native["pillion_htp_sim"], *words], capture_output=True, text=True, timeout=10
    )  # noqa: E731
    here = f"/proc/{os.getpid()}/fd/{shared.fd}"
    assert "wire version 0" in run(here).stderr
    assert "cannot map /nowhere" in run("/nowhere").stderr
    assert run().returncode == 2
    shared.close()


# --- fuzz ---

INTERESTING = [
    0,
    1,
    2,
    3,
    31,
    32,
    33,
    63,
    64,
    127,
    128,
    129,
    255,
    256,
    4095,
    65535,
    1 << 16,
    1 << 24,
    1 << 28,
    1 << 30,
    1 << 31,
]
INTERESTING += [0xFFFFFFFF, 0xFFFFFF80, 0x7FFFFFFF, 0x7FC00000, 0xFF800000]


def mutate(rng, raw):
    """A record with one to four fields changed: words, halves or bytes, near their value or far
    away."""
    for _ in range(rng.integers(1, 5)):
        size = int(rng.choice([1, 2, 4]))
        at = int(rng.integers(0, len(raw) // size)) * size
        old = int.from_bytes(raw[at : at + size].tobytes(), "little")
        new = int(
            rng.choice(
                [
                    old + 1,
                    old - 1,
                    old * 2,
                    old // 2,
                    old ^ 1 << int(rng.integers(0, 8 * size)),
                    int(rng.choice(INTERESTING)),
                ]
            )
        )
        raw[at : at + size] = np.frombuffer(
            (new % (1 << 8 * size)).to_bytes(size, "little"), np.uint8
        )


@pytest.mark.parametrize("op", list(op_plans.INPUTS))
def test_fuzzed_records(native, packer, op):
    """Refused with a reason, or run without leaving the buffer. Contents are whatever the run
    before left."""
    cases = [c for c in op_plans.CASES if c.op == op]
    rng = np.random.default_rng(len(op))
    small = [c for c in cases if c.op != "attend" or len(c.inputs["cache"].k) < 700][
        :: max(1, len(cases) // 6)
    ]
    ran = why = 0
    seen = set()
    with d.Dsp([native["pillion_htp_sim"]], heap_bytes=16 << 20, threads=2) as dsp:
        for case in small:
            dsp.reset()
            plan = OpPlan(
                dsp, packer, case, threads=2, rows_max=8, fetch_groups=1 if op == "matmul" else 0
            )
            plan.fill(8)
            for _ in range(120):
                raw = np.frombuffer(plan.record.tobytes(), np.uint8).copy()
                mutate(rng, raw)
                there = d.plan_bytes(dsp, [np.frombuffer(raw.tobytes(), d.OP)[0]], 8, 8)
                dsp.heap.used -= -(-there.nbytes // 128) * 128
                try:
                    dsp.prepare(there)
                    dsp.run(case.pos, int(rng.integers(1, 9)), 1, timeout=20)
                    ran += 1
                except d.Refused as error:
                    assert error.why != "NONE" and error.status in (d.REFUSED, d.FAILED)
                    seen.add(error.why)
                    why += 1
    assert ran > 20 and why > 20, (ran, why, seen)


def test_fuzzed_messages(native):
    rng = np.random.default_rng(5)
    with d.Dsp([native["pillion_htp_sim"]], heap_bytes=1 << 20) as dsp:
        prepared(dsp)
        for _ in range(2000):
            kind = int(rng.choice([0, 2, 3, 4, 5, 6, 8, 65535]))
            words = [int(rng.choice(INTERESTING)) for _ in range(14)]
            try:
                dsp.send(kind, words, timeout=10)
            except d.Refused:
                pass
        dsp.send(d.NONE)
