"""`Chooser`: chooses the tokens of one text, step by step, for `Llama.sample`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..constraint import Constraint, Scores, processor_list
from ..errors import UsageError
from ..llm.llm import LLM
from ..sampling import Sampler, SamplingParams, float_row
from .llama_grammar import form_of


class Chooser:
    """A sampler with its processors and its grammar, which hold from token `begin` on.

    Its random numbers go on from token to token.
    """

    def __init__(
        self, llm: LLM, params: SamplingParams, processors: Any, grammar: Any, begin: int
    ) -> None:
        self._sampler = Sampler(params)
        self._given = (params, processors, grammar)
        self._processors = processor_list("logits_processor", processors or ())
        self._structured = llm.structured
        self._ends = sorted(llm.tokenizer.end_tokens)
        self._begin = begin
        self._accepted: list[int] = []  # by the sampler
        self._form: Constraint | None = None
        self._formed: list[int] = []  # accepted by the grammar
        self._restart()

    def serves(self, params: SamplingParams, processors: Any, grammar: Any) -> bool:
        """True if these arguments go on with the text."""
        mine, its_processors, its_grammar = self._given
        return mine == params and processors is its_processors and grammar is its_grammar

    def choose(self, tokens: list[int], scores: Scores) -> int:
        """Chooses the token behind these. scores: its logits, which may be changed."""
        self._follow(tokens)
        mask = None
        if self._form is not None:
            if self._form.stopped and self._ends:
                return self._ends[0]  # nothing else can follow
            _, masks = self._form.plan([], 0)
            mask = None if masks is None else masks[0]
        ids = np.array(tokens, dtype=np.intc)
        for processor in self._processors:
            n_vocab = len(scores)
            scores = float_row("the result of a logits processor", processor(ids, scores))
            if len(scores) != n_vocab:
                raise UsageError(
                    f"the result of a logits processor has {len(scores)} logits, the vocabulary "
                    f"{n_vocab}"
                )
        return self._sampler.sample_from(scores, mask)

    def _follow(self, tokens: list[int]) -> None:
        """Tells penalties and grammar what came since."""
        params = self._given[0]
        if params.penalised:
            n = len(self._accepted)
            if tokens[:n] != self._accepted:  # somebody went back
                mark = self._sampler.mark()
                self._sampler.reset()
                self._sampler.go_back((0, mark[1]))
                n = 0
            for token in tokens[n:]:
                self._sampler.accept(token)
            self._accepted = list(tokens)
        if self._form is None:
            return
        behind = tokens[self._begin :]
        if behind[: len(self._formed)] != self._formed:
            self._restart()
        new = behind[len(self._formed) :]
        if new:
            self._form.accept(new)
            self._formed = list(behind)

    def _restart(self) -> None:
        """The grammar from its beginning."""
        form = form_of(self._given[2])
        compiled = self._structured.of_text(form) if form else None
        if compiled is not None:
            bias = self._given[0].logit_bias
            banned = [token for token, value in bias.items() if value == -math.inf]
            self._form = compiled.start(banned)
        self._formed = []
