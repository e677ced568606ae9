"""`inspect_file`: all that is worth knowing about a model file before it runs, and what is wrong
with it.

Nothing is loaded. Facts come from the header, memory figures from plans made on weights without
content.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ._native import lib, read_json
from .arguments import check_bool, check_int, check_path, shown, wrong
from .calling import checked
from .chat.format import TEMPLATE, ChatFormat, named_templates
from .devices import system
from .errors import BackendError, ModelFileError, PairingError, PillionError, UsageError
from .mmproj_facts import describe_towers, tower_warnings
from .model import Model
from .options import KV_TYPES
from .sampling import SamplingParams
from .tokenizer import Tokenizer

Facts = dict[str, Any]

MASKED_EMBEDDING_TARGETS = {1536: "E2B", 2560: "E4B"}
"""Widths of the targets whose assistants were trained with a centroid head."""

_NAMED, _LISTED = 3, 8
"""The most names in a warning, and in a shortened list."""

_TYPE_NAMES = {1: "normal", 2: "unknown", 3: "control", 4: "user_defined", 5: "unused", 6: "byte"}
_SPECIALS = (
    "<bos>",
    "<eos>",
    "<pad>",
    "<mask>",
    "<|turn>",
    "<turn|>",
    "<|tool_response>",
    "<tool_response|>",
    "<|tool_call>",
)
"""Gemma 4's control tokens that converters have marked as ordinary text."""
_KNOWN_PREFIXES = ("general.", "tokenizer.", "quantize.", "split.")


@checked
def read_header(path: str | os.PathLike[str], tensors: bool = False) -> Facts:
    """Returns the header of any GGUF file, also of one that pillion does not run. tensors: includes
    each tensor. Raises ModelFileError for a damaged file."""
    name, tensors = os.fsencode(check_path("path", path)), check_bool("tensors", tensors)
    header: Facts = read_json(
        lambda out, capacity, needed: lib.pillion_file_json(name, tensors, out, capacity, needed),
        1 << 20,
    )
    return header


@checked
def inspect_file(
    path: str | os.PathLike[str],
    *,
    ctx: Sequence[int] = (),
    kv_type: str = "f16",
    drafter: str | os.PathLike[str] | None = None,
    mmproj: str | os.PathLike[str] | None = None,
    tensors: bool = False,
) -> Facts:
    """Returns the facts of a file as one JSON-like object.

    ctx: context lengths to compute memory for (none: the default length).
    kv_type: type of the KV cache, "f16" or "q8_0".
    drafter: a drafter to try on it.
    mmproj: an mmproj file to try on it; the memory counts its towers.
    tensors: lists every tensor.

    Keys: path, runnable, reason, file, model, tokenizer, drafter, pair, mmproj, memory, warnings,
    unused, metadata, and with `tensors` tensors. `mmproj` tells of towers, the file's own or those
    to try. `unused` counts the tensors and keys that pillion does not read, and lists the first of
    them, with `tensors` all. What a file does not have is None.
    `reason` tells why a file is not runnable. Raises ModelFileError for a file that is damaged as a
    container.
    """
    _check_kv_type(kv_type)
    ctx = _lengths(ctx)
    drafter = None if drafter is None else check_path("drafter", drafter)
    mmproj = None if mmproj is None else check_path("mmproj", mmproj)
    header = read_header(path, tensors)
    facts: Facts = {
        "path": os.fspath(path),
        "runnable": False,
        "reason": None,
        "file": _file_facts(header),
    }
    facts |= {
        "model": None,
        "tokenizer": None,
        "drafter": None,
        "pair": None,
        "mmproj": None,
        "memory": [],
        "warnings": [],
    }
    facts["unused"] = None
    facts["metadata"] = header["metadata"]
    if tensors:
        facts["tensors"] = header["tensors"]
    if header["architecture"] == "clip":
        _towers_alone(facts, path)
        return facts
    try:
        model = Model.open(path, metadata_only=True)
    except ModelFileError as error:
        kind = header["type"]
        other = kind if header["architecture"] is None and kind != "model" else None
        facts["reason"] = f"the file is of type {other}, not a model" if other else error.sentence
        return facts
    with model:
        facts["mmproj"] = None if mmproj is None else describe_towers(mmproj, model)
        _model_facts(facts, model, ctx, kv_type, drafter)
    return facts


def _towers_alone(facts: Facts, path: str | os.PathLike[str]) -> None:
    """The file itself is an mmproj file."""
    facts["mmproj"] = describe_towers(path)
    facts["reason"] = facts["mmproj"]["reason"]
    facts["runnable"] = facts["reason"] is None
    facts["warnings"] = list(tower_warnings(read_header(path, True)["tensors"]))


def _lengths(ctx: Any) -> list[int]:
    if isinstance(ctx, (str, bytes)):
        wrong("ctx", ctx, "a list of context lengths")
    try:
        listed = list(ctx)
    except TypeError:
        wrong("ctx", ctx, "a list of context lengths")
    return [check_int("ctx", length, 0, 2**31 - 1) for length in listed]


def _check_kv_type(kv_type: str) -> None:
    if isinstance(kv_type, str) and kv_type in KV_TYPES:
        return
    advice = ""
    if isinstance(kv_type, str) and kv_type.startswith(("q4", "q5", "iq4")):
        advice = "; 4 and 5 bits cost Gemma 4 far too much, q8_0 halves the cache and costs little"
    raise UsageError(f"kv_type is {shown(kv_type)}; it can be {' or '.join(KV_TYPES)}{advice}")


def _file_facts(header: Facts) -> Facts:
    names = (
        "gguf_version",
        "alignment",
        "file_bytes",
        "parts",
        "architecture",
        "type",
        "n_tensors",
        "n_params",
        "tensor_bytes",
    )
    facts: Facts = {name: header.get(name) for name in names}
    total = header["tensor_bytes"]
    facts["bits_per_weight"] = _bits(total, header["n_params"])
    by_size = sorted(header["tensor_types"].items(), key=lambda item: (-item[1]["bytes"], item[0]))
    facts["tensor_types"] = {
        name: {
            **sums,
            "share": sums["bytes"] / total if total else 0.0,
            "bits_per_weight": _bits(sums["bytes"], sums["params"]),
        }
        for name, sums in by_size
    }
    return facts


def _bits(n_bytes: int, n_params: int) -> float | None:
    return 8 * n_bytes / n_params if n_params else None


def _model_facts(
    facts: Facts,
    model: Model,
    ctx: Sequence[int],
    kv_type: str,
    drafter: str | os.PathLike[str] | None,
) -> None:
    described = model.describe()
    names = (
        "arch",
        "name",
        "n_layers",
        "n_embd",
        "n_vocab",
        "n_ctx_train",
        "window",
        "softcap",
        "per_layer_width",
    )
    facts["model"] = {
        name: described[name] for name in (*names, "n_experts", "n_experts_used", "layers")
    }
    facts["model"]["is_drafter"] = model.is_drafter
    problems = described["problems"]
    facts["runnable"] = not problems
    facts["reason"] = problems[0] if problems else None
    warnings: list[str] = list(described["warnings"])
    known = (*_KNOWN_PREFIXES, f"{model.arch}.", f"{facts['file']['architecture']}.")
    strangers = [key for key in facts["metadata"] if not key.startswith(known)]
    unused = {
        "tensors": list(described["unknown_tensors"]),
        "keys": [*described["unread_keys"], *strangers],
    }
    warnings += _not_used(unused["keys"])
    short = {kind: _first(names) for kind, names in unused.items()}
    facts["unused"] = unused if "tensors" in facts else short
    if model.is_drafter:
        facts["drafter"] = _drafter_facts(described)
        warnings += _drafter_warnings(facts)
    tokens = _tokenizer_facts(model, warnings)
    facts["tokenizer"] = tokens
    if tokens is not None:
        warnings += _tokenizer_warnings(model, tokens)
    if not problems:
        try:
            _memory_facts(facts, model, ctx, kv_type, drafter, warnings)
            _count_towers(facts, warnings)
        except (
            BackendError
        ) as error:  # no room for such a context, or no kernels here: the rest still holds
            warnings.append(error.sentence)
    facts["warnings"] = warnings


def _not_used(keys: list[str]) -> Iterable[str]:
    if len(keys) > _NAMED:
        yield f"{len(keys)} keys are not used, such as {keys[0]}"
    elif keys:
        one = len(keys) == 1
        yield f"key {keys[0]} is not used" if one else f"keys {', '.join(keys)} are not used"


def _first(names: list[str]) -> Facts:
    """A long list cut short, in the form of the metadata's long arrays."""
    return {"count": len(names), "first": names[:_LISTED]}


# ---- drafter ----


def _drafter_facts(described: Facts) -> Facts:
    found: Facts = dict(described["drafter"])
    if found["head"] == "centroid":
        n, best = found["n_centroids"], found["centroid_top_k"]
        reason = f"the file has {n} centroids (as {found['centroid_form']}), the best {best} count"
    else:
        reason = found["head_problem"] or "the file has no centroids"
    needs = {
        "n_embd": found.pop("target_n_embd"),
        "n_vocab": described["n_vocab"],
        "window": described["window"],
    }
    return {"needs": {**needs, "kv": found.pop("reads")}, **found, "head_reason": reason}


def _drafter_warnings(facts: Facts) -> Iterable[str]:
    found, keys = facts["drafter"], facts["metadata"]
    family = MASKED_EMBEDDING_TARGETS.get(found["needs"]["n_embd"])
    if found["head"] == "dense" and family and not found["head_problem"]:
        yield (
            f"the centroids are missing: drafters for {family} have a centroid head, "
            "and this conversion dropped it; "
            "it drafts with the dense head, which reads the whole vocabulary's table at each step"
        )
    if found["head"] == "centroid" and not any(
        key.endswith(".masked_embedding.centroid_top_k") for key in keys
    ):
        yield (
            f"key masked_embedding.centroid_top_k is missing: {found['centroid_top_k']} is assumed"
        )
    if found["centroid_form"] == "tensors":
        yield (
            "the centroids are tensors: llama.cpp does not load such a file; "
            "as metadata keys it would"
        )


# ---- tokenizer ----


def _tokenizer_facts(model: Model, warnings: list[str]) -> Facts | None:
    try:
        tokenizer = model.tokenizer
    except PillionError as error:
        if not model.is_drafter:  # it uses its target's
            warnings.append(error.sentence)
        return None
    metadata = model.metadata
    types = Counter(metadata.get("tokenizer.ggml.token_type") or ())
    return {
        "model": metadata.get("tokenizer.ggml.model"),
        "pre": metadata.get("tokenizer.ggml.pre"),
        "n_tokens": len(tokenizer),
        **{
            name: _token(tokenizer, getattr(tokenizer, name))
            for name in ("bos", "eos", "unk", "pad")
        },
        "adds_bos": tokenizer.adds_bos,
        "adds_eos": tokenizer.adds_eos,
        "end_tokens": [_token(tokenizer, token) for token in sorted(tokenizer.end_tokens)],
        "suppressed_tokens": tokenizer.suppressed_tokens,
        "types": {_TYPE_NAMES.get(kind, str(kind)): n for kind, n in sorted(types.items())},
        "chat_template": any(
            metadata[key] for key in metadata if key == TEMPLATE or key.startswith(f"{TEMPLATE}.")
        ),
    }


def _token(tokenizer: Tokenizer, token: int | None) -> Facts | None:
    if token is None:
        return None
    return {"id": token, "text": tokenizer.token_text(token), "type": tokenizer.token_type(token)}


def _tokenizer_warnings(model: Model, found: Facts) -> Iterable[str]:
    metadata = model.metadata
    if found["n_tokens"] != model.n_vocab:
        yield f"the tokenizer has {found['n_tokens']} tokens, the model {model.n_vocab}"
    if found["model"] == "gpt2" and not found["pre"]:
        yield (
            "key tokenizer.ggml.pre is missing: "
            "how text is split before merging is a guess, and wrong ids are likely"
        )
    try:
        SamplingParams.of_file(model)
    except ModelFileError as error:
        yield error.sentence
    if not model.is_drafter:
        yield from _template_warnings(model)
    if not found["end_tokens"]:
        yield "the file names no token that ends a generation: texts stop at their length only"
    if found["model"] == "gemma4":
        yield from _gemma4_warnings(metadata.get("tokenizer.ggml.tokens") or [], metadata)


def _template_warnings(model: Model) -> Iterable[str]:
    try:
        if named_templates(model.metadata):
            yield from ChatFormat(
                model.tokenizer, model.metadata, os.path.basename(model.path)
            ).problems()
        else:
            yield "key tokenizer.chat_template is missing: chat needs a template of yours"
    except (ModelFileError, UsageError) as error:
        yield error.sentence


def _gemma4_warnings(tokens: list[str], metadata: Any) -> Iterable[str]:
    types = metadata.get("tokenizer.ggml.token_type") or []
    ids = {text: token for token, text in enumerate(tokens)}
    for text in _SPECIALS:
        token = ids.get(text)
        if token is not None and token < len(types) and types[token] not in (3, 4):
            kind = _TYPE_NAMES.get(types[token], str(types[token]))
            yield (
                f"token {token} {text} has type {kind} in the file: "
                "pillion goes by its text, other programs may print it"
            )
    for name in ("eos_token_id", "eot_token_id", "eom_token_id", "eos_token_ids"):
        key = f"tokenizer.ggml.{name}"
        value = metadata.get(key)
        for token in value if isinstance(value, list) else [value]:
            if isinstance(token, int) and 0 <= token < len(tokens) and tokens[token] == "</s>":
                yield (
                    f"key {key} names token {token} </s>, "
                    "which is ordinary text for Gemma 4: texts may end too early"
                )


# ---- memory ----


def _memory_facts(
    facts: Facts,
    model: Model,
    ctx: Sequence[int],
    kv_type: str,
    drafter: str | os.PathLike[str] | None,
    warnings: list[str],
) -> None:
    if model.is_drafter:
        if drafter is not None:
            raise UsageError(f"{model.path} is a drafter itself: give its target as the file")
        facts["memory"] = [model.memory()]
        return
    if drafter is None:
        _fill_memory(facts, model, None, ctx, kv_type, warnings)
        return
    with Model.open(drafter, metadata_only=True) as other:
        facts["pair"] = {
            "drafter": os.fspath(drafter),
            "fits": False,
            "reason": None,
            "kind": None,
            "head": None,
        }
        try:
            trial = model.memory(1, drafter=other)["drafter"]
        except PairingError as error:
            facts["pair"]["reason"] = error.sentence
            warnings.append(f"{Path(drafter).name} does not fit: {error.sentence}")
            _fill_memory(facts, model, None, ctx, kv_type, warnings)
            return
        facts["pair"] |= {"fits": True, "kind": trial["kind"], "head": trial["head"]}
        _fill_memory(facts, model, other, ctx, kv_type, warnings)


def _count_towers(facts: Facts, warnings: list[str]) -> None:
    """Adds the towers of an mmproj file that fits to every total."""
    towers = facts["mmproj"]
    if towers is None:
        return
    if not towers["fits"]:
        warnings.append(f"{Path(towers['path']).name} does not fit: {towers['reason']}")
        return
    for one in facts["memory"]:
        one["mmproj"] = towers["file_bytes"]
        one["total"] += towers["file_bytes"]


def _fill_memory(
    facts: Facts,
    model: Model,
    drafter: Model | None,
    ctx: Sequence[int],
    kv_type: str,
    warnings: list[str],
) -> None:
    machine = int(system().get("memory_bytes") or 0)
    for n_ctx in ctx or (None,):
        found = model.memory(n_ctx, drafter=drafter, kv_type=kv_type)
        facts["memory"].append(found)
        if found["n_ctx"] > model.n_ctx_train:
            warnings.append(
                f"a context of {found['n_ctx']} is more "
                f"than the {model.n_ctx_train} the model was trained for"
            )
        if machine and found["total"] > machine:
            warnings.append(
                f"a context of {found['n_ctx']} takes {found['total']} bytes in all, this machine "
                f"has {machine}; "
                "take a smaller one" + ("" if kv_type == "q8_0" else " or --kv-type q8_0")
            )
