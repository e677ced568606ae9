"""llama-cpp-python's chat handlers for images and sounds. Here they only name the mmproj file: the
model's own template says where a picture stands, and `pillion.LLM` reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..arguments import check_bool, check_path
from ..hub import pull

if TYPE_CHECKING:
    from .llama import Llama


class MTMDChatHandler:
    """`Llama(chat_handler=MTMDChatHandler(clip_model_path=…))` is `Llama(mmproj=…)`.

    clip_model_path: the mmproj file. verbose: nothing is printed, whatever it says.
    """

    def __init__(self, clip_model_path: str | os.PathLike[str], verbose: bool = True) -> None:
        self.clip_model_path = check_path("clip_model_path", clip_model_path)
        """The mmproj file."""
        self.verbose = check_bool("verbose", verbose)
        """Without effect."""

    @classmethod
    def from_pretrained(
        cls, repo_id: str, filename: str, *, verbose: bool = True, **options: Any
    ) -> MTMDChatHandler:
        """A handler for an mmproj file of the hub. filename: its whole name. options: of
        `hub.pull`."""
        found = pull(repo_id, filename, drafter=None, **options)
        return cls(found.path, verbose)

    def __call__(
        self, *, llama: Llama, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> Any:
        """Answers as `Llama.create_chat_completion` does."""
        return llama.create_chat_completion(messages=list(messages), **options)


class Llava15ChatHandler(MTMDChatHandler):
    """`MTMDChatHandler` under its older name."""


class Gemma4ChatHandler(MTMDChatHandler):
    """`MTMDChatHandler` for Gemma 4."""
