"""One LLM for many threads and many asyncio tasks: python threads_and_tasks.py MODEL.gguf"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import pillion

QUESTIONS = ["In the beginning", "And the earth", "And God said", "And it came to pass"]


def ask(llm, question):
    return llm.complete(question, max_tokens=24, temperature=0)["choices"][0]["text"]


async def ask_async(llm, question):
    answer = await llm.acomplete(question, max_tokens=24, temperature=0)
    return answer["choices"][0]["text"]


async def first_words(llm, question):
    """Leaves the stream early, which frees its slot."""
    text = ""
    async with await llm.acomplete(question, max_tokens=None, stream=True, temperature=0) as stream:
        async for chunk in stream:
            text += chunk["choices"][0]["text"]
            if len(text) > 20:
                break
    return text


async def all_at_once(llm):
    answers = await asyncio.gather(*(ask_async(llm, question) for question in QUESTIONS))
    words = await asyncio.gather(*(first_words(llm, question) for question in QUESTIONS))
    return answers, words


def main(path):
    with pillion.LLM(path, parallel=2, n_ctx=512) as llm:
        alone = [ask(llm, question) for question in QUESTIONS]
        with ThreadPoolExecutor(8) as pool:
            by_threads = list(pool.map(ask, [llm] * len(QUESTIONS), QUESTIONS))
        by_tasks, words = asyncio.run(all_at_once(llm))
        for question, answer, beginning in zip(QUESTIONS, by_tasks, words, strict=False):
            assert answer.startswith(beginning) or beginning.startswith(answer)
            print(f"{question}{answer}")
        print("threads and tasks write the same:", alone == by_threads == by_tasks)


if __name__ == "__main__":
    main(sys.argv[1])
