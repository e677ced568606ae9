"""The measurements of tools/gpu_check.sh as one Markdown table.

    python tools/gpu_table.py FOLDER [--output gpu.md] [--command WORDS]

FOLDER holds card.json ({"card", "driver", "toolkit"}) and, for each size and way, SIZE-WAY-N.json
from `pillion bench --json`, N from 1: one file a process. A figure is the median of the processes'
medians; the spread is (largest - smallest) / median."""

import argparse
import json
import re
import statistics
import sys
from datetime import date
from pathlib import Path

NAME = re.compile(r"(?P<size>\w+)-(?P<way>plain|drafter)-(?P<number>\d+)\.json")
WAYS = {"plain": "no drafter", "drafter": "with drafter"}
# test of bench: (words, whether it is told once a size, from the plain runs, or from the runs with
# drafter)
TESTS = {
    "prefill": ("prefill {n}", "plain"),
    "decode": ("decode {n} after {ctx}", "plain"),
    "verify": ("verify {rows} rows", "plain"),
    "draft_step": ("draft step, {head} head", "drafter"),
    "decode_draft": (
        "decode {n} with drafter, {mean_tokens_per_round:.2f} tokens a round",
        "drafter",
    ),
}
VERIFY_ROWS = (1, 2, 4, 9)


def read_runs(folder):
    """{size: {way: [results of a process]}}"""
    runs = {}
    for path in sorted(folder.glob("*.json")):
        if match := NAME.fullmatch(path.name):
            runs.setdefault(match["size"], {}).setdefault(match["way"], []).append(
                json.loads(path.read_text())
            )
    return runs


def key_of(one):
    return one["test"], one.get("rows"), one.get("head"), one.get("n_draft")


def rows_of(runs):
    """(size, words, median tokens/s, median ms, spread or None, note)"""
    for size, ways in sorted(runs.items()):
        for test, (words, way) in TESTS.items():
            processes = ways.get(way, [])
            for one in processes[0] if processes else []:
                if one["test"] != test or (test == "verify" and one["rows"] not in VERIFY_ROWS):
                    continue
                same = [o for results in processes for o in results if key_of(o) == key_of(one)]
                times = [o["median_ms"] for o in same]
                median = statistics.median(times)
                spread = (max(times) - min(times)) / median if len(times) > 1 and median else None
                speed = statistics.median(o["tokens_per_second"] for o in same)
                note = (
                    f"{statistics.median(o['speedup'] for o in same):.2f}× of none"
                    if "speedup" in one
                    else ""
                )
                yield size, words.format(**one), speed, median, spread, note


def table(folder, command):
    card, runs = json.loads((folder / "card.json").read_text()), read_runs(folder)
    if not runs:
        raise SystemExit(f"{folder} holds no measurements (SIZE-plain-1.json …)")
    processes = max(len(results) for ways in runs.values() for results in ways.values())
    lines = [
        f"{card['card']}, driver {card['driver']}, {card['toolkit']}, {date.today().isoformat()}.",
        f"`{command}`: random weights of true shape, {processes} processes each, median; "
        "spread: (largest − smallest) / median.",
        "Drafts are accepted at random, so that a round yields the tokens it says.",
        "",
        "| model | test | tokens/s | ms | spread | |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for size, words, speed, median, spread, note in rows_of(runs):
        shown = "one process" if spread is None else f"{100 * spread:.0f} %"
        lines.append(
            f"| {size.upper()} | {words} | {speed:.1f} | {median:.2f} | {shown} | {note} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--command", default="make gpu")
    options = parser.parse_args()
    text = table(options.folder, options.command)
    if options.output:
        options.output.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
