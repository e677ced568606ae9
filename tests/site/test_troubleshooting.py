"""docs/troubleshooting.md quotes what the library says, under the class that says it."""

import importlib
import re
import shutil
import subprocess
import sys
import threading

import said_messages as messages
import pytest
from site_pages import TREE

import pillion as package
from pillion.integrations import MissingExtra, need
from pillion.models import TINY_ASSISTANT, TINY_TARGET

PAGE = (TREE / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^### `([^\n]+)`\n\n(.*?)(?=\n\n#|\Z)", PAGE, re.M | re.S)
ERRORS = {
    name: kind
    for name, kind in vars(package).items()
    if isinstance(kind, type) and issubclass(kind, package.PillionError)
} | {"MissingExtra": MissingExtra}


def test_there_are_many():
    assert len(ENTRIES) > 40
    assert len({message for message, _ in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("message", [message for message, _ in ENTRIES])
def test_the_sources_say(message):
    assert messages.is_said(message)


def test_what_nobody_says_is_seen():
    assert not messages.is_said("the moon is …; it must be cheese")


def test_each_entry_names_its_class_first():
    for message, text in ENTRIES:
        named = re.match(r"`(\w+)`", text)
        assert named, message
        assert named[1] in {*ERRORS, "ImportError"}, message


def test_every_public_error_is_there():
    assert {name for name in ERRORS if f"`{name}`" not in PAGE} == set()


def llm(**more):
    return package.LLM(TINY_TARGET, n_ctx=128, **more)


def long_run(entered):
    context = package.Model.open(TINY_TARGET).context(n_ctx=2048, n_threads=1)
    entered.append(context)
    while True:
        try:
            return context.score([5] * 2000)
        except package.Busy:  # the other thread was inside first
            continue


def busy(folder):
    entered = []
    thread = threading.Thread(target=long_run, args=(entered,))
    thread.start()
    try:
        while thread.is_alive():
            if entered:
                entered[0].decode(5)
    finally:
        thread.join()


def cancelled(folder):
    with llm() as one:
        answer = one.generate("Once", max_tokens=100)
        answer.cancel()
        answer.result()


def closed(folder):
    one = package.Model.open(TINY_TARGET).context(n_ctx=64)
    one.close()
    one.decode(5)


def engine(folder, n_requests=1, queue_limit=4, **more):
    with package.Model.open(TINY_TARGET) as model:
        engine = package.Engine(model, sizes={"n_ctx": 2048}, queue_limit=queue_limit)
        endless = package.SamplingParams(
            logit_bias=dict.fromkeys(model.tokenizer.end_tokens, float("-inf"))
        )
        request = package.Request(prompt=[2, 5, 6], sampling=endless, max_tokens=2000, **more)
        try:
            for _ in range(n_requests):
                last = engine.submit(request)
            last.result(timeout=1e-4 if not more else None)
        finally:
            engine.close()


def two_drafters(folder):
    shutil.copy(TINY_TARGET, folder / "model.gguf")
    for name in ("a", "b"):
        shutil.copy(TINY_ASSISTANT, folder / f"{name}-assistant.gguf")
    package.find_drafter(folder / "model.gguf")


def missing_part(folder):
    parts = package.split(TINY_TARGET, folder / "m", max_tensors=40)
    (folder / parts[1]).unlink()
    package.LLM(parts[0])


def changed(folder, old, new, half=False):
    data = TINY_TARGET.read_bytes().replace(old, new)
    path = folder / "changed.gguf"
    path.write_bytes(data[: len(data) // 2] if half else data)
    return path


CHAT = [{"role": "user", "content": "Hello"}]
RAISED = {
    "no file": lambda folder: package.LLM(folder / "no.gguf"),
    "no GGUF": lambda folder: package.LLM(TREE / "README.md"),
    "cut off": lambda folder: package.LLM(changed(folder, b"", b"", half=True)),
    "part": missing_part,
    "kind": lambda folder: package.LLM(changed(folder, b"gemma4", b"qwen99")),
    "no weights": lambda _: package.Model.open(TINY_TARGET, metadata_only=True).context(),
    "assistant": lambda _: package.LLM(TINY_ASSISTANT),
    "two drafters": two_drafters,
    "no drafter": lambda _: llm(drafter=None).complete("a", draft=3),
    "misspelled": lambda _: llm().complete("a", max_token=3),
    "value": lambda _: llm().complete("a", temperature=-1),
    "prompt": lambda _: llm().complete("word " * 300),
    "tokens": lambda _: package.Model.open(TINY_TARGET).context(n_ctx=64).prefill([5] * 65),
    "template": lambda folder: package.LLM(
        changed(folder, b"chat_template", b"chat_templatX")
    ).chat(CHAT),
    "parts": lambda _: llm().chat([{"role": "user", "content": [{"type": "image_url"}]}]),
    "suffix": lambda _: llm().complete("a", suffix="b"),
    "outputs": lambda _: package.Model.open(TINY_TARGET).context(n_ctx=64).logits(),
    "busy": busy,
    "closed": closed,
    "pickled": lambda _: llm().__reduce_ex__(2),
    "cancelled": cancelled,
    "queue": lambda folder: engine(folder, n_requests=12, queue_limit=0),
    "time": lambda folder: engine(folder, total_timeout=0.001),
    "waiting": lambda folder: engine(folder),
    "device": lambda _: llm(device="rocm"),
    "layers": lambda _: llm(device="cpu", n_gpu_layers=3),
    "no name": lambda _: package.hub.pull("a/b", cache_dir="/", endpoint="http://127.0.0.1:9"),
    "c": lambda _: importlib.import_module("pillion.llama_cpp").llama_decode,
    "extra": lambda _: need("what", "no_such_module", "extra"),
    "memory": lambda _: package.Model.open(TINY_TARGET, metadata_only=True).fit(
        256, device="cuda:sim", device_bytes=1_000_000, strict=True
    ),
}


@pytest.mark.parametrize("case", RAISED)
def test_what_is_raised_is_on_the_page(pillion, case, tmp_path):
    with pytest.raises(package.PillionError) as raised:
        RAISED[case](tmp_path)
    error = raised.value
    found = [
        text
        for message, text in ENTRIES
        if messages.pattern(message).fullmatch(error.sentence)
        and f"`{type(error).__name__}`" in text
    ]
    assert found, f"{type(error).__name__}: {error}"


def test_the_import_error_of_a_missing_module():
    """As a program sees it that was installed without its dependencies."""
    program = "import sys; sys.modules['jinja2'] = None; import pillion"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    said = done.stderr.strip().splitlines()[-1].partition(": ")[2]
    assert any(messages.pattern(one).fullmatch(said) for one, _ in ENTRIES), said
