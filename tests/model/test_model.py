"""`Model`: opening, describing, metadata, progress."""

import logging
import threading

import pytest


def test_properties(fake, strings, toy_file):
    path = toy_file()
    with fake.Model.open(path) as model:
        assert model.arch == "gemma4"
        assert (model.n_layers, model.n_vocab, model.n_embd, model.n_ctx_train) == (
            1,
            261,
            32,
            4096,
        )
        assert not model.is_drafter
        assert model.n_params == 15_760
        assert model.describe()["arch"] == "gemma4"
        assert "gemma4" in repr(model)


def test_metadata_is_a_mapping_with_types(fake, strings, toy_file):
    values = {
        "a.text": '"two\\nlines"',
        "a.number": "12",
        "a.list": "[1, 2, 3]",
        "a.digits": '"12"',
        "a.flag": "true",
    }
    with fake.Model.open(toy_file(values)) as model:
        metadata = model.metadata
        assert {key: metadata[key] for key in metadata if key.startswith("a.")} == {
            "a.text": "two\nlines",
            "a.number": 12,
            "a.list": [1, 2, 3],
            "a.digits": "12",
            "a.flag": True,
        }
        assert "a.none" not in metadata
        assert metadata.get("a.none", 3) == 3
        with pytest.raises(KeyError):
            metadata["a.none"]


def test_long_answers_are_read_whole(fake, strings, toy_file):
    text = "x" * 2000
    with fake.Model.open(toy_file({"long": f'"{text}"'})) as model:
        assert model.metadata["long"] == text


def test_missing_and_damaged_files(fake, strings, tmp_path):
    with pytest.raises(FileNotFoundError):
        fake.Model.open(tmp_path / "none.gguf")
    damaged = tmp_path / "damaged.gguf"
    damaged.write_text("not a model")
    with pytest.raises(fake.ModelFileError):
        fake.Model.open(damaged)


def test_a_drafter_by_itself_says_what_it_needs(fake, strings, toy_file):
    with fake.Model.open(toy_file(assistant=True)) as model:
        assert model.is_drafter
        with pytest.raises(fake.PairingError, match="target"):
            model.context()


def test_metadata_only(fake, strings, toy_file):
    with fake.Model.open(toy_file(), metadata_only=True) as model:
        assert model.tokenizer.encode("a") == [256, 97]
        with pytest.raises(fake.UsageError):
            model.context()


def test_progress_is_reported(fake, strings, toy_file):
    seen = []
    fake.Model.open(toy_file(), progress=lambda done, total: seen.append((done, total))).close()
    total = seen[0][1]
    assert seen == sorted(seen) and seen[0] == (0, total) and seen[-1] == (total, total)
    assert len(seen) > 10 and {one[1] for one in seen} == {total}


def test_what_progress_raises_ends_the_load(fake, strings, toy_file):
    def stop(done, total):
        if done >= total / 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fake.Model.open(toy_file(), progress=stop)
    assert strings.live == 0


def test_no_memory_for_a_queue(fake, strings, toy_file):
    with fake.Model.open(toy_file()) as model:
        strings.lib.fake_no_queues(1)
        with pytest.raises(fake.OutOfMemoryError, match="queue"):
            model.context()
        with pytest.raises(fake.OutOfMemoryError, match="queue"):
            fake.Model.open(toy_file())
        strings.reset()
        model.context().close()


@pytest.mark.parametrize("n_threads", [-1, 100_000])
def test_bad_thread_count(fake, strings, toy_file, n_threads):
    with pytest.raises(fake.UsageError, match="n_threads"):
        fake.Model.open(toy_file(), n_threads=n_threads)


def test_a_model_serves_threads(fake, strings, toy_file):
    results = []
    with fake.Model.open(toy_file()) as model:

        def work():
            with model.context(64) as context:
                context.prefill(model.tokenizer.encode("ab"))
                results.append(int(context.logits().argmax()))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [ord("c")] * 4


def test_the_librarys_log_reaches_logging(fake, strings, caplog):
    with caplog.at_level(logging.DEBUG, logger="pillion"):
        strings.log(20, "5 layers of 100 % é")
        strings.log(30, "careful")
    assert [(r.levelno, r.message) for r in caplog.records] == [
        (20, "5 layers of 100 % é"),
        (30, "careful"),
    ]


def test_nothing_is_printed(fake, strings, toy_file, capfd):
    with fake.LLM(toy_file()) as llm:
        strings.log(40, "an error")
        llm.complete("ab", max_tokens=4)
    assert capfd.readouterr() == ("", "")


def test_system_and_backends(fake, strings):
    cpu_facts = fake.system()["cpu"]
    assert cpu_facts["table"] in cpu_facts["tables"] and "generic" in cpu_facts["tables"]
    cpu, cuda = fake.backends()[:2]
    assert cpu.available and cpu.reason is None
    assert not cuda.available and "libpillion_cuda.so is not installed" in cuda.reason
