"""The CPU's thread pool: every chunk once, no step before the last one's end, cancelling, and no
data race."""

import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

import op_cases as oc
from testing_ops import testing
from patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
COUNTS = (1, 2, 3, 4, 5, 8)
SOURCES = (
    "tests/runners/pool_runner.cpp",
    "csrc/backends/cpu/thread_pool.cpp",
    "csrc/core/fork.cpp",
    "csrc/core/log.cpp",
)


def check(result, runs, chunks):
    assert result["finished"] == runs
    assert result["complete"] == runs, f"chunks ran {result['counts']} times in the last run"
    assert result["early"] == 0, (
        f"{result['early']} chunks ran before the step in front of theirs was done"
    )
    assert result["bad_worker"] == 0
    assert result["counts"] == [[1] * n for n in chunks]


@pytest.mark.parametrize("threads", COUNTS)
def test_many_small_steps(threads):
    """2000 runs of two dozen steps, empty ones and rows of single chunks among them; chunks of
    no time, of a few and many cycles."""
    r = oc.rng("pool", threads)
    pool = testing.ThreadPool(threads)
    assert pool.threads == threads
    for spin, runs in ((0, 1000), (30, 800), (1000, 200)):
        chunks = r.choice([0, 1, 1, 1, 2, 3, threads, 2 * threads, 40], 24).tolist()
        check(pool.run_steps(chunks, runs, spin), runs, chunks)


@pytest.mark.parametrize(
    "chunks", [[], [0], [1], [0, 0, 0], [64], [1] * 50, [0, 5, 0, 5, 0], [1000, 1, 1000]]
)
def test_shapes(chunks):
    for threads in (1, 2, 7):
        check(testing.ThreadPool(threads).run_steps(chunks, 20), 20, chunks)


def test_pools_come_and_go():
    """Made and destroyed right after a run, when workers may still be on their way to sleep."""
    for i in range(200):
        check(testing.ThreadPool(2 + i % 4).run_steps([3, 1, 5], 2), 2, [3, 1, 5])
    for i in range(100):
        testing.ThreadPool(1 + i % 8)


@pytest.mark.parametrize("threads", COUNTS)
def test_workers_that_sleep_are_woken(threads):
    """Every one of them, or the step could not end."""
    pool = testing.ThreadPool(threads)
    for _ in range(20):
        time.sleep(0.002)  # longer than they spin
        assert pool.meet(threads, PATIENCE)
    if threads > 1:
        assert not pool.meet(threads + 1, 0.05)  # one more than there are: it tells


def test_parallel_for():
    for threads in COUNTS:
        pool = testing.ThreadPool(threads)
        for chunks in (0, 1, 2, threads, 1000):
            assert pool.parallel_for(chunks) == (True, [1] * chunks)


def test_two_pools_at_once():
    """Two contexts, each with a pool of its own and a caller of its own."""
    results = {}

    def work(name):
        results[name] = testing.ThreadPool(3).run_steps([4, 1, 6, 3], 300, 10)

    callers = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    for i in range(2):
        check(results[i], 300, [4, 1, 6, 3])


@pytest.mark.parametrize("threads", COUNTS)
def test_cancel_between_steps(threads):
    """The step at work is finished, none after it begins; the flag stays, and its owner clears
    it."""
    pool = testing.ThreadPool(threads)
    chunks = [2, 1, 5, 1, 1, 4]
    for at in range(6):
        result = pool.run_steps(chunks, 50, 0, cancel_step=at)
        assert result["finished"] == (50 if at == 5 else 0)  # nothing was left to stop
        assert result["counts"] == [[1 if step <= at else 0] * n for step, n in enumerate(chunks)]
        assert result["early"] == 0
    check(pool.run_steps(chunks, 50), 50, chunks)
    pool.cancel = True
    assert pool.parallel_for(9) == (False, [0] * 9)
    assert pool.parallel_for(9) == (False, [0] * 9)
    pool.cancel = False
    assert pool.parallel_for(9) == (True, [1] * 9)


def test_cancel_from_another_thread():
    for threads in (1, 2, 4):
        pool = testing.ThreadPool(threads)
        finished, ran = pool.cancel_from_outside(100_000, 20)
        assert not finished and 20 <= ran < 100_000
        check(pool.run_steps([3, 1, 3], 5), 5, [3, 1, 3])


def in_a_child(work):
    """Whether it returned true in a fork of this process; what hangs there is ended."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        os._exit(0 if work() else 1)
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("threads", COUNTS)
def test_a_child_has_workers_of_its_own(threads):
    """Made at its first run, all of them, and again in a child of the child; the parent keeps
    its own."""
    pool = testing.ThreadPool(threads)
    assert pool.meet(threads, PATIENCE)

    def works():
        met = pool.meet(threads, PATIENCE) and pool.meet(threads, PATIENCE)
        check(pool.run_steps([3, 1, threads, 0, 40], 200), 200, [3, 1, threads, 0, 40])
        return met

    for _ in range(5):
        assert in_a_child(works)
        assert in_a_child(lambda: works() and in_a_child(works) and works())
        assert works()


def test_a_pool_that_is_freed_in_a_child():
    """Used there or not: the threads of the parent are not joined, those of the child are."""
    pools = [testing.ThreadPool(threads) for threads in COUNTS]

    def free():
        pools[-1].parallel_for(100)
        pools.clear()
        made = testing.ThreadPool(4)
        return made.meet(4, PATIENCE)

    for _ in range(5):
        assert in_a_child(free)
    assert all(pool.meet(pool.threads, PATIENCE) for pool in pools)


def test_a_fork_in_the_middle_of_another_threads_run():
    """The child's copy of the pool is full of a step that nobody will finish; its own runs see
    nothing of it."""
    pool = testing.ThreadPool(4)
    over = threading.Event()

    def run():
        while not over.is_set():
            pool.run_steps([4, 1, 40, 3, 40], 50, 300)

    runner = threading.Thread(target=run)
    runner.start()
    try:
        for _ in range(30):
            whole = (True, [1] * 99)
            assert in_a_child(lambda: pool.meet(4, PATIENCE) and pool.parallel_for(99) == whole)
    finally:
        over.set()
        runner.join()
    check(pool.run_steps([4, 1, 40], 20), 20, [4, 1, 40])


def test_thread_sanitizer(tmp_path):
    """tests/runners/pool_runner.cpp under ThreadSanitizer for a few seconds."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("no C++ compiler")
    flags = [
        "-std=c++17",
        "-O1",
        "-g",
        "-fsanitize=thread",
        "-Wall",
        "-Wextra",
        "-pthread",
        "-I",
        str(ROOT / "csrc"),
    ]
    probe = tmp_path / "probe.cpp"
    probe.write_text("int main() { return 0; }")
    made = subprocess.run(
        [compiler, *flags, str(probe), "-o", str(tmp_path / "probe")],
        capture_output=True,
        text=True,
    )
    if (
        made.returncode != 0
        or subprocess.run([tmp_path / "probe"], capture_output=True).returncode != 0
    ):
        pytest.skip(f"{compiler} has no working -fsanitize=thread here")
    runner = tmp_path / "pool_runner"
    sources = [ROOT / path for path in SOURCES]
    subprocess.run([compiler, *flags, *map(str, sources), "-o", str(runner)], check=True)
    done = subprocess.run([runner, "2"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    runs, failures = (int(word) for word in done.stdout.split()[::2])
    assert runs > 50 and failures == 0, done.stdout


def test_the_sanitizer_would_see_a_race(tmp_path):
    """The runner with a step that shares a plain counter: the test above can fail."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("no C++ compiler")
    runner = tmp_path / "pool_runner"
    sources = [ROOT / path for path in SOURCES]
    flags = [
        "-std=c++17",
        "-O1",
        "-fsanitize=thread",
        "-pthread",
        "-DRACE",
        "-I",
        str(ROOT / "csrc"),
    ]
    if (
        subprocess.run(
            [compiler, *flags, *map(str, sources), "-o", str(runner)], capture_output=True
        ).returncode
        != 0
    ):
        pytest.skip(f"{compiler} has no working -fsanitize=thread here")
    done = subprocess.run([runner, "1"], capture_output=True, text=True, timeout=120)
    assert "data race" in done.stderr
