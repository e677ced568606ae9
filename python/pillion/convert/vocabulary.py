"""tokenizer.json to tokenizer.ggml.*: BPE with ▁ for blanks and byte tokens (Gemma, Llama 2), or over bytes (Llama 3)."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ModelFileError, UnsupportedModelError
from .architecture import Architecture
from .checkpoint import Checkpoint
from .writer import GgufFile

# Control tokens of the chat form that users want to see printed.
_VISIBLE = {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>'}
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 3, 4, 5, 6
_NAMES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "mask": "mask"}
_NO_SCORE = -1000.0


def write_tokenizer(file: GgufFile, source: Checkpoint, architecture: Architecture) -> None:
    """All keys of the vocabulary, and the chat template."""
    tokenizer = source.json("tokenizer.json")
    settings = source.json("tokenizer_config.json", needed=False)
    model = tokenizer.get("model", {})
    if model.get("type") != "BPE":
        raise UnsupportedModelError(f"{source.folder}: tokenizer.json is of type {model.get('type')!r}; BPE can be converted")
    ids, added = _vocabulary(source, tokenizer)
    tokens = _tokens(source, ids)
    merges = [pair.split(" ", 1) if isinstance(pair, str) else list(pair) for pair in model["merges"]]
    byte_level = '"ByteLevel"' in str(tokenizer.get("pre_tokenizer")).replace("'", '"')
    pre = _pre_tokenizer(source, tokenizer) if byte_level else "default"
    kind = "gpt2" if byte_level else architecture.tokenizer_model

    keys: dict[str, Any] = {}
    scores = [_NO_SCORE] * len(tokens)
    if kind == "llama":  # such a file has no merges: the best score is merged first
        for rank, (left, right) in reversed(list(enumerate(merges))):
            if left + right in ids:
                scores[ids[left + right]] = float(-rank)
    else:
        keys["tokenizer.ggml.merges"] = [" ".join(pair) for pair in merges]
    if kind != "gemma4":
        keys["tokenizer.ggml.pre"] = pre
    keys["tokenizer.ggml.model"] = kind
    keys["tokenizer.ggml.tokens"] = tokens
    if kind != "gpt2":
        keys["tokenizer.ggml.scores"] = scores
    keys["tokenizer.ggml.token_type"] = [_type(piece, added, in_vocabulary=piece in ids) for piece in tokens]
    for name, ours in _NAMES.items():
        piece = settings.get(f"{name}_token")
        piece = piece.get("content") if isinstance(piece, dict) else piece
        if piece in ids:
            keys[f"tokenizer.ggml.{ours}_token_id"] = ids[piece]
    keys["tokenizer.ggml.add_bos_token"] = bool(settings.get("add_bos_token", not byte_level))
    keys["tokenizer.ggml.add_sep_token"] = False
    keys["tokenizer.ggml.add_space_prefix"] = False
    suppressed = source.json("generation_config.json", needed=False).get("suppress_tokens")
    if suppressed:
        keys["tokenizer.ggml.suppress_tokens"] = [int(token) for token in suppressed]
    template = source.text_file("chat_template.jinja") or settings.get("chat_template") or ""
    if isinstance(template, list):  # several, by name
        template = next((one["template"] for one in template if one.get("name") == "default"), "")
    if template:
        keys["tokenizer.chat_template"] = template
    file.write_keys(keys)


def _vocabulary(source: Checkpoint, tokenizer: dict[str, Any]) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    """{piece: id} of all tokens, {piece: its entry} of the added ones."""
    try:
        ids = {str(piece): int(token) for piece, token in tokenizer["model"]["vocab"].items()}
        added = {str(entry["content"]): entry for entry in tokenizer.get("added_tokens", [])}
        ids.update({piece: int(entry["id"]) for piece, entry in added.items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{source.folder}: tokenizer.json is broken: {error!r}") from None
    return ids, added


def _tokens(source: Checkpoint, ids: dict[str, int]) -> list[str]:
    """Pieces by id, filled up to the rows of the embedding table; gaps get a name nothing else has."""
    table = source.tensors.get("model.embed_tokens.weight")
    n_rows = table.shape[0] if table else len(ids)
    most = max(ids.values(), default=-1)
    if most >= n_rows:
        raise ModelFileError(f"{source.folder}: tokenizer.json has token {most}, the embedding table has {n_rows} rows")
    pieces = {token: piece for piece, token in ids.items()}
    return [pieces.get(token, f"[PAD{token}]") for token in range(n_rows)]


def _type(piece: str, added: dict[str, dict[str, Any]], in_vocabulary: bool) -> int:
    if not in_vocabulary:
        return _UNUSED
    if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
        return _BYTE
    if piece in _VISIBLE or (piece in added and not added[piece].get("special")):
        return _USER_DEFINED
    return _CONTROL if piece in added else _NORMAL


def _pre_tokenizer(source: Checkpoint, tokenizer: dict[str, Any]) -> str:
    """GGUF's name for how a byte-level tokenizer cuts text."""
    found = tokenizer["pre_tokenizer"]
    parts = found.get("pretokenizers", [found])
    kinds = [part.get("type") for part in parts]
    if kinds == ["ByteLevel"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and r"\p{N}{1,3}" in str(parts[0].get("pattern")):
        return "llama-bpe"
    raise UnsupportedModelError(
        f"{source.folder}: tokenizer.json cuts text by {', '.join(map(str, kinds))}, which no known name says"
    )
