"""Texts written by chance under a constraint, without a model: any token that the mask allows."""

import json
import random
from pathlib import Path

import numpy as np
from jsonschema import Draft202012Validator

DATA = Path(__file__).resolve().parent.parent / "data"
SCHEMAS = json.loads((DATA / "schemas.json").read_text())
TOOL_SETS = json.loads((DATA / "tool_sets.json").read_text())


def validate(value, schema):
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


def response_format(schema):
    return {
        "type": "json_schema",
        "json_schema": {"name": "test", "strict": True, "schema": schema},
    }


def allowed(mask):
    """The tokens of one row."""
    return np.flatnonzero(
        np.unpackbits(np.ascontiguousarray(mask).view(np.uint8), bitorder="little")
    )


class Walk:
    """One text by chance. Closing tokens are taken more often, so that texts end.

    seed: the same one writes the same text, whatever drafts are planned on the way.
    """

    def __init__(self, tokenizer, constraint, seed, closing):
        self.tokenizer, self.constraint = tokenizer, constraint
        self.random = random.Random(seed)
        self.closing = closing
        self.tokens, self.ended = [], False

    def step(self, drafts=(), n_max=0):
        """One round: a token, and those of the drafts that the same chance would have taken."""
        kept, masks = self.constraint.plan(list(drafts), n_max)
        assert len(kept) <= n_max and masks.shape == (len(kept) + 1, masks.shape[1])
        taken = []
        for row in range(len(kept) + 1):
            token = self.choose(masks[row])
            taken.append(token)
            if token in self.tokenizer.end_tokens:
                self.ended = True
                break
            if row == len(kept) or token != kept[row]:
                break
        self.constraint.accept(taken)
        self.tokens += taken[: len(taken) - self.ended]
        self.ended = self.ended or self.constraint.stopped
        return len(taken)

    def choose(self, mask):
        found = allowed(mask)
        assert len(found)
        if len(found) == 1:
            return int(found[0])
        closing = [int(one) for one in found if one in self.closing]
        return self.random.choice(
            closing if closing and self.random.random() < 0.6 else [*map(int, found)]
        )

    def run(self, most=600):
        while not self.ended and len(self.tokens) < most:
            self.step()
        return self


def closing_tokens(tokenizer, more=()):
    """End tokens, and those that begin with what ends a value of JSON."""
    found = {
        token
        for token in range(len(tokenizer))
        if tokenizer.token_bytes(token)[:1] in b'"}],:0' + b"\xff"
    }
    found = {token for token in found if tokenizer.token_bytes(token)}
    return found | set(tokenizer.end_tokens) | set(more)
