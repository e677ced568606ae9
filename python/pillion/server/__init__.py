"""The HTTP server: OpenAI's API over an `LLM`, in one process (extra `server`).

`create_app` makes the application, for `pillion serve` and for servers of other programs. `import
pillion` imports nothing of this.
"""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import UsageError
from .settings import ServerSettings

__all__ = ["ServerSettings", "create_app", "needs_extra"]

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def needs_extra() -> None:
    """Raises UsageError if one of the server's packages is missing."""
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UsageError(
                f"the server needs {name}, which is not installed (Python 3.11 or later): "
                "pip install 'pillion[server]'"
            ) from error


def create_app(llm: Any, settings: ServerSettings | None = None) -> Any:
    """Makes the ASGI application over an open LLM. It does not close the LLM.

    Raises UsageError without the extra `server`, and for settings that contradict one another.
    """
    needs_extra()
    from .app import app_of
    from .serving import Serving

    serving = Serving(settings or ServerSettings())
    serving.take(llm)
    return app_of(serving)
