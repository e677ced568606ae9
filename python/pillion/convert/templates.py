"""The chat templates of a checkpoint: one, or several by name."""

from __future__ import annotations

from typing import Any

from ..errors import ModelFileError
from .checkpoint import Checkpoint

_MORE = "additional_chat_templates"


def template_keys(source: Checkpoint, settings: dict[str, Any]) -> dict[str, Any]:
    """Keys of the file: tokenizer.chat_template, and of others tokenizer.chat_template.NAME and the
    list of names.

    settings: tokenizer_config.json. Files of their own go before it, as for transformers; a byte
    order mark is dropped."""
    found = _named(source, "tokenizer_config.json", settings.get("chat_template"))
    found |= _named(
        source,
        "chat_template.json",
        source.json("chat_template.json", needed=False).get("chat_template"),
    )
    found |= _named(source, "chat_template.jinja", source.text_file("chat_template.jinja"))
    for path in sorted((source.folder / _MORE).glob("*.jinja")):
        found |= {path.stem: source.text_file(f"{_MORE}/{path.name}")}
    found = {name: text.lstrip("\ufeff") for name, text in found.items()}
    names = [name for name, text in found.items() if text and name != "default"]
    keys: dict[str, Any] = {f"tokenizer.chat_template.{name}": found[name] for name in names}
    if names:
        keys["tokenizer.chat_templates"] = names
    if found.get("default"):
        keys["tokenizer.chat_template"] = found["default"]
    return keys


def _named(source: Checkpoint, file: str, given: Any) -> dict[str, str]:
    """{name: template} of a value in its several forms: a text, [{"name", "template"}], {name:
    template}."""
    if not given:
        return {}
    if isinstance(given, str):
        return {"default": given}
    entries = given.items() if isinstance(given, dict) else []
    if isinstance(given, list) and all(isinstance(one, dict) for one in given):
        entries = [(one.get("name"), one.get("template")) for one in given]
    found = dict(entries)
    if not found or not all(isinstance(one, str) for pair in found.items() for one in pair):
        raise ModelFileError(
            f"{source.folder}: {file} has a chat_template that is neither a text nor a list of "
            f"named texts"
        )
    return found
