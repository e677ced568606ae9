"""Structured output in numbers: what masks cost, how much a grammar forces, and what the drafter
brings under it.

    python benchmarks/bench_structured.py [--model FILE] [--repeats 7] [--vocabulary 262144]

The runs with and without the drafter alternate, so that a machine whose clock moves treats both
alike."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from typing import Any

from pillion import LLM
from pillion.models import TINY_TARGET
from pillion.structured import Structured, Vocabulary, wanted_body
from pillion.structured.reply import reply_grammar

PROMPT = "Genesis 1\n\nIn the beginning God created the heaven and the earth."


def forecast(n_days: int) -> dict[str, Any]:
    """A schema in which names make up most of the text."""
    day = {
        "type": "object",
        "properties": {
            "day_of_the_week": {"enum": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]},
            "lowest_temperature_celsius": {"type": "integer", "minimum": -40, "maximum": 40},
            "highest_temperature_celsius": {"type": "integer", "minimum": -40, "maximum": 50},
            "probability_of_precipitation": {"type": "number", "minimum": 0, "maximum": 1},
            "umbrella_is_recommended": {"type": "boolean"},
        },
        "additionalProperties": False,
    }
    day["required"] = list(day["properties"])
    days = {"type": "array", "items": day, "minItems": n_days, "maxItems": n_days}
    return {
        "type": "object",
        "properties": {
            "name_of_the_place": {"type": "string", "maxLength": 20},
            "forecast_by_day": days,
        },
        "required": ["name_of_the_place", "forecast_by_day"],
        "additionalProperties": False,
    }


def tools(n_days: int) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {"name": "report_weather", "strict": True, "parameters": forecast(n_days)},
        }
    ]


class Synthetic:
    """A vocabulary of a size, whose tokens are made up."""

    def __init__(self, n_tokens: int) -> None:
        self.n = n_tokens
        self.bos, self.end_tokens, self.suppressed_tokens = 2, frozenset({1, 106}), ()

    def __len__(self) -> int:
        return self.n

    def token_type(self, token: int) -> str:
        return "control" if token < 200 else "normal"

    def token_bytes(self, token: int, special: bool = False) -> bytes:
        if token < 200:
            return f"<token{token}>".encode() if special else b""
        if token < 456:
            return bytes([token - 200])
        text, left = [], token
        while left:
            text.append(" etaoinshrdlucmfwypvbgkqjxz0123"[left % 31])
            left //= 31
        return "".join(text).encode()

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        return [200 + byte for byte in text.encode()]


def microseconds(work: Any) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = work()
    return result, 1e6 * (time.perf_counter() - begin)


def spread(values: list[float]) -> str:
    ordered = sorted(values)
    return (
        f"median {statistics.median(ordered):.0f}, "
        f"mean {statistics.fmean(ordered):.0f}, max {ordered[-1]:.0f} µs"
    )


def masks_of(structured: Structured, tokens: list[int], schema: dict[str, Any]) -> None:
    """What the masks along a text cost, alone and with four drafts."""
    format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    grammar = reply_grammar(wanted_body(response_format=format_))
    compiled, us = microseconds(lambda: structured.grammars.compile(grammar, "the schema"))
    print(f"compile                 {us / 1e3:.1f} ms")
    for name, n_drafts in (("mask", 0), ("5 masks, 4 drafts", 4)):
        constraint, found = compiled.start(), []
        for at, token in enumerate(tokens):
            plan = partial(constraint.plan, tokens[at : at + n_drafts], n_drafts)
            found.append(microseconds(plan)[1])
            constraint.accept([token])
        print(f"{name:<23} {spread(found)} (over {len(found)} tokens)")


def race(name: str, write: Any, repeats: int) -> None:
    """Alternates: one token a run; forced tokens as drafts; the drafter too. The texts must be
    equal."""
    rates: dict[Any, list[float]] = {None: [], 0: [], "auto": []}
    texts, forced, drafted, n_tokens = set(), 0, 0, 0
    for repeat in range(repeats + 1):
        for draft in rates:
            generation = write(draft)
            texts.add(generation.text)
            n_tokens = len(generation.tokens)
            if repeat:
                rates[draft].append(n_tokens / generation.timings.predicted_ms * 1e3)
            if draft == "auto":
                forced, drafted = generation.speculation.forced, generation.speculation.accepted
    assert len(texts) == 1, "the drafter changed the text"
    plain, freely, fast = (statistics.median(rates[draft]) for draft in rates)
    share = f"forced {forced / n_tokens:.0%}, drafted {drafted / n_tokens:.0%} of {n_tokens} tokens"
    print(
        f"{name:<23} {plain:.0f} tokens/s plain, {freely / plain:.2f} times that with forced "
        f"tokens, {fast / plain:.2f} with the drafter too ({share})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(TINY_TARGET))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=262_144)
    given = parser.parse_args()
    _, us = microseconds(Vocabulary(Synthetic(given.vocabulary), given.vocabulary).llg)
    print(f"vocabulary of {given.vocabulary}    {us / 1e6:.2f} s")
    with LLM(given.model, n_ctx=2048) as llm, LLM(llm.model, n_ctx=2048, drafter=None) as alone:
        blanks = [
            token for token in range(llm.n_vocab()) if llm.tokenizer.token_bytes(token).isspace()
        ]
        # A small model is in love with line feeds; they are not what is measured.
        thinking = llm.tokenizer.encode("<|channel>", add_special=False, parse_special=True)
        bias = dict.fromkeys([*blanks, *thinking[:1]], -30.0)
        options = {"max_tokens": 700, "temperature": 0, "logit_bias": bias}
        schema = forecast(given.days)
        format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}

        def json_(draft: Any) -> Any:
            who = alone if draft is None else llm
            return who.generate(PROMPT, response_format=format_, draft=draft, **options).run()

        def call(draft: Any) -> Any:
            asked = [{"role": "user", "content": PROMPT}]
            extra = {
                "tools": tools(given.days),
                "tool_choice": "required",
                "parallel_tool_calls": False,
            }
            who = alone if draft is None else llm
            return who._answer(asked, draft=draft, **extra, **options).generation.run()

        text = json_(0)
        print(f"masks of a text of {len(json.dumps(text.text))} characters:")
        masks_of(llm.structured, text.tokens, schema)
        race("a schema", json_, given.repeats)
        race("a tool call", call, given.repeats)


if __name__ == "__main__":
    main()
