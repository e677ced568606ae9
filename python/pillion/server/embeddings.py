"""OpenAI's embeddings: /v1/embeddings."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from pydantic import Field

from ..errors import ContextFullError
from ..llm.openai_format import embedding_list
from . import sse
from .api_errors import ApiError, ClientGone
from .openai_routes import body_of, ignored_header, json_response, within
from .reading import checked, json_body
from .schemas import Fields, Several
from .serving import Serving

MOST_TEXTS = 2048


class EmbeddingsRequest(Fields):
    """POST /v1/embeddings."""

    model: str | None = None
    input: str | Several[str] | Several[int] | Several[Several[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None


def embeddings_router(serving: Serving) -> APIRouter:
    """The route without its /v1."""
    router = APIRouter()

    @router.post("/embeddings", openapi_extra=body_of(EmbeddingsRequest), response_model=None)
    async def embeddings(http: HttpRequest) -> Response:
        """Returns a vector for each text: the normalised mean of its hidden rows."""
        given = checked(EmbeddingsRequest, await json_body(http))
        _check_dimensions(serving, given.dimensions)
        if not isinstance(given.input, str):
            within("input", given.input, serving.llm.n_ctx() if _is_ids(given) else MOST_TEXTS)
        tokens, _ = await serving.in_thread(serving.llm.embedding_tokens, "input", given.input)
        vectors = await _embedded(serving, http, tokens)
        as_base64 = given.encoding_format == "base64"
        result = embedding_list(vectors, tokens, serving.model_name, as_base64)
        return json_response(result, ignored_header(given.ignored))

    return router


def _is_ids(given: EmbeddingsRequest) -> bool:
    return bool(given.input) and isinstance(given.input[0], int)


def _check_dimensions(serving: Serving, dimensions: int | None) -> None:
    n_embd = serving.llm.model.n_embd
    if dimensions not in (None, n_embd):
        sentence = f"dimensions is {dimensions}; this model's embeddings have {n_embd}"
        sentence += ", and a part of them means nothing"
        raise ApiError(400, sentence, code="invalid_value", param="dimensions")


async def _embedded(serving: Serving, http: HttpRequest, tokens: list[list[int]]) -> list[object]:
    """The vectors, text by text: others get their turn in between. Ends when the client leaves."""
    llm = serving.llm
    for at, one in enumerate(tokens):
        if len(one) > llm.n_ctx():
            held = f"the context holds {llm.n_ctx()} (n_ctx)"
            raise ContextFullError(f"input[{at}] has {len(one)} tokens, but {held}")
    gone = asyncio.Event()
    vectors: list[object] = []
    async with sse.watching(http.receive, gone.set):
        for one in tokens:
            vectors.append(await _one(serving, one, gone))
    return vectors


async def _one(serving: Serving, tokens: list[int], gone: asyncio.Event) -> object:
    """One vector; raises ClientGone when the client leaves before it is there."""
    embedder, me = serving.llm.embedder, object()
    work = asyncio.ensure_future(serving.in_thread(embedder.embed, tokens, True, me))
    leaving = asyncio.ensure_future(gone.wait())
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        while not work.done():
            embedder.cancel(me)
            await asyncio.wait({work}, timeout=0.01)
    finally:
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    if gone.is_set():
        await asyncio.gather(work, return_exceptions=True)
        raise ClientGone
    return work.result()
