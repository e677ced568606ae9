"""Checks of callers' arguments. Each raises `UsageError`: one sentence with the name, the value and
what is allowed.

Numbers of NumPy and of other libraries count as numbers; True and False do not.
"""

from __future__ import annotations

import difflib
import math
import operator
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn

from .errors import UsageError
from .foreign_names import ELSEWHERE

_SHOWN = 60  # characters of a value in a sentence


def shown(value: Any) -> str:
    """A value for a sentence: short, on one line. Never raises."""
    if type(value) in (str, bytes, list, tuple) and len(value) > _SHOWN:
        value = value[:_SHOWN]  # more is not seen, and may be millions
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__} that cannot be shown"
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def wrong(name: str, value: Any, allowed: str) -> NoReturn:
    """Raises "NAME is VALUE; it must be ALLOWED"."""
    raise UsageError(f"{name} is {shown(value)}; it must be {allowed}")


def unknown_names(where: str, given: Iterable[Any], known: Collection[str]) -> None:
    """Raises for the first keyword that `where` ("chat()") does not take, with what to use in place
    of a name from elsewhere, or with the closest name that it takes."""
    for name in given:
        if name in known:
            continue
        instead = ELSEWHERE.get(where, {}).get(name)
        if instead is not None:
            raise UsageError(f"{where} has no argument {shown(name)}: {instead}")
        close = closest(name, known)
        hint = f"did you mean {close}?" if close else f"it takes {', '.join(sorted(known))}"
        raise UsageError(f"{where} has no argument {shown(name)}; {hint}")


def closest(name: Any, known: Iterable[str]) -> str | None:
    """The name in `known` that is spelled most like `name`; None: none is near."""
    plain = {one.lower().replace("-", "_"): one for one in known}
    found = difflib.get_close_matches(str(name).lower().replace("-", "_"), list(plain), n=1)
    return plain[found[0]] if found else None


def check_int(
    name: str,
    value: Any,
    lo: int | None = None,
    hi: int | None = None,
    allowed: str | None = None,
) -> int:
    """Returns a whole number from lo to hi, both included; None: no bound. `allowed` replaces the
    end of the sentence."""
    allowed = allowed or f"a whole number{_bounds(lo, hi)}"
    if _is_bool(value):
        wrong(name, value, allowed)
    try:
        number = operator.index(value)
    except Exception:
        wrong(name, value, allowed)
    if (lo is not None and number < lo) or (hi is not None and number > hi):
        wrong(name, value, allowed)
    return number


def check_number(
    name: str,
    value: Any,
    lo: float | None = None,
    hi: float | None = None,
    allowed: str | None = None,
    *,
    above: float | None = None,
) -> float:
    """Returns a finite number from lo to hi, both included, and greater than `above`; None: no
    bound."""
    allowed = allowed or f"a number{_bounds(lo, hi, above)}"
    if _is_bool(value) or isinstance(value, (str, bytes, bytearray)):
        wrong(name, value, allowed)
    try:
        number = float(value)
    except Exception:  # OverflowError of a huge int, TypeError, whatever a class of theirs raises
        wrong(name, value, allowed)
    beyond = (lo is not None and number < lo) or (hi is not None and number > hi)
    if not math.isfinite(number) or beyond or (above is not None and number <= above):
        wrong(name, value, allowed)
    return number


def check_bool(name: str, value: Any) -> bool:
    """Returns True or False, also NumPy's. Numbers and texts are refused."""
    if not _is_bool(value):
        wrong(name, value, "True or False")
    return bool(value)


def check_text(name: str, value: Any, allowed: str = "a string") -> str:
    """Returns a str."""
    if not isinstance(value, str):
        wrong(name, value, allowed)
    return value


def check_choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """Returns one of `choices`, which may be texts, numbers, None."""
    for one in choices:
        if type(value) is type(one) and value == one:
            return one
    wrong(name, value, _either(list(map(repr, choices))))


def check_path(name: str, value: Any) -> str:
    """Returns the path of a str or path-like object. It must not be empty or contain a zero
    byte."""
    allowed = "a path: a string or a pathlib.Path"
    try:
        text = os.fsdecode(value)
    except Exception:
        wrong(name, value, allowed)
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        wrong(name, value, f"{allowed}, without characters that no file name can hold")
    if not encoded or b"\0" in encoded:
        wrong(name, value, f"{allowed}, not empty and without a zero byte")
    return text


def check_mapping(name: str, value: Any, allowed: str = "a mapping (dict)") -> Mapping[Any, Any]:
    """Returns a Mapping."""
    if not isinstance(value, Mapping):
        wrong(name, value, allowed)
    return value


def check_callable(name: str, value: Any) -> Any:
    """Returns a callable."""
    if not callable(value):
        wrong(name, value, "something that can be called")
    return value


def _is_bool(value: Any) -> bool:
    """Also NumPy's, without importing it."""
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")


def _bounds(lo: float | None, hi: float | None, above: float | None = None) -> str:
    parts = [f"above {above}"] if above is not None else []
    if lo is not None and hi is not None:
        return f" from {lo} to {hi}"
    if lo is not None:
        parts.append(f"at least {lo}")
    if hi is not None:
        parts.append(f"at most {hi}")
    return f", {' and '.join(parts)}" if parts else ""


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
