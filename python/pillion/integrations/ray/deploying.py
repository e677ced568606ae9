"""`deployment`: the server of `pillion serve` as an application of Ray Serve."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ...arguments import check_bool, check_int, check_mapping, closest, shown, unknown_names, wrong
from ...engine.machine import PARALLEL_MAX
from ...errors import UsageError
from ...server import ServerSettings, needs_extra
from .. import need
from ..keywords import LLM_KEYWORDS, parted
from .actor import PARALLEL

_STICKY = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
_TRIES = 3  # a file that is missing stays missing
_LAST_WORDS = 5  # seconds beyond drain_timeout in which a replica may still send what it has


def deployment(
    model: Any,
    *,
    num_cpus: float = 1,
    num_gpus: float = 0,
    settings: ServerSettings | None = None,
    sticky: bool = False,
    **options: Any,
) -> Any:
    """A Ray Serve application that answers as `pillion serve` does: OpenAI's and Anthropic's APIs,
    /health, /metrics and the chat page. For `ray.serve.run`, at the route "/".

    model: what `LLM` opens, each replica on its own node; with from_pretrained={…} a repository of
    the hub.
    num_cpus, num_gpus: of each replica. A replica has num_cpus threads unless n_threads is given.
    settings: keys, limits, host: where Ray's proxies listen ("0.0.0.0" needs keys or no_key).
    sticky: True sends requests with the same header x-session-id to the same replica, where the
    conversation's cache is (by Ray's ConsistentHashRouter).
    options: of `ray.serve.deployment` (name, num_replicas, autoscaling_config,
    max_ongoing_requests, health_check_period_s, graceful_shutdown_timeout_s, …) and of `LLM`
    (n_ctx, drafter, parallel, …). Unless given: parallel is 4; max_ongoing_requests is twice that,
    so that the next requests of a replica are at hand; max_queued_requests and
    graceful_shutdown_timeout_s are those of `settings`.

    Raises `MissingExtra` without the extra, `UsageError` for wrong arguments, and what
    `ray.serve.deployment` raises for its own. What the model's file is to blame for stops the
    replica, and `serve.run` tells it.
    """
    need("deployment()", "ray.serve", "ray")
    needs_extra()
    from ray import serve

    from .replica import Replica

    if settings is None:
        settings = ServerSettings()
    if not isinstance(settings, ServerSettings):
        wrong("settings", settings, "pillion.server.ServerSettings")
    for_serve, for_llm = _parted(options, set(inspect.signature(serve.deployment).parameters))
    parallel = for_llm.setdefault("parallel", PARALLEL)
    check_int("parallel", parallel, 1, PARALLEL_MAX)
    actor = {"num_cpus": num_cpus, "num_gpus": num_gpus}
    given = check_mapping("ray_actor_options", for_serve.pop("ray_actor_options", {}))
    chosen = {
        "name": "pillion",
        "ray_actor_options": {**actor, **given},
        "max_ongoing_requests": 2 * parallel,
        "max_queued_requests": settings.queue_limit,
        "max_constructor_retry_count": _TRIES,
        "graceful_shutdown_timeout_s": settings.drain_timeout + _LAST_WORDS,
        **for_serve,
    }
    if check_bool("sticky", sticky):
        if "request_router_config" in for_serve:
            raise UsageError("sticky chooses the router; leave request_router_config out")
        chosen["request_router_config"] = {"request_router_class": _STICKY}
    made = serve.deployment(**chosen)(serve.ingress()(Replica))
    return made.bind(model, settings, for_llm)


def app(args: Mapping[str, Any]) -> Any:
    """`deployment` for Ray's command line and its files of applications, which name it as
    pillion.integrations.ray:app.

    args: the arguments of `deployment` by name; `settings` is a mapping. The command line has only
    texts: what reads as JSON counts as what it says. Raises as `deployment` does.
    """
    given = {name: _read(value) for name, value in check_mapping("args", args).items()}
    if "model" not in given:
        raise UsageError("args has no model; name the path of a GGUF file")
    settings = given.pop("settings", None)
    if settings is not None:
        known = [one.name for one in fields(ServerSettings)]
        unknown_names("settings", check_mapping("settings", settings), known)
        given["settings"] = ServerSettings(**settings)
    return deployment(given.pop("model"), **given)


def _read(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _parted(
    options: Mapping[str, Any], of_serve: set[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of `ray.serve.deployment`, and of `LLM`. Raises `UsageError` for others."""
    known = of_serve | LLM_KEYWORDS
    for name in options:
        if name not in known or name.startswith("_"):
            near = closest(name, known)
            hint = f"did you mean {near}?" if near else "it takes those of serve.deployment and LLM"
            raise UsageError(f"deployment() has no argument {shown(name)}; {hint}")
    for_llm, for_serve = parted(options)
    return for_serve, for_llm
