"""Puts the application together: the guard, the routes, errors in one shape, OpenAPI."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, FastAPI, Response
from fastapi import Request as HttpRequest
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from .. import version
from ..errors import PillionError
from .api_errors import ApiError, ClientGone
from .embeddings import EmbeddingsRequest, embeddings_router
from .info_routes import info_router, models_router, token_router
from .messages_api import CountRequest, MessagesRequest, messages_router
from .middleware import Guard
from .openai_routes import openai_router
from .openapi import describe
from .page import page_router
from .responses import ResponsesRequest, responses_router
from .schemas import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    Fields,
    TemplateRequest,
    TokenizeRequest,
)
from .serving import Serving
from .sse import json_bytes

Router = Callable[[Serving], APIRouter]

routers: list[Router] = [info_router, token_router, page_router, messages_router]
"""Routers with their whole paths. Other APIs add their own."""

schemas: list[type[Fields]] = [
    ChatRequest, CompletionRequest, TokenizeRequest, DetokenizeRequest, TemplateRequest,
    MessagesRequest, CountRequest, ResponsesRequest, EmbeddingsRequest,
]  # fmt: skip
"""Models that `openapi_extra` names."""


def app_of(serving: Serving, more: Sequence[Router] = ()) -> FastAPI:
    """The ASGI application of a server."""
    app = FastAPI(
        title="pillion",
        version=version(),
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.serving = serving
    openai: list[Router] = [openai_router, models_router, responses_router, embeddings_router]
    for make in openai:
        app.include_router(make(serving), prefix="/v1")
        app.include_router(make(serving), include_in_schema=False)
    for make in (*routers, *more):
        app.include_router(make(serving))
    _explain_errors(app, serving)
    describe(app, schemas)
    app.add_middleware(Guard, serving=serving)
    if serving.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(serving.settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "x-pillion-ignored", "retry-after"],
        )
    return app


def _explain_errors(app: FastAPI, serving: Serving) -> None:
    """Whatever a route raises becomes an answer in the path's shape."""

    async def explain(http: HttpRequest, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            error = _of_http(http, error)
        found = serving.explained(error)
        body = json_bytes(serving.shapes.body(http.url.path, found))
        return Response(body, found.status, found.headers, "application/json")

    for kind in (ApiError, ClientGone, PillionError, RecursionError, HTTPException):
        app.add_exception_handler(kind, explain)


def _of_http(http: HttpRequest, error: HTTPException) -> ApiError:
    """404 and 405 of the router."""
    path = http.url.path[:80]
    if error.status_code == 404:
        return ApiError(404, f"there is no {path}", code="not_found")
    if error.status_code == 405:
        sentence = f"{path} does not take {http.method}"
        return ApiError(405, sentence, code="method_not_allowed", headers=error.headers)
    return ApiError(error.status_code, str(error.detail), headers=error.headers)
