"""OpenAI's chunks and results, made of a list of parts: ("text", …), ("thinking", …),
("call", arguments) and ("broken", reason)."""

KEYS = {"text": "content", "thinking": "reasoning_content"}


def chunk(delta, reason=None, **more):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


def call_of(number, arguments):
    function = {"name": f"f{number}", "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": function}


def broken_of(reason):
    return {"text": "<|tool_call>call:", "reason": reason}


def call_chunks(parts, pieces=1):
    """The chunks of an answer but the last. pieces: how many the arguments of a call come in."""
    yield chunk({"role": "assistant", "content": ""})
    number = 0
    for kind, text in parts:
        if kind == "call":
            size = -(-len(text) // pieces)
            cut = [text[at : at + size] for at in range(0, len(text), size)]
            first = call_of(number, cut[0])
            yield chunk({"tool_calls": [{"index": number, **first}]})
            for more in cut[1:]:
                yield chunk({"tool_calls": [{"index": number, "function": {"arguments": more}}]})
            number += 1
        elif kind == "broken":
            yield chunk({"malformed_tool_calls": [{"index": 0, **broken_of(text)}]})
        else:
            yield chunk({KEYS[kind]: text})


def usage(written=5):
    return {
        "prompt_tokens": 7,
        "completion_tokens": written,
        "total_tokens": 7 + written,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def end_chunk(reason, written=5, stop=None):
    made = chunk({}, reason, usage=usage(written))
    if stop is not None:
        made["choices"][0]["stop_reason"] = stop
    return made


def whole(parts, reason):
    """The result of the same answer, not streamed."""

    def joined(wanted):
        return "".join(text for kind, text in parts if kind == wanted)

    calls = [text for kind, text in parts if kind == "call"]
    broken = [broken_of(text) for kind, text in parts if kind == "broken"]
    message = {
        "role": "assistant",
        "content": joined("text"),
        "reasoning_content": joined("thinking"),
    }
    if calls:
        message["tool_calls"] = [call_of(number, text) for number, text in enumerate(calls)]
    if broken:
        message["malformed_tool_calls"] = broken
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {"choices": [choice], "usage": usage()}
