"""What `remove_cached` must leave: files of other programs, and what lies outside the cache."""

import shutil

from hub_standin import PAIR

FILE = "gemma-4-tiny-it-Q4_0.gguf"


def test_files_of_other_programs_stay(pull, cache, pillion):
    snapshot = pull(PAIR).path.parent
    blob = snapshot.parent.parent / "blobs" / "config"
    blob.write_text("{}")
    (snapshot / "config.json").symlink_to(blob)
    freed = pillion.hub.remove_cached(f"{PAIR}:*.gguf", cache)
    assert freed > 10_000_000 and (snapshot / "config.json").read_text() == "{}"
    assert not pillion.hub.list_cached(cache)
    pillion.hub.remove_cached(PAIR, cache)
    assert not snapshot.exists()


def test_a_cache_without_links(pull, cache, pillion):
    """As on disks that have none: the snapshot holds the files themselves."""
    path = pull(PAIR).path
    folder = path.parent.parent.parent
    for one in list(path.parent.iterdir()):
        data = one.read_bytes()
        one.unlink()
        one.write_bytes(data)
    shutil.rmtree(folder / "blobs")
    assert pillion.hub.remove_cached(f"{PAIR}:{FILE}", cache) > 10_000_000
    assert [row.file for row in pillion.hub.list_cached(cache)] != [FILE]


def test_links_to_elsewhere_are_not_followed(pull, cache, pillion, tmp_path):
    snapshot = pull(PAIR).path.parent
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / FILE).write_text("mine")
    (snapshot.parent / ("b" * 40)).symlink_to(outside)
    (snapshot / "folder").symlink_to(outside)
    pillion.hub.remove_cached(f"{PAIR}:{FILE}", cache)
    pillion.hub.remove_cached(PAIR, cache)
    assert (outside / FILE).read_text() == "mine" and not snapshot.exists()
