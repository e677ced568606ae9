"""What a request's options say of the form of its text, as one constraint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

from ..constraint import Constraint, LogitsProcessors, processor_list
from .requests import Settings

if TYPE_CHECKING:
    from ..structured import Compiled
    from .llm import LLM


def constraint_of(
    llm: LLM,
    given: Settings,
    prompt: list[int],
    bias: Mapping[int, float],
    compiled: Optional[Compiled] = None,
) -> Any:
    """What the options of a call demand of the text behind `prompt`; None where they demand
    nothing. bias: of the sampler. compiled: the grammar of a chat's reply, where it has one."""
    if compiled is None and given.forms:
        compiled = llm.structured.of_text(given.forms)
    form: Optional[Constraint] = None
    if compiled is not None:
        form = compiled.start([token for token, value in bias.items() if value == -math.inf])
    if given.logits_processor is None:
        return form
    processors = processor_list("logits_processor", given.logits_processor)
    return LogitsProcessors(processors, prompt, form)
