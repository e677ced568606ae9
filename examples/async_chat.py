"""Two answers at a time in asyncio; a timeout ends the work of the one that takes too long.

python examples/async_chat.py [MODEL.gguf]
"""

import asyncio
import sys

import pillion
from pillion.models import TINY_TARGET


async def answer(llm: pillion.LLM, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    text = ""
    async for chunk in await llm.achat(messages, max_tokens=40, stream=True):
        text += chunk["choices"][0]["delta"].get("content") or ""
    return text


async def main(model: str) -> None:
    with pillion.LLM(model, parallel=2, seed=1) as llm:
        questions = ("Read Genesis 1.", "Read Psalms 23.")
        for text in await asyncio.gather(*(answer(llm, one) for one in questions)):
            print(text)
        try:
            await asyncio.wait_for(answer(llm, "Read Exodus 1."), timeout=0.001)
        except asyncio.TimeoutError:
            print("too late: the work has ended with the task")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else str(TINY_TARGET)))
