"""A server for the page's tests that fails on command: the chat route's SSE from a script.

What it says beside that is what the page asks for: models, health, and the page itself.
"""

import asyncio
import contextlib
import json
import threading

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from patience import until
from pillion.server.page import page_router

DONE = "data: [DONE]\n\n"


def sse(value):
    return f"data: {json.dumps(value)}\n\n"


def delta(content=None, pieces=None, finish=None, **more):
    """One chunk; pieces: [[text, drafted], ...] of its content."""
    body = dict(more) if content is None else {"content": content, **more}
    chunk = {"choices": [{"index": 0, "delta": body, "finish_reason": finish}]}
    if pieces is not None:
        chunk["pillion"] = {"pieces": pieces}
    return sse(chunk)


def last(finish="stop", **figures):
    """The last chunk with a choice."""
    return sse({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], **figures})


def whole(text, finish="stop", **figures):
    """An answer in one chunk."""
    return [delta(text), last(finish, **figures), DONE]


def error_of(sentence, code=None):
    return {"error": {"message": sentence, "type": "x", "param": None, "code": code}}


class Stub:
    """answers: what the next requests get, in order: a list of SSE texts, which may hold floats
    (seconds to wait), `Stub.HOLD` (until the client leaves or `release` is set) and `Stub.BREAK`
    (the connection is cut); or a Response. The last one is repeated."""

    HOLD, BREAK = object(), object()

    def __init__(self):
        self.answers = [whole("Hello.")]
        self.bodies = []
        self.key = ""
        self.health = (200, {"status": "ok"})
        self.model = {"id": "stub", "meta": {"n_ctx": 2048}}
        self.left = 0  # clients that went before the end
        self.active = 0
        self.release = threading.Event()
        self.app = self._app()

    def _app(self):
        app = FastAPI()
        app.include_router(page_router())

        @app.get("/health")
        async def health():
            return JSONResponse(self.health[1], self.health[0])

        @app.get("/v1/models")
        async def models(request: Request):
            return self._refusal(request) or {"object": "list", "data": [self.model]}

        @app.post("/v1/chat/completions")
        async def chat(request: Request):
            refusal = self._refusal(request)
            if refusal:
                return refusal
            self.bodies.append(await request.json())
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if not isinstance(answer, list):
                return answer
            return StreamingResponse(self._said(answer), media_type="text/event-stream")

        return app

    def _refusal(self, request):
        if not self.key or request.headers.get("authorization") == f"Bearer {self.key}":
            return None
        return JSONResponse(error_of("the API key is missing or wrong"), 401)

    async def _said(self, answer):
        self.active += 1
        try:
            for part in answer:
                if part is Stub.HOLD:
                    while not self.release.is_set():
                        await asyncio.sleep(0.005)
                elif part is Stub.BREAK:
                    raise ConnectionError("the test cuts the connection")
                elif isinstance(part, float):
                    await asyncio.sleep(part)
                else:
                    yield part
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self.active -= 1


@contextlib.contextmanager
def served(app, port=0):
    """The address of an ASGI application that runs in a thread."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical")
    server = uvicorn.Server(config)
    server.config.timeout_graceful_shutdown = 1
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
