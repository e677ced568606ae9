"""`pillion demo`: the tiny pair that comes with the package writes the same text without and with
its drafter."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.text import Text

from .. import Generation
from ..models import TINY_ASSISTANT, TINY_TARGET
from ..pair import DRAFT_MAX
from .console import command, fail, open_llm, write

PROMPT = "Genesis 1\n\nIn the beginning"


@command
def demo(
    n_predict: int = typer.Option(96, "-n", "--n-predict", help="Most tokens to write."),
    n_draft: int = typer.Option(
        3, "--spec-draft-n-max", min=1, max=DRAFT_MAX, help="Drafts of a round."
    ),
) -> None:
    """Let the tiny pair that comes with the package write, without and with its drafter, and show
    both speeds.

    Tokens that the drafter guessed and the model accepted are green.
    """
    for file in (TINY_TARGET, TINY_ASSISTANT):
        if not file.exists():
            raise fail(f"{file} is missing: this build came without its models")
    with open_llm(TINY_TARGET, drafter=TINY_ASSISTANT, draft=n_draft) as llm:
        assert llm.pair is not None and llm.pair.drafter is not None
        sizes = (
            f"{llm.model.n_params / 1e6:.1f} and {llm.pair.drafter.n_params / 1e6:.1f} million "
            f"parameters"
        )
        typer.echo(
            f"a target and its drafter of {sizes}, greedy, {n_draft} drafts a round", err=True
        )
        for draft in (0, n_draft):  # nothing is timed that runs for the first time
            llm.generate(PROMPT, max_tokens=min(n_predict, 32), temperature=0, draft=draft).run()

        def answer(draft: int) -> Generation:
            return llm.generate(PROMPT, max_tokens=n_predict, temperature=0, draft=draft)

        plain = answer(0)
        typer.echo("\nwithout the drafter:", err=True)
        write(PROMPT)
        for piece in plain:
            write(piece.text)
        write("\n")

        paired = answer(n_draft)
        typer.echo("\nwith the drafter:", err=True)
        _show_coloured(paired)

        without, with_drafter = (
            run.timings.as_dict()["predicted_per_second"] for run in (plain, paired)
        )
        done = paired.speculation
        ratio = with_drafter / without if without else 0.0
        equal = plain.tokens == paired.tokens and plain.text == paired.text
        positions = ", ".join(f"{100 * share:.0f} %" for share in done.acceptance_by_position)
        typer.echo(
            f"\nwithout: {without:.0f} tokens/s\n"
            f"with:    {with_drafter:.0f} tokens/s, {ratio:.2f} times as fast\n"
            f"drafts:  {done.accepted} of {done.drafted} accepted ({100 * done.acceptance:.0f} %; "
            f"by position {positions}), {done.mean_tokens_per_round:.2f} tokens a round\n"
            f"texts equal: {'yes' if equal else 'NO'}\n"
            "This pair fits into the processor's caches, where checking tokens costs arithmetic "
            "and little is won. A drafter\n"
            "saves memory traffic: `pillion bench -m MODEL -md DRAFTER` shows what it does for a "
            "model of useful size.",
            err=True,
        )
        if not equal:
            raise fail("the texts differ: a fault in pillion; please report it")


def _show_coloured(generation: Generation) -> None:
    """The text with accepted drafts in green, where stdout can show colours. Colours follow tokens,
    not pieces of text."""
    text = Text(PROMPT)
    for piece in generation:
        for token in piece.tokens:
            text.append(token.text, style="bold green" if token.drafted else "")
    if text.plain != PROMPT + generation.text:  # characters that several tokens make up
        text = Text(PROMPT + generation.text)
    Console(soft_wrap=True, highlight=False).print(text)
