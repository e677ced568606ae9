"""`LLM`: a model, its engine and the tokenizer behind `complete`, `chat` and `embed`.

Read in this order:

- `llm.LLM`: the class. `calls`: its calls that write text.
- `opening`: opens the model and its drafter, and makes the slots.
- `request_maker`: makes the engine's request of a call. `requests`: checks the call's options.
- `openai_format`: results in the shape of OpenAI's API. `streams`: the same as chunks.
- `embedding`: vectors of texts.
"""
