"""Every public callable with wrong values for each of its parameters, on the embedded pair.

Each call returns or raises a PillionError with a sentence, and the objects work afterwards.
"""

import functools
import asyncio
import inspect
import math
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "checkpoints"


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no")


class Counting:
    """A number of another library."""

    def __index__(self):
        return 2

    def __float__(self):
        return 0.5


WRONG = {
    "None": None,
    "True": True,
    "-5": -5,
    "2**31": 2**31,
    "2**40": 2**40,
    "2**70": 2**70,
    "-(2**70)": -(2**70),
    "1.5": 1.5,
    "nan": math.nan,
    "inf": math.inf,
    "1e300": 1e300,
    "1j": 1j,
    "text": "text",
    "4096 as text": "4096",
    "empty text": "",
    "zero byte": "a\0b",
    "lone surrogate": "\ud800",
    "bytes": b"\xff\x00",
    "empty list": [],
    "texts": ["a"],
    "nones": [None],
    "nested": [[1], [2, 3]],
    "huge id": [2**70],
    "dict": {"a": 1},
    "set": {1},
    "object": Unshowable(),
    "number of another library": Counting(),
    "float32": np.float32(0.5),
    "int64": np.int64(2),
    "int array": np.array([1, 2]),
    "float array": np.array([[1.0]]),
    "empty array": np.zeros((0, 2)),
    "path": Path("/nowhere/at/all"),
    "folder": Path("/"),
    "class": dict,
}
# What these raise is their owner's: they get nothing to call.
CALLED_BACK = ("progress", "download_progress")


class World:
    """Open objects to call methods of; made anew when a call took them along."""

    def __init__(self, pillion):
        from pillion.models import TINY_ASSISTANT, TINY_MMPROJ, TINY_TARGET

        self.pillion, self.target, self.drafter = pillion, TINY_TARGET, TINY_ASSISTANT
        self.llm = pillion.LLM(self.target, n_ctx=48, drafter=None, seed=1)
        self.model = self.llm.model
        self.drained = pillion.Engine(self.model, sizes={"n_ctx": 16})
        self.done = self.llm.generate([2, 5], max_tokens=1).result()
        self.context = self.model.context(48)
        self.towers = pillion.Mmproj(TINY_MMPROJ, n_threads=1)
        self.first = self.model.add_media(np.ones((1, self.model.n_embd)), b"f" * 32)
        self.pair = pillion.Pair(self.model.context(48, n_outputs=9), str(self.drafter))
        self.sampler = pillion.Sampler(pillion.SamplingParams(seed=1))
        self.batch = pillion.Batch(self.model, n_sequences=3, n_ctx=48)
        self.sequences = [self.batch.context() for _ in range(2)]
        self.entry = pillion.BatchEntry(self.batch.pair(self.batch.context()), self.sampler)
        self.greedy = pillion.Sampler(pillion.SamplingParams(temperature=0))
        self.stream = self.model.tokenizer.stream()
        self.closed = pillion.Model.open(self.drafter, metadata_only=True)
        self.closed.close()

    def ready(self):
        """The state that the good calls need."""
        self.context.sync([2, 5, 6])
        self.pair.sync([2, 5, 6])
        self.batch.abandon([self.entry])
        self.entry.pair.sync([2, 5, 6])
        self.entry.drafts, self.entry.error, self.entry.has_run = [], None, False

    def works(self):
        """Everything is still as usable as before."""
        self.context.sync([2, 5, 6, 7])
        assert np.isfinite(self.context.logits()).all()
        self.context.decode(self.greedy.sample(self.context))
        assert self.pair.sync([2, 5, 6, 7]) >= 0 and self.pair.step(self.greedy).tokens
        assert self.llm.generate([2, 5], max_tokens=2).run().tokens
        assert self.model.tokenizer.decode(self.model.tokenizer.encode("the")) == "the"
        assert self.model.describe() and not self.llm.closed


def parts(world, folder):
    """A model in parts, made once."""
    if not list(folder.glob("whole-*")):
        world.pillion.split(world.drafter, folder / "whole", max_tensors=20)
    return sorted(folder.glob("whole-*"))


def saved(thing, folder, *sampler):
    """A state of it on disk."""
    path = folder / f"{type(thing).__name__}.saved"
    thing.save(path, *sampler)
    return path


def by_name(world, folder):
    """Arguments of `LLM.from_pretrained` for a model in a cache of huggingface_hub, made once. No
    hub is asked."""
    repo = folder / "cache" / "models--tiny--pair"
    snapshot = repo / "snapshots" / ("0" * 40)
    if not snapshot.exists():
        snapshot.mkdir(parents=True)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text("0" * 40)
        (snapshot / "pair-Q4_0.gguf").symlink_to(world.target)
        (snapshot / "pair-assistant-Q4_0.gguf").symlink_to(world.drafter)
    return {
        "repo_id": "tiny/pair",
        "filename": "pair-Q4_0.gguf",
        "drafter": "auto",
        "additional_files": [],
        "revision": "main",
        "token": "hf_none",
        "cache_dir": folder / "cache",
        "endpoint": "http://127.0.0.1:9",
        "local_files_only": True,
        "download_progress": lambda name, done, total: None,
    }


def after(before, function):
    """The function, once `before` has been called if it can be."""

    @functools.wraps(function)
    def call(*arguments, **named):
        try:
            before()
        finally:
            return function(*arguments, **named)  # noqa: B012 - what it says is what counts

    return call


def run_async(function):
    """Runs it in a loop of its own."""

    def call(*args, **kwargs):
        async def main():
            return await function(*args, **kwargs)

        return asyncio.run(main())

    call.__signature__ = inspect.signature(function)
    return call


def good_calls(world, folder):
    """{name: (callable, good arguments)}."""
    p, tokens = world.pillion, [2, 5, 6]
    llm, context, pair, tokenizer = world.llm, world.context, world.pair, world.model.tokenizer
    chat = [{"role": "user", "content": "x"}]
    template = p.ChatTemplate("{{ messages[0].content }}{{ bos_token }}")
    out = folder / "out.gguf"
    from pillion.convert import convert
    from pillion.inspection import inspect_file, read_header

    row = np.zeros(context.model.n_vocab, dtype=np.float32)
    sizes = {"n_ctx": 32, "n_batch": 16, "n_threads": 1, "kv_type": "f16"}
    more = {"n_outputs": 9, "flash_attn": "auto", "swa_full": False, "collect_activations": False}
    loading = {"use_mmap": True, "device": "cpu", "n_gpu_layers": -1, "progress": None}
    drafting = {
        "drafter": None,
        "draft": 2,
        "draft_p_min": 0.0,
        "draft_dense_head": False,
        "draft_strict": False,
    }
    drafting |= {"draft_sampling": "greedy", "draft_device": "auto", "draft_lookup": False}
    sampling = {
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.05,
        "repeat_penalty": 1.1,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.1,
        "penalty_last_n": 64,
        "seed": 1,
        "logit_bias": {5: -1.0},
    }
    of_llm = {
        "seed": 1,
        "flash_attn": "auto",
        "strict": False,
        "device_bytes": 0,
        "chat_template": None,
    }
    call = {"max_tokens": 1, "stop": None, "logprobs": None, "draft": None, **sampling}
    params = {"params": p.SamplingParams()}
    return {
        "LLM": (p.LLM, {"path": world.target, **sizes, **loading, **drafting, **of_llm}),
        "LLM.from_pretrained": (
            p.LLM.from_pretrained,
            {**by_name(world, folder), "n_ctx": 48, "seed": 1},
        ),
        "LLM.complete": (
            llm.complete,
            {"prompt": "x", "stream": False, "echo": False, "suffix": None, **call},
        ),
        "LLM.chat": (
            llm.chat,
            {
                "messages": chat,
                "tools": None,
                "tool_choice": None,
                "chat_template_kwargs": None,
                "top_logprobs": None,
                **call,
            },
        ),
        "LLM.generate": (llm.generate, {"prompt": "x", **call}),
        "LLM.acomplete": (run_async(llm.acomplete), {"prompt": "x", "stream": False, **call}),
        "LLM.achat": (run_async(llm.achat), {"messages": chat, "stream": False, **call}),
        "Engine": (
            p.Engine,
            {
                "model": world.model,
                "sizes": {"n_ctx": 16},
                "drafter": None,
                "options": None,
                "parallel": 1,
                "queue_limit": 4,
            },
        ),
        "Engine.submit": (llm.engine.submit, {"request": p.Request(tokens, max_tokens=1)}),
        "Engine.cancel": (llm.engine.cancel, {"why": "x"}),
        "Engine.drain": (world.drained.drain, {"timeout": 1}),
        "Request": (p.Request, {"prompt": tokens, "max_tokens": 1}),
        "Generation.result": (world.done.result, {"timeout": 1}),
        "Generation.cancel": (world.done.cancel, {"why": "x"}),
        "Generation.stop_soon": (world.done.stop_soon, {"why": "x"}),
        "LLM.tokenize": (llm.tokenize, {"text": "x", "add_bos": True, "special": False}),
        "LLM.detokenize": (llm.detokenize, {"tokens": tokens, "special": False}),
        "LLM.embed": (llm.embed, {"text": "x", "normalize": True}),
        "LLM.create_embedding": (llm.create_embedding, {"input": "x", "model": "m"}),
        "LLM.embedding_tokens": (llm.embedding_tokens, {"name": "text", "given": "x"}),
        "LLM.save": (llm.save, {"path": folder / "llm.state", "slot": 0}),
        "LLM.load": (llm.load, {"path": saved(llm, folder), "slot": 0, "owner": ""}),
        "LLM.render_chat": (llm.render_chat, {"messages": chat}),
        "LLM.chat_tokens": (llm.chat_tokens, {"rendered": "x"}),
        "Model.open": (
            p.Model.open,
            {"path": world.drafter, "n_threads": 1, "metadata_only": True, **loading},
        ),
        "Model.context": (world.model.context, {**sizes, **more}),
        "Model.memory": (world.model.memory, {**sizes, "drafter": None, "n_outputs": 9}),
        "Model.fit": (
            world.model.fit,
            {
                **sizes,
                "drafter": None,
                "device": "cpu",
                "draft_device": "auto",
                "n_gpu_layers": -1,
                "device_bytes": 0,
                "strict": True,
            },
        ),
        "Context": (p.Context, {"model": world.model, **sizes, **more}),
        "Context.prefill": (context.prefill, {"tokens": tokens, "outputs": 1}),
        "Context.decode": (context.decode, {"tokens": 5}),
        "Context.sync": (context.sync, {"tokens": tokens}),
        "Context.read": (context.read, {"tokens": tokens, "n_rows": 2}),
        "Context.match": (context.match, {"tokens": tokens}),
        "Context.rewind": (context.rewind, {"length": 1}),
        "Context.score": (context.score, {"tokens": tokens}),
        "Context.embed": (context.embed, {"tokens": tokens, "normalize": True}),
        "Context.work": (context.work, {"n": 1, "n_outputs": 1}),
        "Context.save": (context.save, {"path": folder / "state", "sampler": world.sampler}),
        "Context.load": (
            context.load,
            {"path": saved(context, folder, world.sampler), "sampler": world.sampler},
        ),
        "Context.state": (context.state, {"sampler": world.sampler}),
        "Context.set_state": (
            context.set_state,
            {"state": context.state(world.sampler), "sampler": world.sampler},
        ),
        "Context.logits": (context.logits, {"row": -1, "copy": True}),
        "Context.hidden": (context.hidden, {"row": -1, "copy": True}),
        "Context.logprobs": (context.logprobs, {"row": -1, "k": 2, "token": 5}),
        "Pair": (
            p.Pair,
            {
                "target": world.context,
                "drafter": "lookup",
                "dense_head": False,
                "strict": False,
                "as_model": False,
                "n_ngram": 3,
                "p_min": 0.0,
                "draft_sampling": "greedy",
                "lookup": False,
            },
        ),
        "Context.share": (
            world.sequences[0].share,
            {"other": world.sequences[1], "length": 1},
        ),
        "Batch": (
            p.Batch,
            {
                "model": world.model,
                "drafter": "lookup",
                "n_sequences": 1,
                "n_positions": None,
                "dense_head": False,
                "strict": False,
                "as_model": False,
                "n_ngram": 3,
                "p_min": 0.0,
                "draft_sampling": "greedy",
                "lookup": False,
                **sizes,
                **more,
            },
        ),
        "Batch.pair": (world.batch.pair, {"context": world.sequences[0]}),
        "Batch.round": (world.batch.round, {"entries": [world.entry]}),
        "Batch.draft": (world.batch.draft, {"entries": [world.entry]}),
        "Batch.run": (world.batch.run, {"entries": [world.entry]}),
        "Batch.take": (world.batch.take, {"entries": [world.entry]}),
        "Batch.abandon": (world.batch.abandon, {"entries": [world.entry]}),
        "BatchEntry": (
            p.BatchEntry,
            {
                "pair": world.entry.pair,
                "sampler": world.sampler,
                "n_draft": 1,
                "n_max": 1,
                "end_tokens": (),
                "prompt": tokens,
                "n_rows": 8,
            },
        ),
        "Pair.sync": (pair.sync, {"tokens": tokens}),
        "Pair.step": (
            pair.step,
            {"sampler": world.sampler, "n_draft": "auto", "n_max": 2, "end_tokens": ()},
        ),
        "Pair.generate": (
            lambda **given: next(pair.generate(**given)),
            {
                "prompt": "x",
                "sampler": world.sampler,
                "max_tokens": 2,
                "n_draft": 1,
                "end_tokens": None,
            },
        ),
        "Pair.propose": (pair.propose, {"sampler": world.sampler, "n_draft": 2, "n_max": 2}),
        "Pair.run": (pair.run, {"drafts": []}),
        "Pair.take": (
            after(pair.run, pair.take),
            {"sampler": world.sampler, "n_max": 1, "end_tokens": (), "masks": None, "chosen": None},
        ),
        "Pair.abandon": (pair.abandon, {"sampler": None}),
        "Pair.draft": (pair.draft, {"last": 5, "n": 2}),
        "Pair.draft_row": (pair.draft_row, {"step": 0}),
        "Pair.rounds": (
            pair.rounds,
            {"sampler": world.sampler, "max_tokens": 2, "n_draft": 0, "end_tokens": ()},
        ),
        "SamplingParams": (p.SamplingParams, sampling),
        "SamplingParams.of_file": (p.SamplingParams.of_file, {"model": world.model}),
        "Sampler": (p.Sampler, params),
        "Sampler.sample": (world.sampler.sample, {"context": context, "row": -1, "mask": None}),
        "Sampler.sample_from": (world.sampler.sample_from, {"logits": row, "mask": None}),
        "Sampler.go_back": (world.sampler.go_back, {"mark": (0, 0)}),
        "LogitsProcessors": (
            p.LogitsProcessors,
            {"processors": [], "prompt": tokens, "under": None},
        ),
        "constrained_round": (
            p.constrained_round,
            {
                "pair": pair,
                "sampler": world.sampler,
                "constraint": p.LogitsProcessors([], tokens),
                "n_draft": 2,
                "n_max": 2,
                "end_tokens": (),
            },
        ),
        "constrained_token": (
            p.constrained_token,
            {
                "context": context,
                "sampler": world.sampler,
                "constraint": p.LogitsProcessors([], tokens),
            },
        ),
        "Sampler.accept": (world.sampler.accept, {"token": 5}),
        "Tokenizer.encode": (
            tokenizer.encode,
            {"text": "x", "add_special": True, "parse_special": False},
        ),
        "Tokenizer.decode": (tokenizer.decode, {"ids": tokens, "special": False}),
        "Tokenizer.decode_bytes": (tokenizer.decode_bytes, {"ids": tokens, "special": False}),
        "Tokenizer.stream": (tokenizer.stream, {"special": False}),
        "Tokenizer.token_bytes": (tokenizer.token_bytes, {"token": 5, "special": False}),
        "Tokenizer.token_text": (tokenizer.token_text, {"token": 5}),
        "Tokenizer.token_type": (tokenizer.token_type, {"token": 5}),
        "TokenStream": (p.TokenStream, {"tokenizer": tokenizer, "special": False}),
        "TokenStream.feed": (world.stream.feed, {"token": 5}),
        "ChatTemplate": (p.ChatTemplate, {"source": "x", "bos_token": "", "eos_token": ""}),
        "ChatTemplate.render": (
            template.render,
            {"messages": chat, "tools": None, "add_generation_prompt": True},
        ),
        "device": (p.device, {"name": "cpu"}),
        "find_drafter": (p.find_drafter, {"target": world.model}),
        "quantize": (
            p.quantize,
            {
                "source": world.drafter,
                "out": None,
                "type": "Q8_0",
                "tensor_types": (),
                "imatrix": None,
                "pure": False,
                "allow_requantize": False,
                "n_threads": 1,
                "progress": None,
            },
        ),
        "join": (p.join, {"part": parts(world, folder)[0], "out": out, "progress": None}),
        "split": (
            p.split,
            {
                "source": world.drafter,
                "prefix": folder / "part",
                "max_size": None,
                "max_tensors": 50,
                "progress": None,
            },
        ),
        "imatrix": (
            p.imatrix,
            {
                "model": world.model,
                "text": "in the beginning " * 8,
                "out": out,
                "chunk": 8,
                "chunks": 1,
                "n_threads": 1,
                "dataset": "",
            },
        ),
        "LLM.fit": (
            p.LLM.fit,
            {
                "path": world.target,
                "memory_bytes": 2**32,
                "n_ctx": 4096,
                "kv_type": "f16",
                "drafter": None,
                "mmproj": None,
            },
        ),
        "find_mmproj": (p.find_mmproj, {"model": world.target}),
        "Model.add_media": (
            world.model.add_media,
            {"rows": np.ones((2, world.model.n_embd)), "digest": b"w" * 32, "bidirectional": False},
        ),
        "Model.drop_media": (world.model.drop_media, {"first": world.first}),
        "Mmproj": (p.Mmproj, {"path": world.towers.path, "n_threads": 1}),
        "Mmproj.image_grid": (
            world.towers.image_grid,
            {"height": 20, "width": 30, "image_tokens": 70},
        ),
        "Mmproj.encode_image": (
            world.towers.encode_image,
            {"rgb": np.zeros((5, 4, 3), np.uint8), "image_tokens": 4},
        ),
        "Mmproj.audio_tokens": (world.towers.audio_tokens, {"n_samples": 4000}),
        "Mmproj.encode_audio": (
            world.towers.encode_audio,
            {"samples": np.zeros(800, np.float32)},
        ),
        "read_header": (read_header, {"path": world.drafter, "tensors": False}),
        "inspect_file": (
            inspect_file,
            {"path": world.drafter, "ctx": (), "kv_type": "f16", "drafter": None, "tensors": False},
        ),
        "convert": (
            convert,
            {
                "checkpoint": GOLDEN / "tiny-llama",
                "out": out,
                "outtype": "f32",
                "masked_embedding": True,
                "name": "x",
                "n_threads": 1,
                "progress": None,
            },
        ),
    }


NO_INPUT = {
    "Activation",
    "Backend",
    "BatchStats",
    "Fit",
    "ImatrixSummary",
    "Limits",
    "Logprobs",
    "PairStats",
    "Piece",
    "Placed",
    "QuantizeReport",
}
# records that the package makes
NO_INPUT |= {"QuantizedTensor", "Round", "Timings", "TokenInfo", "Work", "EngineStats", "SlotState"}
# their constructors are not for callers
MADE_BY_OTHERS = {"Constraint", "Generation", "Metadata", "Model", "Tokenizer"}
FOR_THE_PACKAGE = {"Engine.between_turns"}
FOR_THE_PACKAGE |= {
    f"{of}.{call}"
    for of in ("Constraint", "LogitsProcessors")
    for call in ("plan", "forced", "accept", "choose")
}


def public_callables(pillion):
    """Names of all that takes arguments, as in `good_calls`."""
    for name in pillion.__all__:
        thing = getattr(pillion, name)
        if inspect.isfunction(thing):
            if inspect.signature(thing).parameters:
                yield name
        elif inspect.isclass(thing) and not issubclass(thing, Exception) and name not in NO_INPUT:
            if name not in MADE_BY_OTHERS:
                yield name
            members = {}
            for base in reversed(thing.__mro__):
                if base.__module__.startswith(pillion.__name__):
                    members.update(vars(base))
            for method, member in members.items():
                function = getattr(member, "__func__", member)
                if method.startswith("_") or not inspect.isfunction(function):
                    continue
                if (
                    getattr(thing, method).__name__ == method
                    and len(inspect.signature(function).parameters) > 1
                ):
                    yield f"{name}.{method}"


@pytest.fixture(scope="module")
def world(pillion):
    return World(pillion)


NAMES = """LLM LLM.from_pretrained LLM.complete LLM.chat LLM.generate LLM.acomplete LLM.achat
Engine
Engine.submit Engine.cancel Engine.drain Request Generation.result Generation.cancel
Generation.stop_soon LLM.tokenize LLM.detokenize LLM.embed LLM.create_embedding
LLM.embedding_tokens LLM.save LLM.load LLM.render_chat LLM.chat_tokens Model.open Model.context
Model.memory Model.fit Context Context.prefill Context.decode Context.sync
Context.read Context.match Context.rewind Context.score Context.embed Context.work
Context.save Context.load Context.state Context.set_state
Context.logits Context.hidden Context.logprobs Pair Context.share Batch Batch.pair Batch.round
Batch.draft Batch.run Batch.take Batch.abandon BatchEntry Pair.sync Pair.step
Pair.generate Pair.propose Pair.run Pair.take Pair.abandon Pair.draft Pair.draft_row
Pair.rounds SamplingParams SamplingParams.of_file Sampler Sampler.sample Sampler.sample_from
Sampler.go_back
LogitsProcessors constrained_round constrained_token Sampler.accept Tokenizer.encode
Tokenizer.decode Tokenizer.decode_bytes Tokenizer.stream Tokenizer.token_bytes
Tokenizer.token_text Tokenizer.token_type TokenStream TokenStream.feed ChatTemplate
ChatTemplate.render device find_drafter quantize join split imatrix LLM.fit find_mmproj
Model.add_media Model.drop_media Mmproj Mmproj.image_grid Mmproj.encode_image
Mmproj.audio_tokens Mmproj.encode_audio read_header inspect_file convert""".split()


def test_nothing_public_is_left_out(pillion, world, tmp_path):
    assert list(good_calls(world, tmp_path)) == NAMES
    assert set(public_callables(pillion)) - FOR_THE_PACKAGE <= set(NAMES)


def outcome(pillion, function, arguments):
    """None, or what is wrong with what it did."""
    try:
        made = function(**arguments)
    except pillion.PillionError as error:
        said = str(error)
        return None if len(said) > 10 and "\n" not in said else f"said {said!r}"
    except StopIteration:
        return None
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if hasattr(made, "close"):
        made.close()
    return None


@pytest.mark.parametrize("name", NAMES)
def test_wrong_values(pillion, world, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    world.ready()
    function, good = good_calls(world, tmp_path)[name]
    assert outcome(pillion, function, good) is None
    others = {"a closed model": world.closed, "a model": world.model, "a sampler": world.sampler}
    found = []
    for parameter in good:
        for label, value in {**WRONG, **others}.items():
            if parameter in CALLED_BACK and callable(value):
                continue
            world.ready()
            wrong = outcome(pillion, function, {**good, parameter: value})
            if wrong:
                found.append(f"{name}({parameter}={label}) -> {wrong}")
    assert not found, "\n" + "\n".join(found)
    world.works()


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in NAMES
        if name not in ("Pair.generate", "LLM.render_chat", "ChatTemplate.render")
    ],
)
def test_calls_that_do_not_fit(pillion, world, tmp_path, name):
    function, good = good_calls(world, tmp_path)[name]
    for value in (None, 1):
        with pytest.raises(pillion.UsageError, match=r"has no argument 'no_such_name'"):
            function(**good, no_such_name=value)
    required = [
        one for one in inspect.signature(function).parameters.values() if one.default is one.empty
    ]
    if any(one.kind is one.POSITIONAL_OR_KEYWORD for one in required):
        with pytest.raises(pillion.UsageError, match="missing a required argument"):
            function()
    with pytest.raises(pillion.UsageError):
        function(*range(40))


SAID = [
    (lambda p, w: p.LLM(w.target, n_ctx="4096"), "n_ctx is '4096'; it must be positive"),
    (lambda p, w: p.LLM(w.target, seed="42"), "seed is '42'; it must be 0 to 2**64 - 1, or None"),
    (lambda p, w: p.LLM(w.target, seed=-2), "seed is -2; it must be 0 to 2**64 - 1, or None"),
    (
        lambda p, w: p.LLM(w.target, n_treads=2),
        "LLM() has no argument 'n_treads'; did you mean n_threads?",
    ),
    (lambda p, w: p.LLM(model_path=str(w.target)), "LLM() has no argument 'model_path'"),
    (lambda p, w: p.LLM(w.target, verbose=False), "LLM() has no argument 'verbose'"),
    (lambda p, w: p.LLM(None), "path is None; it must be a path"),
    (lambda p, w: p.LLM(), "missing a required argument: 'path'"),
    (
        lambda p, w: p.LLM(w.target, drafter=True),
        "drafter is True; it must be 'auto', a path, a Model, 'lookup', or None",
    ),
    (lambda p, w: p.LLM(w.target, use_mmap="no"), "use_mmap is 'no'; it must be True or False"),
    (
        lambda p, w: p.Model(w.target, "x"),
        "a Model is not made by hand; Model.open(path) opens a file",
    ),
    (lambda p, w: p.Context(w.llm), "it must be a Model"),
    (
        lambda p, w: p.Pair(w.context, 5),
        "drafter is 5; it must be a Model, a path, 'lookup' or None",
    ),
    (lambda p, w: p.Pair(5, "lookup"), "target is 5; it must be a Context, a Model or an LLM"),
    (lambda p, w: w.sampler.sample(w.model), "it must be a Context"),
    (lambda p, w: p.SamplingParams(top_k=-2), "top_k is -2; it must be 0 (off) or more"),
    (
        lambda p, w: p.SamplingParams(temprature=1),
        "SamplingParams() has no argument 'temprature'; did you mean temperature?",
    ),
    (
        lambda p, w: w.context.prefill(b"abc"),
        "tokens is b'abc'; it must be a flat sequence of token ids",
    ),
    (lambda p, w: p.Sampler({"seed": 1}), "params is {'seed': 1}; it must be SamplingParams"),
    (lambda p, w: p.quantize(w.drafter, 5, "Q8_0"), "out is 5; it must be a path"),
    (lambda p, w: p.device(0), "name is 0; it must be a string"),
    (
        lambda p, w: w.llm.complete("a", logits_processor=3),
        "logits_processor is 3; it must be a callable or a list",
    ),
    (
        lambda p, w: w.llm.generate("a", logits_processor=[3]),
        "logits_processor[0] is 3; it must be a callable",
    ),
    (
        lambda p, w: w.llm.engine.submit(p.Request("ab")),
        "prompt is 'ab'; it must be a flat sequence of token ids",
    ),
]


@pytest.mark.parametrize("call, sentence", SAID, ids=[sentence[:40] for _, sentence in SAID])
def test_the_sentence(pillion, world, call, sentence):
    with pytest.raises(pillion.UsageError) as caught:
        call(pillion, world)
    assert sentence in str(caught.value)


def test_numbers_of_numpy_are_numbers(pillion, world):
    with pillion.LLM(
        world.target, n_ctx=np.int64(32), seed=np.uint32(7), n_threads=np.int8(1), drafter=None
    ) as llm:
        params = {
            "temperature": np.float32(0.5),
            "top_k": np.int16(3),
            "seed": np.int64(3),
            "max_tokens": np.int64(2),
        }
        assert len(llm.generate(np.array([2, 5], dtype=np.uint16), **params).run().tokens) <= 2
        llm.context.sync(np.array([2, 5]))
        llm.context.decode(np.int32(6))
        assert llm.context.n_past == 3
    assert pillion.SamplingParams(
        seed=np.int64(5), logit_bias={np.int32(3): np.float32(1)}
    ) == pillion.SamplingParams(seed=5, logit_bias={3: 1.0})


def test_closed_objects(pillion, world):
    for call in (
        lambda: world.closed.describe(),
        lambda: world.closed.context(),
        lambda: pillion.Context(world.closed),
        lambda: pillion.Pair(world.context, world.closed),
        lambda: (
            pillion.find_drafter(world.closed) or pillion.imatrix(world.closed, "x" * 100, "out")
        ),
    ):
        with pytest.raises(pillion.PillionError):
            call()
