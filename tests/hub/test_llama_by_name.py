"""A model of the hub for a script that was written for llama-cpp-python."""

import importlib

from hub_standin import ALONE


def test_a_llama_by_name(pillion, standin, cache, tiny_target):
    of_llama = importlib.import_module("pillion.llama_cpp")
    of_hub = {"endpoint": standin.url, "cache_dir": cache, "n_ctx": 128, "verbose": False}
    with of_llama.Llama.from_pretrained(repo_id=ALONE, filename="*Q4_0.gguf", **of_hub) as llama:
        found = llama("In the beginning", max_tokens=8, temperature=0.0)
        assert llama.llm.speculation.kind == "mtp"  # the assistant came too
        assert llama.model_path.startswith(str(cache)) and found["model"] == llama.model_path
    with of_llama.Llama(tiny_target, n_ctx=128) as llama:
        again = llama("In the beginning", max_tokens=8, temperature=0.0)
    assert again["choices"] == found["choices"]
