"""A web application around one LLM: uvicorn web_app:app, with MODEL in the environment.

`pillion serve` speaks OpenAI's API; this is for an application of your own. Each request is a task
of the event loop, no thread waits, and a client that leaves ends its answer.
"""

import contextlib
import os

import pillion
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route


@contextlib.asynccontextmanager
async def lifespan(app):
    with pillion.LLM(os.environ["MODEL"], parallel=2, n_ctx=512) as llm:
        llm.engine.queue_limit = 16
        app.state.llm = llm
        yield


async def whole(request):
    try:
        answer = await request.app.state.llm.acomplete(
            request.query_params["prompt"], max_tokens=24, temperature=0, queue_timeout=30
        )
    except pillion.QueueFull as error:
        headers = {"Retry-After": str(round(error.retry_after))}
        return JSONResponse({"error": str(error)}, status_code=503, headers=headers)
    except pillion.UsageError as error:
        return JSONResponse({"error": str(error)}, status_code=400)
    return JSONResponse({"text": answer["choices"][0]["text"]})


async def streamed(request):
    llm = request.app.state.llm
    chunks = await llm.acomplete(request.query_params["prompt"], max_tokens=400, stream=True)

    async def body():
        async with chunks:
            async for chunk in chunks:
                yield chunk["choices"][0]["text"]

    return StreamingResponse(body(), media_type="text/plain")


async def numbers(request):
    stats = request.app.state.llm.engine.stats()
    active = stats.reading + stats.writing
    return JSONResponse({"active": active, "queued": stats.queued, "tokens": stats.tokens})


routes = [Route("/whole", whole), Route("/stream", streamed), Route("/numbers", numbers)]
app = Starlette(routes=routes, lifespan=lifespan)
