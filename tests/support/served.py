"""A server in a thread of this process, on a port of its own: over the embedded pair, or over the
fake library, whose model says what a test wants."""

import contextlib
import importlib
import threading

import httpx
import uvicorn
from patience import PATIENCE, until

END = 257  # the fake's token that ends a text
COUNTING = {
    "/v1/messages": "/v1/messages/count_tokens",
    "/v1/responses": "/v1/responses/input_tokens",
    "/v1/chat/completions": "/v1/chat/completions/input_tokens",
}


@contextlib.contextmanager
def served(package, llm, **settings):
    """The address of a server over `llm`, and its application. package: pillion, or the one over
    the fake."""
    server = importlib.import_module(f"{package.__name__}.server")
    running = importlib.import_module(f"{package.__name__}.server.running")
    app = server.create_app(llm, server.ServerSettings(**settings))
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    uvicorn_server = uvicorn.Server(config)
    listener = running.bound_socket("127.0.0.1", 0)
    sockets = {"sockets": [listener]}
    thread = threading.Thread(target=uvicorn_server.run, kwargs=sockets, daemon=True)
    thread.start()
    until(lambda: uvicorn_server.started)
    try:
        yield running.address_of(listener), app
    finally:
        uvicorn_server.should_exit = True
        thread.join(PATIENCE)
        app.state.serving.close()
        listener.close()


class Scripted:
    """A server whose model says what it is told to."""

    def __init__(self, url, llm, strings):
        self.url, self.llm, self._strings = url, llm, strings

    def post(self, path, body, **options):
        return httpx.post(self.url + path, json=body, timeout=PATIENCE, **options)

    def says(self, path, body, text, ends=True):
        """The answer to that request."""
        counted = self.post(COUNTING[path], body)
        assert counted.status_code == 200, counted.text
        said = [*text.encode(), *([END] if ends else ())]
        self._strings.script(counted.json()["input_tokens"], said)

    def next_says(self, text):
        """The answer to the next request, whatever it is."""
        engine, submit = self.llm.engine, self.llm.engine.submit

        def scripting(request):
            engine.submit = submit
            self._strings.script(len(request.prompt), [*text.encode(), END])
            return submit(request)

        engine.submit = scripting

    @property
    def prompt(self):
        """What the model was given last, and what it said."""
        return self.llm.detokenize(self.llm.context.tokens, special=True)
