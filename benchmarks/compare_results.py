"""Two results of cpu_report.py or of `pillion bench --json`, side by side; exits with 1 when
something became worse.

    python benchmarks/compare_results.py BEFORE.json AFTER.json [--tolerance 0.08]

Compared are the figures that a drifting machine leaves alone: shares of a limit and ratios to
something measured in the same run. Times are compared only with --times, for two files of one
machine. A figure counts as worse when it moved the wrong way by more than the tolerance, or by more
than the spread of its own repetitions."""

import argparse
import json
import sys
from pathlib import Path

# figure: whether more is better
FIGURES = {
    "over_one_row": False,
    "share_of_bandwidth": True,
    "share_of_int8_peak": True,
    "of_idle_speed": True,
    "over_reading": False,
    "over_weights_and_kv": False,
    "speedup": True,
}
TIME = "median_ms"


def results_of(path):
    """{(test, name): figures}"""
    content = json.loads(path.read_text())
    results = content["results"] if isinstance(content, dict) else content
    found = {}
    for one in results:
        name = one.get("name") or " ".join(
            f"{key}={one[key]}"
            for key in ("rows", "n", "ctx", "n_draft", "head")
            if one.get(key) is not None
        )
        found[one["test"], name] = one
    return found


def changes(before, after, figures, tolerance):
    """(test, name, figure, old, new, better, judged worse) of what both have."""
    for key in before.keys() & after.keys():
        old, new = before[key], after[key]
        # The limit that counts is the one that is nearer; the other share only echoes it.
        shares = [
            name
            for name in ("share_of_bandwidth", "share_of_int8_peak")
            if old.get(name) and new.get(name)
        ]
        binding = max(shares, key=lambda name: old[name], default=None)
        for figure, more_is_better in figures.items():
            if (
                not old.get(figure)
                or not new.get(figure)
                or (figure in shares and figure != binding)
            ):
                continue
            gain = new[figure] / old[figure] if more_is_better else old[figure] / new[figure]
            allowed = max(tolerance, min(old.get("spread", 0), new.get("spread", 0)))
            yield *key, figure, old[figure], new[figure], gain - 1, gain < 1 - allowed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.08)
    parser.add_argument("--times", action="store_true", help="judge times as well")
    options = parser.parse_args()
    before, after = results_of(options.before), results_of(options.after)
    figures = {**FIGURES, TIME: False} if options.times else FIGURES
    found = sorted(changes(before, after, figures, options.tolerance))
    for test, name, figure, old, new, gain, worse in found:
        print(
            f"{test:10} {name:30} {figure:20} {old:9.3g} -> {new:9.3g}  "
            f"{gain:+7.1%}{'  WORSE' if worse else ''}"
        )
    for test, name in sorted(before.keys() - after.keys()):
        print(f"{test:10} {name:30} is missing in {options.after}")
    if not found:
        sys.exit("the two files have no figure in common")
    sys.exit(any(worse for *_, worse in found) or bool(before.keys() - after.keys()))


if __name__ == "__main__":
    main()
