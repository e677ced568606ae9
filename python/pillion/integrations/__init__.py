"""pillion inside other frameworks, one folder each. Nothing of the package imports this, and each
folder needs its framework's extra."""

from __future__ import annotations

import importlib

from ..errors import UsageError

__all__ = ["MissingExtra", "need"]


class MissingExtra(UsageError, ImportError):
    """A package of an extra is not installed; the sentence has the command that installs it."""


def need(what: str, module: str, extra: str) -> None:
    """Imports a module. Raises `MissingExtra` where it cannot be imported.

    what: what is to be used, for the sentence. extra: the extra that brings the module.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"{what} needs {module}, which cannot be imported ({error}): "
            f"pip install 'pillion[{extra}]'"
        ) from error
