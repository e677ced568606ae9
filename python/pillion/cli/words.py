"""Translates the library's sentences to the command line's words: options in place of Python's
arguments.

It replaces only what an option of the command can mean. The sentences themselves stay where they
are made.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Collection
from typing import Any

from typer.models import OptionInfo

OPTIONS = {
    "n_ctx": "--ctx-size",
    "n_batch": "--batch-size",
    "n_threads": "--threads",
    "n_gpu_layers": "--n-gpu-layers",
    "kv_type": "--kv-type",
    "flash_attn": "--flash-attn",
    "use_mmap": "--no-mmap",
    "device": "--device",
    "strict": "--strict",
    "max_tokens": "--n-predict",
    "temperature": "--temp",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "min_p": "--min-p",
    "repeat_penalty": "--repeat-penalty",
    "seed": "--seed",
    "stop": "--stop",
    "drafter": "--model-draft",
    "draft": "--spec-draft-n-max",
    "the draft length": "--spec-draft-n-max",
    "p_min": "--spec-draft-p-min",
    "draft_p_min": "--spec-draft-p-min",
    "draft_sampling": "--spec-draft-sampling",
    "lookup": "--draft-lookup",
    "draft_lookup": "--draft-lookup",
    "dense_head": "--draft-dense-head",
    "draft_dense_head": "--draft-dense-head",
    "draft_device": "--draft-device",
    "ctx": "--ctx",
    "chunk": "--chunk",
    "chunks": "--chunks",
    "allow_requantize": "--allow-requantize",
    "max_size": "--max-size",
    "max_tensors": "--max-tensors",
    "chat_template": "--chat-template",
    "chat_template_kwargs": "--chat-template-kwargs",
    "host": "--host",
    "port": "--port",
    "revision": "--revision",
    "parallel": "--parallel",
}

# Words that are English too count only where a sentence begins with them.
_ENGLISH = [name for name in OPTIONS if "_" not in name]
_NAMES = sorted((name for name in OPTIONS if "_" in name), key=len, reverse=True)
_BEGIN = re.compile(rf"\A({'|'.join(_ENGLISH)})(?= is )")
_INSIDE = re.compile(rf"(?<![\w./\\'\"-])({'|'.join(_NAMES)})(?![\w./\\'\"=-])")

_SENTENCES = [
    (r"\Arepo_id is ", "the model's name is "),
    (r"\Aname is (?=.*OWNER/NAME)", "the model's name is "),
    (
        r"has no chat template: .*",
        "has no chat template: leave --chat out, "
        "or give the template of its makers with --chat-template-file",
    ),
    (r"or None \(or -1\) for as many as fit", "or -1 for as many as fit"),
    (r"or None for (all cores|the default|all)\b", r"or 0 for \1"),
    (r"or 0 for all that fit", "or -1 for all that fit"),
    (r"or None for no drafter", "or none for no drafter"),
    (r"name the one to use, ", "name the one to use with --model-draft, "),
    (r", or None\b", ""),
    (r", True(?:,| or) False\b", ""),
]


def in_options(sentence: str, known: Collection[str]) -> str:
    """The sentence for a command with the options `known`."""

    def option(found: re.Match[str]) -> str:
        name = OPTIONS[found[1]]
        return name if name in known else found[1]

    sentence = _INSIDE.sub(option, _BEGIN.sub(option, sentence))
    for pattern, words in _SENTENCES:
        sentence = re.sub(pattern, words, sentence)
    return sentence


def options_of(body: Callable[..., Any]) -> set[str]:
    """Names of the options that a command's function declares."""
    declared = (one.default for one in inspect.signature(body).parameters.values())
    return {
        name
        for one in declared
        if isinstance(one, OptionInfo)
        for part in one.param_decls or ()
        for name in part.split("/")
    }


class OptionWords(logging.Filter):
    """Translates the library's log while a command runs."""

    def __init__(self, known: Collection[str]) -> None:
        super().__init__()
        self._known = known

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = in_options(record.getMessage(), self._known), ()
        return True
