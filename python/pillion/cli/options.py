"""Options that several subcommands share, and their values for the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from .. import find_drafter
from ..media.budget import BUDGETS, ImageTokens
from ..pair import DRAFT_MAX, LOOKUP, Draft
from .console import fail, read_text

ModelArgument = typer.Argument(
    None, metavar="MODEL", help="The model, a GGUF file; -m names it too.", show_default=False
)
ModelOption = typer.Option(
    None, "-m", "--model", help="The model, a GGUF file.", show_default=False
)

DrafterOption = typer.Option(
    None,
    "-md",
    "--model-draft",
    help="What guesses ahead: a GGUF file; auto: the drafter beside the model; lookup: the text "
    "itself; none; with -hf also OWNER/NAME[:QUANT]. Without it: as auto, but none where there are "
    "several.",
    show_default=False,
)
MeasuredDrafterOption = typer.Option(
    None,
    "-md",
    "--model-draft",
    help="A GGUF file; auto: the drafter beside the model; lookup; none. "
    "Without it: as auto, but none where there are several.",
    show_default=False,
)
MmprojOption = typer.Option(
    None,
    "-mm",
    "--mmproj",
    help="The model's eyes and ears: an mmproj file; auto: the one beside the model; none; with "
    "-hf also a file of the repository. Without it: as auto.",
    show_default=False,
)
ImageTokensOption = typer.Option(
    None,
    "--image-tokens",
    help="Most tokens of an image: 70, 140, 280, 560, 1120, or auto: as its pixels need.",
    show_default=False,
)
DraftOption = typer.Option(
    "auto", "--spec-draft-n-max", help="Drafts of a round, 0 to 8, or auto: as many as pay off."
)
PMinOption = typer.Option(
    0.0, "--spec-draft-p-min", help="A draft less likely than this ends the draft; 0: off."
)
DenseHeadOption = typer.Option(
    False, "--draft-dense-head", help="The drafter scores the whole vocabulary."
)
DraftSamplingOption = typer.Option(
    "greedy",
    "--spec-draft-sampling",
    help="greedy: the text is that of plain steps; probabilistic: when sampling, more drafts are "
    "accepted, same distribution.",
)
DraftLookupOption = typer.Option(
    False,
    "--draft-lookup",
    help="Beside an assistant, drafts also come from the text so far, where those promise more.",
)
DraftDeviceOption = typer.Option(
    "auto",
    "--draft-device",
    help="Where the drafter runs; auto: beside the model (htp: on the CPU).",
)
DeviceOption = typer.Option(
    "auto", "--device", help="Where the model runs: auto, cpu, cuda, cuda:1, htp."
)
LayersOption = typer.Option(
    -1,
    "-ngl",
    "--n-gpu-layers",
    help="Layers on the device, from the last one down; -1: as many as fit; 0: none.",
)
StrictOption = typer.Option(
    False,
    "--strict",
    help="What does not fit the device is an error; nothing goes to the CPU instead.",
)
CtxOption = typer.Option(
    0, "-c", "--ctx-size", help="Positions of the context; 0: the model's, at most 4096."
)
ThreadsOption = typer.Option(0, "-t", "--threads", help="Threads; 0: all cores.")
BatchOption = typer.Option(0, "-b", "--batch-size", help="Rows of one prefill run; 0: 512.")
FlashAttnOption = typer.Option("auto", "-fa", "--flash-attn", help="auto, on or off.")
KvTypeOption = typer.Option("f16", "--kv-type", help="Type of the KV cache: f16 or q8_0.")
SwaFullOption = typer.Option(
    False,
    "--swa-full",
    help="Sliding layers keep every position: going back runs nothing again. Takes memory.",
)
NoMmapOption = typer.Option(
    False, "--no-mmap", help="Read the file into memory instead of mapping it."
)
TemplateOption = typer.Option(
    None,
    "--chat-template",
    help="Jinja in place of the file's chat template, or the name of one of the file's.",
)
TemplateFileOption = typer.Option(None, "--chat-template-file", help="The same from a file.")


def drafter_choice(model: Path, drafter: str | None) -> str | Path | None:
    """`-md` as an argument of LLM. Several drafters that fit are an error with "auto", a warning
    without `-md`."""
    if drafter == "auto":
        find_drafter(model)
    if drafter in ("auto", LOOKUP):
        return drafter
    return "auto" if drafter is None else None if drafter == "none" else Path(drafter)


def draft_options(
    model: Path,
    drafter: str | None,
    n_max: str,
    p_min: float,
    dense_head: bool,
    sampling: str,
    lookup: bool,
    device: str,
) -> dict[str, Any]:
    """The drafter's options as arguments of LLM."""
    return {
        "drafter": drafter_choice(model, drafter),
        "draft": draft_count(n_max),
        "draft_p_min": p_min,
        "draft_dense_head": dense_head,
        "draft_sampling": sampling,
        "draft_lookup": lookup,
        "draft_device": device,
    }


def media_options(mmproj: str | None, image_tokens: str | None) -> dict[str, Any]:
    """The options for images and sounds as arguments of LLM."""
    given = "auto" if mmproj is None else None if mmproj == "none" else mmproj
    budget = None if image_tokens is None else token_budget(image_tokens)
    return {"mmproj": given, "image_tokens": budget}


def token_budget(text: str) -> ImageTokens:
    """`--image-tokens` from the command line."""
    if text == "auto":
        return text
    if text not in map(str, BUDGETS):
        allowed = ", ".join(map(str, BUDGETS))
        raise fail(f"--image-tokens is {text}; it can be {allowed}, or auto")
    return int(text)


def draft_count(text: str) -> Draft:
    """A draft length from the command line."""
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) > DRAFT_MAX:
        raise fail(f"--spec-draft-n-max is {text}; it can be 0 to {DRAFT_MAX}, or auto")
    return int(text)


def template_source(source: str | None, file: Path | None) -> str | None:
    """The chat template as an argument of LLM; None: the file's own."""
    if source is not None and file is not None:
        raise fail(
            "give the chat template with --chat-template or with --chat-template-file, not both"
        )
    return read_text(file) if file is not None else source


def template_variables(given: str | None) -> dict[str, Any]:
    """Variables of the chat template from JSON."""
    try:
        variables = json.loads(given) if given else {}
    except (ValueError, RecursionError) as error:
        raise fail(f"--chat-template-kwargs is not JSON: {error}") from None
    if not isinstance(variables, dict):
        raise fail(f"--chat-template-kwargs is {given}; it must be a JSON object")
    return variables
