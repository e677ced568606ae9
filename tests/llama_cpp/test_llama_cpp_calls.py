"""What `pillion.llama_cpp.Llama` does: the same texts as `pillion.LLM`, in llama-cpp-python's
shapes."""

import copy
import importlib
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

PROMPT = "Genesis 1\n\nIn the beginning"
ASK = [{"role": "user", "content": "Who made the heaven?"}]
HEAD = ["id", "object", "created", "model"]
USAGE = ["prompt_tokens", "completion_tokens", "total_tokens"]


@pytest.fixture(scope="module")
def of_llama(pillion):
    return importlib.import_module("pillion.llama_cpp")


@pytest.fixture(scope="module")
def llama(of_llama, tiny_target):
    with of_llama.Llama(str(tiny_target), n_ctx=512, verbose=False) as llama:
        yield llama


def text_of(result):
    return result["choices"][0]["text"]


# ---- shapes ----


def test_a_completion(llama):
    found = llama(PROMPT, max_tokens=8, temperature=0.0)
    assert list(found) == [*HEAD, "choices", "usage"]
    assert found["object"] == "text_completion" and found["model"] == llama.model_path
    assert list(found["choices"][0]) == ["text", "index", "logprobs", "finish_reason"]
    assert list(found["usage"]) == USAGE and found["usage"]["completion_tokens"] == 8
    chunks = list(llama(PROMPT, max_tokens=8, temperature=0.0, stream=True, model="mine"))
    assert "".join(map(text_of, chunks)) == text_of(found)
    assert all(list(one) == [*HEAD, "choices"] and one["model"] == "mine" for one in chunks)
    reasons = [one["choices"][0]["finish_reason"] for one in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"] and text_of(chunks[-1]) == ""
    echoed = llama(PROMPT, max_tokens=8, temperature=0.0, echo=True)
    assert text_of(echoed) == PROMPT + text_of(found)
    assert llama(PROMPT, max_tokens=-1, stop=["LORD"])["choices"][0]["finish_reason"] == "stop"


def test_log_probabilities(llama):
    found = llama(PROMPT, max_tokens=4, temperature=1.5, seed=1, logprobs=2)["choices"][0]
    listed = found["logprobs"]
    assert list(listed) == ["tokens", "text_offset", "token_logprobs", "top_logprobs"]
    assert listed["text_offset"][0] == len(PROMPT)
    for token, value, top in zip(
        listed["tokens"], listed["token_logprobs"], listed["top_logprobs"]
    ):
        assert top[token] == value and len(top) in (2, 3)
    echoed = llama(PROMPT, max_tokens=4, temperature=0.0, logprobs=1, echo=True)["choices"][0]
    assert "".join(echoed["logprobs"]["tokens"]) == echoed["text"]
    assert echoed["logprobs"]["token_logprobs"][0] is echoed["logprobs"]["top_logprobs"][0] is None
    assert echoed["logprobs"]["text_offset"][0] == 0


def test_a_chat(llama):
    found = llama.create_chat_completion(ASK, max_tokens=8, temperature=0.0, logprobs=True)
    choice = found["choices"][0]
    assert list(found) == [*HEAD, "choices", "usage"] and found["object"] == "chat.completion"
    assert list(choice) == ["index", "message", "logprobs", "finish_reason"]
    assert list(choice["message"]) == ["role", "content"] and list(found["usage"]) == USAGE
    assert list(choice["logprobs"]) == ["content", "refusal"]
    assert {"token", "logprob", "bytes", "top_logprobs"} == set(choice["logprobs"]["content"][0])
    chunks = list(llama.create_chat_completion(ASK, max_tokens=8, temperature=0.0, stream=True))
    deltas = [one["choices"][0]["delta"] for one in chunks]
    assert deltas[0] == {"role": "assistant"} and deltas[-1] == {}
    assert "".join(one["content"] for one in deltas[1:-1]) == choice["message"]["content"]
    assert all(list(one) == [*HEAD, "choices"] for one in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_tools(llama):
    pytest.importorskip("llguidance")
    parameters = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}}
    function = {"name": "look", "parameters": {**parameters, "required": ["n"]}}
    tool = {"type": "function", "function": function}
    named = {"type": "function", "function": {"name": "look"}}
    ways = [
        {"tools": [tool], "tool_choice": named},
        {"functions": [function], "function_call": {"name": "look"}},
    ]
    for way in ways:
        found = llama.create_chat_completion(ASK, max_tokens=40, seed=1, **way)["choices"][0]
        message = found["message"]
        assert found["finish_reason"] == "tool_calls" and message["content"] is None
        assert message["tool_calls"][0]["function"] == message["function_call"]
        assert message["function_call"]["name"] == "look"
        chunks = llama.create_chat_completion(ASK, max_tokens=40, seed=1, stream=True, **way)
        deltas = [one["choices"][0]["delta"] for one in chunks]
        assert any(one.get("function_call") == message["function_call"] for one in deltas)


def test_openais_objects(llama, pillion, monkeypatch):
    pytest.importorskip("openai")
    found = llama.create_chat_completion_openai_v1(ASK, max_tokens=3, logprobs=True)
    assert found.choices[0].message.role == "assistant" and found.usage.completion_tokens == 3
    chunks = list(llama.create_chat_completion_openai_v1(ASK, max_tokens=3, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    for name in [one for one in sys.modules if one.split(".")[0] == "openai"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(pillion.UsageError, match="pip install openai"):
        llama.create_chat_completion_openai_v1(ASK)


# ---- settings ----


def test_settings_have_their_meaning(pillion, llama, tiny_target):
    plain = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1.0}
    tokens = llama.llm.tokenizer.encode(PROMPT, parse_special=True)
    wanted = text_of(llama.llm.complete(tokens, max_tokens=16, seed=7, **plain))
    assert text_of(llama(PROMPT, seed=7)) == wanted
    greedy = text_of(llama(PROMPT, temperature=0))
    assert text_of(llama(PROMPT, top_p=0.0, seed=3)) == greedy
    assert text_of(llama(PROMPT, top_k=1, seed=4)) == greedy
    assert text_of(llama(PROMPT, top_k=-1, top_p=2.0, min_p=-1.0, seed=5)) != greedy
    assert text_of(llama(PROMPT, temperature=0, max_tokens=0)).startswith(greedy)
    texts = {text_of(llama(PROMPT, seed=-1)) for _ in range(4)}
    assert len(texts) > 1
    llama.set_seed(11)
    assert text_of(llama(PROMPT)) == text_of(llama(PROMPT)) == text_of(llama(PROMPT, seed=11))
    llama.set_seed(-1)
    for name, value in {"typical_p": 0.5, "tfs_z": 0.5, "mirostat_mode": 2}.items():
        with pytest.raises(pillion.UsageError, match=f"{name}=.* no sampler of pillion: the samp"):
            llama(PROMPT, **{name: value})
    with pytest.raises(pillion.UsageError, match="suffix"):
        llama(PROMPT, suffix="end")
    with pytest.raises(pillion.UsageError, match="seed is '42'"):
        llama(PROMPT, seed="42")
    with pytest.raises(pillion.UsageError, match=r"complete\(\) has no argument 'nonsense'"):
        llama(PROMPT, nonsense=None)
    with pytest.raises(ValueError, match="the context holds 512"):
        llama("a " * 600)


def test_spelled_control_tokens_are_tokens(llama):
    ids = llama.tokenize(b"<|turn>user\nHi<turn|>\n", special=True)
    by_text = llama("<|turn>user\nHi<turn|>\n", max_tokens=4, temperature=0)
    assert by_text["usage"]["prompt_tokens"] == len(ids)
    assert text_of(by_text) == text_of(llama(ids, max_tokens=4, temperature=0))
    assert len(llama.tokenize("<|turn>", add_bos=False)) > 1
    assert llama.detokenize(ids) == b"user\nHi\n"
    assert llama.detokenize(ids, special=True) == b"<bos><|turn>user\nHi<turn|>\n"
    assert llama.detokenize(llama.tokenize("Ähre".encode())) == "Ähre".encode()


def test_processors_and_criteria_with_and_without_drafts(of_llama, tiny_target):
    def loud(ids, scores):
        scores[ids[-1]] -= 5
        return scores

    seen = []

    def stops(ids, logits):
        seen.append((len(ids), logits.shape))
        return len(ids) >= n_prompt + 10

    texts = []
    for drafter in ("auto", "lookup", None):
        with of_llama.Llama(tiny_target, n_ctx=128, drafter=drafter) as llama:
            assert (llama.llm.pair is None) == (drafter is None)
            n_prompt = len(llama.tokenize(PROMPT))
            found = llama(
                PROMPT,
                max_tokens=40,
                seed=2,
                logits_processor=of_llama.LogitsProcessorList([loud]),
                stopping_criteria=of_llama.StoppingCriteriaList([stops]),
            )
            assert found["choices"][0]["finish_reason"] == "stop"
            assert found["usage"]["completion_tokens"] == 10
            texts.append(text_of(found))
    assert len(set(texts)) == 1 and {shape for _, shape in seen} == {(2048,)}
    assert [n for n, _ in seen] == [n_prompt + at for at in range(11)] * 3


def test_criteria_end_a_text_under_a_grammar(llama):
    pytest.importorskip("llguidance")
    found = llama(
        PROMPT, max_tokens=40, regex="a{30}", stopping_criteria=lambda ids, _: len(ids) > 20
    )
    assert set(text_of(found)) == {"a"} and found["choices"][0]["finish_reason"] == "stop"


def test_at_least_so_many_tokens(of_llama, llama):
    eos = llama.token_eos()
    wishes = {"logit_bias": {eos: 100.0}, "max_tokens": 9, "temperature": 0}
    assert text_of(llama(PROMPT, **wishes)) == ""
    least = of_llama.MinTokensLogitsProcessor(5, eos)
    processors = of_llama.LogitsProcessorList([least])
    found = llama(PROMPT, logits_processor=processors, **wishes)
    assert found["usage"]["completion_tokens"] == 5


def test_a_draft_model_in_python(of_llama, tiny_target):
    asked = []

    class Drafter(of_llama.LlamaDraftModel):
        def __call__(self, input_ids, /, **kwargs):
            asked.append(input_ids.dtype)
            return np.array(wanted[len(input_ids) - n_prompt :][:6], dtype=np.intc)

    with of_llama.Llama(tiny_target, n_ctx=128, drafter=None) as llama:
        expected = llama(PROMPT, temperature=0, max_tokens=24)
        prompt = llama.tokenize(PROMPT)
        wanted = llama.tokenize(PROMPT + text_of(expected))[len(prompt) :]
        n_prompt = len(prompt)
    with of_llama.Llama(tiny_target, n_ctx=128, draft_model=Drafter()) as llama:
        assert llama(PROMPT, temperature=0, max_tokens=24)["choices"] == expected["choices"]
        assert len(asked) < 12  # rounds, in place of tokens
        calm = of_llama.LogitsProcessorList([lambda ids, scores: scores])
        again = llama(PROMPT, temperature=0, max_tokens=24, logits_processor=calm)
        assert again["choices"] == expected["choices"]
    lookup = of_llama.LlamaPromptLookupDecoding(num_pred_tokens=2)
    assert lookup(np.array([1, 2, 3, 1, 2])).tolist() == [3, 1]
    with of_llama.Llama(tiny_target, n_ctx=128, draft_model=lookup) as llama:
        assert llama(PROMPT, temperature=0, max_tokens=24)["choices"] == expected["choices"]


def test_grammars(pillion, of_llama, llama, tmp_path):
    pytest.importorskip("llguidance")
    gbnf = 'root ::= "yes" | "no"'
    path = tmp_path / "answer.gbnf"
    path.write_text(gbnf)
    for grammar in (
        of_llama.LlamaGrammar.from_string(gbnf),
        of_llama.LlamaGrammar.from_file(path),
        gbnf,
    ):
        assert text_of(llama(PROMPT, grammar=grammar, seed=1)) in ("yes", "no")
    schema = '{"enum": ["Adam", "Eve"]}'
    grammar = of_llama.LlamaGrammar.from_json_schema(schema)
    assert text_of(llama(PROMPT, grammar=grammar, seed=1)) in ('"Adam"', '"Eve"')
    wanted = {"type": "json_object", "schema": {"enum": ["Adam", "Eve"]}}
    found = llama.create_chat_completion(ASK, response_format=wanted, max_tokens=9)
    assert found["choices"][0]["message"]["content"] in ('"Adam"', '"Eve"')
    tokens, ends = llama.tokenize(PROMPT), llama.llm.tokenizer.end_tokens
    written = []
    for token in llama.generate(tokens, grammar=of_llama.LlamaGrammar.from_string(gbnf)):
        if token in ends:
            break
        written.append(token)
    assert llama.detokenize(written) in (b"yes", b"no")
    from pillion.llama_cpp.llama_grammar import JSON_GBNF

    json_text = text_of(llama(PROMPT, grammar=JSON_GBNF, max_tokens=6, seed=1))
    assert json_text.startswith("{")
    for wrong in (3, b"root"):
        with pytest.raises(pillion.UsageError, match="grammar is"):
            llama(PROMPT, grammar=wrong)
    with pytest.raises(pillion.UsageError, match="can't be read"):
        of_llama.LlamaGrammar.from_file(tmp_path / "nowhere")
    with pytest.raises(pillion.UsageError, match="json_schema is not JSON"):
        of_llama.LlamaGrammar.from_json_schema("{")


# ---- the low level ----


def written_by(llama, tokens, n, **settings):
    """n tokens from eval and sample."""
    llama.reset()
    llama.eval(tokens)
    found = []
    for _ in range(n):
        found.append(llama.sample(**settings))
        llama.eval(found[-1:])
    return found


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_eval_and_sample_write_what_a_completion_writes(llama, temperature, penalty):
    llama.set_seed(5)
    tokens = llama.tokenize(PROMPT)
    settings = {"repeat_penalty": penalty, "frequency_penalty": 0.1 * (penalty > 1)}
    expected = text_of(llama(tokens, max_tokens=24, temperature=temperature, **settings))
    found = written_by(llama, tokens, 24, temp=temperature, **settings)
    assert llama.detokenize(found) == expected.encode()
    generated = llama.generate(tokens, temp=temperature, **settings)
    assert [next(generated) for _ in range(24)] == found
    llama.set_seed(-1)


def test_generate_takes_tokens_and_stops(of_llama, llama):
    tokens = llama.tokenize(PROMPT)
    stops = of_llama.StoppingCriteriaList([lambda ids, _: len(ids) == len(tokens) + 3])
    assert len(list(llama.generate(tokens, stopping_criteria=stops))) == 3
    generated = llama.generate(tokens, temp=0.0)
    first = next(generated)
    generated.send(llama.tokenize(" light", add_bos=False))
    assert llama.input_ids[: llama.n_tokens].tolist() == [
        *tokens,
        first,
        *llama.tokenize(" light", add_bos=False),
    ]
    generated.close()
    held = llama.n_tokens
    next(llama.generate(tokens[1:], reset=False))
    assert llama.n_tokens == held + len(tokens) - 1


def test_going_back(llama):
    tokens = llama.tokenize(PROMPT)
    llama.reset()
    assert llama.n_tokens == 0
    llama.eval(tokens)
    state = llama.save_state()
    expected = llama.llm.context.logits().copy()
    assert (state.n_tokens, state.llama_state_size) == (len(tokens), 4 * len(tokens))
    llama("Something else", max_tokens=5)
    llama.load_state(pickle.loads(pickle.dumps(state)))
    assert np.array_equal(llama.llm.context.logits(), expected)
    assert llama.n_tokens == len(tokens) and list(llama.eval_tokens) == tokens
    assert np.array_equal(llama.scores[len(tokens) - 1], expected)
    assert np.array_equal(llama.eval_logits[-1], expected)
    llama.n_tokens = 3
    llama.eval(tokens[3:])
    assert np.array_equal(llama.llm.context.logits(), expected)


def test_all_logits(pillion, of_llama, tiny_target):
    with of_llama.Llama(tiny_target, n_ctx=64, logits_all=True) as llama:
        tokens = llama.tokenize(PROMPT)
        llama.eval(tokens)
        rows = llama.scores[: llama.n_tokens].copy()
        assert rows.shape == (len(tokens), llama.n_vocab()) and len(llama.eval_logits) == len(
            tokens
        )
        scores = llama.llm.context.score(tokens)
        found = of_llama.Llama.logits_to_logprobs(rows)[np.arange(len(tokens) - 1), tokens[1:]]
        assert np.allclose(found, scores, atol=1e-4)
        llama.reset()
        llama.eval(tokens)
        assert llama.sample(temp=0.0, idx=2) == int(rows[2].argmax())
        saved = llama.save_state()
        llama.scores[:] = 0
        llama.load_state(saved)
        assert np.array_equal(llama.scores[: len(tokens)], rows)
        assert next(llama.generate(tokens, temp=0.0)) == int(rows[-1].argmax())
    with of_llama.Llama(tiny_target, n_ctx=64) as llama:
        with pytest.raises(pillion.UsageError, match=r"sample\(\) has no logits: eval\(\)"):
            llama.sample()
        llama.eval(tokens)
        with pytest.raises(pillion.UsageError, match="unless Llama has logits_all=True"):
            llama.sample(idx=1)
        with pytest.raises(pillion.ContextFullError):
            llama.eval(tokens * 20)
        with pytest.raises(pillion.UsageError, match="n_tokens is 99"):
            llama.n_tokens = 99
        with pytest.raises(pillion.UsageError, match="state is 3"):
            llama.load_state(3)
    found = of_llama.Llama.logits_to_logprobs([[0.0, -np.inf], [1.0, 1.0]])
    assert np.allclose(np.exp(found), [[1, 0], [0.5, 0.5]])
    assert of_llama.Llama.longest_token_prefix([1, 2, 3], [1, 2]) == 2
    assert of_llama.Llama.longest_token_prefix([1, 2], [1, 3]) == 1


# ---- the rest ----


def test_embeddings(pillion, of_llama, tiny_target):
    with of_llama.Llama(tiny_target, n_ctx=512, pooling_type=1, embedding=True) as llama:
        check_embeddings(pillion, llama)
    with of_llama.Llama(tiny_target, n_ctx=64, embedding=True) as llama:
        assert llama.pooling_type() == 0
        text = "In the beginning God created the heaven and the earth."
        rows = np.array(llama.embed(text))
        assert rows.shape == (len(llama.tokenize(text)), llama.n_embd())
        assert np.allclose(rows.mean(axis=0), llama.llm.embed(text, normalize=False), atol=1e-4)
        (again,), n = llama.embed([text], normalize=True, return_count=True)
        assert n == len(rows) and np.allclose(np.linalg.norm(again, axis=1), 1)
        assert np.shape(llama.create_embedding("a")["data"][0]["embedding"])[1] == llama.n_embd()
        assert len(llama.embed("a " * 100)) == 64
        with pytest.raises(pillion.ContextFullError, match="the context holds 64"):
            llama.embed("a " * 100, truncate=False)


def check_embeddings(pillion, llama):
    vector = llama.embed("In the beginning")
    assert len(vector) == llama.n_embd() and isinstance(vector[0], float)
    assert np.allclose(llama.llm.embed("In the beginning", normalize=False), vector)
    both, n = llama.embed(["a", "b c"], normalize=True, return_count=True)
    assert np.allclose(np.linalg.norm(both, axis=1), 1) and n == len(llama.tokenize("a")) + len(
        llama.tokenize("b c")
    )
    found = llama.create_embedding(["In the beginning", "a"], model="mine")
    assert list(found) == ["object", "data", "model", "usage"] and found["model"] == "mine"
    assert found["data"][0]["embedding"] == vector and found["data"][1]["index"] == 1
    long = "a " * 600
    assert len(llama.embed(long)) == llama.n_embd()
    with pytest.raises(pillion.ContextFullError):
        llama.embed(long, truncate=False)


def test_what_scripts_read(llama):
    assert llama.metadata["gemma4.block_count"] == "8"
    assert all(isinstance(value, str) for value in llama.metadata.values())
    assert "tokenizer.ggml.tokens" not in llama.metadata
    assert (llama.token_bos(), llama.token_eos()) == (2, 1)
    assert llama.detokenize([llama.token_nl()]) == b"\n" and llama.pooling_type() == 0
    assert llama.context_params.n_ctx == llama.n_ctx() == 512
    assert llama.chat_format == "chat_template.default" and llama.n_threads == llama.n_threads_batch
    assert llama.tokenizer().decode(llama.tokenizer().encode("Adam")) == "Adam"


def test_pickles(of_llama, tiny_target):
    with of_llama.Llama(tiny_target, n_ctx=64, seed=3, verbose=False, drafter=None) as llama:
        expected = text_of(llama(PROMPT))
        for other in (pickle.loads(pickle.dumps(llama)), copy.copy(llama)):
            with other:
                assert (other.n_ctx(), other.llm.pair, text_of(other(PROMPT))) == (
                    64,
                    None,
                    expected,
                )
    assert llama.llm.closed
    llama.close()


def test_caches(of_llama, llama):
    cache = of_llama.LlamaRAMCache(capacity_bytes=40)
    llama.set_cache(cache)
    tokens = llama.tokenize(PROMPT)[:6]
    llama.reset()
    llama.eval(tokens)
    cache[tokens] = llama.save_state()
    assert [*tokens, 5] in cache and tokens[:3] not in cache and cache.cache_size == 24
    llama.load_state(cache[[*tokens, 7]])
    assert llama.n_tokens == 6
    cache[[7]] = cache[tokens]
    cache[[8]] = cache[[7]]
    assert tokens not in cache and cache.cache_size <= 40
    with pytest.raises(KeyError):
        cache[[9]]
    llama.set_cache(None)


def test_the_hub(of_llama, pillion, tiny_target, monkeypatch):
    """`from_pretrained` reaches pillion.LLM's with translated arguments."""
    asked = []

    def from_pretrained(repo_id, filename=None, drafter="auto", **options):
        asked.append((repo_id, filename, drafter, options["n_ctx"], options["seed"]))
        hub = [options.pop(one, None) for one in ("cache_dir", "additional_files", "revision")]
        asked.append(hub)
        return pillion.LLM(tiny_target, drafter=drafter, **options)

    monkeypatch.setattr(pillion.LLM, "from_pretrained", from_pretrained, raising=False)
    with of_llama.Llama.from_pretrained(
        "maker/model-GGUF", "*q4_0.gguf", verbose=False, n_ctx=64, seed=3, drafter=None
    ) as llama:
        assert asked == [("maker/model-GGUF", "*q4_0.gguf", None, 64, 3), [None] * 3]
        assert llama.model_path == str(tiny_target) and text_of(llama(PROMPT, max_tokens=2))
    with pytest.raises(pillion.UsageError, match="HF_HOME"):
        of_llama.Llama.from_pretrained("maker/model", local_dir="here")
    more = {"cache_dir": "here", "additional_files": ["*.json"], "revision": "main"}
    with of_llama.Llama.from_pretrained("maker/model", "a.gguf", n_ctx=64, **more):
        assert asked[-1] == ["here", ["*.json"], "main"]


# ---- chat formats ----


def test_chat_formats(pillion, of_llama, tiny_target):
    formats = importlib.import_module("pillion.llama_cpp.llama_chat_format")

    @formats.register_chat_format("test-format")
    def format_test(messages, **kwargs):
        prompt = "".join(f"{one['role']}: {one['content']}\n" for one in messages)
        return formats.ChatFormatterResponse(prompt=prompt, stop="\n")

    try:
        with pytest.raises(pillion.UsageError, match="registered already"):
            formats.register_chat_format("test-format")(format_test)
        with of_llama.Llama(tiny_target, n_ctx=128, chat_format="test-format") as llama:
            found = llama.create_chat_completion(ASK, max_tokens=8, temperature=0, logprobs=True)
            plain = llama("user: Who made the heaven?\n", stop="\n", max_tokens=8, temperature=0)
            assert found["choices"][0]["message"]["content"] == text_of(plain)
            assert found["usage"] == plain["usage"] and found["id"].startswith("chatcmpl-")
            chunks = list(
                llama.create_chat_completion(ASK, max_tokens=8, temperature=0, stream=True)
            )
            deltas = [one["choices"][0]["delta"] for one in chunks]
            assert deltas[0] == {"role": "assistant"} and deltas[-1] == {}
            assert "".join(one["content"] for one in deltas[1:-1]) == text_of(plain)
    finally:
        registry = formats.LlamaChatCompletionHandlerRegistry()
        registry.unregister_chat_handler("test-format")
    with pytest.raises(formats.LlamaChatCompletionHandlerNotFoundException, match="chatml, "):
        formats.get_chat_completion_handler("test-format")


def test_a_chat_handler_gets_all(of_llama, tiny_target):
    given = {}

    def handler(**arguments):
        given.update(arguments)
        return "answered"

    with of_llama.Llama(tiny_target, n_ctx=64, chat_handler=handler) as llama:
        assert llama.create_chat_completion(ASK, top_k=3, extra=1) == "answered"
        assert given["llama"] is llama and given["messages"] is ASK
        assert (given["top_k"], given["temperature"], given["extra"]) == (3, 0.2, 1)


def test_a_template_as_a_handler(of_llama, tiny_target):
    formats = importlib.import_module("pillion.llama_cpp.llama_chat_format")
    source = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    made = formats.Jinja2ChatFormatter(source, eos_token="<eos>", bos_token="<bos>")
    with of_llama.Llama(tiny_target, n_ctx=64, chat_handler=made.to_chat_handler()) as llama:
        asked = [{"role": "user", "content": PROMPT}]
        found = llama.create_chat_completion(asked, max_tokens=6, temperature=0)
        wanted = llama(PROMPT, max_tokens=6, temperature=0)
        assert found["choices"][0]["message"]["content"] == text_of(wanted)
        tool = {"type": "function", "function": {"name": "f", "parameters": {"enum": [1]}}}
        choice = {"type": "function", "function": {"name": "f"}}
        pytest.importorskip("llguidance")
        found = llama.create_chat_completion(asked, tools=[tool], tool_choice=choice)["choices"][0]
        assert found["message"]["function_call"] == {"name": "f", "arguments": "1"}


def test_known_formats(pillion):
    """As llama-cpp-python 0.3.36 writes them."""
    from pillion.llama_cpp.formats import FORMATS

    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "V"},
    ]
    measured = json.loads((Path(__file__).parent / "formats.json").read_text(encoding="utf-8"))
    assert set(measured) == {f"{name}{how}" for name in FORMATS for how in ("with", "without")}
    measured = {name: ["".join(lines), stop] for name, (lines, stop) in measured.items()}
    for name, known in FORMATS.items():
        assert [known.written(messages), known.stop] == measured[f"{name}with"]
        assert [known.written(messages[1:]), known.stop] == measured[f"{name}without"]
        with pytest.raises(pillion.UsageError, match="message 0 has no text"):
            known.written([{"role": "user", "content": [{"type": "image_url"}]}])
