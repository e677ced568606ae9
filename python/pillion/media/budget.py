"""`image_tokens`: how many soft tokens an image may get. More of them show more detail and take
longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ..arguments import wrong
from ..gguf_head import facts_of
from ..model import Model

BUDGETS: Final = (70, 140, 280, 560, 1120)
"""What the models were trained for."""
AUTO: Final = "auto"
SIDE: Final = 48
"""Pixels of the square that one soft token shows: 3 x 3 patches of 16."""

ImageTokens = int | str

_DEFAULT_BATCH = 512  # see ContextSizes.n_batch
_DETAIL = {"low": 70, "high": 1120}


def checked_budget(name: str, value: Any) -> ImageTokens:
    """One of the five budgets, or "auto". Raises `UsageError`."""
    if isinstance(value, str) and value == AUTO:
        return AUTO
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) not in BUDGETS:
        wrong(name, value, "70, 140, 280, 560, 1120 or 'auto'")
    return int(value)


def batch_for(model: Model | str, image_tokens: ImageTokens | None) -> int | None:
    """Rows of one run that images of this budget need; None: the default has room for them.

    Where the rows of an image see one another, one run reads all of them.
    """
    if image_tokens is None:
        return None
    most = BUDGETS[-1] if isinstance(image_tokens, str) else image_tokens
    if most <= _DEFAULT_BATCH:
        return None
    if not isinstance(model, str):
        return most if model.image_bidirectional else None
    facts = facts_of(Path(model))
    said = facts.get("gemma4.attention.image_bidirectional")
    if said is None:
        is_gemma = facts.get("general.architecture") == "gemma4"
        said = is_gemma and not facts.get("gemma4.embedding_length_per_layer_input")
    return most if said else None


def budget_of_detail(name: str, detail: Any) -> ImageTokens | None:
    """OpenAI's `detail` of an image as a budget; None: the default. Raises `UsageError`."""
    if detail is None or (isinstance(detail, str) and detail in ("auto", "original")):
        return None
    if not isinstance(detail, str) or detail not in _DETAIL:
        wrong(name, detail, "'low', 'high' or 'auto'")
    return _DETAIL[detail]


def budget_for(wanted: ImageTokens, height: int, width: int) -> int:
    """The budget of an image of that size. "auto": the smallest that shows all its pixels."""
    if not isinstance(wanted, str):
        return wanted
    return next((one for one in BUDGETS if one * SIDE * SIDE >= height * width), BUDGETS[-1])
