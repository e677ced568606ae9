"""Draws docs/images/accepted.svg: the text of `pillion demo`, with its drafter's tokens tinted.

    python tools/demo_picture.py            writes the file
    python tools/demo_picture.py --check    exits with 1 where the file is not what would be drawn

The text is greedy and has no random numbers, and a row's bits are equal on every kernel table: each
machine draws the same picture.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import pillion
from pillion.cli.demo import PROMPT
from pillion.models import TINY_ASSISTANT, TINY_TARGET

TARGET = Path(__file__).resolve().parents[1] / "docs" / "images" / "accepted.svg"
N_TOKENS, N_DRAFT = 63, 3

COLUMNS = 64
CELL, LINE, FONT, MARGIN = 10.0, 30, 16, 28  # width of a character, heights, edge: pixels
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img"
     font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace">
<title>{title}</title>
<style>
  .page {{ fill: #ffffff; stroke: #d0d7de }} .text {{ fill: #1f2328 }} .given {{ fill: #6e7781 }}
  .drafted {{ fill: #a6e9bb }} .note {{ fill: #57606a }}
  @media (prefers-color-scheme: dark) {{
    .page {{ fill: #0d1117; stroke: #30363d }} .text {{ fill: #e6edf3 }} .given {{ fill: #8b949e }}
    .drafted {{ fill: #1f6f3f }} .note {{ fill: #8b949e }}
  }}
</style>
<rect class="page" x="0.5" y="0.5" width="{inner:.0f}" height="{inner_height}" rx="8"/>
"""


@dataclass(frozen=True)
class Run:
    """Characters of one token, or of the prompt."""

    text: str
    kind: str  # "given", "chosen" or "drafted"


def written() -> tuple[list[Run], "pillion.Generation"]:
    """The prompt and the tokens of the pair."""
    with pillion.LLM(TINY_TARGET, drafter=TINY_ASSISTANT, draft=N_DRAFT, n_ctx=256) as llm:
        answer = llm.generate(PROMPT, max_tokens=N_TOKENS, temperature=0, draft=N_DRAFT)
        runs = [Run(PROMPT.split("\n")[-1], "given")]
        for piece in answer:
            for token in piece.tokens:
                runs.append(Run(token.text, "drafted" if token.drafted else "chosen"))
        return [*runs, Run(" …", "given")], answer


def lines_of(runs: list[Run]) -> list[list[Run]]:
    """The runs cut into lines: at newlines, and at blanks so that COLUMNS characters fit."""
    cells = [(char, index) for index, run in enumerate(runs) for char in run.text]
    lines: list[list[tuple[str, int]]] = [[]]
    for cell in cells:
        if cell[0] == "\n":
            lines.append([])
            continue
        lines[-1].append(cell)
        if len(lines[-1]) > COLUMNS:
            line = lines.pop()
            cut = max(at for at, (char, _) in enumerate(line) if char == " ")
            lines += [line[:cut], line[cut + 1 :]]
    return [_joined(line, runs) for line in lines if line]


def _joined(line: list[tuple[str, int]], runs: list[Run]) -> list[Run]:
    found: list[tuple[str, int]] = []
    for char, index in line:
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0] + char, index)
        else:
            found.append((char, index))
    return [Run(text, runs[index].kind) for text, index in found]


def draw(lines: list[list[Run]], title: str, note: str) -> str:
    width, height = COLUMNS * CELL + 2 * MARGIN, (len(lines) + 1) * LINE + 2 * MARGIN
    svg = HEAD.format(
        width=width, height=height, inner=width - 1, inner_height=height - 1, title=escape(title)
    )
    for number, line in enumerate(lines):
        x, y = float(MARGIN), MARGIN + number * LINE + 20
        for run in line:
            svg += _drawn(run, x, y)
            x += len(run.text) * CELL
    y = height - MARGIN + 4
    svg += f'<rect class="drafted" x="{MARGIN}" y="{y - 13}" width="16" height="16" rx="4"/>\n'
    svg += f'<text class="note" x="{MARGIN + 24}" y="{y}" font-size="13">{escape(note)}</text>\n'
    return svg + "</svg>\n"


def _drawn(run: Run, x: float, y: float) -> str:
    """One run: its tint, and its words at fixed places, whatever the font."""
    word = run.text.strip(" ")
    if not word:
        return ""
    x += (len(run.text) - len(run.text.lstrip(" "))) * CELL
    svg = ""
    if run.kind == "drafted":
        svg = f'<rect class="drafted" x="{x - 0.5:.1f}" y="{y - 18}" '
        svg += f'width="{len(word) * CELL - 1:.1f}" height="25" rx="5"/>\n'
    tone = "given" if run.kind == "given" else "text"
    return svg + (
        f'<text class="{tone}" x="{x:.0f}" y="{y}" font-size="{FONT}" '
        f'textLength="{len(word) * CELL:.0f}">{escape(word)}</text>\n'
    )


def picture() -> str:
    runs, answer = written()
    done = answer.speculation
    n_accepted = sum(run.kind == "drafted" for run in runs)
    runs_of_model = len(answer.tokens) - n_accepted  # each ends with a token it chooses
    title = f"{n_accepted} of {len(answer.tokens)} tokens were drafted and accepted"
    note = (
        f"guessed by the drafter and accepted: {n_accepted} of {len(answer.tokens)} tokens, "
        f"in {runs_of_model} runs of the model"
    )
    assert done.accepted == n_accepted, (done.accepted, n_accepted)
    return draw(lines_of(runs), title, note)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    drawn = picture()
    if parser.parse_args().check:
        sys.exit(0 if TARGET.exists() and TARGET.read_text(encoding="utf-8") == drawn else 1)
    TARGET.write_text(drawn, encoding="utf-8")
