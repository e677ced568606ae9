"""`Replica`: one model and its server inside an actor of Ray Serve."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ...errors import BackendError, UsageError
from ...server import ServerSettings
from ...server.app import app_of
from ...server.serving import Serving
from ...structured.bridge import is_installed
from .actor import opened
from .ray_metrics import Publisher


class Replica:
    """What `ray.serve.ingress` makes a deployment of. It opens the model when it is made.

    model, options: of `LLM`. settings: of the server.
    """

    def __init__(self, model: Any, settings: ServerSettings, options: Mapping[str, Any]) -> None:
        self._llm = opened(model, options)
        self._serving = Serving(settings)
        if is_installed():  # seconds for a large vocabulary, in which the first user would wait
            with contextlib.suppress(UsageError):  # a request for a grammar is told why
                self._llm.structured.prepare()
        self._serving.take(self._llm)
        self._publisher = Publisher(self._llm.engine)

    def __serve_build_asgi_app__(self) -> Any:
        """Ray Serve asks for the ASGI application once the constructor is done."""
        return app_of(self._serving)

    def check_health(self) -> None:
        """Ray Serve replaces a replica whose check raises."""
        if self._llm.closed or self._serving.state == "failed":
            raise BackendError("the replica's device was lost, or its model was closed")

    def __del__(self) -> None:
        """Ray Serve calls it when the answers under way are done."""
        for part in ("_publisher", "_serving", "_llm"):
            found = getattr(self, part, None)
            if found is not None:
                found.close()
