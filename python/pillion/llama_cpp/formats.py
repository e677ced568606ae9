"""Prompt formats of well-known models, under llama-cpp-python's names. A file's own template is
better where it has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError


@dataclass(frozen=True)
class Format:
    """How turns are written. Each text has one place, {}, for the content."""

    user: str
    assistant: str
    opening: str
    """What begins the reply."""
    system: str = ""
    """"": the model has no system turn."""
    begin: str = ""
    default_system: str | None = None
    """The system's text where there is none; None: no system turn then."""
    stop: str | None = None

    def written(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt of a conversation."""
        system = self.default_system
        parts = []
        for at, message in enumerate(messages):
            role, content = message.get("role"), message.get("content") or ""
            if not isinstance(content, str):
                raise UsageError(f"message {at} has no text as content, which this format needs")
            if role == "system":
                system = content
            elif role in ("user", "assistant"):
                parts.append((self.user if role == "user" else self.assistant).format(content))
        head = "" if system is None else self.system.format(system)
        return self.begin + head + "".join(parts) + self.opening


def _tagged(tag: str, end: str) -> dict[str, str]:
    """Turns that begin with a tag of their role, as a text with one place {}."""
    return {
        role: tag.replace("ROLE", role) + "{}" + end for role in ("system", "user", "assistant")
    }


FORMATS = {
    "chatml": Format(
        **_tagged("<|im_start|>ROLE\n", "<|im_end|>\n"),
        opening="<|im_start|>assistant\n",
        default_system="",
        stop="<|im_end|>",
    ),
    "llama-3": Format(
        **_tagged("<|start_header_id|>ROLE<|end_header_id|>\n\n", "<|eot_id|>"),
        opening="<|start_header_id|>assistant<|end_header_id|>\n\n",
        stop="<|eot_id|>",
    ),
    "gemma": Format(
        user="<start_of_turn>user\n{}<end_of_turn>\n",
        assistant="<start_of_turn>model\n{}<end_of_turn>\n",
        opening="<start_of_turn>model\n",
        stop="<end_of_turn>\n",
    ),
    "zephyr": Format(
        system="<|system|>\n{}</s>\n",
        user="<|user|>\n\n{}</s>\n",
        assistant="<|assistant|>\n\n{}</s>\n",
        opening="<|assistant|>\n\n",
        default_system="",
        stop="</s>",
    ),
    "qwen": Format(
        **_tagged("<|im_start|>ROLE\n", "<|im_end|>\n"),
        opening="<|im_start|>assistant\n",
        default_system="You are a helpful assistant.",
        stop="<|endoftext|>",
    ),
}
"""By name, as llama-cpp-python writes them."""
