"""One random configuration: what transformers computes from the checkpoint, and pillion from the
converted file."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))

import checkpoint_folder as folders  # noqa: E402
import reference  # noqa: E402
from random_configurations import draw, draw_pair  # noqa: E402

# Twelve layers amplify rounding (a key may become its neighbour in f16); a fault shows by a
# hundredfold.
NMSE = 1e-5
NMSE_DRAFTED = 1e-5
NMSE_CHAINED = 1e-3
N_DRAFTS = 3


def tensors_into(folder, case):
    """Asks transformers for the tensors of the case; raises reference.Unreadable."""
    folders.write_config(folder, case)
    case.tensors = reference.shapes_of(folder)


def expectation(folder, case):
    """([tokens, vocabulary] of transformers, number that makes the weights); None: no weights with
    clearly chosen experts."""
    for reseed in range(8):
        folders.write_folder(folder, case, wrapped=False, reseed=reseed)
        expected, margin = reference.logits_of(folder, case.ids)
        if margin > reference.EXPERT_MARGIN:
            return expected, reseed
    return None, 0


def compare(pillion, kind, number, scratch):
    """What came of it: "same", "refused", "unreadable" (by transformers) or "unclear". Raises
    AssertionError for all else."""
    from pillion.convert import convert

    case = draw(kind, number)
    try:
        tensors_into(scratch / "theirs", case)
    except reference.Unreadable:
        return "unreadable"
    expected, reseed = expectation(scratch / "theirs", case)
    if expected is None:
        return "unclear"
    folders.write_folder(scratch / "ours", case, reseed=reseed)
    try:
        convert(scratch / "ours", scratch / "out.gguf", outtype="f32", n_threads=1)
    except pillion.UnsupportedModelError as error:
        assert case.refusable and case.refusable in str(error), f"{kind} {number}: {error}"
        return "refused"
    assert not case.refusable, f"{kind} {number}: {case.refusable} was converted"
    error = folders.nmse(folders.logits_of(pillion, scratch / "out.gguf", case.ids), expected)
    assert error < NMSE, f"{kind} {number}: {error:.1e} away from transformers; {case.config}"
    return "same"


def compare_pair(pillion, number, scratch):
    """The same for a target and its assistant: the drafter's scores and states."""
    from pillion.convert import convert

    pair, paths = draw_pair(number), [scratch / "target", scratch / "assistant"]
    try:
        for path, case in zip(paths, pair):
            tensors_into(path, case)
    except reference.Unreadable:
        return "unreadable"
    expected, reseed = expectation(paths[0], pair[0])
    if expected is None:
        return "unclear"
    for path, case in zip(paths, pair):
        folders.write_folder(path, case, reseed=reseed)
    start, steps = reference.drafts_of(*paths, pair[0].ids, N_DRAFTS)
    for path in paths:
        convert(path, path.with_suffix(".gguf"), outtype="f32", n_threads=1)
    found = folders.drafts_of(
        pillion, *(path.with_suffix(".gguf") for path in paths), pair[0].ids, start, N_DRAFTS
    )
    for step, ((token, logits, state, clear), (ours, our_logits, our_state)) in enumerate(
        zip(steps, found)
    ):
        if not clear:
            break
        error = folders.drafted_error(our_logits, our_state, logits, state)
        assert error < (NMSE_CHAINED if step else NMSE_DRAFTED), (
            f"pair {number}, step {step}: {error:.1e}; {pair[1].config}"
        )
        assert ours == token, f"pair {number}, step {step}: token {ours}, not {token}"
    return "same"
