"""A process of its own for tests of the Hexagon backend, which reads its environment once: opens a
model, generates, reports as JSON.

Standard input: {"target": path, "device": name, "prompt": ids, "n": tokens} and, for pairs,
"drafter", "drafter_device", "n_draft"; "settings" of the context; "contexts": how often to do it;
"turns": how often in each of them, from the prompt on. Each generation is followed through errors:
the token is asked for again, up to "retries" times.
"""

import json
import sys

import pillion


def greedy():
    return pillion.Sampler(pillion.SamplingParams(temperature=0))


def generate(context, pair, work, errors):
    prompt, n, sampler, tokens = work["prompt"], work["n"], greedy(), []
    again = work.get("retries", 0)

    def attempt(f):
        nonlocal again
        while True:
            before = len(context)
            try:
                return f()
            except pillion.PillionError as error:
                errors.append([type(error).__name__, str(error), before, len(context)])
                again -= 1
                if again < 0:
                    raise

    if pair:
        attempt(lambda: pair.sync(prompt))
        while len(tokens) < n:
            tokens += attempt(
                lambda: pair.step(sampler, work.get("n_draft", 3), n - len(tokens))
            ).tokens
        return tokens
    attempt(lambda: context.sync(prompt))
    while len(tokens) < n:
        tokens.append(sampler.sample(context))
        sampler.accept(tokens[-1])
        attempt(lambda: context.decode(tokens[-1]))
    return tokens


def main():
    work = json.load(sys.stdin)
    out = {"tokens": [], "errors": []}
    try:
        target = pillion.Model.open(work["target"], device=work["device"])
        drafter = (
            pillion.Model.open(work["drafter"], device=work.get("drafter_device", work["device"]))
            if "drafter" in work
            else None
        )
        for _ in range(work.get("contexts", 1)):
            context = target.context(**{"n_ctx": 128, **work.get("settings", {})})
            pair = pillion.Pair(context, drafter) if drafter else None
            for _ in range(work.get("turns", 1)):
                out["tokens"].append(generate(context, pair, work, out["errors"]))
            out["plan"] = context.describe()["plan"]
            if pair:
                out["stats"] = pair.stats.as_dict()
                pair.close()
            context.close()
    except pillion.PillionError as error:
        out["failed"] = [type(error).__name__, str(error)]
    backends = {b["name"]: b for b in pillion.devices.system()["backends"]}
    out["htp"] = backends.get(work["device"]) or backends.get("htp")
    with open("/proc/self/maps", encoding="ascii") as maps:
        out["maps"] = sorted({line.split()[-1] for line in maps if ".so" in line})
    print(json.dumps(out))


if __name__ == "__main__":
    main()
