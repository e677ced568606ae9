"""Raises `UsageError` for calls that do not fit a function, where Python itself raises TypeError.

`checked` wraps one function, `checked_class` all public functions of a class. Type checkers and
editors see the functions as they are written: nothing takes unknown keywords silently. A call that
fits costs one more Python frame.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .arguments import unknown_names
from .errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def checked(function: F, name: str | None = None) -> F:
    """Wraps a function: a missing, surplus or unknown argument raises a `UsageError` that names the
    function and the argument. name: of the function, in that sentence."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            _raise_if_it_does_not_fit(function, args, kwargs, name)
            raise

    return call  # type: ignore[return-value]


def checked_class(cls: C) -> C:
    """Checks the public functions and the constructor of a class. Aliases stay aliases. A part of
    another class has the name of the whole in `_shown_as`, for sentences."""
    done: dict[Any, Any] = {}
    whole = vars(cls).get("_shown_as", cls.__qualname__)
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        if inspect.isfunction(member):
            if member not in done:
                done[member] = checked(member, f"{whole}.{member.__name__}")
            setattr(cls, name, done[member])
        elif isinstance(member, classmethod):
            setattr(cls, name, classmethod(checked(member.__func__)))
    return cls


def _raise_if_it_does_not_fit(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None
) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = name or function.__qualname__
        of_class = name.removesuffix(".__init__").removesuffix(".__call__")
        parameters = list(signature.parameters.values())
        known = [
            one.name for one in parameters if one.kind in _NAMED and one.name not in ("self", "cls")
        ]
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
            unknown_names(f"{of_class}()", kwargs, known)
        raise UsageError(f"{of_class}() cannot be called like this: {error}") from None
