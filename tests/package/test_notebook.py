"""Cells of a real IPython kernel: a stream that is interrupted, cells that overlap in time, a
module that is loaded again."""

import re
from pathlib import Path

import pytest

from patience import PATIENCE, until

jupyter_client = pytest.importorskip("jupyter_client")

FIRST = """
import pillion
from pillion.models import TINY_ASSISTANT, TINY_TARGET
PROMPT = "Genesis 1\\n\\nIn the beginning"
llm = pillion.LLM(TINY_TARGET, device="cpu", n_ctx=4096, drafter=TINY_ASSISTANT)
def text(n=20):
    return llm.complete(PROMPT, temperature=0, max_tokens=n)["choices"][0]["text"]
def stream(**options):
    return llm.complete(PROMPT, max_tokens=3000, stream=True, **options)
first = text()
"""


class Kernel:
    """Runs cells; a cell gives (its printed text, the name of what it raised)."""

    def __init__(self):
        self.manager, self.client = jupyter_client.manager.start_new_kernel(kernel_name="python3")

    def begin(self, code):
        return self.client.execute(code)

    def end(self, cell):
        printed, error = "", None
        while True:
            message = self.client.get_iopub_msg(timeout=2 * PATIENCE)
            if message["parent_header"].get("msg_id") != cell:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                printed += content["text"]
            elif message["msg_type"] == "error":
                error = content["ename"]
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return printed.strip(), error

    def __call__(self, code):
        return self.end(self.begin(code))

    def interrupt_in(self, code, printed):
        """Interrupts the cell once it has printed so; what it raised."""
        cell = self.begin(code)
        seen = ""
        while printed not in seen:
            message = self.client.get_iopub_msg(timeout=2 * PATIENCE)
            if message["msg_type"] == "stream" and message["parent_header"].get("msg_id") == cell:
                seen += message["content"]["text"]
        self.manager.interrupt_kernel()
        return self.end(cell)[1]

    def close(self):
        self.client.shutdown()
        until(lambda: not self.manager.is_alive())
        self.client.stop_channels()
        self.manager.cleanup_resources()


@pytest.fixture(scope="module")
def kernel(pillion, tiny_target):
    kernel = Kernel()
    assert kernel(FIRST) == ("", None)
    yield kernel
    kernel.close()


# Each runs until it is interrupted: a single reply may be over before the interrupt arrives.
STREAMS = {
    "a stream": """while True:
    for i, _ in enumerate(stream(temperature=0)): print(i, flush=True)""",
    "a loop around answers": "for i in range(10**6): print(i, flush=True); text(50)",
    "a long prompt": """print(3, flush=True)
while True:
    llm.context.sync(list(range(5, 200)) * 20)
    llm.reset()""",
    "a sampled stream": """while True:
    for i, chunk in enumerate(stream(temperature=0.5)):
        print(i, flush=True)
        kept = chunk""",
}


@pytest.mark.parametrize("what", STREAMS)
def test_an_interrupted_cell_and_the_next(kernel, what):
    """The traceback that IPython keeps holds the stream's frames; the next cell works all the
    same."""
    assert kernel.interrupt_in(STREAMS[what], "3") == "KeyboardInterrupt"
    assert kernel("print(text() == first)") == ("True", None)


@pytest.mark.slow
def test_many_interrupts(kernel):
    for _ in range(10):
        for what in STREAMS.values():
            assert kernel.interrupt_in(what, "3") == "KeyboardInterrupt"
        assert kernel("print(text() == first)") == ("True", None)


def test_a_stream_over_several_cells(kernel):
    assert kernel("s = llm.complete(PROMPT, max_tokens=20, temperature=0, stream=True)") == (
        "",
        None,
    )
    assert kernel("got = next(s)['choices'][0]['text']") == ("", None)
    assert kernel("got += ''.join(c['choices'][0]['text'] for c in s); print(got == first)") == (
        "True",
        None,
    )
    assert kernel(
        "s = llm.complete(PROMPT, max_tokens=20, stream=True); next(s); print(text() == first)"
    ) == ("True", None)
    assert kernel("print(next(s)['object'])") == ("text_completion", None)
    assert kernel("t = stream(); next(t); llm.cancel()") == ("", None)
    assert kernel("list(t)") == ("", "Cancelled")
    assert kernel("print(text() == first)") == ("True", None)


def test_a_cell_that_forks(kernel):
    """`!command` and `%%bash` fork; so does multiprocessing."""
    code = """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    answers = pool.map(text, [20, 20])
print(answers == [first] * 2)
"""
    assert kernel(code) == ("True", None)
    assert kernel("!echo there") == ("there", None)
    assert kernel("print(text() == first)") == ("True", None)


def test_await_in_a_cell(kernel):
    code = """
import asyncio
loop = asyncio.get_running_loop()
print(await loop.run_in_executor(None, text) == first)
three = (llm.acomplete(PROMPT, temperature=0, max_tokens=20) for _ in "abc")
answers = await asyncio.gather(*three)
print({one["choices"][0]["text"] for one in answers} == {first})
async for chunk in await llm.acomplete(PROMPT, temperature=0, max_tokens=20, stream=True):
    last = chunk
print(last["choices"][0]["finish_reason"])
"""
    assert kernel(code) == ("True\nTrue\nlength", None)


def test_a_cell_of_asyncio_that_is_interrupted(kernel):
    code = """
while True:
    async for i in await llm.acomplete(PROMPT, max_tokens=3000, stream=True): print(3)
"""
    assert kernel.interrupt_in(code, "3") in ("KeyboardInterrupt", "CancelledError")
    assert kernel("print(text() == first)") == ("True", None)


def test_the_cells_of_the_page(kernel, tiny_target):
    """Those of docs/threads.md, as they stand there."""
    page = Path(__file__).resolve().parents[2] / "docs" / "threads.md"
    (example,) = re.findall(r"```python\n(# In \[1\].*?)```", page.read_text("utf-8"), re.S)
    cells = re.split(r"# In \[\d\]\n", example.replace("model.gguf", str(tiny_target)))[1:]
    assert len(cells) == 3
    said = [kernel(cell) for cell in cells]
    assert said[0] == ("", None) and all(text and error is None for text, error in said[1:])


def test_the_module_loaded_again(kernel):
    """`%autoreload 2` and importlib.reload, with objects of before at hand."""
    assert kernel("%load_ext autoreload\n%autoreload 2\nimport importlib") == ("", None)
    assert kernel("importlib.reload(pillion.llm); importlib.reload(pillion)")[1] is None
    assert kernel("print(text() == first)") == ("True", None)
    again = "with pillion.LLM(TINY_TARGET, device='cpu', n_ctx=256, drafter=None) as other:\n"
    again += "    answer = other.complete(PROMPT, temperature=0, max_tokens=20)\n"
    again += "    print(answer['choices'][0]['text'] == first)"
    assert kernel(again) == ("True", None)
    assert kernel("importlib.reload(pillion._native)")[1] is None
    assert kernel("print(text() == first)") == ("True", None)
