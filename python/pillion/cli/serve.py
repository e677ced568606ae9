"""`pillion serve`: OpenAI's API and a chat page on an address of this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from .. import LLM
from ..engine.machine import PARALLEL_MAX
from ..models import TINY_ASSISTANT, TINY_MMPROJ, TINY_TARGET
from ..server import ServerSettings, needs_extra
from .by_name import HfOption, model_and_more, one_model
from .console import command, fail, open_llm, read_text, write
from .options import (
    BatchOption,
    CtxOption,
    DenseHeadOption,
    DeviceOption,
    DraftDeviceOption,
    DrafterOption,
    DraftLookupOption,
    DraftOption,
    DraftSamplingOption,
    FlashAttnOption,
    ImageTokensOption,
    KvTypeOption,
    LayersOption,
    MmprojOption,
    NoMmapOption,
    PMinOption,
    StrictOption,
    SwaFullOption,
    TemplateFileOption,
    TemplateOption,
    ThreadsOption,
    draft_options,
    media_options,
    template_source,
    template_variables,
)


@command
def serve(
    model: Path | None = typer.Argument(
        None, help="The model, a GGUF file; none: the tiny pair of the package."
    ),
    model_option: Path | None = typer.Option(
        None, "-m", "--model", help="The same, as the other commands have it."
    ),
    hf: str | None = HfOption,
    drafter: str | None = DrafterOption,
    mmproj: str | None = MmprojOption,
    image_tokens: str | None = ImageTokensOption,
    host: str = typer.Option(
        "127.0.0.1", "--host", help="Address to listen at; a path: a Unix socket."
    ),
    port: int = typer.Option(8080, "--port", min=0, max=65535, help="Port; 0: any that is free."),
    api_key: list[str] | None = typer.Option(
        None,
        "--api-key",
        envvar="PILLION_API_KEY",
        help="Key that requests must carry; may be repeated.",
    ),
    api_key_file: Path | None = typer.Option(
        None, "--api-key-file", help="A file of such keys, one a line."
    ),
    no_key: bool = typer.Option(False, "--no-key", help="Let other machines in without a key."),
    alias: str | None = typer.Option(
        None, "-a", "--alias", help="The model's name in the API; else its file's."
    ),
    cors_origin: list[str] | None = typer.Option(
        None,
        "--cors-origin",
        help="Origin of a web page that may use the API; may be repeated; *: all.",
    ),
    allowed_host: list[str] | None = typer.Option(
        None,
        "--allowed-host",
        help="One more name in the Host header, as of a proxy; may be repeated.",
    ),
    parallel: int = typer.Option(
        4, "-np", "--parallel", min=1, max=PARALLEL_MAX, help="Answers that go on at a time."
    ),
    cache_tokens: int | None = typer.Option(
        None,
        "--cache-tokens",
        min=1,
        help="Positions that all answers share; else --parallel times --ctx.",
    ),
    queue: int = typer.Option(64, "--queue", min=0, help="Requests that may wait; more get 503."),
    queue_timeout: float = typer.Option(
        60, "--queue-timeout", min=0.001, help="Seconds that one may wait."
    ),
    timeout: float = typer.Option(
        600, "-to", "--timeout", min=0.001, help="Seconds that an answer may take."
    ),
    drain_timeout: float = typer.Option(
        30, "--drain-timeout", min=0, help="Seconds to end answers in at SIGTERM."
    ),
    ctx: int = CtxOption,
    threads: int = ThreadsOption,
    batch: int = BatchOption,
    flash_attn: str = FlashAttnOption,
    kv_type: str = KvTypeOption,
    swa_full: bool = SwaFullOption,
    template: str | None = TemplateOption,
    template_file: Path | None = TemplateFileOption,
    template_kwargs: str | None = typer.Option(
        None,
        "--chat-template-kwargs",
        help="Variables for the template where a request names none, a JSON object.",
    ),
    n_draft: str = DraftOption,
    p_min: float = PMinOption,
    dense_head: bool = DenseHeadOption,
    draft_sampling: str = DraftSamplingOption,
    draft_lookup: bool = DraftLookupOption,
    draft_device: str = DraftDeviceOption,
    device: str = DeviceOption,
    n_gpu_layers: int = LayersOption,
    strict: bool = StrictOption,
    no_mmap: bool = NoMmapOption,
) -> None:
    """Serve a model: OpenAI's API, and a chat page at /. Without MODEL: the package's tiny pair.

    Prints the address when it answers. Ctrl-C ends it when answers under way are done; a second one
    at once."""
    needs_extra()
    path, drafter, mmproj = _files(one_model(model, model_option), hf, drafter, mmproj)
    if not path.exists():
        raise fail(f"{path}: No such file or directory")
    settings = ServerSettings(
        host=host,
        keys=_keys(api_key or [], api_key_file),
        no_key=no_key,
        cors_origins=cors_origin or (),
        allowed_hosts=allowed_host or (),
        alias=alias,
        default_variables=template_variables(template_kwargs),
        queue_limit=queue,
        queue_timeout=queue_timeout,
        total_timeout=timeout,
        drain_timeout=drain_timeout,
    )
    options: dict[str, Any] = {
        "n_ctx": ctx,
        "n_batch": batch,
        "n_threads": threads,
        "flash_attn": flash_attn,
        "kv_type": kv_type,
        "swa_full": swa_full,
        "parallel": parallel,
        "n_positions": cache_tokens,
        "use_mmap": not no_mmap,
        "device": device,
        "n_gpu_layers": n_gpu_layers,
        "strict": strict,
        "chat_template": template_source(template, template_file),
        **draft_options(
            path, drafter, n_draft, p_min, dense_head, draft_sampling, draft_lookup, draft_device
        ),
        **media_options(mmproj, image_tokens),
    }
    _run(settings, port, path, options)


def _run(settings: ServerSettings, port: int, path: Path, options: dict[str, Any]) -> None:
    from ..server.running import Running, address_of, bound_socket, exit_status
    from ..server.serving import Serving

    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what it says is said here
    listener = bound_socket(settings.host, port)
    address = address_of(listener)
    serving = Serving(settings)

    def load(check: Callable[[], None]) -> LLM:
        return open_llm(path, check=check, **options)

    def announce(llm: LLM) -> None:
        guesses = f", drafter: {llm.speculation.kind}" if llm.pair is not None else ""
        senses = _senses(llm)
        write(f"{address} answers: {serving.model_name}{guesses}{senses}; Ctrl-C ends it\n")

    running = Running(serving, load, announce)
    running.serve_on(listener)
    if running.unfinished:
        raise typer.Exit(exit_status(running))


def _senses(llm: LLM) -> str:
    """What it takes beside texts, for the line that says it is ready."""
    kinds = [f"{one}s" for one in ("image", "audio") if one in llm.media.towers.kinds]
    return f", takes {' and '.join(kinds).replace('audios', 'audio')}" if kinds else ""


def _files(
    path: Path | None, hf: str | None, drafter: str | None, mmproj: str | None
) -> tuple[Path, str | None, str | None]:
    """Path of the model, and the meanings of -md and --mmproj for it."""
    if path is not None or hf is not None:
        return model_and_more(path, hf, drafter, mmproj)
    if not TINY_TARGET.exists():
        raise fail(
            f"{TINY_TARGET} is missing: this build came without its models; name one of your own"
        )
    drafter = str(TINY_ASSISTANT) if drafter in (None, "auto") else drafter
    return TINY_TARGET, drafter, str(TINY_MMPROJ) if mmproj in (None, "auto") else mmproj


def _keys(given: list[str], file: Path | None) -> list[str]:
    keys = [key.strip() for one in given for key in one.split(",")]
    if file is not None:
        lines = [line.strip() for line in read_text(file).splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise fail(f"--api-key-file: {file} has no key")
        keys += found
    return keys
