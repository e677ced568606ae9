"""Bounds on what the hub answers about models: how large such an answer may be, and how long it may
take. A hub keeps far below them. Downloads have limits of their own (`downloading.py`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ..errors import HubUnreachableError
from ..sizes import size_of
from .sentences import Asked

MOST_BYTES = 32 << 20
"""Of one answer, unpacked. A listing of a thousand files has half a megabyte."""

SECONDS = 60.0
"""For all of a call's answers."""


@dataclass
class _Call:
    asked: Asked
    end: float


_call: ContextVar[_Call | None] = ContextVar("pillion_hub_call", default=None)


@contextmanager
def limited(asked: Asked) -> Iterator[None]:
    """Bounds the answers to what `huggingface_hub` asks in here. Raises HubUnreachableError."""
    from huggingface_hub import get_session

    hooks = get_session().event_hooks["response"]
    if _watch not in hooks:
        hooks.append(_watch)  # it does nothing outside of this context
    token = _call.set(_Call(asked, time.monotonic() + SECONDS))
    try:
        yield
    finally:
        _call.reset(token)


def _watch(response: Any) -> None:
    """Of the session, for each answer before its body is read."""
    call = _call.get()
    if call is None:
        return
    parts = response.iter_bytes

    def bounded(chunk_size: int | None = None) -> Iterator[bytes]:
        have = 0
        for part in parts(chunk_size):
            have += len(part)
            if have > MOST_BYTES:
                raise HubUnreachableError(
                    f"{call.asked.host} answers {call.asked.repo} with more than "
                    f"{size_of(MOST_BYTES)} that are no model: name another in HF_ENDPOINT"
                )
            if time.monotonic() > call.end:
                raise HubUnreachableError(
                    f"{call.asked.host} did not end its answer about {call.asked.repo} in "
                    f"{SECONDS:g} s: try again later, or name another in HF_ENDPOINT"
                )
            yield part

    response.iter_bytes = bounded
