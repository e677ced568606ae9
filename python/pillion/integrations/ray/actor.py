"""The model inside an actor of Ray."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ...llm.llm import LLM
from ..keywords import open_llm

PARALLEL = 4
"""Answers that an actor writes at a time, unless told otherwise; as in `pillion serve`."""


def opened(model: Any, options: Mapping[str, Any]) -> LLM:
    """The LLM of an actor. Without n_threads it has as many threads as the actor has CPUs."""
    given = {"parallel": PARALLEL, "n_threads": actor_threads(), **options}
    return open_llm(model, given)


def actor_threads() -> int | None:
    """The CPUs that Ray gave to this actor, at least 1; None: this is no actor, or one for which no
    CPUs were asked."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.get_actor_id() is None:
        return None
    cpus = context.get_assigned_resources().get("CPU", 0)
    return max(1, int(cpus)) if cpus else None
