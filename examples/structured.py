"""An answer in a form of yours: a pydantic class, a regular expression, a choice.

python examples/structured.py [MODEL.gguf]

Needs the extra `structured`, and pydantic.
"""

import sys
from typing import Annotated, Literal

import pillion
from pillion.models import TINY_TARGET
from pydantic import BaseModel, Field


class Verse(BaseModel):
    book: Literal["Genesis", "Exodus", "Psalms"]
    chapter: Literal[1, 2, 3]
    words: Annotated[list[Literal["light", "day", "night"]], Field(max_length=2)]


def main(model: str) -> None:
    question = [{"role": "user", "content": "Read Genesis 1."}]
    with pillion.LLM(model, seed=1) as llm:

        def answer(**form: object) -> str:
            reply = llm.chat(question, temperature=0, **form)
            return reply["choices"][0]["message"]["content"]

        print(Verse.model_validate_json(answer(response_format=Verse)))
        print(answer(regex=r"[A-Z][a-z]{2,12} \d{1,3}:\d{1,2}"))
        print(answer(choice=["yes", "no"]))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(TINY_TARGET))
