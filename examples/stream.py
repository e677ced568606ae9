"""A text as it is written, its drafted tokens in green, and what the drafter brought.

python examples/stream.py [MODEL.gguf]
"""

import sys

import pillion
from pillion.models import TINY_TARGET

GREEN, PLAIN = "\033[32m", "\033[0m"


def main(model: str) -> None:
    color = sys.stdout.isatty()
    with pillion.LLM(model, seed=1) as llm:
        # Three guesses a round; without `draft` as many as pay on this machine.
        draft = 3 if llm.pair else None
        answer = llm.generate("Genesis 1\n\nIn the beginning", max_tokens=80, draft=draft)
        for piece in answer:  # text and tokens, as soon as they are certain
            for token in piece.tokens:
                drafted = token.drafted and color
                print(f"{GREEN}{token.text}{PLAIN}" if drafted else token.text, end="", flush=True)
        done, times = answer.speculation, answer.timings.as_dict()
    print()
    print(f"{times['predicted_n']} tokens at {times['predicted_per_second']:.0f} a second")
    print(f"drafter {done.state}: {done.accepted} of {done.drafted} drafts accepted")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(TINY_TARGET))
