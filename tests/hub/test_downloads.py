"""Downloads that break, stop, come changed or find no room: what is said, what is kept, and that
the next call goes on from there."""

import errno
import re
import shutil
import threading
from collections import namedtuple

import pytest
from hub_standin import PAIR

TARGET = "gemma-4-tiny-it-Q4_0.gguf"


def unfinished(cache):
    return list(cache.rglob("*.incomplete"))


def test_a_break_in_the_middle(pull, standin, tiny_target):
    standin.faults.break_after, standin.faults.breaks = {TARGET: 3_000_000}, 3
    found = pull(PAIR, drafter=None)
    assert found.path.read_bytes() == tiny_target.read_bytes()
    ranges = standin.served("GET", "/cdn/")
    starts = [int(one[6:-1]) for one in ranges[1:]]
    assert ranges[0] is None and len(starts) == 3 and starts == sorted(starts)
    assert 2_900_000 < starts[0] <= 3_000_000


def test_breaks_without_end(pull, standin, cache, pillion, refused, tiny_target):
    standin.faults.break_after, standin.faults.breaks = {TARGET: 0}, 100
    sentence = refused(pillion.HubUnreachableError, pull, PAIR)
    assert sentence.startswith(f"127.0.0.1:{standin.port} cannot be reached (")
    standin.faults.break_after, standin.faults.breaks = {TARGET: 4_000_000}, 1
    standin.faults.status = {TARGET: AfterTheFirst([503] * 9)}
    sentence = refused(pillion.HubUnreachableError, pull, PAIR)
    assert "of 9.9 MiB of" in sentence and "pull again to go on from there" in sentence
    (part,) = unfinished(cache)
    kept = part.stat().st_size
    standin.faults.status = {}
    standin.requests.clear()
    assert pull(PAIR, drafter=None).path.read_bytes() == tiny_target.read_bytes()
    assert standin.served("GET", "/cdn/") == [f"bytes={kept}-"] and not unfinished(cache)


class AfterTheFirst(list):
    """Statuses from the second answer on."""

    begun = False

    def __bool__(self):
        before, self.begun = self.begun, True
        return before and len(self) > 0


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_a_stop_keeps_what_came(pull, standin, cache, raised, tiny_target):
    def stop(name, done, total):
        if done > 4_000_000:
            raise raised

    with pytest.raises(raised):
        pull(PAIR, progress=stop)
    (part,) = unfinished(cache)
    kept = part.stat().st_size
    assert kept > 4_000_000
    standin.requests.clear()
    seen = []
    found = pull(PAIR, drafter=None, progress=lambda name, done, total: seen.append(done))
    assert found.path.read_bytes() == tiny_target.read_bytes() and min(seen) > kept
    assert standin.served("GET", "/cdn/") == [f"bytes={kept}-"]


def test_a_changed_byte(pull, standin, cache, pillion, refused):
    standin.faults.flipped = {TARGET}
    sentence = refused(pillion.ChecksumError, pull, PAIR)
    assert sentence.startswith(f"{TARGET} of {PAIR} came with the checksum ")
    assert "it was not kept" in sentence
    assert not unfinished(cache) and not list(cache.rglob("*.gguf"))
    standin.faults.flipped = set()
    assert pull(PAIR).drafter is not None


def test_a_spoiled_beginning(pull, standin, cache, pillion, refused):
    """What an earlier download left is part of the checksum."""
    pull(PAIR, drafter=None)
    (blob,) = [path for path in cache.rglob("blobs/*")]
    shutil.rmtree(cache / f"models--{PAIR.replace('/', '--')}" / "snapshots")
    blob.rename(blob.with_name(f"{blob.name}.incomplete"))
    (part,) = unfinished(cache)
    part.write_bytes(b"GGUF" + bytes(1000))
    refused(pillion.ChecksumError, pull, PAIR)
    assert not unfinished(cache)


def test_a_beginning_longer_than_the_file(pull, standin, cache, pillion, refused):
    pull(PAIR, drafter=None)
    (blob,) = [path for path in cache.rglob("blobs/*")]
    shutil.rmtree(cache / f"models--{PAIR.replace('/', '--')}" / "snapshots")
    part = blob.with_name(f"{blob.name}.incomplete")
    part.write_bytes(blob.read_bytes() + b"more")
    blob.unlink()
    assert "10427556 bytes" in refused(pillion.ChecksumError, pull, PAIR)
    assert pull(PAIR, drafter=None).path.exists()


def test_a_host_without_ranges(pull, standin, tiny_target):
    standin.faults.break_after, standin.faults.no_ranges = {TARGET: 3_000_000}, True
    assert pull(PAIR, drafter=None).path.read_bytes() == tiny_target.read_bytes()
    assert len(standin.served("GET", "/cdn/")) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_trouble_that_passes(pull, standin, status):
    standin.faults.status = {TARGET: [status]}
    assert pull(PAIR, drafter=None).path.exists()


def test_a_list_without_sizes_and_hashes(pull, standin, pillion, refused, cache):
    standin.faults.no_hashes = True
    standin.faults.flipped = {TARGET}
    refused(pillion.ChecksumError, pull, PAIR)  # the hash of the file's own answer
    standin.faults.flipped = set()
    assert pull(PAIR).drafter is not None


def test_no_room(pull, cache, pillion, refused, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1000))
    sentence = refused(pillion.DiskFullError, pull, PAIR)
    assert sentence.startswith(f"{TARGET} needs 9.9 MiB, and {cache}")
    assert "1000 B free: make room, or set HF_HOME" in sentence


def test_the_disk_fills_up(pull, cache, pillion, refused, monkeypatch):
    from pillion.hub.downloading import Download

    take = Download._take

    def full(self, file, chunk):
        if self._have > 2_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        take(self, file, chunk)

    monkeypatch.setattr(Download, "_take", full)
    sentence = refused(pillion.DiskFullError, pull, PAIR)
    after = re.search(r"is full after ([0-9.]+) MiB of", sentence)  # a piece may end behind it
    assert 1.9 <= float(after[1]) < 2.5 and "which are kept" in sentence
    assert unfinished(cache)
    monkeypatch.undo()


def test_two_at_a_time_fetch_once(pull, standin):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(pull(PAIR, drafter=None))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.path for one in found}) == 1 and len(found) == 4
    assert len(standin.served("GET", "/cdn/")) == 1


def test_what_only_huggingface_hub_can_fetch(pull, standin, monkeypatch, tiny_target, capfd):
    """Files beyond the size of plain answers."""
    from pillion.hub import fetching

    monkeypatch.setattr(fetching, "PLAIN_MAX", 0)
    seen = []
    found = pull(PAIR, drafter=None, progress=lambda *step: seen.append(step))
    size = tiny_target.stat().st_size
    assert found.path.read_bytes() == tiny_target.read_bytes()
    assert seen[-1] == (TARGET, size, size) and capfd.readouterr().err == ""


def test_files_in_xet_storage_come_by_plain_requests(pull, standin, tiny_target):
    """So they resume too."""
    standin.faults.xet = True
    standin.faults.break_after = {TARGET: 3_000_000}
    assert pull(PAIR).path.read_bytes() == tiny_target.read_bytes()
    assert standin.served("GET", "xet-read-token") == []


def test_a_cache_that_cannot_be_written(pull, pillion, refused, tmp_path):
    (tmp_path / "file").write_text("")
    sentence = refused(pillion.HubError, pull, PAIR, cache_dir=tmp_path / "file")
    assert sentence.startswith("the cache of the hub cannot be used: ")
    assert str(tmp_path / "file") in sentence
    sentence = refused(pillion.HubError, pillion.hub.list_cached, tmp_path / "file")
    assert sentence == f"the cache {tmp_path / 'file'} is no folder"
