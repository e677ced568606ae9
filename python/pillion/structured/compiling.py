"""`Grammars`: the compiled grammars of one model, and the errors for grammars that cannot be
compiled."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

from .._locks import ForkLock
from ..errors import UsageError
from .bridge import Vocabulary, llguidance
from .deep import with_deep_stack
from .ending import inside
from .matching import GrammarConstraint, first_line

_KEPT = 64  # compiled grammars of a model

# Of one compilation and of one mask. The largest that pass take about a second and 100 MB.
_LIMITS = {
    "max_items_in_row": 2_000,
    "initial_lexer_fuel": 2_000_000,
    "step_lexer_fuel": 400_000,
    "step_max_items": 50_000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 500_000,
    "precompute_large_lexemes": False,
    "verbose_errors": False,
}


class Compiled:
    """A grammar, ready for any number of replies at the same time."""

    def __init__(self, matcher: Any, vocabulary: Vocabulary, what: str) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._what = what

    def start(self, banned: Collection[int] = ()) -> GrammarConstraint:
        """Returns the constraint of one reply. banned: see `GrammarConstraint`."""
        return GrammarConstraint(self._matcher, self._vocabulary, self._what, banned)


class Grammars:
    """Compiles and keeps the grammars of one model. Threads may share it. Compiling holds no lock,
    so that no reply waits for another one's grammar."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._kept: OrderedDict[bytes, Compiled] = OrderedDict()
        self._gate = ForkLock()

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's vocabulary for llguidance."""
        return self._vocabulary

    def compile(self, grammar: str, what: str) -> Compiled:
        """Compiles a grammar in llguidance's form: Lark, or a JSON list of grammars. what: its name
        for sentences ("the regex"). Raises UsageError for a grammar that cannot be followed."""
        key = hashlib.sha256(f"{what}\0{grammar}".encode()).digest()
        with self._gate.here():
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        matcher = with_deep_stack(lambda: self._matcher(grammar, what))
        made = Compiled(matcher, self._vocabulary, what)
        with self._gate.here():
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made

    def _matcher(self, grammar: str, what: str) -> Any:
        with inside():
            return self._checked_matcher(grammar, what)

    def _checked_matcher(self, grammar: str, what: str) -> Any:
        library = llguidance()
        limits = library.LLParserLimits(**_LIMITS)
        matcher = library.LLMatcher(self._vocabulary.llg(), grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise UsageError(refusal(what, matcher.get_error()))
        self._check_first_step(matcher.deep_copy(), what)
        return matcher

    def _check_first_step(self, matcher: Any, what: str) -> None:
        """Takes a token and gives it back, as for a refused draft. llguidance refuses some grammars
        only then."""
        words = memoryview(matcher.compute_bitmask()).cast("I")
        if matcher.is_error():
            raise UsageError(refusal(what, matcher.get_error()))
        ends = self._vocabulary.end_tokens
        token = _first(words, ends)
        if token is None:
            if not matcher.is_accepting():
                raise UsageError(f"{what} allows no text that this model's tokens can spell")
            return
        if not (matcher.consume_token(token) and matcher.rollback(1)):
            raise UsageError(refusal(what, matcher.get_error()))


def _first(words: Any, ends: Collection[int]) -> int | None:
    """The first token of a mask that does not end the text."""
    for number, found in enumerate(words):
        word = int(found)
        while word:
            bit = word & -word
            token = 32 * number + bit.bit_length() - 1
            if token not in ends:
                return token
            word -= bit
    return None


_KEYS = re.compile(r"Unimplemented keys: \[(.*)\]")
_TOO_MUCH = re.compile(r"(?i)too (?:big|large|complex|many|deep)|fuel|limit|recursion")
_WHERE = re.compile(r"^at (\d+)\((\d+)\): ")


def refusal(what: str, message: str) -> str:
    """One sentence for an error of llguidance."""
    first = first_line(message)
    keys = _KEYS.search(first)
    if keys:
        names = keys[1].replace('"', "'")
        return f"{what} uses {names}, which cannot be enforced; leave it out, or say it in words"
    if first.startswith("oneOf"):
        return (
            f"{what} uses 'oneOf' with branches that may both fit, "
            "which cannot be enforced; use 'anyOf'"
        )
    if first.startswith("Unknown format"):
        name = first.partition(":")[2].strip()
        return f"{what} uses 'format' {name!r}, which cannot be enforced; use 'pattern'"
    if "rollback not supported" in first:
        return (
            f"{what} uses max_tokens= or stop=, which cannot be taken back when a draft is "
            "refused; use a repetition like {0,200} or suffix="
        )
    detail = _detail(message, what == "the grammar")
    if _TOO_MUCH.search(first):
        return f"{what} is too large or too complex: {detail}"
    return f"{what} cannot be used: {detail}"


def _detail(message: str, has_lines: bool) -> str:
    """What is wrong and where, on one line. The last line of a regex's message names the fault."""
    first = first_line(message)
    fault = re.search(r"(?m)^error: (.*)$", message)
    where = _WHERE.match(first)
    said = _WHERE.sub("", first)
    if fault:
        said = f"{said.rstrip(':')}: {fault[1].strip().rstrip('.')}"
    said = said if len(said) <= 300 else f"{said[:299]}…"
    return f"{said} (line {where[1]}, column {where[2]})" if where and has_lines else said
