"""What pictures and sounds cost with an mmproj file of true shape.

    python benchmarks/make_synthetic_mmproj.py mmproj.gguf --size e2b --type q8_0
    python benchmarks/media_report.py --mmproj mmproj.gguf [--model TARGET] [--threads 2]
        [--tokens 70,280,1120] [--seconds 30] [-r 3] [--json OUT]

encode   a picture of each budget, and a sound: seconds, in turn
memory   what a fresh process holds after a picture of 280 tokens and the sound, over the file
first    with --model: the first token behind a prompt with a picture of 280 tokens, over encoding
         it and reading the prompt each by itself"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np
import pillion

RATE = 16000
PHOTO = (768, 1024)  # 4 : 3
BUDGET = 280
HELD = """
kb = next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("VmRSS"))
print(kb * 1024)
"""
BARE = "import numpy, pillion, sys" + HELD
PROBE = (
    """
import sys
import numpy as np, pillion
towers = pillion.Mmproj(sys.argv[1], n_threads=int(sys.argv[2]))
if towers.has_vision:
    towers.encode_image(np.zeros((768, 1024, 3), np.uint8), 280)
if towers.has_audio:
    towers.encode_audio(np.zeros(30 * 16000, np.float32))
"""
    + HELD
)


def timed(work, *arguments):
    """Seconds, and what it returned."""
    begin = time.perf_counter()
    made = work(*arguments)
    return time.perf_counter() - begin, made


def picture(seed=1):
    """A smooth picture: its content does not matter for the speed."""
    y, x = np.mgrid[0 : PHOTO[0], 0 : PHOTO[1]]
    waves = np.sin(y / 31 + seed) + np.cos(x / 17)
    return np.repeat(((waves + 2) * 63).astype(np.uint8)[:, :, None], 3, axis=2)


def sound(seconds):
    """A chord."""
    at = np.arange(int(seconds * RATE)) / RATE
    return (0.3 * sum(np.sin(2 * np.pi * f * at) for f in (220, 277, 330))).astype(np.float32)


def encodings(towers, budgets, seconds, repetitions):
    """{what: seconds of each encoding}, in turn."""
    works = {}
    if towers.has_vision:
        works |= {f"picture, {n}": (towers.encode_image, picture(), n) for n in budgets}
    if towers.has_audio:
        works[f"sound, {seconds:g} s"] = (towers.encode_audio, sound(seconds))
    took = {name: [] for name in works}
    for work in works.values():
        work[0](*work[1:])  # loads, compiles
    for _ in range(repetitions):
        for name, work in works.items():
            took[name].append(timed(*work)[0])
    return took


def resident(script, *arguments):
    """Bytes that a fresh process holds at its end."""
    words = [sys.executable, "-c", script, *map(str, arguments)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def first_token(model, towers, threads, repetitions):
    """Seconds to the first token behind a picture, and the sum of its parts: medians, in turn."""
    question = [10 + 37 * i % 490 for i in range(32)]

    def encode(number):
        rows = towers.encode_image(picture(number), BUDGET)
        first = model.add_media(rows, number.to_bytes(32, "little"))
        return [2, *range(first, first - len(rows), -1), *question]

    def whole(context, number):
        context.clear()
        context.sync(encode(number))

    together, parts = [], []
    with model.context(2048, n_threads=threads) as context:
        whole(context, 0)
        for i in range(repetitions):
            together.append(timed(whole, context, 2 * i + 1)[0])
            encoded, ids = timed(encode, 2 * i + 2)
            context.clear()
            parts.append(encoded + timed(context.sync, ids)[0])
    return statistics.median(together), statistics.median(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mmproj", required=True)
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", default="70,280,1120")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("-r", "--repetitions", type=int, default=3)
    parser.add_argument("--json")
    o = parser.parse_args()
    budgets = [int(n) for n in o.tokens.split(",")]
    found = {"versions": pillion.system()}
    with pillion.Mmproj(o.mmproj, n_threads=o.threads) as towers:
        for name, took in encodings(towers, budgets, o.seconds, o.repetitions).items():
            found[name] = took
            middle = statistics.median(took)
            print(f"{name:20} {middle:7.3f} s ({min(took):.3f} to {max(took):.3f})")
        held = resident(PROBE, o.mmproj, o.threads) - resident(BARE)
        found["memory"] = {"held": held, "file": towers.file_bytes}
        print(f"{'memory':20} {held / 1e6:7.0f} MB, {held / towers.file_bytes:.2f} of the file")
        if o.model:
            with pillion.Model.open(o.model, device="cpu") as model:
                whole, parts = first_token(model, towers, o.threads, o.repetitions)
            found["first"] = {"whole": whole, "parts": parts}
            print(f"{'first token':20} {whole:7.3f} s, {whole / parts:.3f} of encoding and reading")
    if o.json:
        with open(o.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
