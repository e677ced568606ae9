"""A model that calls a function of yours and gets its result.

python examples/tools.py [MODEL.gguf]

Needs the extra `structured`: the call follows the tool's schema, whatever the model.
"""

import json
import sys

import pillion
from pillion.models import TINY_TARGET

CHAPTERS = {"Genesis": 50, "Exodus": 40, "Psalms": 150}
TOOL = {
    "type": "function",
    "function": {
        "name": "count_chapters",
        "description": "The number of chapters of a book.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"book": {"type": "string", "enum": list(CHAPTERS)}},
            "required": ["book"],
        },
    },
}


def count_chapters(book: str) -> dict[str, int]:
    return {"chapters": CHAPTERS[book]}


def main(model: str) -> None:
    messages = [{"role": "user", "content": "How many chapters has Genesis?"}]
    with pillion.LLM(model, seed=1) as llm:
        reply = llm.chat(messages, tools=[TOOL], tool_choice="required", max_tokens=60)
        message = reply["choices"][0]["message"]
        messages.append(message)
        for call in message["tool_calls"]:
            arguments = json.loads(call["function"]["arguments"])
            result = count_chapters(**arguments)
            print(f"{call['function']['name']}({arguments}) = {result}")
            messages.append(
                {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)}
            )
        reply = llm.chat(messages, tools=[TOOL], tool_choice="none", max_tokens=60)
    print(reply["choices"][0]["message"]["content"])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(TINY_TARGET))
