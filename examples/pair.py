"""One level down: the rounds of a pair, and the text that one token at a time would give.

python examples/pair.py [MODEL.gguf ASSISTANT.gguf]
"""

import sys

import pillion
from pillion.models import TINY_ASSISTANT, TINY_TARGET

PROMPT = "Genesis 1\n\nIn the beginning"


def main(target: str, assistant: str) -> None:
    greedy = pillion.SamplingParams(temperature=0)
    with (
        pillion.Model.open(target) as model,
        model.context(n_ctx=512) as context,
        pillion.Pair(context, assistant) as pair,
    ):
        drafted = []
        for one in pair.generate(PROMPT, sampler=pillion.Sampler(greedy), max_tokens=40, n_draft=3):
            text = model.tokenizer.decode(one.tokens)
            print(f"{one.accepted} of {one.drafted} drafts: {text!r}")
            drafted += one.tokens
        plain = []
        sampler = pillion.Sampler(greedy)
        for one in pair.generate(PROMPT, sampler=sampler, max_tokens=40, n_draft=0):
            plain += one.tokens
        print(f"acceptance {pair.stats.acceptance:.2f}, the same text: {drafted == plain}")


if __name__ == "__main__":
    main(*(sys.argv[1:3] if len(sys.argv) > 2 else (str(TINY_TARGET), str(TINY_ASSISTANT))))
