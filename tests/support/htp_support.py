"""What tests of the Hexagon backend share: children with an environment of their own, the faults of
the simulator, the emulated program."""

import json
import mmap
import os
import struct
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

FAIL, DIE, SLEEP = 1, 2, 3
# offset of fault, fault_runs, fault_op, fault_ms in struct htp_sim_control (wire/htp_sim_ring.h)
_FAULT = 64


def child(work, timeout=120, **env):
    """Runs htp_child.py on this work with variables added (None: taken away) and returns its
    report."""
    variables = {**os.environ, **{k: str(v) for k, v in env.items() if v is not None}}
    for name in [k for k, v in env.items() if v is None]:
        variables.pop(name, None)
    work = {k: str(v) if isinstance(v, Path) else v for k, v in work.items()}
    done = subprocess.run(
        [sys.executable, HERE / "htp_child.py"],
        input=json.dumps(work),
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def control_blocks():
    """Numbers of this process's descriptors of the simulators' control blocks."""
    found = []
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            if "pillion-htp-control" in os.readlink(f"/proc/self/fd/{name}"):
                found.append(int(name))
        except OSError:
            pass
    return found


def _write_fault(kind, runs=0, op=0, ms=0):
    for block in control_blocks():
        with mmap.mmap(block, 4096) as words:
            words[_FAULT + 4 : _FAULT + 16] = struct.pack("<III", runs, op, ms)
            words[_FAULT : _FAULT + 4] = struct.pack("<I", kind)


def inject(kind, runs=0, op=0, ms=0):
    """After `runs` more runs have begun, before op `op`: the run fails, the process ends, or it
    sleeps. Of whichever simulator runs next: the package and the tests' own module have one
    each."""
    _write_fault(kind, runs, op, ms)


def clear_faults():
    _write_fault(0)


def own_simulator(run):
    """Process id of the simulator that `run` runs on: a fault of no consequence is taken by it
    alone."""
    inject(SLEEP)
    run()
    for number in control_blocks():
        with mmap.mmap(number, 4096) as words:
            if struct.unpack("<I", words[_FAULT : _FAULT + 4])[0] == 0:
                break
    else:
        raise AssertionError("no simulator took the fault")
    clear_faults()
    (process,) = [
        p
        for p in simulators()
        if f"/fd/{number}".encode()
        in Path("/proc", str(p), "cmdline").read_bytes().split(b"\0")[-2]
    ]
    return process


def simulators():
    """Process ids of this process's children that play a DSP."""
    me, found = os.getpid(), []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = Path("/proc", name, "stat").read_text()
            parent, command = (
                int(stat.rsplit(")", 1)[1].split()[1]),
                Path("/proc", name, "cmdline").read_bytes(),
            )
        except (OSError, IndexError):
            continue
        if parent == me and b"pillion_htp_sim" in command:
            found.append(int(name))
    return found
