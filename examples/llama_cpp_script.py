"""A script for llama-cpp-python. It runs on pillion with this one import changed:

    from llama_cpp import Llama, LlamaGrammar, LogitsProcessorList, StoppingCriteriaList

    python examples/llama_cpp_script.py MODEL.gguf

It prints what each call returns, a line of JSON each.
"""

import json
import sys

from pillion.llama_cpp import Llama, LlamaGrammar, LogitsProcessorList, StoppingCriteriaList

PROMPT = "In the beginning"
MESSAGES = [{"role": "user", "content": "Who made the heaven?"}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Adam", "Eve"]}},
    "required": ["name"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "find", "parameters": SCHEMA}}


def show(name, value):
    print(json.dumps({name: value}, default=float))


def completions(llm):
    show("completion", llm(PROMPT, max_tokens=8, temperature=0.0))
    show("log-probabilities", llm(PROMPT, max_tokens=2, temperature=0.0, logprobs=2))
    show("echo", llm(PROMPT, max_tokens=2, temperature=0.0, logprobs=1, echo=True))
    chunks = llm.create_completion(PROMPT, max_tokens=4, seed=1, stop=["\n\n"], stream=True)
    show("streamed completion", list(chunks))


def chats(llm):
    show("chat", llm.create_chat_completion(MESSAGES, max_tokens=8))
    chunks = llm.create_chat_completion(MESSAGES, max_tokens=4, stream=True)
    show("streamed chat", list(chunks))
    wanted = {"type": "json_object", "schema": SCHEMA}
    found = llm.create_chat_completion(MESSAGES, response_format=wanted, max_tokens=200)
    show("JSON", found)
    choice = {"type": "function", "function": {"name": "find"}}
    found = llm.create_chat_completion(MESSAGES, tools=[TOOL], tool_choice=choice, max_tokens=200)
    show("tools", found)


def grammars(llm):
    grammar = LlamaGrammar.from_string('root ::= "yes" | "no"', verbose=False)
    show("grammar", llm(PROMPT, grammar=grammar, max_tokens=8)["choices"][0]["finish_reason"])


def processors(llm):
    n = len(llm.tokenize(PROMPT.encode()))

    def no_repeats(input_ids, scores):
        scores[input_ids[-1]] = -float("inf")
        return scores

    def is_long(input_ids, logits):
        return len(input_ids) >= n + 5

    found = llm(
        PROMPT,
        max_tokens=20,
        temperature=0.0,
        logits_processor=LogitsProcessorList([no_repeats]),
        stopping_criteria=StoppingCriteriaList([is_long]),
    )
    show("processors", found["usage"])


def tokens(llm):
    ids = llm.tokenize(PROMPT.encode(), add_bos=True, special=False)
    assert llm.detokenize(ids).decode().strip() == PROMPT
    sizes = [llm.n_ctx(), llm.n_vocab(), llm.n_embd()]
    show("tokens", [ids, sizes, llm.token_bos(), llm.token_eos()])


def by_hand(llm):
    """One token after the other, and back to a state."""
    prompt = llm.tokenize(PROMPT.encode())
    llm.reset()
    llm.eval(prompt)
    state = llm.save_state()
    written = []
    for _ in range(8):
        token = llm.sample(temp=0.0)
        written.append(token)
        llm.eval([token])
    llm.load_state(state)
    assert llm.n_tokens == len(prompt)
    again = []
    for token in llm.generate(prompt, temp=0.0):
        again.append(token)
        if len(again) == 8:
            break
    assert again == written
    assert llm(prompt, max_tokens=8, temperature=0.0)["usage"]["completion_tokens"] == 8
    show("by hand", written)


def embeddings(path):
    llm = Llama(model_path=path, embedding=True, pooling_type=1, n_ctx=128, verbose=False)
    show("embedding", llm.create_embedding(["one", "two"]))
    show("vector", len(llm.embed("one")))
    llm.close()


def main(path):
    llm = Llama(
        model_path=path,
        n_ctx=256,
        n_batch=128,
        n_threads=2,
        n_gpu_layers=-1,
        seed=42,
        logits_all=True,
        verbose=False,
    )
    for part in (completions, chats, grammars, processors, tokens, by_hand):
        part(llm)
    llm.close()
    embeddings(path)


if __name__ == "__main__":
    main(sys.argv[1])
