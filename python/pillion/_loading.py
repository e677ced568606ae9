"""Imports what the package depends on. If that fails, an ImportError tells what is missing and what
helps.

Every module is imported by a plain statement, which PyInstaller, cx_Freeze and Nuitka find.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import platform
import re
import sys
from collections.abc import Iterator

_OWN = f"{__package__}._capi"
_DISTRIBUTIONS = {"_cffi_backend": "cffi", "jinja2": "Jinja2", "markupsafe": "MarkupSafe"}
_COMPILED = re.compile(r"_capi\..*(so|pyd)$")
_REINSTALL = "pip install --force-reinstall --no-cache-dir pillion"


@contextlib.contextmanager
def explained(distribution: str = "") -> Iterator[None]:
    """Gives an ImportError a sentence. distribution: what is imported; "": the compiled module."""
    try:
        yield
    except ImportError as error:
        sentence = explanation(error, distribution, os.path.dirname(__file__))
        raise ImportError(sentence, name=error.name, path=error.path) from error


def explanation(error: ImportError, distribution: str, folder: str) -> str:
    """Why an import failed and what helps. folder: of the package."""
    if isinstance(error, ModuleNotFoundError):
        if error.name == _OWN:
            return _own_is_missing(folder)
        return _other_is_missing(error.name or "", distribution)
    words = " ".join(str(error).split())
    if distribution:
        return f"pillion needs {distribution}, which is installed but can't be imported: {words}"
    return f"pillion's compiled module can't be loaded{_reason(words)} ({words})"


def _own_is_missing(folder: str) -> str:
    begin = "pillion's compiled module is missing: "
    if _frozen():
        return (
            f"{begin}this frozen app was made without {_OWN}; PyInstaller takes it along when "
            "pillion is installed where the app is built (docs/freezing.md has the others)"
        )
    if not os.path.isdir(folder):
        inside = f"{folder} is inside an archive, from which no compiled module can be loaded"
        return f"{begin}{inside}; unpack it (docs/freezing.md)"
    of_another = [name for name in sorted(os.listdir(folder)) if _COMPILED.match(name)]
    if of_another:
        python = f"{platform.python_implementation()} {platform.python_version()}"
        return (
            f"pillion's compiled module {', '.join(of_another)} in {folder} is for another Python: "
            f"{python} loads {', '.join(importlib.machinery.EXTENSION_SUFFIXES)}; install pillion "
            f"with this one: {_REINSTALL}"
        )
    return (
        f"{begin}{folder} is a source tree or a broken install; `pip install pillion` "
        "(or `pip install -e .` in the repository) brings it"
    )


def _other_is_missing(module: str, distribution: str) -> str:
    top = module.partition(".")[0]
    install = _DISTRIBUTIONS.get(top, top)
    whose = "" if distribution in ("", install) else f" (for {distribution})"
    begin = f"pillion needs the module {module}{whose}, which "
    if _frozen():
        return (
            f"{begin}this frozen app was made without; build it where {install} is installed "
            f"(PyInstaller: --hidden-import {module})"
        )
    return f"{begin}is not installed: pip install {install}"


def _frozen() -> bool:
    """PyInstaller, cx_Freeze and py2exe set sys.frozen, Nuitka sets __compiled__ in each module."""
    return bool(getattr(sys, "frozen", False)) or "__compiled__" in globals()


# ---- the dynamic linker's words ----

_OTHER_MACHINE = "it is for another kind of machine than this {machine}; {reinstall}"
_REASONS = (
    ("wrong ELF class", _OTHER_MACHINE),
    ("incompatible architecture", _OTHER_MACHINE),
    ("Exec format error", _OTHER_MACHINE),
    ("invalid ELF header", "the file is no program for this kind of system; {reinstall}"),
    ("file too short", "the file is cut off; {reinstall}"),
    ("failed to map segment", "it lies where no program may run (noexec?); a onefile app: TMPDIR"),
    ("unknown version", "it does not fit the installed cffi; pip install --upgrade cffi"),
    ("undefined symbol", "it does not fit this Python; {reinstall}"),
)
_TOO_OLD = re.compile(r"version [`']([A-Z]+)_([0-9.]+)'? not found")
_NO_LIBRARY = re.compile(
    r"(?:^|: )([^\s:]+): cannot open shared object file"  # glibc's words
    r"|Error loading shared library ([^\s:]+):"  # musl's
)


def _reason(words: str) -> str:
    """The meaning of the system's words, as the continuation of a sentence; "": the words are not
    known."""
    version = _TOO_OLD.search(words)
    if version:
        have = " ".join(platform.libc_ver())
        here = f" (it has {have})" if version.group(1) == "GLIBC" and have.strip() else ""
        return (
            f": it needs {version.group(1)} {version.group(2)}, which is newer than this system's"
            f"{here}; build it here: pip install --no-binary pillion pillion"
        )
    library = _NO_LIBRARY.search(words)
    if library:
        name = library.group(1) or library.group(2)
        if os.path.basename(name).startswith("_capi."):  # glibc's words for the wrong processor
            return f": {_OTHER_MACHINE.format(machine=platform.machine(), reinstall=_REINSTALL)}"
        return f": it needs the library {name}, which this system does not have"
    for mark, reason in _REASONS:
        if mark in words:
            return f": {reason.format(machine=platform.machine(), reinstall=_REINSTALL)}"
    return ""


with explained("cffi"):
    import _cffi_backend as _cffi_backend  # the compiled module imports it where no freezer looks
with explained("numpy"):
    import numpy as _numpy  # noqa: F401
with explained("Jinja2"):
    import jinja2 as _jinja2  # noqa: F401
with explained():
    from ._capi import ffi as ffi
    from ._capi import lib as lib

if lib.pillion_abi_version() != lib.PILLION_ABI_VERSION:
    raise ImportError(
        f"pillion's compiled module was built for ABI version {lib.PILLION_ABI_VERSION}, but its "
        f"library has version {lib.pillion_abi_version()}: two installs are mixed; {_REINSTALL}",
        name=_OWN,
    )
