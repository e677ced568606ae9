"""`LLM`: a model, its engine and the tokenizer behind `complete`, `chat` and `embed`.

Read in this order:

- `llm.LLM`: the class.
- `opening`: opens the model and its drafter, and makes the slots.
- `requests`: checks the options of a call. `constraining`: their demands on the text's form.
- `openai_format`: results in the shape of OpenAI's API. `streams`: the same as chunks.
- `embedding`: vectors of texts.
"""
