"""The texts that are nearest to a question.

python examples/embeddings.py [MODEL.gguf]
"""

import sys

import pillion
from pillion.models import TINY_TARGET

TEXTS = [
    "And God said, Let there be light: and there was light.",
    "The LORD is my shepherd; I shall not want.",
    "And the waters prevailed upon the earth an hundred and fifty days.",
]


def main(model: str) -> None:
    with pillion.LLM(model) as llm:
        vectors = llm.embed(TEXTS)  # float32 [3, n_embd], each of length 1
        question = llm.embed("God made the light.")
    scores = vectors @ question
    for at in scores.argsort()[::-1]:
        print(f"{scores[at]:.3f}  {TEXTS[at]}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(TINY_TARGET))
