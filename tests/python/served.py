"""A server in a thread of this process, on a port of its own."""

import contextlib
import threading

import uvicorn
from patience import until

from pillion.server import ServerSettings, create_app
from pillion.server.running import address_of, bound_socket


@contextlib.contextmanager
def served(llm, **settings):
    """The address of a server over `llm`, and its application."""
    app = create_app(llm, ServerSettings(**settings))
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    listener = bound_socket("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield address_of(listener), app
    finally:
        server.should_exit = True
        thread.join(60)
        app.state.serving.close()
        listener.close()
