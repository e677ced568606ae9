"""Keywords sorted by who takes them, `LLM` or a call of it, and the `LLM` that they open."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..arguments import check_mapping, check_text
from ..errors import UsageError
from ..llm.llm import LLM
from ..llm.opening import is_repository

FROM_PRETRAINED = "from_pretrained"
LLM_KEYWORDS = frozenset(inspect.signature(LLM).parameters) - {"path"} | {FROM_PRETRAINED}
"""What opens an `LLM`, beside the model: what its constructor takes, and `from_pretrained`."""


def parted(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that open the `LLM`, and the others."""
    for_llm = {name: value for name, value in options.items() if name in LLM_KEYWORDS}
    return for_llm, {name: value for name, value in options.items() if name not in for_llm}


def open_llm(model: Any, options: Mapping[str, Any]) -> LLM:
    """Opens a model. With `from_pretrained` among the options it is a repository of the hub, and
    the value has arguments of `LLM.from_pretrained` (filename, revision, …); {}: none.

    Raises what `LLM` or `LLM.from_pretrained` raises.
    """
    given = dict(options)
    of_hub = given.pop(FROM_PRETRAINED, None)
    if of_hub is None:
        if isinstance(model, str) and is_repository(model):
            raise UsageError(
                f"model is {model!r}, and there is no such file; a repository of the hub also "
                "needs from_pretrained={}, or {'filename': '*Q4_0.gguf'}"
            )
        return LLM(model, **given)
    allowed = "a mapping of arguments of LLM.from_pretrained"
    return LLM.from_pretrained(
        check_text("model", model, "a repository of the hub, OWNER/NAME"),
        **{**given, **check_mapping(FROM_PRETRAINED, of_hub, allowed)},
    )
