"""Lists of functions that change logits or end a text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..constraint import Ids, Scores

LogitsProcessor = Callable[[Ids, Scores], Scores]
StoppingCriteria = Callable[[Ids, Scores], bool]


class LogitsProcessorList(list[LogitsProcessor]):
    """Processors as one: each gets the logits of the one before."""

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        for processor in self:
            scores = processor(input_ids, scores)
        return scores


class StoppingCriteriaList(list[StoppingCriteria]):
    """Criteria as one: any of them ends the text. Each sees each text."""

    def __call__(self, input_ids: Ids, logits: Scores) -> bool:
        return any([criterion(input_ids, logits) for criterion in self])


class MinTokensLogitsProcessor:
    """Keeps `token_eos` from coming before min_tokens others. It serves one text."""

    def __init__(self, min_tokens: int, token_eos: int) -> None:
        self.min_tokens = min_tokens
        self.token_eos = token_eos
        self.prompt_tokens: int | None = None
        """Tokens of the prompt; None: no text has begun."""

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        if self.prompt_tokens is None:
            self.prompt_tokens = len(input_ids)
        if len(input_ids) - self.prompt_tokens < self.min_tokens:
            scores[self.token_eos] = -np.inf
        return scores
