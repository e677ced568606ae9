"""Routes about the server and its model, and the tokenizer's routes."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest

from .. import version
from ..llm.llm import LLM
from ..llm.openai_format import Result
from .api_errors import ApiError
from .metrics import CONTENT_TYPE
from .openai_routes import body_of, ignored_header, json_response, template_variables
from .reading import checked, json_body
from .schemas import DetokenizeRequest, TemplateRequest, TokenizeRequest
from .serving import Serving
from .sse import json_bytes


def models_router(serving: Serving) -> APIRouter:
    """/models, without its /v1."""
    router = APIRouter()

    @router.get("/models")
    async def models() -> Result:
        """Lists the one model, in the form that OpenAI's and Anthropic's clients expect."""
        card = model_card(serving)
        pages = {"has_more": False, "first_id": card["id"], "last_id": card["id"]}
        return {"object": "list", "data": [card], **pages}

    @router.get("/models/{name:path}")
    async def model(name: str) -> Result:
        """Describes the one model by its name."""
        if name != serving.model_name:
            sentence = f"there is no model {name[:80]!r}; the model is {serving.model_name!r}"
            raise ApiError(404, sentence, code="model_not_found", param="model")
        return model_card(serving)

    return router


def model_card(serving: Serving) -> Result:
    """The model in the shape of OpenAI's and Anthropic's APIs."""
    llm = serving.llm
    return {
        "id": serving.model_name,
        "object": "model",
        "created": serving.started,
        "owned_by": "pillion",
        "type": "model",
        "display_name": llm.name,
        "capabilities": _capabilities(llm),
        "created_at": datetime.fromtimestamp(serving.started, timezone.utc).isoformat(),
        "meta": {
            "n_ctx": llm.n_ctx(),
            "n_ctx_train": llm.model.n_ctx_train,
            "n_vocab": llm.n_vocab(),
            "n_embd": llm.model.n_embd,
            "n_params": llm.model.n_params,
            "name": llm.name,
            "modalities": modalities(llm),
        },
    }


def modalities(llm: LLM) -> dict[str, bool]:
    """What the model sees and hears, by llama-server's names."""
    kinds = llm.media.towers.kinds
    return {"vision": "image" in kinds, "audio": "audio" in kinds}


def _capabilities(llm: LLM) -> list[str]:
    """What the model does, by the names of llama-server's /models."""
    return ["completion", *(["multimodal"] if llm.media.towers.kinds else [])]


def info_router(serving: Serving) -> APIRouter:
    """Routes for health and metrics, and llama-server's routes about the server."""
    router = APIRouter()

    @router.get("/health")
    @router.get("/v1/health")
    async def health() -> Response:
        """200 once the model is loaded; 503 before, and while the server shuts down."""
        if serving.state == "ready":
            return json_response({"status": "ok"}, {})
        again = {"Retry-After": str(serving.settings.retry_after)}
        response = json_response({"status": serving.state}, again)
        response.status_code = 503
        return response

    @router.get("/metrics")
    async def metrics() -> Response:
        """Returns the metrics for Prometheus."""
        return Response(serving.metrics.text(), media_type=CONTENT_TYPE)

    @router.get("/props")
    async def props() -> Result:
        """Describes the model and the server by llama-server's names."""
        llm = serving.llm
        done = llm.speculation
        return {
            "default_generation_settings": {"n_ctx": llm.n_ctx()},
            "total_slots": serving.slots,
            "model_alias": serving.model_name,
            "model_path": f"{serving.model_name}.gguf",
            "chat_template": serving.template_source(),
            "bos_token": _spelled(llm, llm.tokenizer.bos),
            "eos_token": _spelled(llm, llm.tokenizer.eos),
            "modalities": modalities(llm),
            "build_info": f"pillion {version()}",
            "drafter": {"state": done.state, "kind": done.kind, "reason": done.reason},
            "is_sleeping": False,
        }

    @router.get("/slots")
    async def slots() -> list[Result]:
        """Lists what is under way, without any text."""
        _ = serving.llm
        return serving.slot_list()

    return router


def token_router(serving: Serving) -> APIRouter:
    """Routes of the tokenizer and the chat template."""
    router = APIRouter()

    @router.post("/tokenize", openapi_extra=body_of(TokenizeRequest), response_model=None)
    async def tokenize(http: HttpRequest) -> Response:
        """Returns the token ids of a text."""
        given = checked(TokenizeRequest, await json_body(http))
        llm = serving.llm

        def work() -> list[Any]:
            special = True if given.parse_special is None else given.parse_special
            text = given.content.encode("utf-8", "replace")
            ids = llm.tokenize(text, add_bos=bool(given.add_special), special=special)
            if not given.with_pieces:
                return list(ids)
            pieces = {one: llm.detokenize([one], special=True) for one in set(ids)}
            return [{"id": one, "piece": pieces[one]} for one in ids]

        content = await serving.in_thread(lambda: _in_parts(work()))
        return json_response(content, ignored_header(given.ignored))

    @router.post("/detokenize", openapi_extra=body_of(DetokenizeRequest), response_model=None)
    async def detokenize(http: HttpRequest) -> Response:
        """Returns the text of token ids."""
        given = checked(DetokenizeRequest, await json_body(http))
        special = True if given.special is None else given.special
        text = await serving.in_thread(
            lambda: serving.llm.detokenize(given.tokens, special=special)
        )
        return json_response({"content": text}, ignored_header(given.ignored))

    @router.post("/apply-template", openapi_extra=body_of(TemplateRequest), response_model=None)
    async def apply_template(http: HttpRequest) -> Response:
        """Returns the prompt of a conversation."""
        given = checked(TemplateRequest, await json_body(http))
        variables = template_variables(serving, given.reasoning_effort, given.chat_template_kwargs)
        if given.add_generation_prompt is not None:
            variables["add_generation_prompt"] = given.add_generation_prompt
        llm = serving.llm
        prompt = await serving.in_thread(
            lambda: llm.render_chat(given.messages, tools=given.tools, **variables)
        )
        return json_response({"prompt": str(prompt)}, ignored_header(given.ignored))

    return router


def _spelled(llm: Any, token: Any) -> str:
    return "" if token is None else str(llm.tokenizer.token_text(token))


def _in_parts(tokens: list[Any]) -> bytes:
    """The answer's JSON. Written at once it would hold the interpreter for as long as it is."""
    step = 10_000
    parts = [json_bytes(tokens[at : at + step])[1:-1] for at in range(0, len(tokens), step)]
    return b'{"tokens":[%s],"count":%d}' % (b",".join(parts), len(tokens))


def now() -> int:
    return int(time.time())
