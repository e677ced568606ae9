"""Prints the package's dependencies and those of the named extras, one a line: for installing them
without the package.

    python tools/requirements.py test server
"""

import re
import sys
from pathlib import Path

PYPROJECT = (Path(__file__).resolve().parent.parent / "pyproject.toml").read_text(encoding="utf-8")


def listed(name):
    """The strings of `name = [...]`. Python 3.10 has no reader of TOML."""
    match = re.search(rf"^{name} = \[(.*?)\]$", PYPROJECT, re.M | re.S)
    if not match:
        raise SystemExit(f"pyproject.toml has no list {name}")
    return re.findall(r'"([^"]+)"', match.group(1))


if __name__ == "__main__":
    for group in ("dependencies", *sys.argv[1:]):
        print("\n".join(requirement.replace(" ", "") for requirement in listed(group)))
