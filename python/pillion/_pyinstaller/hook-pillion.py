"""What an app with pillion takes along besides the Python modules that it imports by name."""

from __future__ import annotations

import re
from pathlib import Path

from PyInstaller import isolated


def _folders() -> tuple[str, str]:
    """Of the compiled module, beside which the library looks for the others, and of the models."""
    import pathlib

    from pillion import _capi, models

    return str(pathlib.Path(_capi.__file__).parent), str(pathlib.Path(models.__file__).parent)


_compiled, _models = map(Path, isolated.call(_folders))

hiddenimports = ["pillion._capi", "pillion.models", "_cffi_backend"]

# Of the extra `hub`: an app that pulls models imports it by itself. An app that reads images and
# sounds imports PIL, soundfile and soxr.
excludedimports = ["huggingface_hub", "tqdm"]

binaries, datas = [], []
for _path in sorted(_compiled.iterdir()):
    if re.match(r"libpillion.*_v\d+\.so$", _path.name):  # a DSP's code: no dependencies to follow
        datas.append((str(_path), "pillion"))
    elif re.match(r"libpillion.*\.so|pillion_htp_sim$", _path.name):
        binaries.append((str(_path), "pillion"))
for _path in sorted(_models.iterdir()):
    if _path.suffix in (".gguf", ".txt", ".png", ".wav"):
        datas.append((str(_path), "pillion/models"))
for _path in sorted((_models.parent / "server" / "web").iterdir()):
    datas.append((str(_path), "pillion/server/web"))
