"""Draws docs/images/pair.svg: one round of the pair, as the embedded tiny pair ran it.

    python tools/pair_picture.py            writes the file
    python tools/pair_picture.py --check    exits with 1 where the file is not what would be drawn

The round is the first of the demo's text in which the model keeps two drafts of three and chooses
another token in place of the last. Greedy, so every machine draws the same picture.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import pillion
from pillion.cli.demo import PROMPT
from pillion.models import TINY_ASSISTANT, TINY_TARGET

TARGET = Path(__file__).resolve().parents[1] / "docs" / "images" / "pair.svg"
N_DRAFT, N_KEPT = 3, 2

WIDTH, HEIGHT = 800, 436
LEFT, COLUMN, BOX = 210, 142, 118  # of the first column, between columns, of a box: pixels
ROWS = {"drafter": 78, "target": 176, "choice": 268, "text": 356}  # y of the boxes
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
     aria-labelledby="title desc"
     font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="15">
<title id="title">{title}</title>
<desc id="desc">{desc}</desc>
<style>
  .page {{ fill: #ffffff; stroke: #d0d7de }} text {{ fill: #1f2328 }}
  .note {{ fill: #57606a; font-family: system-ui, sans-serif; font-size: 13px }}
  .box {{ fill: #f6f8fa; stroke: #8c959f }} .kept {{ fill: #a6e9bb; stroke: #2da44e }}
  .wrong {{ fill: #ffd8d3; stroke: #cf222e }} .unread {{ fill: none; stroke: #8c959f }}
  .unread {{ stroke-dasharray: 4 4 }} .cache {{ fill: #ddf4ff; stroke: #218bff }}
  .line {{ stroke: #57606a; fill: none; stroke-width: 1.5 }} .tip {{ fill: #57606a }}
  @media (prefers-color-scheme: dark) {{
    .page {{ fill: #0d1117; stroke: #30363d }} text {{ fill: #e6edf3 }} .note {{ fill: #9198a1 }}
    .box {{ fill: #161b22; stroke: #6e7681 }} .kept {{ fill: #1f6f3f; stroke: #3fb950 }}
    .wrong {{ fill: #7a2320; stroke: #f85149 }} .unread {{ fill: none; stroke: #6e7681 }}
    .cache {{ fill: #0c2d6b; stroke: #388bfd }}
    .line {{ stroke: #9198a1 }} .tip {{ fill: #9198a1 }}
  }}
</style>
<defs><marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">
<path class="tip" d="M0 0 L9 4 L0 8 z"/></marker></defs>
<rect class="page" x="0.5" y="0.5" width="{inner}" height="{inner_height}" rx="8"/>
"""


@dataclass(frozen=True)
class Round:
    """Texts of the tokens of one round."""

    last: str
    drafts: list[str]
    chosen: list[str]
    """The kept drafts and the model's own token behind them."""


def a_round() -> Round:
    """The first round with N_KEPT of N_DRAFT drafts kept, all of them words."""
    with (
        pillion.Model.open(TINY_TARGET) as model,
        model.context(n_ctx=512) as context,
        pillion.Pair(context, TINY_ASSISTANT) as pair,
    ):
        sampler = pillion.Sampler(pillion.SamplingParams(temperature=0))
        word = model.tokenizer.token_bytes
        pair.sync(model.tokenizer.encode(PROMPT))
        last = b""
        while context.n_past < 400:
            drafts = pair.propose(sampler, N_DRAFT)
            pair.run(drafts)
            done = pair.take(sampler)
            chosen = [word(token).decode() for token in done.tokens]
            found = Round(last.decode(), [word(one).decode() for one in drafts], chosen)
            if len(drafts) == N_DRAFT and done.accepted == N_KEPT and _is_clear(found):
                return found
            last = word(done.tokens[-1])
    raise SystemExit(f"no round keeps {N_KEPT} drafts of {N_DRAFT}")


def _is_clear(one: Round) -> bool:
    return all(text.strip().isalpha() for text in (one.last, *one.drafts, *one.chosen))


def centre(column: int) -> float:
    return LEFT + column * COLUMN + BOX / 2


def box(column: int, row: str, text: str, kind: str, width: float = BOX) -> str:
    x, y = LEFT + column * COLUMN, ROWS[row]
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{width:.0f}" height="34" rx="6"/>\n'
        f'<text x="{x + width / 2:.0f}" y="{y + 22}" text-anchor="middle">{escape(text)}</text>\n'
    )


def note(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text class="note" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>\n'


def arrow(path: str) -> str:
    return f'<path class="line" d="{path}" marker-end="url(#tip)"/>\n'


def down(column: int, upper: str, lower: str) -> str:
    return arrow(f"M{centre(column):.0f} {ROWS[upper] + 34} V{ROWS[lower] - 3}")


def drawn(one: Round) -> str:
    last, *drafts = [one.last.strip(), *(text.strip() for text in one.drafts)]
    chosen = [text.strip() for text in one.chosen]
    wide = N_DRAFT * COLUMN + BOX
    svg = note(24, 32, "1  The drafter guesses, one small step a token, and reads the cache.")
    svg += box(0, "drafter", last, "box")
    for column, draft in enumerate(drafts, 1):
        svg += box(column, "drafter", draft, "kept" if column <= N_KEPT else "wrong")
        y, x = ROWS["drafter"] + 17, LEFT + column * COLUMN
        svg += arrow(f"M{x - COLUMN + BOX} {y} H{x - 3}")
    svg += note(centre(0), ROWS["drafter"] - 8, "last token", "middle")
    for column in range(1, N_DRAFT + 1):
        svg += note(centre(column), ROWS["drafter"] - 8, f"draft {column}", "middle")
    svg += box(0, "target", f"2  the model runs all {N_DRAFT + 1} in one pass", "box", wide)
    for column in range(N_DRAFT + 1):
        svg += down(column, "drafter", "target") + down(column, "target", "choice")
    svg += note(24, ROWS["choice"] + 22, "3  It chooses the words.")
    for column in range(N_DRAFT + 1):
        if column < len(chosen):
            svg += box(column, "choice", chosen[column], "kept" if column < N_KEPT else "box")
        else:
            svg += box(column, "choice", "not read", "unread")
    for column in range(N_KEPT + 1):
        said = f"= draft {column + 1}" if column < N_KEPT else f"not draft {column + 1}"
        svg += note(centre(column) + 8, ROWS["choice"] - 10, said)
    svg += note(24, ROWS["text"] + 22, f"4  The text grows by {len(chosen)}.")
    for column, text in enumerate(chosen):
        svg += box(column, "text", text, "kept" if column < N_KEPT else "box")
        svg += down(column, "choice", "text")
    return svg + cache(len(chosen))


def cache(n_kept: int) -> str:
    """The target's cache at the left, which both read, and what becomes of its rows."""
    x, y, high = 24, ROWS["drafter"], ROWS["target"] + 34 - ROWS["drafter"]
    middle = ROWS["target"] + 17
    svg = f'<rect class="cache" x="{x}" y="{y}" width="126" height="{high}" rx="6"/>\n'
    svg += f'<text x="{x + 63}" y="{y + high / 2 - 4:.0f}" text-anchor="middle">cache of</text>\n'
    svg += f'<text x="{x + 63}" y="{y + high / 2 + 16:.0f}" text-anchor="middle">the model</text>\n'
    svg += arrow(f"M{x + 126} {ROWS['drafter'] + 17} H{LEFT - 3}")
    svg += arrow(f"M{x + 126} {middle - 6} H{LEFT - 3}") + arrow(f"M{LEFT} {middle + 8} H{x + 129}")
    return svg + note(
        24, HEIGHT - 18, f"The cache keeps the {n_kept} rows that were right: a counter moves back."
    )


def picture() -> str:
    one = a_round()
    drafts, chosen = (" ".join(text.strip() for text in some) for some in (one.drafts, one.chosen))
    title = f"One round: {N_DRAFT} drafts, {N_KEPT} kept, {len(one.chosen)} tokens from one run"
    desc = (
        f"Behind “{one.last.strip()}” the drafter guesses “{drafts}”. The model runs these "
        f"{N_DRAFT + 1} tokens in one pass and chooses “{chosen}”: the first {N_KEPT} are the "
        "drafts, the next is its own, and the row behind that is not read."
    )
    head = HEAD.format(
        width=WIDTH,
        height=HEIGHT,
        inner=WIDTH - 1,
        inner_height=HEIGHT - 1,
        title=escape(title),
        desc=escape(desc),
    )
    return head + drawn(one) + "</svg>\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    made = picture()
    if parser.parse_args().check:
        sys.exit(0 if TARGET.exists() and TARGET.read_text(encoding="utf-8") == made else 1)
    TARGET.write_text(made, encoding="utf-8")
