"""`pillion run`: continues a text, or answers a chat."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from .. import LLM, Generation, PairStats
from ..chat.replies import Reply
from ..llm.openai_format import ChatCompletion
from .attaching import Attached, given_parts
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
    ModelArgument,
    ModelOption,
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
def run(
    model: Path | None = ModelArgument,
    model_option: Path | None = ModelOption,
    hf: str | None = HfOption,
    prompt: str | None = typer.Option(
        None, "-p", "--prompt", help="The text to continue, or the message with --chat."
    ),
    file: Path | None = typer.Option(
        None, "-f", "--file", help="Read the prompt from a file; - is stdin."
    ),
    image: list[Path] | None = typer.Option(
        None, "--image", help="Show this picture with the message; may be repeated; means --chat."
    ),
    audio: list[Path] | None = typer.Option(
        None, "--audio", help="Play this sound with the message; may be repeated; means --chat."
    ),
    mmproj: str | None = MmprojOption,
    image_tokens: str | None = ImageTokensOption,
    n_predict: int = typer.Option(
        -1, "-n", "--n-predict", help="Most tokens to write; -1: until the model ends."
    ),
    ctx: int = CtxOption,
    threads: int = ThreadsOption,
    batch: int = BatchOption,
    temp: float | None = typer.Option(None, "--temp", help="Temperature; 0: greedy."),
    top_k: int | None = typer.Option(
        None, "--top-k", help="Keep the k most likely tokens; 0: all."
    ),
    top_p: float | None = typer.Option(
        None, "--top-p", help="Keep tokens up to this total probability; 1: all."
    ),
    min_p: float | None = typer.Option(
        None, "--min-p", help="Drop tokens below this part of the best; 0: none."
    ),
    repeat_penalty: float | None = typer.Option(
        None, "--repeat-penalty", help="Penalty on repeated tokens; 1: off."
    ),
    seed: int = typer.Option(
        -1, "-s", "--seed", help="The same seed gives the same text; -1: random."
    ),
    flash_attn: str = FlashAttnOption,
    kv_type: str = KvTypeOption,
    swa_full: bool = SwaFullOption,
    stop: list[str] | None = typer.Option(
        None, "--stop", help="End the text before this string; may be repeated."
    ),
    chat: bool = typer.Option(
        False, "--chat", help="Use the file's chat template; without a prompt: a conversation."
    ),
    system: str | None = typer.Option(
        None, "-sys", "--system", "--system-prompt", help="System message of the chat."
    ),
    think: bool | None = typer.Option(
        None,
        "--think/--no-think",
        help="Let the model think before it answers (to stderr); else as its template has it.",
    ),
    template: str | None = TemplateOption,
    template_file: Path | None = TemplateFileOption,
    template_kwargs: str | None = typer.Option(
        None, "--chat-template-kwargs", help="More variables for the template, a JSON object."
    ),
    drafter: str | None = DrafterOption,
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
    state: Path | None = typer.Option(
        None,
        "--state",
        help="Keep the text's cache in this file: read if it is there, written at the end.",
    ),
    as_json: bool = typer.Option(
        False,
        "--json",
        help="Print one object: text, tokens, finish_reason, timings (and speculation).",
    ),
) -> None:
    """Continue a text, or answer with --chat. Text goes to stdout, everything else to stderr."""
    parts = given_parts(image or [], audio or [])
    chat = chat or bool(parts)
    text = _prompt(prompt, file, chat)
    source = template_source(template, template_file)
    variables = template_variables(template_kwargs)
    if think is not None:
        variables["enable_thinking"] = think
    if not chat and (source is not None or variables or system):
        raise fail("--system, --think, --no-think and the options --chat-template… need --chat")
    options: dict[str, Any] = {
        "max_tokens": n_predict,
        "temperature": temp,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repeat_penalty": repeat_penalty,
        "seed": None if seed < 0 else seed,
        "stop": stop,
    }
    if hf is not None and mmproj is None and not parts:
        mmproj = "none"  # it would be fetched for nothing
    path, drafter, mmproj = model_and_more(one_model(model, model_option), hf, drafter, mmproj)
    with (
        open_llm(
            path,
            n_ctx=ctx,
            n_batch=batch,
            n_threads=threads,
            flash_attn=flash_attn,
            kv_type=kv_type,
            swa_full=swa_full,
            use_mmap=not no_mmap,
            device=device,
            n_gpu_layers=n_gpu_layers,
            strict=strict,
            chat_template=source,
            **draft_options(
                path,
                drafter,
                n_draft,
                p_min,
                dense_head,
                draft_sampling,
                draft_lookup,
                draft_device,
            ),
            **media_options(mmproj, image_tokens),
        ) as llm,
        _kept(llm, state),
    ):
        opening: list[dict[str, Any]] = []
        opening += [{"role": "system", "content": system}] if system else []
        options |= {"chat_template_kwargs": variables} if chat else {}
        if text is None:
            _converse(llm, opening, options, Attached(llm, parts))
        elif chat:
            asked = Attached(llm, parts).message(text)
            answer = llm._answer([*opening, asked], **options)
            if as_json:
                reply = Reply().add(list(answer.deltas()))
                typer.echo(as_object(answer.generation, reply))
            else:
                show_answer(answer)
        elif as_json:
            typer.echo(as_object(llm.generate(text, **options).run()))
        else:
            show(llm.generate(text, **options))


@contextmanager
def _kept(llm: LLM, state: Path | None) -> Iterator[None]:
    """Brings a saved state back, and saves it behind the body, which Ctrl-C may end."""
    if state is None:
        yield
        return
    if state.exists():
        llm.load(state)
    try:
        yield
    finally:
        llm.save(state)


def _prompt(prompt: str | None, file: Path | None, chat: bool) -> str | None:
    """Text of the prompt; None: a conversation."""
    if prompt is not None and file is not None:
        raise fail("give the prompt with -p or with -f, not both")
    if prompt is not None:
        return prompt
    if file is not None and str(file) != "-":
        return read_text(file)
    if file is not None or not sys.stdin.isatty():
        return sys.stdin.read()
    if chat:
        return None
    raise fail("no prompt: give one with -p TEXT or -f FILE, or use --chat for a conversation")


def _converse(
    llm: LLM, messages: list[dict[str, Any]], options: dict[str, Any], attached: Attached
) -> None:
    """Talks turn by turn until the end of input. Ctrl-C stops an answer; at the prompt it leaves.
    attached: what the next message shows beside its text."""
    typer.echo(f"Type a message; {attached.help}Ctrl-C stops an answer, Ctrl-D leaves.", err=True)
    while True:
        try:
            typer.echo("> ", err=True, nl=False)
            message = input()
        except EOFError:
            typer.echo("", err=True)
            return
        if not message.strip() or attached.takes(message):
            continue
        messages.append(attached.message(message))
        said = Reply()
        try:
            show_answer(llm._answer(messages, **options), said, timings=False)
        except KeyboardInterrupt:
            typer.echo("", err=True)
        messages.append({"role": "assistant", "content": said.content})


def show(generation: Generation, timings: bool = True) -> None:
    """Prints an answer as it comes, then the speed."""
    for piece in generation:
        write(piece.text)
    write("\n")
    if timings:
        _speed(generation)


def show_answer(answer: ChatCompletion, said: Reply | None = None, timings: bool = True) -> None:
    """Prints an answer of a chat as it comes, its thinking on stderr. said: collects it, also when
    it is stopped."""
    thinking = False
    for delta in answer.deltas():
        if said is not None:
            said.add([delta])
        if thinking and delta.content:
            typer.echo("", err=True)
        thinking = bool(delta.reasoning)
        typer.echo(delta.reasoning, err=True, nl=False)
        write(delta.content)
    if thinking:
        typer.echo("", err=True)
    write("\n")
    if timings:
        _speed(answer.generation)


def _speed(generation: Generation) -> None:
    times = generation.timings.as_dict()
    typer.echo(
        f"prompt: {times['prompt_n']} tokens, {times['prompt_per_second']:.1f}/s; "
        f"text: {times['predicted_n']} tokens, {times['predicted_per_second']:.1f}/s",
        err=True,
    )
    if generation.paired:
        typer.echo(drafts(generation.speculation), err=True)


def drafts(done: PairStats) -> str:
    """What the drafter did, on one line."""
    state = f"{done.state}: {done.reason}" if done.reason else done.state
    return (
        f"drafts: {done.accepted} of {done.drafted} accepted ({100 * done.acceptance:.0f} %), "
        f"{done.mean_tokens_per_round:.2f} tokens a round; {state}"
    )


def as_object(generation: Generation, reply: Reply | None = None) -> str:
    """A finished generation as the JSON that scripts rely on. reply: of a chat, with its thinking
    beside the text."""
    found: dict[str, Any] = {"text": generation.text if reply is None else reply.content}
    if reply is not None and reply.reasoning:
        found["reasoning_content"] = reply.reasoning
    found |= {
        "tokens": generation.tokens,
        "finish_reason": generation.finish_reason,
        "timings": generation.timings.as_dict(),
    }
    if generation.paired:
        found["speculation"] = generation.speculation.as_dict()
    return json.dumps(found, ensure_ascii=False)
