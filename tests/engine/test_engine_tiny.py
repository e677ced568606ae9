"""The engine on the embedded pair: texts of many at once are those of each alone."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import programs
from patience import PATIENCE, in_thread, until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "serving"
LONG = "Genesis 1\n\nIn the beginning God " * 9
PROMPTS = ["In the beginning", "And the earth", "And God said, ", LONG]


def text_of(result):
    return result["choices"][0]["text"]


@pytest.fixture(scope="module")
def opened(pillion, tiny_target):
    """An LLM on the tiny pair."""

    def open_llm(**options):
        return pillion.LLM(tiny_target, device="cpu", **{"n_ctx": 512, **options})

    return open_llm


KINDS = {
    "greedy": {"temperature": 0},
    "seeded": {"temperature": 1.0, "seed": 7},
    "penalties": {"temperature": 0.7, "seed": 3, "repeat_penalty": 1.2},
}


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_eight_threads_write_what_each_writes_alone(opened, kind, parallel):
    options = {"max_tokens": 24, "draft": 3, **KINDS[kind]}
    with opened() as llm:
        alone = [text_of(llm.complete(prompt, **options)) for prompt in PROMPTS]
    with opened(parallel=parallel, n_batch=32) as llm:

        def body(number):
            order = [(number + i) % len(PROMPTS) for i in range(len(PROMPTS))]
            texts = {}
            for at in order:
                answer = llm.complete(PROMPTS[at], stream=number % 2 == 1, **options)
                texts[at] = "".join(map(text_of, answer)) if number % 2 else text_of(answer)
            return [texts[at] for at in range(len(PROMPTS))]

        started = [in_thread(lambda number=number: body(number)) for number in range(8)]
        for thread, outcome in started:
            thread.join()
            assert outcome == [alone]


@pytest.mark.parametrize("drafter", [None, "lookup", "auto"])
def test_a_prompt_read_in_parts_is_the_prompt(opened, drafter):
    """To the bit, with any parts."""
    with opened(drafter=drafter) as llm:
        context, tokens = llm.context, llm.tokenize(PROMPTS[3])
        context.sync(tokens)
        wanted = context.logits()
        for part in (1, 16, 48, 500):
            context.clear()
            while len(context) < len(tokens) - 1:
                context.read(tokens, part)
            assert context.sync(tokens) == len(tokens) - 1
            assert context.logits().tobytes() == wanted.tobytes()


def test_match_tells_what_sync_keeps(opened):
    rng = np.random.default_rng(3)
    with opened(drafter=None, n_batch=64) as llm:
        context, text = llm.context, llm.tokenize(PROMPTS[3])
        context.sync(text + text[:200])
        for _ in range(40):
            n = int(rng.integers(1, len(text)))
            tokens = [*text[:n], *rng.integers(5, 2000, int(rng.integers(1, 200))).tolist()]
            found = context.match(tokens)
            assert found.usable <= found.common < len(tokens)
            assert context.sync(tokens) == found.usable


def test_going_back_after_parts(opened):
    """Parts leave the same snapshot as a prompt in one run: a chat's next turn costs no more."""
    with opened(drafter=None, n_ctx=1024) as llm:
        text = llm.tokenize(PROMPTS[3])[:200]
        kept = []
        for part in (500, 16):
            llm.context.clear()
            while len(llm.context) < len(text) - 1:
                llm.context.read(text, part)
            llm.context.sync(text)
            for token in text[:150]:
                llm.context.decode(token)
            kept.append(llm.context.sync([*text, 5, 6, 7]))
        assert kept == [len(text)] * 2


def test_a_short_question_passes_a_long_prompt(opened):
    long = "Genesis 1\n\nIn the beginning God " * 60
    with opened(n_ctx=2048, parallel=2, n_batch=64) as llm:
        document = llm.generate(long, max_tokens=300, temperature=0)
        until(lambda: document.state == "reading")
        answer = llm.generate("And God said", max_tokens=4, temperature=0).result()
        assert document.finish_reason is None and len(answer.tokens) == 4
        alone = document.result().tokens
        llm.reset()
        assert llm.generate(long, max_tokens=300, temperature=0).result().tokens == alone


def test_an_llm_on_an_open_model(pillion, tiny_target):
    with pillion.Model.open(tiny_target, device="cpu") as model:
        one = pillion.LLM(model, n_ctx=128, drafter=None)
        with one, pillion.LLM(model, n_ctx=64) as two:
            texts = {text_of(llm.complete("In the", temperature=0)) for llm in (one, two)}
            assert len(texts) == 1 and two.pair is not None
        assert not model.closed and model.tokenizer.encode("a")
        with pytest.raises(pillion.UsageError, match="n_gpu_layers says how a file is opened"):
            pillion.LLM(model, n_gpu_layers=3)
        with pillion.LLM(model, n_ctx=64) as again:
            assert text_of(again.complete("In the", temperature=0)) in texts


def test_memory_of_many_contexts_is_named_before_it_runs_out(opened, pillion, monkeypatch):
    memory = {"memory": {"free": 10_000_000}}
    monkeypatch.setattr(sys.modules["pillion.llm.opening"], "device", lambda name: memory)
    with pytest.raises(pillion.OutOfMemoryError, match="^64 contexts of .* 0.01 GB are"):
        opened(parallel=64)
    opened(parallel=2).close()


def test_echo_with_logprobs_beside_others(opened):
    options = {"max_tokens": 3, "temperature": 0, "logprobs": 1, "echo": True}
    with opened(parallel=2) as llm:
        wanted = llm.complete("And God said", **options)["choices"][0]["logprobs"]
        other = llm.complete("In the beginning", max_tokens=100, seed=1, stream=True)
        streamed = list(llm.complete("And God said", stream=True, **options))
        tokens = [one for chunk in streamed for one in chunk["choices"][0]["logprobs"]["tokens"]]
        assert tokens == wanted["tokens"]
        assert len("".join(map(text_of, other))) > 100


def test_logits_processors(opened):
    """llama-cpp-python's shape: a callable, a list, a class of a list."""
    seen = []

    def no_letter_e(ids, scores):
        seen.append((len(ids), ids.dtype, scores.dtype))
        scores[banned] = -np.inf
        return scores

    class LogitsProcessorList(list):
        def __call__(self, ids, scores):
            for one in self:
                scores = one(ids, scores)
            return scores

    with opened() as llm:
        n = llm.model.n_vocab
        banned = [t for t in range(n) if b"e" in llm.tokenizer.token_bytes(t)]
        texts = set()
        for draft in (0, 3):
            for given in (no_letter_e, [no_letter_e], LogitsProcessorList([no_letter_e])):
                answer = llm.complete(
                    "In the", max_tokens=20, temperature=0, draft=draft, logits_processor=given
                )
                texts.add(text_of(answer))
        (text,) = texts
        assert text and "e" not in text
        assert seen[0] == (len(llm.tokenize("In the")), np.intc, np.single)


# ---- programs ----


def test_the_example_of_threads_and_tasks(tiny_target):
    words = [sys.executable, str(EXAMPLES / "threads_and_tasks.py"), str(tiny_target)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=3 * PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "threads and tasks write the same: True" in done.stdout


def test_the_example_of_a_web_app(tiny_target):
    programs.run(
        """
        import json, logging, socket, urllib.parse, urllib.request
        import uvicorn
        logging.disable()  # asyncio mentions clients that left
        os.environ["MODEL"] = str(TINY_TARGET)
        sys.path.insert(0, sys.argv[1])
        import web_app

        config = uvicorn.Config(web_app.app, host="127.0.0.1", port=0, log_level="critical")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]

        def get(path, **query):
            url = f"http://127.0.0.1:{port}/{path}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(url) as answer:
                return answer.read().decode()

        wanted = json.loads(get("whole", prompt=PROMPT))["text"]
        assert len(wanted) > 20
        for _ in range(8):  # clients that leave in the middle
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /stream?prompt=In+the HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                client.recv(300)
        found = []
        asks = lambda: found.append(json.loads(get("whole", prompt=PROMPT))["text"])
        threads = [threading.Thread(target=asks) for _ in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert found == [wanted] * 8
        # A sampled text may end early.
        assert any(len(get("stream", prompt="In the")) > 100 for _ in range(9))
        while json.loads(get("numbers"))["active"]:
            time.sleep(0.005)
        server.should_exit = True
        thread.join()
        """,
        EXAMPLES,
    )


def test_the_interpreter_ends_whatever_the_engine_does():
    """In the queue, in a prompt, in a round, with and without a thread that waits."""
    for way in ("idle", "stream", "prompt", "queue", "daemon", "task", "atexit"):
        programs.run(
            """
            import asyncio, atexit
            way = sys.argv[1]
            llm = opened(n_ctx=2048, drafter=TINY_ASSISTANT)
            kept = [text(llm)]
            if way == "stream":
                kept.append(stream(llm, 2000))
                next(kept[1])
            if way == "prompt":
                kept.append(llm.complete(PROMPT * 100, stream=True))
            if way == "queue":
                kept += [stream(llm, 2000) for _ in range(20)]
            if way == "daemon":
                for _ in range(4):
                    threading.Thread(target=text, args=(llm, 2000), daemon=True).start()
                time.sleep(0.05)
            if way == "task":
                async def main():
                    kept.append(asyncio.ensure_future(llm.acomplete(PROMPT, max_tokens=2000)))
                    await asyncio.sleep(0.02)
                asyncio.run(main())
            if way == "atexit":
                atexit.register(lambda: print(text(llm) == kept[0]))
            """,
            way,
        )


def test_threads_are_not_left_behind(opened):
    before = threading.active_count()
    for _ in range(20):
        with opened(drafter=None, n_ctx=64) as llm:
            llm.complete("a", max_tokens=2)
    assert threading.active_count() == before


def test_what_an_llm_says_of_itself_while_it_writes(opened, pillion):
    """No context and no pair needs to be free for it."""
    with opened(n_ctx=2048) as llm:
        bias = dict.fromkeys(llm.tokenizer.end_tokens, -np.inf)
        generation = llm.generate("and " * 900, logit_bias=bias)
        n_before = 0
        while generation.state != "done":
            assert llm.n_ctx() == 2048
            assert llm.speculation.state != "off" and llm.placement()
            n_before += 1
        assert n_before > 3 and generation.result().finish_reason == "length"
    with pytest.raises(pillion.Closed):
        llm.n_ctx()
