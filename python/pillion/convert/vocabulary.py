"""tokenizer.json to tokenizer.ggml.*: BPE with ▁ for blanks and byte tokens (Gemma, Llama 2), or
over bytes (Llama 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..arguments import shown
from ..errors import ModelFileError, ModelNotFoundError, UnsupportedModelError
from .architecture import Architecture
from .checkpoint import Checkpoint
from .config import end_ids
from .templates import template_keys
from .tensor_names import EMBEDDING, HEAD
from .tokenizer_kind import BYTE_LEVEL
from .writer import GgufFile

_MESSAGE_ENDS = {"<|eom_id|>", "<|eom|>"}
_TURN_ENDS = {"<turn|>", "<end_of_turn>", "<|im_end|>", "<|eot_id|>", "<|eot|>", "<|end|>"}
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_NAMES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "mask": "mask"}
_NO_SCORE = -1000.0
# How Llama 3 cuts text, and with it the name "llama-bpe".
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| "
    r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_tokenizer(file: GgufFile, source: Checkpoint, architecture: Architecture) -> None:
    """All keys of the vocabulary, and the chat template."""
    if (source.folder / "tokenizer.model").exists() and not (
        source.folder / "tokenizer.json"
    ).exists():
        raise ModelNotFoundError(
            f"{source.folder}: no tokenizer.json beside tokenizer.model; make one with "
            f"transformers (AutoTokenizer.from_pretrained, save_pretrained)"
        )
    tokenizer = source.json("tokenizer.json")
    settings = source.json("tokenizer_config.json", needed=False)
    model = tokenizer.get("model", {})
    if model.get("type") != "BPE":
        raise UnsupportedModelError(
            f"{source.folder}: tokenizer.json is of type {model.get('type')!r}; BPE can be "
            f"converted"
        )
    ids, added = _vocabulary(source, tokenizer)
    tokens = _tokens(source, ids, added)
    merges = [
        pair.split(" ") if isinstance(pair, str) else list(pair) for pair in model.get("merges", [])
    ]
    if any(len(pair) != 2 for pair in merges):
        raise ModelFileError(
            f"{source.folder}: tokenizer.json has a merge that does not join two pieces"
        )
    byte_level = any(
        part.get("type") == "ByteLevel"
        for part in _parts(tokenizer.get("pre_tokenizer"), "pretokenizers")
    )
    pre = _pre_tokenizer(source, tokenizer) if byte_level else "default"
    kind = BYTE_LEVEL if byte_level else architecture.tokenizer

    keys: dict[str, Any] = {}
    scores = [_NO_SCORE] * len(tokens)
    if kind.by_score:  # the best score is merged first
        for rank, (left, right) in reversed(list(enumerate(merges))):
            if left + right in ids:
                scores[ids[left + right]] = float(-rank)
    else:
        keys["tokenizer.ggml.merges"] = [" ".join(pair) for pair in merges]
    if kind.has_pre:
        keys["tokenizer.ggml.pre"] = pre
    keys["tokenizer.ggml.model"] = kind.model
    keys["tokenizer.ggml.tokens"] = tokens
    if kind.has_scores:
        keys["tokenizer.ggml.scores"] = scores
    named = _named(source, settings, ids)
    unknown = model.get("unk_token") if kind.by_score else None
    keys["tokenizer.ggml.token_type"] = [
        _UNUSED
        if piece not in ids
        else _UNKNOWN
        if piece == unknown
        else _type(piece, added, kind.visible)
        for piece in tokens
    ]
    for name, token in named.items():
        keys[f"tokenizer.ggml.{_NAMES[name]}_token_id"] = token
    begins = _template_begins_with(tokenizer, tokens, named.get("bos")) or not byte_level
    adds_bos = bool(settings.get("add_bos_token", begins))
    if adds_bos and "bos" not in named:
        if settings.get("add_bos_token") or settings.get("bos_token") is not None:
            bos = shown(settings.get("bos_token"))
            raise ModelFileError(
                f"{source.folder}: a BOS token is to be added, and tokenizer_config.json's "
                f"bos_token, {bos}, is no token"
            )
        adds_bos = False
    keys["tokenizer.ggml.add_bos_token"] = adds_bos
    keys["tokenizer.ggml.add_sep_token"] = False
    keys["tokenizer.ggml.add_space_prefix"] = kind.by_score and _puts_a_blank_in_front(tokenizer)
    generation = source.json("generation_config.json", needed=False)
    keys.update(
        _ends(
            source,
            generation,
            named.get("eos"),
            tokens,
            kind.known_ends,
        )
    )
    suppressed = generation.get("suppress_tokens")
    if suppressed:
        inside = [int(token) for token in suppressed if 0 <= int(token) < len(tokens)]
        if inside:  # others are never written anyway
            keys["tokenizer.ggml.suppress_tokens"] = inside
    keys.update(template_keys(source, settings))
    file.write_keys(keys)


def _vocabulary(
    source: Checkpoint, tokenizer: dict[str, Any]
) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    """{piece: id} of all tokens, {piece: its entry} of the added ones."""
    try:
        ids = {str(piece): int(token) for piece, token in tokenizer["model"]["vocab"].items()}
        added = {str(entry["content"]): entry for entry in tokenizer.get("added_tokens", [])}
        ids.update({piece: int(entry["id"]) for piece, entry in added.items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{source.folder}: tokenizer.json is broken: {error!r}") from None
    return ids, added


def _tokens(source: Checkpoint, ids: dict[str, int], added: dict[str, dict[str, Any]]) -> list[str]:
    """Pieces by id, as many as the embedding table has rows. Gaps get a name nothing else has;
    added tokens beyond the table, as the image token of small Gemma 3 models, are left out."""
    table = source.tensors.get(EMBEDDING) or source.tensors.get(HEAD)
    n_rows = table.shape[0] if table else len(ids)
    for piece in [piece for piece in added if ids[piece] >= n_rows]:
        del ids[piece]
    most = max(ids.values(), default=-1)
    if most >= n_rows:
        raise ModelFileError(
            f"{source.folder}: tokenizer.json has token {most}, the embedding table has {n_rows} "
            f"rows"
        )
    pieces = {token: piece for piece, token in ids.items()}
    return [pieces.get(token, f"[PAD{token}]") for token in range(n_rows)]


def _parts(found: Any, name: str) -> Iterator[dict[str, Any]]:
    """A step of tokenizer.json, or those that a Sequence lists under `name`."""
    if isinstance(found, dict):
        yield from (part for part in found.get(name, [found]) if isinstance(part, dict))


def _named(source: Checkpoint, settings: dict[str, Any], ids: dict[str, int]) -> dict[str, int]:
    """{"bos": id, …}: by text in tokenizer_config.json, else by id in config.json."""
    found = {}
    for name in _NAMES:
        piece = settings.get(f"{name}_token")
        piece = piece.get("content") if isinstance(piece, dict) else piece
        token = ids.get(piece) if isinstance(piece, str) else _id_of(source, f"{name}_token_id")
        if token is not None and token in ids.values():
            found[name] = token
    return found


def _id_of(source: Checkpoint, key: str) -> int | None:
    """The number that config.json has there; of a list the first."""
    for part in (source.text, source.config):
        given = part.get(key)
        given = given[0] if isinstance(given, list) and given else given
        if isinstance(given, int) and not isinstance(given, bool):
            return given
    return None


def _ends(
    source: Checkpoint,
    generation: dict[str, Any],
    eos: Any,
    tokens: list[str],
    known: frozenset[str],
) -> dict[str, Any]:
    """Keys of the tokens that end a generation beside eos. A file has one key for the end of a turn
    and one for the end of a message; where these cannot name all, eos_token_ids lists every one.
    generation_config.json goes before config.json."""
    config = source.config if source.config.get("eos_token_id") is not None else source.text
    listed = [token for token in end_ids(generation) or end_ids(config) if 0 <= token < len(tokens)]
    more = [token for token in dict.fromkeys(listed) if token != eos and tokens[token] not in known]
    if not more:
        return {}
    keys: dict[str, Any] = {}
    if eos is None:
        keys["tokenizer.ggml.eos_token_id"] = eos = more.pop(0)
    message = next((token for token in more if tokens[token] in _MESSAGE_ENDS), None)
    others = [token for token in more if token != message]
    turn = next(
        (token for token in others if tokens[token] in _TURN_ENDS), others[0] if others else None
    )
    if turn is not None:
        keys["tokenizer.ggml.eot_token_id"] = turn
    if message is not None:
        keys["tokenizer.ggml.eom_token_id"] = message
    if any(token not in (turn, message) for token in more):
        keys["tokenizer.ggml.eos_token_ids"] = [eos, *more]
    return keys


def _template_begins_with(tokenizer: dict[str, Any], tokens: list[str], bos: Any) -> bool:
    """Whether the post-processor puts BOS in front; Llama 3 says it nowhere else."""
    for part in _parts(tokenizer.get("post_processor"), "processors"):
        first: dict[str, Any] = (
            next(iter(part.get("single") or []), {})
            if part.get("type") == "TemplateProcessing"
            else {}
        )
        if bos is not None and first.get("SpecialToken", {}).get("id") == tokens[bos]:
            return True
    return False


def _puts_a_blank_in_front(tokenizer: dict[str, Any]) -> bool:
    """The older spelling is a normalizer that prepends, the newer one a Metaspace."""
    if any(
        part.get("type") == "Prepend" for part in _parts(tokenizer.get("normalizer"), "normalizers")
    ):
        return True
    spaces = [
        part
        for part in _parts(tokenizer.get("pre_tokenizer"), "pretokenizers")
        if part.get("type") == "Metaspace"
    ]
    return any(
        part.get("prepend_scheme", "always") != "never" and part.get("add_prefix_space", True)
        for part in spaces
    )


def _type(piece: str, added: dict[str, dict[str, Any]], visible: frozenset[str]) -> int:
    if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
        return _BYTE
    if piece in visible or (piece in added and not added[piece].get("special")):
        return _USER_DEFINED
    return _CONTROL if piece in added else _NORMAL


def _pre_tokenizer(source: Checkpoint, tokenizer: dict[str, Any]) -> str:
    """GGUF's name for how a byte-level tokenizer cuts text."""
    parts = list(_parts(tokenizer.get("pre_tokenizer"), "pretokenizers"))
    kinds = [part.get("type") for part in parts]
    if kinds == ["ByteLevel"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and parts[0].get("pattern") == {"Regex": _LLAMA3}:
        return "llama-bpe"
    raise UnsupportedModelError(
        f"{source.folder}: tokenizer.json cuts text by {', '.join(map(str, kinds))}, which no "
        f"known name says"
    )
