"""`pillion inspect`: what is in a model file, what it takes to run it, and what is wrong with
it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from ..inspection import Facts, inspect_file
from .by_name import HfOption, model_file
from .console import command, size
from .options import KvTypeOption


@command
def inspect(
    file: Path | None = typer.Argument(None, help="A GGUF file.", show_default=False),
    hf: str | None = HfOption,
    ctx: list[int] | None = typer.Option(
        None,
        "-c",
        "--ctx",
        "--ctx-size",
        help="Context length to compute memory for; may be given several times.",
    ),
    kv_type: str = KvTypeOption,
    drafter: Path | None = typer.Option(
        None, "-md", "--drafter", "--model-draft", help="A drafter to try on it."
    ),
    mmproj: Path | None = typer.Option(
        None, "-mm", "--mmproj", help="An mmproj file to try on it; the memory counts its towers."
    ),
    tensors: bool = typer.Option(False, "--tensors", help="List every tensor."),
    as_json: bool = typer.Option(False, "--json", help="Print everything as one JSON object."),
) -> None:
    """Show what is in a model file, the memory it needs, and known trouble. Nothing is loaded."""
    path = model_file(file, hf)
    facts = inspect_file(
        path, ctx=ctx or (), kv_type=kv_type, drafter=drafter, mmproj=mmproj, tensors=tensors
    )
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    for line in _lines(facts):
        typer.echo(line)


def _lines(facts: Facts) -> Iterable[str]:
    kind = facts["file"]["architecture"] or facts["file"]["type"] or "no architecture"
    what = ", a drafter" if facts["drafter"] else ", an mmproj file" if kind == "clip" else ""
    yield f"{facts['path']}: {kind}{what}"
    if not facts["runnable"]:
        yield f"cannot be run: {facts['reason']}"
    for warning in facts["warnings"]:
        yield f"warning: {warning}"
    yield from _section("file", _file(facts["file"]))
    if facts["model"]:
        yield from _section("model", _model(facts["model"]))
    if facts["drafter"]:
        yield from _section("drafter", _drafter(facts["drafter"]))
    if facts["tokenizer"]:
        yield from _section("tokenizer", _tokenizer(facts["tokenizer"]))
    if facts["pair"]:
        pair = facts["pair"]
        fits = (
            f"yes, {pair['kind']}, {pair['head']} head" if pair["fits"] else f"no: {pair['reason']}"
        )
        yield from _section("pair", {"drafter": pair["drafter"], "fits": fits})
    if facts["mmproj"]:
        yield from _section("mmproj", _mmproj(facts["mmproj"], alone=kind == "clip"))
    yield from _memory(facts["memory"])
    yield from _section("metadata", facts["metadata"])
    if "tensors" in facts:
        shown = {
            tensor["name"]: f"{tensor['type']:<5} {tensor['shape']!s:<24} {size(tensor['bytes'])}"
            for tensor in facts["tensors"]
        }
        yield from _section("tensors", shown)


def _file(file: Facts) -> Facts:
    parts = file["parts"] or ()
    shown = {
        "size": size(file["file_bytes"]) + (f" in {len(parts)} parts" if len(parts) > 1 else ""),
        "parameters": f"{_count(file['n_params'])} in {file['n_tensors']} tensors",
    }
    if file["bits_per_weight"]:
        shown["bits per weight"] = f"{file['bits_per_weight']:.2f}"
    for name, one in file["tensor_types"].items():
        shown[name] = f"{size(one['bytes'])}, {100 * one['share']:.1f} %, {one['tensors']} tensors"
    return shown


def _count(n: int) -> str:
    return (
        f"{n / 1e9:.2f} billion" if n >= 1e9 else f"{n / 1e6:.1f} million" if n >= 1e6 else str(n)
    )


def _model(model: Facts) -> Facts:
    shown = {
        "layers": _layers(model["layers"]),
        "width": model["n_embd"],
        "vocabulary": model["n_vocab"],
        "trained context": model["n_ctx_train"],
    }
    optional = {
        "name": model["name"],
        "sliding window": model["window"],
        "soft-cap": model["softcap"],
        "per-layer embeddings": model["per_layer_width"],
        "experts": f"{model['n_experts']}, {model['n_experts_used']} of them used"
        if model["n_experts"]
        else 0,
    }
    return {**shown, **{name: value for name, value in optional.items() if value}}


def _layers(layers: list[Facts]) -> str:
    """Layers that look alike, counted."""
    kinds: dict[str, int] = {}
    for number, layer in enumerate(layers):
        heads = f"{layer['heads']}/{layer['kv_heads']} heads of {layer['head_dim']}"
        borrowed = "" if layer["kv_source"] == number else ", no cache of its own"
        name = f"{layer['kind']} ({heads}, ff {layer['ff']}{borrowed})"
        kinds[name] = kinds.get(name, 0) + 1
    return f"{len(layers)}: " + "; ".join(f"{n} {name}" for name, n in kinds.items())


def _drafter(drafter: Facts) -> Facts:
    needs = drafter["needs"]
    kv = "; ".join(
        f"{kind}: {one['kv_heads']} KV heads of {one['head_dim']}"
        for kind, one in needs["kv"].items()
    )
    return {
        "fits targets of": f"width {needs['n_embd']}, {needs['n_vocab']} tokens, window "
        f"{needs['window']}",
        "reads their cache": kv,
        "head": f"{drafter['head']}: {drafter['head_reason']}",
    }


def _mmproj(towers: Facts, alone: bool) -> Facts:
    shown = {} if alone else {"file": towers["path"]}
    if towers["fits"] is not None:
        shown["fits"] = "yes" if towers["fits"] else f"no: {towers['reason']}"
    if "n_embd" not in towers:
        return shown
    shown["fits targets of"] = f"width {towers['n_embd']}"
    for name in ("vision", "audio"):
        shown[name] = _tower(towers[name]) if towers[name] else "no"
    shown["size"] = size(towers["file_bytes"])
    return shown


def _tower(tower: Facts) -> str:
    layers = (
        f"{tower['n_layers']} layers of {tower['n_embd']}, {tower['n_heads']} heads, "
        f"ff {tower['n_ff']}"
        if tower["n_layers"]
        else "no layers"
    )
    patch = (
        f", patches of {tower['patch']}, pooling {tower['pool']} x {tower['pool']}"
        if "patch" in tower
        else ""
    )
    return f"{tower['projector']}, {layers}{patch}, {size(tower['file_bytes'])}"


def _tokenizer(tokenizer: Facts) -> Facts:
    specials = {
        name: _token(tokenizer[name]) for name in ("bos", "eos", "unk", "pad") if tokenizer[name]
    }
    return {
        "kind": f"{tokenizer['model']}{', ' + tokenizer['pre'] if tokenizer['pre'] else ''}, "
        f"{tokenizer['n_tokens']} tokens",
        **specials,
        "adds BOS": "yes" if tokenizer["adds_bos"] else "no",
        "ends generation": ", ".join(map(_token, tokenizer["end_tokens"])) or "nothing",
        "token types": ", ".join(f"{n} {kind}" for kind, n in tokenizer["types"].items())
        or "none in the file",
        "chat template": "yes" if tokenizer["chat_template"] else "no",
    }


def _token(token: Facts) -> str:
    return f"{token['id']} {token['text']}"


def _plural(word: str, n: int) -> str:
    return word if n == 1 else word + "s"


def _memory(memory: list[Facts]) -> Iterable[str]:
    for one in memory:
        shown = {"weights": size(one["weights"])}
        if one["mapped"]:
            shown["stays in the file"] = (
                f"{size(one['mapped'])}, mapped, read row by row (not in the total)"
            )
        if one["kv"]:
            parts = [
                f"{size(part['bytes'])} in {part['layers']} {kind} "
                f"{_plural('layer', part['layers'])} of {part['positions']} positions"
                for kind, part in one["kv"].items()
                if kind in ("full", "sliding") and part["layers"]
            ]
            shown["KV cache"] = f"{size(one['kv']['bytes'])}: {', '.join(parts)}"
            if one["kv"]["snapshots"]:
                shown["snapshots"] = (
                    f"{size(one['kv']['snapshots'])} for copies "
                    "of the sliding layers, as they are taken"
                )
            shown["scratch"] = f"{size(one['scratch'])}, outputs {size(one['outputs'])}"
        if one["drafter"]:
            drafter = one["drafter"]
            rest = size(
                drafter["kv_bytes"] + drafter["snapshots"] + drafter["scratch"] + drafter["outputs"]
            )
            shown["drafter"] = (
                f"{size(drafter['bytes'])}: weights {size(drafter['weights'])}, the rest {rest}"
            )
        if one.get("mmproj"):
            shown["mmproj"] = f"{size(one['mmproj'])}, once an image or a sound comes"
        shown["total"] = size(one["total"])
        title = (
            f"memory, context of {one['n_ctx']}, {one['kv_type']} cache"
            if one["kv"]
            else "memory, without its target"
        )
        yield from _section(title, shown)


def _section(title: str, content: dict[str, Any]) -> Iterable[str]:
    if not content:
        return
    shown = [(_short(key, 80), _short(value)) for key, value in content.items()]
    width = min(max(len(key) for key, _ in shown), 48)
    yield ""
    yield title
    for key, value in shown:
        yield f"  {key:<{width}}  {value}"


def _short(value: Any, limit: int = 160) -> str:
    """A value on one line, without what a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.replace("\n", "\\n")
    text = "".join(
        "?" if unicodedata.category(char) == "Cc" else char for char in text[: limit + 1]
    )
    return text if len(text) <= limit else text[: limit - 1] + "…"
