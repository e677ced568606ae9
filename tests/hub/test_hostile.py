"""A hub that answers anything: each is one sentence, and nothing is written outside the cache's
folders, without end, or to a terminal."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "a" * 40
FILE = "m-Q4_0.gguf"
DATA = b"GGUF" + (3).to_bytes(4, "little") + bytes(16) + b"z" * 100_000
SHA256 = hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        try:
            self.server.info(self) if self.path.startswith("/api/") else self.server.file(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def give(self, status=200, body=DATA, /, **headers):
        given = {"ETag": f'"{SHA256}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.send_response(status)
        for name, value in given.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def listing(more=None, **of_file):
    lfs = {"sha256": SHA256, "size": len(DATA), "pointerSize": 1}
    file = {"rfilename": FILE, "size": len(DATA), "blobId": "b" * 40, "lfs": lfs, **of_file}
    info = {"id": "a/b", "modelId": "a/b", "sha": COMMIT, "siblings": [file], "cardData": {}}
    return said(json.dumps({**info, **(more or {})}).encode())


def said(body):
    return lambda handler: handler.give(200, body, Content_Type="application/json")


@pytest.fixture
def hostile():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    server.info, server.file = listing(), Handler.give
    server.stopped = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.stopped.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def pull(pillion, hostile, cache, monkeypatch):
    from pillion.hub import downloading

    monkeypatch.setattr(downloading, "WAITS", (0.0, 0.0))

    def call(**options):
        given = {"endpoint": hostile.url, "cache_dir": cache, "drafter": None, **options}
        return pillion.hub.pull("a/b", **given)

    return call


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"null", b"[]", b"3", b"[" * 100_000, b'{"id": "a/b", "siblings": 3}']
)
def test_listings_that_are_none(pull, hostile, pillion, refused, body):
    hostile.info = said(body)
    assert "answers what no hub answers (" in refused(pillion.HubUnreachableError, pull)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": "x"},
        {"size": -5},
        {"size": 10**30},
        {"rfilename": 3},
        {"lfs": 3},
        {"lfs": {"sha256": 3, "size": 5, "pointerSize": 1}},
    ],
)
def test_files_of_a_listing_that_are_none(pull, hostile, pillion, refused, wrong):
    hostile.info = listing(**wrong)
    assert "answers what no hub answers (" in refused(pillion.HubUnreachableError, pull)


@pytest.mark.parametrize(
    "name", ["../../m.gguf", "m\x1b[2J.gguf", "a\0.gguf", "x" * 5000 + ".gguf"]
)
def test_names_that_cannot_be_shown_or_leave_the_folder(pull, hostile, pillion, refused, name):
    hostile.info = listing(rfilename=name)
    assert refused(pillion.NotOnHubError, pull).startswith("a/b has no GGUF file")


@pytest.mark.parametrize("sha256", ["../../x", "", "z" * 500])
def test_hashes_that_are_no_file_name(pull, hostile, pillion, refused, sha256):
    hostile.info = listing(lfs={"sha256": sha256, "size": 5, "pointerSize": 1})
    assert f"gives {FILE} the ETag" in refused(pillion.HubUnreachableError, pull)


@pytest.mark.parametrize("base", [3, ["-gguf" * 200_000, "a/" + "-gguf" * 200_000, 1, "../../x/y"]])
def test_base_models_that_are_none(pull, hostile, base):
    hostile.info = listing({"cardData": {"base_model": base}})
    assert pull(drafter="auto").no_drafter


def test_a_body_without_end(pull, hostile, cache, pillion, refused):
    def endless(handler):
        handler.give(200, DATA, Content_Length=str(10**12))
        while handler.command == "GET":
            handler.wfile.write(bytes(1 << 16))

    hostile.file = endless
    assert f"the hub has {len(DATA)}" in refused(pillion.ChecksumError, pull)
    assert not list(cache.rglob("*.incomplete"))


def test_a_first_piece_of_one_byte(pull, hostile):
    def slow(handler):
        handler.give(200, b"", Content_Length=str(len(DATA)))
        if handler.command == "GET":
            for at in range(6):
                handler.wfile.write(DATA[at : at + 1])
                handler.wfile.flush()
                threading.Event().wait(0.02)
            handler.wfile.write(DATA[6:])

    hostile.file = slow
    assert pull().path.read_bytes() == DATA


def test_a_magic_that_breaks_off(pull, hostile, pillion, refused):
    hostile.info = listing(size=2)
    hostile.file = lambda handler: handler.give(200, b"GX")
    assert refused(pillion.ModelFileError, pull).endswith("it begins with b'GX'")


def test_another_range_than_was_asked_for(pull, hostile, pillion, refused):
    """The bytes would stand in the wrong place: it begins anew, and not forever."""

    def half(handler):
        if handler.headers.get("Range"):
            handler.give(206, DATA, Content_Range=f"bytes 0-{len(DATA) - 1}/{len(DATA)}")
        else:
            body = DATA[:5000] if handler.command == "GET" else DATA
            handler.give(200, body, Content_Length=str(len(DATA)))
            handler.close_connection = True

    hostile.file = half
    refused(pillion.HubUnreachableError, pull)


def test_a_complete_file_without_size_and_hash(pull, hostile, cache):
    """An earlier call brought all of it and was killed: 416 is the answer to the rest."""
    hostile.info = listing(size=None, lfs=None, blobId="weak")
    partial = cache / "models--a--b" / "blobs" / "weak.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA)

    def ranges(handler):
        beyond = handler.headers.get("Range") == f"bytes={len(DATA)}-"
        handler.give(*((416, b"") if beyond else ()), ETag='"weak"')

    hostile.file = ranges
    assert pull().path.read_bytes() == DATA


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_what_a_hub_says_is_shown_without_control_characters(
    pull, hostile, pillion, refused, status
):
    hostile.file = lambda handler: handler.give(
        status, b"", X_Error_Message="\x1b]0;title\x07" + "m" * 5000
    )
    kinds = {401: pillion.HubAccessError, 403: pillion.HubAccessError}
    sentence = refused(kinds.get(status, pillion.HubUnreachableError), pull)
    assert sentence.isprintable() and len(sentence) < 600
    assert "://" not in sentence  # an address may be signed


def test_a_hub_that_cannot_be_asked_again(pull, hostile, pillion, refused, monkeypatch):
    """The file came, and its place in the snapshot cannot be made: it is not absent."""
    from huggingface_hub import file_download

    def refuses(handler):
        handler.give(503, b"") if handler.command == "HEAD" else handler.give()

    monkeypatch.setattr(file_download, "HF_HUB_ETAG_TIMEOUT", 0.1, raising=False)
    monkeypatch.setattr("time.sleep", lambda _: None)
    hostile.file = refuses
    assert "cannot be reached (HTTP status 503)" in refused(pillion.HubUnreachableError, pull)


def test_another_commit_than_was_asked_for(pull, hostile, pillion, refused):
    hostile.file = lambda handler: handler.give(X_Repo_Commit="../../../outside")
    refused(pillion.HubUnreachableError, pull)


@pytest.mark.parametrize("secret", [b"hf_secret", "hf_sec\nret", "hf_secrét", "hf_" + "x" * 5000])
def test_a_token_is_never_shown(pull, pillion, secret):
    with pytest.raises(pillion.PillionError, match="token") as caught:
        pull(token=secret)
    assert "hf_" not in str(caught.value).replace("HF_TOKEN", "")
    assert "\n" not in str(caught.value)


def test_the_password_of_an_endpoint_is_never_shown(pull, pillion, caplog):
    with pytest.raises(pillion.HubUnreachableError) as caught:
        pull(endpoint="http://user:secret@127.0.0.1:1")
    assert "secret" not in str(caught.value) and "secret" not in caplog.text
    with pytest.raises(pillion.UsageError) as caught:
        pull(endpoint="ftp://user:secret@host")
    assert "secret" not in str(caught.value)


def drip(handler, begin, part, seconds):
    """An answer that begins like this, and goes on in parts, one every so many seconds."""
    handler.send_response(200)
    handler.send_header("ETag", f'"{SHA256}"')
    handler.send_header("X-Repo-Commit", COMMIT)
    handler.send_header("Content-Length", str(len(DATA)))
    handler.end_headers()
    if handler.command == "HEAD":
        return
    handler.wfile.write(begin)
    while not handler.server.stopped.wait(seconds):
        handler.wfile.write(part)


@pytest.fixture
def limits(pillion, monkeypatch):
    from pillion.hub import limits

    monkeypatch.setattr(limits, "MOST_BYTES", 50_000)
    monkeypatch.setattr(limits, "SECONDS", 0.5)
    return limits


def test_a_listing_without_end(pull, hostile, pillion, refused, limits):
    hostile.info = said(b'{"id": "' + b"x" * 10**6)
    assert "more than 48.8 KiB" in refused(pillion.HubUnreachableError, pull)


def test_a_listing_that_drips(pull, hostile, pillion, refused, limits):
    hostile.info = lambda handler: drip(handler, b"{", b" ", 0.02)
    sentence = refused(pillion.HubUnreachableError, pull)
    assert "did not end its answer about a/b in 0.5 s" in sentence


def test_a_search_without_end(pillion, hostile, cache, refused, limits):
    hostile.info = said(b"[" + b" " * 10**6)

    def search():
        pillion.hub.client.Hub(endpoint=hostile.url, cache_dir=cache).search("a", "b")

    assert "more than 48.8 KiB" in refused(pillion.HubUnreachableError, search)


def test_limits_are_of_our_calls_only(hostile, limits):
    from huggingface_hub import get_session

    with limits.limited(None):
        pass
    hostile.info = said(b"x" * 10**5)
    assert len(get_session().get(f"{hostile.url}/api/models").content) == 10**5


def test_a_file_that_drips(pull, hostile, pillion, refused, monkeypatch):
    from pillion.hub import downloading

    monkeypatch.setattr(downloading, "STALL_SECONDS", 0.3)
    hostile.file = lambda handler: drip(handler, DATA[:1000], b"z", 0.02)
    sentence = refused(pillion.HubUnreachableError, pull)
    assert "less than 64.0 KiB in 0.3 s" in sentence and "pull again" in sentence


LONG = "x" * 10**6


@pytest.mark.parametrize(
    "options",
    [
        {"filename": "[" * 100_000},
        {"filename": "a\0b"},
        {"revision": LONG},
        {"drafter": LONG},
        {"drafter": "a\0b"},
        {"additional_files": [LONG]},
        {"cache_dir": "~nosuchuser/x"},
        {"endpoint": "http://["},
        {"endpoint": "garbage"},
        {"endpoint": LONG},
    ],
)
def test_texts_that_name_nothing(pull, pillion, refused, options):
    (name,) = options
    sentence = refused(pillion.UsageError, pull, **options)
    assert name in sentence and len(sentence) < 300


def test_a_cache_whose_name_is_too_long(pull, pillion, refused):
    for call in (pull, pillion.hub.list_cached, pillion.hub.unfinished):
        refused(pillion.HubError, call, cache_dir="/" + LONG)
