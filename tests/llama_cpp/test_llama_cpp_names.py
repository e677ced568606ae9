"""Every public name of llama-cpp-python's high-level API: it is here with the same arguments, and
works, or it raises a sentence that says what to use.

names.json: the names of its release, with their arguments and defaults, read from its sources.
"""

import importlib
import inspect
import json
from pathlib import Path

import pytest

NAMES = json.loads((Path(__file__).parent / "names.json").read_text(encoding="utf-8"))
MODULES = NAMES["modules"]

# What nobody outside of llama-cpp-python has a use for: parts of its conversion of schemas and the
# texts of single formats. Absent.
INNER = {
    "llama_grammar": set(MODULES["llama_grammar"])
    - {"LlamaGrammar", "JSON_GBNF", "LLAMA_GRAMMAR_DEFAULT_ROOT", "json_schema_to_gbnf"},
    "llama_chat_format": {
        name
        for name in MODULES["llama_chat_format"]
        if name.startswith(("format", "functionary")) or name.isupper() or "TEMPLATE" in name
    }
    | {"Llama3VisionAlpha", "chatml_function_calling"},
}

TAKEN = {
    "model_path": [],
    "n_gpu_layers": [-1, 0, 99, -5],
    "split_mode": [1, 0],
    "main_gpu": [0],
    "tensor_split": [None],
    "vocab_only": [True, False],
    "use_mmap": [True, False],
    "use_mlock": [False],
    "kv_overrides": [None],
    "seed": [-1, 0, 42, 0xFFFFFFFF],
    "n_ctx": [0, 128],
    "n_batch": [1, 64],
    "n_ubatch": [1, 64],
    "n_threads": [None, 1],
    "n_threads_batch": [None, 1],
    "rope_scaling_type": [-1, None],
    "pooling_type": [-1, 0, 1],
    "attention_type": [-1, 0],
    "rope_freq_base": [0.0, 0],
    "rope_freq_scale": [0.0],
    "yarn_ext_factor": [-1.0],
    "yarn_attn_factor": [1.0],
    "yarn_beta_fast": [32.0],
    "yarn_beta_slow": [1.0],
    "yarn_orig_ctx": [0],
    "logits_all": [True, False],
    "embedding": [True, False],
    "offload_kqv": [True],
    "flash_attn": [True, False],
    "op_offload": [None, True],
    "swa_full": [None, True, False],
    "no_perf": [True, False],
    "last_n_tokens_size": [64, 0, -1],
    "lora_base": [None],
    "lora_scale": [1.0],
    "lora_path": [None],
    "numa": [False, 0],
    "chat_format": [None, "chatml", "chat_template.default"],
    "chat_handler": [None, print],
    "draft_model": [None, "lookup", lambda ids: ids[:0]],
    "tokenizer": [None],
    "type_k": [None],
    "type_v": [None, 1],
    "spm_infill": [False],
    "verbose": [True, False],
}
"""Values of the constructor's arguments that work."""

REFUSED = {
    "model_path": [(3, "model_path is 3"), ("nowhere.gguf", "nowhere.gguf")],
    "n_gpu_layers": [("all", "n_gpu_layers is 'all'")],
    "split_mode": [(2, "device='cuda:1'")],
    "main_gpu": [(1, "device='cuda:1'")],
    "tensor_split": [([0.5, 0.5], "device='cuda:1'")],
    "vocab_only": [(1, "vocab_only is 1")],
    "use_mmap": [("no", "use_mmap is 'no'")],
    "use_mlock": [(True, "use_mmap=False reads the file into memory")],
    "kv_overrides": [({}, "chat_template")],
    "seed": [("42", "seed is '42'"), (-2, "seed is -2")],
    "n_ctx": [("4096", "n_ctx is '4096'"), (-1, "n_ctx is -1")],
    "n_batch": [(0, "n_batch is 0")],
    "n_ubatch": [("8", "n_ubatch is '8'")],
    "n_threads": [("2", "n_threads is '2'")],
    "n_threads_batch": [(-1, "n_threads is -1")],
    "rope_scaling_type": [(1, "the file's own scaling")],
    "pooling_type": [(2, "mean of the hidden rows"), (3, "mean of the hidden rows")],
    "attention_type": [(1, "which attention the model has")],
    "rope_freq_base": [(1e6, "the file's own scaling")],
    "rope_freq_scale": [(0.5, "the file's own scaling")],
    "yarn_ext_factor": [(1.0, "the file's own scaling")],
    "yarn_attn_factor": [(2.0, "the file's own scaling")],
    "yarn_beta_fast": [(16.0, "the file's own scaling")],
    "yarn_beta_slow": [(2.0, "the file's own scaling")],
    "yarn_orig_ctx": [(4096, "the file's own scaling")],
    "logits_all": [(None, "logits_all is None")],
    "embedding": [("yes", "embedding is 'yes'")],
    "offload_kqv": [(False, "n_gpu_layers says where")],
    "flash_attn": [(1, "flash_attn is 1")],
    "op_offload": [(False, "n_gpu_layers says where")],
    "swa_full": [("on", "swa_full is 'on'")],
    "no_perf": [(0, "no_perf is 0")],
    "last_n_tokens_size": [(-2, "penalty_last_n is -2"), ("64", "penalty_last_n is '64'")],
    "lora_base": [("base.gguf", "pillion convert")],
    "lora_scale": [(0.5, "pillion convert")],
    "lora_path": [("lora.gguf", "pillion convert")],
    "numa": [(True, "numactl"), (1, "numactl")],
    "chat_format": [("functionary", "left out"), (3, "chat_format is 3")],
    "chat_handler": [("chatml", "chat_handler is 'chatml'")],
    "draft_model": [(3, "draft_model is 3"), ("nowhere.gguf", "nowhere.gguf")],
    "tokenizer": [(object(), "the file's tokenizer is used")],
    "type_k": [(8, "one type"), (2, "one type"), ("q8_0", "one type")],
    "type_v": [(8, "one type"), ([8], "one type")],
    "spm_infill": [(True, "fill in the middle")],
    "verbose": [(None, "verbose is None")],
}
"""Values that are refused, each with a part of its sentence."""


@pytest.fixture(scope="module")
def of_llama(pillion):
    return importlib.import_module("pillion.llama_cpp")


@pytest.fixture(scope="module")
def llama(of_llama, tiny_target):
    with of_llama.Llama(tiny_target, n_ctx=128, verbose=False) as llama:
        yield llama


def signature(function):
    """Name, kind and default of each argument, without those that take the rest."""
    found = []
    for one in inspect.signature(function).parameters.values():
        if one.name in ("self", "cls") or one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL):
            continue
        kind = "keyword" if one.kind is one.KEYWORD_ONLY else "positional"
        found.append([one.name, kind] + ([] if one.default is one.empty else [one.default]))
    return found


def test_the_table_names_every_argument():
    names = [one[0] for one in NAMES["methods"]["__init__"]]
    assert names == list(TAKEN) == list(REFUSED)


@pytest.mark.parametrize("name", NAMES["methods"])
def test_arguments_and_defaults(of_llama, name):
    theirs = NAMES["methods"][name]
    ours = signature(getattr(of_llama.Llama, name))
    if name == "from_pretrained":  # pillion can choose the file
        theirs = [[*one, None] if one[0] == "filename" else one for one in theirs]
    assert ours == theirs


@pytest.mark.parametrize("name", TAKEN)
def test_a_keyword_works(of_llama, name, tiny_target):
    for value in TAKEN[name]:
        given = {"n_ctx": 64, "n_threads": 1, "drafter": None, "verbose": False, name: value}
        if name == "draft_model":
            del given["drafter"]
        if name == "n_threads_batch":
            del given["n_threads"]
        with of_llama.Llama(tiny_target, **given) as llama:
            assert llama.tokenize(b"a")
            if given.get("vocab_only"):
                with pytest.raises(ValueError, match="vocab_only=True"):
                    llama("a")
            else:
                assert llama("a", max_tokens=1)["usage"]["completion_tokens"] <= 1


@pytest.mark.parametrize("name", REFUSED)
def test_a_keyword_raises_a_sentence(pillion, of_llama, name, tiny_target):
    for value, sentence in REFUSED[name]:
        given = {"model_path": str(tiny_target), "n_ctx": 64, name: value}
        with pytest.raises(pillion.PillionError) as caught:
            with of_llama.Llama(**given) as llama:
                llama("a", max_tokens=1, repeat_penalty=1.1)
        assert sentence in str(caught.value)


def test_both_types_of_the_cache(pillion, of_llama, tiny_target):
    taken = []
    for kind in (1, 8):
        with of_llama.Llama(tiny_target, n_ctx=64, type_k=kind, type_v=kind) as llama:
            taken.append(llama.llm.context.describe()["kv_bytes"])
    assert taken[1] < 0.6 * taken[0]
    with pytest.raises(pillion.UsageError, match="type_k is 2; it must be GGML_TYPE_F16"):
        of_llama.Llama(tiny_target, type_k=2, type_v=2)


def test_keywords_that_nobody_knows(pillion, of_llama, tiny_target):
    with pytest.raises(pillion.UsageError, match="no argument 'n_threds'.* did you mean n_threads"):
        of_llama.Llama(tiny_target, n_threds=None)
    with pytest.raises(pillion.UsageError, match="'nonsense', which llama-cpp-python would pass"):
        of_llama.Llama(tiny_target, nonsense=None)
    with pytest.raises(pillion.UsageError, match="n_parallel.*parallel is the number"):
        of_llama.Llama(tiny_target, n_parallel=2)
    with pytest.raises(pillion.UsageError, match="the same threads run prompts and tokens"):
        of_llama.Llama(tiny_target, n_threads=1, n_threads_batch=2)
    with pytest.raises(pillion.UsageError, match="draft_model and drafter"):
        of_llama.Llama(tiny_target, draft_model="lookup", drafter=None)


def test_pillions_own_keywords(of_llama, tiny_target):
    with of_llama.Llama(
        tiny_target, n_ctx=64, drafter="lookup", draft=2, parallel=2, kv_type="q8_0"
    ) as llama:
        assert llama.llm.engine.parallel == 2 and llama.llm.pair is not None
        assert llama("a b a b a", max_tokens=3, draft=0)["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("name", NAMES["attributes"] + NAMES["properties"])
def test_an_attribute(pillion, llama, name):
    if name in ("ctx", "model"):
        with pytest.raises(pillion.UsageError, match="Llama.llm.(context|model) is pillion's"):
            getattr(llama, name)
    else:
        getattr(llama, name)


@pytest.mark.parametrize("module", MODULES)
def test_the_names_of_a_module(of_llama, module):
    where = (
        of_llama if module == "llama" else importlib.import_module(f"{of_llama.__name__}.{module}")
    )
    absent = [name for name in MODULES[module] if not hasattr(where, name)]
    assert set(absent) == INNER.get(module, set())


def test_what_is_imported_and_refused_when_used(pillion, of_llama):
    formats = importlib.import_module("pillion.llama_cpp.llama_chat_format")
    grammars = importlib.import_module("pillion.llama_cpp.llama_grammar")
    uses = [
        (formats.Llava16ChatHandler, ("clip.gguf",), "are read for Gemma 4, with MTMDChatHandler"),
        (formats.Qwen25VLChatHandler, (), "are read for Gemma 4, with MTMDChatHandler"),
        (formats.hf_autotokenizer_to_chat_formatter, ("gpt2",), "chat_template=…"),
        (of_llama.LlamaDiskCache, (), "parallel=n"),
        (of_llama.LlamaHFTokenizer.from_pretrained, ("gpt2",), "token ids"),
        (grammars.json_schema_to_gbnf, ("{}",), "LlamaGrammar.from_json_schema"),
    ]
    for function, given, sentence in uses:
        with pytest.raises(pillion.NoSuchName) as caught:
            function(*given)
        assert sentence in str(caught.value)
    with pytest.raises(pillion.NoSuchName, match="'llama_decode', a name of llama.cpp's C"):
        of_llama.llama_decode  # noqa: B018
    assert (of_llama.GGML_TYPE_Q8_0, of_llama.LLAMA_POOLING_TYPE_MEAN) == (8, 1)
    assert not hasattr(of_llama, "nonsense") and of_llama.__version__ == NAMES["version"]


def test_llm_names_what_to_use(pillion, tiny_target):
    """`pillion.LLM` keeps names of its own; a name of llama-cpp-python is a sentence."""
    from pillion.foreign_names import CALLS, METHODS
    from pillion.foreign_names import LLM as KEYWORDS

    ours = set(inspect.signature(pillion.LLM).parameters)
    for name in [one[0] for one in NAMES["methods"]["__init__"]]:
        assert name in ours or name in KEYWORDS, name
        if name not in ours:
            with pytest.raises(pillion.UsageError, match=f"no argument '{name}': "):
                pillion.LLM(tiny_target, **{name: None})
    with pillion.LLM(tiny_target, n_ctx=64, drafter=False) as llm:
        assert llm.pair is None
        for name in [*NAMES["methods"], *NAMES["properties"], *NAMES["attributes"]]:
            if name in METHODS:
                with pytest.raises(pillion.NoSuchName, match=f"LLM has no '{name}': "):
                    getattr(llm, name)
                assert not hasattr(llm, name)
        for call in (llm.complete, llm.generate):
            for name in CALLS.keys() - ({"n"} if call == llm.complete else set()):
                with pytest.raises(pillion.UsageError, match=f"no argument '{name}': "):
                    call("a", **{name: None})
        for name in CALLS.keys() - {"n"}:
            with pytest.raises(pillion.UsageError, match=f"no argument '{name}': "):
                llm.chat([{"role": "user", "content": "a"}], **{name: None})
        assert (llm.n_embd(), llm.tokenize("\n", add_bos=False)) == (192, [llm.token_nl()])
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            llm.nonsense  # noqa: B018
