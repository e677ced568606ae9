"""A cache that is only read, one that lost bytes, one with folders in the place of files, one
without the model; and lists for narrow terminals."""

import pytest
from hub_standin import ALONE, PAIR, SISTER

TARGET = "gemma-4-tiny-it-Q4_0.gguf"
ASSISTANT = "gemma-4-tiny-it-assistant-Q4_0.gguf"


def test_a_cache_that_is_only_read(pull, cache, monkeypatch):
    """Such as one in an image, or one that many machines share."""
    first = pull(PAIR)
    note = cache / f"models--{PAIR.replace('/', '--')}" / "refs" / "main"
    written = note.stat().st_mtime_ns
    assert pull(PAIR) == pull(PAIR) and note.stat().st_mtime_ns == written
    note.unlink()
    note.mkdir()  # no one can write there, not even root
    again = pull(PAIR)
    assert (again.path, again.drafter, again.was_cached) == (first.path, first.drafter, True)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_file_that_lost_bytes_comes_again(pull, tiny_target, size):
    path = pull(PAIR, drafter=None).path
    with path.open("r+b") as file:
        file.truncate(size)
    found = pull(PAIR, drafter=None)
    assert not found.was_cached and found.path == path
    assert path.read_bytes() == tiny_target.read_bytes()


def test_a_copy_that_lost_bytes_comes_again(pull, tiny_target):
    """Where the cache has no links, as on some file systems."""
    path = pull(PAIR, drafter=None).path
    path.unlink()
    path.write_bytes(b"GGUF")
    assert pull(PAIR, drafter=None).path.read_bytes() == tiny_target.read_bytes()


@pytest.mark.parametrize("blob", [False, True])
def test_a_folder_in_place_of_a_file(pillion, pull, refused, blob):
    path = pull(PAIR, drafter=None).path
    path = path.resolve() if blob else path
    path.unlink()
    path.mkdir()
    sentence = refused(pillion.HubError, pull, PAIR, drafter=None)
    assert sentence.endswith(" is a folder where a file should be: remove it, and pull again")
    assert TARGET in sentence


def test_a_cached_drafter_is_no_model(pillion, pull, refused):
    pull(f"{PAIR}:{ASSISTANT}")
    sentence = refused(pillion.NotOnHubError, pull, PAIR, local_files_only=True)
    assert sentence == f"the cache's copy of {PAIR} holds no model, only {ASSISTANT} (1.7 MiB)"
    pull(SISTER)
    assert pull(SISTER, local_files_only=True).kind == "drafter"


def test_an_address_without_its_scheme(pillion, pull, refused):
    sentence = refused(pillion.UsageError, pull, PAIR, endpoint="hf-mirror.com")
    assert "'hf-mirror.com'; it must be the address of a hub" in sentence


def test_patterns_fit_in_small_and_capital_letters(pull):
    assert pull(PAIR, "*q4_0.gguf", drafter=None).file == TARGET


def test_a_name_in_place_of_a_file(pillion, refused):
    sentence = refused(pillion.ModelNotFoundError, pillion.LLM, PAIR)
    assert sentence.endswith(f"opens with LLM.from_pretrained('{PAIR}')")
    sentence = refused(pillion.ModelNotFoundError, pillion.LLM, "folder/none.gguf")
    assert sentence.endswith("No such file or directory")


def test_a_list_for_a_narrow_terminal(pillion_says, monkeypatch):
    """A name is never broken in two: it is for copying."""
    pillion_says("pull", ALONE)
    wide = pillion_says("list")[1]
    assert len(wide.splitlines()) == 3
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert pillion_says("list")[1].splitlines() == [
        ALONE,
        "  gemma-4-alone-it-Q4_0.gguf  9.9 MiB  target  Q4_0",
        f"    pairs with {SISTER}:gemma-4-alone-it-assistant-Q8_0.gguf",
        SISTER,
        "  gemma-4-alone-it-assistant-Q8_0.gguf  1.7 MiB  drafter  Q8_0",
        f"    pairs with {ALONE}:gemma-4-alone-it-Q4_0.gguf",
    ]
