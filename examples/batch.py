"""Many prompts at a time: a few threads, several slots on the same weights.

python examples/batch.py [MODEL.gguf] < prompts.txt

Reads a prompt a line and writes a JSON object a line, in the same order.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pillion
from pillion.models import TINY_TARGET

PARALLEL = 4


def main(model: str) -> None:
    prompts = [line.strip() for line in sys.stdin if line.strip()]
    with pillion.LLM(model, parallel=PARALLEL) as llm, ThreadPoolExecutor(PARALLEL) as pool:

        def write(prompt: str) -> dict[str, object]:
            # The seed belongs to the prompt, so the order of the work changes no text.
            answer = llm.complete(prompt, max_tokens=32, seed=1)
            choice, usage = answer["choices"][0], answer["usage"]
            return {"prompt": prompt, "text": choice["text"], "tokens": usage["completion_tokens"]}

        for line in pool.map(write, prompts):
            print(json.dumps(line, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(TINY_TARGET))
