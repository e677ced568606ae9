"""Arguments and methods that users of llama-cpp-python and of OpenAI's clients look for in `LLM`,
with what to use here. Data for sentences; `pillion.llama_cpp` takes the names themselves."""

from __future__ import annotations

_LLAMA = "pillion.llama_cpp.Llama takes llama-cpp-python's arguments"
_ROPE = "the file's own scaling of positions is used; a converted checkpoint keeps its own"
_LORA = "merge the adapter into the checkpoint, then `pillion convert` it"
_GPUS = "a model runs on one device: device='cuda:1' names it"
_SAMPLER = "the samplers are top_k, top_p, min_p, temperature and the penalties"
_HEADS = "mmproj is the file with the towers for images and sounds"

LLM = {
    "model_path": f"give the path first, LLM(path); {_LLAMA}",
    "verbose": f"nothing is printed: the logger 'pillion' tells what happens; {_LLAMA}",
    "n_ubatch": "n_batch is the number of rows of one run",
    "n_threads_batch": "n_threads serves prompts and tokens",
    "type_k": "kv_type='f16' or 'q8_0' is the type of keys and values",
    "type_v": "kv_type='f16' or 'q8_0' is the type of keys and values",
    "use_mlock": "use_mmap=False reads the file into memory",
    "vocab_only": "Model.open(path, metadata_only=True).tokenizer needs no weights",
    "kv_overrides": "chat_template and the arguments of calls replace what the file says",
    "last_n_tokens_size": "penalty_last_n of a call is the number of tokens that penalties see",
    "logits_all": "logprobs of a call needs no such switch; Context.logits has whole rows",
    "embedding": "embed() needs no such switch",
    "pooling_type": "embed() returns the mean of the hidden rows (LLAMA_POOLING_TYPE_MEAN)",
    "attention_type": "the file says which attention the model has",
    "lora_path": _LORA,
    "lora_base": _LORA,
    "lora_scale": _LORA,
    "draft_model": "drafter='auto', a path, a Model or 'lookup' guesses ahead",
    "chat_format": "the file's template is used; chat_template is Jinja source in its place",
    "chat_handler": "chat_template is Jinja source in place of the file's",
    "tokenizer": "the file's tokenizer is used; calls take token ids too",
    "rope_scaling_type": _ROPE,
    "rope_freq_base": _ROPE,
    "rope_freq_scale": _ROPE,
    "yarn_ext_factor": _ROPE,
    "yarn_attn_factor": _ROPE,
    "yarn_beta_fast": _ROPE,
    "yarn_beta_slow": _ROPE,
    "yarn_orig_ctx": _ROPE,
    "main_gpu": _GPUS,
    "split_mode": _GPUS,
    "tensor_split": _GPUS,
    "offload_kqv": "the cache of a layer lies where the layer lies; n_gpu_layers says where",
    "op_offload": "an op runs where its layer lies; n_gpu_layers says where",
    "numa": "start Python under `numactl --interleave=all`",
    "no_perf": "timings cost nothing and are in each result",
    "spm_infill": "this library does not fill in the middle",
    "clip_model_path": _HEADS,
    "n_parallel": "parallel is the number of answers written at the same time",
    "n_seq_max": "parallel is the number of answers written at the same time",
}
"""Of `LLM(…)`."""

CALLS = {
    "typical_p": _SAMPLER,
    "tfs_z": _SAMPLER,
    "mirostat_mode": _SAMPLER,
    "mirostat_tau": _SAMPLER,
    "mirostat_eta": _SAMPLER,
    "penalize_nl": "logit_bias weighs single tokens",
    "temp": "temperature is its name",
    "n": "complete and chat have it; else call it n times, with other seeds",
    "best_of": "call it several times with other seeds, and compare the logprobs",
    "max_completion_tokens": "max_tokens is its name",
    "stream_options": "the last chunk of a stream has its usage",
    "model": "an LLM has one model; LLM.name is the name in its results",
    "functions": "tools=[{'type': 'function', 'function': …}] takes them",
    "function_call": "tool_choice takes 'auto', 'none', 'required' or a function by name",
    "user": "owner keeps the prompts of several users apart",
    "prefix": "end messages with an assistant's message: the reply continues it",
    "add_generation_prompt": "continue_final_message=False begins a new reply",
    "guided_json": "response_format takes a JSON schema",
    "guided_regex": "regex is its name",
    "guided_choice": "choice is its name",
    "guided_grammar": "grammar is its name",
    "json_schema": "response_format takes a JSON schema",
    "reset": "a prompt that begins like the text before runs only its rest; LLM.reset() drops it",
}
"""Of `complete`, `chat` and `generate`."""

METHODS = {
    "eval": "LLM.context.prefill(tokens) runs tokens",
    "sample": "Sampler(params).sample(LLM.context) chooses a token",
    "save_state": "LLM.save(path) writes the text and its cache to a file, Context.state() returns "
    "them as bytes",
    "load_state": "LLM.load(path) and Context.set_state(state) bring a text back",
    "n_tokens": "LLM.context.n_past is the number of positions in use",
    "input_ids": "LLM.context.tokens are the tokens of the context",
    "eval_tokens": "LLM.context.tokens are the tokens of the context",
    "scores": "LLM.context.logits(row) are the logits of the last run",
    "eval_logits": "LLM.context.logits(row) are the logits of the last run",
    "set_seed": "LLM.seed may be set",
    "set_cache": "contexts keep what they read; LLM(parallel=n) keeps n texts",
    "cache": "contexts keep what they read; LLM(parallel=n) keeps n texts",
    "pooling_type": "embed() returns the mean of the hidden rows",
    "create_chat_completion_openai_v1": "openai.types.chat.ChatCompletion(**llm.chat(…)) makes one",
    "logits_to_logprobs": "Context.logprobs(row) has log-probabilities",
    "longest_token_prefix": "Context.match(tokens) counts the common beginning",
    "chat_format": "LLM.render_chat(messages) shows the prompt that the template makes",
    "chat_handler": "LLM.render_chat(messages) shows the prompt that the template makes",
    "model_path": "LLM.model.path is its path",
    "draft_model": "LLM.pair and LLM.speculation tell of the drafter",
}
"""Attributes of llama-cpp-python's `Llama` that `LLM` lacks."""

ELSEWHERE = {"LLM()": LLM, "complete()": CALLS, "chat()": CALLS, "generate()": CALLS}
