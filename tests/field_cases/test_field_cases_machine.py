"""Field cases 29 to 43: memory, machines, closing, cancelling, text, files. The table of all rows
is in test_field_cases.py."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from field_cases import GOLDEN, PROMPT, Watch, child, text_of
from made_files import remade
from patience import PATIENCE, in_thread, over_and_over, until, within


# ---- 29: memory and files ----

LOAD = """
import json, sys
import pillion

def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name))

def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")

forget_peak()
before = memory("VmRSS")
model = pillion.Model.open(sys.argv[1])
peak_of_load = memory("VmHWM") - before
forget_peak()
context = model.context(2048)
context.prefill([5 + i % 2000 for i in range(1200)])
for token in range(8):
    context.decode(token + 5)
sizes = context.describe()
print(json.dumps({
    "load": peak_of_load, "run": memory("VmHWM") - before,
    "weights": model.weight_bytes, "kv": sizes["kv_bytes"], "scratch": sizes["scratch_bytes"],
}))
"""


@pytest.fixture(scope="module")
def loaded(gemma3_270m):
    """Sizes of a child that loads and runs the model in a folder with other files, and the names of
    the files that were opened."""
    with tempfile.TemporaryDirectory(dir=gemma3_270m.parent) as folder:
        model = Path(folder) / gemma3_270m.name
        os.link(gemma3_270m, model)
        for other in ("mmproj-model-f16.gguf", "mtp-model.gguf", "model.gguf"):
            shutil.copy(GOLDEN / "tiny-dense.gguf", Path(folder) / other)
        with Watch(folder) as watch:
            sizes = child(LOAD, model)
        return {**sizes, "opened": watch.names, "model": model.name}


def test_29_only_the_model_is_opened(loaded):
    assert loaded["opened"] - {""} == {loaded["model"]}


def test_29_memory_while_it_runs(loaded):
    assert loaded["run"] <= 1.1 * (loaded["weights"] + loaded["kv"] + loaded["scratch"]), loaded


def test_29_memory_while_it_loads(loaded):
    assert loaded["load"] <= 1.1 * (loaded["weights"] + loaded["kv"] + loaded["scratch"]), loaded


# ---- 34, 35: any machine ----

IDS = """
import json, sys
import pillion
with pillion.LLM(sys.argv[1], n_ctx=256) as llm:
    generations = [
        llm.generate(sys.argv[2], max_tokens=24, temperature=t, seed=3).run() for t in (0, 0.8)
    ]
    found = [one.tokens for one in generations]
print(json.dumps([pillion.system()["cpu"]["table"], found]))
"""


def test_34_every_kernel_table_gives_the_same_ids(pillion, tiny_target):
    tables = pillion.system()["cpu"]["tables"]
    assert "generic" in tables
    results = [child(IDS, tiny_target, PROMPT, PILLION_CPU_ISA=table) for table in tables]
    assert [table for table, _ in results] == tables
    assert all(ids == results[-1][1] for _, ids in results)


def test_34_a_table_this_machine_lacks(pillion, tiny_target):
    program = (
        "import sys, pillion\ntry: pillion.Model.open(sys.argv[1])\nexcept "
        "pillion.NoBackendError as error: print(repr(str(error)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(tiny_target)],
        capture_output=True,
        text=True,
        env={**os.environ, "PILLION_CPU_ISA": "sve9"},
    )
    assert result.returncode == 0 and "sve9" in result.stdout


def test_35_back_ends(pillion, tiny_target):
    found = {backend.name: backend for backend in pillion.backends()}
    assert found["cpu"].available and found["cpu"].reason is None
    for name in ("cuda", "htp"):
        if found[name].available:
            continue
        assert found[name].reason
        for use in (
            lambda: pillion.Model.open(tiny_target, device=name),
            lambda: pillion.LLM(tiny_target, device=name),
        ):
            with pytest.raises(pillion.BackendError) as caught:
                use()
            assert name in str(caught.value) and len(str(caught.value).split()) > 4
    with pillion.LLM(tiny_target, device="auto", n_ctx=64) as llm:
        assert llm.context.describe()["backend"] in found
    with pytest.raises(pillion.PillionError, match="toaster"):
        pillion.Model.open(tiny_target, device="toaster")


# ---- 37: what ends a text ----

SPELLED = {1: "<eos>", 106: "<turn|>", 50: "<|tool_response>", 212: "</s>"}
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


@pytest.fixture(scope="module")
def mistyped(tiny_target, tmp_path_factory):
    """The tiny model with the usual Gemma 4 ids for these tokens, and with types as wrong as
    converters have written them."""
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(tiny_target)
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    pieces = [piece for piece in ("</s>", "</s", "</", "<", "/", ">") if piece not in tokens]
    tokens[-len(pieces) :] = pieces  # a text becomes this token as any other: through merges
    merges = ["< /", "</ s", "</s >", *reader.fields["tokenizer.ggml.merges"].contents()]
    for id, text in SPELLED.items():
        at = tokens.index(text)
        tokens[at], tokens[id], types[at], types[id] = tokens[id], tokens[at], types[id], types[at]
    types[1], types[106], types[50], types[212] = NORMAL, USER_DEFINED, CONTROL, CONTROL
    changed = {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
    }
    return remade(tiny_target, tmp_path_factory.mktemp("mistyped") / "mistyped.gguf", changed)


def test_37_the_end_set_goes_by_text(pillion, mistyped):
    with pillion.LLM(mistyped, n_ctx=128) as llm:
        tokenizer = llm.tokenizer
        assert tokenizer.end_tokens == {1, 106, 50}
        assert tokenizer.token_type(212) == "normal"
        text = "It says </s> here"
        for parse in (False, True):
            ids = tokenizer.encode(text, add_special=False, parse_special=parse)
            assert tokenizer.decode(ids) == text
        assert 212 in tokenizer.encode("</s>") and tokenizer.decode([212]) == "</s>"
        said = llm.generate(PROMPT, max_tokens=3, temperature=0, logit_bias={212: 1e6}).run()
        assert (said.text, said.finish_reason) == ("</s></s></s>", "length")
        for end in (1, 106, 50):
            said = llm.generate(PROMPT, max_tokens=3, temperature=0, logit_bias={end: 1e6}).run()
            assert (said.text, said.tokens, said.finish_reason) == ("", [], "stop")


# ---- 39: memory given back, quiet exit ----

ROUNDS = """
import json, os, sys
import pillion

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

sizes = []
for _ in range(30):
    llm = pillion.LLM(sys.argv[1], n_ctx=512)
    llm.complete("In the beginning", max_tokens=4)
    llm.close()
    llm.close()
    sizes.append(resident())
print(json.dumps(sizes))
"""


def test_39_memory_is_given_back(pillion, tiny_target):
    sizes = child(ROUNDS, tiny_target)
    assert len(sizes) == 30 and max(sizes[3:]) - sizes[2] < 5 << 20, sizes


def test_39_use_after_close(pillion, tiny_target):
    llm = pillion.LLM(tiny_target, n_ctx=4096)
    # no end for seconds: what was written before close() could still be read
    endless = dict.fromkeys(llm.tokenizer.end_tokens, float("-inf"))
    stream = llm.complete(PROMPT, stream=True, max_tokens=4000, logit_bias=endless)
    next(stream)
    model, context, tokenizer = llm.model, llm.context, llm.tokenizer
    llm.close()
    llm.close()
    for use in (
        lambda: next(stream),
        lambda: llm.complete("a"),
        lambda: llm.chat([{"role": "user", "content": "a"}]),
        lambda: llm.tokenize("a"),
        lambda: llm.metadata["general.name"],
        lambda: model.context(),
        lambda: context.prefill([5] * 20),
        lambda: context.logits(),
        lambda: tokenizer.decode([5]),
        lambda: llm.reset(),
    ):
        with pytest.raises(pillion.Closed, match="closed"):
            use()


OPEN_AT_EXIT = """
import sys
import pillion
model = pillion.Model.open(sys.argv[1])
context, tokenizer, sampler = model.context(64), model.tokenizer, pillion.Sampler()
llm = pillion.LLM(sys.argv[1], n_ctx=64)
stream = llm.complete("In the beginning", stream=True, max_tokens=None)
next(stream)
context.prefill([5, 6, 7])
view = context.logits(copy=False)
order = sys.argv[2]
if order == "model first":
    del model; del context
elif order == "context first":
    del context; del model
elif order == "closed, then dropped":
    llm.close(); del stream, llm
elif order == "sys.exit":
    sys.exit(0)
elif order == "a thread inside":
    import threading, time
    threading.Thread(target=lambda: model.context(2048).prefill([5] * 2000), daemon=True).start()
    time.sleep(0.02)
"""


@pytest.mark.parametrize(
    "order",
    [
        "as it is",
        "model first",
        "context first",
        "closed, then dropped",
        "sys.exit",
        "a thread inside",
    ],
)
def test_39_a_quiet_exit(pillion, tiny_target, order):
    assert child(OPEN_AT_EXIT, tiny_target, order) is None


# ---- 40: cancelling ----

N_LONG = 8192


QUESTION = {"prompt": "The capital of France is", "max_tokens": 5, "temperature": 0}


@pytest.fixture(scope="module")
def answer(pillion, gemma3_270m):
    with pillion.LLM(gemma3_270m, n_ctx=64) as llm:
        return text_of(llm.complete(**QUESTION))


@pytest.fixture
def big(pillion, gemma3_270m, answer):
    """A model with a long context; after the test it must answer as one that was never
    disturbed."""
    with pillion.LLM(gemma3_270m, n_ctx=N_LONG + 64) as llm:
        yield llm
        assert text_of(llm.complete(**QUESTION)) == answer


def long_prompt(n=N_LONG):
    return [2] + [1000 + (37 * i) % 5000 for i in range(n - 1)]


def busy(pillion, context):
    try:
        return len(context) < 0
    except pillion.Busy:
        return True


def test_40_cancel_a_long_prompt_from_another_thread(pillion, big):
    thread, outcome = in_thread(lambda: big.complete(long_prompt(), max_tokens=4))
    until(lambda: busy(pillion, big.context))
    with within(PATIENCE):
        big.cancel()
        thread.join()
    assert isinstance(outcome[0], pillion.Cancelled)
    assert len(big.context) < N_LONG  # within the prompt


def test_40_cancel_the_context_under_it(pillion, big):
    big.context.clear()
    with over_and_over(big.context.cancel), within(PATIENCE), pytest.raises(pillion.Cancelled):
        big.context.prefill(long_prompt())
    assert len(big.context) == 0


def test_40_breaking_out_of_a_stream(pillion, big):
    for n, _chunk in enumerate(
        big.complete("Once upon a time", max_tokens=None, stream=True, temperature=0)
    ):
        if n == 2:
            break
    until(lambda: all(slot.state == "idle" for slot in big.engine.slots()))
    held = len(big.context)
    time.sleep(0.2)
    assert len(big.context) == held < 200  # nothing goes on behind our back


CTRL_C = """
import json, os, signal, sys, threading, time
import pillion
llm = pillion.LLM(sys.argv[1], n_ctx=8256)
prompt = [2] + [1000 + (37 * i) % 5000 for i in range(8191)]
def press():
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=press).start()
try:
    llm.complete(prompt, max_tokens=4)
    print(json.dumps("it was not interrupted"))
except KeyboardInterrupt:
    held = len(llm.context)
    text = llm.complete(**json.loads(sys.argv[2]))["choices"][0]["text"]
    print(json.dumps([held, text]))
"""


def test_40_ctrl_c_in_a_long_prompt(pillion, gemma3_270m, answer):
    held, text = child(CTRL_C, gemma3_270m, json.dumps(QUESTION))
    assert held < 8191 and text == answer  # within the prompt


# ---- 41: characters over several tokens ----

EMOJI_AND_HANGUL = [
    "🙂",
    "👍🏽",
    "👩‍👩‍👧",
    "🇰🇷",
    "❤️",
    "한",
    "국",
    "어",
    "각",
    "힣",
    "ᄒ",
    "漢",
    "é",
]


def test_41_emoji_and_hangul(pillion, tiny_target):
    with pillion.Model.open(tiny_target, metadata_only=True) as model:
        tokenizer = model.tokenizer
        text = "".join(random.Random(4).choices(EMOJI_AND_HANGUL, k=200))
        ids = tokenizer.encode(text, add_special=False)
        assert len(ids) > 400  # bytes, most of them
        stream = tokenizer.stream()
        pieces = [stream.feed(token) for token in ids]
        assert all("\ufffd" not in piece and piece.encode() for piece in pieces if piece)
        assert "".join(pieces) == text == tokenizer.decode(ids) and stream.flush() == ""
        for cut in range(1, 4):  # an unfinished tail
            stream = tokenizer.stream()
            tail = tokenizer.encode("a🙂", add_special=False)[: 1 + cut]
            assert "".join(map(stream.feed, tail)) + stream.flush() == "a\ufffd"


def test_41_a_model_that_can_only_say_bytes_of_emoji(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=256) as llm:
        ids = {token for one in "🙂한국" for token in llm.tokenize(one, add_bos=False)}
        options = {
            "max_tokens": 120,
            "temperature": 1.5,
            "top_k": 0,
            "seed": 5,
            "logit_bias": dict.fromkeys(ids, 1000.0),
        }
        generation = llm.generate(PROMPT, **options).run()
        assert set(generation.tokens) <= ids
        chunks = [text_of(chunk) for chunk in llm.complete(PROMPT, stream=True, **options)]
        whole = text_of(llm.complete(PROMPT, **options))
        assert (
            "".join(chunks) == whole == generation.text == llm.tokenizer.decode(generation.tokens)
        )
        assert "".join(chunks).encode()


# ---- 42, 43: files that lie ----

OPEN_ALL = """
import json, sys, traceback
import pillion
found = {}
for path in json.load(sys.stdin):
    try:
        with pillion.Model.open(path) as model:
            tokenizer = model.tokenizer
            tokenizer.decode(tokenizer.encode("a </s> <0x41>", parse_special=True))
            json.dumps(model.describe())
            with model.context(32) as context:
                context.prefill([0, 1, 2])
            found[path] = ["opened", ""]
    except pillion.ModelFileError as error:
        found[path] = [type(error).__name__, str(error)]
    except pillion.PillionError as error:
        found[path] = ["other: " + type(error).__name__, str(error)]
pillion.backends()
print(json.dumps(found))
"""


def opened(files, folder):
    """{name: (what came, sentence)} of files given as {name: bytes}; the child opens all of them
    and lives."""
    paths = {}
    for n, (name, data) in enumerate(files.items()):
        path = folder / f"{n}.gguf"
        path.write_bytes(data)
        paths[str(path)] = name
    result = subprocess.run(
        [sys.executable, "-c", OPEN_ALL],
        input=json.dumps(list(paths)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stderr[-2000:]
    return {paths[path]: tuple(value) for path, value in json.loads(result.stdout).items()}


def test_42_numbers_that_wrap_around(pillion, tmp_path):
    import gguf_bytes as g
    from bad_gguf import BAD

    names = {g.CORRUPT: "ModelFileError", g.UNSUPPORTED: "UnsupportedModelError"}
    found = opened({name: data for name, (data, _, _) in BAD.items()}, tmp_path)
    for name, (kind, sentence) in found.items():
        _, code, part = BAD[name]
        assert kind == names[code] and part in sentence and re.search(r"\d\.gguf: ", sentence), (
            name,
            kind,
            sentence,
        )


def test_42_a_missing_file(pillion, tmp_path):
    with pytest.raises(pillion.ModelNotFoundError, match="nothing.gguf") as caught:
        pillion.LLM(tmp_path / "nothing.gguf")
    assert isinstance(caught.value, FileNotFoundError) and isinstance(
        caught.value, pillion.ModelFileError
    )
    with pytest.raises(pillion.PillionError, match=re.escape(tmp_path.name)):
        pillion.LLM(tmp_path)


def test_42_cut_and_flipped_files(pillion, tmp_path):
    data = (GOLDEN / "tiny-llama.gguf").read_bytes()
    at_tensors = data.index(b"token_embd.weight")
    step = max(64, at_tensors // 150 // 64 * 64)
    cuts = {f"cut at {at}": data[:at] for at in [*range(0, at_tensors + 4096, step), len(data) - 1]}
    rng = random.Random(42)
    flips = {}
    places = [
        *range(0, 64),
        *(rng.randrange(at_tensors) for _ in range(60)),
        *(at_tensors + rng.randrange(2048) for _ in range(60)),
    ]
    for at in places:
        flipped = bytearray(data)
        flipped[at] ^= 1 << rng.randrange(8)
        flips[f"bit of byte {at}"] = bytes(flipped)
    found = opened({**cuts, **flips}, tmp_path)
    for name, (kind, sentence) in found.items():
        assert not kind.startswith("other"), (name, kind, sentence)
        assert kind == "opened" or sentence
        assert name.startswith("bit") or kind != "opened", name


def retold(path, changes):
    """The file with metadata entries replaced; changes: {key: raw bytes of the whole entry, or None
    to leave it out}."""
    import gguf_bytes as g
    import gguf

    reader = gguf.GGUFReader(path)
    entries = []
    for name, field in reader.fields.items():
        if name.startswith("GGUF."):
            continue
        if name in changes:
            entries += [changes[name]] if changes[name] is not None else []
        else:
            entries.append(b"".join(part.tobytes() for part in field.parts))
    tensors = [(t.name, t.tensor_type.name, [int(d) for d in t.shape]) for t in reader.tensors]
    return g.build(entries, tensors, {t.name: t.data.tobytes() for t in reader.tensors})


def test_43_token_arrays_that_lie(pillion, tmp_path):
    import gguf_bytes as g

    pytest.importorskip("gguf")
    path = GOLDEN / "tiny-dense.gguf"
    import gguf

    tokens = gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"].contents()
    n = len(tokens)
    strange = ["<0x-1>", "<0xZZ>", "<0x1FF>", "", "x" * 2**20, tokens[n - 8]]
    odd = [*tokens[: n - len(strange)], *strange]
    key = "tokenizer.ggml."
    files = {
        "as it was": {},
        "scores u8": {key + "scores": g.kv(key + "scores", g.ARR, [1] * n, g.U8)},
        "scores str": {key + "scores": g.kv(key + "scores", g.ARR, ["1"] * n, g.STR)},
        "types short": {key + "token_type": g.kv(key + "token_type", g.ARR, [1] * (n - 1), g.I32)},
        "types f32": {key + "token_type": g.kv(key + "token_type", g.ARR, [1.0] * n, g.F32)},
        "types u8": {key + "token_type": g.kv(key + "token_type", g.ARR, [1] * n, g.U8)},
        "types huge": {key + "token_type": g.kv(key + "token_type", g.ARR, [2**31 - 1] * n, g.I32)},
        "tokens i32": {key + "tokens": g.kv(key + "tokens", g.ARR, [1] * n, g.I32)},
        "tokens none": {key + "tokens": None},
        "tokens one short": {key + "tokens": g.kv(key + "tokens", g.ARR, tokens[:-1], g.STR)},
        "tokens strange": {key + "tokens": g.kv(key + "tokens", g.ARR, odd, g.STR)},
        "merges i32": {key + "merges": g.kv(key + "merges", g.ARR, [1, 2], g.I32)},
        "merges odd": {
            key + "merges": g.kv(key + "merges", g.ARR, ["", " ", "a", "a b c", "\xff \xfe"], g.STR)
        },
        "bos -1": {key + "bos_token_id": g.kv(key + "bos_token_id", g.I32, -1)},
        "eos beyond": {key + "eos_token_id": g.kv(key + "eos_token_id", g.U32, n)},
        "eos str": {key + "eos_token_id": g.kv(key + "eos_token_id", g.STR, "1")},
    }
    found = opened({name: retold(path, changes) for name, changes in files.items()}, tmp_path)
    assert found["as it was"][0] == "opened"
    for name, (kind, sentence) in found.items():
        assert not kind.startswith("other"), (name, kind, sentence)
        assert (
            kind == "opened"
            or "tokenizer.ggml." in sentence
            or "vocab" in sentence
            or "token" in sentence
        ), (name, sentence)
    for name in ("types short", "types f32", "tokens i32", "tokens none", "eos beyond", "eos str"):
        assert found[name][0] in ("ModelFileError", "UnsupportedModelError"), (name, found[name])
    assert found["tokens strange"][0] == "opened"
