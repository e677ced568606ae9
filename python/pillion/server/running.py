"""The running server: one uvicorn in one process, from the first socket to the last answer.

The first signal (SIGTERM, Ctrl-C) makes it refuse new requests and finish answers; those that take
too long get an error. The second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from ..errors import Cancelled, UsageError
from ..llm.llm import LLM
from ..structured.bridge import is_installed
from .app import app_of
from .serving import Serving

_KEEP_ALIVE = 75  # seconds, for a connection that may have another request
_LAST_WORDS = 5  # seconds in which error events of ended answers may go out

Load = Callable[[Callable[[], None]], LLM]
"""Opens the model. It calls its argument often, which raises when the server is to end."""


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket. host: a name, an address, or the path of a Unix socket.

    Raises UsageError if the port is in use or the address is not this machine's.
    """
    if "/" in host:
        return _unix_socket(host)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UsageError(f"host is {host}, which is no address: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            sentence = (
                f"port {port} of {host} is in use; name another one, or 0 for any that is free"
            )
            raise UsageError(sentence) from None
        raise UsageError(f"port {port} of {host} cannot be had: {error.strerror}") from None
    return listener


def _unix_socket(path: str) -> socket.socket:
    """For this user's programs only. A socket that nobody listens at is replaced."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path) == 0:
                    raise UsageError(f"{path} is in use by another server")
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise UsageError(f"{path} cannot be a socket: {error.strerror}") from None
    return listener


def address_of(listener: socket.socket) -> str:
    """The URL under which it is reached."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


class Running(uvicorn.Server):
    """Runs one server. serving: not ready yet. load: opens its model, in a thread. announce: called
    when requests are answered."""

    def __init__(self, serving: Serving, load: Load, announce: Callable[[LLM], object]) -> None:
        config = uvicorn.Config(
            app_of(serving),
            workers=1,
            http="h11",  # httptools, which uvicorn prefers, takes headers of any length
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_LAST_WORDS,
        )
        super().__init__(config)
        self.failure: BaseException | None = None
        """The error that ended the load."""
        self.unfinished = False
        """True if it ended before the model was loaded, or at once."""
        self.signal = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self._serving = serving
        self._load, self._announce = load, announce
        self._llm: LLM | None = None
        self._told = 0
        self._deadline = 0.0
        self._idle: dict[Any, float] = {}  # connections without a request, since when
        serving.drop = self._cut

    def serve_on(self, listener: socket.socket) -> None:
        """Runs until it is told to end. Raises what the load raised."""
        try:
            self.run(sockets=[listener])
        finally:
            self._serving.close()
            if self._llm is not None:
                self._llm.close()
        if self.failure is not None and not self._told:
            raise self.failure

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        loading = threading.Thread(target=self._loading, args=(self.loop,), name="pillion-load")
        loading.daemon = True
        loading.start()

    def _loading(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            found = self._load(self._raise_if_told)
            if is_installed():  # seconds for a large vocabulary, in which the first user would wait
                with contextlib.suppress(UsageError):  # a request for a grammar is told why
                    found.structured.prepare()
        except BaseException as error:
            failure = error
            with contextlib.suppress(RuntimeError):  # the loop may be over
                loop.call_soon_threadsafe(self._failed, failure)
            return
        try:
            loop.call_soon_threadsafe(self._loaded, found)
        except RuntimeError:
            found.close()

    def _raise_if_told(self) -> None:
        if self._told:
            raise Cancelled("the server was told to end while the model was loading")

    def _failed(self, error: BaseException) -> None:
        self.failure = error
        self._serving.state = "failed"
        self.should_exit = True

    def _loaded(self, llm: LLM) -> None:
        self._llm = llm
        if self._told:
            return
        self._serving.take(llm)
        self._announce(llm)

    # ---- the end ----

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._told += 1
        self.signal = sig

    async def on_tick(self, counter: int) -> bool:
        over = await super().on_tick(counter)
        if counter % 10 == 0:
            self._sweep(time.monotonic())
        return over or (self._told > 0 and self._ends())

    def _ends(self) -> bool:
        """True if nothing is left to wait for after it was told to end."""
        serving = self._serving
        if serving.state == "loading":
            self.unfinished = True
            return True
        if serving.state == "ready":
            serving.state = "draining"
            self._deadline = time.monotonic() + serving.settings.drain_timeout
        if self._told > 1:
            self.unfinished = self.force_exit = True
            serving.cancel_all("shutdown")
            for connection in list(self.server_state.connections):
                _abort(connection)
            return True
        if not serving.running:
            return True
        if time.monotonic() < self._deadline:
            return False
        serving.cancel_all("shutdown")
        return True

    def _sweep(self, now: float) -> None:
        """Cuts connections whose request does not begin: uvicorn has no limit for that. A
        connection that served a request may be kept longer."""
        first = self._serving.settings.body_timeout
        since: dict[Any, float] = {}
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                continue
            since[connection] = begun = self._idle.get(connection, now)
            if now - begun > (first if cycle is None else first + _KEEP_ALIVE):
                _abort(connection)
        self._idle = since

    def _cut(self, scope: Any) -> None:
        """Closes the connection of a request at once. What is not sent is dropped."""
        request = scope.get("pillion.request")
        for connection in list(self.server_state.connections):
            own = getattr(connection, "scope", None)
            if own and own.get("pillion.request") == request:
                _abort(connection)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        waiting = asyncio.create_task(super().shutdown(sockets))
        while not waiting.done():
            await asyncio.wait([waiting], timeout=0.05)
            if self._told > 1 and not self.force_exit:
                self.unfinished = self.force_exit = True
                for connection in list(self.server_state.connections):
                    _abort(connection)
        await waiting


def _abort(connection: Any) -> None:
    transport = getattr(connection, "transport", None)
    if transport is not None:
        transport.abort()


def exit_status(running: Running) -> int:
    """0 if answers could end, else the status that shells use for the signal."""
    return 128 + (running.signal or signal.SIGTERM) if running.unfinished else 0
