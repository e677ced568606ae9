"""`LLM.save` and `LLM.load`: the next call with the same beginning runs only its rest, in another
process too, with and without a drafter."""

import subprocess
import sys
import threading

import pytest
from patience import over_and_over, until

PROMPT = "Genesis 1\n\nIn the beginning"


def ask(llm, prompt=PROMPT, **more):
    """(text, prompt tokens kept, prompt tokens run)."""
    more = {"temperature": 0, "max_tokens": 24, **more}
    done = llm.complete(prompt, **more)
    return done["choices"][0]["text"], done["timings"]["cache_n"], done["timings"]["prompt_n"]


@pytest.fixture(scope="module")
def files(pillion):
    from pillion.models import TINY_ASSISTANT, TINY_TARGET

    return TINY_TARGET, TINY_ASSISTANT


@pytest.mark.parametrize("drafter", [None, "auto", "lookup"])
@pytest.mark.parametrize("temperature", [0, 1])
def test_the_next_call_runs_only_its_rest(pillion, files, tmp_path, drafter, temperature):
    target, _ = files
    settings = dict(temperature=temperature, seed=5)
    with pillion.LLM(target, n_ctx=512, drafter=drafter) as llm:
        text, _, n = ask(llm, **settings)
        more = PROMPT + text
        llm.save(tmp_path / "state")
        want, kept, ran = ask(llm, more, **settings)
        assert kept > n
    with pillion.LLM(target, n_ctx=300, drafter=drafter) as llm:
        assert llm.load(tmp_path / "state") == 0
        assert ask(llm, more, **settings) == (want, kept, ran)
    with pillion.LLM(target, n_ctx=300, drafter=None) as llm:
        assert ask(llm, more, **settings) == (want, 0, kept + ran)


def test_a_chat_goes_on_in_another_process(pillion, files, tmp_path):
    target, _ = files
    chat = [{"role": "user", "content": "Who made the heaven?"}]
    with pillion.LLM(target, n_ctx=512) as llm:
        said = llm.chat(chat, temperature=0, max_tokens=30)["choices"][0]["message"]["content"]
        chat.append({"role": "assistant", "content": said})
        chat.append({"role": "user", "content": "And the sea?"})
        llm.save(tmp_path / "state")
        want = llm.chat(chat, temperature=0, max_tokens=30)
    program = (
        "import sys, pillion\n"
        "llm = pillion.LLM(sys.argv[1], n_ctx=512)\n"
        "llm.load(sys.argv[2])\n"
        "done = llm.chat(eval(sys.argv[3]), temperature=0, max_tokens=30)\n"
        "print(repr((done['choices'][0]['message']['content'], done['timings']['cache_n'])))"
    )
    command = [sys.executable, "-c", program, target, tmp_path / "state", repr(chat)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = want["choices"][0]["message"]["content"], want["timings"]["cache_n"]
    assert eval(done.stdout) == found and found[1] > 0


def test_each_context_has_its_own(pillion, files, tmp_path):
    target, _ = files
    with pillion.LLM(target, n_ctx=256, drafter=None, parallel=2) as llm:
        text, *_ = ask(llm)
        first = llm.engine._slots[0].context.tokens
        assert first and llm.engine._slots[1].context.tokens == []
        llm.save(tmp_path / "first")
        llm.save(tmp_path / "second", slot=1)
        llm.reset()
        llm.load(tmp_path / "first", slot=1)
        llm.load(tmp_path / "second", slot=0)
        assert llm.engine._slots[1].context.tokens == first
        assert llm.engine._slots[0].context.tokens == []
        assert ask(llm, PROMPT + text)[1] >= len(first) - 2  # found in the second context
        for slot in (2, -1, "0", None):
            with pytest.raises(pillion.UsageError, match="slot"):
                llm.save(tmp_path / "state", slot=slot)
            with pytest.raises(pillion.UsageError, match="slot"):
                llm.load(tmp_path / "first", slot=slot)


def test_a_text_of_an_owner_serves_nobody_else(pillion, files, tmp_path):
    target, _ = files
    with pillion.LLM(target, n_ctx=256, drafter=None) as llm:
        ask(llm, owner="ann")
        llm.save(tmp_path / "state")
        for owner, served in (("", True), ("ann", True), ("bob", False)):
            llm.load(tmp_path / "state", owner=owner)
            assert (ask(llm, owner="ann")[1] > 0) == served
        with pytest.raises(pillion.UsageError, match="owner is 5"):
            llm.load(tmp_path / "state", owner=5)


def test_beside_an_answer_under_way(pillion, files, tmp_path):
    """It is saved as it stands; a load would take its context away, and is refused."""
    target, _ = files
    with pillion.LLM(target, n_ctx=512, drafter=None) as llm:
        whole, *_ = ask(llm, max_tokens=200)
        llm.reset()
        llm.save(tmp_path / "empty")
        stream = llm.complete(PROMPT, temperature=0, max_tokens=200, stream=True)
        said = [next(stream)]
        llm.save(tmp_path / "state")
        try:
            llm.load(tmp_path / "empty")
        except pillion.Busy as error:
            assert "slot 0 writes an answer" in str(error)
        else:
            assert llm.engine.slots()[0].state == "idle"  # the answer was over already
        said += stream
        assert "".join(chunk["choices"][0]["text"] for chunk in said) == whole
    with pillion.LLM(target, n_ctx=512, drafter=None) as llm:
        llm.load(tmp_path / "state")
        assert ask(llm, max_tokens=200)[0] == whole


def test_a_load_is_refused_while_the_context_is_written(fake, strings, toy_file, tmp_path):
    with fake.LLM(toy_file(), n_ctx=64) as llm:
        llm.save(tmp_path / "state")
        strings.script(0, "x" * 60)
        strings.slow(20_000)
        writing = threading.Thread(
            target=lambda: llm.complete("ab", max_tokens=30, temperature=0), daemon=True
        )
        writing.start()
        until(lambda: llm.engine.slots()[0].state == "writing")
        with pytest.raises(fake.Busy, match="slot 0 writes an answer"):
            llm.load(tmp_path / "state")
        strings.slow(0)
        writing.join()
        assert llm.load(tmp_path / "state") == 0


def test_a_refused_file_leaves_the_conversation(pillion, files, tmp_path):
    target, _ = files
    (tmp_path / "damaged").write_bytes(b"PILLSTAT" + b"\0" * 500)
    with pillion.LLM(target, n_ctx=256, drafter=None) as llm:
        ask(llm)
        for path, kind in (
            (tmp_path / "damaged", pillion.ModelFileError),
            (tmp_path / "missing", pillion.ModelNotFoundError),
            (tmp_path, pillion.ModelFileError),
            (target, pillion.ModelFileError),
            ("", pillion.UsageError),
            (None, pillion.UsageError),
        ):
            with pytest.raises(kind):
                llm.load(path)
        assert ask(llm)[1] > 0
        llm.save(tmp_path / "state")
    for call in (llm.save, llm.load):
        with pytest.raises(pillion.Closed):
            call(tmp_path / "state")


def test_many_threads_ask_and_save(pillion, files, tmp_path):
    target, _ = files
    with pillion.LLM(target, n_ctx=256, drafter=None, parallel=2) as llm:
        want = ask(llm)[0]
        path, n = tmp_path / "state", []

        def save():
            llm.save(path)
            n.append(1)

        with over_and_over(save, pause=0):
            while len(n) < 20:
                assert ask(llm)[0] == want
        llm.reset()
        llm.load(path)
        assert ask(llm)[0] == want
