"""`pillion demo`: the tiny pair that comes with the package writes the same text without and with
its drafter, and names a digit that it sees and hears."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from .. import LLM, Generation, UsageError
from ..models import SEVEN_PNG, SEVEN_WAV, TINY_ASSISTANT, TINY_MMPROJ, TINY_TARGET
from ..pair import DRAFT_MAX
from .console import command, fail, open_llm

PROMPT = "Revelation 21\n\nAnd it came to pass after this"
"""Greedy text of the tiny pair repeats itself soon; after this prompt it does not."""
N_WARM = 32  # tokens, of a run that is not timed


@command
def demo(
    n_predict: int = typer.Option(110, "-n", "--n-predict", help="Most tokens to write."),
    n_draft: int = typer.Option(
        3, "--spec-draft-n-max", min=1, max=DRAFT_MAX, help="Drafts of a round."
    ),
) -> None:
    """Let the tiny pair that comes with the package write, without and with its drafter, and show
    both speeds.

    The text is the same. Green tokens are drafts that the model accepted.
    """
    for file in (TINY_TARGET, TINY_ASSISTANT, TINY_MMPROJ):
        if not file.exists():
            raise fail(f"{file} is missing: this build came without its models")
    options: dict[str, Any] = {"mmproj": TINY_MMPROJ}
    with open_llm(TINY_TARGET, drafter=TINY_ASSISTANT, draft=n_draft, **options) as llm:
        typer.echo(f"{_sizes(llm)}, greedy, {n_draft} drafts a round\n", err=True)
        for draft in (0, n_draft):
            _answer(llm, min(n_predict, N_WARM), draft).run()
        plain = _answer(llm, n_predict, 0).run()
        paired = _answer(llm, n_predict, n_draft)
        _show_coloured(paired)
        equal = plain.tokens == paired.tokens and plain.text == paired.text
        typer.echo(_report(plain, paired, equal), err=True)
        if not equal:
            raise fail("the texts differ: a fault in pillion; please report it")
        typer.echo(_senses(llm), err=True)


def _sizes(llm: LLM) -> str:
    assert llm.pair is not None and llm.pair.drafter is not None
    target, drafter = (model.n_params / 1e6 for model in (llm.model, llm.pair.drafter))
    return f"a target of {target:.1f} and a drafter of {drafter:.1f} million parameters"


def _answer(llm: LLM, n: int, draft: int) -> Generation:
    return llm.generate(PROMPT, max_tokens=n, temperature=0, draft=draft)


def _senses(llm: LLM) -> str:
    """What the model's towers make of a picture and of a sound."""

    def named(part: dict[str, str]) -> str:
        message = {"role": "user", "content": [part]}
        found = llm.chat([message], temperature=0, max_tokens=8)
        return str(found["choices"][0]["message"]["content"])

    try:
        seen = named({"type": "image", "image": str(SEVEN_PNG)})
        heard = named({"type": "audio", "audio": str(SEVEN_WAV)})
    except UsageError as error:  # without the extra `media`
        return f"\nIt sees and hears digits too: {error.sentence}."
    return f"\nseen in {SEVEN_PNG.name}: {seen}\nheard in {SEVEN_WAV.name}: {heard}"


def _report(plain: Generation, paired: Generation, equal: bool) -> str:
    slow, fast = (one.timings.as_dict()["predicted_per_second"] for one in (plain, paired))
    drafts = paired.speculation
    positions = ", ".join(f"{100 * share:.0f} %" for share in drafts.acceptance_by_position)
    return (
        f"\nwithout: {slow:.0f} tokens/s\n"
        f"with:    {fast:.0f} tokens/s, {fast / slow if slow else 0:.2f} times as fast\n"
        f"drafts:  {drafts.accepted} of {drafts.drafted} accepted"
        f" ({100 * drafts.acceptance:.0f} %; by position {positions}),"
        f" {drafts.mean_tokens_per_round:.2f} tokens a round\n"
        f"texts equal: {'yes' if equal else 'NO'}\n"
        "A drafter saves memory traffic. This pair fits into the processor's caches, so the ratio\n"
        "says little. `pillion bench -m MODEL -md DRAFTER` measures a model of useful size."
    )


def _show_coloured(generation: Generation) -> None:
    """Prints the text with accepted drafts in green, where stdout can show colours. Colours follow
    tokens, not pieces of text."""
    text = Text(PROMPT)
    for piece in generation:
        for token in piece.tokens:
            text.append(token.text, style="bold green" if token.drafted else "")
    if text.plain != PROMPT + generation.text:  # characters that several tokens make up
        text = Text(PROMPT + generation.text)
    Console(soft_wrap=True, highlight=False).print(text)
