"""Beginnings that several texts had, kept for the next one when their slots hold other texts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ..context import Context
from ..errors import Busy, Closed, ContextFullError, OutOfMemoryError
from .machine import Parts

if TYPE_CHECKING:
    from .slot import Slot

LEARN_MIN = 64
"""Tokens of the shortest beginning that is kept."""
_SAME = 8
"""A text that goes on differs from its last prompt in at most so many of the last tokens: a
template ends a prompt with the beginning of an answer, and strips it from the next one."""


class Prefix:
    """A beginning. It shares its pages with the slots that began with it."""

    def __init__(self, context: Context, owner: str) -> None:
        self.context = context
        self.owner = owner
        """Whose texts began with it."""
        self.shares = self.has_shared = True
        """As `Slot.shares` and `Slot.has_shared`: a source of `Slot.share`."""

    def match(self, prompt: Any, owner: str) -> int:
        """How many tokens of a prompt (int32 array) it saves."""
        if self.owner not in ("", owner):
            return 0
        return self.context.match(prompt).usable


class Prefixes:
    """The beginnings that an engine keeps, the last used one last. Only its thread uses them.

    A beginning is learned where a new prompt leaves the prompt of an earlier text behind at least
    LEARN_MIN tokens: a system prompt, a document with several questions. A text that goes on leaves
    its own prompt at the end, which teaches nothing.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._held: list[Prefix] = []
        self._version = parts.version

    def __len__(self) -> int:
        return len(self._held)

    def best(self, prompt: Any, owner: str) -> tuple[int, Prefix | None]:
        """The beginning that saves most of a prompt, and how many tokens that is."""
        self._forget_foreign()
        found = [(one.match(prompt, owner), one) for one in self._held]
        return max(found, key=lambda one: one[0], default=(0, None))

    def used(self, prefix: Prefix) -> None:
        """Notes that a text began with it."""
        self._held.remove(prefix)
        self._held.append(prefix)

    def learn(self, slot: Slot, prompt: Any, owner: str) -> None:
        """Keeps what a prompt and the text of a slot have in common, if another text may begin so
        too. Without room it keeps nothing."""
        if self._parts.n_prefixes == 0:
            return
        usable, others = slot.match(prompt, owner)
        goes_on = slot.length - others >= slot.prompt_length - _SAME
        if usable < LEARN_MIN or others == 0 or goes_on:
            return
        if self.best(prompt[:usable], owner)[0] >= usable - _SAME:
            return
        with contextlib.suppress(ContextFullError, OutOfMemoryError, Busy, Closed):
            context = self._take()
            context.share(slot.context, usable)
            slot.shares = slot.has_shared = True
            self._held.append(Prefix(context, owner))

    def _take(self) -> Context:
        """An empty context; the one that was not used for longest, if there are enough."""
        if len(self._held) < self._parts.n_prefixes:
            return self._parts.context()
        context = self._held.pop(0).context
        context.clear()
        return context

    def forget_oldest(self) -> bool:
        """Gives the pages of the one back that was not used for longest. Returns False if there is
        none."""
        self._forget_foreign()
        if not self._held:
            return False
        self._held.pop(0).context.close()
        return True

    def forget(self) -> None:
        """Drops all."""
        while self.forget_oldest():
            pass

    def close(self) -> None:
        """Frees the contexts, also those of a batch that is gone."""
        for one in self._held:
            one.context.close()
        self._held.clear()

    def _forget_foreign(self) -> None:
        """Those of a batch that is no longer used, as after a fork() or a lost device."""
        if self._version != self._parts.version:
            self._version = self._parts.version
            self._held.clear()
