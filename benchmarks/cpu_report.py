"""What one model reaches on this machine's CPU, each figure beside the limit or the baseline of the
same minute.

    python benchmarks/cpu_report.py --model FILE [--threads 2] [--depths 8192,32768] [--kv-types
    f16,q8_0]
        [--only rows,prefill,depth,busy,load,memory] [--rows 1,2,4,8] [-r 5] [--json OUT]

rows     one step of some numbers of rows (`--rows 1-32`: all to 32) with all logits, in turn; cost
         over one row, share of read bandwidth and of the int8 peak, the latter also of the time
         that the process had a core, which a busy neighbour spoils less
prefill  512 tokens; share of the int8 peak on the work that is needed
depth    one step at a depth less one at depth 64: the cache's bytes over that time, as a share of
         read bandwidth
busy     decode while another process spins on one core, over decode without it, in turn
load     open, context and first token with the file in the page cache, over reading the file once,
         in turn, fresh processes
memory   the most memory of a fresh process that loads, prefills 512 tokens and decodes: anonymous,
         over weights + cache

`pillion bench` measures the drafter; `compare_llama_cpp.py` the other engine; `compare_results.py`
two outputs of this program. PILLION_CPU_ISA=x86_avx2 forces a kernel table, whose int8 peak is then
the limit."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pillion

TESTS = ("rows", "prefill", "depth", "busy", "load", "memory")
PROMPT = 64


def tokens(n):
    """Ids that every vocabulary has; which ones does not matter for the speed."""
    return [10 + 37 * i % 490 for i in range(n)]


def timed(work, *arguments):
    """Seconds."""
    begin = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begin


def spread(values):
    return (max(values) - min(values)) / statistics.median(values)


class Probed:
    """Read bandwidth and int8 peak around a block of measurements, as the mean of before and
    after."""

    def __init__(self, context):
        self.context = context

    def __enter__(self):
        self.before = self.context.limits()
        return self

    def __exit__(self, *_):
        after = self.context.limits()
        self.read, self.dots = (
            statistics.mean(pair) for pair in zip(self.before, after, strict=False)
        )
        self.drift = max(after[0], self.before[0]) / min(after[0], self.before[0]) - 1

    def facts(self, work, seconds):
        moved = work.weight_bytes + work.kv_bytes
        return {
            "share_of_bandwidth": moved / seconds / self.read,
            "share_of_int8_peak": work.multiply_adds / seconds / self.dots if self.dots else None,
            "read_gb_per_second": self.read / 1e9,
            "int8_tops": 2 * self.dots / 1e12,
            "probe_drift": self.drift,
        }


def result(test, name, seconds, **facts):
    return {
        "test": test,
        "name": name,
        "median_ms": 1e3 * statistics.median(seconds),
        "spread": spread(seconds),
        **facts,
    }


def step(context, row_tokens):
    seconds = timed(context.decode, row_tokens)
    context.rewind(context.n_past - len(row_tokens))
    return seconds


def step_on_cores(context, row_tokens, threads):
    """Seconds, and the CPU seconds of a thread."""
    begin = time.process_time()
    seconds = timed(context.decode, row_tokens)
    on_cores = (time.process_time() - begin) / threads
    context.rewind(context.n_past - len(row_tokens))
    return seconds, on_cores


def rows(model, options):
    counts, most = sorted({1, *options.rows}), max(options.rows)
    context = model.context(n_ctx=PROMPT + most + 8, n_threads=options.threads, n_outputs=most)
    context.prefill(tokens(PROMPT))
    best = []
    for _ in range(options.repeats):
        times = {n: [] for n in counts}
        on_cores = {n: [] for n in counts}
        with Probed(context) as probe:
            for _ in range(6):
                for n in counts:
                    seconds, cpu = step_on_cores(context, tokens(n), options.threads)
                    times[n].append(seconds)
                    on_cores[n].append(cpu)
        best.append((times, on_cores, probe))
    for n in counts:
        medians = [statistics.median(times[n]) for times, _, _ in best]
        ratios = [statistics.median(times[n]) / statistics.median(times[1]) for times, _, _ in best]
        work = context.work(n, n)
        shares = [
            {
                **probe.facts(work, statistics.median(times[n])),
                "share_of_int8_peak_on_cores": (
                    work.multiply_adds / statistics.median(on_cores[n]) / probe.dots
                    if probe.dots
                    else None
                ),
            }
            for times, on_cores, probe in best
        ]
        facts = {
            key: statistics.median(share[key] for share in shares)
            for key in shares[0]
            if shares[0][key] is not None
        }
        yield result("rows", f"{n} rows", medians, over_one_row=statistics.median(ratios), **facts)


def row_counts(text):
    """1,2,4,8 or 1-32."""
    low, dash, high = text.partition("-")
    if dash:
        return list(range(int(low), int(high) + 1))
    return [int(n) for n in text.split(",")]


def prefill(model, options):
    context = model.context(n_ctx=528, n_threads=options.threads)
    context.prefill(tokens(512))
    times = []
    with Probed(context) as probe:
        for _ in range(options.repeats):
            context.clear()
            times.append(timed(context.prefill, tokens(512)))
    context.clear()
    yield result(
        "prefill",
        "512 tokens",
        times,
        **probe.facts(context.work(512, 1), statistics.median(times)),
    )


def depth(model, options):
    shallow = model.context(n_ctx=PROMPT + 16, n_threads=options.threads)
    shallow.prefill(tokens(PROMPT))
    for kv_type in options.kv_types:
        for n in options.depths:
            deep = model.context(n_ctx=n + 16, n_threads=options.threads, kv_type=kv_type)
            deep.prefill(tokens(n))
            moved = deep.work(1, 1).kv_bytes - shallow.work(1, 1).kv_bytes
            near, far, extra, shares = [], [], [], []
            for _ in range(options.repeats):
                with Probed(shallow) as probe:
                    pairs = [(step(shallow, tokens(1)), step(deep, tokens(1))) for _ in range(8)]
                near += [pair[0] for pair in pairs]
                far += [pair[1] for pair in pairs]
                extra.append(statistics.median(pair[1] - pair[0] for pair in pairs))
                shares.append((moved / extra[-1] / probe.read, probe.read))
            yield result(
                "depth",
                f"{kv_type} cache, {n} positions",
                far,
                shallow_ms=1e3 * statistics.median(near),
                attention_ms=1e3 * statistics.median(extra),
                kv_mb=moved / 1e6,
                share_of_bandwidth=statistics.median(share for share, _ in shares),
                read_gb_per_second=statistics.median(read for _, read in shares) / 1e9,
            )


def busy(model, options):
    context = model.context(n_ctx=PROMPT + 200, n_threads=options.threads)
    context.prefill(tokens(PROMPT))

    def decode():
        seconds = timed(lambda: [context.decode(token) for token in tokens(32)])
        context.rewind(PROMPT)
        return seconds

    quiet, disturbed = [], []
    core = sorted(os.sched_getaffinity(0))[0]
    for _ in range(options.repeats):
        quiet.append(decode())
        hog = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass",
            ]
        )
        try:
            time.sleep(0.2)
            disturbed.append(decode())
        finally:
            hog.kill()
            hog.wait()
    ratio = statistics.median(q / d for q, d in zip(quiet, disturbed, strict=False))
    yield result("busy", "one core taken", disturbed, of_idle_speed=ratio)


CHILD = """
import sys, time
begin = time.perf_counter()
import pillion
path, threads, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
begin = time.perf_counter()
model = pillion.Model.open(path)
context = model.context(n_ctx=n + 16, n_threads=threads)
opened = time.perf_counter()
context.prefill([10 + 37 * i % 490 for i in range(n)])
context.decode(10)
lines = open("/proc/self/status").read().splitlines()
status = dict(line.split(":") for line in lines if line.startswith(("Vm", "Rss")))
own = {name: 1024 * int(status[name].split()[0]) for name in ("VmHWM", "RssAnon", "RssFile")}
facts = model.describe()
kv_bytes = context.describe()["kv_bytes"]
print(opened - begin, *own.values(), facts["weight_bytes"], kv_bytes)
"""


def child(options, n):
    run = subprocess.run(
        [sys.executable, "-c", CHILD, options.model, str(options.threads), str(n)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(value) for value in run.stdout.split()]


def read_once(path):
    piece = bytearray(1 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(piece):
            pass


def load(model, options):
    opened, read = [], []
    read_once(options.model)
    for _ in range(options.repeats):
        read.append(timed(read_once, options.model))
        opened.append(child(options, 1)[0])
    ratio = statistics.median(o / r for o, r in zip(opened, read, strict=False))
    yield result(
        "load", "open", opened, over_reading=ratio, reading_ms=1e3 * statistics.median(read)
    )


def memory(model, options):
    _, peak, anonymous, mapped, weights, kv = child(options, 512)
    yield {
        "test": "memory",
        "name": "peak",
        "anonymous_mb": anonymous / 1e6,
        "mapped_mb": mapped / 1e6,
        "peak_mb": peak / 1e6,
        "weights_and_kv_mb": (weights + kv) / 1e6,
        "over_weights_and_kv": anonymous / (weights + kv),
    }


def show(one):
    facts = {
        key: value
        for key, value in one.items()
        if key not in ("test", "name") and value is not None
    }
    print(
        f"{one['test']:8} {one['name']:28}",
        "  ".join(f"{key} {value:.3g}" for key, value in facts.items()),
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--depths", default="8192,32768")
    parser.add_argument("--kv-types", default="f16,q8_0")
    parser.add_argument("--rows", type=row_counts, default=[1, 2, 4, 8])
    parser.add_argument("--only", default=",".join(TESTS))
    parser.add_argument("-r", "--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.depths = [int(n) for n in options.depths.split(",")]
    options.kv_types = options.kv_types.split(",")
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(TESTS):
        parser.error(f"no test is named {', '.join(sorted(unknown))}; there are {', '.join(TESTS)}")
    table = pillion.system()["cpu"]["table"]
    print(
        f"{Path(options.model).name}: {options.threads} threads, "
        f"{table}, pillion {pillion.__version__}",
        flush=True,
    )
    model = None if set(wanted) <= {"load", "memory"} else pillion.Model.open(options.model)
    results = []
    for test in TESTS:
        if test in wanted:
            for one in globals()[test](model, options):
                results.append(one)
                show(one)
    if options.json:
        facts = {
            "model": Path(options.model).name,
            "threads": options.threads,
            "table": table,
            "machine": platform.processor(),
        }
        options.json.write_text(
            json.dumps({**facts, "pillion": pillion.__version__, "results": results}, indent=1)
            + "\n"
        )


if __name__ == "__main__":
    main()
