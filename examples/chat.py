"""A conversation in the terminal: one line a question, an empty line or Ctrl-D ends it.

python examples/chat.py [MODEL.gguf]
"""

import sys

import pillion
from pillion.models import TINY_TARGET


def main(model: str) -> None:
    messages = []
    with pillion.LLM(model) as llm:
        while question := ask():
            messages.append({"role": "user", "content": question})
            answer = ""
            for chunk in llm.chat(messages, max_tokens=200, stream=True):
                text = chunk["choices"][0]["delta"].get("content") or ""
                print(text, end="", flush=True)
                answer += text
            print()
            # The next turn runs only what is new: this answer and the next question.
            messages.append({"role": "assistant", "content": answer})


def ask() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(TINY_TARGET))
