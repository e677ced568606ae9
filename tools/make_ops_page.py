"""Writes docs/ops.md, the page of the ops, out of csrc/core/contract/ops.def.

With --check it writes nothing, and exits with 1 when the page is not current.
"""

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OPS = ROOT / "csrc" / "core" / "contract" / "ops.def"
PAGE = ROOT / "docs" / "ops.md"

ENTRY = re.compile(r"((?:^// .*\n)+)PILLION_OP\(((?:.|\n)*?SCRATCH)\)$", re.MULTILINE)
OPERAND = re.compile(r"\b(IN|OPT|INOUT|INOUT_OPT|OUT|OUT_OPT)\((\w+), (\w+)\)")
PARAMS = re.compile(r"PARAMS\((\w+), \w+\)")

HEAD = """# The ops

<!-- made by tools/make_ops_page.py from csrc/core/contract/ops.def -->

A graph (`csrc/core/graph.h`) is a list of these ops. The kinds of operands:

| kind | what it is |
| --- | --- |
| row | f32, a row for each row of the op |
| run_row, any_row | f32, a row for each row of the run; either |
| token, ids | i32 for each row of the op: one, several |
| score_ids | i32, a row for each row of the op, or one row for all |
| vector, order | one row for all: f32, i32 |
| table | rows in any weight format |
| matrix, stack | a weight that is multiplied; one for each expert |
| cache | keys and values of a layer |

*?* marks an operand that may be absent, *!* one that the op writes in place. Scratch: a backend may
need memory beside the operands. The parameters are structs of `csrc/core/contract/op_params.h`.
"""


def read_ops(text: str) -> "list[dict[str, Any]]":
    """Every op of ops.def: name, text, inputs and outputs as (name, kind, is optional, is in
    place), params (None: none), scratch."""
    ops = []
    for comment, entry in ENTRY.findall(text.split("clang-format off", 1)[1]):
        operands = [
            (macro.startswith("OUT"), (name, kind, "OPT" in macro, macro.startswith("INOUT")))
            for macro, name, kind in OPERAND.findall(entry)
        ]
        params = PARAMS.search(entry)
        ops.append(
            {
                "name": entry.split(",")[0],
                "text": " ".join(line[3:] for line in comment.splitlines()),
                "inputs": [operand for is_output, operand in operands if not is_output],
                "outputs": [operand for is_output, operand in operands if is_output],
                "params": params[1] if params else None,
                "scratch": "NO_SCRATCH" not in entry,
            }
        )
    return ops


def operand_list(operands: "list[tuple[str, str, bool, bool]]") -> str:
    return ", ".join(
        f"{name}{'?' * optional}{'!' * in_place} ({kind})"
        for name, kind, optional, in_place in operands
    )


def page(text: str) -> str:
    parts = [HEAD]
    for op in read_ops(text):
        said = op["text"].replace("][", "]\\[")  # else Markdown takes a[b][c] for a link
        parts.append(f"\n## {op['name']}\n\n{textwrap.fill(said, 100)}\n\n")
        lines = [f"inputs: {operand_list(op['inputs'])}"]
        if op["outputs"]:
            lines.append(f"outputs: {operand_list(op['outputs'])}")
        if op["params"]:
            lines.append(f"parameters: `{op['params']}`")
        if op["scratch"]:
            lines.append("scratch")
        parts += [textwrap.fill(f"- {line}", 100, subsequent_indent="  ") + "\n" for line in lines]
    return "".join(parts)


if __name__ == "__main__":
    made = page(OPS.read_text(encoding="utf-8"))
    if "--check" not in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != made:
        sys.exit("docs/ops.md is not current: run tools/make_ops_page.py")
