"""What `pillion bench --parallel` measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import Engine, Model, UsageError
from ..pair import DRAFT_MAX, Draft

Result = dict[str, Any]

PLAIN, AUTO, FIXED = "plain", "auto", "fixed"


@dataclass(frozen=True)
class Mode:
    """How the users draft."""

    name: str
    """PLAIN (an engine without a drafter), AUTO or FIXED."""
    lengths: tuple[Draft, ...] = (0,)
    """Draft lengths; the users have them in turn."""

    def of_user(self, number: int) -> Draft:
        """The draft length of a user."""
        return self.lengths[number % len(self.lengths)]

    @property
    def shown(self) -> Draft | list[Draft]:
        """For results."""
        return self.lengths[0] if len(self.lengths) == 1 else list(self.lengths)


@dataclass
class Setting:
    """What is measured."""

    model: Model
    drafter: Any = None
    """As `Pair`'s; None: nothing drafts."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """Arguments of the slots' contexts, without n_ctx."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the slots' pairs."""
    prompt: Callable[[int], list[int]] = lambda number: [number]
    """The prompt of a number; no two begin alike."""
    n_prompt: int = 512
    n_gen: int = 128
    repeats: int = 5
    chance: float | None = None
    """Acceptance of each draft, simulated; None: as it comes."""

    def engine(self, mode: Mode, parallel: int, n_ctx: int) -> Engine:
        """Slots for so many users."""
        sizes = {**self.sizes, "n_ctx": n_ctx, "n_outputs": DRAFT_MAX + 1}
        plain = mode.name == PLAIN
        return Engine(
            self.model,
            sizes=sizes,
            drafter=None if plain else self.drafter,
            options=None if plain else self.options,
            parallel=parallel,
            queue_limit=None,
        )

    def check(self, n_ctx: int, said: str) -> int:
        """n_ctx, if the model was trained for it; else raises `UsageError`. said: of what is too
        long."""
        most = self.model.n_ctx_train
        if n_ctx > most:
            raise UsageError(f"{said} do not fit the model's {most} positions")
        return n_ctx
