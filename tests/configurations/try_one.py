"""Tries random configurations one after the other and prints what differs: python try_one.py KIND FIRST LAST"""

import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import checkpoint_folder as ours
import reference
from random_configurations import draw

import pillion
from pillion.convert import convert


def attempt(kind, number):
    """A word on what came of it, and what was seen."""
    case = draw(kind, number)
    with tempfile.TemporaryDirectory() as scratch:
        theirs, mine = Path(scratch) / "theirs", Path(scratch) / "mine"
        ours.write_config(theirs, case)
        try:
            case.tensors = reference.shapes_of(theirs)
        except reference.Unreadable as error:
            return "unreadable", str(error)
        ids = case.ids
        for reseed in range(8):
            ours.write_folder(theirs, case, wrapped=False, reseed=reseed)
            expected, margin = reference.logits_of(theirs, ids)
            if margin > reference.EXPERT_MARGIN:
                break
        else:
            return "no clear experts", ""
        ours.write_folder(mine, case, reseed=reseed)
        try:
            convert(mine, Path(scratch) / "out.gguf", outtype="f32", n_threads=1)
        except pillion.PillionError as error:
            if case.refusable and case.refusable in str(error):
                return "refused", ""
            return "REFUSED", f"{case.refusable!r}: {error}"
        if case.refusable:
            return "NOT REFUSED", case.refusable
        found = ours.logits_of(pillion, Path(scratch) / "out.gguf", ids)
        error = ours.nmse(found, expected)
        return ("same", "") if error < ours.NMSE else ("DIFFERS", f"{error:.2e}")


if __name__ == "__main__":
    counts = Counter()
    kinds = sys.argv[1].split(",")
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        for kind in kinds:
            try:
                what, why = attempt(kind, number)
            except Exception:
                what, why = "CRASH", traceback.format_exc()[-1500:]
            counts[what] += 1
            if what.isupper():
                print(kind, number, what, why, flush=True)
            elif what == "unreadable":
                print(kind, number, what, why[:160], flush=True)
    print(counts)
