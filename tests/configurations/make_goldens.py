"""Makes tests/golden/configurations.json and .npz: a sample of the random configurations, whose
weights come from a seed, with the logits of transformers. Needs torch and transformers: python
tests/configurations/make_goldens.py"""

import dataclasses
import json
import math
import tempfile
from pathlib import Path

import comparison
import numpy as np
import reference
from random_configurations import KINDS, draw, draw_pair, text_of

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
PER_KIND, PAIRS = 5, 4
LARGEST = 150_000  # numbers of a checkpoint
ROWS = (-13, -1)


def small(case):
    return sum(math.prod(shape) for shape in case.tensors.values()) < LARGEST


def is_linear(case):
    text = text_of(case.config)
    return '"linear"' in json.dumps([text.get("rope_parameters"), text.get("rope_scaling")])


def singles(kind, scratch):
    """Cases with their logits; two of them with linear scaling."""
    found, linear = [], 0
    for number in range(10_000, 10_400):
        case = draw(kind, number)
        if case.refusable or len(found) - linear >= PER_KIND - 2 and not is_linear(case):
            continue
        try:
            comparison.tensors_into(scratch / str(number), case)
        except reference.Unreadable:
            continue
        if (
            not small(case)
            or "router" in json.dumps(case.tensors)
            and not case.kind.startswith("gemma4")
        ):
            continue
        expected, reseed = comparison.expectation(scratch / str(number), case)
        if expected is None or reseed:
            continue
        found.append((case, expected[list(ROWS)]))
        linear += is_linear(case)
        if len(found) == PER_KIND:
            return found
    raise SystemExit(f"too few cases of {kind}")


def pairs(scratch):
    found = []
    for number in range(10_000, 10_100):
        pair, paths = draw_pair(number), [scratch / f"{number} {part}" for part in "ta"]
        for path, case in zip(paths, pair):
            comparison.tensors_into(path, case)
        if not all(map(small, pair)):
            continue
        expected, reseed = comparison.expectation(paths[0], pair[0])
        if expected is None or reseed:
            continue
        comparison.folders.write_folder(paths[1], pair[1])
        start, [(token, logits, state, clear)] = reference.drafts_of(*paths, pair[0].ids, 1)
        if clear:
            found.append((pair, dict(start=start, token=token, logits=logits, state=state)))
        if len(found) == PAIRS:
            return found
    raise SystemExit("too few pairs")


def main():
    cases, arrays = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for kind in KINDS:
            for number, (case, logits) in enumerate(singles(kind, Path(scratch))):
                cases[f"{kind}-{number}"] = [dataclasses.asdict(case)]
                arrays[f"{kind}-{number}.logits"] = logits
        for number, (pair, values) in enumerate(pairs(Path(scratch))):
            cases[f"pair-{number}"] = [dataclasses.asdict(case) for case in pair]
            arrays.update({f"pair-{number}.{name}": value for name, value in values.items()})
    lines = [f"{json.dumps(name)}: {json.dumps(parts)}" for name, parts in cases.items()]
    (GOLDEN / "configurations.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    np.savez_compressed(GOLDEN / "configurations.npz", **arrays)


if __name__ == "__main__":
    main()
