"""What the cache holds, and throwing it away."""

import hub_standin
import pytest
from hub_standin import ALONE, PAIR, SISTER

TARGET = "gemma-4-tiny-it-Q4_0.gguf"
ASSISTANT = "gemma-4-tiny-it-assistant-Q4_0.gguf"


@pytest.fixture
def hub(pillion):
    return pillion.hub


def make(standin, repo, **files):
    for name, data in files.items():
        path = standin.folder / repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_an_empty_cache(hub, cache):
    assert hub.list_cached(cache) == [] and hub.unfinished(cache) == []
    cache.mkdir()
    assert hub.list_cached(cache) == []


def test_kinds_sizes_and_pairs(hub, pull, cache, standin, tiny_target):
    llama = hub_standin.gguf(**{"general.architecture": "llama", "general.file_type": 7})
    make(standin, "o/llama", **{"model.gguf": llama})
    pull(PAIR, additional_files=["mmproj-F16.gguf"])
    pull(ALONE)
    pull("o/llama")
    rows = {row.name: row for row in hub.list_cached(cache)}
    assert list(rows) == sorted(rows) and len(rows) == 6
    target, drafter = rows[f"{PAIR}:{TARGET}"], rows[f"{PAIR}:{ASSISTANT}"]
    assert (target.kind, target.architecture, target.quantization) == ("target", "gemma4", "Q4_0")
    assert target.size == tiny_target.stat().st_size and target.path.is_file()
    assert target.revisions == ("main",) and (target.n_parts, target.n_parts_here) == (1, 1)
    sister = f"{SISTER}:gemma-4-alone-it-assistant-Q8_0.gguf"
    assert target.pairs_with == (drafter.name, sister)  # the own repository's first
    assert drafter.kind == "drafter" and target.name in drafter.pairs_with
    assert rows[f"{PAIR}:mmproj-F16.gguf"].kind == "mmproj"
    assert rows[f"{PAIR}:mmproj-F16.gguf"].pairs_with == ()
    other = rows["o/llama:model.gguf"]
    assert (other.architecture, other.quantization, other.pairs_with) == ("llama", "Q8_0", ())
    assert target.as_dict()["path"] == str(target.path)


def test_parts_are_one_row(hub, pull, cache, standin):
    parts = {
        f"g-Q8_0-0000{n}-of-00002.gguf": hub_standin.gguf(**{"general.architecture": "llama"})
        + bytes(n)
        for n in (1, 2)
    }
    make(standin, "o/split", **parts)
    found = pull("o/split")
    (row,) = hub.list_cached(cache)
    assert (row.n_parts, row.n_parts_here, row.size) == (2, 2, sum(map(len, parts.values())))
    found.files[1].unlink()
    (row,) = hub.list_cached(cache)
    assert (row.n_parts, row.n_parts_here) == (2, 1)
    assert hub.remove_cached("o/split:Q8_0", cache) > 0 and hub.list_cached(cache) == []


def test_one_file_of_two_commits_is_one_row(hub, pull, cache, standin):
    make(standin, "o/new", **{"g-Q8_0.gguf": hub_standin.gguf(**{"general.architecture": "llama"})})
    pull("o/new")
    make(standin, "o/new", **{"README.md": b"more"})
    new = pull("o/new")
    (row,) = hub.list_cached(cache)
    assert row.commit == new.commit


def test_unfinished_downloads(hub, pull, cache):
    def stop(name, done, total):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        pull(PAIR, progress=stop)
    (path,) = hub.unfinished(cache)
    assert path.stat().st_size > 0 and hub.list_cached(cache) == []
    pull(PAIR)
    assert hub.unfinished(cache) == []


# ---- rm ----


def names(hub, cache):
    return [row.name for row in hub.list_cached(cache)]


def test_a_file_goes_and_the_others_stay(hub, pull, cache, tiny_target):
    pull(PAIR)
    size = tiny_target.stat().st_size
    freed = hub.remove_cached(f"{PAIR}:q4_0", cache)  # the model: its drafter has a name too
    assert size <= freed < size + 1000 and names(hub, cache) == [f"{PAIR}:{ASSISTANT}"]
    assert len([path for path in cache.rglob("blobs/*")]) == 1
    assert pull(PAIR).path.exists()


def test_a_pattern(hub, pull, cache):
    pull(PAIR)
    hub.remove_cached(f"{PAIR}:*.gguf", cache)
    assert not (cache / f"models--{PAIR.replace('/', '--')}").exists()


def test_a_repository_goes(hub, pull, cache):
    pull(PAIR)
    pull(ALONE)
    assert hub.remove_cached(PAIR, cache) > 10_000_000
    assert {name.partition(":")[0] for name in names(hub, cache)} == {ALONE, SISTER}


def test_what_is_not_there(hub, pull, cache, pillion, refused):
    pull(PAIR)
    sentence = refused(pillion.NotOnHubError, hub.remove_cached, "o/none", cache)
    assert sentence == f"the cache {cache} has no o/none; it has {PAIR}"
    sentence = refused(pillion.NotOnHubError, hub.remove_cached, f"{PAIR}:Q8_0", cache)
    assert sentence == f"the cache has no Q8_0 of {PAIR}; it has {TARGET}, {ASSISTANT}"
    assert refused(pillion.UsageError, hub.remove_cached, "x", cache).startswith("name is 'x'")
    assert len(names(hub, cache)) == 2
