"""What a request's options say of the form of its text, and the rounds that obey it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .requests import Settings, plain_format

if TYPE_CHECKING:
    from .llm import LLM

try:
    from .constraint import constrained_round, constrained_token
except ImportError:  # until the core has masks

    def constrained_round(*arguments: Any) -> Any:
        raise NotImplementedError

    def constrained_token(*arguments: Any) -> int:
        raise NotImplementedError


def constraint_of(llm: LLM, given: Settings, prompt: list[int]) -> Any:
    """What the options of a call demand of the text behind `prompt`; None where they demand
    nothing."""
    form = _form_of(llm, given)
    if given.logits_processor is None:
        return form
    from .constraint import LogitsProcessors

    return LogitsProcessors(given.logits_processor, prompt, form)


def _form_of(llm: LLM, given: Settings) -> Any:
    """The constraint of `response_format`, `regex`, `grammar` or `choice`."""
    plain_format(given.forms.get("response_format"))
    for name in ("regex", "grammar", "choice"):
        if name in given.forms:
            raise UsageError(f"{name} is not supported so far: describe the form in the prompt")
    return None


__all__ = ["constrained_round", "constrained_token", "constraint_of"]
