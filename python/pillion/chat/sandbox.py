"""The sandbox in which chat templates run: they come from files that strangers may have made.

Jinja's immutable sandbox keeps them from everything but building a string. This one also bounds
what that takes: steps (items of loops, and calls), the processor's time, and the size of every
text and number that an operator, a method, a filter or the whole makes.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

from ..errors import UsageError

STEPS = 100_000
"""Steps that any conversation may take."""
STEPS_EACH = 50
"""More of them, for each value in the messages and tools."""
LONGEST = 10.0
"""The most seconds of a processor that one conversation may take. Real templates take
milliseconds."""
TEXT_MOST = 16_000_000
"""The most characters of a text, and items of a list."""
WIDTH_MOST = 10_000
"""The greatest width to which something is filled up."""
_BITS_MOST = 100_000  # of a whole number

_rendering = threading.local()  # steps_left, until: of the rendering in this thread


class TooMuch(UsageError):
    """The template took too long, or made too much. A second try would do the same."""


def begin(*given: Any) -> None:
    """Begins a rendering of these values in this thread."""
    _rendering.steps_left = STEPS + STEPS_EACH * _count(given)
    _rendering.until = time.thread_time() + LONGEST


def _count(value: Any) -> int:
    """The values in it."""
    n, left = 0, [value]
    while left:
        one = left.pop()
        n += 1
        if isinstance(one, Mapping):
            left += one.values()
        elif isinstance(one, (list, tuple)):
            left += one
    return n


def _step() -> None:
    _rendering.steps_left -= 1
    if _rendering.steps_left < 0:
        raise TooMuch("the chat template took more steps than any real one: it may have no end")
    # A look at the clock costs as much as a step.
    if _rendering.steps_left % 64 == 0 and time.thread_time() > _rendering.until:
        raise TooMuch(f"the chat template took more than {LONGEST:g} s: it may have no end")


def _check_size(n: int, most: int = TEXT_MOST) -> None:
    if n > most:
        raise TooMuch(f"the chat template makes something of size {n}; at most {most} is allowed")


# ---- operators ----


def _check_operator(operator: str, left: Any, right: Any) -> None:
    if operator == "*":
        for many, n in ((left, right), (right, left)):
            if isinstance(n, int) and isinstance(many, (str, bytes, list, tuple)):
                _check_size(len(many) * n)
        if isinstance(left, int) and isinstance(right, int):
            _check_size(left.bit_length() + right.bit_length(), _BITS_MOST)
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int):
            _check_size(left.bit_length() * abs(right), _BITS_MOST)
    elif operator == "+":
        if isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
            _check_size(len(left) + len(right))
    elif operator == "%" and isinstance(left, str):
        _check_form(left, right if isinstance(right, tuple) else (right,), starred="*" in left)


def _check_form(form: str, values: Iterable[Any], starred: bool) -> None:
    """A form of `%` or str.format: its widths, and those that come as values."""
    for digits in re.findall(r"\d{5,}", form):
        _check_size(int(digits[:9]), WIDTH_MOST)
    if starred:
        for value in values:
            check_width(value)


def check_width(value: Any) -> None:
    """Raises `TooMuch` for a number to which nothing should be filled up."""
    if isinstance(value, int):
        _check_size(abs(value), WIDTH_MOST)


@jinja2.pass_context  # so that it is not run while the template is compiled
def _joined(context: Any, values: list[Any]) -> str:
    """`a ~ b`."""
    return _concat(map(str, values))


def _concat(texts: Iterable[str]) -> str:
    found, n = [], 0
    for text in texts:
        n += len(text)
        _check_size(n)
        found.append(text)
    return "".join(found)


# ---- methods and filters ----

_FILLS = {"center", "expandtabs", "ljust", "rjust", "zfill"}


def _check_method(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A call of a method of a text."""
    text, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if not isinstance(text, str):
        return
    if name in _FILLS:
        for value in (*args, *kwargs.values()):
            check_width(value)
    elif name in ("format", "format_map"):
        values = (*args, *kwargs.values())
        _check_form(text, values, starred=re.search(r"\{[^{}]*\{", text) is not None)
    elif name == "replace" and len(args) >= 2 and all(isinstance(a, str) for a in args[:2]):
        _check_size(len(text) + text.count(args[0]) * len(args[1]))
    elif name == "join" and args and isinstance(args[0], (list, tuple)):
        _check_size(sum(len(text) + len(one) for one in args[0] if isinstance(one, str)))


_WIDE_FILTERS = ("batch", "center", "indent", "round", "slice", "tojson", "truncate", "wordwrap")


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose numbers are widths or counts."""

    def bounded(*args: Any, **kwargs: Any) -> Any:
        _step()
        for value in (*args[1:], *kwargs.values()):
            check_width(value)
        return function(*args, **kwargs)

    vars(bounded).update(vars(function))  # what Jinja gives the filter besides its arguments
    return bounded


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    """Jinja's `format`."""
    form = str(value)
    values = kwargs or args
    _check_form(form, kwargs.values() if kwargs else args, starred="*" in form)
    return form % values


def _replaced(value: Any, old: str, new: str, count: int | None = None) -> str:
    """Jinja's `replace`."""
    text = str(value)
    _check_size(len(text) + text.count(str(old)) * len(str(new)))
    return text.replace(str(old), str(new), -1 if count is None else count)


# ---- the environment ----


class _Items:
    """The items of a template's loop; each is a step."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            _step()
            yield item


@jinja2.pass_context
def _stepped(context: Any, items: Any) -> _Items:
    return _Items(items)


# No names that a template could have.
_STEPPED, _JOINED = "items of a loop", "parts of a text"


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """See the module."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])
    concat = staticmethod(_concat)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters.update({name: _bounded(self.filters[name]) for name in _WIDE_FILTERS})
        self.filters.update(
            {"format": _format, "replace": _replaced, _STEPPED: _stepped, _JOINED: _joined}
        )
        del self.globals["lipsum"]

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        _step()
        _check_method(function, args, kwargs)
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_operator(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def compiled(self, source: str) -> jinja2.Template:
        """A template whose loops and joined texts are bounded."""
        tree = self.parse(source)
        for loop in tree.find_all(jinja2.nodes.For):
            loop.iter = self._filtered(loop.iter, _STEPPED)
        for node in list(tree.find_all(jinja2.nodes.Concat)):
            node.nodes = [self._filtered(jinja2.nodes.List(node.nodes), _JOINED)]
        return jinja2.Template.from_code(self, self.compile(tree), self.make_globals(None))

    def _filtered(self, node: Any, name: str) -> jinja2.nodes.Filter:
        where = {"lineno": node.lineno, "environment": self}
        return jinja2.nodes.Filter(node, name, [], [], None, None, **where)
