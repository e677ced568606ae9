"""A server in a thread of the test, and clients that speak HTTP byte by byte."""

import contextlib
import importlib
import json
import signal
import socket
import threading

import httpx

from patience import PATIENCE, until

CHAT = {"messages": [{"role": "user", "content": "Read Genesis 1."}], "temperature": 0}
TEXT = {"prompt": "Genesis 1\n\nIn the beginning", "temperature": 0}


class Server:
    """package: pillion, or the one over the fake library."""

    def __init__(self, package, load, **settings):
        def part(name):
            return importlib.import_module(f"{package.__name__}.server.{name}")

        running, serving = part("running"), part("serving")
        settings = part("settings").ServerSettings(**{"host": "127.0.0.1", **settings})
        self.serving = serving.Serving(settings)
        self.announced = threading.Event()
        self.listener = running.bound_socket(settings.host, 0)
        self.url = running.address_of(self.listener)
        self.running = running.Running(self.serving, load, lambda llm: self.announced.set())
        self.error = None
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def _serve(self):
        try:
            self.running.serve_on(self.listener)
        except BaseException as error:
            self.error = error

    def start(self, ready=True):
        self.thread.start()
        until(lambda: self.error or (self.announced.is_set() if ready else self.running.started))
        if self.error:
            raise self.error
        return self

    def tell(self, sig=signal.SIGTERM):
        """As if the process got the signal."""
        self.running.handle_exit(sig, None)

    def join(self):
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def close(self):
        self.client.close()
        self.tell()
        self.tell()
        self.join()

    # ---- clients ----

    def get(self, path, **options):
        return self.client.get(path, **options)

    def post(self, path, body, **options):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return self.client.post(path, content=data, headers=headers, **options)

    def raw(self):
        """A connection of one's own."""
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), PATIENCE)

    def send(self, path, body, extra=""):
        """A connection on which that request was sent."""
        data = json.dumps(body).encode() if not isinstance(body, bytes) else body
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"{extra}Content-Length: {len(data)}\r\n\r\n"
        connection = self.raw()
        connection.sendall(head.encode() + data)
        return connection

    def states(self):
        """What the requests under way do."""
        running = list(self.serving.running)
        return [one.state for answers in running for one in answers.generations]


@contextlib.contextmanager
def served(package, load, **settings):
    server = Server(package, load, **settings)
    try:
        yield server.start()
    finally:
        server.close()


def events(response):
    """The data of a stream's events; [DONE] as it is."""
    found = []
    for part in response.text.split("\n\n"):
        if part.startswith("data: "):
            text = part.removeprefix("data: ")
            found.append(text if text == "[DONE]" else json.loads(text))
    return found


def read_all(connection):
    """What comes until the server closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def read_until(connection, mark):
    """What comes, until `mark` is in it."""
    text = b""
    while mark not in text:
        part = connection.recv(1 << 16)
        assert part, text
        text += part
    return text


def error_of(response, status, code=None):
    """The error object of an answer, which has that status."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert code is None or error["code"] == code, error
    return error
