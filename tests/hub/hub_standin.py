"""A stand-in of huggingface.co for tests: the requests that `huggingface_hub` makes to find and
fetch the files of models, on a port of this machine.

    python tests/hub/hub_standin.py --port 0 --folder DIR [--fill]

prints its address; set HF_ENDPOINT to it. Each folder DIR/OWNER/NAME is a repository. Its file
`_repo.json`, if there is one, may hold: gated (true), private (true), token (the one that opens
it), base_model, branches (more names of its only commit). --fill makes the repositories of `fill`
there.

Large files answer as on the hub: the address of a file redirects to another host, which knows
ranges. `Standin.faults` breaks answers off, changes bytes, or answers with a status.
"""

import argparse
import hashlib
import json
import re
import shutil
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "hf_standin"
LFS = (".gguf", ".safetensors", ".bin")
CHUNK = 1 << 16


@dataclass
class Faults:
    """What goes wrong. Names are those of files in their repository."""

    break_after: dict = field(default_factory=dict)
    """file: bytes of one answer after which the connection breaks."""
    breaks: int = 1
    """How many answers break."""
    stall_after: dict = field(default_factory=dict)
    """file: bytes after which nothing more comes, until `go_on` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)
    flipped: set = field(default_factory=set)
    """Files whose last byte comes changed."""
    status: dict = field(default_factory=dict)
    """file: the statuses of its next answers."""
    no_ranges: bool = False
    xet: bool = False
    """Large files also have an address in Xet's storage, which does not answer."""
    no_hashes: bool = False
    """Listings without sizes and hashes, as of some mirrors."""


class Standin:
    """A running stand-in; a context."""

    def __init__(self, folder, port=0):
        self.folder = Path(folder)
        self.faults = Faults()
        self.requests = []
        """(method, path, Range) of each request."""
        self.tokens_at_the_cdn = []
        """Tokens that went to the other host, where they must not go."""
        self._hashes = {}
        handler = type("Bound", (Handler,), {"standin": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.cdn = f"http://localhost:{self.port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.faults.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def serve_forever(self):
        self._server.serve_forever()

    def served(self, method, part):
        """The ranges of the requests whose path holds `part`."""
        return [where for verb, path, where in self.requests if verb == method and part in path]

    # ---- repositories ----

    def repo(self, name):
        folder = self.folder / name
        return folder if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and folder.is_dir() else None

    def about(self, folder):
        path = folder / "_repo.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def files(self, folder):
        return {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "_repo.json"
        }

    def hashes(self, path):
        """(SHA-256, git's SHA-1) of a file's bytes."""
        state = path.stat()
        key = (path, state.st_mtime_ns, state.st_size)
        if key not in self._hashes:
            data = path.read_bytes()
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            self._hashes[key] = (hashlib.sha256(data).hexdigest(), git)
        return self._hashes[key]

    def commit(self, folder):
        """Changes with the repository's files."""
        state = [(name, self.hashes(path)[0]) for name, path in self.files(folder).items()]
        return hashlib.sha1(repr(state).encode()).hexdigest()

    def etag(self, name, path):
        return self.hashes(path)[0 if name.endswith(LFS) else 1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    standin: Standin

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        standin = self.standin
        standin.requests.append((self.command, self.path, self.headers.get("Range")))
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        try:
            if path.startswith("/cdn/"):
                self._cdn(path.removeprefix("/cdn/"))
            elif path == "/api/models":
                self._search(query)
            elif path.startswith("/api/models/"):
                self._api(path.removeprefix("/api/models/"))
            elif "/resolve/" in path:
                self._resolve(*path.lstrip("/").split("/resolve/", 1))
            else:
                self._error(404, "", "There is nothing here")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # ---- the API ----

    def _search(self, query):
        found = []
        for folder in sorted(self.standin.folder.glob("*/*")):
            name = folder.relative_to(self.standin.folder).as_posix()
            author, search = query.get("author"), query.get("search", "").lower()
            fits = author in (None, folder.parent.name) and search in name.lower()
            if folder.is_dir() and fits and not self.standin.about(folder).get("private"):
                found.append({"id": name, "modelId": name, "author": folder.parent.name})
        self._json(found[: int(query.get("limit", 1000))])

    def _api(self, path):
        owner, name, *rest = path.split("/")
        folder = self._opened(f"{owner}/{name}")
        if folder is None:
            return
        if rest == ["refs"]:
            target = self.standin.commit(folder)
            names = ["main", *self.standin.about(folder).get("branches", [])]
            branches = [
                {"name": one, "ref": f"refs/heads/{one}", "targetCommit": target} for one in names
            ]
            self._json({"branches": branches, "converts": [], "tags": []})
        elif not rest or (rest[0] in ("revision", "tree") and len(rest) == 2):
            if rest and not self._known(folder, rest[1]):
                return
            if rest and rest[0] == "tree":
                self._json([self._entry(*one) for one in self.standin.files(folder).items()])
            else:
                self._json(self._info(f"{owner}/{name}", folder))
        else:
            self._error(404, "", "There is no such call")

    def _info(self, name, folder):
        about = self.standin.about(folder)
        base = about.get("base_model")
        siblings = []
        for file, path in self.standin.files(folder).items():
            one = {"rfilename": file}
            if not self.standin.faults.no_hashes:
                entry = self._entry(file, path)
                one |= {"size": entry["size"], "blobId": entry["oid"]}
                if "lfs" in entry:
                    lfs = entry["lfs"]
                    one["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": 135}
            siblings.append(one)
        return {
            "_id": "0",
            "id": name,
            "modelId": name,
            "author": name.partition("/")[0],
            "sha": self.standin.commit(folder),
            "gated": "manual" if about.get("gated") else False,
            "private": bool(about.get("private")),
            "tags": ["gguf", *([f"base_model:{base}"] if base else [])],
            "cardData": {"base_model": base} if base else {},
            "siblings": siblings,
        }

    def _entry(self, file, path):
        sha256, git = self.standin.hashes(path)
        entry = {"type": "file", "path": file, "size": path.stat().st_size, "oid": git}
        if file.endswith(LFS):
            entry["lfs"] = {"oid": sha256, "size": entry["size"], "pointerSize": 135}
        return entry

    # ---- files ----

    def _resolve(self, name, rest):
        folder = self._opened(name)
        if folder is None:
            return
        revision, _, file = rest.partition("/")
        if not self._known(folder, revision):
            return
        about = self.standin.about(folder)
        if about.get("gated") and not self._has_token(about):
            status = 403 if "Authorization" in self.headers else 401
            self._error(status, "GatedRepo", f"Access to model {name} is restricted")
            return
        path = self.standin.files(folder).get(file)
        commit = {"X-Repo-Commit": self.standin.commit(folder)}
        if path is None:
            self._error(404, "EntryNotFound", "Entry not found", commit)
            return
        statuses = self.standin.faults.status.get(file)
        if statuses:
            self._error(statuses.pop(0), "", "The stand-in was told to say this")
            return
        etag = self.standin.etag(file, path)
        if not file.endswith(LFS):
            self._bytes(file, path, {**commit, "ETag": f'"{etag}"'})
            return
        place = urllib.parse.quote(f"{name}/{file}")
        if self.standin.faults.xet:
            commit["X-Xet-Hash"] = etag
            commit["X-Xet-Refresh-Route"] = f"{self.standin.url}/api/xet-read-token"
        self._head(
            302,
            {
                **commit,
                "X-Linked-Etag": f'"{etag}"',
                "X-Linked-Size": str(path.stat().st_size),
                "Location": f"{self.standin.cdn}/cdn/{place}",
                "Content-Length": "0",
            },
        )

    def _cdn(self, place):
        if "Authorization" in self.headers:
            self.standin.tokens_at_the_cdn.append(self.headers["Authorization"])
        owner, name, file = place.split("/", 2)
        path = self.standin.folder / owner / name / file
        self._bytes(file, path, {"ETag": f'"{self.standin.hashes(path)[0]}"'})

    def _bytes(self, file, path, headers):
        faults = self.standin.faults
        data = path.read_bytes()
        if file in faults.flipped:
            data = data[:-1] + bytes([data[-1] ^ 1])
        size, status = len(data), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked and not faults.no_ranges:
            first, last = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
            if first >= size:
                self._head(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
                return
            data, status = data[first : last + 1], 206
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self._head(status, {**headers, "Accept-Ranges": "bytes", "Content-Length": str(len(data))})
        if self.command == "HEAD":
            return
        limit, stall = len(data), faults.stall_after.get(file, len(data))
        whole = not asked or not asked[2]  # a look at the head never breaks
        if whole and file in faults.break_after and faults.breaks > 0:
            limit, faults.breaks = min(limit, faults.break_after[file]), faults.breaks - 1
        for at in range(0, limit, CHUNK):
            if at >= stall:
                faults.go_on.wait()
            self.wfile.write(data[at : min(at + CHUNK, limit)])
        if limit < len(data):
            self.close_connection = True

    # ---- who may, and answers ----

    def _opened(self, name):
        """The repository's folder; None: the answer was given."""
        folder = self.standin.repo(name)
        about = {} if folder is None else self.standin.about(folder)
        given = self.headers.get("Authorization")
        if given == "Bearer hf_wrong":
            self._error(401, "", "Invalid credentials in Authorization header")
        elif folder is None or (about.get("private") and not self._has_token(about)):
            status = 404 if given else 401  # the hub does not tell strangers what there is
            self._error(status, "RepoNotFound", "Repository not found")
        else:
            return folder
        return None

    def _has_token(self, about):
        return self.headers.get("Authorization") == f"Bearer {about.get('token', TOKEN)}"

    def _known(self, folder, revision):
        names = ["main", self.standin.commit(folder)]
        if revision in [*names, *self.standin.about(folder).get("branches", [])]:
            return True
        self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return False

    def _error(self, status, code, message, more=()):
        body = json.dumps({"error": message}).encode()
        headers = {**dict(more), "X-Error-Message": message, "Content-Length": str(len(body))}
        if code:
            headers["X-Error-Code"] = code
        self._head(status, headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value):
        body = json.dumps(value).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


# ---- repositories to begin with ----

PAIR = "tiny/gemma-4-tiny-it-GGUF"
"""The embedded pair in one repository, with a projector."""
ALONE = "tiny/gemma-4-alone-it-GGUF"
"""The target alone. Its assistant is in SISTER."""
SISTER = "tiny/gemma-4-alone-it-assistant-GGUF"


def gguf(**metadata):
    """A GGUF file of strings and whole numbers, without tensors."""

    def text(value):
        return len(value.encode()).to_bytes(8, "little") + value.encode()

    data = b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + len(metadata).to_bytes(8, "little")
    for key, value in metadata.items():
        data += text(key)
        if isinstance(value, str):
            data += (8).to_bytes(4, "little") + text(value)
        else:
            data += (4).to_bytes(4, "little") + value.to_bytes(4, "little")
    return data


def projector():
    """A projector for images, as far as its header goes."""
    return gguf(**{"general.architecture": "clip", "general.type": "mmproj"})


def fill(folder):
    """Makes PAIR, ALONE and SISTER of the models of the package."""
    from pillion.models import TINY_ASSISTANT, TINY_TARGET

    places = [
        (PAIR, "gemma-4-tiny-it-Q4_0.gguf", TINY_TARGET),
        (PAIR, "gemma-4-tiny-it-assistant-Q4_0.gguf", TINY_ASSISTANT),
        (ALONE, "gemma-4-alone-it-Q4_0.gguf", TINY_TARGET),
        (SISTER, "gemma-4-alone-it-assistant-Q8_0.gguf", TINY_ASSISTANT),
    ]
    for repo, name, source in places:
        path = Path(folder) / repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        path.with_name("README.md").write_text(f"# {repo}\n")
    (Path(folder) / PAIR / "mmproj-F16.gguf").write_bytes(projector())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--folder", type=Path, required=True, help="DIR/OWNER/NAME/…")
    parser.add_argument("--fill", action="store_true", help="make the tiny repositories there")
    given = parser.parse_args()
    if given.fill:
        fill(given.folder)
    standin = Standin(given.folder, given.port)
    print(standin.url, flush=True)
    try:
        standin.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
