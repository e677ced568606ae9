"""Drives the simulator's DSP process over the wire: shared memory, the ring, messages, plans.
Numbers are those of htp_wire.h."""

import ctypes
import mmap
import os
import subprocess
import time

import numpy as np

from op_table import FORMATS, OPS

VERSION, PLAN_MAGIC, SIM_MAGIC, SLOTS, SLACK, NOWHERE = 3, 0x4C505448, 0x53505448, 32, 128, 0xFFFF
NONE, MAP, UNMAP, PREPARE, RUN, RELEASE, INFO, STOP = range(8)
OK, REFUSED, FAILED, CANCELLED, INJECTED = 0, -1, -2, -3, -4
WHY = (
    "NONE VERSION MESSAGE BUFFER MAP PLAN OP OPERAND DTYPE LAYOUT "
    "SHAPE BOUNDS ALIGNMENT PARAMS TILING STATE TOKEN MEMORY SEGMENT TABLE PAGE"
).split()
FAIL, DIE, SLEEP = 1, 2, 3
USECS, PACKETS, INSTRUCTIONS, HVX = range(4)  # what a profile counts
ABSENT, ROWS, PACKED, KV = range(4)
FIXED, RUN_ROWS, OUT_ROWS = range(3)
# By the names of a file's formats: the number of what each is kept as.
DTYPES = {
    name.lower(): FORMATS[of["kept_as"]]["number"]
    for name, of in FORMATS.items()
    if not name.endswith("_X")
}

TENSOR = np.dtype(
    [("buffer", "<u2"), ("dtype", "u1"), ("layout", "u1")]
    + [(n, "<u4") for n in ("offset", "stride", "width", "rows", "depth", "counts", "reserved")]
)
TILING = np.dtype(
    [("threads", "<u4"), ("rows_at_once", "<u4"), ("scratch_buffer", "<u2"), ("reserved0", "<u2")]
    + [
        (n, "<u4")
        for n in ("scratch_offset", "scratch_bytes", "fetch_groups", "fetch_bytes", "vtcm_offset")
    ]
)
PAGES = np.dtype(
    [("buffer", "<u2"), ("reserved", "<u2")]
    + [(n, "<u4") for n in ("offset", "stride", "entries", "sequences", "n_pages")]
)
OP = np.dtype(
    [
        ("code", "<u2"),
        ("rows", "u1"),
        ("n", "u1"),
        ("layer", "<i4"),
        ("pages", PAGES),
        ("params", "u1", 64),
        ("tiling", TILING),
    ]
    + [("in", TENSOR, 6), ("out", TENSOR, 2)]
)
PLAN = np.dtype(
    [(n, "<u4") for n in ("magic", "version", "op_bytes", "n_ops", "rows_max", "out_rows_max")]
    + [("reserved", "<u4", 26)]
)
ANSWER = np.dtype(
    [(n, "<i4") for n in ("status", "why", "op", "operand")]
    + [(n, "<u4") for n in ("value", "limit", "usecs", "reserved")]
)
MESSAGE = np.dtype(
    [
        ("version", "<u2"),
        ("kind", "<u2"),
        ("sequence", "<u4"),
        ("words", "<u4", 14),
        ("answer", ANSWER),
        ("reserved", "<u4", 8),
    ]
)
CONTROL = np.dtype(
    [(n, "<u4") for n in ("magic", "version", "slots", "threads", "vtcm_bytes", "counter")]
    + [("r0", "<u4", 10)]
    + [(n, "<u4") for n in ("fault", "fault_runs", "fault_op", "fault_ms")]
    + [
        ("r1", "<u4", 12),
        ("submitted", "<u4"),
        ("r2", "<u4", 31),
        ("completed", "<u4"),
        ("ready", "<u4"),
        ("r3", "<u4", 30),
    ]
    + [("slot", MESSAGE, SLOTS)]
)
STATE_BYTES = 2048
assert (TENSOR.itemsize, OP.itemsize, MESSAGE.itemsize, CONTROL.itemsize) == (
    32,
    384,
    128,
    384 + 128 * SLOTS,
)

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_FUTEX = {"x86_64": 202, "aarch64": 98}[os.uname().machine]


class Lost(RuntimeError):
    """The process ended or does not answer."""


class Refused(RuntimeError):
    """A message was answered with something else than HTP_OK."""

    def __init__(self, answer):
        self.status, self.why, self.op, self.operand, self.value, self.limit = (
            int(answer[n]) for n in answer.dtype.names[:6]
        )
        self.why = WHY[self.why]
        super().__init__(
            f"status {self.status}, {self.why}, op {self.op}, "
            f"operand {self.operand}, {self.value} / {self.limit}"
        )


class Shared:
    """A memory file, its bytes, and a bump allocator."""

    def __init__(self, size):
        self.fd = os.memfd_create("pillion_htp_test")
        os.ftruncate(self.fd, size)
        self.bytes = np.frombuffer(mmap.mmap(self.fd, size), np.uint8)
        self.used = 0

    def close(self):
        os.close(self.fd)


class Dsp:
    """One DSP process. `command` is what runs: emulator words and program, or the program alone.
    Buffer 0 is the heap."""

    def __init__(
        self, command, heap_bytes=64 << 20, threads=1, vtcm_bytes=1 << 20, start_timeout=30
    ):
        self.control_file, self.heap = Shared(CONTROL.itemsize), Shared(heap_bytes)
        self.control = self.control_file.bytes.view(CONTROL)[0]
        for name, value in dict(
            magic=SIM_MAGIC, version=VERSION, slots=SLOTS, threads=threads, vtcm_bytes=vtcm_bytes
        ).items():
            self.control[name] = value
        self.process = subprocess.Popen(
            [*command, f"/proc/{os.getpid()}/fd/{self.control_file.fd}"], stderr=subprocess.PIPE
        )
        self._wait("ready", 0, start_timeout)
        self.map(0, self.heap.fd, heap_bytes)
        info = self.send(INFO)
        self.arch, self.threads, self.vtcm_bytes, self.lanes = (int(w) for w in info["words"][:4])

    # --- memory ---

    def alloc(self, shape, dtype=np.float32):
        """A numpy array inside the heap: written here, read there, never copied."""
        n = int(np.prod(shape)) * np.dtype(dtype).itemsize
        start, self.heap.used = self.heap.used, self.heap.used + -(-n // 128) * 128
        assert self.heap.used + SLACK <= self.heap.bytes.size, "the heap is full"
        return self.heap.bytes[start : start + n].view(dtype).reshape(shape)

    def put(self, array):
        there = self.alloc(array.shape, array.dtype)
        there[...] = array
        return there

    def offset(self, array):
        return array.__array_interface__["data"][0] - self.heap.bytes.__array_interface__["data"][0]

    def reset(self):
        self.heap.used = 0

    # --- messages ---

    def send(self, kind, words=(), version=VERSION, timeout=120):
        """Answers that are not HTP_OK raise Refused."""
        first = int(self.control["submitted"])
        slot = self.control["slot"][first % SLOTS]
        slot["version"], slot["kind"], slot["sequence"], slot["words"] = version, kind, first, 0
        slot["words"][: len(words)] = [int(w) & 0xFFFFFFFF for w in words]
        slot["answer"]["status"] = -99
        self.control["submitted"] = (first + 1) & 0xFFFFFFFF
        self._futex("submitted", 1, 1)
        self._wait("completed", first, timeout)
        if slot["answer"]["status"]:
            raise Refused(slot["answer"])
        return slot

    def map(self, buffer, fd, size, file_offset=0):
        return self.send(MAP, (buffer, fd, size, 0, file_offset, file_offset >> 32))

    def prepare(self, plan, number=0):
        """plan: uint8 array in the heap (plan_bytes)."""
        return self.send(PREPARE, (number, 0, self.offset(plan)))

    def run(
        self,
        pos,
        rows,
        out_rows=0,
        number=0,
        cancel=None,
        profile=None,
        timeout=120,
        segments=None,
    ):
        """segments: (row, rows, position, row of the page table) each, in place of one."""
        segments = [(0, rows, pos, 0)] if segments is None else segments
        state = self.heap.bytes[-SLACK - STATE_BYTES - self.heap.bytes.size % 8 :][
            :STATE_BYTES
        ].view(np.int32)
        state[:4] = rows, out_rows, len(segments), 0
        for i, segment in enumerate(segments[:124]):
            state[16 + 4 * i :][:4] = segment
        words = [number, 0, self.offset(state)]
        for array in (cancel, profile):
            words += [NOWHERE, 0] if array is None else [0, self.offset(array)]
        return self.send(RUN, words, timeout=timeout)

    def close(self):
        if self.process.poll() is None:
            self.send(STOP)
            self.process.wait(10)
        self.process.stderr.close()
        self.control_file.close()
        self.heap.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill() if self.process.poll() is not None else self.close()

    def _futex(self, field, op, value, seconds=None):
        address = self.control_file.bytes.__array_interface__["data"][0] + CONTROL.fields[field][1]
        timeout = (
            None if seconds is None else (ctypes.c_long * 2)(int(seconds), int(seconds % 1 * 1e9))
        )
        _libc.syscall(
            _SYS_FUTEX, ctypes.c_void_p(address), op, ctypes.c_uint32(value), timeout, None, 0
        )

    def _wait(self, field, old, seconds):
        deadline = time.monotonic() + seconds
        while int(self.control[field]) == old:
            if self.process.poll() is not None:
                raise Lost(
                    f"the DSP process ended with {self.process.returncode}: "
                    f"{self.process.stderr.read().decode()[-400:]}"
                )
            if time.monotonic() > deadline:
                raise Lost(f"no answer from the DSP within {seconds:.1f} s")
            self._futex(field, 0, old, 0.05)


# --- plans ---


def plan_bytes(dsp, ops, rows_max, out_rows_max):
    """Head and records in the heap, as PREPARE wants them."""
    there = dsp.alloc((PLAN.itemsize + len(ops) * OP.itemsize,), np.uint8)
    head = there[: PLAN.itemsize].view(PLAN)
    head["magic"], head["version"], head["op_bytes"], head["n_ops"] = (
        PLAN_MAGIC,
        VERSION,
        OP.itemsize,
        len(ops),
    )
    head["rows_max"], head["out_rows_max"] = rows_max, out_rows_max
    for i, op in enumerate(ops):
        there[PLAN.itemsize + i * OP.itemsize :][: OP.itemsize] = np.frombuffer(
            op.tobytes(), np.uint8
        )
    return there


def tensor(
    dsp, array, counts, dtype=None, width=None, rows=None, depth=1, layout=ROWS, stride=None
):
    """Of a numpy array [rows, width] in the heap (may be a view of a wider one), or of bytes with
    everything said."""
    t = np.zeros((), TENSOR)
    t["offset"], t["layout"], t["counts"], t["depth"] = dsp.offset(array), layout, counts, depth
    t["dtype"] = DTYPES[dtype] if dtype else {"f": 0, "i": 26}[array.dtype.kind]
    t["width"] = array.shape[1] if width is None else width
    t["rows"] = array.shape[0] if rows is None else rows
    t["stride"] = array.strides[0] if stride is None else stride
    return t


def op_record(code, rows=RUN_ROWS, params=b"", inputs=(), outputs=(), layer=-1, **tiling):
    o = np.zeros((), OP)
    o["code"], o["rows"], o["layer"] = OPS.index(code), rows, layer
    o["params"][: len(params)] = np.frombuffer(params, np.uint8)
    for name, value in {"threads": 1, **tiling}.items():
        o["tiling"][name] = value
    for i, t in enumerate(inputs):
        if t is not None:
            o["in"][i] = t
    for i, t in enumerate(outputs):
        if t is not None:
            o["out"][i] = t
    return o
