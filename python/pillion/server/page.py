"""`/`: the chat page."""

from __future__ import annotations

from fastapi import APIRouter, Response

from .serving import Serving

_TEXT = "pillion serves OpenAI's API here: /v1/chat/completions, /v1/models, /health\n"


def page_router(serving: Serving) -> APIRouter:
    """The page; it needs no key to be read."""
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(_TEXT, media_type="text/plain")

    return router
