"""A copy of the package with a device module of the test's choice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


CHILD = """
import shutil, sys
from pathlib import Path
import pillion
model, wanted = sys.argv[1:]
try:
    pillion.Model.open(model, device=wanted).close()
    print("opened")
except pillion.NoBackendError as error:
    print(error)
print(pillion.Model.open(model, device="cpu").describe()["arch"])
"""


def in_a_package_with(
    folder, module, target, device, tmp_path, name="libpillion_cuda.so", script=CHILD
):
    """What a package says whose compiled part lies beside this module file. -S: the editable
    install stays out of it."""
    package = tmp_path / "site" / "pillion"
    shutil.copytree(
        REPOSITORY / "python" / "pillion", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(next(folder.glob("_capi*.so")), package)
    if isinstance(module, bytes):
        (package / name).write_bytes(module)
    else:
        shutil.copy(module, package / name)
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, str(target), device],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(package.parent), *[p for p in sys.path if p.endswith("site-packages")]]
            ),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    sentence, arch = done.stdout.splitlines()
    assert arch == "gemma4"  # the CPU is as before
    return sentence
