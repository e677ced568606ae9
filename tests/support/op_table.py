"""The ops and formats as core/contract declares them, through pillion._testing.

The bindings are built by `make build`. PILLION_TESTING names another folder that holds them.
"""

import os
import sys

import pytest


def load():
    folder = os.environ.get("PILLION_TESTING")
    if folder:
        sys.path.insert(0, folder)
        return pytest.importorskip("_testing", reason=f"{folder} holds no _testing")
    return pytest.importorskip(
        "pillion._testing",
        reason="the test bindings are not built: make build",
        exc_type=ImportError,
    )


testing = load()
FORMATS = testing.formats()
TABLE = testing.ops()
OPS = list(TABLE)  # by number
INPUTS = {op: [operand["name"] for operand in of["inputs"]] for op, of in TABLE.items()}
RESULTS = {op: [operand["name"] for operand in of["outputs"]] for op, of in TABLE.items()}
# Ops that a device has no kernel for: a model that needs one is refused there by name.
_ENCODERS = {"attend_local", "conv_causal", "subsample"}
_ENCODERS |= {"rope_grid", "layer_norm", "linear", "attend_all", "pool_rows"}
WITHOUT_KERNEL = {"cuda": _ENCODERS, "htp": _ENCODERS}


def has_kernel(device, op):
    """device: its name, with or without the number: "cuda", "cuda:sim", "htp"."""
    return op not in WITHOUT_KERNEL[device.split(":")[0]]


def runs(device, case):
    """Whether a device runs a case of op_cases.py."""
    return has_kernel(device, case.op) and not case.cpu_only


# Ops that write rows which they read, and the names of these.
IN_PLACE = {
    op: names
    for op, of in TABLE.items()
    if (names := [x["name"] for x in of["inputs"] if x["in_place"] and x["kind"] != "cache"])
}
